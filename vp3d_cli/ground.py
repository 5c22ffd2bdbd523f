"""World space: the motion upright, on a floor, with feet that stay where they stand.

The camera is taken not to move, so one rotation serves the whole clip and everyone in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, check_shape

_ANKLES = [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
_HIP, _THORAX, _NECK = (H36M17.index(joint) for joint in ("hip", "thorax", "neck"))
# Height of the ankle joint above the sole of an adult, metres.
ANKLE_HEIGHT_M = 0.08
# A foot stands while it moves slower than this (a walking foot swings at 2-4 m/s), for at least so long,
_STANDING_M_S = 0.45
_SHORTEST_CONTACT_S = 0.07
_SPEED_OVER_S = 0.03  # speed is judged on feet smoothed this much
# and while it is not higher than this above the lowest joint of the half second around.
_CONTACT_HEIGHT_M = 0.18
_LOWEST_OVER_S = 0.25
# Heights that differ by less are one level: drift of the estimated distance explains them.
_SAME_LEVEL_M = 0.35
_FLOOR_SHARE = 0.15  # of all standing, for the lowest level to be the floor and not a mistake
_UPRIGHT_COS = np.cos(np.radians(30))
# Seconds of upright posture that weigh as much as the prior that a camera is held level.
_PRIOR_S = 0.5
_CORRECT_OVER_S = 0.1  # corrections of the root are smoothed over this


@dataclass(frozen=True)
class WorldMotion:
    """Motion in world space; P people, T frames.

    Attributes:
        joints_world: (P, T, 17, 3) metres, z up, floor at 0, y the camera's forward direction on the floor, x right.
        rotation: (3, 3) camera axes to world axes.
        camera_height_m: height of the camera above the floor, the camera being at x = y = 0.
        contacts: (P, T, 2) frames in which the left and the right foot stand.
    """

    joints_world: FloatArray
    rotation: DoubleArray
    camera_height_m: float
    contacts: BoolArray


def to_world(
    joints_3d: FloatArray, trajectory: FloatArray, confidence: NDArray[np.floating] | None, times_s: DoubleArray
) -> WorldMotion:
    """Stand everyone on a floor.

    Args:
        joints_3d: (P, T, 17, 3) root-relative, camera axes, metres; NaN where not in view.
        trajectory: (P, T, 3) root in camera space, metres.
        confidence: (P, T) trust in each frame, or None for equal trust.
        times_s: (T,) seconds, rising.

    Returns:
        The same poses in world space. Bone lengths are unchanged: only where the root is gets corrected.

    Raises:
        ShapeError: shapes differ.
    """
    sizes: dict[str, int] = {}
    check_shape("joints_3d", joints_3d, ("P", "T", 17, 3), sizes)
    check_shape("trajectory", trajectory, ("P", "T", 3), sizes)
    check_shape("times_s", times_s, ("T",), sizes)
    weights = np.ones(joints_3d.shape[:2]) if confidence is None else np.nan_to_num(confidence.astype(np.float64))
    joints = joints_3d.astype(np.float64)
    rotation = _rotation(_up(joints, weights, times_s))
    placed = (joints + trajectory[:, :, None].astype(np.float64)) @ rotation.T
    stretches = [
        (p, slice(start, stop))
        for p, person in enumerate(placed)
        for start, stop in _stretches(np.isfinite(person).all(axis=(1, 2)))
    ]
    contacts = np.zeros((*placed.shape[:2], 2), np.bool_)
    found = [_find_contacts(placed[p, part], times_s[part]) for p, part in stretches]
    floor = _floor_height([contact for own in found for contact in own], placed)
    out = np.full(placed.shape, np.nan)
    for (p, part), own in zip(stretches, found, strict=True):
        person = placed[p, part] - [0.0, 0.0, floor]
        out[p, part] = _plant(person, _levels(own, floor), times_s[part])
        for contact in own:
            contacts[p, part][contact.start : contact.stop, contact.foot] = True
    return WorldMotion(out.astype(np.float32), rotation, -floor, contacts)


class _Contact(NamedTuple):
    """A foot that stands: frames of its stretch, 0 left or 1 right, height of what it stands on, seconds."""

    start: int
    stop: int
    foot: int
    height: float
    seconds: float


def _up(joints: DoubleArray, weights: DoubleArray, times_s: DoubleArray) -> DoubleArray:
    """The up direction in camera axes: where bodies point while upright, held to a level camera by a weak prior."""
    level = np.array([0.0, -1.0, 0.0])
    period = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / 30
    trunk = _unit(joints[..., _NECK, :] - joints[..., _HIP, :])
    legs = _unit(joints[..., _HIP, :] - joints[..., _ANKLES, :].mean(axis=-2))
    body = _unit(joints[..., _NECK, :] - joints[..., _ANKLES, :].mean(axis=-2))
    upright = ((trunk * legs).sum(-1) > _UPRIGHT_COS) & (body @ level > 0.3) & np.isfinite(body).all(-1)
    if not upright.any():
        return level
    directions = body[upright]
    trust = weights[upright] / max(float(weights[upright].max()), 1e-9)
    mean = level
    for _ in range(10):  # a robust mean: directions far from it count less
        angle = np.arccos(np.clip(directions @ mean, -1, 1))
        w = trust / np.maximum(angle, np.radians(5))
        mean = _unit(_PRIOR_S / period / np.radians(20) * level + (w[:, None] * directions).sum(0))
    return np.asarray(mean)


def _rotation(up: DoubleArray) -> DoubleArray:
    """World axes as rows: x right, y the camera's forward direction on the floor, z up."""
    forward = np.array([0.0, 0.0, 1.0])
    if abs(up @ forward) > 0.98:  # looking straight down or up: the top of the image is forward
        forward = np.array([0.0, -1.0, 0.0]) * np.sign(-(up @ forward))
    y = _unit(forward - (forward @ up) * up)
    return np.stack([np.cross(y, up), y, up])


