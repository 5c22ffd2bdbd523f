"""Foot contact detection: a foot in contact is slow, low and below the hips."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.refine.body import ANKLES, HIP, low_pass, unit_vectors
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# The ankle of a foot in contact moves below 0.3 m/s, except while the foot rolls over the toes; a swinging one at
# 1-4 m/s. Hysteresis: a contact begins below the first limit and lasts below the second. In running a contact lasts
# 0.13 s, below 0.5 m/s.
_BEGIN_M_S, _KEEP_M_S = 0.35, 0.6
_BEGIN_SHARE, _KEEP_SHARE = 0.05, 0.1  # share of the body speed that is added to the limits
_SHORTEST_S = 0.08
# The position along the ray is less accurate than across it: speed along the ray has half the weight.
_ALONG_RAY = 0.5
_SPEED_SIGMA_S, _BODY_SIGMA_S = 0.025, 0.2
# Largest height above the lowest ankle within a quarter of a second before and after, to begin and to keep a contact.
_BEGIN_HEIGHT_M, _KEEP_HEIGHT_M, _LOWEST_WINDOW_S = 0.08, 0.14, 0.25
_BELOW_HIP_M = 0.15


def find_foot_contacts(joints_cam: DoubleArray, rotation: DoubleArray, rate: float) -> BoolArray:
    """Find the frames in which each foot is in contact with the ground.

    Args:
        joints_cam: (T, 17, 3) camera space, metres.
        rotation: (3, 3) camera axes to world axes.
        rate: frames per second.

    Returns:
        (T, 2) left and right foot.
    """
    seen = np.asarray(np.isfinite(joints_cam[:, ANKLES]).all(axis=-1))
    ankles = np.where(seen[..., None], joints_cam[:, ANKLES], 0.0)
    if len(joints_cam) < 3:
        return np.zeros((len(joints_cam), 2), np.bool_)
    speed = _speed(ankles, _SPEED_SIGMA_S, rate)
    body_speed = _speed(joints_cam[:, [HIP]], _BODY_SIGMA_S, rate)
    height = np.where(seen, ankles @ rotation[2], np.inf)
    lowest = scipy.ndimage.minimum_filter1d(height.min(axis=1), 2 * int(_LOWEST_WINDOW_S * rate) + 1, mode="nearest")
    above = np.where(seen, height - np.where(np.isfinite(lowest), lowest, 0.0)[:, None], np.inf)
    under_hip = (joints_cam[:, HIP] @ rotation[2])[:, None] - height > _BELOW_HIP_M
    enter = (speed < _BEGIN_M_S + _BEGIN_SHARE * body_speed) & (above < _BEGIN_HEIGHT_M) & under_hip
    stay = (speed < _KEEP_M_S + _KEEP_SHARE * body_speed) & (above < _KEEP_HEIGHT_M) & under_hip
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
    """Speed of points (T, N, 3) seen from the origin, (T, N) metres per second."""
    velocity = np.gradient(low_pass(points, sigma_s, rate), axis=0) * rate
    ray = unit_vectors(points)
    along = (velocity * ray).sum(-1)
    across = np.linalg.norm(velocity - along[..., None] * ray, axis=-1)
    return np.asarray(np.hypot(across, _ALONG_RAY * along))
