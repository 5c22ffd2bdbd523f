"""The floor that several people share, and the body heights that put them on it.

One camera cannot tell a small person nearby from a tall one far away. People who stand on one floor tell their
relative height: whoever is assumed too tall is put too far away, and below a camera that looks down too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vp3d_cli.types import DoubleArray

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
class StandingLevels:
    """Where one person stands, under their assumed height.

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
    """The floor with the smallest total cost over people, each weighted by how well they are seen.

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
    """The person's level that a possible body height brings nearest to the floor; None if there is none."""
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
