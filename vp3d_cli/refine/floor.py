"""Floor estimation: the height of the floor and of other levels that people stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vp3d_cli.refine.body import ANKLE_HEIGHT_M, ANKLES, HIP, HIP_HEIGHT_M
from vp3d_cli.refine.common_floor import StandingLevels, find_common_floor
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# Footprints of one person within this height difference are on one level: a constant, plus a share of the height of
# the camera, because a depth error of 10 % causes a height error of 10 % of that. Between two people the share is
# larger, because their assumed body heights may be wrong.
_SAME_M, _SAME_SHARE, _SAME_SHARE_OF_TWO = 0.1, 0.1, 0.15
# A level needs this much contact time, or this share of the contact time of the person.
_LEAST_STANDING_S, _LEAST_SHARE = 0.3, 0.05
# Contact time from which on a person has full weight: those who stay longer do not know the floor better.
_ENOUGH_STANDING_S = 2.0


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
    """Contact heights of joints (T, 17, 3), world axes, with contacts and confidence of the feet (T, 2)."""
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
    contacts: list[ContactHeights], bodies: list[DoubleArray], heights: Sequence[AssumedHeight]
) -> FloorLevels:
    """Cluster contact heights into levels; the floor is the one on which people agree best.

    Args:
        contacts: contact heights of each segment.
        bodies: joints of each segment, (T, 17, 3) in world axes; they give the floor if there are no contacts.
        heights: assumed body height of each of P people.
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
    ground = [
        _level_per_frame(
            contact, scaled_level(levels, common.scales[contact.person]) - offsets[contact.person], len(body), floor
        )
        for contact, levels, body in zip(contacts, levels_of, bodies, strict=True)
    ]
    return FloorLevels(floor, common.scales, offsets, ground)


def scaled_level(levels: DoubleArray, scale: float) -> DoubleArray:
    """Levels of the soles of a person who is scaled about the camera; the sole stays as far below the ankle."""
    return np.asarray((levels + ANKLE_HEIGHT_M) * scale - ANKLE_HEIGHT_M)


def _weight(seconds: DoubleArray, bodies: list[DoubleArray], segments: list[int]) -> float:
    """How well a person tells the floor: by contact time, confidence and nearness to the camera."""
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
