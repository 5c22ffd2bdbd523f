"""Smoothing of joints without lag; the cutoff frequency follows the speed of each joint."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.preprocess.body_scale import body_scale
from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.preprocess.timestamps import separate_times, validated_times
from vp3d_cli.types import DoubleArray, FloatArray, Track2D, check_shape

# Chosen on real clips and on projected motion capture with detector noise (docs/measurements/smoothing.md;
# benchmarks/smoothing.py repeats the measurement).
REST_HZ = 1.5  # cutoff of a joint at rest
HZ_PER_SPEED = 2.5  # added per body scale per second: the wrist of a runner gets 10-20 Hz
PILOT_HZ = 6.0  # cutoff of the first pass, from which the speed is estimated
SPEED_HZ = 4.0  # cutoff of the speed: an average over the 40 ms around a frame
# The error of a keypoint grows about as 1 / confidence (docs/measurements/detector_noise.md), so its weight grows as
# the square of the confidence.
MIN_WEIGHT = 0.02
# Joints are smoothed together up to this number of samples, which limits the memory for long videos.
_SAMPLES_AT_ONCE = 1 << 15


def smooth(track: Track2D, times_s: NDArray[np.floating], strength: float = 1.0) -> Track2D:
    """Smooth the keypoints of a track without lag, weighted by confidence.

    Args:
        track: keypoints in pixels. NaN stays NaN and splits a series.
        times_s: (t,) seconds, of the track's own frames; may be unevenly spaced.
        strength: 0 does not smooth, 1 is the default, 2 halves the cutoff frequency.

    Returns:
        The track with smoothed keypoints; scores, boxes and ``observed`` are unchanged.

    Raises:
        ConfigError: ``strength`` is negative or not finite.
        InputError: the times do not rise.
        ShapeError: there is not one time per frame.
    """
    times = validated_times(times_s, len(track))
    if _is_off(strength) or not len(track):
        return track
    scores = track.scores.astype(np.float64)
    usual = float(np.median(scores[scores > 0])) if (scores > 0).any() else 1.0
    weights = np.clip(scores / usual, math.sqrt(MIN_WEIGHT), 1.0) ** 2
    body = track.skeleton.body
    size = body_scale(track.keypoints[:, body], track.scores[:, body], times)
    keypoints = _smooth(track.keypoints.astype(np.float64), times, weights, size, (strength, strength))
    return replace(track, keypoints=keypoints.astype(np.float32))


def smooth_joints(
    values: NDArray[np.floating],
    times_s: NDArray[np.floating],
    strength: float = 1.0,
    *,
    body_scale_m: float | None = None,
    depth: float = 1.0,
) -> FloatArray:
    """Smooth 3D joints or a trajectory in the same way as :func:`smooth`.

    Args:
        values: (T, J, 3) metres. NaN stays NaN and splits a series.
        times_s: (T,) seconds.
        strength: as in :func:`smooth`.
        body_scale_m: root-mean-square distance of the joints from their mean; None computes it from ``values``. For a
            single point, give the body scale of its person.
        depth: factor of the strength for the third coordinate.

    Returns:
        (T, J, 3) smoothed.

    Raises:
        ConfigError: ``strength`` or ``depth`` is negative or not finite, or ``body_scale_m`` is not positive, or is
            missing for a single point.
        InputError: the times do not rise.
        ShapeError: ``values`` is not (T, J, 3) or there is not one time per frame.
    """
    sizes: dict[str, int] = {}
    check_shape("values", values, ("T", "J", 3), sizes)
    times = validated_times(times_s, sizes["T"])
    if body_scale_m is None:
        if sizes["J"] < 2:
            raise ConfigError("smooth_joints: give body_scale_m to smooth a single point")
        size = body_scale(values, np.ones(values.shape[:2]), times)
    elif body_scale_m > 0:
        size = np.full(sizes["T"], float(body_scale_m))
    else:
        raise ConfigError(f"body_scale_m must be positive, got {body_scale_m}")
    if _is_off(strength) or _is_off(depth * strength) or not len(values):
        return values.astype(np.float32)
    weights = np.ones(values.shape[:2])
    strengths = (strength, strength, depth * strength)
    return _smooth(values.astype(np.float64), times, weights, size, strengths).astype(np.float32)


def _is_off(strength: float) -> bool:
    if not (math.isfinite(strength) and strength >= 0):
        raise ConfigError(f"smoothing strength must be 0 (off) or more, got {strength}; the default is 1")
    return strength == 0


def _smooth(
    values: DoubleArray, times_s: DoubleArray, weights: DoubleArray, size: DoubleArray, strengths: tuple[float, ...]
) -> DoubleArray:
    """Smooth (T, J, D) with weights (T, J), body scale (T,), D strengths; NaN splits a series."""
    times = separate_times(times_s)
    result = np.array(values)
    at_once = max(1, _SAMPLES_AT_ONCE // len(values))
    for first in range(0, values.shape[1], at_once):
        joints = slice(first, first + at_once)
        result[:, joints] = _smooth_some(values[:, joints], times, weights[:, joints], size, strengths)
    return result


def _smooth_some(
    values: DoubleArray, times: DoubleArray, weights: DoubleArray, size: DoubleArray, strengths: tuple[float, ...]
) -> DoubleArray:
    """Smooth a few joints, (T, J, D): all their series in one banded linear system."""
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
    """Speed along each series by central differences; 0 for a single sample."""
    joined = series[1:] == series[:-1]
    forward = np.where(joined[:, None], np.diff(values, axis=0), 0.0)
    steps = np.where(joined, np.diff(times_s), 0.0)
    none = np.zeros((1, values.shape[1]))
    moved = np.concatenate([none, forward]) + np.concatenate([forward, none])
    lasted = np.append(0.0, steps) + np.append(steps, 0.0)
    speed: DoubleArray = np.linalg.norm(moved, axis=1) / np.where(lasted > 0, lasted, 1.0)
    return speed
