"""Frames that cannot be decoded are missing at their true times, and a warning says how many and where."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.clips import CODECS, FPS, make_clip, run_ffmpeg
from vp3d_cli.video import VideoReader, probe_video
from vp3d_cli.video.packets import AviClock, is_whole_gif, parse_packets
from vp3d_cli.video.probe import read_frame_times


def read(path: Path, start_s: float = 0.0) -> tuple[list[float], list[np.ndarray], list[str]]:  # type: ignore[type-arg]
    with VideoReader(path, start_s) as video:
        frames = list(video)
    return [frame.time_s for frame in frames], [frame.image for frame in frames], video.warnings


def avi_chunks(data: bytes) -> list[tuple[int, int]]:
    """Offset and size of each chunk of the video stream; an empty one repeats the frame before it."""
    start, end = data.index(b"movi") + 4, data.index(b"idx1")
    found, at = [], start
    while at < end:
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"00dc" and size:
            found.append((at, size))
        at += 8 + size + size % 2
    return found


def with_holes(whole: Path, name: str, *holes: range) -> Path:
    """A copy of an AVI file in which the chunks of some frames, headers included, are zeros."""
    data = bytearray(whole.read_bytes())
    chunks = avi_chunks(bytes(data))
    for hole in holes:
        first, (last, size) = chunks[hole[0]][0], chunks[hole[-1]]
        data[first : last + 8 + size] = bytes(last + 8 + size - first)
    path = whole.with_name(name)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avi")
    return make_clip(folder / "whole.avi", *CODECS["mjpeg.avi"], frames=50, sound_s=2)


def test_a_hole_in_an_avi_file_keeps_its_length(whole: Path) -> None:
    before_s, originals, _ = read(whole)
    assert len(before_s) == 50
    hole = range(12, 31)
    times_s, images, warnings = read(with_holes(whole, "hole.avi", hole))
    expected = [k for k in range(50) if k not in hole]
    assert times_s == pytest.approx([before_s[k] for k in expected])
    for number, image in zip(expected, images, strict=True):
        np.testing.assert_array_equal(image, originals[number])
    (warning,) = warnings
    assert "19 of 50 frames" in warning
    assert f"between {before_s[11]:.2f} and {before_s[31]:.2f} s" in warning


def test_several_holes(whole: Path) -> None:
    path = with_holes(whole, "holes.avi", range(5, 7), range(20, 24), range(40, 41))
    before_s = read(whole)[0]
    expected = [before_s[k] for k in range(50) if k not in (5, 6, 20, 21, 22, 23, 40)]
    times_s, _, (warning,) = read(path)
    assert times_s == pytest.approx(expected)
    assert "7 of 50 frames" in warning
    assert warning.count("between") == 3
    assert read_frame_times(path) == pytest.approx(before_s)
    # A seek does not land somewhere else.
    assert read(path, 1.0)[0] == pytest.approx([time_s for time_s in expected if time_s >= 1.0 - 1e-6])


def test_whole_avi_files_need_no_correction(whole: Path, tmp_path: Path) -> None:
    assert not AviClock.of(whole).has_holes
    b_frames = make_clip(tmp_path / "b.avi", *CODECS["mpeg4_b_frames.avi"])
    assert not AviClock.of(b_frames).has_holes
    assert read_frame_times(b_frames) == pytest.approx(read(b_frames)[0])
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # without its index
    assert not AviClock.of(cut).has_holes
    (warning,) = read(cut)[2]
    assert "cut off or damaged" in warning


def test_frames_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "whole.mkv", "-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p", frames=50)
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    assert len(starts) == 50
    for number in (10, 11, 12, 30):
        data[starts[number] : starts[number] + 1500] = bytes(1500)  # the picture, not the container around it
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(data)
    times_s, _, (warning,) = read(damaged)
    expected = [k / FPS for k in range(50) if k not in (10, 11, 12, 30)]
    assert times_s == pytest.approx(expected, abs=1e-3)
    assert "4 of 50 frames" in warning
    assert "between 0.36 and 0.52 s" in warning
    assert "between 1.16 and 1.24 s" in warning


def test_a_gif_that_ends_in_the_middle(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "whole.gif", frames=30)
    assert is_whole_gif(path)
    assert read(path)[2] == []
    data = path.read_bytes()
    damaged = tmp_path / "damaged.gif"
    for changed in (data[: len(data) // 2], data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 + 3000 :]):
        damaged.write_bytes(changed)
        assert not is_whole_gif(damaged)
        times_s, _, (warning,) = read(damaged)
        assert 5 < len(times_s) < 29
        assert "cut off or damaged" in warning
    for length in range(0, 800, 9):
        damaged.write_bytes(data[:length])
        assert not is_whole_gif(damaged)


def test_a_broadcast_that_lost_packets(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "whole.ts", *CODECS["h264.ts"], "-g", "5", frames=60)
    assert read(path)[2] == []
    data = path.read_bytes()
    size = 188  # of a packet of a transport stream
    start, end = (len(data) // size * part // 10 * size for part in (4, 6))
    path.write_bytes(data[:start] + data[end:])
    times_s, _, warnings = read(path)
    assert len(times_s) < 55
    (warning,) = [warning for warning in warnings if "missing in the result" in warning]
    widest = int(np.argmax(np.diff(times_s)))
    assert f"between {times_s[widest]:.2f} and {times_s[widest + 1]:.2f} s" in warning


def test_a_varying_rate_is_no_damage(tmp_path: Path) -> None:
    sparse = "settb=1/1000,setpts='if(lt(N,10),N/25,0.4+(N-10)/2)/TB'"
    path = make_clip(tmp_path / "sparse.mkv", *CODECS["h264.mp4"], "-enc_time_base", "1:1000", filters=sparse)
    assert read(path)[2] == []


def test_one_answer_to_which_frames_a_video_has(tmp_path: Path) -> None:
    """Cut between key frames without encoding: an edit list hides the frames before, and some behind."""
    long = make_clip(tmp_path / "long.mp4", *CODECS["h264.mp4"], "-g", "60", "-bf", "2", frames=400, fps=60)
    path = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", "0.7", "-i", long, "-t", "5", "-c", "copy", path)
    times_s, _, warnings = read(path)
    assert warnings == []
    assert read_frame_times(path) == pytest.approx(times_s, abs=1e-6)
    assert probe_video(path).frame_count == len(times_s)
    assert times_s[0] == pytest.approx(0.0, abs=1 / 60)


def test_packets_that_are_hidden_or_without_time() -> None:
    listing = (
        b"#tb 0: 1/25\n0, -2, -2, 1, 30, 0x0, F=0x5\n0, 0, 1, 1, 20, 0x0\n0, 1, NOPTS, 1, 10, 0x0, F=0x0, S=1, 8\n"
        b"1, 0, 0, 1, 99, 0x0\nnonsense\n0, 5\n"
    )
    packets = parse_packets(listing)
    assert list(packets.ticks) == [1, 1]
    assert list(packets.sizes) == [20, 10]
    assert (packets.count, packets.unit_s) == (3, 1 / 25)
