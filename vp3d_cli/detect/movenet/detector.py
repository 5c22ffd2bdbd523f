"""MoveNet detector: MultiPose finds people, a single-person MoveNet tracks each of them.

The detector searches for people in the first frame, then in every eighth frame, and more often while nobody is in view
or a person was lost. In between it tracks each known person with a square crop (see person_tracking.py), which is more
accurate than the search and works at any frame size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector
from vp3d_cli.detect.movenet.model import MultiPose, Person, SinglePose, person_similarity
from vp3d_cli.detect.movenet.person_tracking import MAX_LOST_FRAMES, MIN_KEYPOINT_SCORE, PersonTracker, Track
from vp3d_cli.detect.movenet.search import SAME_PERSON_SIMILARITY, PersonSearch
from vp3d_cli.errors import ConfigError
from vp3d_cli.types import FrameBGR, Keypoints2D

# Frames between searches while nobody is in view or a person is lost.
URGENT_SEARCH_EVERY = 3


class MoveNetDetector:
    """Finds and tracks the people of one video; created by :func:`load`.

    Results have no identities: the order of the people has no meaning.
    """

    batch_size = 1  # the crops of each frame depend on the frame before

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
        self._person_tracker = PersonTracker(refiner, min_size_px)
        self._search = PersonSearch(finder)
        self._search_every = search_every
        self._max_people = max_people
        self.reset()

    def reset(self, frame: int = 0) -> None:
        """Drop all tracks before another video or shot; ``frame`` is the index of the next frame."""
        self._tracks: list[Track] = []
        self._frame = frame
        self._frames_since_search: int | None = None  # None before the first search

    def state(self) -> dict[str, Any]:
        """State after the frames so far, as JSON types; see :meth:`restore`."""
        return {
            "frame": self._frame,
            "frames_since_search": self._frames_since_search,
            "tracks": [track.as_json() for track in self._tracks],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state` returned, for the same video."""
        self._frame, self._frames_since_search = state["frame"], state["frames_since_search"]
        self._tracks = [Track.from_json(stored) for stored in state["tracks"]]

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find all people in each frame; the frames follow those of the previous call."""
        return [self._step(frame) for frame in frames]

    def _step(self, frame: FrameBGR) -> Keypoints2D:
        person_lost = self._update_tracks(frame)
        search = self._choose_search(person_lost)
        if search is not None:
            self._start_tracks(frame, search(frame))
            self._frames_since_search = 0
        self._frame += 1
        return _to_keypoints([track.person for track in self._tracks if not track.lost_frames])

    def _update_tracks(self, frame: FrameBGR) -> bool:
        """Update all tracks with a frame; returns whether a person in view was lost."""
        seen = [(track, self._person_tracker.find(frame, track)) for track in self._tracks]
        # Where two tracks found one person, the track with the better continuity keeps the person. The other track
        # counts as lost: its person is occluded.
        seen.sort(key=lambda pair: -pair[0].continuity(pair[1]) if pair[1] is not None else 0.0)
        taken: list[Person] = []
        person_lost = False
        for track, person in seen:
            if person is not None and all(person_similarity(person, other) < SAME_PERSON_SIMILARITY for other in taken):
                taken.append(person)
                track.update(person)
            else:
                track.mark_lost()
                person_lost |= track.lost_frames == 1
        self._tracks = [track for track in self._tracks if track.lost_frames <= MAX_LOST_FRAMES]
        return person_lost

    def _choose_search(self, person_lost: bool) -> Callable[[FrameBGR], list[Person]] | None:
        """Search that this frame needs, or None."""
        if self._frames_since_search is None:
            return self._search.full_frame_and_tiles
        self._frames_since_search += 1
        in_view = sum(not track.lost_frames for track in self._tracks)
        if in_view >= self._max_people:
            return None
        searches, off = divmod(self._frame, self._search_every)
        if off == 0:
            return partial(self._search.one_part, turn=searches - 1)
        urgent = not in_view or in_view < len(self._tracks)
        if person_lost or (urgent and self._frames_since_search >= URGENT_SEARCH_EVERY):
            return self._search.full_frame
        return None

    def _start_tracks(self, frame: FrameBGR, found: Sequence[Person]) -> None:
        """Start tracks for people who are not tracked yet."""
        for person in found:
            in_view = [track for track in self._tracks if not track.lost_frames]
            if len(in_view) >= self._max_people:
                return
            if any(person_similarity(person, track.person) >= SAME_PERSON_SIMILARITY for track in in_view):
                continue
            new_track = self._person_tracker.start(frame, person)
            if new_track is None or any(
                person_similarity(new_track.person, t.person) >= SAME_PERSON_SIMILARITY for t in in_view
            ):
                continue
            # A lost track at the position of the new person is that person, found again.
            self._tracks = [
                t for t in self._tracks if not t.lost_frames or not _contains_centre(t.last_reliable, new_track.person)
            ]
            self._tracks.append(new_track)


def _contains_centre(first: Person, second: Person) -> bool:
    """Whether the centre of the second person's box is inside the first person's box."""
    a, b = first.box_xyxy(MIN_KEYPOINT_SCORE), second.box_xyxy(MIN_KEYPOINT_SCORE)
    middle = (b[:2] + b[2:]) / 2
    return bool((middle >= a[:2]).all() and (middle <= a[2:]).all())


def _to_keypoints(people: Sequence[Person]) -> Keypoints2D:
    if not people:
        return Keypoints2D.empty()
    return Keypoints2D(
        boxes_xyxy=np.stack([person.box_xyxy(MIN_KEYPOINT_SCORE) for person in people]),
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
    """Load the MoveNet detector.

    Args:
        device: see :func:`vp3d_cli.runtime.load.load_model`.
        name: name of the detector in results.
        refiner: weights of the single-person network, ``movenet-thunder`` or ``movenet-lightning``.
        flip: also run the single-person network on the mirrored crop and average: twice the time; on two clips with
            motion capture the velocity error fell by 14 and 18 %, the position error by 1 and 4 %.
        search_every: frames between searches for new people.
        max_people: largest number of people tracked at a time.
        min_size_px: drop people whose keypoints span fewer pixels; in smaller people the error of the network, half a
            percent of the crop, is as large as a hand.
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
