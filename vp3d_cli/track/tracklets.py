"""Tracklets: unambiguous links between neighbouring frames, and the state at both ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.track.detections import IntArray, StackedDetections, compare_detections, index_pairs
from vp3d_cli.types import DoubleArray

# Body heights per second up to which a link needs no extrapolation: a brisk run. Faster people are joined by
# :mod:`vp3d_cli.track.association`, which uses the velocity.
_MAX_LINK_SPEED = 1.5
_VELOCITY_WINDOW_S = 0.5
_POSE_WINDOW_S = 0.15
_SIZE_WINDOW_S = 1.0
_PLACE_SD = 0.04  # body heights: jitter of the trunk in detections
VELOCITY_SD = 1.0  # body heights per second: prior of a person's velocity, a brisk walk


def link_neighbouring_frames(stacked: StackedDetections, shot: IntArray) -> tuple[IntArray, IntArray]:
    """Link detections of neighbouring frames that are each other's nearest by a clear margin.

    Args:
        stacked: detections.
        shot: (M,) number of the camera shot of each detection; there are no links across a cut.

    Returns:
        Indices of the earlier and the later detection of each link.
    """
    later = np.searchsorted(stacked.frame, stacked.frame + 1, side="left")
    first, second = index_pairs(later, np.searchsorted(stacked.frame, stacked.frame + 1, side="right"))
    same_shot = shot[first] == shot[second]
    first, second = first[same_shot], second[same_shot]
    size = np.sqrt(stacked.height_px[first] * stacked.height_px[second])
    centre = (stacked.boxes[:, :2] + stacked.boxes[:, 2:]) / 2
    near = np.linalg.norm(centre[first] - centre[second], axis=1) < 1.5 * size
    first, second = first[near], second[near]
    difference = compare_detections(stacked, first, second)
    distance = difference.distance
    best_of_first, rest_of_first = two_smallest(first, distance)
    best_of_second, rest_of_second = two_smallest(second, distance)
    mutual = (distance <= best_of_first[first]) & (distance <= best_of_second[second])
    clear = 2 * distance + 0.05 < np.minimum(rest_of_first[first], rest_of_second[second])
    elapsed = stacked.time_s[second] - stacked.time_s[first]
    ratio = np.abs(np.log(stacked.height_px[first] / stacked.height_px[second]))
    linked = mutual & clear & (distance < 0.05 + _MAX_LINK_SPEED * elapsed) & (ratio < 0.3) & (difference.shared > 0.5)
    return first[linked], second[linked]


def two_smallest(group: IntArray, values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Smallest and second smallest value of each group 0, 1, ...; inf where there is none."""
    groups = int(group.max()) + 1 if len(group) else 0
    best, rest = np.full(groups, np.inf), np.full(groups, np.inf)
    if groups:
        order = np.lexsort((values, group))
        group, values = group[order], values[order]
        begin = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        best[group[begin]] = values[begin]
        has_second = begin[np.r_[begin[1:], len(group)] - begin > 1]
        rest[group[has_second]] = values[has_second + 1]
    return best, rest


def label_chains(links: tuple[IntArray, IntArray], count: int) -> IntArray:
    """Label the chains of linked items: (count,) labels 0, 1, ... in order of first items.

    Every item has at most one link to a later and one to an earlier item.
    """
    root = np.arange(count)
    root[links[1]] = links[0]
    while True:  # pointer jumping: the distance to the root halves each time
        further = root[root]
        if np.array_equal(further, root):
            break
        root = further
    labels: IntArray = np.unique(root, return_inverse=True)[1]
    return labels


