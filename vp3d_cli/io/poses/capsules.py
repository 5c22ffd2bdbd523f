"""A simple body: one capsule around each bone, as triangles, for formats that hold meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.kinematics import rest_positions
from vp3d_cli.types import DoubleArray, FloatArray

_AROUND = 12  # vertices around a capsule
_RINGS = 4  # from the widest ring of a cap to its pole
# Radius by the joint at the end of the bone, metres; the rest are _LIMB_M.
_RADII = {
    "spine": 0.10, "thorax": 0.11, "neck": 0.05, "head": 0.085,
    "left_hip": 0.08, "right_hip": 0.08, "left_knee": 0.07, "right_knee": 0.07, "left_ankle": 0.05, "right_ankle": 0.05,
    "left_shoulder": 0.06, "right_shoulder": 0.06,
}  # fmt: skip
_LIMB_M = 0.04


@dataclass(frozen=True)
class BodyMesh:
    """Triangles of a body in its rest pose.

    Attributes:
        positions, normals: (V, 3) metres.
        joints: (V,) the joint that carries each vertex.
        triangles: (F, 3) vertex indices, counter-clockwise from outside.
    """

    positions: FloatArray
    normals: FloatArray
    joints: NDArray[np.uint8]
    triangles: NDArray[np.uint32]


def body_mesh(names: Sequence[str], parents: Sequence[int], offsets: DoubleArray) -> BodyMesh:
    """Capsules around all bones of a rest pose; each moves with the joint at its upper end.

    Args:
        names: J joint names.
        parents: J indices; -1 for the root.
        offsets: (J, 3) metres.
    """
    places = rest_positions(offsets, parents)
    parts: list[tuple[DoubleArray, DoubleArray, int]] = []
    for joint, parent in enumerate(parents):
        if parent >= 0:
            radius = _RADII.get(names[joint], _LIMB_M)
            parts.append((*_capsule(places[parent], places[joint], radius), parent))
    faces = _capsule_faces()
    count = len(parts[0][0])
    return BodyMesh(
        np.concatenate([part[0] for part in parts]).astype(np.float32),
        np.concatenate([part[1] for part in parts]).astype(np.float32),
        np.repeat([part[2] for part in parts], count).astype(np.uint8),
        np.concatenate([faces + count * i for i in range(len(parts))]).astype(np.uint32),
    )


def _capsule(start: DoubleArray, stop: DoubleArray, radius: float) -> tuple[DoubleArray, DoubleArray]:
    """Vertices and normals (V, 3) of a capsule.

    Its rings run from the pole at ``start`` to the pole at ``stop``.
    """
    length = float(np.linalg.norm(stop - start))
    axis = (stop - start) / length if length > 1e-9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    side /= np.linalg.norm(side)
    third = np.cross(axis, side)
    round_ = np.arange(_AROUND) * 2 * np.pi / _AROUND
    circle = np.cos(round_)[:, None] * side + np.sin(round_)[:, None] * third
    tilts = np.concatenate([np.linspace(-np.pi / 2, 0, _RINGS + 1), np.linspace(0, np.pi / 2, _RINGS + 1)])
    normals = np.cos(tilts)[:, None, None] * circle + np.sin(tilts)[:, None, None] * axis
    centres = np.where((np.arange(len(tilts)) <= _RINGS)[:, None], start, stop)
    vertices = centres[:, None] + radius * normals
    return vertices.reshape(-1, 3), normals.reshape(-1, 3)


def _capsule_faces() -> NDArray[np.int64]:
    """(F, 3): two triangles between neighbours on neighbouring rings, but one at the poles."""
    rings = 2 * (_RINGS + 1)
    ring, at = np.meshgrid(np.arange(rings - 1), np.arange(_AROUND), indexing="ij")
    a, b = ring * _AROUND + at, ring * _AROUND + (at + 1) % _AROUND
    first, second = np.stack([a, b, b + _AROUND], axis=-1), np.stack([a, b + _AROUND, a + _AROUND], axis=-1)
    return np.concatenate([first[1:].reshape(-1, 3), second[:-1].reshape(-1, 3)])
