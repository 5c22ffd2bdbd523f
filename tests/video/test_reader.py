"""Reading videos: every codec, true times, upright, seeking, threads, memory. Bad input is in test_video_bad_input."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from itertools import pairwise
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from tests.clips import (
    CODECS,
    FPS,
    FRAMES,
    SIZE_WH,
    VARIABLE_RATE,
    corner_colours,
    corners,
    make_clip,
    make_codec_clip,
    run_ffmpeg,
    true_frames,
    true_times_s,
)
from vp3d_cli.errors import ConfigError, MissingDependencyError, VideoError
from vp3d_cli.types import Frame, VideoInfo
from vp3d_cli.video import VideoReader, find_ffmpeg, probe_video
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.probe import examine
from vp3d_cli.video.reader import frames_ahead


def read(path: Path, start_s: float = 0.0, end_s: float | None = None) -> list[Frame]:
    with VideoReader(path, start_s, end_s) as video:
        frames = list(video)
    assert video.warnings == []
    return frames


def times_of(frames: list[Frame]) -> list[float]:
    return [frame.time_s for frame in frames]


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vp3d-")]


def processes_naming(text: str) -> list[str]:
    """Command lines of processes that name ``text``, but our own."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc to look into")
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and entry.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_all_frames_with_their_times_and_colours(name: str, folder: Path) -> None:
    path = make_codec_clip(folder, name)
    frames = read(path)
    info = probe_video(path)
    assert (info.size_wh, info.fps, info.frame_count, info.rotation_deg) == (SIZE_WH, FPS, FRAMES, 0)
    assert not info.has_audio
    assert info.codec in name or info.codec == "hevc" or name == "animation.gif"
    assert info.duration_s == pytest.approx(FRAMES / FPS, abs=0.1)
    assert [frame.index for frame in frames] == list(range(FRAMES))
    np.testing.assert_allclose(times_of(frames), true_times_s(path), atol=1e-6)
    expected = true_frames(path, SIZE_WH)
    for frame, image in zip(frames, expected, strict=True):
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == image.shape
        # Two versions of ffmpeg's scaler round and interpolate colours differently, at edges above all.
        assert np.abs(frame.image.astype(int) - image).mean() < 4


@pytest.mark.parametrize("name", CODECS)
def test_a_cut_has_the_frames_of_its_span_and_no_others(name: str, folder: Path) -> None:
    path = make_codec_clip(folder, name)
    whole = read(path)
    for start_s, end_s in ((0.1, 0.3), (0.63, None)):
        wanted = [frame for frame in whole if start_s - 1e-6 <= frame.time_s < (end_s or 10) - 1e-6]
        got = read(path, start_s, end_s)
        assert times_of(got) == pytest.approx(times_of(wanted), abs=1e-9)
        assert [frame.index for frame in got] == list(range(len(wanted)))
        for frame, same in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(frame.image, same.image)


def test_cuts_that_follow_each_other_share_no_frame(folder: Path) -> None:
    path = make_clip(folder / "cuts.mp4", fps="30000/1001", frames=30)
    whole = times_of(read(path))
    borders = [0.0, whole[7], 0.5, whole[20] + 1e-3, 10.0]
    parts = [times_of(read(path, start, end)) for start, end in pairwise(borders)]
    assert [time for part in parts for time in part] == pytest.approx(whole, abs=1e-9)
    assert [len(part) for part in parts[:2]] == [7, 8]


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv", "variable.webm", "variable.gif", "variable_av1.mkv"])
def test_variable_frame_rate_keeps_true_times(name: str, folder: Path) -> None:
    codec = {"variable.gif": (), "variable.webm": CODECS["vp9.webm"], "variable_av1.mkv": CODECS["av1.mp4"]}
    fine = ("-enc_time_base", "1:100" if name.endswith("gif") else "1:1000")
    path = make_clip(folder / name, *codec.get(name, CODECS["h264.mp4"]), *fine, filters=VARIABLE_RATE)
    expected = [k / 25 for k in range(10)] + [0.4 + k / 10 for k in range(10)]
    times_s = times_of(read(path))
    assert times_s == pytest.approx(expected, abs=1.5e-3)  # the container rounds
    assert times_s == pytest.approx(true_times_s(path), abs=1e-6)
    assert probe_video(path).fps == pytest.approx(19 / 1.3, rel=1e-3)
    # Frame numbers mean nothing here, so neither may seeking rely on them.
    assert times_of(read(path, 0.85)) == pytest.approx(times_s[15:], abs=1e-9)


