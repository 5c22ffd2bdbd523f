"""World space: the motion upright, on a floor, with feet that stay where they stand.

The camera is taken not to move, so that one rotation serves the whole clip and everyone in it. ``upright.py`` finds
which way is up, ``contacts.py`` when feet stand, ``planting.py`` holds them there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.ground.body import ANKLES, HIP, frame_rate, unit
from vp3d_cli.ground.contacts import find_contacts
from vp3d_cli.ground.levels import find_levels, standing_of
from vp3d_cli.ground.planting import calm_depth, correct_depth, plant, raise_above_floor
from vp3d_cli.ground.upright import Footprints, up_direction
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, check_shape, stretches

_ON_ONES_FEET_M = 0.5  # a hip is higher than this above feet that carry it
_ROUNDS = 3  # up direction and contacts depend on each other


@dataclass(frozen=True)
class WorldMotion:
    """Motion in world space; P people, T frames. ``world = rotation @ camera + translation`` before feet are planted.

    Attributes:
        joints_world: (P, T, 17, 3) metres, z up, floor at 0, y the camera's forward direction on the floor, x right;
            NaN where absent.
        rotation: (3, 3) camera axes to world axes.
        translation: (3,) metres: the camera's place, (0, 0, its height above the floor).
        contacts: (P, T, 2) frames in which the left and the right foot stand.
    """

    joints_world: FloatArray
    rotation: DoubleArray
    translation: DoubleArray
    contacts: BoolArray


@dataclass(frozen=True)
class _Part:
    """Uninterrupted frames of one person."""

    person: int
    frames: slice
    placed: DoubleArray  # (t, 17, 3) camera space
    trust: DoubleArray  # (t,)


def to_world(
    joints_3d: FloatArray,
    trajectory: FloatArray,
    confidence: NDArray[np.floating] | None,
    times_s: DoubleArray,
) -> WorldMotion:
    """Stand everyone on a floor.

    Args:
        joints_3d: (P, T, 17, 3) root-relative, camera axes, metres; NaN where not in view.
        trajectory: (P, T, 3) root in camera space, metres.
        confidence: (P, T) trust in each frame, or None for equal trust.
        times_s: (T,) seconds, rising.

    Returns:
        The same people in world space. Bone lengths are unchanged: bodies are shifted, and legs bent by some
        centimetres to hold a standing foot.

    Raises:
        ShapeError: shapes differ.
    """
    sizes: dict[str, int] = {}
    check_shape("joints_3d", joints_3d, ("P", "T", 17, 3), sizes)
    check_shape("trajectory", trajectory, ("P", "T", 3), sizes)
    check_shape("times_s", times_s, ("T",), sizes)
    weights = np.ones(joints_3d.shape[:2])
    if confidence is not None:
        check_shape("confidence", confidence, ("P", "T"), sizes)
        weights = np.clip(np.nan_to_num(confidence.astype(np.float64)), 0.0, 1.0)
    joints = joints_3d.astype(np.float64)
    rate = frame_rate(times_s)
    parts = _parts(joints, trajectory.astype(np.float64), weights, rate)
    rotation = rotation_from_up(np.array([0.0, -1.0, 0.0]))
    contacts: list[BoolArray] = []
    if parts:
        footprints = Footprints.none()
        for _ in range(_ROUNDS):
            rotation = rotation_from_up(up_direction(joints, weights, times_s, footprints))
            contacts = [find_contacts(part.placed, rotation, rate) for part in parts]
            footprints = _footprints(parts, contacts, rotation)
    turned = [part.placed @ rotation.T for part in parts]
    standings = [
        standing_of(part.person, body, feet, part.trust, rate)
        for part, body, feet in zip(parts, turned, contacts, strict=True)
    ]
    levels = find_levels(standings, turned, len(joints))
    out = np.full(joints.shape, np.nan)
    standing = np.zeros((*joints.shape[:2], 2), np.bool_)
    for part, body, feet, under in zip(parts, turned, contacts, levels.under, strict=True):
        body = body - [0.0, 0.0, levels.offsets[part.person]]
        body = body + correct_depth(body, feet, under, part.trust, rate)[:, None]
        body = plant(body, feet, under, rate) - [0.0, 0.0, levels.floor]
        body[..., 2] += raise_above_floor(body, rate)[:, None]
        out[part.person, part.frames], standing[part.person, part.frames] = body, feet
    return WorldMotion(out.astype(np.float32), rotation, np.array([0.0, 0.0, -levels.floor]), standing)


def rotation_from_up(up: DoubleArray) -> DoubleArray:
    """(3, 3) world axes in camera axes as rows: x right, y the camera's forward direction on the floor, z up."""
    forward = np.array([0.0, 0.0, 1.0])
    if abs(up @ forward) > 0.98:  # looking straight down or up: the top of the image is forward
        forward = np.array([0.0, -1.0, 0.0]) * np.sign(-(up @ forward))
    y = unit(forward - (forward @ up) * up)
    return np.stack([np.cross(y, up), y, up])


def _parts(joints: DoubleArray, trajectory: DoubleArray, weights: DoubleArray, rate: float) -> list[_Part]:
    """Split at gaps; the jitter of the distance goes."""
    parts = []
    for person in range(len(joints)):
        there = np.isfinite(joints[person, :, HIP]).all(axis=1) & np.isfinite(trajectory[person]).all(axis=1)
        for start, stop in stretches(there):
            frames = slice(start, stop)
            root = calm_depth(trajectory[person, frames], rate)
            parts.append(_Part(person, frames, joints[person, frames] + root[:, None], weights[person, frames]))
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
