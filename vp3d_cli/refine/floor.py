"""Floor estimation: the height of the floor and of other levels that people stand on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.refine.body import ANKLE_HEIGHT_M, ANKLES, HIP, HIP_HEIGHT_M
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# Footprints of one person within this height difference are on one level: a constant, plus a share of the height of
# the camera, because a depth error of 10 % causes a height error of 10 % of that. Between two people the share is
# larger, because their assumed body heights may be wrong.
_SAME_M, _SAME_SHARE, _SAME_SHARE_OF_TWO = 0.1, 0.1, 0.15
# A level needs this much contact time, or this share of the contact time of the person.
_LEAST_STANDING_S, _LEAST_SHARE = 0.3, 0.05


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
    """Contact heights of joints (T, 17, 3), world axes, with contacts (T, 2)."""
    rows = [
        ((start + stop - 1) / 2, np.median(body[start:stop, ANKLES[foot], 2]), confidence[start:stop].sum() / rate)
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
        offsets: (P,) height to subtract from each person so that all stand on one floor.
        ground: for each segment, (T,) height of the level under the person, offsets subtracted.
    """

    floor: float
    offsets: DoubleArray
    ground: list[DoubleArray]


def find_floor_levels(contacts: list[ContactHeights], bodies: list[DoubleArray], people: int) -> FloorLevels:
    """Cluster contact heights into levels; the lowest with enough contact time is the floor.

    Args:
        contacts: contact heights of each segment.
        bodies: joints of each segment, (T, 17, 3) in world axes; they give the floor if there are no contacts.
        people: number of people P.
    """
    levels_by_person: dict[int, list[tuple[float, float]]] = {}
    levels_of: list[DoubleArray] = [np.zeros(0)] * len(contacts)
    for person in range(people):
        segments = [i for i, s in enumerate(contacts) if s.person == person]
        if not segments:
            continue
        heights = np.concatenate([contacts[i].height for i in segments])
        seconds = np.concatenate([contacts[i].seconds for i in segments])
        levelled = _cluster(heights, seconds)
        ends = np.cumsum([len(contacts[i].height) for i in segments])[:-1]
        for i, part in zip(segments, np.split(levelled, ends), strict=True):
            levels_of[i] = part
        levels_by_person[person] = _main_levels(levelled, seconds)
    main_levels = [level for levels in levels_by_person.values() for level in levels]
    floor = _lowest_level(main_levels) if main_levels else _floor_without_contacts(bodies)
    offsets = np.zeros(people)
    for person, levels_stood in levels_by_person.items():
        if levels_stood:
            nearest = min((level - floor for level, _ in levels_stood), key=abs)
            offsets[person] = nearest if abs(nearest) < _SAME_M + _SAME_SHARE_OF_TWO * abs(floor) else 0.0
    ground = [
        _level_per_frame(contact, levels - offsets[contact.person], len(body), floor)
        for contact, levels, body in zip(contacts, levels_of, bodies, strict=True)
    ]
    return FloorLevels(floor, offsets, ground)


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


def _lowest_level(levels: list[tuple[float, float]]) -> float:
    """Weighted median of the levels that coincide with the lowest one."""
    lowest = min(height for height, _ in levels)
    reach = _SAME_M + _SAME_SHARE_OF_TWO * abs(lowest)
    one = [(height, seconds) for height, seconds in levels if height - lowest < reach]
    return _weighted_median(np.array([h for h, _ in one]), np.array([s for _, s in one]))


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
