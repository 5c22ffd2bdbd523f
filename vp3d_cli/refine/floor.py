"""What people stand on: the floor, and anything above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.refine.body_scale import ANKLE_HEIGHT_M, ANKLES, HIP, HIP_HEIGHT_M
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# A depth that is off by a tenth puts a foot off by a tenth of the camera's height above it. Footprints of one person
# nearer than this are on one level; people's assumed size adds to it where two people are compared.
_SAME_M, _SAME_SHARE, _SAME_SHARE_OF_TWO = 0.1, 0.1, 0.15
# A level is one that someone stood on for so long, or for this share of all their standing.
_LEAST_STANDING_S, _LEAST_SHARE = 0.3, 0.05


@dataclass(frozen=True)
class Standing:
    """The footprints of one part of one person's motion.

    Attributes:
        person: index.
        middle: (N,) frame in the middle of each footprint.
        height: (N,) of the sole, world axes, relative to the camera, metres.
        seconds: (N,) how long it stood, times the trust in it.
    """

    person: int
    middle: DoubleArray
    height: DoubleArray
    seconds: DoubleArray


def standing_of(person: int, body: DoubleArray, contacts: BoolArray, trust: DoubleArray, rate: float) -> Standing:
    """Footprints of a body (T, 17, 3) in world axes with contacts (T, 2) and trust (T,)."""
    rows = [
        ((start + stop - 1) / 2, np.median(body[start:stop, ANKLES[foot], 2]), trust[start:stop].sum() / rate)
        for foot in range(2)
        for start, stop in stretches(contacts[:, foot])
    ]
    table = np.array(rows).reshape(-1, 3)
    return Standing(person, table[:, 0], table[:, 1] - ANKLE_HEIGHT_M, table[:, 2])


@dataclass(frozen=True)
class Levels:
    """Where the floor is and what each person stands on.

    Attributes:
        floor: height relative to the camera, metres.
        offsets: (P,) what to take off each person's heights so that the floor is one for all.
        under: for each part, (T,) height of what the person stands on, offsets taken off.
    """

    floor: float
    offsets: DoubleArray
    under: list[DoubleArray]


def find_levels(standings: list[Standing], bodies: list[DoubleArray], people: int) -> Levels:
    """Sort footprints into levels, and find the one that is the floor: the lowest that is really stood on.

    Args:
        standings: one for each part.
        bodies: the parts' joints, (T, 17, 3) in world axes; they place the floor where nobody's feet stand.
        people: P.
    """
    own: dict[int, list[tuple[float, float]]] = {}
    levels_of: list[DoubleArray] = [np.zeros(0)] * len(standings)
    for person in range(people):
        mine = [i for i, s in enumerate(standings) if s.person == person]
        if not mine:
            continue
        heights = np.concatenate([standings[i].height for i in mine])
        seconds = np.concatenate([standings[i].seconds for i in mine])
        levelled = _cluster(heights, seconds)
        ends = np.cumsum([len(standings[i].height) for i in mine])[:-1]
        for i, part in zip(mine, np.split(levelled, ends), strict=True):
            levels_of[i] = part
        own[person] = _stood_on(levelled, seconds)
    stood = [level for levels in own.values() for level in levels]
    floor = _lowest(stood) if stood else _guess_floor(bodies)
    offsets = np.zeros(people)
    for person, mine_stood in own.items():
        if mine_stood:
            nearest = min((level - floor for level, _ in mine_stood), key=abs)
            offsets[person] = nearest if abs(nearest) < _SAME_M + _SAME_SHARE_OF_TWO * abs(floor) else 0.0
    under = [
        _under(standing, levels - offsets[standing.person], len(body), floor)
        for standing, levels, body in zip(standings, levels_of, bodies, strict=True)
    ]
    return Levels(floor, offsets, under)


def _stood_on(levels: DoubleArray, seconds: DoubleArray) -> list[tuple[float, float]]:
    """Levels on which someone stood for long enough, and how long."""
    least = max(min(_LEAST_STANDING_S, 0.5 * float(seconds.sum())), _LEAST_SHARE * float(seconds.sum()))
    stood = [(float(level), float(seconds[levels == level].sum())) for level in np.unique(levels)]
    return [(level, standing) for level, standing in stood if standing >= least]


def _under(standing: Standing, levels: DoubleArray, frames: int, floor: float) -> DoubleArray:
    """(T,) the level of the footprint nearest in time."""
    if len(levels) == 0:
        return np.full(frames, floor)
    order = np.argsort(standing.middle, kind="stable")
    between = (standing.middle[order][1:] + standing.middle[order][:-1]) / 2
    return np.asarray(levels[order][np.searchsorted(between, np.arange(frames))])


def _cluster(heights: DoubleArray, seconds: DoubleArray) -> DoubleArray:
    """Each height replaced by the level that it belongs to; the level with most standing is taken first."""
    result = np.array(heights, np.float64)
    left = np.argsort(heights, kind="stable")
    while len(left):
        sorted_heights = heights[left]
        tolerance = _SAME_M + _SAME_SHARE * np.abs(sorted_heights)
        begin = np.searchsorted(sorted_heights, sorted_heights - tolerance, side="left")
        end = np.searchsorted(sorted_heights, sorted_heights + tolerance, side="right")
        standing = np.concatenate([[0.0], np.cumsum(seconds[left])])
        best = int((standing[end] - standing[begin]).argmax())
        members = left[begin[best] : end[best]]
        result[members] = _weighted_median(heights[members], seconds[members])
        left = np.delete(left, np.arange(begin[best], end[best]))
    return result


def _lowest(levels: list[tuple[float, float]]) -> float:
    """The weighted median of the levels that are one with the lowest."""
    lowest = min(height for height, _ in levels)
    reach = _SAME_M + _SAME_SHARE_OF_TWO * abs(lowest)
    one = [(height, seconds) for height, seconds in levels if height - lowest < reach]
    return _weighted_median(np.array([h for h, _ in one]), np.array([s for _, s in one]))


def _guess_floor(bodies: list[DoubleArray]) -> float:
    """Nobody's feet stand or are known: a hip's height below the hips, or where the lowest feet are."""
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
