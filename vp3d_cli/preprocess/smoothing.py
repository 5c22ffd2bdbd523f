"""Smoothing without lag that leaves fast motion alone: a spline whose cutoff follows the speed of each joint."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.preprocess.scales import body_size, checked_times
from vp3d_cli.preprocess.smoothing_spline import fit_spline, spread_times
from vp3d_cli.types import DoubleArray, FloatArray, Track2D, check_shape

# Chosen on two opinions of the detector about real clips and on projected motion capture with noise alike them
# (docs/smoothing.md; tools/compare_smoothing.py repeats it).
REST_HZ = 1.5  # cutoff of a joint at rest
HZ_PER_SPEED = 2.5  # added for each body size per second: a running person's wrist passes with 10-20 Hz
PILOT_HZ = 6.0  # cutoff under which the speed is judged
SPEED_HZ = 4.0  # the speed itself is averaged over the 40 ms around a frame
# The error of a keypoint grows about as 1 / confidence (docs/detector_noise.md), its weight is the inverse square.
MIN_WEIGHT = 0.02
# Joints are smoothed together up to so many samples, which bounds the memory that a long video takes.
_SAMPLES_AT_ONCE = 1 << 15


def smooth(track: Track2D, times_s: NDArray[np.floating], strength: float = 1.0) -> Track2D:
    """Smooth a track, without lag, trusting confident keypoints more than others.

    Args:
        track: keypoints in pixels; NaN where missing, which stays NaN and is not smoothed across.
        times_s: (t,) seconds, of the track's own frames; need not be evenly spaced.
        strength: 0 leaves the track as it is, 1 is usual, 2 halves the cutoff frequency.

    Returns:
        The track with smoothed keypoints; scores, boxes and marks are unchanged.

    Raises:
        ConfigError: ``strength`` is negative or not finite.
        InputError: the times do not rise.
        ShapeError: there is not one time per frame.
    """
    times = checked_times(times_s, len(track))
    if _is_off(strength) or not len(track):
        return track
    scores = track.scores.astype(np.float64)
    usual = float(np.median(scores[scores > 0])) if (scores > 0).any() else 1.0
    weights = np.clip(scores / usual, math.sqrt(MIN_WEIGHT), 1.0) ** 2
    body = track.skeleton.body
    size = body_size(track.keypoints[:, body], track.scores[:, body], times)
    keypoints = _smooth(track.keypoints.astype(np.float64), times, weights, size, (strength, strength))
    return replace(track, keypoints=keypoints.astype(np.float32))


def smooth_joints(
    values: NDArray[np.floating],
    times_s: NDArray[np.floating],
    strength: float = 1.0,
    *,
    body_size_m: float | None = None,
    depth: float = 1.0,
) -> FloatArray:
    """Smooth 3D joints (or a trajectory) as :func:`smooth` does keypoints.

    Args:
        values: (T, J, 3) metres; NaN where missing, which stays NaN and is not smoothed across.
        times_s: (T,) seconds.
        strength: as for :func:`smooth`.
        body_size_m: root-mean-square distance of the joints from their mean; None takes it from ``values``, which
            then must hold a body: for a single point give the size of the body that it belongs to.
        depth: how many times as much the third coordinate is smoothed.

    Returns:
        (T, J, 3) smoothed.

    Raises:
        ConfigError: ``strength`` or ``depth`` is negative or not finite, or ``body_size_m`` is not positive, or is
            missing for a single point.
        InputError: the times do not rise.
        ShapeError: ``values`` is not (T, J, 3) or there is not one time per frame.
    """
    sizes: dict[str, int] = {}
    check_shape("values", values, ("T", "J", 3), sizes)
    times = checked_times(times_s, sizes["T"])
    if body_size_m is None:
        if sizes["J"] < 2:
            raise ConfigError("smooth_joints: give body_size_m to smooth a single point")
        size = body_size(values, np.ones(values.shape[:2]), times)
    elif body_size_m > 0:
        size = np.full(sizes["T"], float(body_size_m))
    else:
        raise ConfigError(f"body_size_m must be positive, got {body_size_m}")
    if _is_off(strength) or _is_off(depth * strength) or not len(values):
        return values.astype(np.float32)
    weights = np.ones(values.shape[:2])
    strengths = (strength, strength, depth * strength)
    return _smooth(values.astype(np.float64), times, weights, size, strengths).astype(np.float32)


def _is_off(strength: float) -> bool:
    if not (math.isfinite(strength) and strength >= 0):
        raise ConfigError(f"smoothing strength must be 0 (off) or more, got {strength}; 1 is usual")
    return strength == 0


def _smooth(
    values: DoubleArray, times_s: DoubleArray, weights: DoubleArray, size: DoubleArray, strengths: tuple[float, ...]
) -> DoubleArray:
    """Smooth (T, J, D) with weights (T, J), body size (T,) and D strengths; NaN splits a joint's series."""
    times = spread_times(times_s)
    result = np.array(values)
    at_once = max(1, _SAMPLES_AT_ONCE // len(values))
    for first in range(0, values.shape[1], at_once):
        joints = slice(first, first + at_once)
        result[:, joints] = _smooth_some(values[:, joints], times, weights[:, joints], size, strengths)
    return result


def _smooth_some(
    values: DoubleArray, times: DoubleArray, weights: DoubleArray, size: DoubleArray, strengths: tuple[float, ...]
) -> DoubleArray:
    """Smooth a few joints, (T, J, D): what was seen of each, end to end, in one banded system."""
    seen = np.isfinite(values).all(axis=-1)
    if not seen.any():
        return values
    joint, frame = np.nonzero(seen.T)
    flat, at, weight = values[frame, joint], times[frame], weights[frame, joint]
    apart = (np.diff(frame) != 1) | (np.diff(joint) != 0)
    series = np.cumsum(np.append(0.0, apart))
    pilot = fit_spline(flat, at, weight, series, PILOT_HZ)
    speed = _speed(pilot, at, series) / size[frame]
    speed = fit_spline(speed[:, None], at, np.ones_like(at), series, SPEED_HZ, order=1)[:, 0]
    cutoff = REST_HZ + HZ_PER_SPEED * np.maximum(speed, 0.0)
    result = np.array(values)
    for strength in sorted(set(strengths)):
        alike = [i for i, own in enumerate(strengths) if own == strength]
        result[frame[:, None], joint[:, None], alike] = fit_spline(
            flat[:, alike], at, weight, series, cutoff / strength
        )
    return result


def _speed(values: DoubleArray, times_s: DoubleArray, series: DoubleArray) -> DoubleArray:
    """Speed along each series, central differences, one-sided at the ends; 0 for a single sample."""
    joined = series[1:] == series[:-1]
    forward = np.where(joined[:, None], np.diff(values, axis=0), 0.0)
    steps = np.where(joined, np.diff(times_s), 0.0)
    none = np.zeros((1, values.shape[1]))
    moved = np.concatenate([none, forward]) + np.concatenate([forward, none])
    lasted = np.append(0.0, steps) + np.append(steps, 0.0)
    speed: DoubleArray = np.linalg.norm(moved, axis=1) / np.where(lasted > 0, lasted, 1.0)
    return speed
