"""Error measures of 3D pose, as defined in the literature.

Predictions and truth are (..., J, 3) in the same unit.

Every function gives one number per pose, (...,), unless it says otherwise; take the mean yourself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


def joint_errors(predicted: Floats, truth: Floats) -> Doubles:
    """Distance of each joint, (..., J)."""
    _check(predicted, truth)
    return np.asarray(np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1))


def mpjpe(predicted: Floats, truth: Floats) -> Doubles:
    """Mean per-joint position error, protocol 1 (Ionescu et al. 2014)."""
    return np.asarray(joint_errors(predicted, truth).mean(axis=-1))


def n_mpjpe(predicted: Floats, truth: Floats) -> Doubles:
    """MPJPE after scaling each pose by its best factor (protocol 3, Rhodin et al. 2018)."""
    return mpjpe(scale_align(predicted, truth), truth)


def p_mpjpe(predicted: Floats, truth: Floats) -> Doubles:
    """MPJPE after the similarity transform that fits best, protocol 2."""
    return mpjpe(procrustes_align(predicted, truth), truth)


def mpjve(predicted: Floats, truth: Floats) -> Doubles:
    """Mean per-joint velocity error: MPJPE of the differences between frames.

    Source: Pavllo et al. 2019, section 5.

    Args:
        predicted, truth: (..., T, J, 3) consecutive frames.

    Returns:
        (..., T - 1) per frame, in the unit of the positions.
    """
    return mpjpe(np.diff(predicted, axis=-3), np.diff(truth, axis=-3))


def pck(predicted: Floats, truth: Floats, threshold: float = 0.150) -> Doubles:
    """Share of joints with an error within a threshold.

    With metres and 0.150: 3DPCK (Mehta et al. 2017).
    """
    return np.asarray((joint_errors(predicted, truth) <= threshold).mean(axis=-1))


def auc(predicted: Floats, truth: Floats, highest: float = 0.150, steps: int = 31) -> Doubles:
    """Area under the 3DPCK curve (Mehta et al. 2017).

    Thresholds are from 0 to ``highest`` in equal steps.
    """
    thresholds = np.linspace(0, highest, steps)
    errors = joint_errors(predicted, truth)
    return np.asarray((errors[..., None] <= thresholds).mean(axis=(-2, -1)))


def scale_align(predicted: Floats, truth: Floats) -> Doubles:
    """Scale each pose about its origin to fit the truth in the least-squares sense."""
    _check(predicted, truth)
    predicted = predicted.astype(np.float64)
    scale = (predicted * truth).sum((-2, -1)) / np.maximum((predicted**2).sum((-2, -1)), 1e-12)
    return np.asarray(scale[..., None, None] * predicted)


def procrustes_align(predicted: Floats, truth: Floats) -> Doubles:
    """Rotate, scale and move each pose to fit the truth by least squares.

    Source: Kabsch 1976, Umeyama 1991.
    """
    _check(predicted, truth)
    predicted, truth = predicted.astype(np.float64), truth.astype(np.float64)
    mean_predicted, mean_truth = predicted.mean(-2, keepdims=True), truth.mean(-2, keepdims=True)
    a, b = predicted - mean_predicted, truth - mean_truth
    u, s, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    # A reflection is not a motion: turn the last singular vector around where the determinant is negative.
    sign = np.sign(np.linalg.det(u @ vt))
    s[..., -1] *= sign
    u[..., :, -1] *= sign[..., None]
    scale = s.sum(-1) / np.maximum((a**2).sum((-2, -1)), 1e-12)
    return np.asarray(scale[..., None, None] * (a @ (u @ vt)) + mean_truth)


def _check(predicted: Floats, truth: Floats) -> None:
    if predicted.shape != truth.shape or predicted.ndim < 2 or predicted.shape[-1] != 3:
        raise ShapeError(f"expected two arrays (..., J, 3) of one shape, got {predicted.shape} and {truth.shape}")
