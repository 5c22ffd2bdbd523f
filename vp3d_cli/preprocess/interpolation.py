"""Gap interpolation: fills keypoints that are missing or have low confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.preprocess.body_scale import LOW_CONFIDENCE, body_scale
from vp3d_cli.preprocess.outliers import body_path, correct_outliers
from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.preprocess.timestamps import separate_times, validated_times
from vp3d_cli.skeletons import COCO17, Skeleton
from vp3d_cli.types import BoolArray, DoubleArray, Track2D

MAX_GAP_S = 0.5

# The spline across a gap; docs/measurements/smoothing.md compares it with lines, PCHIP and Akima.
_GAP_HZ = 8.0
_GAP_TENSION_S = 0.3
# The path of the parent joint is smoothed, so that its jitter does not move the filled joint.
_PARENT_HZ = 4.0
# Detections below LOW_CONFIDENCE have a small weight: they pull the spline only in gaps of most of a second or more,
# where they are no worse than interpolation.
_LOW_CONFIDENCE_WEIGHT = 1e-3
# The confidence of a filled keypoint falls by 1/e in this time, so that it matches the error of a detected keypoint of
# the same confidence (0.05 body scales after 50 ms, 0.12 after 200 ms; docs/measurements/smoothing.md).
_CONFIDENCE_DECAY_S = 0.2
_MIN_CONFIDENCE = 0.01

# Parents of the COCO joints in gap filling; trunk and nose move with the whole body. Other joints follow their parent
# in the skeleton.
_COCO_PARENT: dict[str, str] = {
    **dict.fromkeys(("left_eye", "right_eye", "left_ear", "right_ear"), "nose"),
    **{f"{side}_elbow": f"{side}_shoulder" for side in ("left", "right")},
    **{f"{side}_wrist": f"{side}_elbow" for side in ("left", "right")},
    **{f"{side}_knee": f"{side}_hip" for side in ("left", "right")},
    **{f"{side}_ankle": f"{side}_knee" for side in ("left", "right")},
}


@lru_cache(maxsize=16)
def _fill_order(skeleton: Skeleton) -> tuple[tuple[list[int], list[int] | None], ...]:
    """Joints in the order of filling with their parents; None: they move with the body."""
    parents = [_parent(skeleton, joint) for joint in range(skeleton.num_joints)]
    depth = [_depth(parents, joint) for joint in range(skeleton.num_joints)]
    levels = []
    for level in range(max(depth) + 1):
        joints = [joint for joint, own in enumerate(depth) if own == level]
        levels.append((joints, [parents[joint] for joint in joints] if level else None))
    return tuple(levels)


def _parent(skeleton: Skeleton, joint: int) -> int:
    """Parent of a joint in gap filling; -1 where the joint moves with the body."""
    name = skeleton.joints[joint]
    if name in COCO17.joints:
        return skeleton.columns([_COCO_PARENT.get(name, "")])[0]
    return skeleton.parents[joint]


def _depth(parents: Sequence[int], joint: int) -> int:
    return 0 if parents[joint] < 0 else 1 + _depth(parents, parents[joint])


def fill_gaps(track: Track2D, times_s: NDArray[np.floating], *, max_gap_s: float = MAX_GAP_S) -> Track2D:
    """Correct outliers of a track and interpolate its gaps.

    - Left-right swaps of a few frames are corrected. A keypoint that jumps away and back is dropped.
    - A keypoint that is missing, dropped or below ``LOW_CONFIDENCE`` is filled. A spline interpolates its position
      relative to the parent joint (trunk and head: relative to the body), so that a hidden wrist moves with its arm.
      In long gaps the spline follows the detections of low confidence.
    - Filled keypoints, and those below ``LOW_CONFIDENCE``, have ``observed`` False: they were not seen.
      The confidence of filled ones falls with the time to the nearest reliable keypoint.
    - A joint that is never reliable while the person is in view (legs behind a table) stays as detected.
    - Absences of the whole person up to ``max_gap_s`` are filled. In longer ones, and before the first and after the
      last frame of the person, all keypoints are NaN with confidence 0.

    Args:
        track: keypoints in pixels.
        times_s: (t,) seconds, of the track's own frames; may be unevenly spaced.
        max_gap_s: longest absence of the person that is filled, from the last frame before to the first after.

    Returns:
        The filled track; boxes are unchanged.

    Raises:
        ConfigError: ``max_gap_s`` is negative or not a number.
        InputError: the times do not rise.
        ShapeError: there is not one time per frame.
    """
    times = validated_times(times_s, len(track))
    if math.isnan(max_gap_s) or max_gap_s < 0:
        raise ConfigError(f"max_gap_s must be 0 or more seconds, got {max_gap_s}")
    scores = np.where(np.isfinite(track.keypoints).all(axis=-1), track.scores, 0.0).astype(np.float64)
    in_view = _in_view(track, scores, times, max_gap_s)
    scores[~in_view] = 0.0
    keypoints = np.where(in_view[:, None, None] & (scores > 0)[..., None], track.keypoints, np.nan).astype(np.float64)
    if not in_view.any():
        return _result(track, keypoints, scores, np.zeros_like(track.observed))
    times = separate_times(times)
    body = track.skeleton.body
    corrected = correct_outliers(
        keypoints, scores, times, body_scale(keypoints[:, body], scores[:, body], times), track.skeleton
    )
    keypoints, scores = corrected.keypoints, corrected.scores
    keypoints[corrected.jumps] = np.nan
    scores[corrected.jumps] = 0.0
    filled = _fill(keypoints, scores, times, in_view, track.skeleton)
    observed = ~filled & np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    return _result(track, keypoints, scores, observed)


def _result(track: Track2D, keypoints: DoubleArray, scores: DoubleArray, observed: BoolArray) -> Track2D:
    return replace(track, keypoints=keypoints.astype(np.float32), scores=scores.astype(np.float32), observed=observed)


def _in_view(track: Track2D, scores: DoubleArray, times_s: DoubleArray, max_gap_s: float) -> BoolArray:
    """Frames in which the person is in view, (T,): detected, or in a short absence."""
    present = track.present | (scores >= LOW_CONFIDENCE).any(axis=1)
    seen = np.flatnonzero(present)
    for gap in np.flatnonzero(np.diff(seen) > 1):
        before, after = int(seen[gap]), int(seen[gap + 1])
        if times_s[after] - times_s[before] <= max_gap_s:
            present[before:after] = True
    return present


def _fill(
    keypoints: DoubleArray, scores: DoubleArray, times_s: DoubleArray, in_view: BoolArray, skeleton: Skeleton
) -> BoolArray:
    """Fill keypoints (T, K, 2) and scores (T, K) in place; returns which were filled, (T, K)."""
    reliable = np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    interval = np.cumsum(np.append(True, np.diff(in_view.astype(int)) == 1))
    fillable = _reliable_in_interval(reliable, interval) & in_view[:, None]
    path = body_path(keypoints[:, skeleton.body], reliable[:, skeleton.body])[:, None]
    for joints, parents in _fill_order(skeleton):
        gaps = fillable[:, joints] & ~reliable[:, joints]
        if not gaps.any():
            continue
        origin = path
        if parents is not None:
            # Where the parent is never reliable in an interval, the joint moves with the body.
            leading = np.where(fillable[:, parents, None], keypoints[:, parents], path)
            origin = _fit_curves(
                leading, np.ones(leading.shape[:2]), fillable[:, joints], times_s, interval, _PARENT_HZ
            )
        positions = keypoints[:, joints] - origin
        weights = _fit_weights(positions, scores[:, joints])
        filled_in = _fit_curves(positions, weights, fillable[:, joints], times_s, interval, _GAP_HZ)
        keypoints[:, joints] = np.where(gaps[..., None], filled_in + origin, keypoints[:, joints])
    filled = fillable & ~reliable
    scores[...] = np.where(filled, _confidence(scores, reliable, times_s, interval), scores)
    return filled


def _reliable_in_interval(reliable: BoolArray, interval: NDArray[np.int_]) -> BoolArray:
    """Whether a joint is reliable in some frame of the same interval, (T, J)."""
    count = np.zeros((int(interval.max()) + 1, reliable.shape[1]), np.int64)
    np.add.at(count, interval, reliable)
    known: BoolArray = count[interval] > 0
    return known


def _fit_weights(positions: DoubleArray, scores: DoubleArray) -> DoubleArray:
    """Weights of the spline fit, (T, J): by confidence; small below LOW_CONFIDENCE."""
    low = _LOW_CONFIDENCE_WEIGHT * np.square(scores / LOW_CONFIDENCE)
    weights = np.where(scores >= LOW_CONFIDENCE, np.square(scores), low)
    return np.where(np.isfinite(positions).all(axis=-1), weights, 0.0)


def _fit_curves(
    positions: DoubleArray,
    weights: DoubleArray,
    where: BoolArray,
    times_s: DoubleArray,
    interval: NDArray[np.int_],
    cutoff_hz: float,
) -> DoubleArray:
    """Splines in tension through (T, J, 2) per joint and interval; NaN outside ``where`` (T, J)."""
    joint, frame = np.nonzero(where.T)
    series = (joint * (int(interval.max()) + 1) + interval[frame]).astype(np.float64)
    curve = np.full_like(positions, np.nan)
    curve[frame, joint] = fit_spline(
        np.nan_to_num(positions[frame, joint]),
        times_s[frame],
        weights[frame, joint],
        series,
        cutoff_hz,
        tension_s=_GAP_TENSION_S,
    )
    return curve


def _confidence(
    scores: DoubleArray, reliable: BoolArray, times_s: DoubleArray, interval: NDArray[np.int_]
) -> DoubleArray:
    """Confidence of filled keypoints, (T, J): decays from the nearest reliable keypoint.

    It is at least the confidence of the detection itself.
    """
    frames = len(scores)
    index = np.arange(frames)[:, None]
    before = np.maximum.accumulate(np.where(reliable, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(reliable, index, frames)[::-1], axis=0)[::-1]
    best = np.maximum(scores, _MIN_CONFIDENCE)
    for side in (before, after):
        at = np.clip(side, 0, frames - 1)
        known = (side >= 0) & (side < frames) & (interval[at] == interval[:, None])
        decay = np.exp(-np.abs(times_s[at] - times_s[:, None]) / _CONFIDENCE_DECAY_S)
        best = np.maximum(best, np.where(known, np.take_along_axis(scores, at, axis=0) * decay, 0.0))
    return best
