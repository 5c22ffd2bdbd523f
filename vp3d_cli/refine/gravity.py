"""Which way is up: from bodies, from the floor that feet walk on, and from how people hold cameras.

The up direction is one unit vector for the whole clip. Three kinds of evidence say where it is, each with its own
uncertainty, and the most probable direction is found by robust least squares:

- people who stand or walk straight point up, give or take a lean, and the lifter tilts everyone a little;
- feet that stand lie on one plane. Its slope is known the better the more ground is covered, so that someone who
  stands still adds nothing; each person has a plane of their own height, since their assumed size may be wrong;
- cameras are mostly held level, with some roll and any pitch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.refine.body_scale import ANKLES, HIP, HIPS, KNEES, NECK, THORAX, unit
from vp3d_cli.types import BoolArray, DoubleArray

_PITCH_SD, _ROLL_SD = np.radians(25), np.radians(15)
_STRAIGHT_COS = np.cos(np.radians(30))  # trunk and legs in one line: standing, walking
_STRETCHED = 0.82  # hip to ankle, as a share of thigh and shin; 0.85 and more walking, 0.7 on all fours
# Cameras that look down or up more steeply, or are rolled further, are rarer than people who lie.
_STEEPEST_DOWN, _STEEPEST_UP, _MOST_ROLL = np.radians(70), np.radians(-45), np.radians(45)
# The line from the ankles to the thorax leans forward, that from the hip to the neck still more: means over some 200
# clips of motion capture from five sources (standing, walking, dancing); single clips differ by 3 and 5 degrees.
_BODY_LEAN, _TRUNK_LEAN = np.radians(3.6), np.radians(7.8)
_LEAN_SD = np.radians(8)  # of one second of one person
_BIAS_SD = np.radians(3.5)  # of all bodies together: lifters lean people towards or away from the camera
_BLOCK_S = 1.0  # frames nearer to each other than this tell the same
_STEP_SD_M = 0.03  # unevenness of where an ankle is while its foot stands
# Each person's plane has a height of its own to be found: this many say which way is up, however many come by.
_MOST_WALKERS = 50
_DEPTH_SD = 0.04  # of the distance of a footprint, as a share of it


@dataclass(frozen=True)
class Footprints:
    """Where feet stood, one row per contact.

    Attributes:
        place: (N, 3) ankle, camera space, metres.
        person: (N,) index.
        weight: (N,) trust in 0..1.
    """

    place: DoubleArray
    person: DoubleArray
    weight: DoubleArray

    @classmethod
    def none(cls) -> Footprints:
        """Nobody's feet were seen to stand."""
        return cls(np.zeros((0, 3)), np.zeros(0, np.intp), np.zeros(0))

    def of_those_who_stood_most(self, people: int) -> Footprints:
        """Those of so many people at most, whose footprints weigh most."""
        everyone, index = np.unique(self.person, return_inverse=True)
        if len(everyone) <= people:
            return self
        most = np.argsort(-np.bincount(index, self.weight), kind="stable")[:people]
        kept = np.isin(index, most)
        return Footprints(self.place[kept], self.person[kept], self.weight[kept])


@dataclass(frozen=True)
class Person:
    """One of those who tell which way is up.

    Attributes:
        joints: (t, 17, 3) root-relative, camera axes, metres; NaN where absent.
        weight: (t,) trust in each frame, 0..1.
        first: the first of the t frames.
        times_s: (T,) seconds of all frames of the video.
    """

    joints: DoubleArray
    weight: DoubleArray
    first: int
    times_s: DoubleArray


def up_direction(people: Sequence[Person], footprints: Footprints) -> DoubleArray:
    """The most probable up direction.

    Args:
        people: everyone.
        footprints: where feet stood; :meth:`Footprints.none` before that is known.

    Returns:
        (3,) unit vector in camera axes.
    """
    known = [_body_axes(person) for person in people]
    axes, trust = np.concatenate([axes for axes, _ in known]), np.concatenate([trust for _, trust in known])
    start = _typical(axes, trust)
    pitch, roll = _angles_of(start)
    if not (_STEEPEST_UP < pitch < _STEEPEST_DOWN and abs(roll) < _MOST_ROLL):
        start = np.array([0.0, -1.0, 0.0])
    # Who lies is straight as well: only those near the bulk are taken as upright.
    near = axes @ start > np.cos(np.radians(45))
    axes, trust = axes[near], trust[near]
    ceiling = (_LEAN_SD / _BIAS_SD) ** 2
    trust = trust * min(1.0, ceiling / max(float(trust.sum()), 1e-9))
    footprints = footprints.of_those_who_stood_most(_MOST_WALKERS)
    walkers, index = np.unique(footprints.person, return_inverse=True)
    level = np.array([np.median(footprints.place[index == i] @ start) for i in range(len(walkers))])
    share_sd = np.hypot(_DEPTH_SD, _STEP_SD_M / _off_zero(level[index]))

    def residuals(state: DoubleArray) -> DoubleArray:
        up = _up_of(state[0], state[1])
        parts = [state[:2] / [_PITCH_SD, _ROLL_SD]]
        if len(axes):
            angle = np.linalg.norm(axes - up, axis=1)
            parts.append(_blunt(angle / _LEAN_SD) * np.sqrt(trust))
        if len(walkers):
            # Of what height a footprint is, as a share of the height of its plane below the camera. Heights themselves
            # would be biased: an error of the distance is the less height the nearer a plane passes by the camera,
            # and the fit would choose such a plane.
            off = (footprints.place @ up / _off_zero(state[2:][index]) - 1) / share_sd
            parts.append(_blunt(off) * np.sqrt(footprints.weight))
        return np.concatenate(parts)

    first = np.array([*_angles_of(start), *level])
    return _up_of(*scipy.optimize.least_squares(residuals, first).x[:2])