def test_seek_in_long_groups_of_pictures_with_sparse_frames(folder: Path) -> None:
    sparse = "settb=1/1000,setpts='if(lt(N,40),N/25,1.6+(N-40)*2)/TB'"
    options = (*CODECS["h264.mp4"], "-enc_time_base", "1:1000", "-g", "50")
    path = make_clip(folder / "sparse.mkv", *options, filters=sparse, frames=60)
    whole = read(path)
    for start_s in (1.59, 1.7, 25.61, whole[-1].time_s):
        got = read(path, start_s)
        wanted = [frame for frame in whole if frame.time_s >= start_s - 1e-6]
        assert times_of(got) == pytest.approx(times_of(wanted), abs=1e-9)
        np.testing.assert_array_equal(got[0].image, wanted[0].image)


def test_rates_are_never_rounded(folder: Path) -> None:
    for rate in ((30000, 1001), (24000, 1001), (60, 1)):
        for kind in ("mp4", "mkv"):
            path = make_clip(folder / f"rate_{rate[0]}.{kind}", fps=f"{rate[0]}/{rate[1]}")
            assert probe_video(path).fps == rate[0] / rate[1]


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("name", ["h264.mp4", "av1.mp4"])
def test_rotation_metadata_comes_out_upright(name: str, angle: int, folder: Path) -> None:
    """By OpenCV and by ffmpeg: a phone held on its side or upside down."""
    still, plain, turned = folder / "corners.png", folder / f"plain_{name}", folder / f"turned_{angle}_{name}"
    cv2.imwrite(str(still), corners())
    run_ffmpeg("-loop", "1", "-i", still, "-frames:v", "3", *CODECS[name], plain)
    # ffmpeg counts this angle counter-clockwise, VideoInfo clockwise.
    run_ffmpeg("-display_rotation:v", str(angle), "-i", plain, "-c", "copy", turned)
    info, frames = probe_video(turned), read(turned)
    size_wh = SIZE_WH if angle == 180 else SIZE_WH[::-1]
    assert info.rotation_deg == 360 - angle
    assert info.size_wh == size_wh == frames[0].image.shape[1::-1]
    # Corners are named clockwise, so each clockwise turn by 90 degrees moves the last to the front.
    turns = info.rotation_deg // 90
    assert corner_colours(frames[0].image) == ("rgbw" * 2)[4 - turns : 8 - turns]
    assert corner_colours(true_frames(turned, size_wh)[0]) == corner_colours(frames[0].image)


@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "av1.mp4", "mjpeg.avi", "animation.gif"])
def test_odd_sizes(name: str, folder: Path) -> None:
    options = ("-c:v", "libx264", "-pix_fmt", "yuv444p") if name == "h264.mp4" else CODECS[name]
    path = make_clip(folder / f"odd_{name}", *options, size_wh=(161, 123), frames=4)
    frames = read(path)
    assert probe_video(path).size_wh == (161, 123)
    assert [frame.image.shape for frame in frames] == [(123, 161, 3)] * 4


def test_names_with_anything_in_them(folder: Path) -> None:
    strange = folder / "Ünï çødé 视频 %d [a:b]"
    strange.mkdir()
    for name, codec in (("-my clip: 100%03d 'ü'.mp4", "h264.mp4"), ("av1 视频.mp4", "av1.mp4")):
        path = make_clip(folder / "simple.mp4", *CODECS[codec], frames=3).rename(strange / name)
        assert len(read(path)) == 3


def test_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(folder / "relative.mp4", frames=3)
    monkeypatch.chdir(folder)
    assert len(read(Path("relative.mp4"))) == 3


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4_b_frames.avi", "av1.mp4", "animation.gif"])
def test_one_frame(name: str, folder: Path) -> None:
    path = make_clip(folder / f"single_{name}", *CODECS[name], frames=1)
    frames = read(path)
    assert len(frames) == 1
    assert frames[0].time_s == pytest.approx(0, abs=0.05)
    assert probe_video(path).fps > 0


def test_sound_does_not_matter(folder: Path) -> None:
    path = make_clip(folder / "sound.mp4", sound_s=0.8)
    longer = make_clip(folder / "longer_sound.mkv", sound_s=3.0)
    for video in (path, longer):
        assert len(read(video)) == FRAMES  # and no warning of a cut-off file
        assert probe_video(video).has_audio
    assert examine(path).audio_codec == "aac"


