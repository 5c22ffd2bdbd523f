"""Weighted smoothing spline in tension, fitted to many series at once.

It minimizes, for samples y at times t with weights w,

    sum_i w_i dt_i |x_i - y_i|^2 + sum_k (2 pi f_k)^(-2m) (|x^(m)|^2 + |x'|^2 / s^(2m-2)) dt

where x^(m) is the m-th divided difference over neighbouring samples: Whittaker (1923), Eilers, "A perfect smoother"
(Anal. Chem. 2003); the second term is the spline in tension (Schweikert 1966). With weights 1 and without tension this
is the zero-phase low-pass filter 1 / (1 + (f / f_k)^(2m)): half the amplitude at the cutoff, at every frame rate, also
with uneven times. Unlike a filter it takes weights, bridges missing samples, allows a cutoff per sample, and needs no
padding at the ends. The matrix is banded, so the cost is linear in the number of samples.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.types import BoolArray, DoubleArray

# Cycles per frame: limit of double precision. At 30 frames per second this is a period of 30 s.
_MIN_CUTOFF = 1e-3


def neighbour_steps(times_s: DoubleArray, joined: BoolArray) -> DoubleArray:
    """Time that each sample represents: half the distance between its neighbours, (N,) seconds.

    At an end of a series it is the distance to the one neighbour.

    Args:
        times_s: (N,) seconds.
        joined: (N - 1,) whether sample i and i + 1 belong to one series.
    """
    gap = np.where(joined, np.diff(times_s), 0.0)
    before, after = np.append(0.0, gap), np.append(gap, 0.0)
    sides = (before > 0).astype(np.float64) + (after > 0)
    return np.where(sides > 0, (before + after) / np.maximum(sides, 1), 1.0)


def fit_spline(
    values: DoubleArray,
    times_s: DoubleArray,
    weights: DoubleArray,
    series: DoubleArray,
    cutoff_hz: DoubleArray | float,
    *,
    order: int = 2,
    tension_s: float | None = None,
) -> DoubleArray:
    """Fit the spline to many concatenated series.

    Args:
        values: (N, D); finite, also where the weight is 0.
        times_s: (N,) seconds, rising within each series.
        weights: (N,) at least 0; every series needs a positive one. Zeros also need ``tension_s`` or ``order`` 1:
            otherwise a series with fewer than ``order`` positive weights has no unique solution.
        series: (N,) neighbours with equal numbers belong to one series.
        cutoff_hz: (N,) or one for all; positive.
        order: m above.
        tension_s: s above: across a gap of several s the spline is straight; None for no tension.

    Returns:
        (N, D) fitted values.
    """
    count = len(values)
    if not count:
        return np.array(values)
    steps = neighbour_steps(times_s, series[1:] == series[:-1])
    cutoff = np.maximum(np.broadcast_to(cutoff_hz, count), _MIN_CUTOFF / steps)
    bands = np.zeros((order + 1, count))
    bands[0] = weights * steps
    _add_penalty(bands, times_s, series, cutoff, order, order, 1.0)
    if tension_s is not None:
        _add_penalty(bands, times_s, series, cutoff, order, 1, tension_s ** (2 - 2 * order))
    # Subtract the mean of each series: differences of large pixel coordinates would lose digits.
    first = np.flatnonzero(np.append(True, series[1:] != series[:-1]))
    lengths = np.diff(np.append(first, count))
    total = np.maximum(np.add.reduceat(weights, first), 1e-300)[:, None]
    level = np.repeat(np.add.reduceat(values * weights[:, None], first) / total, lengths, axis=0)
    loads = (weights * steps)[:, None] * (values - level)
    bands = bands[: min(order + 1, count)]
    fitted = scipy.linalg.solveh_banded(bands, loads, lower=True, check_finite=False, overwrite_ab=True)
    result: DoubleArray = fitted + level
    return result


def _add_penalty(
    bands: DoubleArray,
    times_s: DoubleArray,
    series: DoubleArray,
    cutoff_hz: DoubleArray,
    order: int,
    degree: int,
    scale: float,
) -> None:
    """Add the penalty on divided differences of one degree to the bands of the normal equations."""
    rows = len(times_s) - degree
    if rows <= 0:
        return
    whole = series[degree:] == series[:-degree]
    moments = [times_s[k : k + rows] for k in range(degree + 1)]
    coefficients = []
    for k in range(degree + 1):
        product = np.ones(rows)
        for other in range(degree + 1):
            if other != k:
                product *= np.where(whole, moments[k] - moments[other], 1.0)
        coefficients.append(math.factorial(degree) / product)
    cutoff = np.mean([cutoff_hz[k : k + rows] for k in range(degree + 1)], axis=0)
    step = (moments[degree] - moments[0]) / degree
    strength = np.where(whole, scale * step * (2 * np.pi * cutoff) ** (-2.0 * order), 0.0)
    for low in range(degree + 1):
        for high in range(low, degree + 1):
            bands[high - low, low : low + rows] += strength * coefficients[low] * coefficients[high]
