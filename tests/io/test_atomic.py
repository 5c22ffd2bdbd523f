"""vp3d_cli/io/atomic.py: what folders hold, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp3d_cli.errors import OutputError
from vp3d_cli.io.atomic import check_target, content_sha256, list_content, natural_key, replacing


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
        ("n" * 245 + ".npz", "the name is too long; choose a shorter one"),  # with what is added while it is written
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which not even root may write")
def test_permissions_that_do_not_tell(tmp_path: Path) -> None:
    # Root may write wherever permissions say no, and yet not here, where they say yes.
    with pytest.raises(OutputError, match=r"/proc/pose\.npz: .*choose another folder"):
        check_target(Path("/proc/pose.npz"), overwrite=False)
    tmp_path.chmod(0o555)
    if os.geteuid() != 0:
        with pytest.raises(OutputError, match="not writable; choose another folder"):
            check_target(tmp_path / "pose.npz", overwrite=False)
