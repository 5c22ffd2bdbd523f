"""All detections of a video in flat arrays, and the difference between two poses.

Tracking compares people by the B = 17 COCO keypoints, selected by name. Other keypoints of a detector are ignored here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray, Keypoints2D

IntArray = NDArray[np.intp]

# Bones and their length as a share of the standing height (Drillis and Contini 1964; shoulder and hip widths are
# those between COCO's joints). Foreshortening only shortens a bone, so the longest ones give the standing height.
_BONES: tuple[tuple[str, str, float], ...] = (
    ("shoulder", "hip", 0.29),
    ("hip", "knee", 0.245),
    ("knee", "ankle", 0.245),
    ("shoulder", "elbow", 0.175),
    ("elbow", "wrist", 0.15),
)
_BONE_ENDS = np.array(
    [[COCO17.index(f"{side}_{j}") for j in bone[:2]] for bone in _BONES for side in ("left", "right")]
    + [[COCO17.index("left_shoulder"), COCO17.index("right_shoulder")]]
)
_BONE_SHARE = np.array([bone[2] for bone in _BONES for _ in range(2)] + [0.2])
_LONGEST_TO_USE = 3  # the third longest: one or two bones may end in a wrong keypoint

# Weight of each keypoint in the position of the body: the trunk moves with the body, hands and feet swing.
_PLACE_WEIGHT = np.array([0.6, 0.4, 0.4, 0.4, 0.4, 1, 1, 0.4, 0.4, 0.15, 0.15, 1, 1, 0.4, 0.4, 0.15, 0.15])

_CHUNK = 1 << 12  # pairs at a time, to bound memory


@dataclass(frozen=True)
class StackedDetections:
    """The M detections of a video in flat arrays, in order of frames.

    Attributes:
        frame: (M,) frame index.
        time_s: (M,) seconds.
        keypoints: (M, B, 2) pixels, COCO-17, 0 where missing.
        weights: (M, B) confidence in 0..1, 0 where a keypoint is missing.
        boxes: (M, 4) pixels, x0 y0 x1 y1.
        scores: (M,) confidence that the detection is a person.
        height_px: (M,) standing height of the person in pixels.
        source: (M,) index of the detection within its frame.
    """

    frame: IntArray
    time_s: DoubleArray
    keypoints: DoubleArray
    weights: DoubleArray
    boxes: DoubleArray
    scores: DoubleArray
    height_px: DoubleArray
    source: IntArray

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, which: NDArray[Any]) -> StackedDetections:
        """The detections that an index array or a boolean mask selects."""
        return StackedDetections(
            self.frame[which], self.time_s[which], self.keypoints[which], self.weights[which],
            self.boxes[which], self.scores[which], self.height_px[which], self.source[which],
        )  # fmt: skip


def stack_detections(detections: Sequence[Keypoints2D], times_s: DoubleArray) -> StackedDetections:
    """Flatten the detections of all frames; those with too few keypoints or no box are left out."""
    counts = np.array([len(d) for d in detections], np.intp)
    frame = np.repeat(np.arange(len(detections)), counts)
    source = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
    seen = [d.in_skeleton(COCO17) for d in detections if len(d)] or [Keypoints2D.empty()]
    keypoints = np.concatenate([d.keypoints for d in seen]).astype(np.float64)
    scores = np.concatenate([d.scores for d in seen]).astype(np.float64)
    boxes = np.concatenate([d.boxes_xyxy for d in seen]).astype(np.float64)
    person = np.nan_to_num(np.concatenate([d.person_scores for d in seen]).astype(np.float64))
    there = np.isfinite(keypoints).all(-1) & np.isfinite(scores) & (scores > 0)
    keypoints = np.where(there[..., None], keypoints, 0.0)
    weights = np.where(there, np.clip(scores, 0, 1), 0.0)
    size = standing_height_px(keypoints, weights, boxes)
    stacked = StackedDetections(frame, times_s[frame], keypoints, weights, boxes, person, size, source)
    usable = (there.sum(1) >= 3) & np.isfinite(boxes).all(1) & (size > 0)
    return stacked if usable.all() else stacked.select(usable)


def standing_height_px(keypoints: DoubleArray, weights: DoubleArray, boxes: DoubleArray) -> DoubleArray:
    """Standing height of each person in pixels, (M,), from the longest bones.

    A person who bends or is partly out of view has the same standing height.
    """
    bones = np.linalg.norm(keypoints[:, _BONE_ENDS[:, 0]] - keypoints[:, _BONE_ENDS[:, 1]], axis=-1) / _BONE_SHARE
    confidence = np.minimum(weights[:, _BONE_ENDS[:, 0]], weights[:, _BONE_ENDS[:, 1]])
    enough = (confidence > 0.4).sum(1, keepdims=True) >= 4  # else bones of low confidence are used as well
    bones = np.sort(np.where(confidence > np.where(enough, 0.4, 0.15), bones, 0.0), axis=1)
    height = np.nan_to_num(boxes[:, 3] - boxes[:, 1])
    width = np.nan_to_num(boxes[:, 2] - boxes[:, 0])
    box = np.maximum(height, width)
    # The box limits the result: a visible person covers at least a fifth of the standing height.
    return np.where(bones[:, -_LONGEST_TO_USE] > 0, np.clip(bones[:, -_LONGEST_TO_USE], 0.7 * box, 5 * box), box)


@dataclass(frozen=True)
class PoseDifference:
    """Differences between K pairs of poses.

    Attributes:
        distance: (K,) mean distance of the shared keypoints in body heights, each limited to 1.
        shift: (K, 2) movement of the whole body from the first to the second pose, pixels.
        limbs: (K,) mean squared distance that remains after the shift, body heights squared.
        shared: (K,) sum of the weights of the keypoints that both poses have; 0 if they share none.
    """

    distance: DoubleArray
    shift: DoubleArray
    limbs: DoubleArray
    shared: DoubleArray


def compare_poses(
    first: tuple[DoubleArray, DoubleArray], second: tuple[DoubleArray, DoubleArray], size: DoubleArray
) -> PoseDifference:
    """Compare K pairs of poses.

    Args:
        first, second: keypoints (K, B, 2) pixels and their weights (K, B).
        size: (K,) standing height in pixels.
    """
    weights = first[1] * second[1]
    moved = (second[0] - first[0]) / size[:, None, None]
    far = np.linalg.norm(moved, axis=-1)
    total = weights.sum(1)
    safe = np.maximum(total, 1e-9)
    distance = (weights * np.minimum(far, 1.0)).sum(1) / safe
    # The shift is a robust mean: keypoints that jumped to another person must not move the whole body.
    place = weights * _PLACE_WEIGHT
    start = place
    shift = np.zeros((len(size), 2))
    for _ in range(3):
        shift = (place[..., None] * moved).sum(1) / np.maximum(place.sum(1), 1e-9)[:, None]
        residual = np.linalg.norm(moved - shift[:, None], axis=-1)
        place = start / (1 + (residual / 0.08) ** 2)
    limbs = (weights * np.minimum(residual, 0.5) ** 2).sum(1) / safe
    return PoseDifference(np.where(total > 0, distance, 1.0), shift * size[:, None], limbs, total)


def compare_detections(stacked: StackedDetections, first: IntArray, second: IntArray) -> PoseDifference:
    """Compare pairs of detections with :func:`compare_poses`, a bounded number at a time."""
    parts = []
    for begin in range(0, max(len(first), 1), _CHUNK):
        a, b = first[begin : begin + _CHUNK], second[begin : begin + _CHUNK]
        size = np.sqrt(stacked.height_px[a] * stacked.height_px[b])
        parts.append(
            compare_poses((stacked.keypoints[a], stacked.weights[a]), (stacked.keypoints[b], stacked.weights[b]), size)
        )
    return PoseDifference(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in ("distance", "shift", "limbs", "shared"))
    )


def index_pairs(starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Index pairs (i, j) with starts[i] <= j < ends[i], as two flat arrays."""
    counts = np.maximum(ends - starts, 0)
    first = np.repeat(np.arange(len(starts)), counts)
    second = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    return first, second


