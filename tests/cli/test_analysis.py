"""``vp3d angles``, ``vp3d analyze`` and ``vp3d plot``: exit status, output, files, bad input."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from gait_motions import Walk, pose_at, walking, walking_joints
from poses import walking_pose, with_arrays

from vp3d_cli.io.poses.npz import write_npz

COMMANDS = [("angles", "out.csv"), ("analyze", "out.csv"), ("plot", "out.svg")]


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """The pose file of somebody who walks."""
    write_npz(walking(6.0), tmp_path / "walk.npz")
    return tmp_path / "walk.npz"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """The pose file of two people."""
    write_npz(walking_pose(2, 30), tmp_path / "two.npz")
    return tmp_path / "two.npz"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_angles(run_cli: RunCli, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "angles.csv"
    done = run_cli("angles", two, "--out", out)
    assert (done.code, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert [row["person"] for row in rows_of(out)] == ["1"] * 30 + ["2"] * 30
    done = run_cli(
        "angles",
        two,
        "--out",
        out,
        "--angles",
        "left_knee_flexion, pelvis_tilt",
        "--person",
        2,
        "--long",
        "--overwrite",
    )
    assert done.code == 0
    rows = rows_of(out)
    assert {row["person"] for row in rows} == {"2"}
    assert [row["angle"] for row in rows[:2]] == ["left_knee_flexion", "pelvis_tilt"]
    assert run_cli("angles", two, "--out", tmp_path / "angles.json").code == 0
    assert [p["person"] for p in json.loads((tmp_path / "angles.json").read_bytes())["people"]] == [1, 2]


def test_analyze(run_cli: RunCli, walk: Path, tmp_path: Path) -> None:
    out = tmp_path / "gait.csv"
    done = run_cli("analyze", walk, "--out", out)
    assert (done.code, done.stdout) == (0, f"{out}\n")
    assert done.stderr == "person 1: walking, 8 steps, 100 steps/min, 1.17 m/s\n"
    assert {row["group"] for row in rows_of(out)} == {"gait", "repetitions", "range_of_motion"}
    quiet = run_cli("analyze", walk, "--out", tmp_path / "gait.json", "--quiet")
    assert (quiet.code, quiet.stderr) == (0, "")
    assert json.loads((tmp_path / "gait.json").read_bytes())["people"][0]["gait"]["found"] is True


def test_analyze_prints_a_table(run_cli: RunCli, walk: Path) -> None:
    done = run_cli("analyze", walk, "--angles", "left_knee_flexion")
    assert (done.code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["person", "measure", "side", "value", "sd", "unit", "n", "note"]
    assert ["1", "cadence", "both", "100", "-", "steps/min", "8"] in [line.split() for line in lines]
    assert "right" not in [line.split()[2] for line in lines if "knee_flexion" in line]


def test_no_gait_is_said(run_cli: RunCli, tmp_path: Path) -> None:
    write_npz(pose_at(walking_joints(np.zeros(90), Walk()), 30.0), tmp_path / "stands.npz")
    done = run_cli("analyze", tmp_path / "stands.npz", "--out", tmp_path / "gait.csv")
    assert done.code == 0
    words = "no gait found: moves along at 0.00 m/s at most; 0.3 are needed"
    assert done.stderr == f"person 1: {words}\n"
    assert rows_of(tmp_path / "gait.csv")[0]["note"] == words


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot(run_cli: RunCli, two: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"plots.{suffix}"
    done = run_cli("plot", two, "--out", out, "--what", "angles,contacts", "--angles", "left_knee_flexion")
    assert (done.code, done.stdout, done.stderr) == (0, f"{out}\n", "")
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert out.read_bytes().startswith(begins)


def test_plot_of_many_people_says_who_is_left_out(run_cli: RunCli, tmp_path: Path) -> None:
    write_npz(walking_pose(5, 10), tmp_path / "five.npz")
    done = run_cli("plot", tmp_path / "five.npz", "--out", tmp_path / "five.svg", "--what", "heights")
    assert done.code == 0
    assert done.stderr.startswith(f"vp3d: warning: {tmp_path / 'five.npz'}: 5 people; the first 4 are drawn.")
    assert run_cli("plot", tmp_path / "five.npz", "--out", tmp_path / "5.pdf", "--what", "heights").stderr == ""


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_files_that_cannot_be_written_or_read(
    run_cli: RunCli, walk: Path, tmp_path: Path, command: str, name: str
) -> None:
    out = tmp_path / name
    out.write_text("mine", encoding="ascii")
    there = run_cli(command, walk, "--out", out)
    assert there.code == 1
    assert there.error_lines == [f"vp3d: error: {out}: exists already; choose another name or pass --overwrite"]
    assert out.read_text(encoding="ascii") == "mine"
    assert run_cli(command, walk, "--out", out, "--overwrite").code == 0
    missing = tmp_path / "missing" / name
    done = run_cli(command, walk, "--out", missing)
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert f"the folder {missing.parent} does not exist" in done.stderr
    done = run_cli(command, tmp_path / "none.npz", "--out", tmp_path / f"b{name}")
    assert done.code == 1
    assert len(done.error_lines) == 1
    (tmp_path / "text.npz").write_text("no pose", encoding="ascii")
    done = run_cli(command, tmp_path / "text.npz", "--out", tmp_path / f"b{name}")
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert not (tmp_path / f"b{name}").exists()


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_wrong_usage(run_cli: RunCli, walk: Path, tmp_path: Path, command: str, name: str) -> None:
    wrong = {
        ("--out", str(tmp_path / "a.txt")): "the name must end in .",
        ("--out", str(tmp_path / name), "--angles", "knee"): "unknown angle 'knee'; known: pelvis_tilt, ",
    }
    if command == "plot":
        wrong["--out", str(tmp_path / name), "--what", "knees"] = "unknown plot 'knees'; known: angles, heights, "
        wrong["--out", str(tmp_path / name), "--what", ","] = "nothing to draw; name some of angles, "
    for options, words in wrong.items():
        done = run_cli(command, walk, *options)
        assert done.code == 2, options
        assert words in " ".join(done.stderr.split()), options
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_nobody_and_no_such_person(run_cli: RunCli, walk: Path, tmp_path: Path, command: str, name: str) -> None:
    write_npz(replace(walking(1.0), people=()), tmp_path / "nobody.npz")
    done = run_cli(command, tmp_path / "nobody.npz", "--out", tmp_path / name)
    assert done.code == 3
    assert done.error_lines == [
        f"vp3d: error: {tmp_path / 'nobody.npz'}: nobody is in this pose file; there is nothing to measure"
    ]
    done = run_cli(command, walk, "--out", tmp_path / name, "--person", 4)
    assert done.code == 1
    assert done.error_lines == [f"vp3d: error: {walk}: there is no person 4; there are: 1"]
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_odd_poses(run_cli: RunCli, tmp_path: Path, command: str, name: str) -> None:
    """One frame, and somebody who is out of view for a while."""
    write_npz(walking(1 / 30), tmp_path / "frame.npz")
    pose = walking(4.0)
    gone = {array: getattr(pose, array).copy() for array in ("joints_3d", "trajectory", "joints_world", "keypoints_2d")}
    for array in gone.values():
        array[0, 30:60] = np.nan
    seen = {"scores_2d": pose.scores_2d.copy(), "observed": pose.observed.copy()}
    for array in seen.values():
        array[0, 30:60] = 0
    write_npz(with_arrays(pose, **gone, **seen), tmp_path / "gap.npz")
    for file in ("frame", "gap"):
        done = run_cli(command, tmp_path / f"{file}.npz", "--out", tmp_path / f"{file}_{name}")
        assert done.code == 0, done.stderr
        assert "warning" not in done.stderr


def test_the_pose_file_is_not_written_over(run_cli: RunCli, walk: Path, tmp_path: Path) -> None:
    named = walk.rename(tmp_path / "pose.csv")
    done = run_cli("angles", named, "--out", named, "--overwrite")
    assert done.code == 2
    assert "is read by this command" in " ".join(done.stderr.split())
    assert named.read_bytes().startswith(b"PK")
