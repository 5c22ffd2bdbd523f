"""Floor estimation: the height of the floor and of other levels that people stand on.

One camera cannot tell a small person nearby from a tall one far away. People who stand on one floor tell their
relative height: whoever is assumed too tall is put too far away, and below a camera that looks down too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vp3d_cli.refine.body import ANKLE_HEIGHT_M, ANKLES, HIP, HIP_HEIGHT_M
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# Footprints of one person within this height difference are on one level: a constant, plus a share of the height of
# the camera, because a depth error of 10 % causes a height error of 10 % of that. Between two people the share is
# larger, because their assumed body heights may be wrong.
_SAME_M, _SAME_SHARE, _SAME_SHARE_OF_TWO = 0.1, 0.1, 0.15
# A level needs this much contact time, or this share of the contact time of the person.
_LEAST_STANDING_S, _LEAST_SHARE = 0.3, 0.05
# Contact time from which on a person has full weight: those who stay longer do not know the floor better.
_ENOUGH_STANDING_S = 2.0
SHORTEST_M, TALLEST_M = 0.8, 2.1  # body heights between which the common floor may choose
_HEIGHT_SD = 0.08  # of adults around the assumed height, with the lifter's error of scale; relative
_LEVEL_SD_M = 0.06  # error of the level of a person's feet
# Below this height of the camera above the floor the distance of a person changes the level of their feet too little.
_NEAR_ZERO_M = 0.3
# Cost of a person who stands above the floor (on a box, a wall), and of one below it, who is rather a picture or a
# false detection; a person within the floor's reach costs log(1 + (deviation / sd)^2).
_ABOVE_COST, _BELOW_COST = 3.3, 5.0
_CANDIDATES = 400


@dataclass(frozen=True)
class ContactHeights:
    """Heights of the foot contacts in one segment of one person's motion.

    Attributes:
        person: index of the person.
        middle: (N,) frame in the middle of each contact.
        height: (N,) height of the sole relative to the camera, world axes, metres.
        seconds: (N,) duration of each contact times its confidence.
    """

    person: int
    middle: DoubleArray
    height: DoubleArray
    seconds: DoubleArray


def contact_heights(
    person: int, body: DoubleArray, contacts: BoolArray, confidence: DoubleArray, rate: float
) -> ContactHeights:
    """Return the contact heights of joints (T, 17, 3) in world axes.

    Contacts and confidence of the feet are (T, 2).
    """
    rows = [
        (
            (start + stop - 1) / 2,
            np.median(body[start:stop, ANKLES[foot], 2]),
            confidence[start:stop, foot].sum() / rate,
        )
        for foot in range(2)
        for start, stop in stretches(contacts[:, foot])
    ]
    table = np.array(rows).reshape(-1, 3)
    return ContactHeights(person, table[:, 0], table[:, 1] - ANKLE_HEIGHT_M, table[:, 2])


@dataclass(frozen=True)
class FloorLevels:
    """Height of the floor, and of the level that each person stands on.

    Attributes:
        floor: height of the floor relative to the camera, metres.
        scales: (P,) factor of size and distance of each person.
        offsets: (P,) height to subtract from each scaled person so that all stand on one floor.
        ground: for each segment, (T,) height of the level under the person, offsets subtracted.
    """

    floor: float
    scales: DoubleArray
    offsets: DoubleArray
    ground: list[DoubleArray]


@dataclass(frozen=True)
class AssumedHeight:
    """Body height of a person, metres, and whether it is known; a known one does not change."""

    metres: float
    certain: bool = False


def find_floor_levels(
    contacts: list[ContactHeights],
    bodies: list[DoubleArray],
    heights: Sequence[AssumedHeight],
    feet_seen: Sequence[bool] | None = None,
) -> FloorLevels:
    """Cluster contact heights into levels; the floor is the one on which people agree best.

    Args:
        contacts: contact heights of each segment.
        bodies: joints of each segment, (T, 17, 3) in world axes; they give the floor if there are no contacts.
        heights: assumed body height of each of P people.
        feet_seen: whether the feet of each person were seen; people whose feet were not stand on the floor. None: all.
    """
    levels_of: list[DoubleArray] = [np.zeros(0)] * len(contacts)
    standing = [StandingLevels(np.zeros(0), 0.0, height.metres, height.certain) for height in heights]
    for person, height in enumerate(heights):
        segments = [i for i, s in enumerate(contacts) if s.person == person]
        if not segments:
            continue
        all_heights = np.concatenate([contacts[i].height for i in segments])
        seconds = np.concatenate([contacts[i].seconds for i in segments])
        levelled = _cluster(all_heights, seconds)
        ends = np.cumsum([len(contacts[i].height) for i in segments])[:-1]
        for i, part in zip(segments, np.split(levelled, ends), strict=True):
            levels_of[i] = part
        main = np.array([level for level, _ in _main_levels(levelled, seconds)])
        standing[person] = StandingLevels(main, _weight(seconds, bodies, segments), height.metres, height.certain)
    nearest_person = max((person.weight for person in standing), default=0.0)
    common = find_common_floor([replace(p, weight=p.weight / max(nearest_person, 1e-9)) for p in standing])
    floor = _floor_without_contacts(bodies) if common.floor is None else common.floor
    offsets = np.zeros(len(heights))
    for person, (own, scale, there) in enumerate(zip(standing, common.scales, common.on_floor, strict=True)):
        if len(own.levels):
            nearest = min(scaled_level(own.levels, scale) - floor, key=abs)
            reach = _SAME_M + _SAME_SHARE_OF_TWO * abs(floor)
            offsets[person] = nearest if there or abs(nearest) < reach else 0.0
        own_bodies = [body for body, s in zip(bodies, contacts, strict=True) if s.person == person]
        if feet_seen is not None and not feet_seen[person] and own_bodies:
            levels = own.levels if len(own.levels) else np.array([_floor_without_contacts(own_bodies)])
            offsets[person] = min(scaled_level(levels, scale) - floor, key=abs)
    ground = [
        _level_per_frame(
            contact, scaled_level(levels, common.scales[contact.person]) - offsets[contact.person], len(body), floor
        )
        for contact, levels, body in zip(contacts, levels_of, bodies, strict=True)
    ]
    return FloorLevels(floor, common.scales, offsets, ground)


def scaled_level(levels: DoubleArray, scale: float) -> DoubleArray:
    """Scale the sole levels of a person about the camera.

    The sole stays as far below the ankle.
    """
    return np.asarray((levels + ANKLE_HEIGHT_M) * scale - ANKLE_HEIGHT_M)


def _weight(seconds: DoubleArray, bodies: list[DoubleArray], segments: list[int]) -> float:
    """Weight of a person for the floor: contact time, confidence and nearness to the camera."""
    hips = np.concatenate([bodies[i][:, HIP] for i in segments])
    distance = max(float(np.nanmedian(np.linalg.norm(hips, axis=1))), 0.3)
    return float(min(float(seconds.sum()) / _ENOUGH_STANDING_S, 1.0) / np.sqrt(distance))


def _main_levels(levels: DoubleArray, seconds: DoubleArray) -> list[tuple[float, float]]:
    """Levels with enough contact time, and their contact time in seconds."""
    least = max(min(_LEAST_STANDING_S, 0.5 * float(seconds.sum())), _LEAST_SHARE * float(seconds.sum()))
    main_levels = [(float(level), float(seconds[levels == level].sum())) for level in np.unique(levels)]
    return [(level, contact_s) for level, contact_s in main_levels if contact_s >= least]


def _level_per_frame(contact: ContactHeights, levels: DoubleArray, frames: int, floor: float) -> DoubleArray:
    """Level of the contact nearest in time, (T,)."""
    if len(levels) == 0:
        return np.full(frames, floor)
    order = np.argsort(contact.middle, kind="stable")
    between = (contact.middle[order][1:] + contact.middle[order][:-1]) / 2
    return np.asarray(levels[order][np.searchsorted(between, np.arange(frames))])


def _cluster(heights: DoubleArray, seconds: DoubleArray) -> DoubleArray:
    """Replace each height by its level; levels of longer contact time are found first."""
    result = np.array(heights, np.float64)
    left = np.argsort(heights, kind="stable")
    while len(left):
        sorted_heights = heights[left]
        tolerance = _SAME_M + _SAME_SHARE * np.abs(sorted_heights)
        begin = np.searchsorted(sorted_heights, sorted_heights - tolerance, side="left")
        end = np.searchsorted(sorted_heights, sorted_heights + tolerance, side="right")
        contact_s = np.concatenate([[0.0], np.cumsum(seconds[left])])
        best = int((contact_s[end] - contact_s[begin]).argmax())
        members = left[begin[best] : end[best]]
        result[members] = _weighted_median(heights[members], seconds[members])
        left = np.delete(left, np.arange(begin[best], end[best]))
    return result


def _floor_without_contacts(bodies: list[DoubleArray]) -> float:
    """Height of the floor without contacts, from the lowest ankles or else from the hips."""
    if not bodies:
        return -HIP_HEIGHT_M
    hips = np.concatenate([body[:, HIP, 2] for body in bodies])
    ankles = np.concatenate([body[:, ANKLES, 2].min(axis=1) for body in bodies])
    ankles = ankles[np.isfinite(ankles)]
    if len(ankles):
        return float(np.quantile(ankles, 0.1)) - ANKLE_HEIGHT_M
    return float(np.nanmedian(hips)) - HIP_HEIGHT_M


def _weighted_median(values: DoubleArray, weights: DoubleArray) -> float:
    order = np.argsort(values)
    along = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(along, along[-1] / 2)])


@dataclass(frozen=True)
class StandingLevels:
    """Standing levels of one person for their assumed body height.

    Attributes:
        levels: (L,) heights of the soles relative to the camera, metres; empty if nothing is known.
        weight: how well the person is seen, 0..1.
        height_m: assumed body height, metres.
        certain: whether this height is known: then it does not change.
    """

    levels: DoubleArray
    weight: float
    height_m: float
    certain: bool = False


@dataclass(frozen=True)
class CommonFloor:
    """The floor that most people share.

    Attributes:
        floor: its height relative to the camera, metres; None if nobody stands anywhere.
        scales: (P,) factor of each person's size and distance; 1 for people on something else.
        on_floor: (P,) whether the person stands on it for some of the time.
    """

    floor: float | None
    scales: DoubleArray
    on_floor: list[bool]


def find_common_floor(people: Sequence[StandingLevels]) -> CommonFloor:
    """Find the floor with the smallest total cost over people.

    Each person is weighted by how well they are seen.

    People whose height would have to leave the human range to stand on it are on something else and keep their size.
    """
    standing = [person for person in people if len(person.levels)]
    if not standing:
        return CommonFloor(None, np.ones(len(people)), [False] * len(people))
    every_level = np.concatenate([person.levels for person in standing])
    between = np.sinh(np.linspace(_curve(every_level.min()), _curve(every_level.max()), _CANDIDATES)) * _NEAR_ZERO_M
    candidates = np.unique(np.concatenate([every_level, between]))  # rising: of equal ones the lowest is taken
    total = sum(person.weight * _costs(person, candidates) for person in standing)
    floor = float(candidates[int(np.argmin(np.round(total, 6)))])
    reached = [_nearest_level(person, floor) for person in people]
    scales = [1.0 if z is None else _scale(person, z, floor) for person, z in zip(people, reached, strict=True)]
    return CommonFloor(floor, np.array(scales), [z is not None for z in reached])


def _curve(level: DoubleArray | float) -> DoubleArray:
    """Logarithmic far from 0, where levels are compared by their ratio, and linear near 0."""
    return np.asarray(np.arcsinh(np.asarray(level) / _NEAR_ZERO_M))


def _costs(person: StandingLevels, floors: DoubleArray) -> DoubleArray:
    """Cost of each candidate (N,) for one person: that of the level that fits best."""
    levels = person.levels[:, None]
    off = _curve(floors)[None] - _curve(levels)
    height_sd = 0.0 if person.certain else _HEIGHT_SD
    sd = np.hypot(height_sd, _LEVEL_SD_M / np.hypot(floors, _NEAR_ZERO_M))[None]
    away = np.where(levels > floors, _ABOVE_COST, _BELOW_COST)
    cost = np.where(_is_possible(person, levels, floors[None]), np.minimum(np.log1p((off / sd) ** 2), away), away)
    return np.asarray(cost.min(axis=0))


def _is_possible(person: StandingLevels, levels: DoubleArray, floors: DoubleArray) -> DoubleArray:
    """Whether a body height within the human range puts the feet on the floor."""
    slack = _LEVEL_SD_M * 2
    low, high = (1.0, 1.0) if person.certain else (SHORTEST_M / person.height_m, TALLEST_M / person.height_m)
    ends = np.sort(np.stack([levels * low, levels * high]), axis=0)
    return np.asarray((floors >= ends[0] - slack) & (floors <= ends[1] + slack))


def _nearest_level(person: StandingLevels, floor: float) -> float | None:
    """Return the person's level that can be nearest to the floor.

    Only possible body heights are considered; None if no level has one.
    """
    possible = person.levels[_is_possible(person, person.levels, np.asarray(floor)).astype(bool)]
    if not len(possible):
        return None
    return float(possible[int(np.argmin(np.abs(_curve(possible) - _curve(floor))))])


def _scale(person: StandingLevels, level: float, floor: float) -> float:
    """Most probable factor of the size, given the prior of heights and the error of the level."""
    if person.certain or level * floor <= 0 or min(abs(level), abs(floor)) < _NEAR_ZERO_M:
        return 1.0
    trust = _HEIGHT_SD**2 / (_HEIGHT_SD**2 + (_LEVEL_SD_M / floor) ** 2)
    scale = np.exp(trust * np.log(floor / level))
    return float(np.clip(scale, SHORTEST_M / person.height_m, TALLEST_M / person.height_m))
