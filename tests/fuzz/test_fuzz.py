"""Damaged and hostile files, generated from a seed, through the whole command line: ``pytest -m fuzz``.

Another seed: ``VP3D_FUZZ_SEED=7 pytest -m fuzz``. Two minutes on two cores.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from poses import walking_pose

from tests.clips import CODECS, make_clip, run_ffmpeg
from vp3d_cli.io.poses.npz import write_npz

if sys.platform == "win32":
    pytest.skip("forks and limits memory", allow_module_level=True)

from tests.fuzz.damage import damaged
from tests.fuzz.forked import Ended, run

pytestmark = pytest.mark.fuzz

SEED = os.environ.get("VP3D_FUZZ_SEED", "1")
VIDEOS = ("h264.mp4", "h265.mov", "vp9.webm", "mjpeg.avi", "h264.ts", "animation.gif")
DAMAGED_OF_EACH = 12


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """What the children would each have to load."""
    import vp3d_cli.io.keypoints
    import vp3d_cli.pipeline.infer
    import vp3d_cli.video  # noqa: F401


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are read without complaint."""
    folder = tmp_path_factory.mktemp("whole")
    for name in VIDEOS:
        make_clip(folder / name, *CODECS[name], frames=12)
    write_npz(walking_pose(frames=12), folder / "pose.npz")
    run_ffmpeg("-i", folder / "h264.mp4", "-frames:v", "1", folder / "image.png")
    run_ffmpeg("-i", folder / "h264.mp4", "-frames:v", "1", folder / "image.jpg")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def check(ended: Ended, place: Path, expected: set[str]) -> None:
    """A success, or one printable line; nothing left behind."""
    assert ended.code in (0, 1, 3), ended
    assert "Traceback" not in ended.stdout + ended.stderr, ended
    assert "unexpected" not in ended.stderr, ended
    lines = ended.stderr.splitlines()
    assert all(line.isprintable() and len(line) < 500 for line in lines), ended
    if ended.code:
        assert len([line for line in lines if line.startswith("vp3d: error: ")]) == 1, ended
        assert ended.stdout == "", ended
    else:
        facts = json.loads(ended.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert facts.get("frames_per_second") is None or facts["frames_per_second"] > 0, ended
    assert {entry.name for entry in place.iterdir()} == expected


@pytest.mark.parametrize("number", range(DAMAGED_OF_EACH))
@pytest.mark.parametrize("name", [*VIDEOS, "pose.npz", "image.png", "image.jpg"])
def test_damaged_files(name: str, number: int, whole: Path, place: Path) -> None:
    path = place / name
    path.write_bytes(damaged((whole / name).read_bytes(), f"{SEED}:{name}:{number}"))
    check(run(["info", path, "--json"], place), place, {name})


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", VIDEOS)
def test_frames_that_are_lost_are_told_of(name: str, number: int, whole: Path, place: Path) -> None:
    """A stretch of zeros in the middle: as many frames as before, at least, or a warning, or a refusal."""
    from vp3d_cli.errors import VideoError
    from vp3d_cli.video import VideoReader

    rng = random.Random(f"{SEED}:{name}:{number}")
    data = bytearray((whole / name).read_bytes())
    start = rng.randrange(len(data) // 3, 2 * len(data) // 3)
    end = min(len(data), start + rng.randrange(200, 1500))
    data[start:end] = bytes(end - start)
    path = place / name
    path.write_bytes(data)
    try:
        with VideoReader(path) as video:
            times_s = [frame.time_s for frame in video]
    except VideoError:
        return
    assert (np.diff(times_s) > 0).all()
    assert len(times_s) >= 12 or video.warnings, (times_s, video.info)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{other}\n#EXT-X-ENDLIST\n",
    "live": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n",
    "own": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{own}\n",
    "concat": "ffconcat version 1.0\nfile '{other}'\n",
    "key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{other}"\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "script": "AVISource({other})\n",
    "subtitles": "[Script Info]\nTitle: {other}\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ts", "txt"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists(kind: str, suffix: str, whole: Path, place: Path) -> None:
    path = place / f"list.{suffix}"
    path.write_text(PLAYLISTS[kind].format(other=whole / "h264.mp4", own=path.name))
    ended = run(["info", path, "--json"], place)
    assert ended.code == 1
    check(ended, place, {path.name})


def bomb_png(side: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side + 1) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def shared_tuples(depth: int) -> bytes:
    steps = b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02})q\0" + steps + b"Ns."


def shared_lists(depth: int) -> bytes:
    steps = b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(depth))
    return b"\x80\x02]q\0" + steps + b"."


def pickled(pickle: bytes, key: str = "positions_2d") -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import io
        import zipfile

        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{key}.npy", header.getvalue() + pickle)

    return write


BOMBS: dict[str, Callable[[Path], object]] = {
    "25000.png": lambda path: path.write_bytes(bomb_png(25_000)),
    "100000.png": lambda path: path.write_bytes(bomb_png(100_000)),
    "tuples.npz": pickled(shared_tuples(58)),
    "lists.npz": pickled(shared_lists(60)),
    "deep.npz": pickled(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."),
    "bytes.npz": pickled(b"\x80\x04\x8e" + struct.pack("<Q", 8 << 30) + b"x."),
    "array.npz": pickled(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"x."),
    "eval.npz": pickled(b"cbuiltins\neval\n(V1/0\ntR."),
    "system.npz": pickled(b"cposix\nsystem\n(Vtouch run\ntR."),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, place: Path) -> None:
    BOMBS[name](place / name)
    ended = run(["info", place / name, "--json"], place)
    assert ended.code == 1
    check(ended, place, {name})


TEXTS = (
    "[" * 50_000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '{"a": ' + "9" * 50_000 + "}",
    '{"a": "\x1b[2J\x07"}',
    "{",
    "5",
)


@pytest.mark.parametrize(
    ("key", "number"), list(itertools.product(["provenance", "schema", "fps", "frame_times_s"], range(6)))
)
def test_odd_values_in_a_pose_file(key: str, number: int, whole: Path, place: Path) -> None:
    rng = random.Random(f"{SEED}:{key}:{number}")
    with np.load(whole / "pose.npz", allow_pickle=False) as file:
        arrays = dict(file)
    numbers = (np.array(np.nan), np.array(-1.0), np.zeros(0), np.array(["x"] * 3), np.arange(5)[::-1], np.array(1e300))
    arrays[key] = np.array(TEXTS[number]) if key in ("provenance", "schema") else numbers[number]
    if rng.random() < 0.5:
        arrays.pop("person_ids")
    np.savez(place / "odd.npz", **arrays)
    ended = run(["info", place / "odd.npz"], place)
    assert ended.code in (0, 1), ended
    assert not re.search("[\x00-\x08\x0b-\x1f]", ended.stdout + ended.stderr)
    assert "Traceback" not in ended.stderr
    assert "unexpected" not in ended.stderr
    assert len(ended.stderr.splitlines()) == ended.code
