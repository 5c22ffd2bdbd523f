"""Following one person from frame to frame with the single-person network.

In each frame the person is cut out as a square placed by the keypoints of the frame before, as MoveNet was designed
to be used, with one addition: the square turns with a tilted torso, because the network knows upright people best.
On a man filmed by two cameras rolled 20-30 degrees that raised the mean confidence from 0.72 to 0.76 and lowered the
keypoints' acceleration from frame to frame by a third and by a sixth; in the middle of a back flip it takes the
confidence from 0.3 to 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vp3d_cli.detect.movenet.model import Person, SinglePose, alike
from vp3d_cli.detect.roi import HIPS, SHOULDERS, Roi, roi_around, wrap_angle
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR

SEEN = 0.2  # keypoints with less confidence place no square
# Half side of the square over that of the keypoints' box. Against the median of 24 shifted, scaled, turned and
# mirrored crops, 52 people in four clips: errors of 0.64, 0.60, 0.56, 0.57, 0.71 % of the square at 1.05, 1.15, 1.25,
# 1.35, 1.5.
PADDING = 1.25
UPRIGHT = math.radians(15)  # torsos tilted less are left as they are: turning would only pass on the tilt's noise

# person_score() of Thunder: 0.25 at most in 180 random squares of background, 0.65-0.85 for people in plain view.
ENTER_SCORE = 0.35
KEEP_SCORE = 0.3
WEAK_SCORE = 0.5  # below, the person may be another way up than thought
BETTER = 0.1  # by so much must a square turned another way score higher
PATIENCE = 20  # frames for which somebody hidden is waited for
WIDER = 1.4  # square in which somebody hidden is looked for, over the one they were last seen in
TURNS = (math.pi / 2, -math.pi / 2, math.pi)


def person_score(scores: FloatArray) -> float:
    """Confidence that this is a person: the mean of the nine most confident of the 17 keypoints.

    Half the keypoints suffice, so that somebody seen from the hips up counts as much as somebody seen whole.
    """
    return float(np.sort(scores)[-9:].mean())


def torso_tilt(person: Person) -> float | None:
    """Angle of the torso in the image, radians clockwise from upright; None where the torso was not seen."""
    middles = []
    for pair in (SHOULDERS, HIPS):
        seen = [joint for joint in pair if person.scores[joint] >= SEEN]
        if not seen:
            return None
        middles.append(person.keypoints[seen].mean(axis=0))
    x, y = (float(v) for v in middles[0] - middles[1])
    return math.atan2(x, -y)


def crop_angle(tilt: float) -> float:
    """How far to turn the square for a tilted torso, so that it leans at most ``UPRIGHT`` in it."""
    return math.copysign(max(0.0, abs(tilt) - UPRIGHT), tilt)


def region(person: Person, angle: float) -> Roi | None:
    """The square to look for a person in, from where they were; None where too little of them was seen."""
    return roi_around(person.keypoints, person.scores, min_score=SEEN, padding=PADDING, angle=angle)


def badly_placed(used: Roi, wanted: Roi) -> bool:
    """Whether two squares differ so much that a second look pays (see :data:`PADDING` for what a bad one costs)."""
    shift = math.hypot(used.cx - wanted.cx, used.cy - wanted.cy) / wanted.side
    zoom = abs(math.log(used.side / wanted.side))
    return shift > 0.15 or zoom > math.log(1.3) or abs(wrap_angle(used.angle - wanted.angle)) > math.radians(35)


@dataclass
class Track:
    """One person who is being followed.

    Attributes:
        person: as last seen.
        anchor: as last seen well: the place to look for them once they are hidden.
        velocity: (2,) pixels per frame.
        angle: of the square for the next frame, radians.
        hidden: frames since the person was last seen; 0 while in view.
        weak: frames in a row with a low score.
    """

    person: Person
    anchor: Person = field(init=False)
    velocity: DoubleArray = field(default_factory=lambda: np.zeros(2))
    angle: float = field(init=False)
    hidden: int = 0
    weak: int = 0

    def __post_init__(self) -> None:
        self.anchor = self.person
        self.angle = crop_angle(torso_tilt(self.person) or 0.0)

    def as_json(self) -> dict[str, Any]:
        """All of it, exactly."""
        return {
            "person": _person_as_json(self.person),
            "anchor": _person_as_json(self.anchor),
            "velocity": self.velocity.tolist(),
            "angle": self.angle,
            "hidden": self.hidden,
            "weak": self.weak,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Track:
        """What :meth:`as_json` gave."""
        track = cls(
            _person_from_json(stored["person"]),
            velocity=np.array(stored["velocity"]),
            hidden=stored["hidden"],
            weak=stored["weak"],
        )
        track.anchor, track.angle = _person_from_json(stored["anchor"]), stored["angle"]
        return track

    def expected(self) -> Person:
        """The person where they should be in the next frame."""
        return self.person.moved(self.velocity)

    def continuity(self, person: Person) -> float:
        """How well somebody continues the track, 0..1."""
        return 0.0 if self.hidden else alike(self.expected(), person)

    def saw(self, person: Person) -> None:
        """Take over what was seen in a frame."""
        if self.hidden:
            self.velocity = np.zeros(2)
        else:
            weights = np.minimum(person.scores, self.person.scores)[:, None] + 1e-6
            moved = ((person.keypoints - self.person.keypoints) * weights).sum(axis=0) / weights.sum()
            self.velocity = (self.velocity + moved) / 2  # the noise of one difference would shake the square
        self.person = person
        self.hidden = 0
        self.weak = self.weak + 1 if person.score < WEAK_SCORE else 0
        if not self.weak or self.weak > PATIENCE:
            self.anchor = person
        if (tilt := torso_tilt(person)) is not None:
            self.angle = crop_angle(tilt)

    def missed(self) -> None:
        """Note that the person was not seen in a frame; they may drift on for a little while."""
        self.hidden += 1
        self.anchor = self.anchor.moved(self.velocity)
        self.velocity = self.velocity * 0.8


def _person_as_json(person: Person) -> dict[str, Any]:
    return {"keypoints": person.keypoints.tolist(), "scores": person.scores.tolist(), "score": float(person.score)}


def _person_from_json(stored: Mapping[str, Any]) -> Person:
    keypoints, scores = (np.array(stored[name], np.float32) for name in ("keypoints", "scores"))
    return Person(keypoints, scores, stored["score"])


class Follower:
    """Looks for one person at a time; holds no state but the network.

    Args:
        network: the single-person network.
        min_size_px: people whose keypoints span less, along the longer side of their box, are nobody.
    """

    def __init__(self, network: SinglePose, min_size_px: float) -> None:
        self._network = network
        self._min_size_px = min_size_px

    def begin(self, frame: FrameBGR, found: Person) -> Track | None:
        """Look closely at somebody whom the search found; None where it is nobody."""
        person, angle = found, 0.0
        for _ in range(2):  # the second look has its square from exact keypoints
            roi = region(person, angle)
            if roi is None:
                return None
            person = self._look(frame, roi)
            angle = crop_angle(torso_tilt(person) or 0.0)
        if person.score < ENTER_SCORE or person.size_px(SEEN) < self._min_size_px:
            return None
        return Track(person)

    def find(self, frame: FrameBGR, track: Track) -> Person | None:
        """The track's person in the next frame, or None where they are not to be seen."""
        person = self._rediscover(frame, track) if track.hidden else self._follow(frame, track)
        # Somebody who walks away may get a little smaller than a newcomer must be, so that nobody flickers.
        if person is None or person.size_px(SEEN) < 0.75 * self._min_size_px:
            return None
        return person

    def _follow(self, frame: FrameBGR, track: Track) -> Person | None:
        roi = region(track.expected(), track.angle)
        if roi is None:
            return None
        person = self._look_again(frame, self._look(frame, roi), roi)
        # Three frames with a try each as soon as the score drops, then three of every twelve.
        if person.score < WEAK_SCORE and track.weak % 12 < 3:
            turned = replace(roi, angle=wrap_angle(roi.angle + TURNS[track.weak % 3]))
            other = self._look_again(frame, self._look(frame, turned), turned)
            if other.score > person.score + BETTER:
                person = other
        return person if person.score >= KEEP_SCORE else None

    def _rediscover(self, frame: FrameBGR, track: Track) -> Person | None:
        """Look around the place where a hidden person was last seen, upright and one other way with each frame."""
        roi = region(track.anchor, track.angle)
        height, width = frame.shape[:2]
        if roi is None or not (0 <= roi.cx < width and 0 <= roi.cy < height):
            return None
        roi = replace(roi, side=roi.side * WIDER)
        turned = replace(roi, angle=wrap_angle(roi.angle + TURNS[track.hidden % 3]))
        looks = [(self._look(frame, square), square) for square in (roi, turned)]
        person, square = max(looks, key=lambda look: look[0].score)
        if person.score < ENTER_SCORE:
            return None
        person = self._look_again(frame, person, square)
        # Half or twice the size a moment later is somebody else.
        ratio = person.size_px(SEEN) / max(track.anchor.size_px(SEEN), 1.0)
        return person if 0.5 < ratio < 2 else None

    def _look(self, frame: FrameBGR, roi: Roi) -> Person:
        person = self._network(frame, roi)
        return replace(person, score=person_score(person.scores))

    def _look_again(self, frame: FrameBGR, person: Person, roi: Roi) -> Person:
        """Take a second look where the square turns out to have been badly placed, and keep the better one."""
        if person.score < KEEP_SCORE:
            return person
        tilt = torso_tilt(person)
        wanted = region(person, roi.angle if tilt is None else crop_angle(tilt))
        if wanted is None or not badly_placed(roi, wanted):
            return person
        return max(person, self._look(frame, wanted), key=lambda p: p.score)
