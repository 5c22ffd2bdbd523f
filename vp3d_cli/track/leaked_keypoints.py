"""Removal of keypoints that leaked to another person.

Where one person occludes another, detectors put hidden joints of the one behind onto the one in front. Once tracks are
known, such a keypoint shows two signs: it coincides with the same keypoint of the other person, and it lies far from
the line between its own positions before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vp3d_cli.track.detections import IntArray, StackedDetections
from vp3d_cli.types import BoolArray, DoubleArray

# Body heights; two detections of one joint differ by a few percent (see drop_duplicate_detections).
_SAME_PLACE = 0.07
_MIN_ERROR = 0.12  # body heights from the interpolated position; the error of a hidden joint is smaller
_MIN_ERROR_RATIO = 2.0  # the error must exceed that of the other person's keypoint by this factor
_MAX_NEIGHBOUR_S = 0.5  # longest time to the positions that are interpolated; a limb swings within a second
_MIN_KEYPOINTS = 6  # a detection with fewer keypoints left is dropped: it belongs to the other person


def drop_leaked_keypoints(
    stacked: StackedDetections, people: Sequence[IntArray]
) -> tuple[StackedDetections, list[IntArray]]:
    """Drop keypoints that leaked to another person, and detections with too few keypoints left.

    Args:
        stacked: detections.
        people: for each person, the indices of their detections in order of frames.

    Returns:
        The detections with weight 0 at the leaked keypoints and boxes around the others; the indices of each person.
    """
    doubtful = np.zeros(stacked.weights.shape, bool)
    pairs = _overlapping_pairs(stacked, people)
    close = []
    for first, second in pairs:
        size = np.sqrt(stacked.height_px[first] * stacked.height_px[second])[:, None]
        difference = np.linalg.norm(stacked.keypoints[first] - stacked.keypoints[second], axis=-1) / size
        near = (difference < _SAME_PLACE) & (stacked.weights[first] > 0) & (stacked.weights[second] > 0)
        doubtful[first] |= near
        doubtful[second] |= near
        close.append(near)
    if not doubtful.any():
        return stacked, list(people)
    error = np.zeros(stacked.weights.shape)
    for rows in people:
        if doubtful[rows].any():
            error[rows] = _interpolation_error(stacked, rows, doubtful[rows])
    leaked = np.zeros(stacked.weights.shape, bool)
    for (first, second), near in zip(pairs, close, strict=True):
        for here, there in ((first, second), (second, first)):
            wrong = (error[here] > _MIN_ERROR) & (error[here] > _MIN_ERROR_RATIO * error[there])
            leaked[here] |= near & wrong
    weights = np.where(leaked, 0.0, stacked.weights)
    boxes = stacked.boxes.copy()
    kept = []
    for rows in people:
        enough = (weights[rows] > 0).sum(axis=1) >= np.minimum(_MIN_KEYPOINTS, (stacked.weights[rows] > 0).sum(axis=1))
        kept.append(rows[enough])
        boxes[rows] = _tight_boxes(stacked, rows, leaked[rows])
    return replace(stacked, weights=weights, boxes=boxes), [rows for rows in kept if len(rows)]


def _overlapping_pairs(stacked: StackedDetections, people: Sequence[IntArray]) -> list[tuple[IntArray, IntArray]]:
    """Detections of each two people in the frames in which their boxes overlap."""
    in_order = sorted(people, key=lambda rows: int(stacked.frame[rows[0]]))
    pairs = []
    for place, one in enumerate(in_order):
        for other in in_order[place + 1 :]:
            if stacked.frame[other[0]] > stacked.frame[one[-1]]:
                break
            pairs.append(_overlap(stacked, one, other))
    return [pair for pair in pairs if len(pair[0])]


def _overlap(stacked: StackedDetections, one: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
    """Detections of two people in the frames in which their boxes overlap."""
    _, first, second = np.intersect1d(stacked.frame[one], stacked.frame[other], assume_unique=True, return_indices=True)
    a, b = stacked.boxes[one[first]], stacked.boxes[other[second]]
    touch = (np.maximum(a[:, :2], b[:, :2]) <= np.minimum(a[:, 2:], b[:, 2:])).all(axis=1)
    return one[first[touch]], other[second[touch]]


def _interpolation_error(stacked: StackedDetections, rows: IntArray, doubtful: BoolArray) -> DoubleArray:
    """Distance of doubtful keypoints from their interpolated positions, (N, B) body heights.

    The position is interpolated between the nearest reliable ones before and after; 0 where one of them is missing.
    """
    result = np.zeros(doubtful.shape)
    times, size = stacked.time_s[rows], stacked.height_px[rows]
    for joint in np.flatnonzero(doubtful.any(axis=0)):
        good = np.flatnonzero(~doubtful[:, joint] & (stacked.weights[rows, joint] > 0))
        asked = np.flatnonzero(doubtful[:, joint])
        after = np.searchsorted(good, asked)
        known = (after > 0) & (after < len(good))
        asked, after = asked[known], after[known]
        left, right = good[after - 1], good[after]
        known = (times[asked] - times[left] <= _MAX_NEIGHBOUR_S) & (times[right] - times[asked] <= _MAX_NEIGHBOUR_S)
        asked, left, right = asked[known], left[known], right[known]
        share = ((times[asked] - times[left]) / (times[right] - times[left]))[:, None]
        places = stacked.keypoints[rows, joint]
        expected = (1 - share) * places[left] + share * places[right]
        result[asked, joint] = np.linalg.norm(places[asked] - expected, axis=1) / size[asked]
    return result


def _tight_boxes(stacked: StackedDetections, rows: IntArray, leaked: BoolArray) -> DoubleArray:
    """Boxes (N, 4); where keypoints leaked, around the others with the usual margin."""
    boxes: DoubleArray = stacked.boxes[rows]  # a copy
    changed = leaked.any(axis=1)
    there = (stacked.weights[rows] > 0) & ~leaked
    changed &= there.any(axis=1)
    if not changed.any():
        return boxes
    points = stacked.keypoints[rows]
    low = np.where(there[..., None], points, np.inf).min(axis=1)
    high = np.where(there[..., None], points, -np.inf).max(axis=1)
    usual = ~changed & there.any(axis=1)
    if not usual.any():
        return boxes
    size = stacked.height_px[rows, None]
    margin = np.median(np.concatenate([low - boxes[:, :2], boxes[:, 2:] - high], axis=1)[usual] / size[usual], axis=0)
    around = np.concatenate([low - margin[:2] * size, high + margin[2:] * size], axis=1)
    # A box never grows: the detector's box already holds all keypoints.
    tight = np.concatenate([np.maximum(around[:, :2], boxes[:, :2]), np.minimum(around[:, 2:], boxes[:, 2:])], axis=1)
    sound = (tight[:, 2:] > tight[:, :2]).all(axis=1)
    boxes[changed & sound] = tight[changed & sound]
    return boxes
