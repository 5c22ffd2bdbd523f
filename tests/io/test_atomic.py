"""vp3d_cli/io/atomic.py: what folders hold, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp3d_cli.errors import OutputError
from vp3d_cli.io.atomic import (
    check_target,
    content_sha256,
    list_content,
    natural_key,
    protect,
    replacing,
    temporary_name,
)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
def test_natural_order_is_that_of_the_numbers(pairs: list[tuple[int, int]]) -> None:
    names = [f"cam{a}_take{b}.mp4" for a, b in pairs]
    assert sorted(names, key=natural_key) == [f"cam{a}_take{b}.mp4" for a, b in sorted(pairs)]


@given(st.lists(st.text(max_size=8), max_size=5))
def test_any_names_have_an_order(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key, reverse=True), key=natural_key) == sorted(names, key=natural_key)


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(name)
    return folder


def test_the_images_of_a_folder_are_its_content(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", "b.PNG", "a.jpg", "._a.jpg", "notes.txt")
    assert [path.name for path in list_content(folder)] == ["a.jpg", "b.PNG"]


def test_without_images_all_files_are(tmp_path: Path) -> None:
    folder = fill(tmp_path / "points", "b.json", "a.json")
    (folder / "more").mkdir()
    assert [path.name for path in list_content(folder)] == ["a.json", "b.json"]


def test_same_content_same_hash(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"12" * (1 << 20))
    beats: list[int] = []
    assert content_sha256(file, lambda: beats.append(1)) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(beats) == 2
    one, two = fill(tmp_path / "one", "0.png", "1.png"), fill(tmp_path / "two", "0.png", "1.png")
    assert content_sha256(one) == content_sha256(two)
    (two / "1.png").rename(two / "2.png")
    assert content_sha256(one) != content_sha256(two)


def test_a_target_that_could_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_target(tmp_path / "pose.npz", overwrite=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "pose.npz").write_bytes(b"precious")
    check_target(tmp_path / "pose.npz", overwrite=True)
    assert (tmp_path / "pose.npz").read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none/pose.npz", "the folder .*none does not exist; create it"),
        ("folder", "is a folder; give a file name inside it"),
        ("there.npz", "exists already; choose another name or pass --overwrite"),
        ("file/pose.npz", "does not exist"),
        ("n" * 300 + ".npz", "the name is too long; choose a shorter one"),
    ],
)
def test_a_target_that_could_not_be_written(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    for taken in ("there.npz", "file"):
        (tmp_path / taken).write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=f"{PurePosixPath(name).name}: .*{words}") as checked:
        check_target(tmp_path / name, overwrite=False)
    with pytest.raises(OutputError) as written, replacing(tmp_path / name, overwrite=False):
        raise AssertionError("the block was begun")
    assert str(checked.value) == str(written.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_longest_name_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".npz")
    with replacing(path, overwrite=False) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_what_a_command_reads_is_not_replaced(tmp_path: Path) -> None:
    read, link, hard = tmp_path / "read.npz", tmp_path / "link.npz", tmp_path / "hard.npz"
    read.write_bytes(b"precious")
    link.symlink_to(read)
    hard.hardlink_to(read)
    protect([read, tmp_path, tmp_path / "missing.npz", "a\0b"])
    try:
        for path in (read, link, hard):
            with pytest.raises(OutputError, match="is read by this command"):
                check_target(path, overwrite=True)
            with pytest.raises(OutputError, match="is read by this command"), replacing(path, overwrite=True):
                pass
    finally:
        protect([])
    check_target(read, overwrite=True)
    assert read.read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform != "linux", reason="needs device files and named pipes")
def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    places = [Path("/dev/null"), tmp_path / "pipe.npz"]
    for place in places:
        with pytest.raises(OutputError, match="is a device, a pipe or a socket, not a file"):
            check_target(place, overwrite=True)
        with pytest.raises(OutputError, match="not a file"), replacing(place, overwrite=True):
            pass
        assert not place.is_file()


def test_a_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pose.npz"

    def write() -> None:
        with replacing(path, overwrite=False) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"):
        write()
    assert path.read_bytes() == b"theirs"
    assert [entry.name for entry in tmp_path.iterdir()] == ["pose.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="there nobody can be asked whether a process is alive")
def test_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    ours = temporary_name(tmp_path).name
    left = tmp_path / ours.replace(f"-{os.getpid()}-", f"-{int(dead.stdout)}-")
    left.mkdir()
    (left / "picture.mp4").write_bytes(b"half")
    file = left.with_name(left.name[: -len("0" * 12 + ".part")] + "0" * 12 + ".part")
    file.write_bytes(b"half")
    machine = ours.split("-")[1]
    others = [left.name.replace(machine, "0" * 8), ours, ".vp3d-mine.part", "pose.npz"]
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    check_target(tmp_path / "new.npz", overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    name = temporary_name(tmp_path)
    name.symlink_to(victim)
    monkeypatch.setattr("vp3d_cli.io.atomic.temporary_name", lambda folder: name)
    with pytest.raises(OutputError), replacing(tmp_path / "pose.npz", overwrite=False):
        pass
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which not even root may write")
def test_permissions_that_do_not_tell(tmp_path: Path) -> None:
    # Root may write wherever permissions say no, and yet not here, where they say yes.
    with pytest.raises(OutputError, match=r"/proc/pose\.npz: .*choose another folder"):
        check_target(Path("/proc/pose.npz"), overwrite=False)
    tmp_path.chmod(0o555)
    if os.geteuid() != 0:
        with pytest.raises(OutputError, match="not writable; choose another folder"):
            check_target(tmp_path / "pose.npz", overwrite=False)
