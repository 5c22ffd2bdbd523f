"""Find hard cuts between camera shots, frame by frame, from thumbnails."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from vp3d_cli.types import FloatArray, FrameBGR

_THUMBNAIL_WH = (32, 18)
_SAMPLED_WH = (256, 144)
_BLOCKS_YX = (6, 8)  # the thumbnail in blocks of 3 x 4
# Change of two frames is 1 - correlation of their thumbnails, which a new exposure or a flash leaves alone. Over six
# clips (walking in and out at 10 fps, a flip, signing, a rolled camera) neighbouring frames reached 0.10, and 17 % of
# the blocks; every fifth frame 0.40 and 27 %; other scenes differ by 0.59 to 0.92 and 58 % to 98 %.
_LEAST_CHANGE = 0.35
# In a cut nearly everything changes; someone who walks by changes only what they cover and uncover.
_BLOCK_CHANGE, _LEAST_BLOCKS = 0.5, 0.45
# Fast pans differ from frame to frame all the time; a cut stands out from the frames before it.
_TIMES_USUAL = 3.0
_MEMORY = 8  # frames


class CutDetector:
    """Says at which frames a new camera shot begins.

    Feed it every frame in order. Cost: one thumbnail per frame. Dissolves and fades are not cuts, nor is a jump
    within one view (same camera, some seconds left out): there the background stays.
    """

    def __init__(self) -> None:
        self._last: FloatArray | None = None
        self._changes: deque[float] = deque(maxlen=_MEMORY)

    def update(self, image: FrameBGR) -> bool:
        """Take the next frame.

        Args:
            image: (H, W, 3) BGR.

        Returns:
            Whether this frame begins a new shot; False for the first frame.
        """
        now = _thumbnail(image)
        last, self._last = self._last, now
        if last is None:
            return False
        change = 1.0 - float((now * last).mean())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        cut = change > max(_LEAST_CHANGE, _TIMES_USUAL * usual) and _changed_blocks(last, now) > _LEAST_BLOCKS
        if cut:
            self._changes.clear()
        else:
            self._changes.append(change)
        return cut


def _thumbnail(image: FrameBGR) -> FloatArray:
    """(18, 32, 3) of mean 0 and deviation 1 over all; flat images give zeros."""
    # Averaging every pixel of a 1080p frame takes 6 ms, as long as decoding it; 64 of them for each of ours do as well.
    sampled = cv2.resize(image, _SAMPLED_WH, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(sampled, _THUMBNAIL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    deviation = float(small.std())
    return small / deviation if deviation > 1.0 else np.zeros_like(small)


def _changed_blocks(last: FloatArray, now: FloatArray) -> float:
    """Share of blocks whose mean absolute difference is more than half the deviation of the image."""
    rows, columns = _BLOCKS_YX
    difference = np.abs(now - last).mean(axis=2)
    blocks = difference.reshape(rows, difference.shape[0] // rows, columns, difference.shape[1] // columns)
    return float((blocks.mean(axis=(1, 3)) > _BLOCK_CHANGE).mean())
