"""Tracklets: detections of one person that surely belong together, and how the person moves at both ends of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.track.detections import IntArray, Stack, compare_pairs, pairs_within
from vp3d_cli.types import DoubleArray

# Body heights per second up to which a link needs no extrapolation: a brisk run. What is faster is joined by
# :mod:`vp3d_cli.track.association`, which knows the velocity.
_SURE_SPEED = 1.5
_VELOCITY_WINDOW_S = 0.5
_POSE_WINDOW_S = 0.15
_SIZE_WINDOW_S = 1.0
_PLACE_SD = 0.04  # body heights: detector's jitter of the trunk
VELOCITY_SD = 1.0  # body heights per second, of people in general: a brisk walk


def sure_links(stack: Stack, shot: IntArray) -> tuple[IntArray, IntArray]:
    """Links between neighbouring frames about which there is no doubt: each is the other's nearest, by far.

    Args:
        stack: detections.
        shot: (M,) number of the camera shot of each detection: nothing is linked across a cut.

    Returns:
        Indices of the earlier and the later detection of each link.
    """
    later = np.searchsorted(stack.frame, stack.frame + 1, side="left")
    first, second = pairs_within(later, np.searchsorted(stack.frame, stack.frame + 1, side="right"))
    same_shot = shot[first] == shot[second]
    first, second = first[same_shot], second[same_shot]
    size = np.sqrt(stack.body_px[first] * stack.body_px[second])
    centre = (stack.boxes[:, :2] + stack.boxes[:, 2:]) / 2
    near = np.linalg.norm(centre[first] - centre[second], axis=1) < 1.5 * size
    first, second = first[near], second[near]
    apart = compare_pairs(stack, first, second)
    distance = apart.distance
    best_of_first, rest_of_first = two_smallest(first, distance)
    best_of_second, rest_of_second = two_smallest(second, distance)
    mutual = (distance <= best_of_first[first]) & (distance <= best_of_second[second])
    clear = 2 * distance + 0.05 < np.minimum(rest_of_first[first], rest_of_second[second])
    elapsed = stack.time_s[second] - stack.time_s[first]
    ratio = np.abs(np.log(stack.body_px[first] / stack.body_px[second]))
    sure = mutual & clear & (distance < 0.05 + _SURE_SPEED * elapsed) & (ratio < 0.3) & (apart.shared > 0.5)
    return first[sure], second[sure]


def two_smallest(group: IntArray, values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Smallest and second smallest value of each group 0, 1, ..., inf where there is none."""
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


def chain(links: tuple[IntArray, IntArray], count: int) -> IntArray:
    """Number the chains that links make of ``count`` items: (count,) labels 0, 1, ... in order of first items.

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
class Ends:
    """How L tracklets begin, or how they end; velocities run forward in time in both cases.

    Attributes:
        frame, time_s: (L,) of the first (last) detection.
        keypoints, weights: (L, B, 2) pixels and (L, B): the pose there, averaged over a moment.
        velocity: (L, 2) of the body, pixels per second; drawn to 0 where the tracklet is too short to tell.
        velocity_sd: (L,) its uncertainty, body heights per second.
        body_px: (L,) body height in pixels.
        shot: (L,) number of the camera shot.
    """

    frame: IntArray
    time_s: DoubleArray
    keypoints: DoubleArray
    weights: DoubleArray
    velocity: DoubleArray
    velocity_sd: DoubleArray
    body_px: DoubleArray
    shot: IntArray


def describe_ends(stack: Stack, labels: IntArray, shot: IntArray) -> tuple[Ends, Ends]:
    """Beginnings and ends of all tracklets."""
    order = np.lexsort((stack.time_s, labels))
    label = labels[order]
    first = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
    last = np.r_[first[1:], len(label)] - 1
    apart = compare_pairs(stack, order[:-1], order[1:])
    shift = np.where((apart.shared > 0)[:, None] & (label[1:] == label[:-1])[:, None], apart.shift, 0.0)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(shift, axis=0)])
    moved = stack.select(order)
    return _describe(moved, label, path, first, 1, shot[order]), _describe(moved, label, path, last, -1, shot[order])


def _describe(stack: Stack, label: IntArray, path: DoubleArray, at: IntArray, sign: int, shot: IntArray) -> Ends:
    """One end of each tracklet; ``at`` is its detection there and ``sign`` the way into the tracklet."""
    away = stack.time_s - stack.time_s[at][label]  # >= 0 at beginnings, <= 0 at ends
    inside = sign * away

    def total(values: DoubleArray) -> DoubleArray:
        return np.bincount(label, values, len(at)).astype(np.float64)

    sure = stack.weights.mean(1)
    near_size = np.where(inside <= _SIZE_WINDOW_S, sure + 1e-6, 0.0)
    body = np.exp(total(near_size * np.log(stack.body_px)) / total(near_size))
    # Regression of the path on time, with a prior of no velocity (ridge): posterior mean and deviation.
    weight = np.where(inside <= _VELOCITY_WINDOW_S, sure + 1e-6, 0.0)
    weight /= np.maximum(np.bincount(label, np.where(weight > 0, sure, 0), len(at)), 1e-6)[label]
    weight *= np.bincount(label, weight > 0, len(at))[label]
    mean_t = total(weight * away) / total(weight)
    spread = total(weight * away**2) - total(weight) * mean_t**2
    centred = weight * (away - mean_t[label])
    slope = np.stack([total(centred * (path[:, i] - path[at, i][label])) for i in range(2)], axis=-1)
    prior = (_PLACE_SD / VELOCITY_SD) ** 2
    velocity = slope / (np.maximum(spread, 0) + prior)[:, None]
    velocity_sd = _PLACE_SD / np.sqrt(np.maximum(spread, 0) + prior)
    # The pose at the end: the detections of the last moment, carried there by the velocity.
    recent = inside <= _POSE_WINDOW_S
    rows, who = np.flatnonzero(recent), label[recent]
    carried = stack.keypoints[rows] - (velocity[who] * away[rows, None])[:, None]
    w = stack.weights[rows] ** 2
    joints = stack.weights.shape[1]
    pose = np.zeros((len(at), joints, 2))
    pose_weight = np.zeros((len(at), joints))
    strongest = np.zeros((len(at), joints))
    np.add.at(pose, who, w[..., None] * carried)
    np.add.at(pose_weight, who, w)
    np.maximum.at(strongest, who, stack.weights[rows])
    pose /= np.maximum(pose_weight, 1e-12)[..., None]
    return Ends(stack.frame[at], stack.time_s[at], pose, strongest, velocity, velocity_sd, body, shot[at])
