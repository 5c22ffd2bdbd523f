"""Where to look for people whom nobody follows yet.

MultiPose finds people who are between about a quarter and the whole of its input tall. So the whole frame is looked
at in two sizes, and small people are found by cutting it into overlapping tiles. Seeing it all takes six times as
long as following one person for a frame; unless nobody is known at all, a search does a part, in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vp3d_cli.detect.movenet.model import MultiPose, Person, alike
from vp3d_cli.types import FrameBGR

COARSE_SIDE = 256  # sees people as tall as the frame, and taller
FINE_SIDE = 512
# The frame is cut about every so many pixels, so that tiles keep most of their detail at FINE_SIDE.
TILE_PX = 640
MAX_TILES = 4  # along one side of the frame: bounds the time for very large ones
OVERLAP = 1.25  # of a tile's length: somebody small who is cut by one tile is whole in its neighbour
SAME_PERSON = 0.45  # similarity from which two finds are one person


@dataclass(frozen=True)
class Tile:
    """A part of the frame: pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int


def make_tiles(width: int, height: int) -> list[Tile]:
    """Overlapping tiles that cover the frame, row by row; a single one where the frame is small."""

    def spans(length: int) -> list[tuple[int, int]]:
        count = min(MAX_TILES, -(-length // TILE_PX))
        size = min(length, round(length / count * OVERLAP))
        starts = np.linspace(0, length - size, count).round().astype(int).tolist()
        return [(start, start + size) for start in starts]

    return [Tile(x0, y0, x1, y1) for y0, y1 in spans(height) for x0, x1 in spans(width)]


def distinct(people: Iterable[Person]) -> list[Person]:
    """The people without duplicates, best first."""
    kept: list[Person] = []
    for person in sorted(people, key=lambda p: -p.score):
        if all(alike(person, other) < SAME_PERSON for other in kept):
            kept.append(person)
    return kept


class Search:
    """Finds people in a frame; holds no state but the network."""

    def __init__(self, network: MultiPose) -> None:
        self._network = network

    def everywhere(self, frame: FrameBGR) -> list[Person]:
        """People in the frame, whatever their size; distinct, best first."""
        found = self._whole(frame)
        for tile in _tiles_of(frame):
            found += self._part(frame, tile)
        return distinct(found)

    def whole(self, frame: FrameBGR) -> list[Person]:
        """People who are not small beside the frame; distinct, best first."""
        return distinct(self._whole(frame))

    def in_turn(self, frame: FrameBGR, turn: int) -> list[Person]:
        """By turns (0, 1, ...) the whole frame closely, or one of its tiles after a glance at the whole; distinct."""
        tiles = _tiles_of(frame)
        if turn % 2 == 0 or not tiles:
            return self.whole(frame)
        tile = tiles[turn // 2 % len(tiles)]
        return distinct([*self._network(frame, COARSE_SIDE), *self._part(frame, tile)])

    def _whole(self, frame: FrameBGR) -> list[Person]:
        return [*self._network(frame, COARSE_SIDE), *self._network(frame, FINE_SIDE)]

    def _part(self, frame: FrameBGR, tile: Tile) -> list[Person]:
        view = frame[tile.y0 : tile.y1, tile.x0 : tile.x1]
        shift = np.array([tile.x0, tile.y0], np.float64)
        return [person.moved(shift) for person in self._network(view, FINE_SIDE)]


def _tiles_of(frame: FrameBGR) -> list[Tile]:
    """The tiles worth a look: none where the only one is the frame itself."""
    height, width = frame.shape[:2]
    tiles = make_tiles(width, height)
    return tiles if len(tiles) > 1 else []
