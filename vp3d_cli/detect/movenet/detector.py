"""The embedded detector: MoveNet MultiPose finds people, a single-person MoveNet follows each of them.

People are searched for in the first frame, then at every eighth frame, and more often while nobody is in view or
somebody was lost. In between, each known person is followed by a square of their own (see follow.py), which is far
more exact than the search and works at any size of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector
from vp3d_cli.detect.movenet.follow import PATIENCE, SEEN, Follower, Track
from vp3d_cli.detect.movenet.model import MultiPose, Person, SinglePose, alike
from vp3d_cli.detect.movenet.search import SAME_PERSON, Search
from vp3d_cli.errors import ConfigError
from vp3d_cli.types import FrameBGR, Keypoints2D

# While nobody is in view, or somebody was just lost, the whole frame is searched this often.
URGENT_EVERY = 3


class MoveNetDetector:
    """Finds and follows the people of one video; made by :func:`load`.

    Who is who is not said: the order of the people in a result has no meaning.
    """

    batch_size = 1  # each frame's squares depend on the frame before

    def __init__(
        self,
        name: str,
        refiner: SinglePose,
        finder: MultiPose,
        *,
        search_every: int,
        max_people: int,
        min_size_px: float,
    ) -> None:
        self.name = name
        self.sha256 = f"{refiner.sha256}+{finder.sha256}"
        self._follower = Follower(refiner, min_size_px)
        self._search = Search(finder)
        self._search_every = search_every
        self._max_people = max_people
        self.reset()

    def reset(self, frame: int = 0) -> None:
        """Forget everyone: another video follows, or another shot, from the frame with this number on."""
        self._tracks: list[Track] = []
        self._frame = frame
        self._frames_since_search: int | None = None  # None before the first search

    def memory(self) -> dict[str, Any]:
        """What is known of the frames so far, as JSON can hold it; see :meth:`recall`."""
        return {
            "frame": self._frame,
            "frames_since_search": self._frames_since_search,
            "tracks": [track.as_json() for track in self._tracks],
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Know again what :meth:`memory` told, of this video."""
        self._frame, self._frames_since_search = memory["frame"], memory["frames_since_search"]
        self._tracks = [Track.from_json(stored) for stored in memory["tracks"]]

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Everyone in each of the frames, which follow those of the previous call."""
        return [self._step(frame) for frame in frames]

    def _step(self, frame: FrameBGR) -> Keypoints2D:
        just_lost = self._follow_everyone(frame)
        search = self._choose_search(just_lost)
        if search is not None:
            self._welcome(frame, search(frame))
            self._frames_since_search = 0
        self._frame += 1
        return _as_keypoints([track.person for track in self._tracks if not track.hidden])

    def _follow_everyone(self, frame: FrameBGR) -> bool:
        """Take every track to this frame; whether somebody who was in view is not any more."""
        seen = [(track, self._follower.find(frame, track)) for track in self._tracks]
        # Where two squares slid onto one person, the track that this person continues better keeps them; the other
        # one's person is behind them, and counts as hidden.
        seen.sort(key=lambda pair: -pair[0].continuity(pair[1]) if pair[1] is not None else 0.0)
        taken: list[Person] = []
        just_lost = False
        for track, person in seen:
            if person is not None and all(alike(person, other) < SAME_PERSON for other in taken):
                taken.append(person)
                track.saw(person)
            else:
                track.missed()
                just_lost |= track.hidden == 1
        self._tracks = [track for track in self._tracks if track.hidden <= PATIENCE]
        return just_lost

    def _choose_search(self, just_lost: bool) -> Callable[[FrameBGR], list[Person]] | None:
        """The search that this frame needs, or None."""
        if self._frames_since_search is None:
            return self._search.everywhere
        self._frames_since_search += 1
        in_view = sum(not track.hidden for track in self._tracks)
        if in_view >= self._max_people:
            return None
        searches, off = divmod(self._frame, self._search_every)
        if off == 0:
            return partial(self._search.in_turn, turn=searches - 1)
        urgent = not in_view or in_view < len(self._tracks)
        if just_lost or (urgent and self._frames_since_search >= URGENT_EVERY):
            return self._search.whole
        return None

    def _welcome(self, frame: FrameBGR, found: Sequence[Person]) -> None:
        """Follow those of the people found whom nobody follows yet."""
        for person in found:
            in_view = [track for track in self._tracks if not track.hidden]
            if len(in_view) >= self._max_people:
                return
            if any(alike(person, track.person) >= SAME_PERSON for track in in_view):
                continue
            newcomer = self._follower.begin(frame, person)
            if newcomer is None or any(alike(newcomer.person, t.person) >= SAME_PERSON for t in in_view):
                continue
            # Somebody hidden who would be here by now has been found again.
            self._tracks = [t for t in self._tracks if not t.hidden or not _overlap(t.anchor, newcomer.person)]
            self._tracks.append(newcomer)


def _overlap(first: Person, second: Person) -> bool:
    """Whether the middle of one person's box lies in the other's."""
    a, b = first.box_xyxy(SEEN), second.box_xyxy(SEEN)
    middle = (b[:2] + b[2:]) / 2
    return bool((middle >= a[:2]).all() and (middle <= a[2:]).all())


def _as_keypoints(people: Sequence[Person]) -> Keypoints2D:
    if not people:
        return Keypoints2D.empty()
    return Keypoints2D(
        boxes_xyxy=np.stack([person.box_xyxy(SEEN) for person in people]),
        keypoints=np.stack([person.keypoints for person in people]),
        scores=np.stack([person.scores for person in people]),
        person_scores=np.array([person.score for person in people], np.float32),
    )


def load(
    device: str = "auto",
    *,
    name: str = "movenet",
    refiner: str = "movenet-thunder",
    flip: bool = False,
    search_every: int = 8,
    max_people: int = 20,
    min_size_px: float = 48.0,
    threads: int = 0,
    precision: str = "auto",
) -> Detector:
    """Load the embedded detector.

    Args:
        device: see :func:`vp3d_cli.runtime.load.load_model`.
        name: how results name the detector.
        refiner: weights of the single-person network, ``movenet-thunder`` or ``movenet-lightning``.
        flip: run the single-person network on the mirrored square as well: twice the time; on two clips with measured
            motion the keypoints' velocity error fell by 14 and 18 %, their position error by 1 and 4 %.
        search_every: frames from one search for newcomers to the next.
        max_people: follow no more people than this at a time.
        min_size_px: leave out people whose keypoints span fewer pixels; in a smaller person, the network's error of
            half a percent of the square around them is as large as a hand.
        threads: CPU threads of one run; 0 takes all usable cores.
        precision: ``auto`` (bf16 on processors that compute it natively, else f32), ``f32`` or ``bf16``.

    Raises:
        ConfigError: an option is out of range.
        MissingDependencyError: no runtime is installed, or the device is not present.
        WeightsError: a weight file is missing or broken.
    """
    for option, value, least in (
        ("search_every", search_every, 1),
        ("max_people", max_people, 1),
        ("min_size_px", min_size_px, 0),
        ("threads", threads, 0),
    ):
        if not value >= least:
            raise ConfigError(f"detector {name}: {option} must be at least {least}, got {value}")
    return MoveNetDetector(
        name,
        SinglePose(refiner, device, threads, precision=precision, flip=flip),
        MultiPose(device=device, threads=threads, precision=precision),
        search_every=search_every,
        max_people=max_people,
        min_size_px=min_size_px,
    )
