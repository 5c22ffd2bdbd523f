"""Writing videos: what is written is read back: pictures, times, sound; and nothing is left behind by errors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clips import SIZE_WH, corner_colours, corners, make_clip, run_ffmpeg, true_sound
from vp3d_cli.errors import ConfigError, OutputError, ShapeError, VideoError
from vp3d_cli.types import FrameBGR
from vp3d_cli.video import VideoReader, VideoWriter, find_ffmpeg, probe_video
from vp3d_cli.video.encoder import frame_header, stream_header

# A beep from here to here in the sound of ``beeping``.
BEEP_S = (1.0, 1.2)


def pictures(count: int, size_wh: tuple[int, int] = SIZE_WH) -> Iterator[FrameBGR]:
    """Grey with coloured corners and a bar that moves."""
    for index in range(count):
        image = corners(size_wh)
        image[45:75, 2 * index : 2 * index + 20] = (40, 160, 220)
        yield image


def save(path: Path, times_s: list[float], size_wh: tuple[int, int] = SIZE_WH, **keywords: object) -> Path:
    with VideoWriter(path, size_wh, frame_times_s=times_s, **keywords) as out:  # type: ignore[arg-type]
        for image in pictures(len(times_s), size_wh):
            out.write(image)
    return path


def load(path: Path) -> tuple[list[float], list[FrameBGR]]:
    with VideoReader(path) as video:
        frames = list(video)
    assert video.warnings == []
    return [frame.time_s for frame in frames], [frame.image for frame in frames]


def streams(path: Path) -> str:
    ran = subprocess.run([find_ffmpeg(), "-hide_banner", "-i", path], capture_output=True, text=True, check=False)
    return ran.stderr


@pytest.fixture(scope="module")
def beeping(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A silent clip of 3 s with a beep, its sound in several codecs."""
    folder = tmp_path_factory.mktemp("beeping")
    clip = make_clip(folder / "silent.mp4", frames=75)
    silence = f"volume=0:enable='not(between(t,{BEEP_S[0]},{BEEP_S[1]}))'"
    beep = f"sine=frequency=1000:sample_rate=48000:duration=3,{silence}"
    codecs = {"aac.mp4": "aac", "mp3.mkv": "libmp3lame", "opus.mkv": "libopus", "pcm.mov": "pcm_s16le"}
    for name, codec in codecs.items():
        run_ffmpeg("-i", clip, "-f", "lavfi", "-i", beep, "-c:v", "copy", "-c:a", codec, folder / name)
    return {name: folder / name for name in codecs}


@pytest.mark.parametrize("fps", [24000 / 1001, 25.0, 30000 / 1001, 59.94, 12.5])
def test_constant_rate_round_trip(fps: float, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, SIZE_WH, fps=fps) as out:
        for image in pictures(15):
            out.write(image)
    times_s, images = load(path)
    np.testing.assert_allclose(times_s, np.arange(15) / fps, atol=2e-5)
    assert probe_video(path).fps == pytest.approx(fps, rel=1e-4)
    for image, original in zip(images, pictures(15), strict=True):
        assert np.abs(image.astype(int) - original).mean() < 6
        assert corner_colours(image) == "rgbw"


def test_colours_of_hd_are_true(tmp_path: Path) -> None:
    """BT.709 written and tagged: conversion by BT.601 would be 20 levels off in red and green."""
    _, images = load(save(tmp_path / "out.mp4", [0.0, 0.1]))
    for (row, column), colour in (((10, 10), (0, 0, 255)), ((10, -10), (0, 255, 0)), ((60, 150), (90, 90, 90))):
        assert np.abs(images[0][row, column].astype(int) - colour).max() <= 8
    assert "yuv420p(tv, bt709" in streams(tmp_path / "out.mp4")


