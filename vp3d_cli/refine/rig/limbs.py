"""Arms and legs of a rig: elbows and knees are hinges with a smooth bending plane.

The plane is kept within human limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.refine.body import ANKLES, HIP, HIPS, KNEES, THORAX, unit_vectors
from vp3d_cli.refine.rig.rest_pose import ELBOWS, SHOULDERS, WRISTS, square_to
from vp3d_cli.refine.rig.solve import swing
from vp3d_cli.types import DoubleArray, FloatArray

ComplexArray = NDArray[np.complex128]

# Elbows and knees bend by 150 to 160 degrees at most (Norkin and White, Measurement of Joint Motion).
_MOST_FLEXION_DEG = 160.0
# Turn of the thigh and of the upper arm about themselves, from the plane in which the limb bends in the rest pose. Hips
# turn by 45 degrees to each side, shoulders by 90 (the same source); arms more, as the rest plane is that of a T-pose.
_LEG_TWIST_DEG, _ARM_TWIST_DEG = 70.0, 130.0
# A limb that is nearly straight tells nothing of its plane; the plane then changes slowly. Bent by 90 degrees, a limb's
# plane is followed within this time; bent by 10 degrees, within 6 times as much.
_PLANE_FOLLOWS_S = 0.03
# Weight of the rest plane; that of the measured plane is the squared sine of the flexion. Equal at 4 degrees.
_REST_PLANE_WEIGHT = 0.005


@dataclass(frozen=True)
class Limb:
    """An arm or a leg: three joints of the skeleton, and how they lie in the rest pose.

    ``base`` is the joint of the trunk whose rotation carries the limb; the lower bone bends about ``hinge``, an axis of
    the rest pose, in the positive sense.
    """

    base: int
    upper: int
    middle: int
    end: int
    hinge: tuple[float, float, float]
    twist_deg: float


# Knees bend backwards about the axis to the left; in a T-pose with palms down, elbows bend forwards.
LEGS = tuple(Limb(HIP, HIPS[s], KNEES[s], ANKLES[s], (1.0, 0.0, 0.0), _LEG_TWIST_DEG) for s in range(2))
ARMS = tuple(
    Limb(THORAX, SHOULDERS[s], ELBOWS[s], WRISTS[s], (0.0, 0.0, sign), _ARM_TWIST_DEG)
    for s, sign in enumerate((-1.0, 1.0))
)


def limb_rotations(
    limb: Limb, base: DoubleArray, joints: DoubleArray, offsets: FloatArray, rate: float
) -> tuple[DoubleArray, DoubleArray]:
    """Return the global rotations (t, 3, 3) of a limb's upper and lower bone.

    The end of the limb stays in place; the middle joint moves on its circle.

    Args:
        limb: which.
        base: (t, 3, 3) global rotations of the joint that carries it.
        joints: (t, 17, 3) metres, with bones of about the lengths of ``offsets``.
        offsets: (17, 3) the rest pose.
        rate: frames per second.
    """
    start = joints[:, limb.upper]
    upper_m, lower_m = (float(np.linalg.norm(offsets[joint])) for joint in (limb.middle, limb.end))
    rest = unit_vectors(offsets[limb.middle].astype(np.float64))
    hinge = _steady_hinge(limb, base, joints, rest, rate)
    line = joints[:, limb.end] - start
    along = unit_vectors(line)
    hinge = square_to(hinge, along)
    length = np.clip(np.linalg.norm(line, axis=-1), _shortest(upper_m, lower_m), upper_m + lower_m)
    ahead = (upper_m**2 - lower_m**2 + length**2) / (2 * np.maximum(length, 1e-6))
    aside = np.sqrt(np.maximum(upper_m**2 - ahead**2, 0.0))
    elbow = ahead[:, None] * along + aside[:, None] * np.cross(along, hinge)
    upper, lower = unit_vectors(elbow), unit_vectors(length[:, None] * along - elbow)
    return _frame(upper, hinge, rest, limb), _frame(lower, hinge, rest, limb)


def _shortest(upper_m: float, lower_m: float) -> float:
    """Metres between the ends of a limb that is bent as far as it can."""
    inner = np.radians(180.0 - _MOST_FLEXION_DEG)
    return float(np.sqrt(upper_m**2 + lower_m**2 - 2 * upper_m * lower_m * np.cos(inner)))


def _frame(direction: DoubleArray, hinge: DoubleArray, rest: DoubleArray, limb: Limb) -> DoubleArray:
    """Return rotations (t, 3, 3) from the rest direction and rest hinge to the given ones."""
    axis = np.array(limb.hinge)
    before = np.stack([rest, axis, np.cross(rest, axis)], axis=-1)
    after = np.stack([direction, hinge, np.cross(direction, hinge)], axis=-1)
    return np.asarray(after @ before.T)


def _steady_hinge(limb: Limb, base: DoubleArray, joints: DoubleArray, rest: DoubleArray, rate: float) -> DoubleArray:
    """Estimate the hinge axes (t, 3) of a limb, unit vectors in global axes.

    They are measured, smoothed and limited.
    """
    upper = unit_vectors(joints[:, limb.middle] - joints[:, limb.upper])
    lower = unit_vectors(joints[:, limb.end] - joints[:, limb.middle])
    local = (np.swapaxes(base, -1, -2) @ upper[..., None])[..., 0]
    neutral = (base @ swing(np.broadcast_to(rest, local.shape), local) @ np.array(limb.hinge))[:, :]
    third = np.cross(upper, neutral)
    normal = np.cross(upper, lower)  # as long as the sine of the flexion
    phasor = (normal * neutral).sum(-1) + 1j * (normal * third).sum(-1)
    size = np.abs(phasor)
    phasor = phasor / np.maximum(size, 1e-9)
    # A knee that seems to bend forwards is an error of depth, not a leg that is turned backwards.
    weight = size**2 * (1 + phasor.real) / 2
    angle = np.angle(steady_phasor(phasor, weight, rate, _PLANE_FOLLOWS_S, _REST_PLANE_WEIGHT))
    angle = np.clip(angle, -np.radians(limb.twist_deg), np.radians(limb.twist_deg))
    return np.asarray(np.cos(angle)[:, None] * neutral + np.sin(angle)[:, None] * third)


def steady_phasor(
    values: ComplexArray,
    weights: DoubleArray,
    rate: float,
    follows_s: float,
    rest_weight: float,
) -> ComplexArray:
    """Smooth angles, given as complex numbers (t,) of size 1, with weights (t,) in 0..1.

    Minimises sum w |z - v|^2 + r |z - 1|^2 + k |z'|^2: with weight 1 the curve follows within ``follows_s`` seconds,
    with less weight more slowly, and without any it goes to angle 0.
    """
    stiffness = (follows_s * rate) ** 2
    bands = np.zeros((2, len(values)))
    bands[1] = weights + rest_weight
    bands[1, :-1] += stiffness
    bands[1, 1:] += stiffness
    bands[0, 1:] = -stiffness
    right = weights * values + rest_weight
    if len(values) == 1:
        return np.asarray(right / bands[1])
    solution = scipy.linalg.solveh_banded(bands, np.column_stack([right.real, right.imag]))
    return np.asarray(solution[:, 0] + 1j * solution[:, 1])
