"""Small videos for tests, made by ffmpeg on the spot, and the truth about them as ffmpeg tells it."""

from __future__ import annotations

import functools
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from vp3d_cli.types import FrameBGR
from vp3d_cli.video.ffmpeg import keep_timing_option

# Clips and truths come from one known ffmpeg, while the product takes the system's where there is one.
PROGRAM = imageio_ffmpeg.get_ffmpeg_exe()

SIZE_WH = (160, 120)
FRAMES = 20
FPS = 25

_AV1 = ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-b:v", "1M")
# name of the file: what makes it
CODECS: dict[str, tuple[str, ...]] = {
    "h264.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "h264_10bit.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "h265.mov": ("-c:v", "libx265", "-x265-params", "log-level=error", "-tag:v", "hvc1", "-pix_fmt", "yuv420p"),
    "h265_10bit.mkv": ("-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"),
    "vp9_10bit.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-b:v", "1M", "-pix_fmt", "yuv420p10le"),
    "av1.mp4": (*_AV1, "-pix_fmt", "yuv420p"),
    "av1_10bit.mkv": (*_AV1, "-pix_fmt", "yuv420p10le"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"),
    "mpeg4_b_frames.avi": ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3"),
    "h264.ts": ("-c:v", "libx264", "-pix_fmt", "yuv420p"),
    "animation.gif": (),
}

# Frames 0-9 at 25 fps, the rest at 10 fps: as a phone does that drops its rate in the dark.
VARIABLE_RATE = "settb=1/1000,setpts='if(lt(N,10),N/25,0.4+(N-10)/10)/TB'"


def run_ffmpeg(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run ffmpeg, overwriting; what it prints on its standard output."""
    ran = subprocess.run(
        [PROGRAM, "-hide_banner", "-v", "error", "-y", *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


@functools.cache
def _encoders() -> str:
    return run_ffmpeg("-encoders").decode()


def _keep_timing() -> list[str]:
    return [part for name, value in keep_timing_option(PROGRAM).items() for part in (f"-{name}", value)]


def make_clip(
    path: Path,
    *options: str,
    size_wh: tuple[int, int] = SIZE_WH,
    frames: int = FRAMES,
    fps: int | str = FPS,
    filters: str = "null",
    sound_s: float | None = None,
) -> Path:
    """A moving test pattern; ``options`` are ffmpeg's for the output. Skips the test where ffmpeg lacks the encoder."""
    if "-c:v" in options:
        encoder = options[options.index("-c:v") + 1]
        if not re.search(rf"^ V\S+ {encoder} ", _encoders(), re.M):
            pytest.skip(f"this ffmpeg has no encoder {encoder}")
    width, height = size_wh
    pattern = f"testsrc2=size={width + width % 2}x{height + height % 2}:rate={fps},scale={width}:{height},{filters}"
    sound = () if sound_s is None else ("-f", "lavfi", "-t", str(sound_s), "-i", "sine=frequency=440:sample_rate=48000")
    run_ffmpeg("-f", "lavfi", "-i", pattern, *sound, *_keep_timing(), "-frames:v", str(frames), *options, path)
    return path


def make_codec_clip(folder: Path, name: str) -> Path:
    """One of :data:`CODECS` in this folder, made if it is not there yet."""
    path = folder / name
    return path if path.exists() else make_clip(path, *CODECS[name])


def true_times_s(path: Path) -> list[float]:
    """Presentation times of the frames that ffmpeg decodes, 0 at the start of the file."""
    # A fine time base, or framecrc counts in frames.
    listing = run_ffmpeg(
        "-i", path, "-map", "0:V:0", *_keep_timing(), "-enc_time_base", "1:1000000", "-f", "framecrc", "-"
    )
    base = re.search(r"^#tb 0: (\d+)/(\d+)", listing.decode(), re.M)
    assert base is not None
    unit = Fraction(int(base[1]), int(base[2]))
    return [float(int(stamp) * unit) for stamp in re.findall(r"^0, *-?\d+, *(-?\d+),", listing.decode(), re.M)]


def true_frames(path: Path, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """(T, H, W, 3) BGR as ffmpeg decodes them, rotation applied."""
    raw = run_ffmpeg("-i", path, "-map", "0:V:0", *_keep_timing(), "-pix_fmt", "bgr24", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, size_wh[1], size_wh[0], 3)


def true_sound(path: Path, rate: int = 8000) -> NDArray[np.float32]:
    """The sound of a file as samples in -1..1, from the file's start."""
    samples = ("-ar", str(rate), "-ac", "1", "-f", "f32le", "-")
    return np.frombuffer(
        run_ffmpeg("-i", path, "-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", *samples), np.float32
    )


def corners(size_wh: tuple[int, int] = SIZE_WH) -> FrameBGR:
    """A grey image with a red, green, blue and white corner: clockwise from the top left."""
    width, height = size_wh
    image = np.full((height, width, 3), 90, np.uint8)
    image[:40, :40] = (0, 0, 255)
    image[:40, -40:] = (0, 255, 0)
    image[-40:, -40:] = (255, 0, 0)
    image[-40:, :40] = (255, 255, 255)
    return image


def corner_colours(image: FrameBGR) -> str:
    """What :func:`corners` shows, clockwise from the top left, as the initials of its colours."""
    names = {"001": "r", "010": "g", "100": "b", "111": "w"}
    places = ((10, 10), (10, -10), (-10, -10), (-10, 10))
    return "".join(names.get("".join(str(int(value > 128)) for value in image[place]), "?") for place in places)
