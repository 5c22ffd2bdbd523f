"""Outlier rejection: keypoints that jump away and back, and left-right swaps.

Both are found over time, relative to the path of the body. A keypoint is dropped where it is off for at most a tenth
of a second, by several times its usual movement, and then back on its path. Swaps are found per limb with a Viterbi
search: labels are assigned so that left and right move least, with a cost per second for swapped labels, so the labels
that the detector gives most of the time stay. The limits are wide, because the smoother handles small errors and a
dropped fast limb cannot be recovered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.preprocess.body_scale import LOW_CONFIDENCE
from vp3d_cli.skeletons import Skeleton
from vp3d_cli.types import BoolArray, DoubleArray

MAX_RUN_S = 0.09  # longest jump: two frames at 30 frames per second
_MAX_RUN_FRAMES = 6
# Limit of a jump in body scales: _JUMP, plus _JUMP_PER_CONFIDENCE times the confidence, plus _JUMP_PER_MOVE times the
# movement before and after. On clean motion capture, flips, kicks and dances included, this drops fewer than 1 in
# 100,000 keypoints at 30 and 60 frames per second (docs/measurements/smoothing.md).
_JUMP = 0.15
_JUMP_PER_CONFIDENCE = 0.3
_JUMP_PER_MOVE = 2.0
_LEAST_STEP = 0.12  # below the smallest limit: skips most frames quickly
# A swap between two frames must shorten the movement by this many body scales and by this factor. The cost per second
# of swapped labels corrects a swap over half a body scale up to a duration of 0.6 s.
_MIN_SWAP_GAIN = 0.25
_MIN_SWAP_RATIO = 2.0
_SWAPPED_COST_PER_S = 3.0
_PARTIAL_SWAP_COST_PER_S = 3.0  # added while only one pair of a limb is swapped, which is rarer
_MAX_SWAP_GAP_S = 0.15  # after a longer gap the labels of a pair may be in either order
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
class OutlierCorrection:
    """Result of :func:`correct_outliers`.

    Attributes:
        keypoints, scores: (T, K, 2) and (T, K) with left-right swaps corrected.
        jumps: (T, K) keypoints to drop.
        swapped: (T, K) keypoints that were swapped back.
    """

    keypoints: DoubleArray
    scores: DoubleArray
    jumps: BoolArray
    swapped: BoolArray


def body_path(keypoints: DoubleArray, reliable: BoolArray) -> DoubleArray:
    """Path of the body, (T, 2), from the median step of the reliable keypoints.

    The path rests where fewer than three keypoints are reliable in two neighbouring frames.
    """
    both = (reliable[1:] & reliable[:-1])[..., None]
    steps = np.where(both, np.diff(np.where(reliable[..., None], keypoints, 0.0), axis=0), np.nan)
    valid = np.count_nonzero(both[..., 0], axis=1) >= 3
    median = np.zeros((len(steps), 2))
    if valid.any():
        median[valid] = np.nanmedian(steps[valid], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(median, axis=0)])[: len(keypoints)]


def correct_outliers(
    keypoints: DoubleArray, scores: DoubleArray, times_s: DoubleArray, size: DoubleArray, skeleton: Skeleton
) -> OutlierCorrection:
    """Find jumps and left-right swaps of a few frames, and correct the swaps.

    Args:
        keypoints: (T, K, 2) pixels, NaN where missing.
        scores: (T, K) confidence.
        times_s: (T,) seconds, rising.
        size: (T,) body scale in pixels.
        skeleton: skeleton of the K keypoints.
    """
    keypoints, scores = keypoints.copy(), scores.copy()
    reliable = np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    jumps, swapped = np.zeros_like(reliable), np.zeros_like(reliable)
    if len(keypoints) < 3:
        return OutlierCorrection(keypoints, scores, jumps, swapped)
    path = body_path(keypoints[:, skeleton.body], reliable[:, skeleton.body])[:, None]
    positions = (np.nan_to_num(keypoints - path) / size[:, None, None]).view(np.complex128)[..., 0]
    step = float(np.median(np.diff(times_s)))
    longest = min(max(1, int(MAX_RUN_S / step)) if step > 0 else 1, _MAX_RUN_FRAMES, len(positions) - 2)
    for limb in _LIMBS:
        pairs = _pairs(skeleton, limb)
        if not pairs:
            continue
        left, right = (list(side) for side in zip(*pairs, strict=True))
        both = np.stack([positions[:, left], positions[:, right]], axis=-1)
        swaps = find_swaps(both, reliable[:, left] & reliable[:, right], times_s)
        for pair, wrong in zip(zip(left, right, strict=True), swaps.T, strict=True):
            frames = np.flatnonzero(wrong)[:, None]
            swapped[frames, pair] = True
            for array in (positions, keypoints, scores, reliable):
                array[frames, pair] = array[frames, pair[::-1]]
    for run in range(1, longest + 1):
        first, joint = _jumps(positions, scores, reliable & ~jumps, run)
        for shift in range(run):
            jumps[first + shift, joint] = True
    return OutlierCorrection(keypoints, scores, jumps, swapped)


def _pairs(skeleton: Skeleton, limb: Sequence[str]) -> list[tuple[int, int]]:
    """Left and right joint of each part of a limb, for the parts that the skeleton has."""
    both = ((f"left_{part}", f"right_{part}") for part in limb)
    return [(skeleton.index(a), skeleton.index(b)) for a, b in both if not skeleton.missing((a, b))]


def _jumps(
    positions: ComplexArray, scores: DoubleArray, reliable: BoolArray, run: int
) -> tuple[IndexArray, IndexArray]:
    """First frames and joints of jumps that last ``run`` frames."""
    frame, joint = _run_starts(positions, reliable, run)
    before, after = positions[frame - 1, joint], positions[frame + run, joint]
    move = np.abs(after - before)
    for first in (frame - 2, frame + run):
        inside = (first >= 0) & (first + 1 < len(positions))
        one, two = np.where(inside, first, 0), np.where(inside, first + 1, 0)
        both = reliable[one, joint] & reliable[two, joint]
        move = np.maximum(move, np.where(both, np.abs(positions[two, joint] - positions[one, joint]), 0.0))
    found = np.ones(len(frame), np.bool_)
    for k in range(run):
        expected = before + (after - before) * (k + 1) / (run + 1)
        off = np.abs(positions[frame + k, joint] - expected)
        limit = _JUMP + _JUMP_PER_CONFIDENCE * scores[frame + k, joint] + _JUMP_PER_MOVE * move
        found &= reliable[frame + k, joint] & (off > limit)
    return frame[found], joint[found]


def find_swaps(limb: ComplexArray, reliable: BoolArray, times_s: DoubleArray) -> BoolArray:
    """Find the frames in which the pairs of a limb have left and right swapped.

    The cheapest sequence of the 2^K swap states is found by dynamic programming (Viterbi).

    Args:
        limb: (T, K, 2) left and right positions of K pairs, complex, in body scales.
        reliable: (T, K) whether both joints of a pair are reliable.
        times_s: (T,) seconds.

    Returns:
        (T, K) True where a pair is swapped.
    """
    gains, decide = _swap_gains(limb, reliable, times_s)
    result = np.zeros(reliable.shape, np.bool_)
    starts = np.flatnonzero(decide)
    if not len(starts):
        return result
    states = np.array(list(itertools.product((False, True), repeat=reliable.shape[1])))
    partial = states.any(axis=1) & ~states.all(axis=1)
    rate = _SWAPPED_COST_PER_S * states.sum(axis=1) + _PARTIAL_SWAP_COST_PER_S * partial
    changed = states[:, None] != states  # (from, to, pair)
    lasting = np.diff(times_s[np.append(starts, len(times_s) - 1)])
    cost = rate * (times_s[starts[0]] - times_s[0])
    predecessors = []
    for start, seconds in zip(starts.tolist(), lasting.tolist(), strict=True):
        total = cost[:, None] - changed @ gains[start]
        predecessors.append(total.argmin(axis=0))
        cost = total.min(axis=0) + rate * seconds
    state, end = int(cost.argmin()), len(result)
    for start, origin in zip(starts[::-1].tolist(), reversed(predecessors), strict=True):
        result[start:end] = states[state]
        end, state = start, int(origin[state])
    result[:end] = states[state]
    return result


def _swap_gains(limb: ComplexArray, reliable: BoolArray, times_s: DoubleArray) -> tuple[DoubleArray, BoolArray]:
    """Movement saved by a swap between the last reliable frame of a pair and this one.

    Returns:
        (T, K) gain in body scales; (T,) frames at which the swap state may change: a swap gains enough, or a pair
        reappears after a gap. All False if no swap ever gains enough.
    """
    gains = np.full(reliable.shape, -_MIN_SWAP_GAIN)
    gainful, reappears = np.zeros(len(reliable), np.bool_), np.zeros(len(reliable), np.bool_)
    for k in range(reliable.shape[1]):
        frames_seen = np.flatnonzero(reliable[:, k])
        before, now = limb[frames_seen[:-1], k], limb[frames_seen[1:], k]
        move_kept = np.abs(now - before).sum(axis=1)
        move_swapped = np.abs(now[:, ::-1] - before).sum(axis=1)
        interrupted = np.diff(times_s[frames_seen]) > _MAX_SWAP_GAP_S
        gains[frames_seen[1:], k] = np.where(interrupted, 0.0, move_kept - move_swapped - _MIN_SWAP_GAIN)
        saved = move_kept - move_swapped
        enough = (saved > _MIN_SWAP_GAIN) & (move_kept > _MIN_SWAP_RATIO * move_swapped)
        gainful[frames_seen[1:]] |= enough & ~interrupted
        reappears[frames_seen[1:]] |= interrupted
    return gains, (gainful | reappears) & gainful.any()


def _run_starts(positions: ComplexArray, reliable: BoolArray, run: int) -> tuple[IndexArray, IndexArray]:
    """Frames and joints at which a jump may begin: a large step between reliable frames."""
    count = len(positions) - run - 1
    valid = reliable[:count] & reliable[1 : count + 1] & reliable[run + 1 :]
    valid &= np.abs(positions[1 : count + 1] - positions[:count]) > _LEAST_STEP
    frame, joint = np.nonzero(valid)
    return frame + 1, joint
