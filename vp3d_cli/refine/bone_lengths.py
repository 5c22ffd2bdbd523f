"""A body does not stretch: the length that a bone has most of the time corrects the depth of its ends."""

from __future__ import annotations

import numpy as np

from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import FloatArray

_MIRRORED = list(H36M17.flip_order)
# How far a bone's usual length is trusted against the depth that the lifter gives it, as a ratio of variances. Chosen
# on held-out motion with simulated detections (docs/smoothing.md).
_TRUST = 0.5
# How wrong in length a bone that lies across the line of sight is taken to be, as a part of how wrong one is that
# points along it. From 0.05 to 0.3 it makes no difference.
_ACROSS = 0.1
_SHORTEST_M = 1e-6


def steady_bones(joints_3d: FloatArray) -> FloatArray:
    """Bring bones nearer to their usual length, by depth alone: across the line of sight one camera sees better.

    The usual length of a bone is its mean over all frames, left and right together. A frame in which the bone lies
    across the line of sight counts most: there its length is seen, elsewhere it is as wrong as its depth. A bone's own
    change of depth z, of a length l that should be L, is one step of least squares that weighs (z' - z)^2 against
    (l' - L)^2 / trust, so a bone that lies across the line of sight, whose length says nothing of its depth, stays.

    Args:
        joints_3d: (T, 17, 3) Human3.6M joints of one person, root-relative, camera axes; finite.

    Returns:
        (T, 17, 3), the root where it was.
    """
    joints = joints_3d.astype(np.float64)
    bones = np.zeros_like(joints)
    for parent, joint in H36M17.bones:
        bones[:, joint] = joints[:, joint] - joints[:, parent]
    lengths = np.linalg.norm(bones, axis=-1)
    slope = bones[..., 2] / np.maximum(lengths, _SHORTEST_M)
    weights = 1 / (_ACROSS**2 + slope**2)
    total, weight = (weights * lengths).sum(axis=0), weights.sum(axis=0)
    usual = (total + total[_MIRRORED]) / (weight + weight[_MIRRORED])
    bones[..., 2] += slope * (usual - lengths) / (_TRUST + slope**2)
    for parent, joint in H36M17.bones:  # from the root outwards
        joints[:, joint] = joints[:, parent] + bones[:, joint]
    return joints.astype(np.float32)
