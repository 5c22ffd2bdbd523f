"""Search for new people with the multi-person network, at two sizes and in tiles.

MultiPose finds people whose height is between a quarter and the whole of its input. So the whole frame is searched at
two sizes, and overlapping tiles are searched for small people. A full search takes six times as long as tracking one
person, so after the first frame each search does only a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vp3d_cli.detect.movenet.model import MultiPose, Person, person_similarity
from vp3d_cli.types import FrameBGR

COARSE_SIDE = 256  # finds people as tall as the frame and taller
FINE_SIDE = 512
# Size of tiles before overlap; a tile loses little detail when it is resized to FINE_SIDE.
TILE_PX = 640
MAX_TILES = 4  # along one side of the frame; limits the time for very large frames
OVERLAP = 1.25  # size of a tile with overlap: a small person at the edge of a tile is complete in the next one
SAME_PERSON_SIMILARITY = 0.45  # keypoint similarity from which two detections are one person


@dataclass(frozen=True)
class Tile:
    """Part of the frame: pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int


def make_tiles(width: int, height: int) -> list[Tile]:
    """Overlapping tiles that cover the frame, row by row; a single tile for a small frame."""

    def spans(length: int) -> list[tuple[int, int]]:
        count = min(MAX_TILES, -(-length // TILE_PX))
        size = min(length, round(length / count * OVERLAP))
        starts = np.linspace(0, length - size, count).round().astype(int).tolist()
        return [(start, start + size) for start in starts]

    return [Tile(x0, y0, x1, y1) for y0, y1 in spans(height) for x0, x1 in spans(width)]


def remove_duplicates(people: Iterable[Person]) -> list[Person]:
    """Remove duplicate people; the rest in order of decreasing score."""
    kept: list[Person] = []
    for person in sorted(people, key=lambda p: -p.score):
        if all(person_similarity(person, other) < SAME_PERSON_SIMILARITY for other in kept):
            kept.append(person)
    return kept


class PersonSearch:
    """Finds people in a frame; it has no state besides the network."""

    def __init__(self, network: MultiPose) -> None:
        self._network = network

    def full_frame_and_tiles(self, frame: FrameBGR) -> list[Person]:
        """Find people of any size in the frame; without duplicates, best first."""
        found = self._full_frame(frame)
        for tile in _search_tiles(frame):
            found += self._tile(frame, tile)
        return remove_duplicates(found)

    def full_frame(self, frame: FrameBGR) -> list[Person]:
        """Find people who are not small in the frame; without duplicates, best first."""
        return remove_duplicates(self._full_frame(frame))

    def one_part(self, frame: FrameBGR, turn: int) -> list[Person]:
        """Do one part of a full search: even turns the whole frame, odd turns one tile.

        An odd turn also searches the whole frame at the coarse size. The result has no duplicates.
        """
        tiles = _search_tiles(frame)
        if turn % 2 == 0 or not tiles:
            return self.full_frame(frame)
        tile = tiles[turn // 2 % len(tiles)]
        return remove_duplicates([*self._network(frame, COARSE_SIDE), *self._tile(frame, tile)])

    def _full_frame(self, frame: FrameBGR) -> list[Person]:
        return [*self._network(frame, COARSE_SIDE), *self._network(frame, FINE_SIDE)]

    def _tile(self, frame: FrameBGR, tile: Tile) -> list[Person]:
        view = frame[tile.y0 : tile.y1, tile.x0 : tile.x1]
        shift = np.array([tile.x0, tile.y0], np.float64)
        return [person.moved(shift) for person in self._network(view, FINE_SIDE)]


def _search_tiles(frame: FrameBGR) -> list[Tile]:
    """Tiles to search; none if the only tile is the frame itself."""
    height, width = frame.shape[:2]
    tiles = make_tiles(width, height)
    return tiles if len(tiles) > 1 else []
