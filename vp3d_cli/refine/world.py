"""World space: the motion upright, on a floor, with feet that stay where they stand.

The camera is taken not to move, so that one rotation serves the whole clip and everyone in it. ``upright.py`` finds
which way is up, ``contacts.py`` when feet stand, ``planting.py`` holds them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError
from vp3d_cli.refine.body_scale import ANKLES, HIP, frame_rate, unit
from vp3d_cli.refine.contacts import find_contacts
from vp3d_cli.refine.floor import find_levels, standing_of
from vp3d_cli.refine.foot_locking import calm_depth, correct_depth, plant, raise_above_floor
from vp3d_cli.refine.gravity import Footprints, Person, up_direction
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, check_shape, stretches

_ON_ONES_FEET_M = 0.5  # a hip is higher than this above feet that carry it
_ROUNDS = 3  # up direction and contacts depend on each other


@dataclass(frozen=True)
class WorldMotion:
    """Motion of P people in world space. ``world = rotation @ camera + translation`` before feet are planted.

    Attributes:
        joints_world: of each person (t, 17, 3) metres, z up, floor at 0, y the camera's forward direction on the
            floor, x right; NaN where absent.
        rotation: (3, 3) camera axes to world axes.
        translation: (3,) metres: the camera's place, (0, 0, its height above the floor).
        contacts: of each person (t, 2) frames in which the left and the right foot stand.
    """

    joints_world: list[FloatArray]
    rotation: DoubleArray
    translation: DoubleArray
    contacts: list[BoolArray]


@dataclass(frozen=True)
class _Part:
    """Uninterrupted frames of one person, counted from their first."""

    person: int
    frames: slice
    placed: DoubleArray  # (t, 17, 3) camera space
    trust: DoubleArray  # (t,)


def to_world(
    joints_3d: Sequence[FloatArray],
    trajectory: Sequence[FloatArray],
    confidence: Sequence[NDArray[np.floating]] | None,
    times_s: DoubleArray,
    first: Sequence[int] | None = None,
) -> WorldMotion:
    """Stand everyone on a floor.

    Args:
        joints_3d: of each of P people (t, 17, 3) root-relative, camera axes, metres; NaN where not in view.
        trajectory: of each (t, 3) root in camera space, metres.
        confidence: of each (t,) trust in each frame, or None for equal trust.
        times_s: (T,) seconds, rising, of all frames of the video.
        first: of each the first of their t frames; 0 if None.

    Returns:
        The same people in world space. Bone lengths are unchanged: bodies are shifted, and legs bent by some
        centimetres to hold a standing foot.

    Raises:
        ShapeError: shapes differ.
    """
    trusts = [np.ones(len(joints)) for joints in joints_3d] if confidence is None else confidence
    starts = [0] * len(joints_3d) if first is None else first
    if not len(joints_3d) == len(trajectory) == len(trusts) == len(starts):
        counts = f"{len(joints_3d)}, {len(trajectory)}, {len(trusts)} and {len(starts)}"
        raise ShapeError(f"joints_3d, trajectory, confidence and first are of {counts} people")
    people = [_person(*arrays, times_s) for arrays in zip(joints_3d, trajectory, trusts, starts, strict=True)]
    rate = frame_rate(times_s)
    parts = _parts(people, [root.astype(np.float64) for root in trajectory], rate)
    rotation = rotation_from_up(np.array([0.0, -1.0, 0.0]))
    contacts: list[BoolArray] = []
    if parts:
        footprints = Footprints.none()
        for _ in range(_ROUNDS):
            rotation = rotation_from_up(up_direction(people, footprints))
            contacts = [find_contacts(part.placed, rotation, rate) for part in parts]
            footprints = _footprints(parts, contacts, rotation)
    turned = [part.placed @ rotation.T for part in parts]
    standings = [
        standing_of(part.person, body, feet, part.trust, rate)
        for part, body, feet in zip(parts, turned, contacts, strict=True)
    ]
    levels = find_levels(standings, turned, len(people))
    out = [np.full(joints.shape, np.nan, np.float32) for joints in joints_3d]
    standing = [np.zeros((len(joints), 2), np.bool_) for joints in joints_3d]
    for part, body, feet, under in zip(parts, turned, contacts, levels.under, strict=True):
        body = body - [0.0, 0.0, levels.offsets[part.person]]
        body = body + correct_depth(body, feet, under, part.trust, rate)[:, None]
        body = plant(body, feet, under, rate) - [0.0, 0.0, levels.floor]
        body[..., 2] += raise_above_floor(body, rate)[:, None]
        out[part.person][part.frames], standing[part.person][part.frames] = body, feet
    return WorldMotion(out, rotation, np.array([0.0, 0.0, -levels.floor]), standing)


def rotation_from_up(up: DoubleArray) -> DoubleArray:
    """(3, 3) world axes in camera axes as rows: x right, y the camera's forward direction on the floor, z up."""
    forward = np.array([0.0, 0.0, 1.0])
    if abs(up @ forward) > 0.98:  # looking straight down or up: the top of the image is forward
        forward = np.array([0.0, -1.0, 0.0]) * np.sign(-(up @ forward))
    y = unit(forward - (forward @ up) * up)
    return np.stack([np.cross(y, up), y, up])


def _person(
    joints: FloatArray, root: FloatArray, trust: NDArray[np.floating], first: int, times_s: DoubleArray
) -> Person:
    """One of those who are to be stood on a floor.

    Raises:
        ShapeError: arrays of different length, or longer than the video.
    """
    sizes: dict[str, int] = {}
    check_shape("joints_3d", joints, ("t", 17, 3), sizes)
    check_shape("trajectory", root, ("t", 3), sizes)
    check_shape("confidence", trust, ("t",), sizes)
    check_shape(f"times_s[{first}:]", times_s[first : first + sizes["t"]], ("t",), sizes)
    weight = np.clip(np.nan_to_num(trust.astype(np.float64)), 0.0, 1.0)
    return Person(joints.astype(np.float64), weight, first, times_s)


def _parts(people: list[Person], roots: list[DoubleArray], rate: float) -> list[_Part]:
    """Split at gaps; the jitter of the distance goes."""
    parts = []
    for i, (person, path) in enumerate(zip(people, roots, strict=True)):
        there = np.asarray(np.isfinite(person.joints[:, HIP]).all(axis=1) & np.isfinite(path).all(axis=1))
        for start, stop in stretches(there):
            frames = slice(start, stop)
            root = calm_depth(path[frames], rate)
            parts.append(_Part(i, frames, person.joints[frames] + root[:, None], person.weight[frames]))
    return parts


def _footprints(parts: list[_Part], contacts: list[BoolArray], rotation: DoubleArray) -> Footprints:
    """One row for each time that a foot stood and carried: who crawls drags them."""
    places, people, trusts = [], [], []
    for part, standing in zip(parts, contacts, strict=True):
        for foot in range(2):
            for start, stop in stretches(standing[:, foot]):
                place = np.median(part.placed[start:stop, ANKLES[foot]], axis=0)
                hip = np.median(part.placed[start:stop, HIP], axis=0)
                if (hip - place) @ rotation[2] < _ON_ONES_FEET_M:
                    continue
                places.append(place)
                people.append(part.person)
                trusts.append(float(part.trust[start:stop].mean()))
    if not places:
        return Footprints.none()
    return Footprints(np.stack(places), np.array(people), np.array(trusts))
