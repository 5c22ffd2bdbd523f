"""Rest pose of a rig: bone lengths of a person, and joint positions in a T-pose."""

from __future__ import annotations

import numpy as np

from vp3d_cli.refine.body import HIP, HIPS, NECK, THORAX, unit_vectors
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray

SPINE, HEAD = H36M17.index("spine"), H36M17.index("head")
SHOULDERS, ELBOWS, WRISTS = (
    [H36M17.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("shoulder", "elbow", "wrist")
)
_MIRRORED = list(H36M17.flip_order)
# How wrong the length of a bone across the line of sight is, as a part of how wrong that of one along it is: see
# bone_lengths.py, which weighs frames in the same way.
_ACROSS = 0.1
# A bone is never shorter: a length of zero has no direction.
SHORTEST_M = 0.005


def estimate_rest_pose(joints: DoubleArray, rays: DoubleArray, scores: DoubleArray) -> FloatArray:
    """Estimate the bone offsets (17, 3) of one person in the T-pose.

    It is the T-pose of :class:`
    vp3d_cli.pose.Rig`; left and right are alike.

    Limbs are stretched out; trunk, neck and head keep the angles that they have on average.

    Args:
        joints: (t, 17, 3) Human3.6M joints, metres, in any axes; finite.
        rays: (t, 17, 3) unit vectors from the camera to the joints, in the same axes.
        scores: (t, 17) confidence of each joint, 0..1.
    """
    lengths = np.maximum(_bone_lengths(joints, rays, scores), SHORTEST_M)
    directions = np.zeros((H36M17.num_joints, 3))
    directions[HIPS] = directions[SHOULDERS] = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]
    directions[ELBOWS] = directions[WRISTS] = directions[SHOULDERS]
    directions[[SPINE, THORAX]] = [0.0, 0.0, 1.0]
    for joint in range(H36M17.num_joints):
        if joint != HIP and not directions[joint].any():  # knees and ankles; neck and head follow below
            directions[joint] = [0.0, 0.0, -1.0]
    chest = chest_axes(joints)
    trust = scores.mean(axis=1)
    left, right = (_mean_direction(joints[:, side] - joints[:, THORAX], chest, trust) for side in SHOULDERS)
    directions[SHOULDERS[0]] = _or_else(left + right * [-1.0, 1.0, 1.0], directions[SHOULDERS[0]])
    directions[SHOULDERS[1]] = directions[SHOULDERS[0]] * [-1.0, 1.0, 1.0]
    for joint, base in ((NECK, THORAX), (HEAD, NECK)):
        mean = _mean_direction(joints[:, joint] - joints[:, base], chest, trust)
        directions[joint] = _or_else(mean * [0.0, 1.0, 1.0], np.array([0.0, 0.0, 1.0]))
    return np.asarray(lengths[:, None] * directions, np.float32)


def hip_axes(joints: DoubleArray) -> DoubleArray:
    """Return the axes (t, 3, 3) of the pelvis.

    Columns: to the left hip, backwards, and up along the spine.
    """
    return _axes(joints[:, HIPS[0]] - joints[:, HIPS[1]], joints[:, SPINE] - joints[:, HIP])


def chest_axes(joints: DoubleArray) -> DoubleArray:
    """Return the axes (t, 3, 3) of the chest.

    Columns: to the left shoulder, backwards, and up along the spine.
    """
    return _axes(joints[:, SHOULDERS[0]] - joints[:, SHOULDERS[1]], joints[:, THORAX] - joints[:, SPINE])


def trunk_axes(joints: DoubleArray) -> DoubleArray:
    """Return the axes (t, 3, 3) of the spine, as columns.

    They point up along it, and are rotated half as far as the shoulders are from the hips.
    """
    up = unit_vectors(joints[:, THORAX] - joints[:, SPINE])
    across = [square_to(joints[:, pair[0]] - joints[:, pair[1]], up) for pair in (HIPS, SHOULDERS)]
    x = square_to(across[0] + across[1], up)
    return np.stack([x, np.cross(up, x), up], axis=-1)


def square_to(vectors: DoubleArray, axis: DoubleArray) -> DoubleArray:
    """Return unit vectors (..., 3) along the part of ``vectors`` perpendicular to ``axis``.

    ``axis`` holds unit vectors.

    Where there is no such part, some perpendicular vector.
    """
    part = vectors - (vectors * axis).sum(-1, keepdims=True) * axis
    size = np.linalg.norm(part, axis=-1, keepdims=True)
    other = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis), axis=-1)])
    return unit_vectors(np.where(size > 1e-6, part, other))


def _axes(left: DoubleArray, up: DoubleArray) -> DoubleArray:
    x = square_to(left, np.zeros_like(left))
    z = square_to(up, x)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _bone_lengths(joints: DoubleArray, rays: DoubleArray, scores: DoubleArray) -> DoubleArray:
    """Return the bone lengths (17,) in metres: weighted medians over all frames.

    Left and right are taken together. Visible bones perpendicular to the ray have the highest weight.
    """
    parents = [max(parent, 0) for parent in H36M17.parents]
    bones = joints - joints[:, parents]
    lengths = np.linalg.norm(bones, axis=-1)
    slope = (bones * rays).sum(-1) / np.maximum(lengths, SHORTEST_M)
    weights = np.minimum(scores, scores[:, parents]) / (_ACROSS**2 + slope**2) + 1e-6
    both, trusts = (np.concatenate([values, values[:, _MIRRORED]]) for values in (lengths, weights))
    return np.array([_weighted_median(both[:, joint], trusts[:, joint]) for joint in range(both.shape[1])])


def _weighted_median(values: DoubleArray, weights: DoubleArray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def _mean_direction(vectors: DoubleArray, axes: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Weighted mean direction (3,) of vectors (t, 3) in axes (t, 3, 3)."""
    local = (np.swapaxes(axes, -1, -2) @ unit_vectors(vectors)[..., None])[..., 0]
    return unit_vectors((local * (weights + 1e-6)[:, None]).sum(axis=0))


def _or_else(vector: DoubleArray, other: DoubleArray) -> DoubleArray:
    """A vector at length 1, or another where it has no direction: joints on one spot."""
    return unit_vectors(vector) if float(np.linalg.norm(vector)) > 1e-6 else other


def in_view(joints: DoubleArray | FloatArray) -> BoolArray:
    """(t,) frames in which all joints are known."""
    return np.asarray(np.isfinite(joints).all(axis=(1, 2)))
