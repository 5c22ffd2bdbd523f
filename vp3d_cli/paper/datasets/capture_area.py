"""Keeping a person who walks anywhere inside a small space, by turning their whole motion little by little."""

from __future__ import annotations

import math

import numpy as np

from vp3d_cli.types import DoubleArray, FloatArray

# Human3.6M's people move within some 4 by 3 metres (Ionescu et al. 2014, section 2.1), between cameras that see all
# of a standing person within 1.4 metres of the middle.
_FREE_RADIUS_M, _RADIUS_M = 0.5, 1.2
_TURN_RAD_PER_S = math.radians(120)
_SLOWEST_M_PER_S = 0.15  # who stands has no direction to be turned


def steer(joints: FloatArray, fps: float) -> FloatArray:
    """Turn a motion about its root's vertical so that it stays within 1.2 metres of the middle of the space.

    From half a metre on, people who walk away from the middle are turned towards it, the further the faster, up to 120
    degrees a second: they walk in curves. Who would leave even so is held back: their feet slide.

    Args:
        joints: (T, J, 3) metres, z up, joint 0 the root.
        fps: frames per second.

    Returns:
        (T, J, 3) metres; the first frame is in the middle.
    """
    root = joints[:, 0, :2].astype(np.float64)
    steps = np.diff(root, axis=0)
    # Where the person is going over half a second, not from one frame to the next.
    reach = max(1, round(fps / 2))
    ahead = root[np.minimum(np.arange(len(root)) + reach, len(root) - 1)] - root
    angles, path = np.zeros(len(root)), np.zeros((len(root), 2))
    for t in range(len(steps)):
        angle = angles[t] + _turn(path[t], _rotated(ahead[t], angles[t]), reach, fps)
        angles[t + 1] = angle
        path[t + 1] = _held_back(path[t] + _rotated(steps[t], angle))
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    offset = joints[..., :2] - root[:, None]
    turned: FloatArray = joints.copy()
    turned[..., 0] = cosine * offset[..., 0] - sine * offset[..., 1] + path[:, :1]
    turned[..., 1] = sine * offset[..., 0] + cosine * offset[..., 1] + path[:, 1:]
    return turned


def _turn(place: DoubleArray, going: DoubleArray, reach: int, fps: float) -> float:
    """Radians to turn in one frame."""
    distance = math.hypot(*place)
    if distance <= _FREE_RADIUS_M or math.hypot(*going) < _SLOWEST_M_PER_S * reach / fps:
        return 0.0
    wrong = math.atan2(-place[1], -place[0]) - math.atan2(going[1], going[0])
    wrong = (wrong + math.pi) % (2 * math.pi) - math.pi
    if abs(wrong) < math.pi / 3:
        return 0.0
    urgency = min(1.0, (distance - _FREE_RADIUS_M) / (_RADIUS_M - _FREE_RADIUS_M) + 0.25)
    return math.copysign(min(abs(wrong), _TURN_RAD_PER_S / fps * urgency), wrong)


def _rotated(vector: DoubleArray, angle: float) -> DoubleArray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def _held_back(place: DoubleArray) -> DoubleArray:
    distance = math.hypot(*place)
    return place if distance <= _RADIUS_M else place * (_RADIUS_M / distance)
