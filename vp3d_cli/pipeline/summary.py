"""Summary of a pose: people, frames and speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.pose import Pose3D


@dataclass(frozen=True)
class PersonSummary:
    """One person: seconds in view, frames in which a keypoint was filled in, mean confidence of seen keypoints."""

    person_id: int
    seconds_seen: float
    frames_filled: int
    mean_confidence: float


@dataclass(frozen=True)
class Summary:
    """What was found in a video; seconds of work and speed where the pose file knows them."""

    frames: int
    people: tuple[PersonSummary, ...]
    seconds: float | None
    frames_per_second: float | None


def summarize(pose: Pose3D) -> Summary:
    """Summary of a pose: people, frames and speed."""
    times = pose.frame_times_s
    period = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / pose.fps
    people = []
    for person in pose.people:
        in_view = np.isfinite(person.joints).all(axis=(1, 2))
        observed = person.track.observed
        scores = person.track.scores[observed]
        people.append(
            PersonSummary(
                person.track.person_id,
                float(in_view.sum() * period),
                int((in_view & ~observed.all(axis=1)).sum()),
                float(scores.mean()) if scores.size else 0.0,
            )
        )
    timing = pose.provenance.get("timing", {})
    return Summary(len(times), tuple(people), timing.get("seconds"), timing.get("frames_per_second"))
