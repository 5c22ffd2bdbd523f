"""Fit a skeleton with constant bone lengths to joint positions.

Method: Gauss-Newton over the rotations of every frame.
"""

from __future__ import annotations

import numpy as np

from vp3d_cli.camera import rotation_from_axis_angle
from vp3d_cli.kinematics import joint_positions
from vp3d_cli.refine.body import HIP, THORAX, unit_vectors
from vp3d_cli.refine.rig.rest_pose import SPINE, chest_axes, hip_axes, trunk_axes
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import DoubleArray, FloatArray

PARENTS = H36M17.parents
_BENDING = [joint for joint in range(H36M17.num_joints) if joint in PARENTS]  # joints whose rotation moves others
_ROUNDS = 3
# Metres squared: keeps the rotations that no position tells of, the twist of limbs, where they are.
_DAMPING = 1e-5
# Frames in one go; more only take more memory.
_BLOCK = 512


def swing(vectors: DoubleArray, onto: DoubleArray) -> DoubleArray:
    """Return the smallest rotations (..., 3, 3) from unit vectors to others.

    Opposite vectors are rotated about some perpendicular one.
    """
    axis = np.cross(vectors, onto)
    cosine = (vectors * onto).sum(-1)[..., None, None]
    zero = np.zeros_like(axis[..., 0])
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis.shape, 3)
    return np.asarray(np.eye(3) + skew + skew @ skew / np.maximum(1 + cosine, 1e-3))


def first_guess(joints: DoubleArray, offsets: FloatArray) -> DoubleArray:
    """Return initial global rotations (t, 17, 3, 3) for the fit to ``joints`` (t, 17, 3).

    They rotate the bones of the rest pose to their directions in ``joints``.
    """
    turns: DoubleArray = np.tile(np.eye(3), (*joints.shape[:2], 1, 1))
    turns[:, HIP], turns[:, SPINE], turns[:, THORAX] = hip_axes(joints), trunk_axes(joints), chest_axes(joints)
    for joint, parent in enumerate(PARENTS):
        if parent in (HIP, SPINE, THORAX, -1):
            continue
        above = turns[:, PARENTS[parent]]
        wanted = unit_vectors(joints[:, joint] - joints[:, parent])
        local = (np.swapaxes(above, -1, -2) @ wanted[..., None])[..., 0]
        rest = np.broadcast_to(unit_vectors(offsets[joint].astype(np.float64)), local.shape)
        turns[:, parent] = above @ swing(rest, local)
    return turns


def fit_rotations(joints: DoubleArray, offsets: FloatArray, weights: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Fit rotations and root positions of a skeleton to joints by weighted least squares.

    Args:
        joints: (t, 17, 3) metres; finite.
        offsets: (17, 3) metres, the rest pose.
        weights: (t, 17) what residuals are multiplied with.

    Returns:
        Global rotations (t, 17, 3, 3) and root positions (t, 3). The twist of bones with one child is arbitrary.
    """
    turns, root = first_guess(joints, offsets), joints[:, HIP].copy()
    for start in range(0, len(joints), _BLOCK):
        block = slice(start, start + _BLOCK)
        for _ in range(_ROUNDS):
            turns[block], root[block] = _step(turns[block], root[block], joints[block], offsets, weights[block])
    return turns, root


def _step(
    turns: DoubleArray, root: DoubleArray, joints: DoubleArray, offsets: FloatArray, weights: DoubleArray
) -> tuple[DoubleArray, DoubleArray]:
    """Do one Gauss-Newton step.

    The unknowns are small rotations of :data:`_BENDING` and a shift of the root.
    """
    residual = weights[..., None] * (joints - joint_positions(turns, offsets, root, PARENTS))
    slopes = (weights[..., None, None] * _jacobian(turns, offsets)).reshape(len(turns), 3 * len(PARENTS), -1)
    turned = np.swapaxes(slopes, -1, -2)
    normal = turned @ slopes
    normal[:, np.arange(normal.shape[-1]), np.arange(normal.shape[-1])] += _DAMPING
    change = np.linalg.solve(normal, turned @ residual.reshape(len(turns), -1, 1))[..., 0]
    steps = change.reshape(len(turns), -1, 3)
    moved = turns.copy()
    moved[:, _BENDING] = rotation_from_axis_angle(steps[:, 1:]) @ turns[:, _BENDING]
    return moved, root + steps[:, 0]


def _jacobian(turns: DoubleArray, offsets: FloatArray) -> DoubleArray:
    """Return the Jacobian (t, 17, 3, 3 + 3 * len(_BENDING)) of the joints.

    It is by a shift of the root and small global rotations.
    """
    frames, count = turns.shape[:2]
    result = np.zeros((frames, count, 3, 1 + len(_BENDING), 3))
    result[:, :, :, 0] = np.eye(3)
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            continue
        result[:, joint, :, 1:] = result[:, parent, :, 1:]
        bone = turns[:, parent] @ offsets[joint].astype(np.float64)
        x, y, z = bone[:, 0], bone[:, 1], bone[:, 2]
        zero = np.zeros_like(x)
        minus_skew = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=-1).reshape(frames, 3, 3)
        result[:, joint, :, 1 + _BENDING.index(parent)] += minus_skew
    return result.reshape(frames, count, 3, -1)