def _off_zero(heights: DoubleArray) -> DoubleArray:
    """Heights to divide by: at least 5 cm from 0, where a plane is seen edge-on and tells nothing of pitch."""
    return np.where(np.abs(heights) < 0.05, np.where(heights < 0, -0.05, 0.05), heights)


def _up_of(pitch: float, roll: float) -> DoubleArray:
    """Up in camera axes for a camera that looks down by ``pitch`` and is rolled by ``roll``, radians."""
    return np.array([np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch)])


def _angles_of(up: DoubleArray) -> tuple[float, float]:
    return float(np.arctan2(-up[2], -up[1])), float(np.arcsin(np.clip(up[0], -1, 1)))


def _blunt(residual: DoubleArray) -> DoubleArray:
    """Cauchy's loss as a residual: outliers, such as a flip or another floor, stop counting."""
    return np.asarray(np.sign(residual) * np.sqrt(np.log1p(residual**2)))


def _body_axes(person: Person) -> tuple[DoubleArray, DoubleArray]:
    """Mean direction from feet to thorax of a person in each block of time, and its trust; straight frames only."""
    joints, times_s = person.joints, person.times_s
    trunk = unit(joints[..., NECK, :] - joints[..., HIP, :])
    legs = unit(joints[..., HIP, :] - joints[..., ANKLES, :].mean(axis=-2))
    whole = unit(joints[..., THORAX, :] - joints[..., ANKLES, :].mean(axis=-2))
    no_legs = np.asarray(~np.isfinite(legs).all(-1) & np.isfinite(trunk).all(-1))
    axis = np.where(no_legs[..., None], trunk, whole)
    ahead = unit(np.cross(joints[..., HIPS[0], :] - joints[..., HIPS[1], :], axis))
    lean = np.where(no_legs[..., None], _TRUNK_LEAN, _BODY_LEAN)
    axis = axis * np.cos(lean) - ahead * np.sin(lean)
    straight = no_legs | (((trunk * legs).sum(-1) > _STRAIGHT_COS) & _legs_stretched(joints))
    straight &= np.isfinite(axis).all(-1) & (person.weight > 0) & (-axis[..., 1] > np.cos(np.radians(80)))
    block = np.floor((times_s - times_s[0]) / _BLOCK_S).astype(np.intp)
    blocks = int(block[-1]) + 1
    frames = np.maximum(np.bincount(block, minlength=blocks), 1)
    own = block[person.first : person.first + len(joints)]
    w = np.where(straight, person.weight, 0.0)
    total = np.bincount(own, w, blocks)
    summed = np.zeros((blocks, 3))
    for i in range(3):
        summed[:, i] = np.bincount(own, w * np.nan_to_num(axis[:, i]), blocks)
    seen = total > 0
    return unit(summed[seen]), total[seen] / frames[seen]


def _legs_stretched(joints: DoubleArray) -> BoolArray:
    """(t,) whether no leg is bent much: who crawls or sits bends at least one."""
    reach = [np.linalg.norm(joints[..., a, :] - joints[..., h, :], axis=-1) for h, a in zip(HIPS, ANKLES, strict=True)]
    bones = [
        np.linalg.norm(joints[..., k, :] - joints[..., h, :], axis=-1)
        + np.linalg.norm(joints[..., a, :] - joints[..., k, :], axis=-1)
        for h, k, a in zip(HIPS, KNEES, ANKLES, strict=True)
    ]
    return np.asarray(np.minimum(reach[0] / bones[0], reach[1] / bones[1]) > _STRETCHED)


def _typical(axes: DoubleArray, trust: DoubleArray) -> DoubleArray:
    """Geometric median of the axes and a level camera: a start that a few people who lie do not pull over."""
    level = np.array([0.0, -1.0, 0.0])
    points, weight = np.vstack([axes, level]), np.append(trust, 0.3)
    mean = unit((weight[:, None] * points).sum(0))
    for _ in range(20):
        pull = weight / np.maximum(np.linalg.norm(points - mean, axis=1), 0.05)
        mean = unit((pull[:, None] * points).sum(0))
    return mean