def drop_duplicate_detections(stacked: StackedDetections, same_person: float = 0.07) -> StackedDetections:
    """Drop duplicate detections of one person in a frame; the better one stays.

    Two detections are duplicates where their mean keypoint distance is below ``same_person`` body heights (0.07 is
    12 cm). Duplicates of a detector differ by a few percent of the height.
    """
    if len(stacked) == 0:
        return stacked
    index = np.arange(len(stacked))
    first, second = index_pairs(index + 1, np.searchsorted(stacked.frame, stacked.frame, side="right"))
    near = _boxes_touch(stacked.boxes[first], stacked.boxes[second])
    first, second = first[near], second[near]
    difference = compare_detections(stacked, first, second)
    double = (difference.distance < same_person) & (difference.shared > 0)
    first, second = first[double], second[double]
    quality = stacked.scores + stacked.weights.mean(1)
    worse = np.where(quality[first] < quality[second], first, second)
    keep = np.ones(len(stacked), bool)
    keep[worse] = False
    return stacked.select(keep)


def _boxes_touch(a: DoubleArray, b: DoubleArray) -> NDArray[np.bool_]:
    return np.asarray((np.maximum(a[:, :2], b[:, :2]) <= np.minimum(a[:, 2:], b[:, 2:])).all(1))
