"""``vp3d view``: the page it writes, what it opens, and what it says of bad input."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RunCli
from poses import arrays_of, walking_pose, with_arrays

from vp3d_cli.cli import view
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.pose import Pose3D


@pytest.fixture
def pose_file(tmp_path: Path) -> Path:
    return written(walking_pose(people=1, frames=5), tmp_path / "pose.npz")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were given to the browser; none is started."""
    addresses: list[str] = []
    monkeypatch.setattr(view.webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def written(pose: Pose3D, path: Path) -> Path:
    write_npz(pose, path)
    return path


def test_writes_the_page_and_opens_it(run_cli: RunCli, pose_file: Path, opened: list[str]) -> None:
    page = pose_file.with_name("page.html")
    done = run_cli("view", pose_file, "--out", page)
    assert (done.code, done.stdout, done.stderr) == (0, f"{page}\n", "")
    assert opened == [page.as_uri()]
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_no_open(run_cli: RunCli, pose_file: Path, opened: list[str]) -> None:
    assert run_cli("view", pose_file, "--out", pose_file.with_name("p.html"), "--no-open").code == 0
    assert opened == []


def test_without_out_the_page_is_a_temporary_file(
    run_cli: RunCli, pose_file: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(view.tempfile, "tempdir", str(folder))
    done = run_cli("view", pose_file)
    page = Path(done.stdout.strip())
    assert page.name == "pose.html"
    assert page.is_relative_to(folder)
    assert opened == [page.as_uri()]
    assert run_cli("view", written(replace(walking_pose(1, 3), people=()), tmp_path / "nobody.npz")).code == 1
    assert [path.name for path in folder.iterdir()] == [page.parent.name]  # nothing is left of the second


def test_tells_where_the_page_is_if_no_browser_starts(
    run_cli: RunCli, pose_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view.webbrowser, "open", lambda address: False)
    page = pose_file.with_name("p.html")
    done = run_cli("view", pose_file, "--out", page)
    assert done.code == 0
    assert done.error_lines == [f"vp3d: warning: no browser could be started; open {page} yourself"]


def test_title_is_the_video_the_pose_was_made_from(run_cli: RunCli, tmp_path: Path) -> None:
    pose = replace(walking_pose(people=1, frames=2), provenance={"video": "/films/a <b>.mp4"})
    page = tmp_path / "p.html"
    assert run_cli("view", written(pose, tmp_path / "x.npz"), "--out", page, "--no-open").code == 0
    assert "<title>a &lt;b&gt;.mp4</title>" in page.read_text(encoding="utf-8")


def test_existing_page_stays_without_overwrite(run_cli: RunCli, pose_file: Path) -> None:
    page = pose_file.with_name("p.html")
    page.write_text("mine", encoding="utf-8")
    done = run_cli("view", pose_file, "--out", page, "--no-open")
    assert done.code == 1
    assert done.error_lines == [f"vp3d: error: {page}: exists already; choose another name or pass --overwrite"]
    assert page.read_text(encoding="utf-8") == "mine"
    assert run_cli("view", pose_file, "--out", page, "--no-open", "--overwrite").code == 0
    assert page.read_text(encoding="utf-8") != "mine"


def test_nobody_to_show(run_cli: RunCli, tmp_path: Path) -> None:
    whole = walking_pose(people=1, frames=3)
    arrays = arrays_of(whole)
    arrays["joints_world"][:] = float("nan")
    for name, pose in (("nobody", replace(whole, people=())), ("unknown", with_arrays(whole, **arrays))):
        page = tmp_path / f"{name}.html"
        done = run_cli("view", written(pose, tmp_path / f"{name}.npz"), "--out", page, "--no-open")
        assert done.code == 1
        assert done.error_lines == [
            "vp3d: error: the pose holds no motion, so there is nothing to view; infer it again from a video of people"
        ]
        assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["missing.npz"], 1, "no such file"),
        (["pose.npz", "--out", "pose.npz"], 2, "end in .html"),
        (["pose.npz", "--out", "no/such/folder/p.html"], 1, "does not exist"),
        (["pose.npz", "--out", "folder.html"], 1, "is a folder"),
        (["pose.npz", "--out", "p.html", "--link-video"], 2, "--link-video needs --video"),
        (["pose.npz", "--out", "p.html", "--video", "missing.mp4"], 1, "missing.mp4"),
        (["pose.npz", "--out", "p.html", "--video", "missing.mp4", "--link-video"], 1, "leave out --link-video"),
        (["pose.npz", "--out", "p.html", "--video", "pose.npz", "--link-video"], 1, "leave out --link-video"),
    ],
)
def test_bad_input(
    run_cli: RunCli, pose_file: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(pose_file.parent)
    Path("folder.html").mkdir()
    before = pose_file.read_bytes()
    done = run_cli("view", *arguments, "--no-open")
    assert done.code == code
    assert says in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["folder.html", "pose.npz"]
    assert pose_file.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which even root cannot write")
def test_unwritable_folder(run_cli: RunCli, pose_file: Path) -> None:
    done = run_cli("view", pose_file, "--out", "/proc/p.html", "--no-open")
    assert done.code == 1
    assert done.error_lines == [
        "vp3d: error: /proc/p.html: cannot be written (No such file or directory); choose another folder"
    ]


def test_video_of_another_size(run_cli: RunCli, pose_file: Path, short_clip: Path) -> None:
    page = pose_file.with_name("p.html")
    done = run_cli("view", pose_file, "--video", short_clip, "--out", page, "--no-open")
    assert done.code == 1
    assert "give the video it was made from" in done.error_lines[-1]
    assert not page.exists()
