"""vp3d_cli/jobs: what is found, planned, remembered and done; the networks are stubs (batch_stub.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from batch_stub import plan_of, write, write_video
from hypothesis import given
from hypothesis import strategies as st

from vp3d_cli.errors import ConfigError, InputError, OutputError
from vp3d_cli.io.atomic import fingerprint
from vp3d_cli.jobs.executor import choose_jobs, free_bytes
from vp3d_cli.jobs.inputs import STATE, BatchInput, find_inputs, looks_like_video
from vp3d_cli.jobs.lock import lock_folder
from vp3d_cli.jobs.plan import plan_items
from vp3d_cli.jobs.storage import is_unchanged
from vp3d_cli.pipeline.settings import InferSettings, with_absolute_paths

JPEG = b"\xff\xd8\xff\xe0"


def places(inputs: list[BatchInput]) -> list[str]:
    return [str(item.place) for item in inputs]


# What is found.


def test_videos_are_found_by_content_in_natural_order(tmp_path: Path) -> None:
    for name in ("take10.mkv", "take2.mkv", "cam/b", "Take1.MKV", "deep/er/x.webm"):
        write_video(tmp_path / name)
    write(tmp_path / "notes.txt", b"not a video\n" * 50)
    write(tmp_path / "types.ts", b"export type A = string\n")
    write(tmp_path / "poster.jpg", JPEG)
    write(tmp_path / "sound.m4a", b"\0\0\0\x20ftypM4A \0\0\0\0")
    write(tmp_path / "walk.npz", b"PK\x03\x04")
    write(tmp_path / "._take2.mkv", b"\x1a\x45\xdf\xa3")
    write(tmp_path / ".hidden/a.mkv", b"\x1a\x45\xdf\xa3")
    found = find_inputs([tmp_path])
    assert places(found) == ["cam/b", "deep/er/x.webm", "Take1.MKV", "take2.mkv", "take10.mkv"]
    assert all(item.path.is_absolute() and item.size == item.path.stat().st_size for item in found)


def test_a_broken_file_that_is_named_like_a_video_is_not_overlooked(tmp_path: Path) -> None:
    for name in ("empty.mp4", "text.MOV", "noise.avi"):
        write(tmp_path / name, b"" if name == "empty.mp4" else b"noise" * 100)
    assert places(find_inputs([tmp_path])) == ["empty.mp4", "noise.avi", "text.MOV"]


@pytest.mark.parametrize(
    ("start", "video"),
    [
        (b"\0\0\0\x20ftypisom", True),
        (b"\0\0\0\x18ftypqt  ", True),
        (b"\0\0\0\x18ftypheic", False),
        (b"\0\0\0\x08wide\0\0\0\0mdat", True),
        (b"RIFF\x10\0\0\0AVI LIST", True),
        (b"RIFF\x10\0\0\0WAVEfmt ", False),
        (b"GIF89a", True),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", True),
        (b"\x00\x00\x01\xba", True),
        ((b"\x47" + b"\0" * 187) * 6, True),
        ((b"\0\0\0\0\x47" + b"\0" * 187) * 6, True),
        (b"G" + b"o" * 600, False),
        (b"OggS\0\x02" + b"\0" * 22 + b"\x80theora", True),
        (b"OggS\0\x02" + b"\0" * 22 + b"OpusHead", False),
        (b"PK\x03\x04", False),
        (b"", False),
    ],
)
def test_first_bytes(tmp_path: Path, start: bytes, video: bool) -> None:
    assert looks_like_video(write(tmp_path / "file", start)) is video


def test_real_containers_are_recognised_without_their_suffix(tmp_path: Path, ffmpeg: Callable[..., None]) -> None:
    for name in ("a.mp4", "b.mov", "c.mkv", "d.avi", "e.gif", "f.ts", "g.mpg"):
        ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=0.2", tmp_path / name)
        (tmp_path / name).rename(tmp_path / name.replace(".", "_"))
    assert places(find_inputs([tmp_path])) == ["a_mp4", "b_mov", "c_mkv", "d_avi", "e_gif", "f_ts", "g_mpg"]


def test_a_folder_of_images_is_one_video(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "frames" / f"{i}.jpg", JPEG)
    write(tmp_path / "clips" / "poster.jpg", JPEG)
    write(tmp_path / "with video" / "1.jpg", JPEG)
    write(tmp_path / "with video" / "2.jpg", JPEG)
    write_video(tmp_path / "with video" / "a.mkv")
    found = find_inputs([tmp_path])
    assert places(found) == ["frames", "with video/a.mkv"]
    assert found[0].size == 3 * len(JPEG)
    assert places(find_inputs([tmp_path / "frames"])) == ["frames"]


def test_glob_takes_names_or_places(tmp_path: Path) -> None:
    for name in ("a.mkv", "cam1/a.webm", "cam1/b.mkv", "cam2/a.mkv"):
        write_video(tmp_path / name)
    assert places(find_inputs([tmp_path], globs=["*.mkv"])) == ["a.mkv", "cam1/b.mkv", "cam2/a.mkv"]
    assert places(find_inputs([tmp_path], globs=["cam1/*"])) == ["cam1/a.webm", "cam1/b.mkv"]
    assert places(find_inputs([tmp_path], globs=["b.*", "cam2/*"])) == ["cam1/b.mkv", "cam2/a.mkv"]
    write_video(tmp_path / "Cam3" / "A.MOV")
    for glob in ("*.mov", "cam3/*", "*.MOV"):
        assert places(find_inputs([tmp_path], globs=[glob])) == ["Cam3/A.MOV"]


def test_several_arguments_keep_their_common_tree(tmp_path: Path) -> None:
    for name in ("x/1/a.mkv", "y/a.mkv", "z/a.mkv"):
        write_video(tmp_path / name)
    found = find_inputs([tmp_path / "x", tmp_path / "y" / "a.mkv", tmp_path / "x" / "1" / "a.mkv"])
    assert places(found) == ["x/1/a.mkv", "y/a.mkv"]
    assert places(find_inputs([tmp_path / "x"])) == ["1/a.mkv"]
    assert places(find_inputs([tmp_path / "z" / "a.mkv"])) == ["a.mkv"]


def test_results_are_not_searched_and_a_missing_argument_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv")
    write_video(tmp_path / "out" / "drawn.mkv")
    assert places(find_inputs([tmp_path], exclude=[tmp_path / "out"])) == ["a.mkv"]
    assert places(find_inputs([tmp_path / "out"], exclude=[tmp_path / "out"])) == ["drawn.mkv"]
    with pytest.raises(InputError, match="no such file"):
        find_inputs([tmp_path, tmp_path / "missing"])
    (tmp_path / "out" / STATE).mkdir()  # of a batch before
    assert places(find_inputs([tmp_path])) == ["a.mkv"]
    assert places(find_inputs([tmp_path / "out"])) == ["drawn.mkv"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    write_video(tmp_path / "disk" / "a.mkv")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "clips")
    (tmp_path / "clips" / "gone.mkv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "clips" / "notes").symlink_to(tmp_path / "nowhere")
    assert places(find_inputs([tmp_path / "clips"])) == ["gone.mkv", "link/a.mkv"]  # one that leads nowhere will fail


def test_a_folder_has_its_own_place_and_not_that_of_a_link(tmp_path: Path) -> None:
    write_video(tmp_path / "m" / "deep" / "real" / "a.mkv")
    (tmp_path / "a link").symlink_to(tmp_path / "m" / "deep" / "real")
    (tmp_path / "z link").symlink_to(tmp_path / "m" / "deep" / "real")
    write_video(tmp_path / "afar" / "b.mkv").parent.rename(tmp_path.with_name(f"{tmp_path.name} afar"))
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tmp_path.with_name(f"{tmp_path.name} afar"))
    assert places(find_inputs([tmp_path])) == ["m/deep/real/a.mkv", "one/b.mkv"]


# Where results go.


def names_of(*places: str) -> list[str]:
    inputs = [BatchInput(Path("/nowhere") / place, PurePosixPath(place), 1) for place in places]
    items = plan_items(inputs, roots={"pose": Path("out")}, suffixes={"pose": ".npz"})
    return [item.targets["pose"].as_posix().removeprefix("out/") for item in items]


def test_the_tree_is_mirrored() -> None:
    assert names_of("a.mp4", "cam 1/walk.v2.mov", "cam 1/noext") == ["a.npz", "cam 1/walk.v2.npz", "cam 1/noext.npz"]


def test_videos_that_differ_by_suffix_only_keep_it() -> None:
    assert names_of("a.mp4", "a.mov", "b/a.mp4") == ["a.mp4.npz", "a.mov.npz", "b/a.npz"]
    assert names_of("a.mp4", "A.mov") == ["a.mp4.npz", "A.mov.npz"]
    assert names_of("a.mp4", "a.mov", "a.mp4.mkv") == ["a.mp4.npz", "a.mov.npz", "a.mp4.mkv.npz"]


@given(st.lists(st.sampled_from(["a", "b", "a.mp4", "a.mov", "a.mp4.mkv", "a.mov.mp4", "b.a", "b.a.mp4"]), unique=True))
def test_no_two_videos_share_a_result(places: list[str]) -> None:
    names = names_of(*places)
    assert len({name.casefold() for name in names}) == len(places)
    assert names_of(*reversed(places)) == names[::-1]


def test_a_folder_of_images_gives_its_whole_name(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / "shot.1" / f"{i}.png")
    (item,) = plan_of(tmp_path, tmp_path / "out")
    assert item.targets["pose"] == tmp_path / "out" / "shot.1.npz"


def test_a_result_never_replaces_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv").rename(tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match="one of the videos"):
        plan_of(tmp_path, tmp_path / "out", render=tmp_path)


def test_workers_are_told_paths_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.safetensors", "map.toml", "net.onnx"):
        write(Path(name))
    told = with_absolute_paths(
        InferSettings(
            detector="rtmpose:weights=net.onnx,boxes_weights=people",
            lifter="mine.safetensors",
            trajectory="default",
            keypoints="points",
            joint_map="map.toml",
        )
    )
    assert told.detector == f"rtmpose:weights={tmp_path}/net.onnx,boxes_weights=people"
    assert (told.lifter, told.trajectory) == (f"{tmp_path}/mine.safetensors", "default")
    assert (told.keypoints, told.joint_map) == (f"{tmp_path}/points", f"{tmp_path}/map.toml")
    assert with_absolute_paths(told) == told
    afar = InferSettings(keypoints="memory://lab/points")
    assert with_absolute_paths(afar) == afar


def test_keypoints_are_those_of_the_same_place(tmp_path: Path) -> None:
    for name in ("cam/a.mkv", "cam/b.mkv", "cam/c.mkv"):
        write_video(tmp_path / "clips" / name)
    write(tmp_path / "points/cam/a.json")
    write(tmp_path / "points/cam/b/0001.json")
    roots, suffixes = {"pose": tmp_path / "out"}, {"pose": ".npz"}
    inputs = find_inputs([tmp_path / "clips"])
    items = plan_items(inputs, roots=roots, suffixes=suffixes, keypoints=tmp_path / "points")
    assert [item.keypoints for item in items] == [
        tmp_path / "points/cam/a.json",
        tmp_path / "points/cam/b",
        None,
    ]
    assert [item.problem is None for item in items] == [True, True, False]
    assert "c.*" in str(items[2].problem)


# Fingerprints, lock.


def test_fingerprint_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "a.mp4", b"12345")
    before = fingerprint(file)
    assert is_unchanged(file, before)
    os.utime(file, ns=(1, 1))
    assert is_unchanged(file, before)  # by its content
    file.write_bytes(b"12346")
    assert not is_unchanged(file, before)
    moved = write(tmp_path / "b.mp4", b"12345")
    assert is_unchanged(moved, before)
    file.unlink()
    assert not is_unchanged(file, before)

    for i in range(2):
        write(tmp_path / "frames" / f"{i}.png", bytes([i]))
    before = fingerprint(tmp_path / "frames")
    os.utime(tmp_path / "frames" / "0.png", ns=(1, 1))
    assert is_unchanged(tmp_path / "frames", before)
    (tmp_path / "frames" / "1.png").rename(tmp_path / "frames" / "2.png")
    assert not is_unchanged(tmp_path / "frames", before)


def test_one_batch_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with lock_folder(tmp_path / "out"):
        with pytest.raises(OutputError, match=f"another vp3d batch .process {os.getpid()} on .* writes here"):
            lock_folder(tmp_path / "out")
        lock_folder(tmp_path / "elsewhere").release()
    lock_folder(tmp_path / "out").release()


def test_workers_and_threads() -> None:
    def choose(videos: int, cores: int, **more: Any) -> tuple[int, int]:
        return choose_jobs(videos, cores=cores, free=more.pop("free", 64 << 30), **more)

    assert choose(400, 2) == (2, 1)
    assert choose(1, 2) == (1, 2)
    assert choose(3, 16) == (3, 5)
    assert choose(400, 16, free=4 << 30) == (4, 4)
    assert choose(400, 16, free=1 << 20) == (1, 16)
    assert choose(400, 16, free=None) == (16, 1)
    assert choose(400, 16, gpus=2) == (2, 8)
    assert choose(400, 16, threads=4) == (4, 4)
    assert choose(400, 4, jobs=8) == (8, 1)
    assert choose(2, 4, jobs=8, threads=3) == (2, 3)
    free = free_bytes()
    assert free is None or free > 0
