"""The command ``vp3d evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation import calibrated_file, lifter_file
from motions import write_archive
from poses import walking_pose, with_arrays

from vp3d_cli.camera import project
from vp3d_cli.cli.main import main
from vp3d_cli.evaluate import read_calibrated
from vp3d_cli.evaluate.calibrated import find_person
from vp3d_cli.evaluate.report import plot_joints
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.skeletons import COCO_LIMBS

HEADER = "case frames MPJPE N-MPJPE P-MPJPE MPJVE trajectory aligned PCK@150 AUC"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("motion") / "mocap.npz")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_command_on_pose_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pose = walking_pose(people=2, frames=12)
    write_npz(pose, tmp_path / "pose.npz")
    taller = with_arrays(pose, joints_3d=pose.joints_3d * np.float32(1.1))
    write_npz(taller, tmp_path / "taller.npz")
    assert run("--truth", tmp_path / "pose.npz", "--pose", tmp_path / "taller.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == HEADER
    assert [line.split()[0] for line in lines[2:]] == ["person", "person", "mean"]
    assert lines[-1].split()[3] == "0.00"

    gt = calibrated_file(tmp_path / "gt.npz", pose)
    outputs = ("--json", tmp_path / "out.json", "--plot", tmp_path / "out.png")
    assert run("--calibrated", gt, "--camera", "cam", "--pose", tmp_path / "taller.npz", *outputs) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["calibrated"] == str(gt)
    assert content["results"][str(tmp_path / "taller.npz")][0]["n_mpjpe"] == pytest.approx(0.0, abs=0.01)
    capsys.readouterr()
    assert run("--calibrated", gt, "--camera", "cam", "--pose", tmp_path / "taller.npz", *outputs) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_table_is_framed_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(walking_pose(people=2, frames=6), tmp_path / "pose.npz")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    assert run("--truth", tmp_path / "pose.npz", "--pose", tmp_path / "pose.npz") == 0
    out = capsys.readouterr().out
    assert "┃" in out
    assert "person 2" in out


def test_command_on_motion(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (lifter_file(tmp_path / f"{name}.safetensors") for name in "ab")
    weights = ("--weights", first, "--weights", second)
    assert run("--motion", archive, *weights, "--windows", 12, "--fps", 30, "--shots", 1, "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[0][:3] == ["system", "case", "frames"]
    assert [row[1] for row in rows[2:]] == ["clean", "detected", "30"] * 2
    assert rows[2][2:] == rows[5][2:]  # the same weights, the same exam


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --motion, --data, --calibrated and --truth"),
        (["--motion", "a", "--truth", "b"], "give one of"),
        (["--motion", "a", "--pose", "b"], "--pose has no effect with --motion"),
        (["--calibrated", "a", "--fps", "30", "--video", "c"], "--fps has no effect with --calibrated"),
        (["--calibrated", "a"], "--calibrated needs --video or --pose"),
        (["--calibrated", "a", "--pose", "b", "--weights", "c"], "--weights has no effect with --pose"),
        (["--calibrated", "a", "--pose", "b", "--camera", "c", "--camera", "d"], "2 cameras for 1 files"),
        (["--truth", "a"], "--truth needs --pose"),
        (["--motion", "a", "--smooth", "much"], "invalid strength"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_failures_are_one_line(tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("--motion", tmp_path / "none.npz", "--hold-out", "x"),
        ("--motion", archive, "--weights", "no-such-lifter"),
        ("--motion", archive, "--hold-out", "("),
        ("--calibrated", tmp_path / "none.npz", "--camera", "c", "--video", "v.mp4"),
        ("--truth", tmp_path / "none.npz", "--pose", tmp_path / "none.npz"),
    ):
        assert run(*arguments, "--quiet") == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("vp3d: error: ")
        assert captured.err.count("\n") == 1


def test_projection_of_the_truth_uses_the_lens(tmp_path: Path) -> None:
    """A strong lens moves people in the image; who is who must follow."""
    pose = walking_pose(people=2, frames=5)
    lens = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
    view = read_calibrated(calibrated_file(tmp_path / "gt.npz", pose, 1, cam_dist=lens), "cam")
    points = project(view.joints_cam, view.intrinsics, view.distortion)
    keypoints = np.full_like(pose.keypoints_2d, np.nan)
    keypoints[0][:, COCO_LIMBS] = points
    keypoints[1] = pose.keypoints_2d[1]
    assert find_person(keypoints, pose.frame_times_s, pose.video_size_wh, view) == 0


def test_a_long_path_leaves_the_plot_its_room(tmp_path: Path) -> None:
    joints = ("hip", "knee")
    scores = Scores("mean", 4, n_mpjpe=2.0, p_mpjpe=1.0, joints=joints, joints_n=(1.0, 3.0), joints_p=(1.0, 1.0))
    plot_joints(tmp_path / "joints.png", {f"/runs/{'long' * 60}/best.safetensors": scores}, overwrite=False)
    assert (tmp_path / "joints.png").stat().st_size > 5000
