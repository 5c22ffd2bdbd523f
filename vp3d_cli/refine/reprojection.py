"""Bring lifted joints onto their keypoints: what one camera sees well corrects what a network only guesses."""

from __future__ import annotations

import numpy as np

from vp3d_cli.camera import to_rays
from vp3d_cli.skeletons import COCO_LIMBS, H36M17, H36M_LIMBS
from vp3d_cli.types import DoubleArray, FloatArray

_HIPS = [H36M17.index(joint) for joint in ("left_hip", "right_hip")]
_SHOULDERS = [H36M17.index(joint) for joint in ("left_shoulder", "right_shoulder")]
_SPINE = H36M17.index("spine")
_ABOVE = [H36M17.index(joint) for joint in ("thorax", "neck", "head")]
# Chosen on held-out motion with simulated detections (docs/smoothing.md): the confidence at which a keypoint and the
# lifter are as sure of a joint's place across the line of sight, and the distance in metres, of a body of 1.7 m, at
# which the two are so far apart that the keypoint is rather wrong.
_EVEN_CONFIDENCE = 0.7
_FAR_M = 0.05


def anchor(
    joints_3d: FloatArray,
    root: DoubleArray,
    keypoints: FloatArray,
    scores: FloatArray,
    intrinsics: tuple[float, float, float, float],
) -> tuple[FloatArray, DoubleArray]:
    """Move joints across the line of sight, towards the rays of their keypoints; depths stay as they are.

    A joint goes the more of the way, the more confident its keypoint is and the nearer. Hips and shoulders take the
    middle of the body with them.

    Args:
        joints_3d: (T, 17, 3) Human3.6M joints, root-relative, camera axes, metres, of a body of 1.7 m.
        root: (T, 3) metres in camera space, as :func:`vp3d_cli.refine.trajectory.fit_trajectory` gives it; NaN where
            not known: there nothing moves.
        keypoints: (T, 17, 2) COCO keypoints in pixels; NaN where missing.
        scores: (T, 17) confidence 0..1.
        intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        Joints and root, as they came in.
    """
    limbs = joints_3d[:, H36M_LIMBS] + root[:, None]
    rays = to_rays(keypoints[:, COCO_LIMBS].astype(np.float64), intrinsics)
    way = rays * limbs[..., 2:] - limbs[..., :2]
    known = np.isfinite(way).all(axis=-1)
    way = np.where(known[..., None], way, 0.0)
    sure = np.where(known, scores[:, COCO_LIMBS], 0.0).astype(np.float64) ** 2
    share = sure / (sure + _EVEN_CONFIDENCE**2) / (1 + (way**2).sum(axis=-1) / _FAR_M**2)
    moves = np.zeros((*joints_3d.shape[:2], 2))
    moves[:, H36M_LIMBS] = share[..., None] * way
    middle, shoulders = moves[:, _HIPS].mean(axis=1), moves[:, _SHOULDERS].mean(axis=1)
    moves[:, _ABOVE] = shoulders[:, None]
    moves[:, _SPINE] = (middle + shoulders) / 2
    moves[:, 0] = middle
    joints, root = joints_3d.copy(), root.copy()
    joints[..., :2] += moves - middle[:, None]
    root[:, :2] += middle
    return joints, root