def test_time_counts_from_the_start_of_the_file_also_where_the_picture_starts_later(folder: Path) -> None:
    early, late = make_clip(folder / "picture.mp4"), folder / "late.mp4"
    run_ffmpeg("-f", "lavfi", "-t", "2", "-i", "sine", "-itsoffset", "0.5", "-i", early, "-map", "0", "-map", "1",
               "-c:v", "copy", "-c:a", "aac", late)  # fmt: skip
    assert times_of(read(late)) == pytest.approx([0.5 + k / FPS for k in range(FRAMES)], abs=0.03)
    assert times_of(read(late)) == pytest.approx(true_times_s(late), abs=1e-6)
    assert times_of(read(late, 0.9, 1.0)) == pytest.approx([t for t in true_times_s(late) if 0.9 <= t < 1.0])


def test_trimmed_without_encoding(folder: Path) -> None:
    """An edit list hides the frames before the cut: they are needed to decode, but not shown."""
    whole, trimmed = make_clip(folder / "untrimmed.mp4", frames=50), folder / "trimmed.mp4"
    run_ffmpeg("-ss", "0.61", "-i", whole, "-c", "copy", trimmed)
    frames = read(trimmed)
    assert times_of(frames) == pytest.approx(true_times_s(trimmed), abs=1e-6)
    assert probe_video(trimmed).frame_count == len(frames) < 50


def test_pixels_that_are_not_square_are_stretched(folder: Path) -> None:
    for name in ("h264.mp4", "mjpeg.avi"):
        path = make_clip(folder / f"hdv_{name}", *CODECS[name], filters="setsar=4/3", frames=3)
        assert probe_video(path).size_wh == (213, 120)
        assert read(path)[0].image.shape == (120, 213, 3)


def test_cover_art_is_not_the_video(folder: Path) -> None:
    still, clip, covered = folder / "cover.png", make_clip(folder / "uncovered.mp4", frames=5), folder / "covered.mp4"
    cv2.imwrite(str(still), corners((64, 64)))
    run_ffmpeg("-i", still, "-i", clip, "-map", "0", "-map", "1", "-c:v:0", "png", "-c:v:1", "copy",
               "-disposition:v:0", "attached_pic", covered)  # fmt: skip
    assert probe_video(covered).size_wh == SIZE_WH
    assert len(read(covered)) == 5


def write_images(folder: Path, names: list[str], size_wh: tuple[int, int] = (48, 36)) -> Path:
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names):
        image = np.full((size_wh[1], size_wh[0], 3), 20 * level, np.uint8)
        encoded = cv2.imencode(Path(name).suffix, image)[1]
        (folder / name).write_bytes(encoded.tobytes())
    return folder


def test_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    names = ["img1.png", "img2.png", "img10.jpg", "img010b.bmp", "IMG11.webp", "img100.tif"]
    path = write_images(tmp_path / "bilder 図", names)
    (path / "notes.txt").write_text("not an image")
    (path / "._img2.png").write_bytes(b"what macOS leaves behind")
    frames = read(path)
    assert [round(float(frame.image.mean()) / 20) for frame in frames] == list(range(6))
    assert times_of(frames) == pytest.approx([k / 30 for k in range(6)])
    info = probe_video(path, image_fps=12.5)
    assert (info.size_wh, info.fps, info.frame_count, info.codec) == ((48, 36), 12.5, 6, "images")
    with VideoReader(path, 0.16, 0.41, image_fps=12.5) as video:
        assert times_of(list(video)) == pytest.approx([0.16, 0.24, 0.32, 0.4])


def test_single_image(tmp_path: Path) -> None:
    assert len(read(write_images(tmp_path, ["only.png"]) / "only.png")) == 1


def test_images_are_turned_upright_by_exif(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    jpeg = cv2.imencode(".jpg", corners())[1].tobytes()
    # APP1 with a single TIFF entry: orientation (0x0112) 6, "turn clockwise by 90 degrees to show".
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    app1 = b"Exif\x00\x00" + tiff
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(app1) + 2).to_bytes(2, "big") + app1 + jpeg[2:])
    image = read(path)[0].image
    assert image.shape == (160, 120, 3)
    assert corner_colours(image) == "wrgb"


def test_memory_does_not_grow_with_length(folder: Path) -> None:
    path = make_clip(folder / "long.mp4", frames=100)
    with VideoReader(path) as video:
        for seen, _ in enumerate(video, 1):
            if seen == 1:
                threading.Event().wait(0.3)  # the decoder would run away now, if it could
    assert seen == 100
    assert video.peak_frames_ahead <= 32


