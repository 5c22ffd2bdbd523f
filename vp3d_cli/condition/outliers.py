"""Detections that cannot be: one keypoint that jumps away and back, left and right that trade places.

Both show in time, in the moving frame of the body. A keypoint that is off for a tenth of a second and then where it
would have been anyway, several times faster than it moves otherwise, is dropped. For each pair, names are dealt out
anew so that left and right move least (a two-state Viterbi path over the few frames at which trading names would
help); what the detector says for most of the time is taken for right. Limits are wide: what remains is the smoother's
to weigh, but a fast limb that is taken away does not come back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.condition.body import LOW_CONFIDENCE
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import BoolArray, DoubleArray

MAX_RUN_S = 0.09  # a fault lasts this long at most, at 30 frames per second two frames
_MAX_RUN_FRAMES = 6
# A jump that is dropped: this far off for a keypoint of confidence 0, and so much more for one of confidence 1, in
# body sizes; and beyond the movement around it by this factor. Of undisturbed motion capture, flips, kicks and dances
# included, that takes under 1 in 100,000 keypoints at 30 and at 60 frames per second (docs/smoothing.md).
_JUMP = 0.15
_JUMP_PER_CONFIDENCE = 0.3
_JUMP_PER_MOVE = 2.0
_LEAST_STEP = 0.12  # below the limit: lets most frames be passed over quickly
# Left and right trade names between two frames if that saves this much way, in body sizes, and is this many times
# shorter. A swapped state costs so much per second that one of half a body size apart is put right up to 0.6 s.
_TRADE_GAIN = 0.25
_TRADE_RATIO = 2.0
_SWAPPED_COST_PER_S = 3.0
_HOLD_S = 0.15  # a pair that was not sure for longer may come back either way

ComplexArray = NDArray[np.complex128]
IndexArray = NDArray[np.intp]


@dataclass(frozen=True)
class Repaired:
    """Keypoints (T, 17, 2) and scores (T, 17) with left and right put back; (T, 17) which of them to drop."""

    keypoints: DoubleArray
    scores: DoubleArray
    jumps: BoolArray
    swapped: BoolArray


def body_path(keypoints: DoubleArray, good: BoolArray) -> DoubleArray:
    """(T, 2) path of the body, from the median step of the good keypoints; where nothing is seen twice it rests."""
    both = (good[1:] & good[:-1])[..., None]
    steps = np.where(both, np.diff(np.where(good[..., None], keypoints, 0.0), axis=0), np.nan)
    told = np.count_nonzero(both[..., 0], axis=1) >= 3
    median = np.zeros((len(steps), 2))
    if told.any():
        median[told] = np.nanmedian(steps[told], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(median, axis=0)])[: len(keypoints)]


def repair(keypoints: DoubleArray, scores: DoubleArray, times_s: DoubleArray, size: DoubleArray) -> Repaired:
    """Find jumps and swaps of a few frames; put the swapped ones right.

    Args:
        keypoints: (T, 17, 2) pixels, COCO-17, NaN where missing.
        scores: (T, 17).
        times_s: (T,) rising.
        size: (T,) size of the body in pixels.
    """
    keypoints, scores = keypoints.copy(), scores.copy()
    good = np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    jumps, swapped = np.zeros_like(good), np.zeros_like(good)
    if len(keypoints) < 3:
        return Repaired(keypoints, scores, jumps, swapped)
    path = body_path(keypoints, good)[:, None]
    places = (np.nan_to_num(keypoints - path) / size[:, None, None]).view(np.complex128)[..., 0]
    step = float(np.median(np.diff(times_s)))
    longest = min(max(1, int(MAX_RUN_S / step)) if step > 0 else 1, _MAX_RUN_FRAMES, len(places) - 2)
    for left, right in zip(COCO17.left, COCO17.right, strict=True):
        both, crossed = [left, right], [right, left]
        frames = np.flatnonzero(_traded(places[:, both], good[:, left] & good[:, right], times_s))[:, None]
        swapped[frames, both] = True
        for array in (places, keypoints, scores, good):
            array[frames, both] = array[frames, crossed]
    for run in range(1, longest + 1):
        first, joint = _jumps(places, scores, good & ~jumps, run)
        for shift in range(run):
            jumps[first + shift, joint] = True
    return Repaired(keypoints, scores, jumps, swapped)


def _jumps(places: ComplexArray, scores: DoubleArray, good: BoolArray, run: int) -> tuple[IndexArray, IndexArray]:
    """First frames and joints of runs that are off in every frame; places are complex, in body sizes."""
    frame, joint = _starts(places, good, run)
    before, after = places[frame - 1, joint], places[frame + run, joint]
    move = np.abs(after - before)
    for first in (frame - 2, frame + run):
        inside = (first >= 0) & (first + 1 < len(places))
        one, two = np.where(inside, first, 0), np.where(inside, first + 1, 0)
        both = good[one, joint] & good[two, joint]
        move = np.maximum(move, np.where(both, np.abs(places[two, joint] - places[one, joint]), 0.0))
    found = np.ones(len(frame), np.bool_)
    for k in range(run):
        expected = before + (after - before) * (k + 1) / (run + 1)
        off = np.abs(places[frame + k, joint] - expected)
        limit = _JUMP + _JUMP_PER_CONFIDENCE * scores[frame + k, joint] + _JUMP_PER_MOVE * move
        found &= good[frame + k, joint] & (off > limit)
    return frame[found], joint[found]


def _traded(pair: ComplexArray, good: BoolArray, times_s: DoubleArray) -> BoolArray:
    """(T,) frames in which the two of a pair (T, 2) carry each other's name; ``good`` (T,) where both are sure."""
    frames = np.flatnonzero(good)
    traded = np.zeros(len(pair), np.bool_)
    before, now = pair[frames[:-1]], pair[frames[1:]]
    kept = np.abs(now - before).sum(axis=1)
    saved = kept - np.abs(now[:, ::-1] - before).sum(axis=1)
    torn = np.diff(times_s[frames]) > _HOLD_S
    tempting = (saved > _TRADE_GAIN) & (kept > _TRADE_RATIO * (kept - saved))
    nodes = np.flatnonzero(torn | tempting)
    if not tempting.any():
        return traded
    starts = frames[nodes + 1]
    gains = np.where(torn[nodes], 0.0, saved[nodes] - _TRADE_GAIN).tolist()
    lasting = np.diff(times_s[np.append(starts, len(pair) - 1)]).tolist()
    costs = [0.0, _SWAPPED_COST_PER_S * float(times_s[starts[0]] - times_s[0])]
    came_from: list[tuple[bool, bool]] = []
    for gain, seconds in zip(gains, lasting, strict=True):
        came_from.append((costs[1] - gain < costs[0], costs[0] - gain < costs[1]))
        named, swapped = min(costs[0], costs[1] - gain), min(costs[1], costs[0] - gain)
        costs = [named, swapped + _SWAPPED_COST_PER_S * seconds]
    state = costs[1] < costs[0]
    end = len(pair)
    for start, changed in zip(starts[::-1].tolist(), reversed(came_from), strict=True):
        traded[start:end] = state
        end = start
        state ^= changed[state]
    traded[:end] = state
    return traded


def _starts(places: ComplexArray, good: BoolArray, run: int) -> tuple[IndexArray, IndexArray]:
    """Frames and joints at which a faulty run may begin: a jump from the frame before, good frames on both sides."""
    count = len(places) - run - 1
    told = good[:count] & good[1 : count + 1] & good[run + 1 :]
    told &= np.abs(places[1 : count + 1] - places[:count]) > _LEAST_STEP
    frame, joint = np.nonzero(told)
    return frame + 1, joint