@dataclass(frozen=True)
class TrackletEnds:
    """State of L tracklets at their beginning or at their end.

    Attributes:
        frame, time_s: (L,) of the first (last) detection.
        keypoints, weights: (L, B, 2) pixels and (L, B): pose, averaged over a short window.
        velocity: (L, 2) pixels per second, forward in time; near 0 where the tracklet is too short to estimate it.
        velocity_sd: (L,) standard deviation of the velocity, body heights per second.
        height_px: (L,) standing height in pixels.
        shot: (L,) number of the camera shot.
    """

    frame: IntArray
    time_s: DoubleArray
    keypoints: DoubleArray
    weights: DoubleArray
    velocity: DoubleArray
    velocity_sd: DoubleArray
    height_px: DoubleArray
    shot: IntArray


def tracklet_ends(stacked: StackedDetections, labels: IntArray, shot: IntArray) -> tuple[TrackletEnds, TrackletEnds]:
    """States of all tracklets at their beginnings and at their ends."""
    order = np.lexsort((stacked.time_s, labels))
    label = labels[order]
    first = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
    last = np.r_[first[1:], len(label)] - 1
    difference = compare_detections(stacked, order[:-1], order[1:])
    shift = np.where((difference.shared > 0)[:, None] & (label[1:] == label[:-1])[:, None], difference.shift, 0.0)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(shift, axis=0)])
    moved = stacked.select(order)
    return _state_at(moved, label, path, first, 1, shot[order]), _state_at(moved, label, path, last, -1, shot[order])


def _state_at(
    stacked: StackedDetections, label: IntArray, path: DoubleArray, at: IntArray, sign: int, shot: IntArray
) -> TrackletEnds:
    """State of each tracklet at its detection ``at``; ``sign`` points in time into the tracklet."""
    away = stacked.time_s - stacked.time_s[at][label]  # >= 0 at beginnings, <= 0 at ends
    inside = sign * away

    def total(values: DoubleArray) -> DoubleArray:
        return np.bincount(label, values, len(at)).astype(np.float64)

    confidence = stacked.weights.mean(1)
    near_size = np.where(inside <= _SIZE_WINDOW_S, confidence + 1e-6, 0.0)
    height_px = np.exp(total(near_size * np.log(stacked.height_px)) / total(near_size))
    # Regression of the path on time, with a prior of no velocity (ridge): posterior mean and deviation.
    weight = np.where(inside <= _VELOCITY_WINDOW_S, confidence + 1e-6, 0.0)
    weight /= np.maximum(np.bincount(label, np.where(weight > 0, confidence, 0), len(at)), 1e-6)[label]
    weight *= np.bincount(label, weight > 0, len(at))[label]
    mean_t = total(weight * away) / total(weight)
    spread = total(weight * away**2) - total(weight) * mean_t**2
    centred = weight * (away - mean_t[label])
    slope = np.stack([total(centred * (path[:, i] - path[at, i][label])) for i in range(2)], axis=-1)
    prior = (_PLACE_SD / VELOCITY_SD) ** 2
    velocity = slope / (np.maximum(spread, 0) + prior)[:, None]
    velocity_sd = _PLACE_SD / np.sqrt(np.maximum(spread, 0) + prior)
    # The pose at the end: mean of the nearest detections, moved there by the velocity.
    recent = inside <= _POSE_WINDOW_S
    rows, tracklet = np.flatnonzero(recent), label[recent]
    carried = stacked.keypoints[rows] - (velocity[tracklet] * away[rows, None])[:, None]
    w = stacked.weights[rows] ** 2
    joints = stacked.weights.shape[1]
    pose = np.zeros((len(at), joints, 2))
    pose_weight = np.zeros((len(at), joints))
    strongest = np.zeros((len(at), joints))
    np.add.at(pose, tracklet, w[..., None] * carried)
    np.add.at(pose_weight, tracklet, w)
    np.maximum.at(strongest, tracklet, stacked.weights[rows])
    pose /= np.maximum(pose_weight, 1e-12)[..., None]
    frame, time_s = stacked.frame[at], stacked.time_s[at]
    return TrackletEnds(frame, time_s, pose, strongest, velocity, velocity_sd, height_px, shot[at])
