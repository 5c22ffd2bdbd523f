"""Multi-person tracking: one track for each person of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.skeletons import COCO17, Skeleton
from vp3d_cli.track.association import JoinSettings, insert_tracklets, join_tracklets
from vp3d_cli.track.detections import (
    IntArray,
    StackedDetections,
    compare_detections,
    drop_duplicate_detections,
    stack_detections,
)
from vp3d_cli.track.leaked_keypoints import drop_leaked_keypoints
from vp3d_cli.track.tracklets import label_chains, link_neighbouring_frames, tracklet_ends
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, Keypoints2D, Track2D

# Rounds 1 and 2 bridge single misses of people who stand apart. Round 3 joins tracklets with a known velocity across
# crossings; short tracklets in between are inserted afterwards where they fit. Rounds 4 and 5 join the rest. Round 6
# joins people who jump or fall (6 body heights / s^2) where no other join is possible.
_JOIN_ROUNDS = (
    JoinSettings(0.15, margin=3.0),
    JoinSettings(0.15, margin=3.0),
    JoinSettings(2.0, shortest_s=0.25),
    JoinSettings(0.5),
    JoinSettings(2.0),
    JoinSettings(0.7, margin=3.0, acceleration=10.0, lag_s=0.25),
)
_INSERTIONS = 3  # times that unused tracklets are inserted after a round with a shortest length
_MIN_TRACK_S = 0.3  # shorter tracks are dropped; in clips shorter than twice this the limit is half the clip
_FULL_SCORE = 0.5  # detections with at least this score count fully towards the length of a track


def track_people(
    detections: Sequence[Keypoints2D],
    times_s: NDArray[Any] | Sequence[float],
    size_wh: tuple[int, int],
    *,
    max_people: int | None = None,
    cuts: Sequence[int] = (),
) -> list[Track2D]:
    """Track all people of a video.

    Unambiguous links between detections of neighbouring frames form tracklets. Tracklets are joined over misses,
    occlusions and crossings by a global assignment that extrapolates the motion from both sides
    (:mod:`vp3d_cli.track.association`). All limits are in seconds and body heights, so they hold for every frame rate
    and resolution.

    Args:
        detections: one per frame, T in all; all of one skeleton.
        times_s: (T,) seconds, rising.
        size_wh: width and height of the image in pixels.
        max_people: keep only the most prominent people; None keeps all.
        cuts: indices of frames that begin a new camera shot; every track ends at a cut.

    Returns:
        Tracks, the main person first (longest in view, large, confident and central), numbered from 1 in this order.

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
    stacked = drop_duplicate_detections(stack_detections(detections, times))
    if len(stacked) == 0:
        return []
    shot = np.searchsorted(np.sort(np.asarray(cuts, np.intp)), stacked.frame, side="right")
    labels = label_chains(link_neighbouring_frames(stacked, shot), len(stacked))
    labels = _join_all(stacked, labels, shot, times)
    duration_s = _frame_durations(times)[stacked.frame]
    people = _people(stacked, labels, duration_s, float(_frame_durations(times).sum()))
    stacked, people = drop_leaked_keypoints(stacked, people)
    people.sort(key=lambda rows: -_prominence(stacked.select(rows), duration_s[rows], size_wh))
    skeleton = next(found.skeleton for found in detections if len(found))
    return [_track(i + 1, stacked.select(rows), detections, skeleton) for i, rows in enumerate(people[:max_people])]


def _join_all(stacked: StackedDetections, labels: IntArray, shot: IntArray, times: DoubleArray) -> IntArray:
    """Join tracklets in rounds, the least ambiguous first."""
    frame_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for settings in _JOIN_ROUNDS:
        # At low frame rates one missed frame is a longer gap.
        settings = settings._replace(longest_gap_s=max(settings.longest_gap_s, 2.5 * frame_s))
        beginnings, ends = tracklet_ends(stacked, labels, shot)
        joins = join_tracklets(beginnings, ends, settings)
        for _ in range(_INSERTIONS if settings.shortest_s > 0 else 0):
            joins = insert_tracklets(beginnings, ends, joins, settings)
        labels = label_chains(joins, len(ends.time_s))[labels]
    return labels


