"""Detections that cannot be: one keypoint that jumps away and back, left and right that trade places.

Both show in time, in the moving frame of the body. A keypoint that is off for a tenth of a second and then where it
would have been anyway, several times faster than it moves otherwise, is dropped. For each pair, names are dealt out
anew so that left and right move least (a Viterbi path over the few frames at which trading names would help, for both
pairs of a limb together); what the detector says for most of the time is taken for right. Limits are wide: what
remains is the smoother's to weigh, but a fast limb that is taken away does not come back.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.preprocess.scales import LOW_CONFIDENCE
from vp3d_cli.skeletons import Skeleton
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
_CROSSED_COST_PER_S = 3.0  # on top while only one pair of a limb is swapped, which is rarer
_HOLD_S = 0.15  # a pair that was not sure for longer may come back either way
_LIMBS = (
    ("eye", "ear"),
    ("elbow", "wrist"),
    ("knee", "ankle"),
    ("shoulder",),
    ("hip",),
    ("big_toe", "small_toe", "heel", "foot_index"),
    ("pinky", "index", "thumb"),
)

ComplexArray = NDArray[np.complex128]
IndexArray = NDArray[np.intp]


@dataclass(frozen=True)
class Repaired:
    """Keypoints (T, K, 2) and scores (T, K) with left and right put back; (T, K) which of them to drop."""

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


def repair(
    keypoints: DoubleArray, scores: DoubleArray, times_s: DoubleArray, size: DoubleArray, skeleton: Skeleton
) -> Repaired:
    """Find jumps and swaps of a few frames; put the swapped ones right.

    Args:
        keypoints: (T, K, 2) pixels, NaN where missing.
        scores: (T, K).
        times_s: (T,) rising.
        size: (T,) size of the body in pixels.
        skeleton: of the K keypoints.
    """
    keypoints, scores = keypoints.copy(), scores.copy()
    good = np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    jumps, swapped = np.zeros_like(good), np.zeros_like(good)
    if len(keypoints) < 3:
        return Repaired(keypoints, scores, jumps, swapped)
    path = body_path(keypoints[:, skeleton.body], good[:, skeleton.body])[:, None]
    places = (np.nan_to_num(keypoints - path) / size[:, None, None]).view(np.complex128)[..., 0]
    step = float(np.median(np.diff(times_s)))
    longest = min(max(1, int(MAX_RUN_S / step)) if step > 0 else 1, _MAX_RUN_FRAMES, len(places) - 2)
    for limb in _LIMBS:
        pairs = _pairs(skeleton, limb)
        if not pairs:
            continue
        left, right = (list(side) for side in zip(*pairs, strict=True))
        both = np.stack([places[:, left], places[:, right]], axis=-1)
        traded = settle_names(both, good[:, left] & good[:, right], times_s)
        for pair, wrong in zip(zip(left, right, strict=True), traded.T, strict=True):
            frames = np.flatnonzero(wrong)[:, None]
            swapped[frames, pair] = True
            for array in (places, keypoints, scores, good):
                array[frames, pair] = array[frames, pair[::-1]]
    for run in range(1, longest + 1):
        first, joint = _jumps(places, scores, good & ~jumps, run)
        for shift in range(run):
            jumps[first + shift, joint] = True
    return Repaired(keypoints, scores, jumps, swapped)


def _pairs(skeleton: Skeleton, limb: Sequence[str]) -> list[tuple[int, int]]:
    """Left and right of each part of a limb that the skeleton has."""
    both = ((f"left_{part}", f"right_{part}") for part in limb)
    return [(skeleton.index(a), skeleton.index(b)) for a, b in both if not skeleton.missing((a, b))]


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


def settle_names(limb: ComplexArray, good: BoolArray, times_s: DoubleArray) -> BoolArray:
    """Frames in which left and right of the pairs of a limb carry each other's names.

    Args:
        limb: (T, K, 2) places of K pairs, left and right, complex, in body sizes.
        good: (T, K) where both of a pair are sure.
        times_s: (T,).

    Returns:
        (T, K) True where a pair is swapped: the cheapest sequence of the 2^K states, by dynamic programming.
    """
    gains, decide = _gains_of_trading(limb, good, times_s)
    result = np.zeros(good.shape, np.bool_)
    starts = np.flatnonzero(decide)
    if not len(starts):
        return result
    states = np.array(list(itertools.product((False, True), repeat=good.shape[1])))
    crossed = states.any(axis=1) & ~states.all(axis=1)
    rate = _SWAPPED_COST_PER_S * states.sum(axis=1) + _CROSSED_COST_PER_S * crossed
    changed = states[:, None] != states  # (from, to, pair)
    lasting = np.diff(times_s[np.append(starts, len(times_s) - 1)])
    cost = rate * (times_s[starts[0]] - times_s[0])
    came_from = []
    for start, seconds in zip(starts.tolist(), lasting.tolist(), strict=True):
        through = cost[:, None] - changed @ gains[start]
        came_from.append(through.argmin(axis=0))
        cost = through.min(axis=0) + rate * seconds
    state, end = int(cost.argmin()), len(result)
    for start, origin in zip(starts[::-1].tolist(), reversed(came_from), strict=True):
        result[start:end] = states[state]
        end, state = start, int(origin[state])
    result[:end] = states[state]
    return result


def _gains_of_trading(limb: ComplexArray, good: BoolArray, times_s: DoubleArray) -> tuple[DoubleArray, BoolArray]:
    """What a pair gains when it trades names between its last sure frame and this one, and where it might.

    Returns:
        (T, K) body sizes; (T,) frames at which some pair is tempted, or comes back after a while and may be either way;
        none where no pair is ever tempted.
    """
    gains = np.full(good.shape, -_TRADE_GAIN)
    tempted, back = np.zeros(len(good), np.bool_), np.zeros(len(good), np.bool_)
    for k in range(good.shape[1]):
        sure = np.flatnonzero(good[:, k])
        before, now = limb[sure[:-1], k], limb[sure[1:], k]
        kept = np.abs(now - before).sum(axis=1)
        traded = np.abs(now[:, ::-1] - before).sum(axis=1)
        torn = np.diff(times_s[sure]) > _HOLD_S
        gains[sure[1:], k] = np.where(torn, 0.0, kept - traded - _TRADE_GAIN)
        tempted[sure[1:]] |= (kept - traded > _TRADE_GAIN) & (kept > _TRADE_RATIO * traded) & ~torn
        back[sure[1:]] |= torn
    return gains, (tempted | back) & tempted.any()


def _starts(places: ComplexArray, good: BoolArray, run: int) -> tuple[IndexArray, IndexArray]:
    """Frames and joints at which a faulty run may begin: a jump from the frame before, good frames on both sides."""
    count = len(places) - run - 1
    told = good[:count] & good[1 : count + 1] & good[run + 1 :]
    told &= np.abs(places[1 : count + 1] - places[:count]) > _LEAST_STEP
    frame, joint = np.nonzero(told)
    return frame + 1, joint
