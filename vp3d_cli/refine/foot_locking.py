"""Stand a person on the floor: depth made consistent with it, standing feet kept where they are."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.refine.body_scale import ANKLE_HEIGHT_M, ANKLES, HIP, HIPS, KNEES, low_pass
from vp3d_cli.types import BoolArray, DoubleArray, stretches

_DEPTH_SIGMA_S = 0.15  # people change their distance more slowly than the estimate of it jitters
_DEPTH_MEDIAN_S = 0.2
_DRIFT_HZ = 0.4  # the depth correction follows nothing faster
_PLANT_HZ = 2.0  # nor the planting: what is left goes to the legs
_MOST_DEPTH = 0.25  # share of the distance by which the floor may correct it
_LEAST_SLOPE = 0.12  # drop per metre of the ray to a foot, below which the floor says nothing about distance
_MOST_LEG_M = 0.08  # a foot further from its place is not pulled there by the leg alone
_BLEND_S = 0.1
_THICKNESS_M = 0.03  # no joint is nearer to the floor than half a limb


def calm_depth(trajectory: DoubleArray, rate: float) -> DoubleArray:
    """Take the jitter out of the distance of a root (T, 3), which stays on its ray from the camera."""
    distance = np.linalg.norm(trajectory, axis=1)
    width = 2 * int(_DEPTH_MEDIAN_S * rate / 2) + 1
    steady = low_pass(scipy.ndimage.median_filter(np.log(distance), width, mode="nearest"), _DEPTH_SIGMA_S, rate)
    return np.asarray(trajectory * (np.exp(steady) / distance)[:, None])


def correct_depth(
    joints: DoubleArray, contacts: BoolArray, level: DoubleArray, trust: DoubleArray, rate: float
) -> DoubleArray:
    """Shift a person along the rays to their feet so that these meet the floor, slowly varying.

    The distance of a monocular root is known to some per cent and drifts; that of a standing foot follows from
    where its ray meets the floor.

    Args:
        joints: (T, 17, 3) world axes, origin at the camera, metres.
        contacts: (T, 2) feet that stand.
        level: (T,) height of the floor under them, relative to the camera.
        trust: (T,) 0..1.
        rate: frames per second.

    Returns:
        (T, 3) shift of the whole body.
    """
    feet = joints[:, ANKLES]
    target = (level + ANKLE_HEIGHT_M)[:, None]
    slope = np.abs(target) / np.maximum(np.linalg.norm(feet[..., :2], axis=-1), 0.1)
    ratio = target / np.where(np.abs(feet[..., 2]) > 0.1, feet[..., 2], np.inf) - 1
    usable = contacts & (slope > _LEAST_SLOPE) & (np.abs(ratio) < _MOST_DEPTH) & (feet[..., 2] * target > 0)
    weight = np.where(usable, trust[:, None] * np.minimum(slope, 1.0) ** 2, 0.0)
    total = weight.sum(axis=1)
    if not total.any():
        return np.zeros((len(joints), 3))
    wanted = (weight * np.where(usable, ratio, 0.0)).sum(axis=1) / np.maximum(total, 1e-9)
    share = smooth_through(wanted[:, None], total, _DRIFT_HZ, rate)[:, 0]
    ground = np.column_stack([joints[:, HIP, :2], target[:, 0]])
    return np.asarray(np.clip(share, -_MOST_DEPTH, _MOST_DEPTH)[:, None] * ground)


def smooth_through(values: DoubleArray, weights: DoubleArray, cutoff_hz: float, rate: float) -> DoubleArray:
    """A smooth curve (T, C) near values where weights (T,) are, free in between (Whittaker 1923; Eilers 2003).

    Minimises sum w |y - v|^2 + k2 sum |y''|^2 + k1 sum |y'|^2, which passes changes slower than ``cutoff_hz``; the
    first derivative's small term keeps the curve from running away where there are no values.
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


def plant(joints: DoubleArray, contacts: BoolArray, level: DoubleArray, rate: float) -> DoubleArray:
    """Keep standing feet in place.

    The body follows smoothly; what is left, up to some centimetres, the legs take up by bending the knee.

    Args:
        joints: (T, 17, 3) world axes, metres.
        contacts: (T, 2).
        level: (T,) height of what the feet stand on.
        rate: frames per second.

    Returns:
        Joints (T, 17, 3).
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
    shift = smooth_through(
        wanted / np.maximum(standing, 1)[:, None], (standing > 0).astype(np.float64), _PLANT_HZ, rate
    )
    moved = joints + shift[:, None]
    for foot in range(2):
        rest = np.where(contacts[:, foot, None], targets[:, foot] - moved[:, ANKLES[foot]], 0.0)
        far = np.linalg.norm(rest, axis=1, keepdims=True)
        rest *= np.minimum(1.0, _MOST_LEG_M / np.maximum(far, 1e-9))
        moved = bend_leg(moved, foot, fade_out(rest, contacts[:, foot], rate))
    return moved


def fade_out(values: DoubleArray, flags: BoolArray, rate: float) -> DoubleArray:
    """Continue values (T, C) beyond each run of flags, fading to 0 within a tenth of a second: nothing jumps."""
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


def bend_leg(joints: DoubleArray, foot: int, shift: DoubleArray) -> DoubleArray:
    """Move an ankle by ``shift`` (T, 3), hip fixed and bones kept: two-bone inverse kinematics, knee in its plane."""
    hip, knee, ankle = (joints[:, part[foot]] for part in (HIPS, KNEES, ANKLES))
    thigh, shin = np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)
    old = ankle - hip
    new = old + shift
    old_length = np.maximum(np.linalg.norm(old, axis=1), 1e-6)
    reach = np.linalg.norm(new, axis=1)
    length = np.clip(reach, np.abs(thigh - shin) + 1e-4, thigh + shin - 1e-4)
    length = np.where((np.abs(shift).sum(1) == 0), old_length, length)
    along = new / np.maximum(reach, 1e-6)[:, None]
    # The knee stays on its side: the part of the thigh that is square to the old leg, made square to the new one.
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


def raise_above_floor(joints: DoubleArray, rate: float) -> DoubleArray:
    """(T,) how far to lift a body (T, 17, 3) so that no joint is below the floor, z = 0; smooth."""
    deep = np.asarray(np.maximum(0.0, _THICKNESS_M - np.nanmin(joints[..., 2], axis=1)))
    width = 2 * int(0.15 * rate) + 1
    return low_pass(np.asarray(scipy.ndimage.maximum_filter1d(deep, width, mode="nearest")), 0.05, rate)
