"""People of whom only parts are seen."""

from __future__ import annotations

import numpy as np
import pytest

from vp3d_cli.skeletons import COCO17, Skeleton
from vp3d_cli.track import split_partial
from vp3d_cli.track.selection import torso_share
from vp3d_cli.types import Track2D

FACE = [COCO17.index(name) for name in ("nose", "left_eye", "right_eye")]


def seen(person: int, joints: list[int], frames: range) -> Track2D:
    points, scores = np.full((20, 17, 2), np.nan, np.float32), np.zeros((20, 17), np.float32)
    boxes = np.full((20, 4), np.nan, np.float32)
    for frame in frames:
        points[frame, joints], scores[frame, joints], boxes[frame] = 50.0, 0.7, [40, 40, 60, 60]
    return Track2D(person, points, scores, boxes, scores > 0)


def test_a_face_in_every_fifth_frame_is_no_body() -> None:
    face, whole = seen(1, FACE, range(0, 20, 5)), seen(2, list(range(17)), range(20))
    assert torso_share(face) == 0.0
    assert torso_share(whole) == 1.0
    kept, partial = split_partial([face, whole])
    assert [track.person_id for track in kept] == [2]
    assert [track.person_id for track in partial] == [1]


@pytest.mark.parametrize(
    ("shoulder", "hip", "share"), [("left", "left", 1.0), ("left", "right", 1.0), ("left", "", 0.0)]
)
def test_one_shoulder_and_one_hip_are_a_torso(shoulder: str, hip: str, share: float) -> None:
    joints = [COCO17.index(f"{shoulder}_shoulder"), *([COCO17.index(f"{hip}_hip")] if hip else [])]
    assert torso_share(seen(1, joints, range(20))) == share


def test_joints_that_the_skeleton_lacks_need_not_be_seen() -> None:
    legs = Skeleton("legs", ("left_hip", "right_hip", "left_knee"), (-1, 0, 0), ())
    scores = np.full((4, 3), 0.7, np.float32)
    scores[1, :2] = 0.1
    track = Track2D(
        1, np.full((4, 3, 2), 50.0, np.float32), scores, np.zeros((4, 4), np.float32), scores > 0, skeleton=legs
    )
    assert torso_share(track) == 0.75
