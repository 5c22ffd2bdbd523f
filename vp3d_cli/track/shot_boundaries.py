"""Detection of hard cuts between camera shots from thumbnails, frame by frame."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from vp3d_cli.types import FloatArray, FrameBGR

_THUMBNAIL_WH = (32, 18)
_SAMPLED_WH = (256, 144)
_BLOCKS_YX = (6, 8)  # blocks of the thumbnail, each 3 x 4 pixels
# The change between two frames is 1 - correlation of their thumbnails; a new exposure or a flash does not raise it. In
# six clips without cuts the change between neighbouring frames was at most 0.10 (17 % of the blocks); between
# different scenes it is 0.59 to 0.92 (58 % to 98 %) (docs/measurements/tracking.md).
_LEAST_CHANGE = 0.35
# A cut changes nearly the whole image; a person who walks by changes only a part.
_BLOCK_CHANGE, _LEAST_BLOCKS = 0.5, 0.45
# In a fast pan all frames differ; the change at a cut must exceed the median of the last frames by this factor.
_TIMES_USUAL = 3.0
_MEMORY = 8  # frames


class CutDetector:
    """Detects hard cuts: frames that begin a new camera shot.

    It must get every frame in order. Dissolves and fades do not count as cuts, nor does a jump in time within one
    camera view, where the background stays. Frames of one colour (a flash, a dropped or black frame) are passed over:
    the frame after them is compared with the one before.
    """

    def __init__(self) -> None:
        self._last: FloatArray | None = None
        self._changes: deque[float] = deque(maxlen=_MEMORY)

    def update(self, image: FrameBGR) -> bool:
        """Process the next frame.

        Args:
            image: (H, W, 3) BGR uint8.

        Returns:
            Whether this frame begins a new shot; False for the first frame.
        """
        now = _thumbnail(image)
        if not now.any():
            return False
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
    """Thumbnail (18, 32, 3) normalized to mean 0 and deviation 1; zeros for a uniform image."""
    # Averaging all pixels of a 1080p frame takes as long as decoding it; 64 samples per pixel are as good.
    sampled = cv2.resize(image, _SAMPLED_WH, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(sampled, _THUMBNAIL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    deviation = float(small.std())
    return small / deviation if deviation > 1.0 else np.zeros_like(small)


def _changed_blocks(last: FloatArray, now: FloatArray) -> float:
    """Share of blocks whose mean absolute difference exceeds half the deviation of the image."""
    rows, columns = _BLOCKS_YX
    difference = np.abs(now - last).mean(axis=2)
    blocks = difference.reshape(rows, difference.shape[0] // rows, columns, difference.shape[1] // columns)
    return float((blocks.mean(axis=(1, 3)) > _BLOCK_CHANGE).mean())
