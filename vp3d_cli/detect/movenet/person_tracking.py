"""Tracking of one person from frame to frame with the single-person network.

In each frame the network sees a square crop placed by the keypoints of the previous frame, as MoveNet was designed to
be used. In addition, the crop rotates with a tilted torso, because the network is most accurate on upright people: with
cameras rolled by 20-30 degrees the mean confidence rises from 0.72 to 0.76, in a back flip from 0.3 to 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vp3d_cli.detect.crops import HIPS, SHOULDERS, SquareCrop, square_around, wrap_angle
from vp3d_cli.detect.movenet.model import Person, SinglePose, person_similarity
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR

MIN_KEYPOINT_SCORE = 0.2  # keypoints of lower confidence do not place the crop
# Side of the crop over that of the keypoints' box. Errors against the median of 24 shifted, scaled, rotated or
# mirrored crops (52 people in four clips): 0.64, 0.60, 0.56, 0.57, 0.71 % of the crop at 1.05, 1.15, 1.25, 1.35, 1.5.
CROP_PADDING = 1.25
MAX_TILT = math.radians(15)  # the crop does not rotate below this tilt, so that it does not follow noise

# person_score() of Thunder: at most 0.25 in 180 random crops of background, 0.65-0.85 for people in full view.
START_SCORE = 0.35
KEEP_SCORE = 0.3
LOW_SCORE = 0.5  # below this score, also try rotated crops
MIN_SCORE_GAIN = 0.1  # a rotated crop must score higher by this
MAX_LOST_FRAMES = 20  # frames after which a lost track is dropped
LOST_CROP_SCALE = 1.4  # size of the crop for a lost person over the last crop
ROTATIONS = (math.pi / 2, -math.pi / 2, math.pi)


def person_score(scores: FloatArray) -> float:
    """Confidence that this is a person: mean of the nine most confident of the 17 keypoints.

    Half of the keypoints are enough, so that a person seen from the hips up scores as high as a whole one.
    """
    return float(np.sort(scores)[-9:].mean())


def torso_tilt(person: Person) -> float | None:
    """Angle of the torso in the image, radians clockwise from upright; None if not seen."""
    middles = []
    for pair in (SHOULDERS, HIPS):
        seen = [joint for joint in pair if person.scores[joint] >= MIN_KEYPOINT_SCORE]
        if not seen:
            return None
        middles.append(person.keypoints[seen].mean(axis=0))
    x, y = (float(v) for v in middles[0] - middles[1])
    return math.atan2(x, -y)


def crop_angle(tilt: float) -> float:
    """Rotation of the crop for a torso tilt: the torso leans at most ``MAX_TILT`` in the crop."""
    return math.copysign(max(0.0, abs(tilt) - MAX_TILT), tilt)


def crop_around_person(person: Person, angle: float) -> SquareCrop | None:
    """Crop around the last position of a person; None if too few keypoints were seen."""
    return square_around(
        person.keypoints, person.scores, min_score=MIN_KEYPOINT_SCORE, padding=CROP_PADDING, angle=angle
    )


def needs_second_run(used: SquareCrop, wanted: SquareCrop) -> bool:
    """Whether two crops differ so much that a second run of the network is worthwhile."""
    shift = math.hypot(used.cx - wanted.cx, used.cy - wanted.cy) / wanted.side
    zoom = abs(math.log(used.side / wanted.side))
    return shift > 0.15 or zoom > math.log(1.3) or abs(wrap_angle(used.angle - wanted.angle)) > math.radians(35)


@dataclass
class Track:
    """State of one tracked person.

    Attributes:
        person: last detection.
        last_reliable: last detection with a high score: where to search for a lost person.
        velocity: (2,) pixels per frame.
        angle: rotation of the crop for the next frame, radians.
        lost_frames: frames since the person was last seen; 0 while in view.
        low_score_frames: consecutive frames with a low score.
    """

    person: Person
    last_reliable: Person = field(init=False)
    velocity: DoubleArray = field(default_factory=lambda: np.zeros(2))
    angle: float = field(init=False)
    lost_frames: int = 0
    low_score_frames: int = 0

    def __post_init__(self) -> None:
        self.last_reliable = self.person
        self.angle = crop_angle(torso_tilt(self.person) or 0.0)

    def as_json(self) -> dict[str, Any]:
        """The complete state as JSON types."""
        return {
            "person": _person_as_json(self.person),
            "anchor": _person_as_json(self.last_reliable),
            "velocity": self.velocity.tolist(),
            "angle": self.angle,
            "hidden": self.lost_frames,
            "weak": self.low_score_frames,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Track:
        """Create a track from the result of :meth:`as_json`."""
        track = cls(
            _person_from_json(stored["person"]),
            velocity=np.array(stored["velocity"]),
            lost_frames=stored["hidden"],
            low_score_frames=stored["weak"],
        )
        track.last_reliable, track.angle = _person_from_json(stored["anchor"]), stored["angle"]
        return track

    def predicted(self) -> Person:
        """The person at the predicted position in the next frame."""
        return self.person.moved(self.velocity)

    def continuity(self, person: Person) -> float:
        """Similarity of a person and the prediction, 0..1; 0 for a lost track."""
        return 0.0 if self.lost_frames else person_similarity(self.predicted(), person)

    def update(self, person: Person) -> None:
        """Update the track with the person found in a frame."""
        if self.lost_frames:
            self.velocity = np.zeros(2)
        else:
            weights = np.minimum(person.scores, self.person.scores)[:, None] + 1e-6
            moved = ((person.keypoints - self.person.keypoints) * weights).sum(axis=0) / weights.sum()
            self.velocity = (self.velocity + moved) / 2  # averaged, so that noise does not move the crop
        self.person = person
        self.lost_frames = 0
        self.low_score_frames = self.low_score_frames + 1 if person.score < LOW_SCORE else 0
        if not self.low_score_frames or self.low_score_frames > MAX_LOST_FRAMES:
            self.last_reliable = person
        if (tilt := torso_tilt(person)) is not None:
            self.angle = crop_angle(tilt)

    def mark_lost(self) -> None:
        """Update the track with a frame in which the person was not found; the velocity decays."""
        self.lost_frames += 1
        self.last_reliable = self.last_reliable.moved(self.velocity)
        self.velocity = self.velocity * 0.8


def _person_as_json(person: Person) -> dict[str, Any]:
    return {"keypoints": person.keypoints.tolist(), "scores": person.scores.tolist(), "score": float(person.score)}


def _person_from_json(stored: Mapping[str, Any]) -> Person:
    keypoints, scores = (np.array(stored[name], np.float32) for name in ("keypoints", "scores"))
    return Person(keypoints, scores, stored["score"])


class PersonTracker:
    """Finds tracked people in the next frame; it has no state besides the network.

    Args:
        network: single-person network.
        min_size_px: people whose keypoint box has a shorter longest side are dropped.
    """

    def __init__(self, network: SinglePose, min_size_px: float) -> None:
        self._network = network
        self._min_size_px = min_size_px

    def start(self, frame: FrameBGR, found: Person) -> Track | None:
        """Start a track from a person of the search; None if the score or the size is too low."""
        person, angle = found, 0.0
        for _ in range(2):  # the second crop is placed by accurate keypoints
            roi = crop_around_person(person, angle)
            if roi is None:
                return None
            person = self._run(frame, roi)
            angle = crop_angle(torso_tilt(person) or 0.0)
        if person.score < START_SCORE or person.size_px(MIN_KEYPOINT_SCORE) < self._min_size_px:
            return None
        return Track(person)

    def find(self, frame: FrameBGR, track: Track) -> Person | None:
        """Find the person of a track in the next frame; None if not found."""
        person = self._find_lost(frame, track) if track.lost_frames else self._find_visible(frame, track)
        # Hysteresis: a tracked person may get smaller than a new one, so that tracks do not flicker.
        if person is None or person.size_px(MIN_KEYPOINT_SCORE) < 0.75 * self._min_size_px:
            return None
        return person

    def _find_visible(self, frame: FrameBGR, track: Track) -> Person | None:
        roi = crop_around_person(track.predicted(), track.angle)
        if roi is None:
            return None
        person = self._run_again(frame, self._run(frame, roi), roi)
        # Try one rotation per frame in the first three frames of a low score, then in three of every twelve frames.
        if person.score < LOW_SCORE and track.low_score_frames % 12 < 3:
            turned = replace(roi, angle=wrap_angle(roi.angle + ROTATIONS[track.low_score_frames % 3]))
            other = self._run_again(frame, self._run(frame, turned), turned)
            if other.score > person.score + MIN_SCORE_GAIN:
                person = other
        return person if person.score >= KEEP_SCORE else None

    def _find_lost(self, frame: FrameBGR, track: Track) -> Person | None:
        """Search for a lost person at the last reliable position, with two rotations per frame."""
        roi = crop_around_person(track.last_reliable, track.angle)
        height, width = frame.shape[:2]
        if roi is None or not (0 <= roi.cx < width and 0 <= roi.cy < height):
            return None
        roi = replace(roi, side=roi.side * LOST_CROP_SCALE)
        turned = replace(roi, angle=wrap_angle(roi.angle + ROTATIONS[track.lost_frames % 3]))
        results = [(self._run(frame, candidate), candidate) for candidate in (roi, turned)]
        person, roi = max(results, key=lambda result: result[0].score)
        if person.score < START_SCORE:
            return None
        person = self._run_again(frame, person, roi)
        # A person of less than half or more than twice the size is another one.
        ratio = person.size_px(MIN_KEYPOINT_SCORE) / max(track.last_reliable.size_px(MIN_KEYPOINT_SCORE), 1.0)
        return person if 0.5 < ratio < 2 else None

    def _run(self, frame: FrameBGR, roi: SquareCrop) -> Person:
        person = self._network(frame, roi)
        return replace(person, score=person_score(person.scores))

    def _run_again(self, frame: FrameBGR, person: Person, roi: SquareCrop) -> Person:
        """Run the network again if the crop was poorly placed, and keep the better result."""
        if person.score < KEEP_SCORE:
            return person
        tilt = torso_tilt(person)
        wanted = crop_around_person(person, roi.angle if tilt is None else crop_angle(tilt))
        if wanted is None or not needs_second_run(roi, wanted):
            return person
        return max(person, self._run(frame, wanted), key=lambda p: p.score)
