"""Which people and which frames of a pose are exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vp3d_cli.errors import ConfigError, NobodyFoundError
from vp3d_cli.io.poses.base import Exporter, ExportOptions
from vp3d_cli.pose import Person3D, Pose3D, Rig


def select(pose: Pose3D, options: ExportOptions) -> Pose3D:
    """The people and the frames that are asked for; times stay those of the video.

    Raises:
        ConfigError: there is no such person, or no frame between start and end.
        NobodyFoundError: none of them is in view.
    """
    people = _people(pose, options.people)
    times = pose.frame_times_s
    if not len(times):
        raise NobodyFoundError("nobody to export: the pose has no frames")
    first = 0 if options.start_s is None else int(np.searchsorted(times, options.start_s - 1e-9))
    stop = len(times) if options.end_s is None else int(np.searchsorted(times, options.end_s - 1e-9))
    if stop <= first:
        last = float(times[-1]) if len(times) else 0.0
        raise ConfigError(f"no frame between start and end; the pose has frames from 0 to {last:.3f} s")
    if (first, stop) != (0, len(times)):
        cut = [_cut(person, first, stop) for person in people]
        people = [person for person in cut if person is not None]
    people = [person for person in people if np.isfinite(person.joints_world).any()]
    if not people:
        raise NobodyFoundError("nobody to export: no person has 3D joints in the frames that were asked for")
    return replace(pose, people=tuple(people), frame_times_s=times[first:stop])


def _people(pose: Pose3D, numbers: Sequence[int]) -> list[Person3D]:
    by_number = dict(zip(pose.person_ids, pose.people, strict=True))
    for number in numbers:
        if number not in by_number:
            known = ", ".join(map(str, by_number)) or "nobody"
            raise ConfigError(f"there is no person {number} in this pose; it has {known}")
    return [by_number[number] for number in dict.fromkeys(numbers)] if numbers else list(pose.people)


def _cut(person: Person3D, first: int, stop: int) -> Person3D | None:
    """The frames of one person from ``first`` up to ``stop`` of the video; None if there are none."""
    track = person.track
    begin, end = max(track.first, first), min(track.frames.stop, stop)
    if end <= begin:
        return None
    own = slice(begin - track.first, end - track.first)
    cut = replace(
        track,
        keypoints=track.keypoints[own],
        scores=track.scores[own],
        boxes_xyxy=track.boxes_xyxy[own],
        observed=track.observed[own],
        first=begin - first,
    )
    rig = person.rig
    return replace(
        person,
        track=cut,
        joints=person.joints[own],
        root=person.root[own],
        joints_world=person.joints_world[own],
        confidence=None if person.confidence is None else person.confidence[own],
        rig=None if rig is None else Rig(rig.rotations[own], rig.bone_offsets, rig.root[own]),
    )


def gap_warnings(pose: Pose3D, exporters: Sequence[Exporter]) -> list[str]:
    """One sentence if people are out of view in formats that cannot say so."""
    formats = ", ".join(exporter.name for exporter in exporters if not exporter.holds_gaps)
    missing = {person.track.person_id: pose.num_frames - _frames_in_view(person) for person in pose.people}
    gaps = ", ".join(f"person {number}: {count} of {pose.num_frames}" for number, count in missing.items() if count)
    if not formats or not gaps:
        return []
    return [
        f"{formats}: frames in which somebody is out of view cannot be marked; the last pose before them is held, at "
        f"the start the first one ({gaps} frames)"
    ]


def _frames_in_view(person: Person3D) -> int:
    return int(np.isfinite(person.joints_world).all(axis=(1, 2)).sum())
