"""Root trajectory in camera space: fits the lifted skeleton to its keypoints."""

from __future__ import annotations

import numpy as np

from vp3d_cli.camera import to_rays
from vp3d_cli.skeletons import COCO_LIMBS, H36M_LIMBS
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray

_REWEIGHTINGS = 3
# Depths are limited to this range; outside it the fit has no meaning.
_MIN_DEPTH_M, _MAX_DEPTH_M = 0.3, 100.0
# Weight of interpolated frames relative to the mean weight of known ones.
_FILLED_WEIGHT = 0.01


def fit_trajectory(
    joints_3d: FloatArray, keypoints: FloatArray, scores: FloatArray, intrinsics: tuple[float, float, float, float]
) -> tuple[DoubleArray, DoubleArray]:
    """Fit the root position of each frame to the keypoints of the limbs by least squares.

    A joint ``J`` moved by the root ``t`` projects to the ray ``(u, v, 1)`` if ``J_x + t_x = u (J_z + t_z)``, and the
    same for y: two equations per joint, linear in ``t``. Each is weighted by the confidence of the keypoint and divided
    by the depth of the joint, which converts metres to image distance. Joints with large residuals have less weight
    (Huber).

    Args:
        joints_3d: (T, 17, 3) root-relative joints, camera axes, metres; finite.
        keypoints: (T, 17, 2) COCO keypoints in pixels; NaN where missing.
        scores: (T, 17) confidence 0..1.
        intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        (T, 3) metres in camera space, NaN where fewer than three joints are seen; (T,) weight of each frame: the sum
        of the weights of its joints, 0 where the root is NaN.
    """
    joints = joints_3d[:, H36M_LIMBS].astype(np.float64)
    rays = to_rays(keypoints[:, COCO_LIMBS].astype(np.float64), intrinsics)
    seen = np.isfinite(rays).all(axis=-1) & (scores[:, COCO_LIMBS] > 0)
    rays = np.where(seen[..., None], rays, 0.0)
    confidence = np.where(seen, scores[:, COCO_LIMBS], 0.0).astype(np.float64)
    weights, depth = confidence, np.ones(confidence.shape)
    root = np.zeros((len(joints), 3))
    for _ in range(_REWEIGHTINGS):
        root = _solve(joints, rays, weights / depth)
        root[:, 2] = np.clip(root[:, 2], _MIN_DEPTH_M, _MAX_DEPTH_M)
        depth = np.maximum(joints[..., 2] + root[:, None, 2], _MIN_DEPTH_M)
        placed = joints + root[:, None]
        off = np.linalg.norm(placed[..., :2] / depth[..., None] - rays, axis=-1)
        typical = (off * confidence).sum(-1, keepdims=True) / np.maximum(confidence.sum(-1, keepdims=True), 1e-9)
        weights = confidence / np.maximum(1.0, off / np.maximum(2 * typical, 1e-9))
    enough = seen.sum(axis=1) >= 3
    root[~enough] = np.nan
    return root, np.where(enough, weights.sum(axis=1), 0.0)


def _solve(joints: DoubleArray, rays: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Solve the weighted normal equations of all frames, (T, 3)."""
    w = weights**2
    u, v = rays[..., 0], rays[..., 1]
    b_x, b_y = u * joints[..., 2] - joints[..., 0], v * joints[..., 2] - joints[..., 1]
    total = w.sum(-1)
    matrix = np.zeros((len(joints), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = total
    matrix[:, 0, 2] = matrix[:, 2, 0] = -(w * u).sum(-1)
    matrix[:, 1, 2] = matrix[:, 2, 1] = -(w * v).sum(-1)
    matrix[:, 2, 2] = (w * (u * u + v * v)).sum(-1)
    matrix += 1e-9 * np.eye(3)
    right = np.stack([(w * b_x).sum(-1), (w * b_y).sum(-1), -(w * (u * b_x + v * b_y)).sum(-1)], axis=-1)
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])


def smooth_trajectory(
    root: DoubleArray, weights: DoubleArray, rate_hz: float, *, depth_s: float = 0.25, across_s: float = 0.05
) -> DoubleArray:
    """Smooth a trajectory: strongly in depth, weakly in the image plane.

    One camera gives the position in the image to a few millimetres, but the depth only from the size of the person,
    about ten times less accurately. So the logarithm of the depth and the image position are smoothed separately.

    Args:
        root: (T, 3) metres, evenly spaced in time. NaN and positions behind the camera are interpolated.
        weights: (T,) weight of each frame; 0 where unknown.
        rate_hz: frames per second.
        depth_s, across_s: standard deviations of the two Gaussian kernels, seconds.

    Returns:
        (T, 3) metres; all NaN if nothing is known.
    """
    # Positions at or behind the camera are errors, and their depth has no logarithm.
    known = np.isfinite(root).all(axis=1) & (root[:, 2] > 0) & (weights > 0)
    if not known.any():
        return np.full_like(root, np.nan)
    certain = np.where(known[:, None], root, 1.0)
    depth = np.exp(_smooth(np.log(certain[:, 2:]), known, weights, depth_s * rate_hz))
    place = _smooth(certain[:, :2] / certain[:, 2:], known, weights, across_s * rate_hz)
    return np.concatenate([place * depth, depth], axis=1)


def _smooth(values: DoubleArray, known: BoolArray, weights: DoubleArray, sigma: float) -> DoubleArray:
    """Smooth (T, C); unknown frames are interpolated linearly between smoothed neighbours."""
    filled = np.where(known, weights, _FILLED_WEIGHT * weights[known].mean())
    smoothed = _local_linear_fit(_interpolate(values, known), filled, sigma)
    if known.all():
        return smoothed
    # A frame beside a gap may be an outlier: interpolate the gap again between smoothed frames.
    return _local_linear_fit(np.where(known[:, None], values, _interpolate(smoothed, known)), filled, sigma)


def _interpolate(values: DoubleArray, known: BoolArray) -> DoubleArray:
    frames, there = np.arange(len(values)), np.flatnonzero(known)
    columns = [np.interp(frames, there, values[there, c]) for c in range(values.shape[1])]
    return np.stack(columns, axis=1)


def _local_linear_fit(values: DoubleArray, weights: DoubleArray, sigma: float) -> DoubleArray:
    """Local linear regression of (T, C) with Gaussian weights, unbiased at the edges."""
    if sigma <= 0 or len(values) == 1:
        return values
    reach = int(np.ceil(4 * sigma))
    offsets = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)

    def sums(signal: DoubleArray, power: int) -> DoubleArray:
        taps = kernel * offsets**power
        padded = np.pad(signal, (reach, reach))
        return np.asarray(np.convolve(padded, taps[::-1], mode="valid"))

    s0, s1, s2 = (sums(weights, power) for power in (0, 1, 2))
    ridge = 1e-3 * s0 * sigma**2
    out = np.empty_like(values)
    for c in range(values.shape[1]):
        middle = values[:, c].mean()
        signal = weights * (values[:, c] - middle)
        r0, r1 = sums(signal, 0), sums(signal, 1)
        out[:, c] = middle + ((s2 + ridge) * r0 - s1 * r1) / (s0 * (s2 + ridge) - s1**2)
    return out
