"""BVH, read back by pybvh."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rigs import moving_pose, rig_positions, rigged_pose, unevenly_timed

from vp3d_cli.errors import InputError
from vp3d_cli.io.poses import ExportOptions, export_pose
from vp3d_cli.io.poses.base import NAME_PRESETS
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.bvh import read_bvh

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what pybvh imports is not ours to mend
    import pybvh

TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def read_back(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pybvh.read_bvh_file(str(path))


def written(pose: Pose3D, folder: Path, **options: Any) -> list[Any]:
    files, _ = export_pose(pose, folder / "walk.bvh", options=ExportOptions(**options))
    return [read_back(file) for file in files]


def test_joints_are_within_a_millimetre_of_the_rig(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, frames=50)
    for number, bvh in enumerate(written(pose, tmp_path)):
        assert list(bvh.joint_names) == [H36M17.joints[i] for i in depth_first()]
        wanted = rig_positions(pose, number)[:, depth_first()] @ TO_Y_UP.T * 100
        off_mm = np.linalg.norm(bvh.joint_positions() - wanted, axis=-1) * 10
        assert off_mm.max() < 0.1
        lifted = pose.people[number].joints_world[:, depth_first()] @ TO_Y_UP.T * 100
        assert np.median(np.linalg.norm(bvh.joint_positions() - lifted, axis=-1)) * 10 < 25
        assert bvh.frame_time == pytest.approx(1 / 30, abs=1e-9)
        assert bvh.frame_count == 50


def depth_first() -> list[int]:
    order: list[int] = []

    def visit(joint: int) -> None:
        order.append(joint)
        for child, parent in enumerate(H36M17.parents):
            if parent == joint:
                visit(child)

    visit(0)
    return order


def test_bones_are_constant_to_a_tenth_of_a_millimetre(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=30)
    (bvh,) = written(pose, tmp_path)
    places = bvh.joint_positions()
    names = list(bvh.joint_names)
    rig = pose.people[0].rig
    assert rig is not None
    for parent, joint in H36M17.bones:
        ends = [names.index(H36M17.joints[end]) for end in (parent, joint)]
        lengths_cm = np.linalg.norm(places[:, ends[1]] - places[:, ends[0]], axis=1)
        assert np.abs(lengths_cm - 100 * np.linalg.norm(rig.bone_offsets[joint])).max() < 0.01


def test_the_rest_pose_is_a_t_pose_that_faces_z(tmp_path: Path) -> None:
    (bvh,) = written(rigged_pose(people=1), tmp_path)
    assert (bvh.rest_forward, bvh.rest_up, bvh.world_up) == ("+z", "+y", "+y")
    offset = {node.name: np.array(node.offset) for node in bvh.nodes}
    assert offset["left_hip"][0] > 5
    assert offset["left_knee"][1] < -30
    assert offset["left_elbow"][0] > 20
    assert offset["right_elbow"][0] < -20


@pytest.mark.parametrize("preset", NAME_PRESETS)
def test_names_of_other_programs(tmp_path: Path, preset: str) -> None:
    (bvh,) = written(rigged_pose(people=1, frames=3), tmp_path, names=preset)
    names = list(bvh.joint_names)
    assert len(set(names)) == 17
    expected = {"vp3d": "left_knee", "blender": "shin.L", "mixamo": "mixamorig:LeftLeg", "cmu": "LeftLeg"}
    assert expected.get(preset, "calf_l") in names


@pytest.mark.parametrize("order", ["XYZ", "YXZ", "ZYX"])
def test_any_order_of_rotations_gives_the_same_motion(tmp_path: Path, order: str) -> None:
    pose = rigged_pose(people=1, frames=20)
    (bvh,) = written(pose, tmp_path, rotation_order=order)
    assert set(bvh.euler_orders) == {order}
    wanted = rig_positions(pose, 0)[:, depth_first()] @ TO_Y_UP.T * 100
    assert np.abs(bvh.joint_positions() - wanted).max() < 0.01


def test_our_own_reader_agrees(tmp_path: Path) -> None:
    """The reader of motion capture for training reads the same joints."""
    pose = rigged_pose(people=1, frames=20)
    written(pose, tmp_path)
    recording = read_bvh(tmp_path / "walk.bvh")
    hips = recording.positions[:, recording.names.index("hip")]
    np.testing.assert_allclose(hips, rig_positions(pose, 0)[:, 0] @ TO_Y_UP.T * 100, atol=0.01)


def test_gaps_are_held_and_said(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    files, warnings_ = export_pose(pose, tmp_path / "walk.bvh")
    assert len(warnings_) == 1
    assert "person 2: 11 of 40 frames" in warnings_[0]
    places = read_back(files[1]).joint_positions()
    assert np.isfinite(places).all()
    for frame in range(5):
        np.testing.assert_array_equal(places[frame], places[5])
    for frame in range(20, 25):
        np.testing.assert_array_equal(places[frame], places[19])
    np.testing.assert_array_equal(places[39], places[38])
    assert export_pose(rigged_pose(), tmp_path / "all.bvh")[1] == []


def test_uneven_frames_are_made_even(tmp_path: Path) -> None:
    pose = unevenly_timed(rigged_pose(people=1, frames=40))
    (bvh,) = written(pose, tmp_path)
    assert bvh.frame_time == pytest.approx(1 / 30)
    assert bvh.frame_count == 40  # the last frame is 39/30 s after the first
    hips = bvh.joint_positions()[:, 0]
    wanted = np.stack(
        [
            np.interp(np.arange(40) / 30, pose.frame_times_s, axis)
            for axis in (rig_positions(pose, 0)[:, 0] @ TO_Y_UP.T).T
        ],
        axis=1,
    )
    np.testing.assert_allclose(hips, wanted * 100, atol=0.01)


@pytest.mark.parametrize("fps", [12.5, 60.0, 500.0])
def test_other_frame_rates(tmp_path: Path, fps: float) -> None:
    pose = rigged_pose(people=1, frames=31)
    (bvh,) = written(pose, tmp_path, fps=fps)
    assert bvh.frame_time == pytest.approx(1 / fps, rel=1e-8)
    assert bvh.frame_count == int(fps) + 1
    first, last = bvh.joint_positions()[[0, -1]]
    wanted = rig_positions(pose, 0)[:, depth_first()] @ TO_Y_UP.T * 100
    np.testing.assert_allclose(first, wanted[0], atol=0.01)
    np.testing.assert_allclose(last, wanted[30] if fps != 12.5 else wanted[[28, 29]].mean(axis=0), atol=2.0)


def test_in_place_keeps_height_only(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=40)
    (bvh,) = written(pose, tmp_path, in_place=True)
    hips = bvh.joint_positions()[:, 0] / 100
    wanted = rig_positions(pose, 0)[:, 0] @ TO_Y_UP.T
    np.testing.assert_allclose(hips[:, 1], wanted[:, 1], atol=1e-4)
    assert np.ptp(hips[:, [0, 2]], axis=0).max() < 1e-4
    assert np.ptp(wanted[:, [0, 2]], axis=0).max() > 0.5


def test_camera_space_is_upright_in_the_camera(tmp_path: Path) -> None:
    """The camera of the made-up pose is level: only turned and moved against the world."""
    pose = rigged_pose(people=1, frames=20)
    (bvh,) = written(pose, tmp_path, space="camera")
    person = pose.people[0]
    placed = (person.joints + person.root[:, None])[:, depth_first()] * [1, -1, -1]
    off = np.linalg.norm(bvh.joint_positions() / 100 - placed, axis=-1)
    assert np.median(off) < 0.025


def test_part_of_the_clip_and_one_frame(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, frames=40)
    (bvh,) = written(pose, tmp_path, people=(2,), start_s=0.5, end_s=1.0)
    assert bvh.frame_count == 15
    wanted = rig_positions(pose, 1)[15:30, depth_first()] @ TO_Y_UP.T * 100
    np.testing.assert_allclose(bvh.joint_positions(), wanted, atol=0.01)
    (tmp_path / "one").mkdir()
    (single,) = written(rigged_pose(people=1, frames=1), tmp_path / "one")
    assert single.frame_count == 1


def test_without_a_rig_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="person 1 has no joint rotations"):
        export_pose(moving_pose(people=1), tmp_path / "walk.bvh")
    assert list(tmp_path.iterdir()) == []
