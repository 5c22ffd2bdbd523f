"""Calibrated clips and pairs of pose files: who is compared with whom, and when."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation import SHORT, calibrated_file
from poses import arrays_of, walking_pose, with_arrays

from vp3d_cli.errors import InputError
from vp3d_cli.evaluate import evaluate_calibrated, read_calibrated
from vp3d_cli.evaluate.calibrated import find_person
from vp3d_cli.evaluate.pose_files import evaluate_pair
from vp3d_cli.skeletons import H36M_LIMBS, LIMB_JOINTS


def test_the_right_person_is_examined(tmp_path: Path) -> None:
    pose = walking_pose(people=3, frames=20)
    for person in range(3):
        view = read_calibrated(calibrated_file(tmp_path / "gt.npz", pose, person), "cam")
        assert find_person(pose.keypoints_2d, pose.frame_times_s, pose.video_size_wh, view) == person
        scores = evaluate_calibrated(pose, view)
        assert scores.name == "cam"
        assert scores.n_mpjpe == pytest.approx(0.0, abs=0.01)
        assert scores.trajectory == pytest.approx(0.0, abs=0.01)


def test_someone_who_is_seldom_seen_is_not_the_one(tmp_path: Path) -> None:
    pose = walking_pose(people=2, frames=20)
    keypoints = pose.keypoints_2d.copy()
    keypoints[1] = keypoints[0]  # a stray on the very spot, for five frames
    keypoints[1, 5:] = np.nan
    view = read_calibrated(calibrated_file(tmp_path / "gt.npz", pose), "cam")
    assert find_person(keypoints, pose.frame_times_s, pose.video_size_wh, view) == 0
    with pytest.raises(InputError, match="there is nobody"):
        find_person([], pose.frame_times_s, pose.video_size_wh, view)


def test_a_video_of_another_frame_rate(tmp_path: Path) -> None:
    pose = walking_pose(people=1, frames=41)
    view = read_calibrated(calibrated_file(tmp_path / "gt.npz", pose), "cam")
    every_other = {name: values[:, ::2] for name, values in arrays_of(pose).items()}
    times_s = pose.frame_times_s[::2]
    half = with_arrays(
        dataclasses.replace(pose, people=(), frame_times_s=times_s, fps=pose.fps / 2), [1], **every_other
    )
    scores = evaluate_calibrated(half, view)
    assert (scores.frames, scores.missing) == (41, 0)
    assert scores.n_mpjpe < 3  # straight lines between frames


def test_reading_a_calibrated_clip(tmp_path: Path) -> None:
    pose = walking_pose(people=1, frames=5)
    order = list(reversed(range(12)))
    joints = (pose.joints_3d[0][:, H36M_LIMBS] + pose.trajectory[0][:, None])[:, order]
    file = calibrated_file(
        tmp_path / "gt.npz",
        pose,
        cam_joints_cam=joints,
        joint_names=np.array([LIMB_JOINTS[i] for i in order]),
        cam_dist=np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
    )
    view = read_calibrated(file, "cam")
    np.testing.assert_allclose(view.joints_cam, joints[:, order], atol=1e-6)
    np.testing.assert_allclose(view.distortion, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert view.intrinsics == pytest.approx(pose.intrinsics)
    np.testing.assert_allclose(view.times_s, pose.frame_times_s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cam_joints_cam": None}, "no camera 'cam'; it has none"),
        ({"cam_K": None}, "is not a calibrated clip"),
        ({"cam_K": np.eye(2)}, "is not a calibrated clip"),
        ({"fps": None}, "is not a calibrated clip"),
        ({"joint_names": np.array([*SHORT[:-1], "tail"])}, "lacks the joints right_ankle"),
        ({"cam_joints_cam": np.zeros((3, 11, 3))}, r"must be \(T, 12, 3\), is \(3, 11, 3\)"),
    ],
)
def test_broken_calibrated_clips(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = calibrated_file(tmp_path / "gt.npz", walking_pose(people=1, frames=3), **changes)
    with pytest.raises(InputError, match=message):
        read_calibrated(file, "cam")


def test_no_calibrated_clip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibrated clip at"):
        read_calibrated(tmp_path / "none.npz", "cam")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match="is not a calibrated clip"):
        read_calibrated(tmp_path / "text.npz", "cam")


def test_people_of_two_files_are_matched_by_where_they_are_seen() -> None:
    pose = walking_pose(people=3, frames=15)
    mixed = with_arrays(pose, **{name: values[[2, 0, 1]] for name, values in arrays_of(pose).items()})
    scores = evaluate_pair(mixed, pose)
    assert sorted(case.name for case in scores) == ["person 1", "person 2", "person 3"]
    for case in scores:
        assert case.n_mpjpe == pytest.approx(0.0, abs=1e-3)
        assert case.trajectory == pytest.approx(0.0, abs=1e-3)
    assert len(evaluate_pair(pose, walking_pose(people=1, frames=15))) == 1


def test_pairs_with_nothing_in_common() -> None:
    pose = walking_pose(people=1, frames=10)
    later = dataclasses.replace(pose, frame_times_s=pose.frame_times_s + 100.0)
    with pytest.raises(InputError, match="at the same time"):
        evaluate_pair(later, pose)
    names = tuple(f"bone_{i}" for i in range(17))
    with pytest.raises(InputError, match="no hips in common"):
        evaluate_pair(dataclasses.replace(pose, joint_names_3d=names), pose)
