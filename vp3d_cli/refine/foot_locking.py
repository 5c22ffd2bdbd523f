"""Depth correction from the floor, and foot locking."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.refine.body import ANKLE_HEIGHT_M, ANKLES, HIP, HIPS, KNEES, low_pass
from vp3d_cli.types import BoolArray, DoubleArray, stretches

_DEPTH_SIGMA_S = 0.15  # jitter of the estimated distance is faster than the movement of people
_DEPTH_MEDIAN_S = 0.2
_DRIFT_HZ = 0.4  # cutoff of the depth correction
_LOCK_HZ = 2.0  # cutoff of the body shift in foot locking; the legs take the rest
_MOST_DEPTH = 0.25  # largest depth correction from the floor, as a share of the distance
_LEAST_SLOPE = 0.12  # drop per metre of the ray to a foot; below it the floor does not determine the distance
_MOST_LEG_M = 0.08  # largest shift of an ankle by bending the leg
_BLEND_S = 0.1
_THICKNESS_M = 0.03  # smallest height of a joint above the floor: half the thickness of a limb


def smooth_depth(trajectory: DoubleArray, rate: float) -> DoubleArray:
    """Smooth the distance of a root trajectory (T, 3) from the camera; directions do not change."""
    distance = np.linalg.norm(trajectory, axis=1)
    width = 2 * int(_DEPTH_MEDIAN_S * rate / 2) + 1
    smoothed = low_pass(scipy.ndimage.median_filter(np.log(distance), width, mode="nearest"), _DEPTH_SIGMA_S, rate)
    return np.asarray(trajectory * (np.exp(smoothed) / distance)[:, None])


def floor_depth_correction(
    joints: DoubleArray, contacts: BoolArray, level: DoubleArray, confidence: DoubleArray, rate: float
) -> DoubleArray:
    """Shift of a person along the rays to the feet so that feet in contact lie on the floor.

    The distance of a root from one camera has an error of some percent and drifts. The distance of a foot in contact
    follows from the intersection of its ray with the floor. The shift varies slowly.

    Args:
        joints: (T, 17, 3) world axes, origin at the camera, metres.
        contacts: (T, 2) foot contacts.
        level: (T,) height of the ground under the person, relative to the camera, metres.
        confidence: (T,) confidence of each frame, 0..1.
        rate: frames per second.

    Returns:
        (T, 3) shift of the whole body, metres.
    """
    feet = joints[:, ANKLES]
    target = (level + ANKLE_HEIGHT_M)[:, None]
    slope = np.abs(target) / np.maximum(np.linalg.norm(feet[..., :2], axis=-1), 0.1)
    ratio = target / np.where(np.abs(feet[..., 2]) > 0.1, feet[..., 2], np.inf) - 1
    usable = contacts & (slope > _LEAST_SLOPE) & (np.abs(ratio) < _MOST_DEPTH) & (feet[..., 2] * target > 0)
    weight = np.where(usable, confidence[:, None] * np.minimum(slope, 1.0) ** 2, 0.0)
    total = weight.sum(axis=1)
    if not total.any():
        return np.zeros((len(joints), 3))
    wanted = (weight * np.where(usable, ratio, 0.0)).sum(axis=1) / np.maximum(total, 1e-9)
    share = fit_weighted_curve(wanted[:, None], total, _DRIFT_HZ, rate)[:, 0]
    ground = np.column_stack([joints[:, HIP, :2], target[:, 0]])
    return np.asarray(np.clip(share, -_MOST_DEPTH, _MOST_DEPTH)[:, None] * ground)


def fit_weighted_curve(values: DoubleArray, weights: DoubleArray, cutoff_hz: float, rate: float) -> DoubleArray:
    """Fit a smooth curve (T, C) to weighted values (Whittaker 1923; Eilers 2003).

    It minimizes sum w |y - v|^2 + k2 sum |y''|^2 + k1 sum |y'|^2, which passes changes slower than ``cutoff_hz``. The
    small term of the first derivative prevents large extrapolation where all weights are 0.
    """
    count = len(values)
    if count < 3:
        total = max(float(weights.sum()), 1e-9)
        return np.repeat((weights[:, None] * values).sum(0, keepdims=True) / total, count, axis=0)
    scale = rate / (2 * np.pi * cutoff_hz)
    k2, k1 = scale**4, 0.05 * scale**2
    bands = np.zeros((3, count))  # upper form: bands[2] is the diagonal
    bands[2] = weights / max(float(weights.max()), 1e-9) + 1e-8
    for offsets, k in (((1.0, -2.0, 1.0), k2), ((1.0, -1.0), k1)):
        rows = count - len(offsets) + 1
        for i, a in enumerate(offsets):
            for j in range(i, len(offsets)):
                bands[2 - (j - i), j : j + rows] += k * a * offsets[j]
    right = (weights / max(float(weights.max()), 1e-9))[:, None] * values
    return np.asarray(scipy.linalg.solveh_banded(bands, right))


def lock_feet(joints: DoubleArray, contacts: BoolArray, level: DoubleArray, rate: float) -> DoubleArray:
    """Foot locking: keep feet in contact at a fixed position.

    The whole body shifts smoothly. The remaining error, up to some centimetres, is removed by bending the leg.

    Args:
        joints: (T, 17, 3) world axes, metres.
        contacts: (T, 2) foot contacts.
        level: (T,) height of the ground under the person, metres.
        rate: frames per second.

    Returns:
        (T, 17, 3) joints.
    """
    feet = joints[:, ANKLES]
    targets = np.full(feet.shape, np.nan)
    for foot in range(2):
        for start, stop in stretches(contacts[:, foot]):
            place = np.median(feet[start:stop, foot], axis=0)
            place[2] = np.median(level[start:stop]) + ANKLE_HEIGHT_M
            targets[start:stop, foot] = place
    wanted = np.where(contacts[..., None], targets - feet, 0.0).sum(axis=1)
    standing = contacts.sum(axis=1)
    if not standing.any():
        return joints
    shift = fit_weighted_curve(
        wanted / np.maximum(standing, 1)[:, None], (standing > 0).astype(np.float64), _LOCK_HZ, rate
    )
    moved = joints + shift[:, None]
    for foot in range(2):
        rest = np.where(contacts[:, foot, None], targets[:, foot] - moved[:, ANKLES[foot]], 0.0)
        far = np.linalg.norm(rest, axis=1, keepdims=True)
        rest *= np.minimum(1.0, _MOST_LEG_M / np.maximum(far, 1e-9))
        moved = move_ankle(moved, foot, fade_out(rest, contacts[:, foot], rate))
    return moved


def fade_out(values: DoubleArray, flags: BoolArray, rate: float) -> DoubleArray:
    """Continue values (T, C) beyond each run of flags, fading to 0 in a tenth of a second."""
    reach = max(1, round(_BLEND_S * rate))
    result = np.where(flags[:, None], values, 0.0)
    for start, stop in stretches(flags):
        for edge, step in ((start, -1), (stop - 1, 1)):
            for k in range(1, reach + 1):
                at = edge + step * k
                if not 0 <= at < len(values) or flags[at]:
                    break
                result[at] += values[edge] * 0.5 * (1 + np.cos(np.pi * k / (reach + 1)))
    return result


def move_ankle(joints: DoubleArray, foot: int, shift: DoubleArray) -> DoubleArray:
    """Move an ankle by ``shift`` (T, 3) with two-bone inverse kinematics.

    The hip, both bone lengths and the plane of the leg stay fixed.
    """
    hip, knee, ankle = (joints[:, part[foot]] for part in (HIPS, KNEES, ANKLES))
    thigh, shin = np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)
    old = ankle - hip
    new = old + shift
    old_length = np.maximum(np.linalg.norm(old, axis=1), 1e-6)
    reach = np.linalg.norm(new, axis=1)
    length = np.clip(reach, np.abs(thigh - shin) + 1e-4, thigh + shin - 1e-4)
    length = np.where((np.abs(shift).sum(1) == 0), old_length, length)
    along = new / np.maximum(reach, 1e-6)[:, None]
    # The knee bends in the same direction: the component of the thigh perpendicular to the old and the new leg axis.
    axis = old / old_length[:, None]
    side = (knee - hip) - ((knee - hip) * axis).sum(1, keepdims=True) * axis
    side -= (side * along).sum(1, keepdims=True) * along
    size = np.linalg.norm(side, axis=1)
    forward = (thigh**2 - shin**2 + length**2) / (2 * length)
    out = np.sqrt(np.maximum(thigh**2 - forward**2, 0.0))
    straight = size < 1e-6
    knee_new = hip + forward[:, None] * along + (out / np.where(straight, 1.0, size))[:, None] * side
    moved = (np.abs(shift).sum(1) > 0) & ~straight
    result: DoubleArray = joints.copy()
    result[moved, KNEES[foot]] = knee_new[moved]
    result[moved, ANKLES[foot]] = (hip + length[:, None] * along)[moved]
    return result


def floor_clearance(joints: DoubleArray, rate: float) -> DoubleArray:
    """Smooth upward shift (T,) that keeps all joints (T, 17, 3) above the floor, z = 0."""
    deep = np.asarray(np.maximum(0.0, _THICKNESS_M - np.nanmin(joints[..., 2], axis=1)))
    width = 2 * int(0.15 * rate) + 1
    return low_pass(np.asarray(scipy.ndimage.maximum_filter1d(deep, width, mode="nearest")), 0.05, rate)
