"""One track for every person of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.skeletons import COCO17, Skeleton
from vp3d_cli.track.association import Pass, fill_holes, join
from vp3d_cli.track.detections import IntArray, Stack, compare_pairs, drop_doubles, stack_detections
from vp3d_cli.track.leaked_keypoints import drop_borrowed
from vp3d_cli.track.tracklets import chain, describe_ends, sure_links
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, Keypoints2D, Track2D

# First single misses of people who stand apart; then tracklets long enough to have a known velocity, across crossings
# in which the detector saw confused scraps (which are put in afterwards where they fit); then the rest; last who flies
# or falls (at 6 body heights / s^2), where nobody else could be meant.
_PASSES = (
    Pass(0.15, margin=3.0),
    Pass(0.15, margin=3.0),
    Pass(2.0, shortest_s=0.25),
    Pass(0.5),
    Pass(2.0),
    Pass(0.7, margin=3.0, acceleration=10.0, lag_s=0.25),
)
_FILLINGS = 3
_STRAY_S = 0.3  # shorter appearances are not people; in clips shorter than twice this, half the clip counts
_SURE_SCORE = 0.5  # detections with at least this score count fully towards the length of an appearance


def track_people(
    detections: Sequence[Keypoints2D],
    times_s: NDArray[Any] | Sequence[float],
    size_wh: tuple[int, int],
    *,
    max_people: int | None = None,
    cuts: Sequence[int] = (),
) -> list[Track2D]:
    """Give every person one identity through the video.

    Detections of neighbouring frames that surely belong together make tracklets; those are joined over misses,
    occlusions and crossings by a global assignment that extrapolates the motion from both sides
    (:mod:`vp3d_cli.track.association`). All limits are in seconds and body heights, so that frame rate and resolution
    do not matter.

    Args:
        detections: one per frame, T in all; all of one skeleton.
        times_s: (T,) seconds, rising.
        size_wh: width and height of the image in pixels.
        max_people: keep only so many, the most prominent; None keeps all.
        cuts: indices of frames that begin a new camera shot: no track goes across.

    Returns:
        Tracks, the main person first: longest in view, large, confident and central; numbered from 1 in this order.

    Raises:
        ShapeError: ``times_s`` and ``detections`` differ in length.
        ConfigError: ``max_people`` is below 1 or times do not rise.
    """
    times = np.asarray(times_s, np.float64)
    if times.shape != (len(detections),):
        raise ShapeError(
            f"times_s: expected shape ({len(detections)},), one per frame of detections, got {times.shape}"
        )
    if max_people is not None and max_people < 1:
        raise ConfigError(f"max_people must be at least 1, got {max_people}")
    if np.any(np.diff(times) <= 0):
        at = int(np.argmax(np.diff(times) <= 0)) + 1
        raise ConfigError(f"frame times must rise, but frame {at} is at {times[at]} s after {times[at - 1]} s")
    stack = drop_doubles(stack_detections(detections, times))
    if len(stack) == 0:
        return []
    shot = np.searchsorted(np.sort(np.asarray(cuts, np.intp)), stack.frame, side="right")
    labels = chain(sure_links(stack, shot), len(stack))
    labels = _join_all(stack, labels, shot, times)
    lasting = _frame_durations(times)[stack.frame]
    people = _people(stack, labels, lasting, float(_frame_durations(times).sum()))
    stack, people = drop_borrowed(stack, people)
    people.sort(key=lambda mine: -_prominence(stack.select(mine), lasting[mine], size_wh))
    skeleton = next(found.skeleton for found in detections if len(found))
    return [_track(i + 1, stack.select(mine), detections, skeleton) for i, mine in enumerate(people[:max_people])]


def _join_all(stack: Stack, labels: IntArray, shot: IntArray, times: DoubleArray) -> IntArray:
    """Join tracklets, what is certain first: it tells the velocities by which the rest is decided."""
    frame_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for how in _PASSES:
        how = how._replace(longest_gap_s=max(how.longest_gap_s, 2.5 * frame_s))  # at low rates one miss is longer
        beginnings, ends = describe_ends(stack, labels, shot)
        joins = join(beginnings, ends, how)
        for _ in range(_FILLINGS if how.shortest_s > 0 else 0):
            joins = fill_holes(beginnings, ends, joins, how)
        labels = chain(joins, len(ends.time_s))[labels]
    return labels


def _frame_durations(times: DoubleArray) -> DoubleArray:
    """(T,) seconds for which each frame stands; a gap in the timestamps does not count as being seen."""
    if len(times) < 2:
        return np.ones(len(times))
    steps = np.diff(times, append=times[-1] + np.median(np.diff(times)))
    return np.minimum(steps, 3 * np.median(steps))


def _people(stack: Stack, labels: IntArray, lasting: DoubleArray, clip_s: float) -> list[IntArray]:
    """Detections of each person: of those seen for long enough who are not the shadow of someone else."""
    sure = np.minimum(stack.scores / _SURE_SCORE, 1.0)
    seen_s = np.bincount(labels, sure * lasting)
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(labels))[:-1])
    candidates = np.flatnonzero(seen_s >= min(_STRAY_S, 0.5 * clip_s))
    kept: list[IntArray] = []
    spans = np.zeros((0, 2), np.intp)
    for who in candidates[np.argsort(-seen_s[candidates], kind="stable")]:
        mine = members[who]
        span = stack.frame[mine[[0, -1]]]
        together = np.flatnonzero((spans[:, 0] <= span[1]) & (span[0] <= spans[:, 1]))
        if not any(_shadows(stack, mine, kept[other]) for other in together):
            kept.append(mine)
            spans = np.vstack([spans, span])
    return kept


def _shadows(stack: Stack, short: IntArray, long: IntArray) -> bool:
    """Whether the shorter track is a second detection of the person of the longer one for most of its time."""
    shared, at_short, at_long = np.intersect1d(stack.frame[short], stack.frame[long], return_indices=True)
    if len(shared) < 0.5 * len(short):
        return False
    apart = compare_pairs(stack, short[at_short], long[at_long])
    return float(np.median(apart.distance)) < 0.12


def _prominence(mine: Stack, lasting: DoubleArray, size_wh: tuple[int, int]) -> float:
    """Seconds in view, weighed by size, confidence and nearness to the middle of the image."""
    boxes = mine.boxes
    size = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) / np.prod(size_wh))
    from_middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.array(size_wh) - 0.5
    central = 1 - np.minimum(np.linalg.norm(from_middle, axis=1), 0.5)  # 1 in the middle, 1/2 at an edge
    return float((lasting * size * mine.scores * central).sum())


def _track(person_id: int, mine: Stack, detections: Sequence[Keypoints2D], skeleton: Skeleton) -> Track2D:
    """The track of one person, with all keypoints that the detector gave, those that were dropped left out."""
    first, last = int(mine.frame[0]), int(mine.frame[-1])
    row, frames, joints = mine.frame - first, last - first + 1, skeleton.num_joints
    keypoints = np.full((frames, joints, 2), np.nan, np.float32)
    scores = np.zeros((frames, joints), np.float32)
    boxes = np.full((frames, 4), np.nan, np.float32)
    each = [(detections[frame], source) for frame, source in zip(mine.frame, mine.source, strict=True)]
    points = np.stack([people.keypoints[source] for people, source in each])
    weights = np.clip(np.stack([people.scores[source] for people, source in each]), 0, 1)
    there = np.isfinite(points).all(axis=-1) & (weights > 0) & ~_dropped(mine, weights, skeleton)
    keypoints[row] = np.where(there[..., None], points, np.nan)
    scores[row] = np.where(there, weights, 0.0)
    boxes[row] = mine.boxes
    observed = np.asarray(np.isfinite(keypoints).all(axis=-1))
    return Track2D(person_id, keypoints, scores, boxes, observed, first, skeleton)


def _dropped(mine: Stack, scores: FloatArray, skeleton: Skeleton) -> BoolArray:
    """(M, K) keypoints that the tracker took away, and what hangs on them: toes go with their ankle."""
    dropped: BoolArray = np.zeros(scores.shape, np.bool_)
    for column, joint in enumerate(skeleton.columns(COCO17.joints)):
        if joint >= 0:
            dropped[:, joint] = mine.weights[:, column] == 0
    for joint, name in enumerate(skeleton.joints):
        parent = skeleton.parents[joint]
        if parent >= 0 and name not in COCO17.joints and skeleton.joints[parent] in COCO17.joints:
            dropped[:, joint] = dropped[:, parent]
    return dropped
