"""Keypoints that a detector put on somebody else: what is hidden jumps to the person in front.

Once it is known who is who, such a keypoint gives itself away twice: it lies where somebody else has theirs, and not
where its own person had it before and has it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vp3d_cli.track.detections import IntArray, Stack
from vp3d_cli.types import BoolArray, DoubleArray

# Body heights; two detections of one joint differ by a few per cent (see drop_doubles).
_SAME_PLACE = 0.07
_ASTRAY = 0.12  # so far from where it is expected: more than a hidden joint is misjudged by, about a foot's length
_ASTRAY_RATIO = 2.0  # and so many times further than it is for the other person
_REACH_S = 0.5  # how far before and after a moment its own person is asked; limbs swing within a second
_FEWEST = 6  # keypoints that must remain: with fewer the detection is rather one of the other person


def drop_borrowed(stack: Stack, people: Sequence[IntArray]) -> tuple[Stack, list[IntArray]]:
    """Take away keypoints that are somebody else's, and detections of which little then remains.

    Args:
        stack: detections.
        people: those of each person, in order of frames.

    Returns:
        The detections with the weight 0 at these keypoints, and boxes around what remains; and those of each person.
    """
    doubtful = np.zeros(stack.weights.shape, bool)
    pairs = _encounters(stack, people)
    close = []
    for ours, theirs in pairs:
        size = np.sqrt(stack.body_px[ours] * stack.body_px[theirs])[:, None]
        apart = np.linalg.norm(stack.keypoints[ours] - stack.keypoints[theirs], axis=-1) / size
        near = (apart < _SAME_PLACE) & (stack.weights[ours] > 0) & (stack.weights[theirs] > 0)
        doubtful[ours] |= near
        doubtful[theirs] |= near
        close.append(near)
    if not doubtful.any():
        return stack, list(people)
    astray = np.zeros(stack.weights.shape)
    for mine in people:
        if doubtful[mine].any():
            astray[mine] = _astray(stack, mine, doubtful[mine])
    borrowed = np.zeros(stack.weights.shape, bool)
    for (ours, theirs), near in zip(pairs, close, strict=True):
        for here, there in ((ours, theirs), (theirs, ours)):
            wrong = (astray[here] > _ASTRAY) & (astray[here] > _ASTRAY_RATIO * astray[there])
            borrowed[here] |= near & wrong
    weights = np.where(borrowed, 0.0, stack.weights)
    boxes = stack.boxes.copy()
    kept = []
    for mine in people:
        enough = (weights[mine] > 0).sum(axis=1) >= np.minimum(_FEWEST, (stack.weights[mine] > 0).sum(axis=1))
        kept.append(mine[enough])
        boxes[mine] = _boxes(stack, mine, borrowed[mine])
    return replace(stack, weights=weights, boxes=boxes), [mine for mine in kept if len(mine)]


def _encounters(stack: Stack, people: Sequence[IntArray]) -> list[tuple[IntArray, IntArray]]:
    """For each two people who meet, their detections in the frames in which they do."""
    in_order = sorted(people, key=lambda mine: int(stack.frame[mine[0]]))
    met = []
    for place, one in enumerate(in_order):
        for other in in_order[place + 1 :]:
            if stack.frame[other[0]] > stack.frame[one[-1]]:
                break
            met.append(_meet(stack, one, other))
    return [pair for pair in met if len(pair[0])]


def _meet(stack: Stack, one: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
    """Detections of two people in frames in which their boxes touch."""
    _, first, second = np.intersect1d(stack.frame[one], stack.frame[other], assume_unique=True, return_indices=True)
    a, b = stack.boxes[one[first]], stack.boxes[other[second]]
    touch = (np.maximum(a[:, :2], b[:, :2]) <= np.minimum(a[:, 2:], b[:, 2:])).all(axis=1)
    return one[first[touch]], other[second[touch]]


def _astray(stack: Stack, mine: IntArray, doubtful: BoolArray) -> DoubleArray:
    """(N, B) how far each doubtful keypoint is from the way between those before and after it, body heights.

    0 where nothing is known on one of the sides.
    """
    result = np.zeros(doubtful.shape)
    times, size = stack.time_s[mine], stack.body_px[mine]
    for joint in np.flatnonzero(doubtful.any(axis=0)):
        good = np.flatnonzero(~doubtful[:, joint] & (stack.weights[mine, joint] > 0))
        asked = np.flatnonzero(doubtful[:, joint])
        after = np.searchsorted(good, asked)
        known = (after > 0) & (after < len(good))
        asked, after = asked[known], after[known]
        left, right = good[after - 1], good[after]
        known = (times[asked] - times[left] <= _REACH_S) & (times[right] - times[asked] <= _REACH_S)
        asked, left, right = asked[known], left[known], right[known]
        share = ((times[asked] - times[left]) / (times[right] - times[left]))[:, None]
        places = stack.keypoints[mine, joint]
        expected = (1 - share) * places[left] + share * places[right]
        result[asked, joint] = np.linalg.norm(places[asked] - expected, axis=1) / size[asked]
    return result


def _boxes(stack: Stack, mine: IntArray, borrowed: BoolArray) -> DoubleArray:
    """(N, 4) boxes; where keypoints were borrowed, around the others, as in frames where none was."""
    boxes: DoubleArray = stack.boxes[mine]  # a copy
    changed = borrowed.any(axis=1)
    there = (stack.weights[mine] > 0) & ~borrowed
    changed &= there.any(axis=1)
    if not changed.any():
        return boxes
    points = stack.keypoints[mine]
    low = np.where(there[..., None], points, np.inf).min(axis=1)
    high = np.where(there[..., None], points, -np.inf).max(axis=1)
    usual = ~changed & there.any(axis=1)
    if not usual.any():
        return boxes
    size = stack.body_px[mine, None]
    margin = np.median(np.concatenate([low - boxes[:, :2], boxes[:, 2:] - high], axis=1)[usual] / size[usual], axis=0)
    around = np.concatenate([low - margin[:2] * size, high + margin[2:] * size], axis=1)
    # It does not grow: the detector's box goes as far as what it took for this person.
    tight = np.concatenate([np.maximum(around[:, :2], boxes[:, :2]), np.minimum(around[:, 2:], boxes[:, 2:])], axis=1)
    sound = (tight[:, 2:] > tight[:, :2]).all(axis=1)
    boxes[changed & sound] = tight[changed & sound]
    return boxes
