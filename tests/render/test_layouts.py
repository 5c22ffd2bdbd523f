"""Layouts of the rendered video, choice of frames, camera and scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import colored, grey
from poses import arrays_of, camera_axes, pose_of, walker, walking_pose, with_arrays

from vp3d_cli.camera import rotation_from_axis_angle
from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.figure import Figure, draw_limbs
from vp3d_cli.render.floor import Floor, draw_shadows, trail_frames
from vp3d_cli.render.layouts import LAYOUTS, WITH_FOOTAGE, FrameRenderer, check_pose_matches_video
from vp3d_cli.render.palette import person_colors
from vp3d_cli.render.scene3d import Scene3D
from vp3d_cli.render.view import choose_view, filming_rotation
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import Frame, FrameBGR, VideoInfo

Array = NDArray[Any]


def frame_of(pose: Pose3D, index: int) -> Frame:
    return Frame(index, float(pose.frame_times_s[index]), grey(pose.video_size_wh))


def without(pose: Pose3D, person: int, index: int) -> Pose3D:
    """A pose with a person who is out of view in one frame."""
    changed = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        changed[name][person, index] = np.nan
    return with_arrays(pose, **changed)


def scene(pose: Pose3D, index: int, size_wh: tuple[int, int] = (320, 320)) -> FrameBGR:
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    Scene3D(pose, size_wh).draw(image, index)
    return image


# The layout, and which frame is drawn.


@pytest.mark.parametrize("size_wh", [(640, 360), (360, 640), (641, 359), (480, 480), (1280, 200), (90, 640), (101, 99)])
@pytest.mark.parametrize("height", [240, 251])
def test_sizes_are_even_and_match_size_wh(size_wh: tuple[int, int], height: int) -> None:
    pose = walking_pose(1, 2, size_wh)
    renderer = FrameRenderer(pose, size_wh, height)
    width, drawn_height = renderer.size_wh
    assert width % 2 == 0
    assert drawn_height % 2 == 0
    assert abs(drawn_height - height) <= 1
    assert 1.1 * height < width < 3.7 * height
    image = renderer.draw(frame_of(pose, 0))
    assert image.shape == (drawn_height, width, 3)
    assert image.dtype == np.uint8


def test_footage_without_people_is_only_resized() -> None:
    pose = walking_pose(2, 3, (320, 180))
    for person in range(2):
        pose = without(pose, person, 1)
    image = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
    drawn = FrameRenderer(pose, (320, 180), 180).draw(Frame(1, 1 / 30, image))
    np.testing.assert_array_equal(drawn[:, :320], image)


def test_drawing_changes_neither_frame_nor_state() -> None:
    pose = walking_pose()
    renderer = FrameRenderer(pose, pose.video_size_wh, 240)
    frame = frame_of(pose, 5)
    first = renderer.draw(frame)
    renderer.draw(frame_of(pose, 12))
    np.testing.assert_array_equal(renderer.draw(frame), first)
    np.testing.assert_array_equal(frame.image, grey())


def test_frames_are_matched_by_time_within_half_a_frame() -> None:
    pose = replace(walking_pose(1, 10), frame_times_s=2.0 + np.arange(10) / 30.0)
    renderer = FrameRenderer(pose, pose.video_size_wh, 240)
    for i, time_s in enumerate(pose.frame_times_s.tolist()):
        assert renderer.frame_at(time_s) == renderer.frame_at(time_s + 0.016) == renderer.frame_at(time_s - 0.016) == i
    for outside in (0.0, 1.98, 2.32, 100.0):
        assert renderer.frame_at(outside) is None
        assert not renderer.covers(outside)
    with pytest.raises(InputError, match="2\\.00 to 2\\.30 s"):
        renderer.draw(Frame(0, 0.0, grey()))


def test_a_gap_in_the_timestamps_is_not_filled() -> None:
    times_s = np.concatenate([np.arange(5), np.arange(50, 55)]) / 30.0
    pose = replace(walking_pose(1, 10), frame_times_s=times_s)
    renderer = FrameRenderer(pose, pose.video_size_wh, 240)
    assert renderer.frame_at(0.5) is None
    assert renderer.frame_at(50 / 30) == 5


def test_a_pose_of_one_frame() -> None:
    pose = walking_pose(1, 1)
    renderer = FrameRenderer(pose, pose.video_size_wh, 240)
    assert renderer.covers(0.01)
    assert not renderer.covers(0.02)
    assert colored(renderer.draw(frame_of(pose, 0))).any()


def test_a_pose_of_another_video_raises() -> None:
    pose = walking_pose(1, 10)
    with pytest.raises(InputError, match="640x360"):
        FrameRenderer(pose, (360, 640))
    with pytest.raises(ConfigError, match="height"):
        FrameRenderer(pose, (640, 360), height=10)
    with pytest.raises(InputError, match="320x180"):
        FrameRenderer(pose, (640, 360)).draw(Frame(0, 0.0, grey((320, 180))))
    info = VideoInfo(Path("v.mp4"), 640, 360, 30.0, 10, 1 / 3)
    check_pose_matches_video(pose, info)
    check_pose_matches_video(pose, replace(info, frame_count=None, duration_s=None, fps=30000 / 1001))
    for wrong in (replace(info, width=320), replace(info, fps=25.0)):
        with pytest.raises(InputError, match="give the video it was made from"):
            check_pose_matches_video(pose, wrong)
    late = replace(pose, frame_times_s=pose.frame_times_s + 10)
    with pytest.raises(InputError, match=r"ends at 0\.33 s"):
        check_pose_matches_video(late, info)


@pytest.mark.parametrize("size_wh", [(640, 360), (360, 640), (641, 359), (1280, 200), (90, 640)])
@pytest.mark.parametrize("footage", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_an_even_size(layout: str, footage: bool, size_wh: tuple[int, int]) -> None:
    pose = walking_pose(1, 2, size_wh)
    if layout in WITH_FOOTAGE and not footage:
        with pytest.raises(ConfigError, match="give the video"):
            FrameRenderer(pose, size_wh, 240, layout=layout, footage=footage)
        return
    renderer = FrameRenderer(pose, size_wh, 242, layout=layout, footage=footage)
    width, height = renderer.size_wh
    assert (width % 2, height) == (0, 242)
    assert renderer.draw_index(1, grey(size_wh) if footage else None).shape == (height, width, 3)


def test_layouts_show_what_they_say() -> None:
    pose = walking_pose(1, 3)
    level = np.array([77, 77, 77])

    def share_of_footage(layout: str) -> float:
        renderer = FrameRenderer(pose, pose.video_size_wh, 240, layout=layout)
        drawn = renderer.draw_index(1, grey(pose.video_size_wh, 77))
        return float((drawn == level).all(axis=2).mean())

    assert share_of_footage("overlay") > 0.85
    assert 0.5 < share_of_footage("side") < 0.65
    assert 0.2 < share_of_footage("grid") < 0.26
    assert share_of_footage("3d") < 0.01


def test_a_frame_without_footage_says_so_and_has_its_skeleton() -> None:
    pose = walking_pose(1, 3)
    drawn = FrameRenderer(pose, pose.video_size_wh, 240, layout="overlay").draw_index(1)
    assert colored(drawn).any()
    assert (drawn.max(axis=2) > 150)[:20, :120].any()  # the words


def test_an_unknown_layout_raises() -> None:
    with pytest.raises(ConfigError, match="unknown layout 'stack': use side, overlay, 3d, grid"):
        FrameRenderer(walking_pose(1, 2), (640, 360), layout="stack")


# The scene.


def test_camera_axes_are_found_in_the_pose() -> None:
    for yaw in (0.0, 40.0, -120.0):
        axes = camera_axes(yaw)
        pose = pose_of([walker(np.arange(5) / 30.0)], axes=axes)
        np.testing.assert_allclose(filming_rotation(pose), axes.T, atol=1e-5)
    tilted = rotation_from_axis_angle(np.array([0.3, 0.1, -0.2])) @ camera_axes(20.0)
    np.testing.assert_allclose(
        filming_rotation(pose_of([walker(np.arange(5) / 30.0)], axes=tilted)), tilted.T, atol=1e-5
    )


@settings(max_examples=20)
@given(yaw=st.floats(-180, 180), tilt=st.floats(-1.5, 1.5))
def test_left_and_right_are_those_of_the_footage(yaw: float, tilt: float) -> None:
    axes = rotation_from_axis_angle(np.array([tilt, 0.0, 0.0])) @ camera_axes(yaw)
    path = choose_view(pose_of([walker(np.arange(5) / 30.0)], axes=axes), (320, 320))
    right, down, forward = path.rotation
    np.testing.assert_allclose(path.rotation @ path.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(path.rotation) > 0
    assert right @ axes[0] > 0.8
    assert abs(right[2]) < 1e-9
    assert down[2] < -0.9
    assert forward[2] < 0


def test_all_people_fit_into_the_picture() -> None:
    times_s = np.arange(60) / 30.0
    pose = pose_of([walker(times_s, (-1, 0), 30.0), walker(times_s, (1, 1), 200.0), walker(times_s, (0, 2), -60.0)])
    path = choose_view(pose, (400, 300))
    assert len(path.positions) == 1
    pixels, depth = path.at(17).project(pose.joints_world)
    assert (depth > 1).all()
    assert ((pixels > 4) & (pixels < [396, 296])).mean() > 0.99
    assert np.ptp(pixels[..., 0]) > 200  # and fill it


def test_one_wrong_frame_does_not_change_the_camera_much() -> None:
    pose = pose_of([walker(np.arange(600) / 30.0, speed_m_s=0.0)])
    steady = choose_view(pose, (320, 320)).positions
    pose.people[0].joints_world[300] *= 30
    wild = choose_view(pose, (320, 320)).positions
    assert np.linalg.norm(steady[0] - wild[0]) < 0.1


def test_the_camera_follows_a_long_walk_slowly() -> None:
    times_s = np.arange(900) / 30.0
    pose = pose_of([walker(times_s)])
    path = choose_view(pose, (320, 320))
    assert path.positions.shape == (900, 3)
    assert np.ptp(path.positions[:, 2]) == 0
    step = np.linalg.norm(np.diff(path.positions, axis=0), axis=1)
    assert step.max() < 0.05
    assert np.abs(np.diff(path.positions, 2, axis=0)).max() < 0.001
    for frame in range(0, 900, 50):
        pixels, _ = path.at(frame).project(pose.joints_world[0, frame])
        assert ((pixels > 0) & (pixels < 320)).all()
        assert np.ptp(pixels[:, 1]) > 80


def test_the_camera_follows_the_main_person_if_people_are_far_apart() -> None:
    times_s = np.arange(30) / 30.0
    pose = pose_of([walker(times_s), walker(times_s, (4.0, 60.0))])
    pixels, _ = choose_view(pose, (320, 320)).at(10).project(pose.joints_world[0, 10])
    assert ((pixels > 0) & (pixels < 320)).all()
    assert np.ptp(pixels[:, 1]) > 80


def test_the_background_is_static() -> None:
    times_s = np.arange(20) / 30.0
    pose = pose_of([walker(times_s, (-1.8, 0), 90.0), walker(times_s, (1.8, 0), 90.0)])
    drawing = Scene3D(pose, (320, 320))
    images = np.zeros((20, 320, 320, 3), np.uint8)
    for i, image in enumerate(images):
        drawing.draw(image, i)
    same = (images == images[0]).all(axis=(0, 3))
    assert same[:40].all()
    assert same[:, 150:170].all()
    assert not same.all()


def test_people_out_of_view_are_not_drawn() -> None:
    pose = walking_pose(2, 3)
    both = colored(scene(pose, 2)).sum()
    one = colored(scene(without(pose, 1, 2), 2)).sum()
    none = colored(scene(without(without(pose, 0, 2), 1, 2), 2)).sum()
    assert both > one > none == 0


def test_a_person_with_missing_joints_is_drawn_in_part() -> None:
    pose = walking_pose(1, 3)
    whole = colored(scene(pose, 2)).sum()
    for joint in ("left_elbow", "left_wrist", "head"):
        pose.people[0].joints_world[2, H36M17.index(joint)] = np.nan
    assert 0 < colored(scene(pose, 2)).sum() < whole
    pose.people[0].joints_world[2, 1:] = np.nan
    scene(pose, 2)


def test_empty_poses_and_extreme_values_are_drawn() -> None:
    pose = walking_pose(1, 3)
    empty = with_arrays(pose, joints_world=np.full_like(pose.joints_world, np.nan))
    assert not colored(scene(empty, 0)).any()
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1e3, 1e6):
        wild = rng.normal(0, scale, pose.joints_world.shape).astype(np.float32)
        scene(with_arrays(pose, joints_world=wild), 1)


def test_near_people_occlude_far_people() -> None:
    times_s = np.zeros(1)
    pose = pose_of([walker(times_s, (0, 0)), walker(times_s, (0, 2))])
    path = choose_view(pose, (320, 320))
    bodies = [Figure(i + 1, H36M17.joints, H36M17.parents).limbs(pose.joints_world[i, 0]) for i in range(2)]
    behind = replace(bodies[1], ends=bodies[0].ends + path.rotation[2] * 0.8)
    images = []
    for order in ([bodies[0], behind], [behind, bodies[0]]):
        images.append(grey((320, 320)))
        draw_limbs(images[-1], path.at(0), order)
    np.testing.assert_array_equal(images[0], images[1])
    alone = grey((320, 320))
    draw_limbs(alone, path.at(0), [bodies[0]])
    mine = (alone != 120).any(axis=2)
    kept = (images[0] == alone).all(axis=2)[mine].mean()
    assert kept > 0.8  # all but the soft edges


def test_left_and_right_have_their_tones() -> None:
    body = Figure(2, H36M17.joints, H36M17.parents).limbs(walker(np.zeros(1))[0])
    tones = person_colors(2)
    children = [child for child, parent in enumerate(H36M17.parents) if parent >= 0]
    for color, child in zip(body.colors, children, strict=True):
        name = H36M17.joints[child]
        expected = tones.left if name in H36M17.joints and child in H36M17.left else tones.core
        assert color == (tones.right if child in H36M17.right else expected), name


def test_shadow_is_darker_the_closer_to_the_floor() -> None:
    view = choose_view(walking_pose(1, 1), (320, 320)).at(0)
    darkness = []
    for height in (0.05, 0.5, 2.0):
        image = grey((320, 320), 200)
        draw_shadows(image, view, np.array([[[-0.5, 0, height], [0.5, 0, height]]]), np.full((1, 2), 0.1))
        assert image.max() == 200
        darkness.append(200 - int(image.min()))
    assert darkness[0] > darkness[1] > darkness[2] > 10


@pytest.mark.parametrize(("distance", "step_m"), [(1.0, 1.0), (9.0, 2.0), (25.0, 5.0), (60.0, 10.0)])
def test_grid_step_is_round(distance: float, step_m: float) -> None:
    path = replace(choose_view(walking_pose(1, 1), (160, 120)), radius_m=distance)
    assert Floor(path).step_m == step_m


def test_trails_connect_the_same_frames_at_any_rate() -> None:
    times_s = np.arange(1000) / 240.0
    earlier, later = trail_frames(times_s, 800), trail_frames(times_s, 801)
    assert earlier[-1] == 800
    assert later[-1] == 801
    assert set(later[:-1]) - {800} <= set(earlier)
    assert len(later) < 40
    assert trail_frames(np.zeros(1), 0).tolist() == [0]
