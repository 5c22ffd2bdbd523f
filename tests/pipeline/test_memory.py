"""Memory that a long video takes: what was seen of people, not people times frames."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import scipy.optimize  # noqa: F401 (before the measurement: code takes memory, too)
from test_infer import CAMERA, walking_track

from vp3d_cli.io.detections import Detections
from vp3d_cli.io.poses.npz import read_npz, write_npz
from vp3d_cli.pipeline.detection import tracks_of
from vp3d_cli.pipeline.infer import Motion, place_in_world
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.view import choose_view
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import Keypoints2D

PEOPLE = 60
SHOT_FRAMES = 15
FRAMES = PEOPLE * SHOT_FRAMES
SIZE_WH = (1280, 720)
# What the arrays of everyone over every frame would take: 215 numbers of four bytes, 17 of one.
DENSE_BYTES = PEOPLE * FRAMES * (2 * 17 * 3 + 3 + 17 * 2 + 17 + 4) * 4


def passers_by() -> Detections:
    """One after the other, each in a camera shot of half a second."""
    track, _, _ = walking_track(30.0, SHOT_FRAMES / 30.0)
    shot = [
        Keypoints2D(track.boxes_xyxy[i, None], track.keypoints[i, None], track.scores[i, None], np.ones(1, np.float32))
        for i in range(SHOT_FRAMES)
    ]
    starts = tuple(range(SHOT_FRAMES, FRAMES, SHOT_FRAMES))
    return Detections(shot * PEOPLE, np.arange(FRAMES) / 30.0, 30.0, SIZE_WH, starts)


def test_passers_by_take_memory_for_the_time_they_are_in_view(tmp_path: Path) -> None:
    seen = passers_by()
    _, _, joints = walking_track(30.0, SHOT_FRAMES / 30.0)
    joints, root = joints.astype(np.float32), np.tile(np.float32([0.0, 0.3, 5.0]), (SHOT_FRAMES, 1))
    tracemalloc.start()
    try:
        tracks = tracks_of(seen)
        motions = [Motion(track, joints, root, np.ones(SHOT_FRAMES, np.float32)) for track in tracks]
        people = place_in_world(motions, seen.frame_times_s)
        names = (H36M17.joints, H36M17.parents, COCO17.joints)
        pose = Pose3D(people, seen.frame_times_s, 30.0, SIZE_WH, CAMERA, *names)
        write_npz(pose, tmp_path / "pose.npz")
        again = read_npz(tmp_path / "pose.npz")
        choose_view(again, SIZE_WH)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [person.track.frames for person in again.people] == [track.frames for track in tracks]
    assert len(tracks) == PEOPLE
    assert peak < DENSE_BYTES / 4
    assert again.joints_3d.shape == (PEOPLE, FRAMES, 17, 3)
    np.testing.assert_array_equal(again.joints_3d, pose.joints_3d)
    assert np.isfinite(again.joints_3d[7]).all(axis=(1, 2)).sum() == SHOT_FRAMES
