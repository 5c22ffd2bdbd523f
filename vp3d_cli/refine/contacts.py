"""When feet stand: low, slow, and below the hips."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.refine.body_scale import ANKLES, HIP, low_pass, unit
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# Ankles of standing feet move below 0.3 m/s but for the roll over the toes; swinging ones at 1-4 m/s. Hysteresis: a
# contact begins below the first and goes on below the second. Runners' feet stand for 0.13 s, below 0.5 m/s.
_SLOW_M_S, _STILL_SLOW_M_S = 0.35, 0.6
_SLOW_SHARE, _STILL_SLOW_SHARE = 0.05, 0.1  # what is added of the body's own speed
_SHORTEST_S = 0.08
# Along the ray the estimate is worse than across it: it counts half.
_ALONG_RAY = 0.5
_SPEED_SIGMA_S, _BODY_SIGMA_S = 0.025, 0.2
# A standing foot is no higher than this above the lowest foot of the moment, the lowest of a quarter second around.
_HIGH_M, _TOO_HIGH_M, _MOMENT_S = 0.08, 0.14, 0.25
_BELOW_HIP_M = 0.15


def find_contacts(placed: DoubleArray, rotation: DoubleArray, rate: float) -> BoolArray:
    """Which feet stand.

    Args:
        placed: (T, 17, 3) camera space, metres, all finite.
        rotation: (3, 3) camera axes to world axes.
        rate: frames per second.

    Returns:
        (T, 2) left and right.
    """
    seen = np.asarray(np.isfinite(placed[:, ANKLES]).all(axis=-1))
    ankles = np.where(seen[..., None], placed[:, ANKLES], 0.0)
    if len(placed) < 3:
        return np.zeros((len(placed), 2), np.bool_)
    speed = _speed(ankles, _SPEED_SIGMA_S, rate)
    own = _speed(placed[:, [HIP]], _BODY_SIGMA_S, rate)
    height = np.where(seen, ankles @ rotation[2], np.inf)
    lowest = scipy.ndimage.minimum_filter1d(height.min(axis=1), 2 * int(_MOMENT_S * rate) + 1, mode="nearest")
    above = np.where(seen, height - np.where(np.isfinite(lowest), lowest, 0.0)[:, None], np.inf)
    under_hip = (placed[:, HIP] @ rotation[2])[:, None] - height > _BELOW_HIP_M
    enter = (speed < _SLOW_M_S + _SLOW_SHARE * own) & (above < _HIGH_M) & under_hip
    stay = (speed < _STILL_SLOW_M_S + _STILL_SLOW_SHARE * own) & (above < _TOO_HIGH_M) & under_hip
    contacts = np.zeros(enter.shape, np.bool_)
    for foot in range(2):
        runs, count = scipy.ndimage.label(stay[:, foot])
        begun = np.bincount(runs, enter[:, foot], count + 1) > 0
        begun[0] = False
        contacts[:, foot] = begun[runs]
        for start, stop in stretches(contacts[:, foot]):
            if stop - start < _SHORTEST_S * rate:
                contacts[start:stop, foot] = False
    return contacts


def _speed(points: DoubleArray, sigma_s: float, rate: float) -> DoubleArray:
    """(T, N) metres per second of points (T, N, 3) seen from the origin."""
    velocity = np.gradient(low_pass(points, sigma_s, rate), axis=0) * rate
    ray = unit(points)
    along = (velocity * ray).sum(-1)
    across = np.linalg.norm(velocity - along[..., None] * ray, axis=-1)
    return np.asarray(np.hypot(across, _ALONG_RAY * along))
