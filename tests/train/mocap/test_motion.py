"""Motion from files and folders of any kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import motion_files as made
import numpy as np
import pytest
from motion_files import joint
from poses import walking_pose, with_arrays

from vp3d_cli.errors import InputError
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.motion import MotionClip, read_motion

FRAMES = 5


def test_a_folder_of_all_kinds(tmp_path: Path) -> None:
    made.write_bvh(tmp_path / "dance" / "b.bvh")
    made.write_bvh(tmp_path / "dance" / "A.BVH", names=made.NAMINGS["mixamo"])
    made.write_amc(tmp_path / "cmu" / "01")
    (tmp_path / "poses").mkdir()
    write_npz(walking_pose(people=1, frames=40), tmp_path / "poses" / "x.npz")
    (tmp_path / "dance" / "LICENSE.txt").write_text("free")
    (tmp_path / "dance" / "notes.txt").write_text("to be ignored")
    clips = read_motion(tmp_path)
    found = {(clip.name, clip.source, clip.licence) for clip in clips}
    assert found == {
        ("cmu/01/01_02", "01", "not stated in 01"),
        ("dance/A", "dance", "see dance/LICENSE.txt"),
        ("dance/b", "dance", "see dance/LICENSE.txt"),
        ("poses/x_person1", "poses", "not stated"),
    }
    assert all(np.isfinite(clip.joints).all() for clip in clips)


@pytest.fixture
def pose() -> Pose3D:
    return walking_pose(people=2, frames=60)


def test_pose_files(tmp_path: Path, pose: Pose3D) -> None:
    write_npz(pose, tmp_path / "walk.npz")
    clips = read_motion(tmp_path / "walk.npz")
    assert [clip.name for clip in clips] == ["walk_person1", "walk_person2"]
    for clip, world in zip(clips, pose.joints_world, strict=True):
        limbs = [i for i, name in enumerate(H36M17.joints) if name not in ("spine", "thorax")]  # see test_trunk.py
        np.testing.assert_allclose(clip.joints[:, limbs], world[:, limbs], atol=1e-5)
        assert clip.fps == pytest.approx(30.0)
        left = joint(clip.joints, "left_shoulder") - joint(clip.joints, "right_shoulder")
        forward = np.cross(left, joint(clip.joints, "head") - joint(clip.joints, "neck"))
        nose = joint(clip.joints, "nose") - joint(clip.joints, "neck")
        assert ((nose * forward).sum(-1) > 0).all()


def test_pose_files_are_cut_where_a_person_is_out_of_view(tmp_path: Path, pose: Pose3D) -> None:
    world = pose.joints_world.copy()
    world[0, 20:25] = np.nan
    world[0, 57:] = np.nan
    world[1] = np.nan
    write_npz(with_arrays(pose, joints_world=world), tmp_path / "walk.npz")
    clips = read_motion(tmp_path / "walk.npz")
    assert [(clip.name, len(clip.joints)) for clip in clips] == [("walk_person1", 20), ("walk_person1_1", 32)]


def test_pose_files_carry_the_lifters_licence(tmp_path: Path, pose: Pose3D) -> None:
    lifted = dataclasses.replace(pose, provenance={"lifter": {"name": "x", "licence": "CC BY-NC 4.0"}})
    write_npz(lifted, tmp_path / "walk.npz")
    assert read_motion(tmp_path / "walk.npz")[0].licence == "estimated by a model of licence CC BY-NC 4.0"


def test_pose_files_without_anyone(tmp_path: Path, pose: Pose3D) -> None:
    nobody = with_arrays(pose, joints_world=np.full_like(pose.joints_world, np.nan))
    write_npz(nobody, tmp_path / "walk.npz")
    with pytest.raises(InputError, match="nobody is in view"):
        read_motion(tmp_path / "walk.npz")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no motion at"):
        read_motion(tmp_path / "none.bvh")
    with pytest.raises(InputError, match=r"no motion in this folder; vp3d reads \.npz, \.bvh, \.amc"):
        read_motion(tmp_path)
    (tmp_path / "a.fbx").write_text("")
    with pytest.raises(InputError, match="motion of an unknown kind"):
        read_motion(tmp_path / "a.fbx")
    (tmp_path / "a.npz").write_text("no zip")
    with pytest.raises(InputError, match="neither a motion archive nor a pose file"):
        read_motion(tmp_path / "a.npz")


def test_one_broken_file_in_a_folder_is_named(tmp_path: Path) -> None:
    made.write_bvh(tmp_path / "a.bvh")
    made.broken_bvh(tmp_path, ("Frames: 5", "Frames: 9"))
    with pytest.raises(InputError, match=r"broken\.bvh line \d+: 9 frames are announced"):
        read_motion(tmp_path)


def test_a_motion_of_one_frame(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least 2 frames"):
        read_motion(made.write_bvh(tmp_path / "a.bvh", frames=1))


def test_motion_clips_are_checked() -> None:
    good = np.zeros((4, 22, 3), np.float32)
    bad = good.copy()
    bad[2, 5] = np.nan
    with pytest.raises(InputError, match="values of frame 2 are not finite"):
        MotionClip("a", "b", "c", 30.0, bad)
    for fps in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="positive rate"):
            MotionClip("a", "b", "c", fps, good)
