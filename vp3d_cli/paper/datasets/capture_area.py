"""Confinement of a motion to a small capture area, by gradually rotating its path."""

from __future__ import annotations

import math

import numpy as np

from vp3d_cli.types import DoubleArray, FloatArray

# Human3.6M's capture area is about 4 by 3 metres (Ionescu et al. 2014, section 2.1); its cameras see all of a standing
# person within 1.4 metres of the centre.
_FREE_RADIUS_M, _RADIUS_M = 0.5, 1.2
_MAX_TURN_RAD_PER_S = math.radians(120)
_MIN_SPEED_M_PER_S = 0.15  # below, a person has no walking direction


def keep_in_capture_area(joints: FloatArray, fps: float) -> FloatArray:
    """Rotate a motion about the vertical so that it stays within 1.2 metres of the centre.

    From half a metre on, a path away from the centre is rotated towards it, faster with distance, by up to 120 degrees
    per second: straight paths become curves. If that is not enough, the root is clamped, and the feet slide.

    Args:
        joints: (T, J, 3) metres, z up, joint 0 the root.
        fps: frames per second.

    Returns:
        (T, J, 3) metres; the first frame is at the centre.
    """
    root = joints[:, 0, :2].astype(np.float64)
    steps = np.diff(root, axis=0)
    # Direction of walking over half a second, which is smoother than that of one frame.
    reach = max(1, round(fps / 2))
    ahead = root[np.minimum(np.arange(len(root)) + reach, len(root) - 1)] - root
    angles, path = np.zeros(len(root)), np.zeros((len(root), 2))
    for t in range(len(steps)):
        angle = angles[t] + _turn(path[t], _rotated(ahead[t], angles[t]), reach, fps)
        angles[t + 1] = angle
        path[t + 1] = _clamped(path[t] + _rotated(steps[t], angle))
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    offset = joints[..., :2] - root[:, None]
    turned: FloatArray = joints.copy()
    turned[..., 0] = cosine * offset[..., 0] - sine * offset[..., 1] + path[:, :1]
    turned[..., 1] = sine * offset[..., 0] + cosine * offset[..., 1] + path[:, 1:]
    return turned


def _turn(place: DoubleArray, going: DoubleArray, reach: int, fps: float) -> float:
    """Rotation in one frame, in radians."""
    distance = math.hypot(*place)
    if distance <= _FREE_RADIUS_M or math.hypot(*going) < _MIN_SPEED_M_PER_S * reach / fps:
        return 0.0
    deviation = math.atan2(-place[1], -place[0]) - math.atan2(going[1], going[0])
    deviation = (deviation + math.pi) % (2 * math.pi) - math.pi
    if abs(deviation) < math.pi / 3:
        return 0.0
    gain = min(1.0, (distance - _FREE_RADIUS_M) / (_RADIUS_M - _FREE_RADIUS_M) + 0.25)
    return math.copysign(min(abs(deviation), _MAX_TURN_RAD_PER_S / fps * gain), deviation)


def _rotated(vector: DoubleArray, angle: float) -> DoubleArray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def _clamped(place: DoubleArray) -> DoubleArray:
    distance = math.hypot(*place)
    return place if distance <= _RADIUS_M else place * (_RADIUS_M / distance)