def _find_contacts(joints: DoubleArray, times_s: DoubleArray) -> list[_Contact]:
    """When feet stand, in order of time: they are slow and, of the person's lower parts around that time, low."""
    if len(times_s) < 3:
        return []
    rate = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    feet = joints[:, _ANKLES]
    smooth = gaussian_filter1d(feet, _SPEED_OVER_S * rate, axis=0, mode="nearest")
    speed = np.linalg.norm(np.gradient(smooth, times_s, axis=0), axis=-1)
    lowest = minimum_filter1d(joints[..., 2].min(axis=1), max(1, round(2 * _LOWEST_OVER_S * rate)))
    standing = (speed < _STANDING_M_S) & (feet[..., 2] - lowest[:, None] < _CONTACT_HEIGHT_M)
    found = []
    for foot in range(2):
        for start, stop in _stretches(standing[:, foot]):
            seconds = (stop - start) / rate
            if seconds >= _SHORTEST_CONTACT_S:
                height = float(np.median(feet[start:stop, foot, 2])) - ANKLE_HEIGHT_M
                found.append(_Contact(start, stop, foot, height, seconds))
    return sorted(found, key=lambda contact: contact.start)


def _floor_height(contacts: list[_Contact], placed: DoubleArray) -> float:
    """Height of the floor: the lowest level that a good part of all standing happens on."""
    if not contacts:
        heights = placed[..., 2][np.isfinite(placed[..., 2])]
        return float(np.quantile(heights, 0.02)) - ANKLE_HEIGHT_M if heights.size else 0.0
    height = np.array([contact.height for contact in contacts])
    weight = np.array([contact.seconds for contact in contacts])
    near = np.abs(height[:, None] - height) < _SAME_LEVEL_M
    support = (near * weight).sum(axis=1)
    lowest = np.flatnonzero(support >= min(_FLOOR_SHARE * weight.sum(), support.max()))
    level = near[lowest[np.argmin(height[lowest])]]
    return float(np.average(height[level], weights=weight[level]))


def _levels(contacts: list[_Contact], floor: float) -> list[tuple[_Contact, float]]:
    """The height above the floor that each contact of one person really has.

    The estimated distance of a person drifts, and with it their apparent height: small steps from contact to contact
    are drift, and the level stays. A large step is a real one: on or off a box, a wall, the stairs.
    """
    out = []
    level = last = 0.0
    for i, contact in enumerate(contacts):
        height = contact.height - floor
        change = height if i == 0 else height - last
        if abs(change) > _SAME_LEVEL_M:
            level += change
        if abs(level) < _SAME_LEVEL_M:
            level = 0.0
        last = height
        out.append((contact, level))
    return out


def _plant(joints: DoubleArray, contacts: list[tuple[_Contact, float]], times_s: DoubleArray) -> DoubleArray:
    """Move the root so that standing feet neither slide, float nor sink, smoothly; (T, 17, 3), floor at 0."""
    frames = len(joints)
    if frames > 2 and contacts:
        rate = (frames - 1) / (times_s[-1] - times_s[0])
        shift, trust = np.zeros((frames, 3)), np.zeros(frames)
        for contact, level in contacts:
            part = slice(contact.start, contact.stop)
            path = joints[part, _ANKLES[contact.foot]]
            target = np.array([*np.median(path[:, :2], axis=0), level + ANKLE_HEIGHT_M])
            shift[part] += target - path
            trust[part] += 1.0
        standing = trust > 0
        shift[standing] /= trust[standing, None]
        # In the air the correction goes over from that of the last contact to that of the next.
        known = np.flatnonzero(standing)
        shift = np.stack([np.interp(np.arange(frames), known, shift[known, i]) for i in range(3)], axis=1)
        joints = joints + gaussian_filter1d(shift, _CORRECT_OVER_S * rate, axis=0, mode="nearest")[:, None]
        sunk = np.maximum(0.0, -joints[..., 2].min(axis=1))
        lift = maximum_filter1d(sunk, max(1, round(2 * _CORRECT_OVER_S * rate)))
        joints[..., 2] += gaussian_filter1d(lift, _CORRECT_OVER_S * rate / 2, mode="nearest")[:, None]
        return joints
    joints = joints.copy()
    joints[..., 2] += max(0.0, -float(joints[..., 2].min()))
    return joints


def _stretches(flags: BoolArray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _unit(vectors: DoubleArray) -> DoubleArray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))
