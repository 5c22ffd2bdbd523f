"""Fills keypoints that are missing or not to be trusted: from before and after, and from how the body moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.preprocess.outliers import body_path, repair
from vp3d_cli.preprocess.scales import LOW_CONFIDENCE, body_size, checked_times
from vp3d_cli.preprocess.smoothing_spline import fit_spline, spread_times
from vp3d_cli.skeletons import COCO17, Skeleton
from vp3d_cli.types import BoolArray, DoubleArray, Track2D

MAX_GAP_S = 0.5

# The curve that bridges a gap; docs/smoothing.md compares it with lines, PCHIP and Akima.
_BRIDGE_HZ = 8.0
_BRIDGE_TENSION_S = 0.3
# What a joint hangs on leads it without its own jitter.
_ANCHOR_HZ = 4.0
# The detector's own guess below LOW_CONFIDENCE counts so little that the bridge holds for most of a second, and gives
# way to the guess in longer gaps: by then it is no worse.
_GUESS_WEIGHT = 1e-3
# A filled keypoint's confidence falls by 1/e in this time, so that it stands for the error that a detected keypoint of
# the same confidence has (0.05 body sizes after 50 ms, 0.12 after 200 ms; docs/smoothing.md).
_CONFIDENCE_DECAY_S = 0.2
_MIN_CONFIDENCE = 0.01

# What leads a joint of COCO's that is filled; trunk and nose move with the body as a whole. Other joints follow what
# they hang on in their skeleton.
_LED_BY: dict[str, str] = {
    **dict.fromkeys(("left_eye", "right_eye", "left_ear", "right_ear"), "nose"),
    **{f"{side}_elbow": f"{side}_shoulder" for side in ("left", "right")},
    **{f"{side}_wrist": f"{side}_elbow" for side in ("left", "right")},
    **{f"{side}_knee": f"{side}_hip" for side in ("left", "right")},
    **{f"{side}_ankle": f"{side}_knee" for side in ("left", "right")},
}


@lru_cache(maxsize=16)
def _fill_order(skeleton: Skeleton) -> tuple[tuple[list[int], list[int] | None], ...]:
    """Joints in the order of filling, and what leads each; None for those that move with the body."""
    leaders = [_leader(skeleton, joint) for joint in range(skeleton.num_joints)]
    depth = [_depth(leaders, joint) for joint in range(skeleton.num_joints)]
    generations = []
    for level in range(max(depth) + 1):
        joints = [joint for joint, own in enumerate(depth) if own == level]
        generations.append((joints, [leaders[joint] for joint in joints] if level else None))
    return tuple(generations)


def _leader(skeleton: Skeleton, joint: int) -> int:
    """The joint that leads another; -1 where it moves with the body."""
    name = skeleton.joints[joint]
    if name in COCO17.joints:
        return skeleton.columns([_LED_BY.get(name, "")])[0]
    return skeleton.parents[joint]


def _depth(leaders: Sequence[int], joint: int) -> int:
    return 0 if leaders[joint] < 0 else 1 + _depth(leaders, leaders[joint])


def fill_gaps(track: Track2D, times_s: NDArray[np.floating], *, max_gap_s: float = MAX_GAP_S) -> Track2D:
    """Repair and complete a track.

    - Left and right that trade places for a frame or two are put back; a keypoint that jumps away and back is dropped.
    - A keypoint that is missing, dropped, or below ``LOW_CONFIDENCE`` is filled: a spline bridges its place relative
      to the joint that it hangs on (trunk and head: relative to the body), so that a hidden wrist moves with its arm.
      Where the gap is long and the detector has a guess, the guess takes over.
    - Filled keypoints have ``observed`` False, and a confidence that falls with the time to the nearest sure one.
    - A joint that is never sure while the person is in view (legs behind a table) stays as the detector gave it.
    - Where the whole person is missing for longer than ``max_gap_s``, all is NaN with confidence 0, and nothing is
      bridged; shorter absences are filled. Before the first and after the last frame of the person all is NaN.

    Args:
        track: keypoints in pixels.
        times_s: (t,) seconds, of the track's own frames; need not be evenly spaced.
        max_gap_s: longest absence of the person that is filled, from the last frame before to the first after.

    Returns:
        The completed track; boxes unchanged.

    Raises:
        ConfigError: ``max_gap_s`` is negative or not a number.
        InputError: the times do not rise.
        ShapeError: there is not one time per frame.
    """
    times = checked_times(times_s, len(track))
    if math.isnan(max_gap_s) or max_gap_s < 0:
        raise ConfigError(f"max_gap_s must be 0 or more seconds, got {max_gap_s}")
    scores = np.where(np.isfinite(track.keypoints).all(axis=-1), track.scores, 0.0).astype(np.float64)
    in_view = _in_view(track, scores, times, max_gap_s)
    scores[~in_view] = 0.0
    keypoints = np.where(in_view[:, None, None] & (scores > 0)[..., None], track.keypoints, np.nan).astype(np.float64)
    if not in_view.any():
        return _result(track, keypoints, scores, np.zeros_like(track.observed))
    times = spread_times(times)
    body = track.skeleton.body
    repaired = repair(keypoints, scores, times, body_size(keypoints[:, body], scores[:, body], times), track.skeleton)
    keypoints, scores = repaired.keypoints, repaired.scores
    keypoints[repaired.jumps] = np.nan
    scores[repaired.jumps] = 0.0
    filled = _fill(keypoints, scores, times, in_view, track.skeleton)
    observed = ~filled & np.isfinite(keypoints).all(axis=-1)
    return _result(track, keypoints, scores, observed)


def _result(track: Track2D, keypoints: DoubleArray, scores: DoubleArray, observed: BoolArray) -> Track2D:
    return replace(track, keypoints=keypoints.astype(np.float32), scores=scores.astype(np.float32), observed=observed)


def _in_view(track: Track2D, scores: DoubleArray, times_s: DoubleArray, max_gap_s: float) -> BoolArray:
    """(T,) frames in which the person was detected, and those of absences that are short enough."""
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
    """Fill (T, K, 2) and (T, K) in place; returns (T, K) what was filled."""
    sure = np.isfinite(keypoints).all(axis=-1) & (scores >= LOW_CONFIDENCE)
    visit = np.cumsum(np.append(True, np.diff(in_view.astype(int)) == 1))
    fillable = _known_somewhere(sure, visit) & in_view[:, None]
    path = body_path(keypoints[:, skeleton.body], sure[:, skeleton.body])[:, None]
    for joints, parents in _fill_order(skeleton):
        gaps = fillable[:, joints] & ~sure[:, joints]
        if not gaps.any():
            continue
        anchor = path
        if parents is not None:
            # A parent that is nowhere sure in a visit cannot lead: there the joint moves with the body.
            leading = np.where(fillable[:, parents, None], keypoints[:, parents], path)
            anchor = _along(leading, np.ones(leading.shape[:2]), fillable[:, joints], times_s, visit, _ANCHOR_HZ)
        places = keypoints[:, joints] - anchor
        weights = _trust(places, scores[:, joints])
        bridged = _along(places, weights, fillable[:, joints], times_s, visit, _BRIDGE_HZ)
        keypoints[:, joints] = np.where(gaps[..., None], bridged + anchor, keypoints[:, joints])
    filled = fillable & ~sure
    scores[...] = np.where(filled, _confidence(scores, sure, times_s, visit), scores)
    return filled


def _known_somewhere(sure: BoolArray, visit: NDArray[np.int_]) -> BoolArray:
    """(T, J) whether a joint is sure in some frame of the same visit."""
    count = np.zeros((int(visit.max()) + 1, sure.shape[1]), np.int64)
    np.add.at(count, visit, sure)
    known: BoolArray = count[visit] > 0
    return known


def _trust(places: DoubleArray, scores: DoubleArray) -> DoubleArray:
    """(T, J) weights in the bridge: what is sure by its confidence, guesses next to nothing, the missing nothing."""
    guess = _GUESS_WEIGHT * np.square(scores / LOW_CONFIDENCE)
    weights = np.where(scores >= LOW_CONFIDENCE, np.square(scores), guess)
    return np.where(np.isfinite(places).all(axis=-1), weights, 0.0)


def _along(
    places: DoubleArray,
    weights: DoubleArray,
    where: BoolArray,
    times_s: DoubleArray,
    visit: NDArray[np.int_],
    cutoff_hz: float,
) -> DoubleArray:
    """Splines in tension along the places (T, J, 2), one for each joint and visit; NaN outside ``where`` (T, J)."""
    joint, frame = np.nonzero(where.T)
    series = (joint * (int(visit.max()) + 1) + visit[frame]).astype(np.float64)
    curve = np.full_like(places, np.nan)
    curve[frame, joint] = fit_spline(
        np.nan_to_num(places[frame, joint]),
        times_s[frame],
        weights[frame, joint],
        series,
        cutoff_hz,
        tension_s=_BRIDGE_TENSION_S,
    )
    return curve


def _confidence(scores: DoubleArray, sure: BoolArray, times_s: DoubleArray, visit: NDArray[np.int_]) -> DoubleArray:
    """(T, J) confidence of filled keypoints: what is left of the nearest sure one's, but no less than the guess's."""
    frames = len(scores)
    index = np.arange(frames)[:, None]
    before = np.maximum.accumulate(np.where(sure, index, -1), axis=0)
    after = np.minimum.accumulate(np.where(sure, index, frames)[::-1], axis=0)[::-1]
    best = np.maximum(scores, _MIN_CONFIDENCE)
    for side in (before, after):
        at = np.clip(side, 0, frames - 1)
        known = (side >= 0) & (side < frames) & (visit[at] == visit[:, None])
        decay = np.exp(-np.abs(times_s[at] - times_s[:, None]) / _CONFIDENCE_DECAY_S)
        best = np.maximum(best, np.where(known, np.take_along_axis(scores, at, axis=0) * decay, 0.0))
    return best