def test_the_larger_the_frames_the_fewer_wait() -> None:
    sizes = ((160, 120), (1280, 720), (1920, 1080), (3840, 2160), (7680, 4320))
    ahead = [frames_ahead(VideoInfo(Path("x.mp4"), *size, fps=30, frame_count=None, duration_s=None)) for size in sizes]
    assert ahead == [32, 24, 10, 2, 2]


@pytest.mark.parametrize("name", ["h264.mp4", "av1.mp4"])
def test_a_consumer_that_raises_leaves_nothing_behind(name: str, folder: Path) -> None:
    path = make_clip(folder / f"left_{name}", *CODECS[name], frames=60)

    def consume() -> None:
        with VideoReader(path) as video:
            for frame in video:
                if frame.index == 3:
                    raise ValueError("the consumer's own")

    with pytest.raises(ValueError, match="the consumer's own"):
        consume()
    assert our_threads() == []
    assert processes_naming(str(path)) == []


@pytest.mark.parametrize("name", ["h264.mp4", "av1.mp4"])
def test_leaving_early_leaves_nothing_behind(name: str, folder: Path) -> None:
    path = make_clip(folder / f"early_{name}", *CODECS[name], frames=60)
    with VideoReader(path) as video:
        assert next(video).index == 0
    with VideoReader(path):
        pass
    VideoReader(path)  # only looked at
    assert our_threads() == []
    assert processes_naming(str(path)) == []


def test_a_reader_reads_once_and_within_with(folder: Path) -> None:
    video = VideoReader(make_clip(folder / "once.mp4", frames=3))
    with pytest.raises(RuntimeError, match="with statement"):
        next(video)
    with video:
        assert len(list(video)) == 3
        assert list(video) == []
    with pytest.raises(RuntimeError, match="once"), video:
        pass


def test_nothing_is_written_to_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("h264.mp4", "av1.mp4", "mjpeg.avi", "animation.gif"):
        read(make_clip(folder / f"quiet_{name}", *CODECS[name], frames=3))
    whole = (folder / "quiet_h264.mp4").read_bytes()
    (folder / "noisy.mp4").write_bytes(whole[:-3000] + b"\x55" * 3000)
    with pytest.raises(VideoError):
        probe_video(folder / "noisy.mp4")
    assert capfd.readouterr() == ("", "")


def test_the_example(demo: Path) -> None:
    assert times_of(read(demo, 0.5, 1.0)) == pytest.approx([k / 30 for k in range(15, 30)], abs=1e-6)
    info = probe_video(demo)
    assert (info.size_wh, info.fps, info.frame_count, info.has_audio) == ((1768, 994), 30.0, 230, True)


def test_ffmpeg_is_the_package_s_unless_the_user_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VP3D_FFMPEG", raising=False)
    installed = shutil.copy(imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == imageio_ffmpeg.get_ffmpeg_exe() != str(installed)
    for chosen in (str(installed), "ffmpeg"):  # a path, or a name on PATH
        monkeypatch.setenv("VP3D_FFMPEG", chosen)
        assert find_ffmpeg() == str(installed)
    monkeypatch.setenv("VP3D_FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(MissingDependencyError, match=r"VP3D_FFMPEG=/nowhere/ffmpeg: no such program"):
        find_ffmpeg()
    monkeypatch.delenv("VP3D_FFMPEG")

    def nothing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    with pytest.raises(MissingDependencyError, match="install ffmpeg"):
        find_ffmpeg()


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("4.4.2-0ubuntu0.22.04.1", {"vsync": "passthrough"}),
        ("n5.0.3", {"vsync": "passthrough"}),
        ("5.1.9-0+deb12u1", {"fps_mode": "passthrough"}),
        ("n9.0.2-17-g2a571b6068", {"fps_mode": "passthrough"}),
        ("N-109960-g2a571b6068", {"fps_mode": "passthrough"}),
    ],
)
def test_option_for_timing_follows_the_version(
    version: str, option: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(arguments, 0, f"ffmpeg version {version} Copyright (c)".encode(), b"")

    monkeypatch.setattr(program, "run", told)
    assert program.keep_timing_option.__wrapped__("ffmpeg") == option


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(-1.0, None), (float("nan"), None), (2.0, 2.0), (2.0, 1.0), (0.0, -1.0)]
)
def test_spans_that_are_none(start_s: float, end_s: float | None, folder: Path) -> None:
    with pytest.raises(ConfigError):
        VideoReader(folder, start_s, end_s)


@pytest.mark.parametrize("image_fps", [0.0, -3.0, float("inf")])
def test_image_rates_that_are_none(image_fps: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_fps"):
        probe_video(tmp_path, image_fps=image_fps)
