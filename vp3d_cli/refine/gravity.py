"""Estimation of gravity from body axes, footprints and a prior of the camera pose.

The up direction is one unit vector for the whole clip. It is the most probable direction given three kinds of
evidence, found by robust least squares:

- The body axes of people who stand or walk point up, with some lean and with a tilt from the lifter.
- Footprints lie on a plane. The more ground they cover, the better they determine its slope; a person who stands still
  adds nothing. Each person has a plane of their own height, because their assumed body height may be wrong; but most
  of them stand on one floor, which also gives its slope where one is near and another far away.
- Cameras are mostly level, with little roll and any pitch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.refine.body import ANKLES, HIP, HIPS, KNEES, NECK, THORAX, unit_vectors
from vp3d_cli.types import BoolArray, DoubleArray

_PITCH_SD, _ROLL_SD = np.radians(25), np.radians(15)
_STRAIGHT_COS = np.cos(np.radians(30))  # angle between trunk and legs of a person who stands or walks
_STRETCHED = 0.82  # hip-ankle distance over thigh + shin: at least 0.85 in walking, 0.7 on all fours
# A camera beyond these angles is less probable than a lying person.
_STEEPEST_DOWN, _STEEPEST_UP, _MOST_ROLL = np.radians(70), np.radians(-45), np.radians(45)
# Mean forward lean of the lines from ankles to thorax and from hip to neck, over some 200 clips of motion capture from
# five sources (standing, walking, dancing); single clips differ by 3 and 5 degrees.
_BODY_LEAN, _TRUNK_LEAN = np.radians(3.6), np.radians(7.8)
_LEAN_SD = np.radians(8)  # of one second of one person
_BIAS_SD = np.radians(3.5)  # of all people together: lifters tilt people towards or away from the camera
_BLOCK_S = 1.0  # frames within one block are not independent
_STEP_SD_M = 0.03  # variation of the ankle height during contact
# Each person adds an unknown plane height to the fit; this limit bounds the cost.
_MOST_WALKERS = 50
_DEPTH_SD = 0.04  # relative error of the distance of a footprint
_PLANE_SD = 0.15  # of the height of a person's plane relative to the common floor: body height and scale
_OTHER_LEVEL = 6.0  # cost of a person on another level than the common floor
# Pitches from which the fit starts, radians from the body axes: far from the optimum people on one floor look like
# people on different levels, whom the robust loss ignores.
_STARTS = np.radians([0.0, -12.0, 12.0])
# With many people on several levels the cost is flat: steps below a hundredth of a degree change nothing.
_TOLERANCE, _MOST_STEPS = 1e-5, 40


@dataclass(frozen=True)
class Footprints:
    """Ankle positions of foot contacts, one row per contact.

    Attributes:
        position: (N, 3) ankle in camera space, metres.
        person: (N,) index of the person.
        weight: (N,) confidence, 0..1.
    """

    position: DoubleArray
    person: DoubleArray
    weight: DoubleArray

    @classmethod
    def empty(cls) -> Footprints:
        """No footprints."""
        return cls(np.zeros((0, 3)), np.zeros(0, np.intp), np.zeros(0))

    def most_weighted(self, people: int) -> Footprints:
        """Footprints of the ``people`` people with the largest total weight."""
        everyone, index = np.unique(self.person, return_inverse=True)
        if len(everyone) <= people:
            return self
        most = np.argsort(-np.bincount(index, self.weight), kind="stable")[:people]
        kept = np.isin(index, most)
        return Footprints(self.position[kept], self.person[kept], self.weight[kept])


@dataclass(frozen=True)
class PersonMotion:
    """Motion of one person.

    Attributes:
        joints: (t, 17, 3) root-relative, camera axes, metres; NaN where absent.
        weight: (t,) confidence of each frame, 0..1.
        first: index of the first of the t frames.
        times_s: (T,) seconds of all frames of the video.
    """

    joints: DoubleArray
    weight: DoubleArray
    first: int
    times_s: DoubleArray


def estimate_up(people: Sequence[PersonMotion], footprints: Footprints) -> DoubleArray:
    """Estimate the up direction.

    Args:
        people: motion of all people.
        footprints: foot contacts; :meth:`Footprints.empty` before they are known.

    Returns:
        (3,) unit vector in camera axes.
    """
    known = [_body_axes(person) for person in people]
    axes = np.concatenate([person_axes for person_axes, _ in known])
    confidence = np.concatenate([weight for _, weight in known])
    start = _geometric_median(axes, confidence)
    pitch, roll = _pitch_and_roll(start)
    if not (_STEEPEST_UP < pitch < _STEEPEST_DOWN and abs(roll) < _MOST_ROLL):
        start = np.array([0.0, -1.0, 0.0])
    # The body of a lying person is straight as well: only axes near the median count as upright.
    near = axes @ start > np.cos(np.radians(45))
    axes, confidence = axes[near], confidence[near]
    ceiling = (_LEAN_SD / _BIAS_SD) ** 2
    confidence = confidence * min(1.0, ceiling / max(float(confidence.sum()), 1e-9))
    footprints = footprints.most_weighted(_MOST_WALKERS)
    walkers, index = np.unique(footprints.person, return_inverse=True)
    count = len(walkers)
    level = _levels(footprints, index, start)
    share_sd = np.hypot(_DEPTH_SD, _STEP_SD_M / _away_from_zero(level[index]))
    seen = np.sqrt([min(1.0, float(footprints.weight[index == i].max())) for i in range(count)])

    def residuals(state: DoubleArray) -> DoubleArray:
        up = _up_vector(state[0], state[1])
        parts = [state[:2] / [_PITCH_SD, _ROLL_SD]]
        if len(axes):
            angle = np.linalg.norm(axes - up, axis=1)
            parts.append(_cauchy(angle / _LEAN_SD) * np.sqrt(confidence))
        if count:
            # Height of each footprint relative to the height of its plane below the camera. Absolute heights would
            # bias the fit towards planes that pass near the camera, where a depth error causes a small height error.
            planes = state[2 : 2 + count]
            off = (footprints.position @ up / _away_from_zero(planes[index]) - 1) / share_sd
            parts.append(_cauchy(off) * np.sqrt(footprints.weight))
            parts.append(_saturating((planes / _away_from_zero(state[-1]) - 1) / _PLANE_SD) * seen)
        return np.concatenate(parts)

    pitch, roll = _pitch_and_roll(start)
    fits = []
    for turn in _STARTS if count > 1 else _STARTS[:1]:
        heights = _levels(footprints, index, _up_vector(pitch + turn, roll))
        fits.append(
            scipy.optimize.least_squares(
                residuals,
                [pitch + turn, roll, *heights, *([np.median(heights)] if count else [])],
                xtol=_TOLERANCE,
                ftol=_TOLERANCE,
                max_nfev=_MOST_STEPS,
            )
        )
    return _up_vector(*min(fits, key=lambda fit: float(fit.cost)).x[:2])


def _levels(footprints: Footprints, index: NDArray[np.intp], up: DoubleArray) -> DoubleArray:
    """Median height of each person's footprints; ``index`` numbers the people of the footprints."""
    people = int(index.max()) + 1 if len(index) else 0
    return np.array([np.median(footprints.position[index == i] @ up) for i in range(people)])


