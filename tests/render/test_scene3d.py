"""The 3D scene: badges, trails, themes and a second pose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import colored, grey
from poses import arrays_of, pose_of, walker, walking_pose, with_arrays

from vp3d_cli.errors import ConfigError
from vp3d_cli.pose import Pose3D
from vp3d_cli.render import overlay2d, scene3d
from vp3d_cli.render.figure import head_center
from vp3d_cli.render.palette import DARK, LIGHT, person_colors
from vp3d_cli.render.scene3d import Scene3D, SceneStyle
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import FrameBGR

Array = NDArray[Any]
SIZE_WH = (400, 300)


def draw(pose: Pose3D, frame: int = 5, **options: Any) -> FrameBGR:
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    Scene3D(pose, SIZE_WH, **options).draw(image, frame)
    return image


def lying_pose() -> Pose3D:
    """Someone who lies on the floor with the head at +x."""
    standing = walker(np.zeros(6), speed_m_s=0.0)
    lying = np.stack([standing[..., 2], standing[..., 1], 0.1 + 0 * standing[..., 2]], axis=-1)
    lying[:, H36M17.index("left_knee"), 2] = 0.6  # a knee is higher than the head
    return pose_of([lying])


def badge_positions(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[tuple[str, tuple[float, float]]]:
    """What is written on badges from now on, and where."""
    badges: list[tuple[str, tuple[float, float]]] = []

    def remember(image: FrameBGR, text: str, at: tuple[float, float], *style: object) -> None:
        badges.append((text, at))

    monkeypatch.setattr(module, "label", remember)
    return badges


def test_the_badge_is_above_the_head_of_someone_who_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    badges = badge_positions(monkeypatch, scene3d)
    pose = lying_pose()
    scene = Scene3D(pose, SIZE_WH)
    scene.draw(np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8), 0)
    [(text, (x, y))] = badges
    assert text == "1"
    head, _ = scene.view(0).project(pose.joints_world[0, 0, H36M17.index("head")])
    assert abs(x - head[0]) < 30
    assert 0 < head[1] - y < 60


def test_the_badge_over_the_footage_is_above_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    badges = badge_positions(monkeypatch, overlay2d)
    keypoints = np.random.default_rng(0).uniform((300, 200), (500, 220), (17, 2))  # lies
    for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear"):
        keypoints[COCO17.index(name)] = 100, 210
    overlay2d.draw_skeleton(grey(), keypoints, np.ones(17), np.ones(17, bool), COCO17.joints, 3, cap_px=10)
    keypoints[:5] = np.nan
    overlay2d.draw_skeleton(grey(), keypoints, np.ones(17), np.ones(17, bool), COCO17.joints, 3, cap_px=10)
    (text, (x, y)), (_, (no_face_x, _)) = badges
    assert text == "3"
    assert x == pytest.approx(100)
    assert 10 < 210 - y < 60
    assert 300 < no_face_x < 500


def test_people_outside_of_the_picture_have_no_badge(monkeypatch: pytest.MonkeyPatch) -> None:
    badges = badge_positions(monkeypatch, scene3d)
    times_s = np.arange(10) / 30.0
    draw(pose_of([walker(times_s), walker(times_s, (30.0, 20.0))]))
    assert [text for text, _ in badges] == ["1"]


def test_head_center_falls_back_to_the_highest_joint() -> None:
    body = walker(np.zeros(1))[0]
    names = H36M17.joints
    head = (names.index("neck"), names.index("head"))
    center = head_center(body, head)
    assert center is not None
    assert 1.52 < center[2] < 1.70
    body[head[1]] = np.nan
    np.testing.assert_array_equal(head_center(body, head), body[head[0]])
    np.testing.assert_array_equal(head_center(body, ()), body[head[0]])  # the highest that is left
    assert head_center(np.full((17, 3), np.nan), head) is None
    assert head_center(np.zeros((0, 3)), head) is None


def test_a_second_pose_has_other_colours() -> None:
    pose = walking_pose(1, 10)
    other = with_arrays(pose, joints_world=pose.joints_world + np.array([1.0, 0.0, 0.0], np.float32))
    both = draw(pose, compare=other)
    tone = np.array(person_colors(5).core)
    assert (both == tone).all(axis=2).any()
    assert not (draw(pose) == tone).all(axis=2).any()
    assert colored(both).sum() > 1.5 * colored(draw(pose)).sum()


def test_a_second_pose_is_matched_by_time() -> None:
    pose = walking_pose(1, 10)
    later = replace(pose, frame_times_s=pose.frame_times_s + 5 / 30)
    tone = np.array(person_colors(5).core)
    assert not (draw(pose, 2, compare=later) == tone).all(axis=2).any()
    assert (draw(pose, 7, compare=later) == tone).all(axis=2).any()
    never = replace(pose, frame_times_s=pose.frame_times_s + 100)
    np.testing.assert_array_equal(draw(pose, compare=never), draw(pose))


def test_a_second_pose_may_have_another_skeleton() -> None:
    pose = walking_pose(1, 10)
    names = tuple(f"j{i}" for i in range(3))
    arrays = arrays_of(pose)
    arrays["joints_3d"], arrays["joints_world"] = arrays["joints_3d"][:, :, :3], arrays["joints_world"][:, :, :3]
    kept = {name: getattr(pose, name) for name in ("frame_times_s", "fps", "video_size_wh", "intrinsics")}
    small = Pose3D.from_arrays(
        arrays, (1,), kept.pop("frame_times_s"), **kept, joint_names_3d=names, parents_3d=(-1, 0, 1),
        joint_names_2d=pose.joint_names_2d,
    )  # fmt: skip
    assert (draw(pose, compare=small) != draw(pose)).any()


def test_themes_and_trails() -> None:
    pose = pose_of([walker(np.arange(60) / 30.0)])
    light, dark = draw(pose, 50), draw(pose, 50, style=SceneStyle(theme="dark"))
    np.testing.assert_allclose(light[0, 200], LIGHT.sky, atol=1)
    np.testing.assert_allclose(dark[0, 200], DARK.sky, atol=1)
    without = draw(pose, 50, style=SceneStyle(trail_s=0))
    longer = draw(pose, 50, style=SceneStyle(trail_s=5))
    assert (light != without).any()
    assert (longer != light).any()


def test_bad_styles_raise() -> None:
    with pytest.raises(ConfigError, match="unknown theme 'pink': use light, dark"):
        SceneStyle(theme="pink")
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="trail"):
            SceneStyle(trail_s=wrong)
