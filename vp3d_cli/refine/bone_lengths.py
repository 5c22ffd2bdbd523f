"""Bone-length refinement: corrects joint depths so that bone lengths vary less over time."""

from __future__ import annotations

import numpy as np

from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import FloatArray

_MIRRORED = list(H36M17.flip_order)
# Variance of the mean bone length over variance of the lifted depth; a smaller value corrects more. Chosen on held-out
# motion with simulated detections (docs/measurements/refinement.md).
_LENGTH_VARIANCE = 0.5
# Relative length error of a bone perpendicular to the line of sight, compared with one along it. Values from 0.05 to
# 0.3 give the same result.
_PERPENDICULAR_ERROR = 0.1
_SHORTEST_M = 1e-6


def refine_bone_lengths(joints_3d: FloatArray) -> FloatArray:
    """Move bones towards their mean length by changing their depth only.

    The mean length of a bone is taken over all frames, left and right together. Frames in which the bone is
    perpendicular to the line of sight have the largest weight: there its length does not depend on its depth. The
    change of the depth z of a bone of length l and mean length L is one least-squares step that minimizes
    (z' - z)^2 + (l' - L)^2 / variance. A bone perpendicular to the line of sight does not change.

    Args:
        joints_3d: (T, 17, 3) Human3.6M joints of one person, root-relative, camera axes, metres; finite.

    Returns:
        (T, 17, 3) refined joints; the root does not move.
    """
    joints = joints_3d.astype(np.float64)
    bones = np.zeros_like(joints)
    for parent, joint in H36M17.bones:
        bones[:, joint] = joints[:, joint] - joints[:, parent]
    lengths = np.linalg.norm(bones, axis=-1)
    slope = bones[..., 2] / np.maximum(lengths, _SHORTEST_M)
    weights = 1 / (_PERPENDICULAR_ERROR**2 + slope**2)
    total, weight = (weights * lengths).sum(axis=0), weights.sum(axis=0)
    usual = (total + total[_MIRRORED]) / (weight + weight[_MIRRORED])
    bones[..., 2] += slope * (usual - lengths) / (_LENGTH_VARIANCE + slope**2)
    for parent, joint in H36M17.bones:  # from the root outwards
        joints[:, joint] = joints[:, parent] + bones[:, joint]
    return joints.astype(np.float32)
