"""Time and size: the yardsticks by which this package judges motion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, ShapeError
from vp3d_cli.preprocess.smoothing_spline import fit_spline, spread_times
from vp3d_cli.types import DoubleArray

# Below this confidence a keypoint of the embedded detector is off by a fifth of the body size and more, which
# interpolation over a gap of most of a second beats (docs/measurements/detector_noise.md, docs/smoothing.md).
LOW_CONFIDENCE = 0.2
_SIZE_HZ = 0.5  # a person's size in the image changes as they walk to the camera, not as they bow or jump


def checked_times(times_s: NDArray[Any], frames: int) -> DoubleArray:
    """The times as float64.

    Raises:
        ShapeError: there is not one per frame.
        InputError: they are not finite or fall.
    """
    times = np.asarray(times_s, np.float64)
    if times.shape != (frames,):
        raise ShapeError(f"times_s: expected shape ({frames},), one time per frame, got {times.shape}")
    if not np.isfinite(times).all():
        raise InputError(f"times_s: frame {int(np.argmin(np.isfinite(times)))} has no finite time")
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        at = int(falls[0])
        raise InputError(
            f"times_s: frame {at + 1} at {times[at + 1]:.6g} s is earlier than frame {at} at {times[at]:.6g} s; "
            "sort the frames by time"
        )
    return times


def body_size(points: NDArray[Any], scores: NDArray[Any], times_s: NDArray[Any]) -> DoubleArray:
    """Size of a body in each frame: root-mean-square distance of its points from their mean, weighted by confidence.

    It changes slowly, is given for every frame, and does not follow single keypoints. A standing adult seen from the
    front has about 0.50 m (of 1.7 m height).

    Args:
        points: (T, J, D) of any unit; NaN where missing.
        scores: (T, J) confidence; points below ``LOW_CONFIDENCE`` do not count unless a frame has no others.
        times_s: (T,) seconds.

    Returns:
        (T,) positive; 1 where no frame tells.
    """
    seen = np.isfinite(points).all(axis=-1)
    weights = np.where(seen, scores, 0.0)
    sure = np.where(weights >= LOW_CONFIDENCE, weights, 0.0)
    weights = np.where((np.count_nonzero(sure, axis=1) >= 3)[:, None], sure, weights)
    total = np.maximum(weights.sum(axis=1), 1e-12)[:, None]
    known = np.where(seen[..., None], points, 0.0).astype(np.float64)
    centre = (known * weights[..., None]).sum(axis=1) / total
    square = ((known - centre[:, None]) ** 2).sum(axis=-1)
    size = np.sqrt((square * weights).sum(axis=1, keepdims=True) / total)[:, 0]
    told = (np.count_nonzero(weights, axis=1) >= 2) & (size > 0)
    if not told.any():
        return np.ones(len(points))
    times = spread_times(np.asarray(times_s, np.float64))
    held = np.interp(times, times[told], np.log(size[told]))
    slow = fit_spline(held[:, None], times, told + 1e-3, np.zeros(len(times)), _SIZE_HZ, order=1)
    smoothed: DoubleArray = np.exp(slow[:, 0])
    return smoothed
