"""``vp3d export``: files for other programs, and what it says of input that it cannot use."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from poses import arrays_of, pose_of, with_arrays
from rigs import known_joints, moving_pose, rigged_pose

from vp3d_cli.io.poses.npz import read_npz, write_npz
from vp3d_cli.plugins import EXPORTERS
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.bvh import read_bvh


def stored(pose: Pose3D, folder: Path, name: str = "walk.npz") -> Path:
    path = folder / name
    write_npz(pose, path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for results, empty unless something is left behind."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def pose_file(tmp_path: Path) -> Path:
    """Two people without rigs, as older versions wrote them."""
    return stored(moving_pose(people=2), tmp_path)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_format_at_once(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    outcome = run_cli("export", pose_file, "--to", ",".join(set(EXPORTERS) - {"rerun"}), "--out", out)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert sorted(outcome.stdout.splitlines()) == sorted(str(path) for path in out.iterdir())
    names = names_in(out)
    for name in ("walk_1.bvh", "walk_2.bvh", "walk.glb", "walk.csv", "walk.coco.json", "walk.npz", "walk_2.trc"):
        assert name in names
    assert "walk.bvh" not in names


def test_the_ending_names_the_format(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    assert run_cli("export", pose_file, "--out", out / "{stem}_b.bvh", "--person", 2).code == 0
    assert run_cli("export", pose_file, "--out", out / "a.coco.json").code == 0
    assert names_in(out) == ["a.coco.json", "walk_b.bvh"]


def test_options_reach_the_file(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    options = ["--fps", "60", "--names", "mixamo", "--in-place", "--rotation-order", "xyz", "--person", "1"]
    outcome = run_cli("export", pose_file, "--out", out / "a.bvh", "--start", "0.5", "--end", "0:01", *options)
    assert outcome.code == 0
    recording = read_bvh(out / "a.bvh")
    assert recording.fps == pytest.approx(60)
    assert recording.names[0] == "mixamorig:Hips"
    assert len(recording.positions) == 29  # 15 frames at 30 per second last 14/30 s
    assert np.ptp(recording.positions[:, 0, [0, 2]], axis=0).max() < 1e-3
    assert "CHANNELS 3 Xrotation Yrotation Zrotation" in (out / "a.bvh").read_text()


def test_the_table_of_formats(run_cli: RunCli) -> None:
    outcome = run_cli("export", "--formats")
    assert outcome.code == 0
    for name in EXPORTERS:
        assert f"\n{name} " in outcome.stdout


def test_gaps_are_one_warning_for_all_formats(tmp_path: Path, out: Path, run_cli: RunCli) -> None:
    path = stored(rigged_pose(people=2, gaps=True), tmp_path)
    outcome = run_cli("export", path, "--to", "bvh,glb,csv", "--out", out)
    assert outcome.code == 0
    (line,) = outcome.error_lines
    assert line.startswith("vp3d: warning: bvh, glb: ")
    assert "person 2: 11 of 40 frames" in line
    assert run_cli("export", path, "--to", "bvh", "--out", out, "-q", "--overwrite").stderr == ""
    assert run_cli("export", path, "--to", "bvh", "--out", out, "--person", 1, "--overwrite").stderr == ""


@pytest.mark.parametrize(("frames", "fps"), [(1, 30.0), (2, 30.0), (20, 500.0)])
def test_one_frame_and_high_speed(tmp_path: Path, out: Path, run_cli: RunCli, frames: int, fps: float) -> None:
    path = stored(moving_pose(people=1, frames=frames, fps=fps), tmp_path)
    outcome = run_cli("export", path, "--to", "bvh,glb,trc,mot,csv,json", "--out", out)
    assert (outcome.code, outcome.stderr) == (0, "")
    recording = read_bvh(out / "walk.bvh")
    assert len(recording.positions) == frames
    assert recording.fps == pytest.approx(fps)


def test_bones_without_length(tmp_path: Path, out: Path, run_cli: RunCli) -> None:
    joints = known_joints(np.arange(10) / 30)
    joints[:, H36M17.index("left_wrist")] = joints[:, H36M17.index("left_elbow")]
    outcome = run_cli("export", stored(pose_of([joints]), tmp_path), "--to", "bvh,glb,mot", "--out", out)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert np.isfinite(read_bvh(out / "walk.bvh").positions).all()


def test_a_rig_in_the_file_is_the_one_that_is_written(tmp_path: Path, out: Path, run_cli: RunCli) -> None:
    pose = rigged_pose(people=1)
    person = pose.people[0]
    assert person.rig is not None
    longer = replace(person.rig, bone_offsets=person.rig.bone_offsets * np.float32(1.5))
    path = stored(replace(pose, people=(replace(person, rig=longer),)), tmp_path)
    run_cli("export", path, "--out", out / "a.bvh")
    assert (
        f"OFFSET 0.000000 {150 * person.rig.bone_offsets[H36M17.index('left_knee'), 2]:.3f}"
        in (out / "a.bvh").read_text()
    )


# Input that cannot be used: one line, nothing written.


def assert_refused(code: int, stderr: str, folder: Path, wanted: int, *words: str) -> None:
    assert code == wanted, stderr
    for word in words:
        assert word in stderr
    assert names_in(folder) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "docx"], ["unknown format 'docx'; known: npz, bvh, glb"]),
        (["--to", "bvh,fbx"], ["unknown format 'fbx'"]),
        (["--out", "{out}/walk.docx"], ["unknown ending", ".bvh"]),
        (["--to", "bvh", "--out", "{out}/walk.glb"], ["walk.glb", ".bvh"]),
        ([], ["give the formats to write: npz, bvh"]),
        (["--to", "bvh", "--fps", "0"], ["0 frames per second"]),
        (["--to", "bvh", "--fps", "1e9"], ["frames per second"]),
        (["--to", "bvh", "--fps", "nan"], ["frames per second"]),
        (["--to", "bvh", "--space", "moon"], ["unknown space 'moon'; known: world, camera"]),
        (["--to", "bvh", "--names", "maya"], ["unknown joint names 'maya'; known: vp3d"]),
        (["--to", "bvh", "--rotation-order", "XXY"], ["unknown rotation order 'XXY'"]),
        (["--to", "bvh", "--start", "2", "--end", "1"], ["not after the start"]),
        (["--to", "bvh", "--start", "soon"], ["soon"]),
    ],
)
def test_wrong_usage(pose_file: Path, out: Path, run_cli: RunCli, arguments: list[str], words: list[str]) -> None:
    given = [argument.replace("{out}", str(out)) for argument in arguments]
    outcome = run_cli("export", pose_file, *given, *([] if "--out" in given else ["--out", out]) if given else [])
    assert_refused(outcome.code, outcome.stderr, out, 2, *words)


def test_nobody(tmp_path: Path, out: Path, run_cli: RunCli) -> None:
    pose = moving_pose(people=1)
    empty = stored(replace(pose, people=()), tmp_path, "empty.npz")
    arrays = arrays_of(pose)
    arrays["joints_world"][:] = np.nan
    unlifted = stored(with_arrays(pose, **arrays), tmp_path, "unlifted.npz")
    no_frames = stored(replace(pose, people=(), frame_times_s=np.zeros(0)), tmp_path, "no_frames.npz")
    for path in (empty, unlifted, no_frames):
        outcome = run_cli("export", path, "--to", "bvh,csv", "--out", out)
        assert_refused(outcome.code, outcome.stderr, out, 3, "nobody to export")
        assert len(outcome.error_lines) == 1


def test_no_such_person_and_no_such_time(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    outcome = run_cli("export", pose_file, "--to", "bvh", "--out", out, "--person", 7)
    assert_refused(outcome.code, outcome.stderr, out, 1, "no person 7 in this pose; it has 1, 2")
    outcome = run_cli("export", pose_file, "--to", "bvh", "--out", out, "--start", 60)
    assert_refused(outcome.code, outcome.stderr, out, 1, "no frame between start and end", "1.300 s")


def test_missing_and_foreign_files(tmp_path: Path, out: Path, run_cli: RunCli) -> None:
    outcome = run_cli("export", tmp_path / "no.npz", "--to", "bvh", "--out", out)
    assert_refused(outcome.code, outcome.stderr, out, 1, "no such file")
    other = replace(moving_pose(people=1), joint_names_3d=("a", *H36M17.joints[1:]))
    outcome = run_cli("export", stored(other, tmp_path), "--to", "csv,bvh", "--out", out)
    assert_refused(outcome.code, outcome.stderr, out, 1, "a rig needs the 17 joints")


def test_existing_files_are_kept(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    (out / "walk_2.bvh").write_text("mine")
    outcome = run_cli("export", pose_file, "--to", "csv,bvh", "--out", out)
    assert outcome.code == 1
    assert "exists already" in outcome.stderr
    assert names_in(out) == ["walk_2.bvh"]
    assert (out / "walk_2.bvh").read_text() == "mine"
    assert run_cli("export", pose_file, "--to", "csv,bvh", "--out", out, "--overwrite").code == 0
    assert (out / "walk_2.bvh").read_text().startswith("HIERARCHY")


def test_the_pose_file_is_never_written_over(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    before = pose_file.read_bytes()
    os.symlink(pose_file, out / "link.npz")
    for target in (pose_file, out / "link.npz"):
        outcome = run_cli("export", pose_file, "--out", target, "--overwrite")
        assert outcome.code == 2
        assert "is the file that is read" in outcome.stderr
    assert pose_file.read_bytes() == before


def test_folders_that_are_not_there(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    outcome = run_cli("export", pose_file, "--to", "bvh", "--out", out / "no" / "walk.bvh")
    assert_refused(outcome.code, outcome.stderr, out, 1, "does not exist")
    (out.parent / "file").touch()
    outcome = run_cli("export", pose_file, "--to", "bvh", "--out", out.parent / "file" / "walk.bvh")
    assert_refused(outcome.code, outcome.stderr, out, 1, "walk_1.bvh")


def test_missing_package(pose_file: Path, out: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ezc3d", None)
    outcome = run_cli("export", pose_file, "--to", "c3d", "--out", out)
    assert_refused(outcome.code, outcome.stderr, out, 1, "pip install 'vp3d[c3d]'")


def test_a_pose_file_for_one_person_and_part_of_the_time(pose_file: Path, out: Path, run_cli: RunCli) -> None:
    outcome = run_cli("export", pose_file, "--out", out / "part.npz", "--person", 2, "--start", "0.5", "--end", 1)
    assert outcome.code == 0
    part, whole = read_npz(out / "part.npz"), read_npz(pose_file)
    assert part.person_ids == (2,)
    np.testing.assert_array_equal(part.joints_world[0], whole.joints_world[1, 15:30])
    np.testing.assert_array_equal(part.frame_times_s, whole.frame_times_s[15:30])
    outcome = run_cli("export", pose_file, "--out", out / "other.npz", "--fps", 10)
    assert outcome.code == 1
    assert "leave out fps" in outcome.stderr
