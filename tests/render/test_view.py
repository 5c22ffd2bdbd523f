"""Virtual camera: who is in the picture, how it moves, from where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from poses import arrays_of, pose_of, walker, walking_pose, with_arrays

from vp3d_cli.errors import ConfigError
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.view import CAMERAS, DIRECTIONS, choose_view, main_people

Array = NDArray[Any]
SIZE_WH = (400, 300)


def height_px(pose: Pose3D, person: int, frame: int, **options: Any) -> float:
    """Height of a person in the picture in pixels."""
    pixels, _ = choose_view(pose, SIZE_WH, **options).at(frame).project(pose.joints_world[person, frame])
    return float(np.ptp(pixels[:, 1]))


def with_passer_by(distance_m: float, frames: int = 60) -> Pose3D:
    times_s = np.arange(frames) / 30.0
    return pose_of([walker(times_s, speed_m_s=0.2), walker(times_s, (2.0, distance_m), 180.0)])


def test_a_far_passer_by_does_not_make_the_main_person_small() -> None:
    pose = with_passer_by(14.0)
    assert [person.id for person in main_people(pose)] == [1]
    alone = with_arrays(pose, (1,), **{name: array[:1] for name, array in arrays_of(pose).items()})
    assert height_px(pose, 0, 30) == pytest.approx(height_px(alone, 0, 30), rel=0.05)
    assert height_px(pose, 0, 30) > 0.5 * SIZE_WH[1]


def test_a_passer_by_who_is_soon_gone_does_not_count() -> None:
    pose = with_passer_by(1.0)
    assert len(main_people(pose)) == 2
    changed = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        changed[name][1, 10:] = np.nan
    assert [person.id for person in main_people(with_arrays(pose, **changed))] == [1]


def test_people_without_boxes_all_count() -> None:
    pose = walking_pose(3, 5)
    without_boxes = with_arrays(pose, boxes_xyxy=np.full_like(pose.boxes_xyxy, np.nan))
    assert len(main_people(without_boxes)) == 3


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_people_are_in_the_picture_from_everywhere(camera: str, direction: str) -> None:
    times_s = np.arange(120) / 15.0
    pose = pose_of([walker(times_s, (-2.0, 0), speed_m_s=0.5), walker(times_s, (0, 1.0), 90.0, 0.2)], 15.0)
    path = choose_view(pose, SIZE_WH, camera=camera, direction=direction)
    inside = []
    for frame in range(0, 120, 5):
        view = path.at(frame)
        np.testing.assert_allclose(view.rotation @ view.rotation.T, np.eye(3), atol=1e-9)
        pixels, _ = view.project(pose.joints_world[:, frame])
        inside.append(((pixels > 0) & (pixels < SIZE_WH)).all(axis=-1))
    assert np.mean(inside) > 0.98


def test_the_fixed_camera_never_moves_and_the_following_one_always_does() -> None:
    pose = pose_of([walker(np.arange(900) / 30.0)])
    assert choose_view(pose, SIZE_WH).moves
    assert not choose_view(pose, SIZE_WH, camera="fixed").moves
    near = walking_pose(1, 20)
    assert not choose_view(near, SIZE_WH).moves
    assert choose_view(near, SIZE_WH, camera="follow").moves


def test_the_turntable_turns_around_the_people() -> None:
    times_s = np.arange(80) / 10.0
    pose = pose_of([walker(times_s, speed_m_s=0.0)], 10.0)
    path = choose_view(pose, SIZE_WH, camera="turntable")
    assert path.rotations.shape == (80, 3, 3)
    assert np.ptp(path.positions[:, 2]) < 1e-9
    distance = np.linalg.norm(path.positions[:, :2], axis=1)
    assert np.ptp(distance) < 0.2 * distance.mean()
    np.testing.assert_allclose(path.at(40).rotation[2, :2], -path.at(0).rotation[2, :2], atol=1e-6)  # half a turn


def test_top_looks_down_and_front_looks_where_the_filming_camera_looks() -> None:
    pose = walking_pose(1, 5)
    np.testing.assert_allclose(choose_view(pose, SIZE_WH, direction="top").rotation[2], [0, 0, -1], atol=1e-9)
    front = choose_view(pose, SIZE_WH, direction="front").rotation[2]
    assert front[1] > 0.98
    side = choose_view(pose, SIZE_WH, direction="side").rotation[2]
    assert abs(side[0]) > 0.98


def test_people_of_another_pose_are_in_the_picture_too() -> None:
    pose = walking_pose(1, 10)
    other = pose.joints_world[0].astype(np.float64) + [3.0, 0.0, 0.0]
    pixels, _ = choose_view(pose, SIZE_WH, also=[other]).at(5).project(other[5])
    assert ((pixels > 0) & (pixels < SIZE_WH)).all()


def test_an_unknown_camera_or_direction_raises() -> None:
    with pytest.raises(ConfigError, match="unknown camera 'drone': use auto, fixed, follow, turntable"):
        choose_view(walking_pose(1, 2), SIZE_WH, camera="drone")
    with pytest.raises(ConfigError, match="unknown direction 'below'"):
        choose_view(walking_pose(1, 2), SIZE_WH, direction="below")
