"""All detections of a video in flat arrays, and how far apart two of them are.

People are told apart by the B = 17 keypoints of COCO, picked by name, whatever else a detector finds.
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
# those between COCO's joints). Foreshortening only makes a bone shorter, so the longest ones tell the body's size.
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
_LONGEST_TO_USE = 3  # the third longest: one or two bones may end in a keypoint that is wrong

# How much each keypoint tells about where the body is: the trunk moves with it, hands and feet swing.
_PLACE_WEIGHT = np.array([0.6, 0.4, 0.4, 0.4, 0.4, 1, 1, 0.4, 0.4, 0.15, 0.15, 1, 1, 0.4, 0.4, 0.15, 0.15])

_CHUNK = 1 << 12  # pairs at a time, to bound memory


@dataclass(frozen=True)
class Stack:
    """M detections of a whole video, in order of frames.

    Attributes:
        frame: (M,) frame index.
        time_s: (M,) seconds.
        keypoints: (M, B, 2) pixels, COCO-17, 0 where there is none.
        weights: (M, B) confidence in 0..1, 0 where there is no keypoint.
        boxes: (M, 4) pixels.
        scores: (M,) confidence that it is a person.
        body_px: (M,) how tall the person would stand in the image.
        source: (M,) index of the detection within its frame.
    """

    frame: IntArray
    time_s: DoubleArray
    keypoints: DoubleArray
    weights: DoubleArray
    boxes: DoubleArray
    scores: DoubleArray
    body_px: DoubleArray
    source: IntArray

    def __len__(self) -> int:
        return len(self.frame)

    def select(self, which: NDArray[Any]) -> Stack:
        """The detections of an index or a boolean mask."""
        return Stack(
            self.frame[which], self.time_s[which], self.keypoints[which], self.weights[which],
            self.boxes[which], self.scores[which], self.body_px[which], self.source[which],
        )  # fmt: skip


def stack_detections(detections: Sequence[Keypoints2D], times_s: DoubleArray) -> Stack:
    """Flatten the detections of all frames; those without a usable keypoint or box are left out."""
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
    size = body_size(keypoints, weights, boxes)
    stack = Stack(frame, times_s[frame], keypoints, weights, boxes, person, size, source)
    usable = (there.sum(1) >= 3) & np.isfinite(boxes).all(1) & (size > 0)
    return stack if usable.all() else stack.select(usable)


def body_size(keypoints: DoubleArray, weights: DoubleArray, boxes: DoubleArray) -> DoubleArray:
    """(M,) height in pixels that the person would have standing, from the longest bones, whatever is out of view."""
    bones = np.linalg.norm(keypoints[:, _BONE_ENDS[:, 0]] - keypoints[:, _BONE_ENDS[:, 1]], axis=-1) / _BONE_SHARE
    sure = np.minimum(weights[:, _BONE_ENDS[:, 0]], weights[:, _BONE_ENDS[:, 1]])
    clear = (sure > 0.4).sum(1, keepdims=True) >= 4  # else what is half hidden must do
    bones = np.sort(np.where(sure > np.where(clear, 0.4, 0.15), bones, 0.0), axis=1)
    height = np.nan_to_num(boxes[:, 3] - boxes[:, 1])
    width = np.nan_to_num(boxes[:, 2] - boxes[:, 0])
    box = np.maximum(height, width)
    # Bones are trusted within what the box allows: a person fills at least a fifth of a standing height.
    return np.where(bones[:, -_LONGEST_TO_USE] > 0, np.clip(bones[:, -_LONGEST_TO_USE], 0.7 * box, 5 * box), box)


@dataclass(frozen=True)
class Apart:
    """How far the second of two sets of keypoints is from the first.

    Attributes:
        distance: (K,) mean over shared keypoints, body heights, each capped at 1: small only if the poses agree too.
        shift: (K, 2) pixels that the body as a whole moved.
        limbs: (K,) mean squared distance that remains after the shift, body heights squared.
        shared: (K,) sum of the weights of the keypoints that both have; 0 if there are none.
    """

    distance: DoubleArray
    shift: DoubleArray
    limbs: DoubleArray
    shared: DoubleArray


def compare(
    first: tuple[DoubleArray, DoubleArray], second: tuple[DoubleArray, DoubleArray], size: DoubleArray
) -> Apart:
    """Compare keypoints pair by pair.

    Args:
        first, second: keypoints (K, B, 2) pixels and their weights (K, B).
        size: (K,) body height in pixels.
    """
    weights = first[1] * second[1]  # what is half sure in both counts a quarter
    moved = (second[0] - first[0]) / size[:, None, None]
    far = np.linalg.norm(moved, axis=-1)
    total = weights.sum(1)
    safe = np.maximum(total, 1e-9)
    distance = (weights * np.minimum(far, 1.0)).sum(1) / safe
    # The shift is a robust mean: keypoints that jumped to someone else must not pull the whole body with them.
    place = weights * _PLACE_WEIGHT
    start = place
    shift = np.zeros((len(size), 2))
    for _ in range(3):
        shift = (place[..., None] * moved).sum(1) / np.maximum(place.sum(1), 1e-9)[:, None]
        residual = np.linalg.norm(moved - shift[:, None], axis=-1)
        place = start / (1 + (residual / 0.08) ** 2)
    limbs = (weights * np.minimum(residual, 0.5) ** 2).sum(1) / safe
    return Apart(np.where(total > 0, distance, 1.0), shift * size[:, None], limbs, total)


def compare_pairs(stack: Stack, first: IntArray, second: IntArray) -> Apart:
    """:func:`compare` detections of a stack, a bounded number at a time."""
    parts = []
    for begin in range(0, max(len(first), 1), _CHUNK):
        a, b = first[begin : begin + _CHUNK], second[begin : begin + _CHUNK]
        size = np.sqrt(stack.body_px[a] * stack.body_px[b])
        parts.append(compare((stack.keypoints[a], stack.weights[a]), (stack.keypoints[b], stack.weights[b]), size))
    return Apart(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("distance", "shift", "limbs", "shared")))


def pairs_within(starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """For each row i all j in starts[i] .. ends[i] - 1: two flat index arrays."""
    counts = np.maximum(ends - starts, 0)
    first = np.repeat(np.arange(len(starts)), counts)
    second = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
    return first, second


def drop_doubles(stack: Stack, same_person: float = 0.07) -> Stack:
    """Keep one of several detections of one person: those in a frame whose keypoints nearly coincide.

    ``same_person`` is in body heights (0.07 is 12 cm): detectors repeat themselves within a few per cent, while two
    people whose joints all coincide to that could not be told apart anyway.
    """
    if len(stack) == 0:
        return stack
    index = np.arange(len(stack))
    first, second = pairs_within(index + 1, np.searchsorted(stack.frame, stack.frame, side="right"))
    near = _boxes_touch(stack.boxes[first], stack.boxes[second])
    first, second = first[near], second[near]
    apart = compare_pairs(stack, first, second)
    double = (apart.distance < same_person) & (apart.shared > 0)
    first, second = first[double], second[double]
    quality = stack.scores + stack.weights.mean(1)
    worse = np.where(quality[first] < quality[second], first, second)
    keep = np.ones(len(stack), bool)
    keep[worse] = False
    return stack.select(keep)


def _boxes_touch(a: DoubleArray, b: DoubleArray) -> NDArray[np.bool_]:
    return np.asarray((np.maximum(a[:, :2], b[:, :2]) <= np.minimum(a[:, 2:], b[:, 2:])).all(1))
