"""``vp3d render``: its options, what it writes, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import RunCli
from poses import walking_pose

from vp3d_cli.io.poses.npz import write_npz


@pytest.fixture
def pose(tmp_path: Path) -> Path:
    path = tmp_path / "pose.npz"
    write_npz(walking_pose(people=2, frames=6, size_wh=(160, 90)), path)
    return path


def test_a_pose_alone_is_drawn(run_cli: RunCli, pose: Path) -> None:
    out = pose.with_name("3d.mp4")
    done = run_cli("render", pose, "--out", out, "--quiet")
    assert (done.code, done.stdout, done.stderr) == (0, f"{out}\n", "")
    facts = json.loads(run_cli("info", out, "--json").stdout)
    assert (facts["frames"], facts["size_wh"], facts["frames_per_second"]) == (6, [1280, 720], pytest.approx(30))


def test_all_options_together(run_cli: RunCli, pose: Path) -> None:
    out = pose.with_name("frames")
    done = run_cli(
        "render", pose, "--out", out, "--layout", "grid", "--camera", "turntable", "--theme", "dark", "--trail", 0,
        "--person", 2, "--person", 1, "--compare", pose, "--height", 120, "--fps", 15, "--quiet",
    )  # fmt: skip
    assert (done.code, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert sorted(path.name for path in out.iterdir()) == ["00000.png", "00002.png", "00004.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layout", "side"], "side shows the footage; give --video too"),
        (["--layout", "overlay"], "overlay shows the footage"),
        (["--layout", "stack"], "'stack' is not one of"),
        (["--camera", "drone"], "'drone' is not one of"),
        (["--theme", "pink"], "'pink' is not one of"),
        (["--fps", "0"], "must be a positive number"),
        (["--fps", "nan"], "must be a positive number"),
        (["--trail", "-1"], "--trail"),
        (["--trail", "nan"], "--trail"),
        (["--height", "8"], "--height"),
        (["--layout", "overlay", "--video", "v.mp4", "--compare", "b.npz"], "needs a layout with a 3D view"),
    ],
)
def test_wrong_options(run_cli: RunCli, pose: Path, options: list[str], words: str) -> None:
    done = run_cli("render", pose, "--out", pose.with_name("3d.mp4"), *options)
    assert done.code == 2, done
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert [path.name for path in pose.parent.iterdir()] == ["pose.npz"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--person", "5"], "there is no person 5 in this pose; people: 1, 2"),
        (["--compare", "no.npz"], "no.npz"),
        (["--video", "no.mp4"], "no.mp4"),
        (["--out", "3d.avi"], ".webm or .gif"),
        (["--out", "no/such/folder"], "does not exist"),
        (["--out", "."], "exists already"),
        (["--out", ".", "--overwrite"], "holds other files, such as pose.npz"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run_cli: RunCli, pose: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pose.parent)
    done = run_cli("render", pose, "--out", "3d.mp4", *options, "--quiet")
    assert done.code == 1, done
    assert done.stdout == ""
    assert len(done.error_lines) == 1, done.stderr
    assert words in done.stderr
    assert [path.name for path in pose.parent.iterdir()] == ["pose.npz"]


def test_a_video_that_is_too_short_is_told(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "long.npz", tmp_path / "out.mp4"
    write_npz(walking_pose(people=1, frames=14, size_wh=(1768, 994)), path)
    done = run_cli("render", path, "--video", short_clip, "--out", out, "--height", 120, "--quiet")
    assert done.code == 0, done
    assert "warning" in done.stderr
    assert "lacks 2 of 14 frames" in done.stderr
    assert json.loads(run_cli("info", out, "--json").stdout)["frames"] == 14