@settings(max_examples=6)
@given(st.lists(st.floats(1e-3, 3.0), min_size=1, max_size=12), st.floats(0, 5000))
def test_any_timing_is_kept(tmp_path_factory: pytest.TempPathFactory, gaps_s: list[float], start_s: float) -> None:
    times_s = np.concatenate([[start_s], start_s + np.cumsum(gaps_s)])
    path = save(tmp_path_factory.mktemp("timing") / "out.mp4", times_s.tolist())
    np.testing.assert_allclose(load(path)[0], times_s - start_s, atol=1e-5)


def test_timing_of_a_gif_is_kept_to_its_hundredths(tmp_path: Path) -> None:
    times_s = [0.0, 0.04, 0.1, 0.5, 0.54, 1.5]
    path = save(tmp_path / "out.gif", times_s, (161, 123))
    seen_s, images = load(path)
    assert seen_s == pytest.approx(times_s, abs=1e-6)
    assert path.read_bytes()[:6] == b"GIF89a"
    for image, original in zip(images, pictures(6, (161, 123)), strict=True):
        assert image.shape == original.shape
        assert np.abs(image.astype(int) - original).mean() < 5


def test_a_gif_has_no_frames_that_browsers_slow_down(tmp_path: Path) -> None:
    times_s, _ = load(save(tmp_path / "out.gif", [k / 100 for k in range(40)]))
    assert times_s[-1] == pytest.approx(0.39, abs=0.021)
    assert np.diff(times_s).min() >= 0.02 - 1e-9


@pytest.mark.parametrize("size_wh", [(161, 120), (160, 121), (161, 121)])
def test_odd_sizes_grow_by_a_pixel_of_the_edge(size_wh: tuple[int, int], tmp_path: Path) -> None:
    _, images = load(save(tmp_path / "out.mp4", [0.0, 0.1, 0.2], size_wh))
    width, height = size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2
    assert images[0].shape == (height, width, 3)
    assert corner_colours(images[0]) == "rgbw"
    assert (images[0][-1, -1] > (200, 0, 0)).any()  # blue, not black
    assert "yuv420p" in streams(tmp_path / "out.mp4")


@pytest.mark.parametrize("name", ["one.mp4", "one.gif"])
def test_one_frame(name: str, tmp_path: Path) -> None:
    times_s, images = load(save(tmp_path / name, [7.0]))
    assert times_s == [0.0]
    assert corner_colours(images[0]) == "rgbw"


def test_names_with_anything_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "Ünï 视频 100%d [a:b]"
    folder.mkdir()
    for name in ("-out: 5%.mp4", "-out: %03d.gif"):
        assert len(load(save(folder / name, [0.0, 0.1]))[0]) == 2
    assert len(list(folder.iterdir())) == 2


def test_plays_before_it_is_whole(beeping: dict[str, Path], tmp_path: Path) -> None:
    plain, sounding = save(tmp_path / "a.mp4", [0.0, 0.1]), tmp_path / "b.mp4"
    save(sounding, [0.0, 0.1], audio_from=beeping["aac.mp4"])
    for path in (plain, sounding):
        content = path.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


def onset_s(path: Path) -> tuple[float, float]:
    """When the beep begins, and how long the sound is."""
    sound = true_sound(path)
    return float(np.argmax(np.abs(sound) > 0.02)) / 8000, len(sound) / 8000


@pytest.mark.parametrize("name", ["aac.mp4", "mp3.mkv", "opus.mkv", "pcm.mov"])
@pytest.mark.parametrize("start_s", [0.0, 0.44])
def test_sound_is_cut_to_the_picture(name: str, start_s: float, beeping: dict[str, Path], tmp_path: Path) -> None:
    times_s = [start_s + k / 25 for k in range(40)]
    path = save(tmp_path / "out.mp4", times_s, audio_from=beeping[name])
    begins_s, lasts_s = onset_s(path)
    assert begins_s == pytest.approx(BEEP_S[0] - start_s, abs=0.03)
    assert lasts_s == pytest.approx(40 / 25, abs=0.06)
    kept = start_s == 0 and name in ("aac.mp4", "mp3.mkv")
    assert re.search(rf"Audio: {'mp3' if kept and 'mp3' in name else 'aac'}", streams(path))
    assert load(path)[0] == pytest.approx([k / 25 for k in range(40)], abs=2e-5)