def _away_from_zero(heights: DoubleArray | np.float64) -> DoubleArray:
    """Heights for use as divisors, at least 5 cm from 0."""
    return np.where(np.abs(heights) < 0.05, np.where(heights < 0, -0.05, 0.05), heights)


def _up_vector(pitch: float, roll: float) -> DoubleArray:
    """Up direction in camera axes for ``pitch`` (down positive) and ``roll`` in radians."""
    return np.array([np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch)])


def _pitch_and_roll(up: DoubleArray) -> tuple[float, float]:
    return float(np.arctan2(-up[2], -up[1])), float(np.arcsin(np.clip(up[0], -1, 1)))


def _cauchy(residual: DoubleArray) -> DoubleArray:
    """Residuals with Cauchy loss, which reduces the weight of outliers."""
    return np.asarray(np.sign(residual) * np.sqrt(np.log1p(residual**2)))


def _saturating(residual: DoubleArray) -> DoubleArray:
    """Limit residuals so that their square is at most ``_OTHER_LEVEL``.

    People on another level then have no influence.
    """
    return np.asarray(residual / np.sqrt(1 + residual**2 / _OTHER_LEVEL))


def _body_axes(person: PersonMotion) -> tuple[DoubleArray, DoubleArray]:
    """Mean body axis of a person in each block of time, and its weight; upright frames only."""
    joints, times_s = person.joints, person.times_s
    trunk = unit_vectors(joints[..., NECK, :] - joints[..., HIP, :])
    legs = unit_vectors(joints[..., HIP, :] - joints[..., ANKLES, :].mean(axis=-2))
    whole = unit_vectors(joints[..., THORAX, :] - joints[..., ANKLES, :].mean(axis=-2))
    no_legs = np.asarray(~np.isfinite(legs).all(-1) & np.isfinite(trunk).all(-1))
    axis = np.where(no_legs[..., None], trunk, whole)
    ahead = unit_vectors(np.cross(joints[..., HIPS[0], :] - joints[..., HIPS[1], :], axis))
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
    return unit_vectors(summed[seen]), total[seen] / frames[seen]


def _legs_stretched(joints: DoubleArray) -> BoolArray:
    """Whether both legs are nearly straight, (t,), unlike in crawling or sitting."""
    reach = [np.linalg.norm(joints[..., a, :] - joints[..., h, :], axis=-1) for h, a in zip(HIPS, ANKLES, strict=True)]
    bones = [
        np.linalg.norm(joints[..., k, :] - joints[..., h, :], axis=-1)
        + np.linalg.norm(joints[..., a, :] - joints[..., k, :], axis=-1)
        for h, k, a in zip(HIPS, KNEES, ANKLES, strict=True)
    ]
    return np.asarray(np.minimum(reach[0] / bones[0], reach[1] / bones[1]) > _STRETCHED)


def _geometric_median(axes: DoubleArray, confidence: DoubleArray) -> DoubleArray:
    """Geometric median of the axes and a level camera's up; robust to a few lying people."""
    level = np.array([0.0, -1.0, 0.0])
    points, weight = np.vstack([axes, level]), np.append(confidence, 0.3)
    mean = unit_vectors((weight[:, None] * points).sum(0))
    for _ in range(20):
        pull = weight / np.maximum(np.linalg.norm(points - mean, axis=1), 0.05)
        mean = unit_vectors((pull[:, None] * points).sum(0))
    return mean
