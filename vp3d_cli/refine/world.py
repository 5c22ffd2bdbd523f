"""World space: gravity-aligned motion on a floor, with foot locking.

The camera is assumed to be static within a shot, so one rotation applies to the whole shot and to all people.
``gravity.py`` estimates the up direction, ``contacts.py`` the foot contacts, ``floor.py`` the floor;
``foot_locking.py`` keeps feet in contact at fixed positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError
from vp3d_cli.refine.body import ANKLES, HIP, frame_rate, unit_vectors
from vp3d_cli.refine.confidence import GUESSED
from vp3d_cli.refine.contacts import find_foot_contacts
from vp3d_cli.refine.floor import AssumedHeight, contact_heights, find_floor_levels
from vp3d_cli.refine.foot_locking import floor_clearance, floor_depth_correction, lock_feet, smooth_depth
from vp3d_cli.refine.gravity import Footprints, PersonMotion, estimate_up
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, check_shape, stretches

_STANDING_HIP_M = 0.5  # smallest height of the hip above a foot that carries the body
_ROUNDS = 3  # up direction and contacts depend on each other
_USUAL_HEIGHT_M = 1.7
# Confidence of feet that were not seen: they tell the floor only where no others do.
_LEAST_CONFIDENCE = 0.01


@dataclass(frozen=True)
class WorldMotion:
    """Motion of P people in world space.

    Before depth correction and foot locking, ``world = rotation @ camera + translation``.

    Attributes:
        joints_world: for each person (t, 17, 3) metres, z up, floor at z = 0, y the camera's forward direction on the
            floor, x right; NaN where absent.
        rotation: (3, 3) camera axes to world axes.
        translation: (3,) metres: position of the camera, (0, 0, height above the floor).
        contacts: for each person (t, 2) frames in which the left and the right foot are in contact.
        scales: (P,) factor of size and distance of each person that puts them on the common floor; ``joints_world`` are
            scaled already.
    """

    joints_world: list[FloatArray]
    rotation: DoubleArray
    translation: DoubleArray
    contacts: list[BoolArray]
    scales: DoubleArray


@dataclass(frozen=True)
class _Segment:
    """Consecutive frames of one person, counted from their first frame."""

    person: int
    frames: slice
    joints_cam: DoubleArray  # (t, 17, 3) camera space
    confidence: DoubleArray  # (t,)
    foot_confidence: DoubleArray  # (t, 2)


def to_world(
    joints_3d: Sequence[FloatArray],
    trajectory: Sequence[FloatArray],
    confidence: Sequence[NDArray[np.floating]] | None,
    times_s: DoubleArray,
    first: Sequence[int] | None = None,
    *,
    foot_confidence: Sequence[NDArray[np.floating]] | None = None,
    heights: Sequence[AssumedHeight] | None = None,
) -> WorldMotion:
    """Transform the motion of all people from camera space to world space.

    Args:
        joints_3d: for each of P people (t, 17, 3) root-relative, camera axes, metres; NaN where not in view.
        trajectory: for each person (t, 3) root in camera space, metres.
        confidence: for each person (t,) confidence of each frame, or None for equal weights.
        times_s: (T,) seconds, rising, of all frames of the video.
        first: for each person the index of the first of their t frames; 0 if None.
        foot_confidence: for each person (t, 2) how well left and right ankle are seen, 0..1; None for well.
        heights: body height of each person under which they were lifted; None for 1.7 m, not certain.

    Returns:
        The same people in world space. Bone lengths do not change but for the scale of each person: bodies are
        shifted, and legs are bent by some centimetres to lock feet in contact.

    Raises:
        ShapeError: the arrays do not have these shapes.
    """
    confidences = [np.ones(len(joints)) for joints in joints_3d] if confidence is None else confidence
    starts = [0] * len(joints_3d) if first is None else first
    if not len(joints_3d) == len(trajectory) == len(confidences) == len(starts):
        counts = f"{len(joints_3d)}, {len(trajectory)}, {len(confidences)} and {len(starts)}"
        raise ShapeError(f"joints_3d, trajectory, confidence and first are of {counts} people")
    people = [
        _checked_person(*arrays, times_s) for arrays in zip(joints_3d, trajectory, confidences, starts, strict=True)
    ]
    known = [AssumedHeight(_USUAL_HEIGHT_M)] * len(people) if heights is None else heights
    feet_seen = [np.ones((len(joints), 2)) for joints in joints_3d] if foot_confidence is None else foot_confidence
    rate = frame_rate(times_s)
    segments = _segments(people, [root.astype(np.float64) for root in trajectory], feet_seen, rate)
    rotation = rotation_from_up(np.array([0.0, -1.0, 0.0]))
    contacts: list[BoolArray] = []
    if segments:
        footprints = Footprints.empty()
        for _ in range(_ROUNDS):
            rotation = rotation_from_up(estimate_up(people, footprints))
            contacts = [find_foot_contacts(segment.joints_cam, rotation, rate) for segment in segments]
            footprints = _footprints(segments, contacts, rotation)
    joints_up = [segment.joints_cam @ rotation.T for segment in segments]
    stood = [
        contact_heights(segment.person, body, feet, segment.foot_confidence, rate)
        for segment, body, feet in zip(segments, joints_up, contacts, strict=True)
    ]
    seen = [not np.size(feet) or float(np.nanmean(feet)) >= GUESSED for feet in feet_seen]
    levels = find_floor_levels(stood, joints_up, known, seen)
    out = [np.full(joints.shape, np.nan, np.float32) for joints in joints_3d]
    contacts_by_person = [np.zeros((len(joints), 2), np.bool_) for joints in joints_3d]
    for segment, body, feet, ground in zip(segments, joints_up, contacts, levels.ground, strict=True):
        body = body * levels.scales[segment.person] - [0.0, 0.0, levels.offsets[segment.person]]
        body = body + floor_depth_correction(body, feet, ground, segment.confidence, rate)[:, None]
        body = lock_feet(body, feet, ground, rate) - [0.0, 0.0, levels.floor]
        body[..., 2] += floor_clearance(body, rate)[:, None]
        out[segment.person][segment.frames], contacts_by_person[segment.person][segment.frames] = body, feet
    return WorldMotion(out, rotation, np.array([0.0, 0.0, -levels.floor]), contacts_by_person, levels.scales)


def rotation_from_up(up: DoubleArray) -> DoubleArray:
    """Rotation (3, 3) from camera axes to world axes for an up direction in camera axes.

    World axes: x right, y the camera's forward direction on the floor, z up.
    """
    forward = np.array([0.0, 0.0, 1.0])
    if abs(up @ forward) > 0.98:  # looking straight down or up: the top of the image is forward
        forward = np.array([0.0, -1.0, 0.0]) * np.sign(-(up @ forward))
    y = unit_vectors(forward - (forward @ up) * up)
    return np.stack([np.cross(y, up), y, up])


def _checked_person(
    joints: FloatArray, root: FloatArray, confidence: NDArray[np.floating], first: int, times_s: DoubleArray
) -> PersonMotion:
    """Check the arrays of one person.

    Raises:
        ShapeError: arrays of different length, or longer than the video.
    """
    sizes: dict[str, int] = {}
    check_shape("joints_3d", joints, ("t", 17, 3), sizes)
    check_shape("trajectory", root, ("t", 3), sizes)
    check_shape("confidence", confidence, ("t",), sizes)
    check_shape(f"times_s[{first}:]", times_s[first : first + sizes["t"]], ("t",), sizes)
    weight = np.clip(np.nan_to_num(confidence.astype(np.float64)), 0.0, 1.0)
    return PersonMotion(joints.astype(np.float64), weight, first, times_s)


def _segments(
    people: list[PersonMotion], roots: list[DoubleArray], feet_seen: Sequence[NDArray[np.floating]], rate: float
) -> list[_Segment]:
    """Split the motion of all people at gaps, with smoothed depth."""
    segments = []
    for i, (person, path, feet) in enumerate(zip(people, roots, feet_seen, strict=True)):
        there = np.asarray(np.isfinite(person.joints[:, HIP]).all(axis=1) & np.isfinite(path).all(axis=1))
        for start, stop in stretches(there):
            frames = slice(start, stop)
            root = smooth_depth(path[frames], rate)
            weight = person.weight[frames]
            own_feet = weight[:, None] * np.clip(feet[frames], _LEAST_CONFIDENCE, 1.0)
            segments.append(_Segment(i, frames, person.joints[frames] + root[:, None], weight, own_feet))
    return segments


def _footprints(segments: list[_Segment], contacts: list[BoolArray], rotation: DoubleArray) -> Footprints:
    """Footprints of all contacts below a high enough hip, so not those of a crawling person."""
    positions, people, confidences = [], [], []
    for segment, feet in zip(segments, contacts, strict=True):
        for foot in range(2):
            for start, stop in stretches(feet[:, foot]):
                position = np.median(segment.joints_cam[start:stop, ANKLES[foot]], axis=0)
                hip = np.median(segment.joints_cam[start:stop, HIP], axis=0)
                if (hip - position) @ rotation[2] < _STANDING_HIP_M:
                    continue
                positions.append(position)
                people.append(segment.person)
                confidences.append(float(segment.foot_confidence[start:stop, foot].mean()))
    if not positions:
        return Footprints.empty()
    return Footprints(np.stack(positions), np.array(people), np.array(confidences))


def to_world_by_shot(
    joints_3d: Sequence[FloatArray],
    trajectory: Sequence[FloatArray],
    confidence: Sequence[NDArray[np.floating]],
    times_s: DoubleArray,
    first: Sequence[int],
    shot_starts: Sequence[int] = (),
    *,
    foot_confidence: Sequence[NDArray[np.floating]] | None = None,
    heights: Sequence[AssumedHeight] | None = None,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Transform the motion of all people to world space, shot by shot.

    Args:
        joints_3d, trajectory, confidence, times_s, first, foot_confidence, heights: see :func:`to_world`.
        shot_starts: frames that begin a new camera shot.

    Returns:
        For each person (t, 17, 3) metres in world space, and (t,) the factor of their size and distance.
    """
    people = len(joints_3d)
    placed = [np.full(joints.shape, np.nan, np.float32) for joints in joints_3d]
    scales = [np.ones(len(joints), np.float32) for joints in joints_3d]
    edges = [0, *sorted({start for start in shot_starts if 0 < start < len(times_s)}), len(times_s)]
    for start, stop in pairwise(edges):
        rows = [_rows(first[i], len(joints_3d[i]), start, stop) for i in range(people)]
        here = [i for i in range(people) if rows[i].stop > rows[i].start]
        if not here:
            continue
        world: WorldMotion = to_world(
            [joints_3d[i][rows[i]] for i in here],
            [trajectory[i][rows[i]] for i in here],
            [confidence[i][rows[i]] for i in here],
            times_s[start:stop],
            [max(first[i] - start, 0) for i in here],
            foot_confidence=None if foot_confidence is None else [foot_confidence[i][rows[i]] for i in here],
            heights=None if heights is None else [heights[i] for i in here],
        )
        for own, i in enumerate(here):
            placed[i][rows[i]], scales[i][rows[i]] = world.joints_world[own], world.scales[own]
    return placed, scales


def _rows(first: int, count: int, start: int, stop: int) -> slice:
    """Return a person's rows that lie between two frames of the video.

    The person has ``count`` frames, from frame ``first``.
    """
    low = min(max(start - first, 0), count)
    return slice(low, max(low, min(stop - first, count)))
