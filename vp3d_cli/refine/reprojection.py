"""Reprojection refinement: moves lifted joints towards the rays of their keypoints."""

from __future__ import annotations

import numpy as np

from vp3d_cli.camera import to_rays
from vp3d_cli.skeletons import COCO_LIMBS, H36M17, H36M_LIMBS
from vp3d_cli.types import DoubleArray, FloatArray

_HIPS = [H36M17.index(joint) for joint in ("left_hip", "right_hip")]
_SHOULDERS = [H36M17.index(joint) for joint in ("left_shoulder", "right_shoulder")]
_SPINE = H36M17.index("spine")
_ABOVE = [H36M17.index(joint) for joint in ("thorax", "neck", "head")]
# Chosen on held-out motion with simulated detections (docs/measurements/refinement.md): the confidence at which
# keypoint and lifter have equal weight, and the distance between both, metres of a body of 1.7 m, beyond which the
# keypoint is probably wrong.
_EQUAL_CONFIDENCE = 0.7
_FAR_M = 0.05


def refine_reprojection(
    joints_3d: FloatArray,
    root: DoubleArray,
    keypoints: FloatArray,
    scores: FloatArray,
    intrinsics: tuple[float, float, float, float],
) -> tuple[FloatArray, DoubleArray]:
    """Move joints perpendicular to the line of sight towards the rays of their keypoints.

    Depths do not change. A joint moves by c^2 / (c^2 + e^2) / (1 + (d / f)^2) of its distance d, for the confidence c
    of its keypoint. The trunk joints follow hips and shoulders.

    Args:
        joints_3d: (T, 17, 3) Human3.6M joints, root-relative, camera axes, metres, of a body of 1.7 m.
        root: (T, 3) metres in camera space from :func:`vp3d_cli.refine.trajectory.fit_trajectory`; NaN where unknown,
            and there no joint moves.
        keypoints: (T, 17, 2) COCO keypoints in pixels; NaN where missing.
        scores: (T, 17) confidence 0..1.
        intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        Refined joints and root, shapes as given.
    """
    limbs = joints_3d[:, H36M_LIMBS] + root[:, None]
    rays = to_rays(keypoints[:, COCO_LIMBS].astype(np.float64), intrinsics)
    offset = rays * limbs[..., 2:] - limbs[..., :2]
    known = np.isfinite(offset).all(axis=-1)
    offset = np.where(known[..., None], offset, 0.0)
    confidence = np.where(known, scores[:, COCO_LIMBS], 0.0).astype(np.float64) ** 2
    share = confidence / (confidence + _EQUAL_CONFIDENCE**2) / (1 + (offset**2).sum(axis=-1) / _FAR_M**2)
    moves = np.zeros((*joints_3d.shape[:2], 2))
    moves[:, H36M_LIMBS] = share[..., None] * offset
    middle, shoulders = moves[:, _HIPS].mean(axis=1), moves[:, _SHOULDERS].mean(axis=1)
    moves[:, _ABOVE] = shoulders[:, None]
    moves[:, _SPINE] = (middle + shoulders) / 2
    moves[:, 0] = middle
    joints, root = joints_3d.copy(), root.copy()
    joints[..., :2] += moves - middle[:, None]
    root[:, :2] += middle
    return joints, root