def _frame_durations(times: DoubleArray) -> DoubleArray:
    """Duration of each frame in seconds, (T,); a gap counts as three frames at most."""
    if len(times) < 2:
        return np.ones(len(times))
    steps = np.diff(times, append=times[-1] + np.median(np.diff(times)))
    return np.minimum(steps, 3 * np.median(steps))


def _people(stacked: StackedDetections, labels: IntArray, duration_s: DoubleArray, clip_s: float) -> list[IntArray]:
    """Detections of each person: tracks that are long enough and no duplicate of a longer one."""
    confidence = np.minimum(stacked.scores / _FULL_SCORE, 1.0)
    seen_s = np.bincount(labels, confidence * duration_s)
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(labels))[:-1])
    candidates = np.flatnonzero(seen_s >= min(_MIN_TRACK_S, 0.5 * clip_s))
    kept: list[IntArray] = []
    spans = np.zeros((0, 2), np.intp)
    for label in candidates[np.argsort(-seen_s[candidates], kind="stable")]:
        rows = members[label]
        span = stacked.frame[rows[[0, -1]]]
        overlapping = np.flatnonzero((spans[:, 0] <= span[1]) & (span[0] <= spans[:, 1]))
        if not any(_is_duplicate(stacked, rows, kept[other]) for other in overlapping):
            kept.append(rows)
            spans = np.vstack([spans, span])
    return kept


def _is_duplicate(stacked: StackedDetections, short: IntArray, long: IntArray) -> bool:
    """Whether the shorter track follows the person of the longer one for most of its time."""
    shared, at_short, at_long = np.intersect1d(stacked.frame[short], stacked.frame[long], return_indices=True)
    if len(shared) < 0.5 * len(short):
        return False
    difference = compare_detections(stacked, short[at_short], long[at_long])
    return float(np.median(difference.distance)) < 0.12


def _prominence(person: StackedDetections, duration_s: DoubleArray, size_wh: tuple[int, int]) -> float:
    """Seconds in view, weighted by size, confidence and nearness to the centre of the image."""
    boxes = person.boxes
    size = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) / np.prod(size_wh))
    from_centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.array(size_wh) - 0.5
    central = 1 - np.minimum(np.linalg.norm(from_centre, axis=1), 0.5)  # 1 at the centre, 1/2 at an edge
    return float((duration_s * size * person.scores * central).sum())


def _track(person_id: int, person: StackedDetections, detections: Sequence[Keypoints2D], skeleton: Skeleton) -> Track2D:
    """Track of one person with all keypoints of the detector, without the dropped ones."""
    first, last = int(person.frame[0]), int(person.frame[-1])
    row, frames, joints = person.frame - first, last - first + 1, skeleton.num_joints
    keypoints = np.full((frames, joints, 2), np.nan, np.float32)
    scores = np.zeros((frames, joints), np.float32)
    boxes = np.full((frames, 4), np.nan, np.float32)
    each = [(detections[frame], source) for frame, source in zip(person.frame, person.source, strict=True)]
    points = np.stack([people.keypoints[source] for people, source in each])
    weights = np.clip(np.stack([people.scores[source] for people, source in each]), 0, 1)
    there = np.isfinite(points).all(axis=-1) & (weights > 0) & ~_dropped(person, weights, skeleton)
    keypoints[row] = np.where(there[..., None], points, np.nan)
    scores[row] = np.where(there, weights, 0.0)
    boxes[row] = person.boxes
    observed = np.asarray(np.isfinite(keypoints).all(axis=-1))
    return Track2D(person_id, keypoints, scores, boxes, observed, first, skeleton)


def _dropped(person: StackedDetections, scores: FloatArray, skeleton: Skeleton) -> BoolArray:
    """Keypoints that the tracker dropped, (M, K), with their children (toes with the ankle)."""
    dropped: BoolArray = np.zeros(scores.shape, np.bool_)
    for column, joint in enumerate(skeleton.columns(COCO17.joints)):
        if joint >= 0:
            dropped[:, joint] = person.weights[:, column] == 0
    for joint, name in enumerate(skeleton.joints):
        parent = skeleton.parents[joint]
        if parent >= 0 and name not in COCO17.joints and skeleton.joints[parent] in COCO17.joints:
            dropped[:, joint] = dropped[:, parent]
    return dropped
