"""Rotations and forward kinematics of jointed skeletons, for whole clips at once.

Quaternions are (w, x, y, z), of length 1. Matrices turn column vectors: ``turned = matrix @ vector``. NaN in, NaN out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vp3d_cli.errors import ConfigError
from vp3d_cli.types import DoubleArray, FloatArray

EULER_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
# Below this cosine of the middle angle the outer two turn about one axis (gimbal lock), and the last is set to 0.
_GIMBAL_LOCK = 1e-6


def matrix_from_quaternion(quaternions: DoubleArray | FloatArray) -> DoubleArray:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(quaternions.astype(np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_matrix(matrices: DoubleArray) -> DoubleArray:
    """Unit quaternions (..., 4), w >= 0, of rotation matrices (..., 3, 3).

    Source: S. W. Shepperd, Quaternion from rotation matrix, J. Guidance and Control 1(3), 1978: of the four ways to
    compute it, that with the largest divisor.
    """
    m = matrices.astype(np.float64)
    xx, yy, zz = (m[..., i, i] for i in range(3))
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    ways = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.diagonal(ways, axis1=-2, axis2=-1), axis=-1)
    chosen = np.take_along_axis(ways, best[..., None, None], axis=-2)[..., 0, :]
    sign = np.where(chosen[..., :1] < 0, -1.0, 1.0)
    return np.asarray(sign * chosen / np.linalg.norm(chosen, axis=-1, keepdims=True))


def without_sign_flips(quaternions: DoubleArray) -> DoubleArray:
    """Choose the sign of each quaternion (t, ..., 4) that is nearest to the frame before.

    q and -q are the same rotation.
    """
    dots = (quaternions[1:] * quaternions[:-1]).sum(axis=-1)
    flips = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    result: DoubleArray = quaternions.copy()
    result[1:] *= flips[..., None]
    return result


def global_rotations(rotations: DoubleArray, parents: Sequence[int]) -> DoubleArray:
    """Rotations of all joints against the axes of the root's frame of reference.

    Args:
        rotations: (..., J, 3, 3) of each joint against its parent.
        parents: J indices, each smaller than its child's; -1 for the root.
    """
    result: DoubleArray = rotations.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[..., joint, :, :] = result[..., parent, :, :] @ rotations[..., joint, :, :]
    return result


def local_rotations(turns: DoubleArray, parents: Sequence[int]) -> DoubleArray:
    """Return the rotations (..., J, 3, 3) of joints relative to their parents.

    The inverse of :func:`global_rotations`.
    """
    result: DoubleArray = turns.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[..., joint, :, :] = np.swapaxes(turns[..., parent, :, :], -1, -2) @ turns[..., joint, :, :]
    return result


def joint_positions(
    turns: DoubleArray, bone_offsets: DoubleArray | FloatArray, root: DoubleArray | FloatArray, parents: Sequence[int]
) -> DoubleArray:
    """Forward kinematics: positions (t, J, 3).

    Args:
        turns: (t, J, 3, 3) global rotations.
        bone_offsets: (J, 3) each joint relative to its parent in the rest pose.
        root: (t, 3) position of the root joint.
        parents: J indices, each smaller than its child's; -1 for the root.
    """
    result: DoubleArray = np.empty(turns.shape[:-1], np.float64)
    for joint, parent in enumerate(parents):
        if parent < 0:
            result[:, joint] = root
        else:
            result[:, joint] = result[:, parent] + turns[:, parent] @ bone_offsets[joint].astype(np.float64)
    return result


def rest_positions(bone_offsets: DoubleArray | FloatArray, parents: Sequence[int]) -> DoubleArray:
    """Positions (J, 3) of the joints in the rest pose, the root at the origin."""
    still = np.tile(np.eye(3), (1, len(parents), 1, 1))
    return np.asarray(joint_positions(still, bone_offsets, np.zeros((1, 3)), parents)[0])


def best_rotations(points: DoubleArray, onto: DoubleArray) -> DoubleArray:
    """Return the least-squares rotations (t, 3, 3) of points (t, N, 3) onto others.

    Both sets are taken relative to their means.

    Source: W. Kabsch, A solution for the best rotation to relate two sets of vectors, Acta Cryst. A32, 1976.
    """
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (onto, points))
    u, _, v = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    u[..., -1] *= np.linalg.det(u @ v)[:, None]
    return np.asarray(u @ v)


def euler_angles(matrices: DoubleArray, order: str) -> DoubleArray:
    """Return Euler angles about the moving axes, as BVH uses them.

    They are continuous along the first axis.

    Args:
        matrices: (t, ..., 3, 3) rotations.
        order: such as ``"ZXY"``: the matrix is R_z R_x R_y.

    Returns:
        (t, ..., 3) degrees, in the order of the axes in ``order``; the outer two may pass 180 degrees.

    Raises:
        ConfigError: ``order`` is none of :data:`EULER_ORDERS`.
    """
    if order not in EULER_ORDERS:
        raise ConfigError(f"unknown rotation order {order!r}; known: {', '.join(EULER_ORDERS)}")
    i, j, k = ("XYZ".index(axis) for axis in order)
    e = 1.0 if (j - i) % 3 == 1 else -1.0
    m = matrices
    middle = np.arcsin(np.clip(e * m[..., i, k], -1.0, 1.0))
    locked = np.hypot(m[..., j, k], m[..., k, k]) < _GIMBAL_LOCK
    first = np.where(locked, np.arctan2(e * m[..., k, j], m[..., j, j]), np.arctan2(-e * m[..., j, k], m[..., k, k]))
    last = np.where(locked, 0.0, np.arctan2(-e * m[..., i, j], m[..., i, i]))
    return np.degrees(_continuous(np.stack([first, middle, last], axis=-1)))


def _continuous(angles: DoubleArray) -> DoubleArray:
    """Choose the Euler angles that are nearest to the frame before.

    Two triples, and multiples of 360 degrees, give the same rotation.
    """
    result: DoubleArray = angles.copy()
    for t in range(1, len(angles)):
        first, middle, last = np.moveaxis(angles[t], -1, 0)
        other = np.stack([first + np.pi, np.pi - middle, last + np.pi], axis=-1)
        near = [way - 2 * np.pi * np.round((way - result[t - 1]) / (2 * np.pi)) for way in (angles[t], other)]
        cost = [np.abs(way - result[t - 1]).sum(axis=-1, keepdims=True) for way in near]
        result[t] = np.where(cost[1] < cost[0], near[1], near[0])
    return result
