"""Resampling between frame rates; gaps stay gaps."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, InputError, ShapeError
from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.preprocess.timestamps import separate_times, validated_times
from vp3d_cli.types import BoolArray, DoubleArray

_Float = TypeVar("_Float", bound=np.floating[Any])

# A low-pass filter prevents aliasing at lower rates. Half the amplitude is left at this share of the new rate (the
# Nyquist frequency is 0.5); at 30 Hz, 8 Hz keeps 96 % and 25 Hz 2 %.
_CUTOFF_PER_RATE = 0.45
_FILTER_ORDER = 3
# Rates whose ratio is below this count as equal: 30 and 29.97 frames per second, or times rounded to milliseconds.
_SAME_RATE = 1.05
# A last frame less than this share of a step beyond the new times adds no further step: rounded timestamps.
_COVERED = 0.05
# Series are resampled together up to this number of samples, which limits the memory for long videos.
_SAMPLES_AT_ONCE = 1 << 17


def uniform_times(times_s: NDArray[Any], rate_hz: float) -> DoubleArray:
    """Evenly spaced times from the first to the last, or up to one step beyond it.

    Args:
        times_s: (T,) rising, T >= 1.
        rate_hz: new times per second.

    Returns:
        (T',) with T' >= 1.

    Raises:
        ConfigError: the rate is not positive.
        InputError: no times, or they do not rise.
        ShapeError: ``times_s`` is not one-dimensional.
    """
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise ConfigError(f"rate_hz must be positive, got {rate_hz}")
    times = validated_times(times_s, np.asarray(times_s).size)
    if not len(times):
        raise InputError("uniform_times: there are no frames")
    steps = max(0, math.ceil((times[-1] - times[0]) * rate_hz - _COVERED))
    uniform: DoubleArray = times[0] + np.arange(steps + 1) / rate_hz
    return uniform


def resample(values: NDArray[_Float], times_s: NDArray[Any], new_times_s: NDArray[Any]) -> NDArray[_Float]:
    """Interpolate values at new times with cubic splines, after a low-pass filter if needed.

    Each value of a frame is a separate series. NaN splits a series; there is no interpolation across NaN. A new time
    has a value where the nearest frame has one. Before the first and after the last frame the series is extrapolated
    linearly, by one step at most.

    Args:
        values: (T, ...) floats, NaN where missing.
        times_s: (T,) rising.
        new_times_s: (T',) rising.

    Returns:
        (T', ...) of the same type.

    Raises:
        InputError: times do not rise.
        ShapeError: there is not one time per frame.
    """
    if values.ndim < 1:
        raise ShapeError(f"values: expected shape (T, ...), got {values.shape}")
    times, new = validated_times(times_s, len(values)), validated_times(new_times_s, np.asarray(new_times_s).size)
    result = np.full((len(new), *values.shape[1:]), np.nan, values.dtype)
    if not values.size or not len(new):
        return result
    times = separate_times(times)
    flat = values.reshape(len(values), -1).astype(np.float64)
    out = result.reshape(len(new), -1)
    known = np.isfinite(flat)
    patterns: dict[bytes, list[int]] = {}
    for column in range(flat.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in patterns.values():
        here = known[:, columns[0]]
        if not here.any():
            continue
        at_once = max(1, _SAMPLES_AT_ONCE // len(flat))
        for first in range(0, len(columns), at_once):
            some = columns[first : first + at_once]
            out[:, some] = _resample_pattern(flat[:, some], here, times, new)
    return result


def _resample_pattern(values: DoubleArray, known: BoolArray, times_s: DoubleArray, new_s: DoubleArray) -> DoubleArray:
    """Resample (T, C) values; all columns are finite where ``known`` (T,) is True."""
    frames = np.flatnonzero(known)
    breaks = np.append(True, np.diff(frames) > 1)
    rows, at = values[frames], times_s[frames]
    old_step, new_step = _usual_step(times_s), _usual_step(new_s)
    if new_step > _SAME_RATE * old_step > 0:
        series = np.cumsum(breaks).astype(np.float64)
        rows = fit_spline(rows, at, np.ones(len(at)), series, _CUTOFF_PER_RATE / new_step, order=_FILTER_ORDER)
    # At both ends of the recording, extrapolate by one step at most.
    reach = max(old_step, new_step) * _SAME_RATE if old_step > 0 else np.inf
    result = np.full((len(new_s), values.shape[1]), np.nan)
    starts = np.flatnonzero(breaks)
    for start, stop in zip(starts, np.append(starts[1:], len(frames)), strict=True):
        first, last = int(frames[start]), int(frames[stop - 1])
        low = (times_s[first - 1] + times_s[first]) / 2 if first > 0 else times_s[0] - reach
        high = (times_s[last] + times_s[last + 1]) / 2 if last + 1 < len(times_s) else times_s[-1] + reach
        here = slice(*np.searchsorted(new_s, (low - 1e-9, high + 1e-9)))
        result[here] = _evaluate(rows[start:stop], at[start:stop], new_s[here])
    return result


def _usual_step(times_s: DoubleArray) -> float:
    """Median step in seconds; 0 for a single time."""
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0


def _evaluate(values: DoubleArray, times_s: DoubleArray, new_s: DoubleArray) -> DoubleArray:
    """Cubic spline through (T, C) at new times; linear extrapolation beyond the ends."""
    if len(values) == 1 or not len(new_s):
        return np.repeat(values[:1], len(new_s), axis=0)
    inside = np.clip(new_s, times_s[0], times_s[-1])
    result: DoubleArray = scipy.interpolate.CubicSpline(times_s, values, axis=0)(inside)
    for near, far, beyond in ((0, 1, new_s < times_s[0]), (-1, -2, new_s > times_s[-1])):
        slope = (values[near] - values[far]) / (times_s[near] - times_s[far])
        result[beyond] += (new_s[beyond] - times_s[near])[:, None] * slope
    return result