def test_sound_with_an_offset(beeping: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, SIZE_WH, fps=25, audio_from=beeping["aac.mp4"], audio_offset_s=0.8) as out:
        for image in pictures(25):
            out.write(image)
    begins_s, lasts_s = onset_s(path)
    assert begins_s == pytest.approx(0.2, abs=0.03)
    assert lasts_s == pytest.approx(1.0, abs=0.06)


def test_a_picture_that_starts_later_than_its_sound_stays_in_step(beeping: dict[str, Path], tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"
    run_ffmpeg("-i", beeping["aac.mp4"], "-itsoffset", "0.6", "-i", beeping["aac.mp4"], "-map", "0:a", "-map", "1:v",
               "-c", "copy", late)  # fmt: skip
    times_s, _ = load(late)
    begins_s, _ = onset_s(save(tmp_path / "out.mp4", times_s, audio_from=late))
    assert begins_s == pytest.approx(BEEP_S[0] - 0.6, abs=0.03)


def test_a_source_without_sound_gives_none(tmp_path: Path) -> None:
    silent = make_clip(tmp_path / "silent.mp4", frames=3)
    path = save(tmp_path / "out.mp4", [0.0, 0.1], audio_from=silent)
    assert not probe_video(path).has_audio
    with pytest.raises(VideoError, match="no such video"):
        save(tmp_path / "other.mp4", [0.0], audio_from=tmp_path / "missing.mp4")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.mp4", "silent.mp4"]


def test_existing_files_are_kept_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        VideoWriter(path, SIZE_WH, fps=25)
    assert path.read_bytes() == b"precious"
    save(path, [0.0, 0.1], overwrite=True)
    assert len(load(path)[0]) == 2


@pytest.mark.parametrize("name", ["no folder/out.mp4", "out.avi", "out", "folder.mp4"])
def test_targets_that_cannot_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match=re.escape(name)) as refused:
        VideoWriter(tmp_path / name, SIZE_WH, fps=25, overwrite=True)
    assert "\n" not in str(refused.value)


def test_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(OutputError, match="Permission denied"):
        save(tmp_path / "out.mp4", [0.0])


@pytest.mark.parametrize("name", ["out.mp4", "out.gif"])
def test_an_error_between_frames_leaves_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with (  # noqa: PT012
        pytest.raises(ValueError, match="drawing"),
        VideoWriter(tmp_path / name, SIZE_WH, fps=25, overwrite=True) as out,
    ):
        for image in pictures(5):
            out.write(image)
        raise ValueError("drawing failed")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


def test_no_frames_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no frame"), VideoWriter(tmp_path / "out.mp4", SIZE_WH, fps=25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    width, height = SIZE_WH
    with VideoWriter(tmp_path / "out.mp4", SIZE_WH, frame_times_s=[0.0, 0.1]) as out:
        for wrong in (np.zeros((width, height, 3), np.uint8), np.zeros((height, width), np.uint8)):
            with pytest.raises(ShapeError, match=rf"\({height}, {width}, 3\)"):
                out.write(wrong)
        with pytest.raises(ShapeError, match="float32"):
            out.write(np.zeros((height, width, 3), np.float32))
        out.write(corners()[:, ::-1])  # not contiguous
        out.write(corners())
        with pytest.raises(ConfigError, match="more frames than the 2 times"):
            out.write(corners())
    assert corner_colours(load(tmp_path / "out.mp4")[1][0]) == "grwb"


