"""Body scale: the unit of length in which this package measures motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.preprocess.timestamps import separate_times
from vp3d_cli.types import DoubleArray

# A keypoint of the default detector below this confidence is off by a fifth of the body scale or more; interpolation
# over a gap of most of a second is better (docs/measurements/detector_noise.md, docs/measurements/smoothing.md).
LOW_CONFIDENCE = 0.2
_SCALE_HZ = 0.5  # the scale follows a person who walks to the camera, but not one who bows or jumps


def body_scale(points: NDArray[Any], scores: NDArray[Any], times_s: NDArray[Any]) -> DoubleArray:
    """Body scale of each frame: root-mean-square distance of the joints from their mean.

    Joints are weighted by confidence. The scale changes slowly, exists for every frame and does not follow single
    keypoints. A standing adult of 1.7 m seen from the front has a body scale of about 0.50 m.

    Args:
        points: (T, J, D) in any unit; NaN where missing.
        scores: (T, J) confidence; points below ``LOW_CONFIDENCE`` count only in frames with fewer than three others.
        times_s: (T,) seconds.

    Returns:
        (T,) positive, in the unit of the points; 1 if no frame has two points.
    """
    seen = np.isfinite(points).all(axis=-1)
    weights = np.where(seen, scores, 0.0)
    reliable = np.where(weights >= LOW_CONFIDENCE, weights, 0.0)
    weights = np.where((np.count_nonzero(reliable, axis=1) >= 3)[:, None], reliable, weights)
    total = np.maximum(weights.sum(axis=1), 1e-12)[:, None]
    known = np.where(seen[..., None], points, 0.0).astype(np.float64)
    centre = (known * weights[..., None]).sum(axis=1) / total
    square = ((known - centre[:, None]) ** 2).sum(axis=-1)
    size = np.sqrt((square * weights).sum(axis=1, keepdims=True) / total)[:, 0]
    valid = (np.count_nonzero(weights, axis=1) >= 2) & (size > 0)
    if not valid.any():
        return np.ones(len(points))
    times = separate_times(np.asarray(times_s, np.float64))
    held = np.interp(times, times[valid], np.log(size[valid]))
    slow = fit_spline(held[:, None], times, valid + 1e-3, np.zeros(len(times)), _SCALE_HZ, order=1)
    smoothed: DoubleArray = np.exp(slow[:, 0])
    return smoothed