@pytest.mark.parametrize(
    "timing",
    [
        {},
        {"fps": 25.0, "frame_times_s": [0.0]},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"frame_times_s": []},
        {"frame_times_s": [0.0, float("nan")]},
        {"frame_times_s": [0.0, 0.1, 0.1]},
        {"frame_times_s": [0.1, 0.0]},
        {"frame_times_s": [[0.0, 0.1]]},
    ],
)
def test_timing_that_is_none(timing: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        VideoWriter(tmp_path / "out.mp4", SIZE_WH, **timing)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pixel"):
        VideoWriter(tmp_path / "out.mp4", (0, 10), fps=25)


def test_a_writer_writes_once_and_within_with(tmp_path: Path) -> None:
    out = VideoWriter(tmp_path / "out.mp4", SIZE_WH, fps=25)
    with pytest.raises(RuntimeError, match="with statement"):
        out.write(corners())
    with out:
        out.write(corners())
    with pytest.raises(RuntimeError, match="once"), out:
        pass


def false_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have vp3d use a program that fails in place of ffmpeg."""
    if os.name == "nt":
        pytest.skip("a shell script is no program here")
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\ncase "$*" in *-version*) exec "{find_ffmpeg()}" "$@";; esac\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("VP3D_FFMPEG", str(program))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("head -c 100000 >/dev/null; echo 'write_frame(): No space left on device' >&2; exit 228", "no space left"),
        ("cat >/dev/null; echo 'Error writing trailer: No space left on device' >&2; exit 0", "no space left"),
        ("echo \"[x @ 0x55] Unknown encoder 'libx264'\" >&2; exit 1", "Unknown encoder 'libx264'"),
        ("head -c 100000 >/dev/null; kill -9 $$", "signal 9"),
        ("cat >/dev/null; exit 3", "no reason, status 3"),
    ],
)  # fmt: skip
def test_when_ffmpeg_dies(script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false_ffmpeg(tmp_path / "bin", monkeypatch, script)
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError, match=words) as failed:
        save(folder / "out.mp4", [k / 25 for k in range(30)])
    assert str(folder / "out.mp4") in str(failed.value)
    assert "\n" not in str(failed.value)
    assert list(folder.iterdir()) == []


def test_disk_full(tmp_path: Path) -> None:
    """A real one, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
        with (  # noqa: PT012
            pytest.raises(OutputError, match="no space left"),
            VideoWriter(disk / "out.mp4", SIZE_WH, fps=25) as out,
        ):
            for shift in range(100):
                out.write(np.roll(noise, 7 * shift, axis=1))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Decoding and encoding at once in a process of its own, which a terminal interrupts."""
    source = make_clip(tmp_path / "source.avi", "-c:v", "mjpeg", frames=50)
    code = f"""
import sys
from vp3d_cli.video import VideoReader, VideoWriter
with VideoReader({str(source)!r}) as video, VideoWriter({str(tmp_path / "out.mp4")!r}, (160, 120), fps=25) as out:
    image = next(video).image
    print("ready", flush=True)
    while True:
        out.write(image)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source.avi"]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(tmp_path).encode() not in entry.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_killed_writer_leaves_no_process_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from vp3d_cli.video import VideoWriter\n"
        f"with VideoWriter({str(tmp_path / 'out.mp4')!r}, (160, 120), fps=25) as out:\n"
        "    for number in range(10**6):\n"
        "        out.write(np.zeros((120, 160, 3), np.uint8))\n"
        "        if number == 3: print('writing', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    deadline = time.monotonic() + 30
    while processes_naming(str(left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_naming(str(left)) == []
    save(tmp_path / "next.mp4", [0.0])
    assert [entry.name for entry in tmp_path.iterdir()] == ["next.mp4"]


def processes_naming(text: str) -> list[str]:
    """Command lines of processes that have a text in them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in found if text in line]


def test_matroska_elements_say_their_size() -> None:
    header = stream_header((640, 360), 1 / 30)
    assert header[:4].hex() == "1a45dfa3"
    assert header[4] == 1  # eight bytes of size
    segment = 12 + int.from_bytes(header[5:12], "big")
    assert header[segment : segment + 4].hex() == "18538067"
    assert header[segment + 4 : segment + 12] == b"\x01" + b"\xff" * 7  # unknown: it goes on to the end
    assert (33_333_333).to_bytes(8, "big") in header
    frame = frame_header(1.5, 100)
    assert int.from_bytes(frame[5:12], "big") == len(frame) - 12 + 100
    assert (1_500_000).to_bytes(8, "big") in frame
