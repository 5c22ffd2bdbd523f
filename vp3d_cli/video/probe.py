"""Facts of a video before its frames are decoded: size, rate, duration, codec, and which frames it has."""

from __future__ import annotations

import math
import os
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.io.atomic import IMAGE_SUFFIXES, check_regular, open_regular
from vp3d_cli.types import VideoInfo
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.images import DEFAULT_IMAGE_FPS, check_size, list_images, read_image
from vp3d_cli.video.packets import AviClock, Packets, copy_packets, parse_packets, read_packets

# Packets from which the mean frame rate is measured: half a minute of video, read without decoding.
_RATE_PACKETS = 1000
_TIME_TOLERANCE_S = 1e-6
# Pixels count as square unless they are further from it than this: scaling leaves 1216:1215 behind, which a gif, that
# counts in 64ths, makes 63:64. The narrowest pixels in use are DV's, 12:11.
_SQUARE_TOLERANCE = 0.02
# A file up to this size is read whole for the number of its frames, which takes a second; a longer one is not.
_COUNTED_BYTES = 256 << 20
# Names that a path may have on any system in use.
_MAX_NAME = 255


@dataclass(frozen=True)
class Media:
    """A video: its :class:`VideoInfo` and what its decoder needs to know besides.

    Attributes:
        info: the public facts.
        images: the files of a folder of images in order; empty for a video file.
        container: names of ffmpeg's demuxer.
        first_time_s: presentation time of the first frame, 0 at the start of the file.
        coded_size_wh: upright, but before pixels that are not square are stretched.
        audio_codec: codec of the first sound track; empty where there is none.
        cover_first: a still picture (cover art) stands before the video among the streams.
        lost_start_s: from the first frame that is shown to the first that can be decoded, seconds.
    """

    info: VideoInfo
    images: tuple[Path, ...] = ()
    container: frozenset[str] = frozenset()
    first_time_s: float = 0.0
    coded_size_wh: tuple[int, int] = (0, 0)
    audio_codec: str = ""
    cover_first: bool = False
    lost_start_s: float = 0.0


def probe_video(path: str | Path, *, image_fps: float = DEFAULT_IMAGE_FPS) -> VideoInfo:
    """Read the facts of a video file, or of a folder of images (jpg, png, bmp, webp, tif in natural order).

    ``fps`` is the mean over the first thousand frames (true for a variable frame rate, too); ``frame_count`` is the
    number of frames that are shown, None for a file that is too big to be read whole for it; ``duration_s`` is that of
    the whole file, which includes sound that outlasts the picture.

    Args:
        path: the file or folder.
        image_fps: frames per second of a folder of images.

    Raises:
        VideoError: there is no such file, or no picture in it that can be decoded.
        ConfigError: ``image_fps`` is not a positive number.
    """
    return examine(path, image_fps=image_fps).info


def examine(path: str | Path, *, image_fps: float = DEFAULT_IMAGE_FPS) -> Media:
    """Facts of a video as :func:`probe_video` gives them, and what decoding needs besides."""
    if not (math.isfinite(image_fps) and image_fps > 0):
        raise ConfigError(f"image_fps must be a positive number of frames per second, got {image_fps}")
    path = Path(path)
    _check_readable(path)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return _examine_images(path, image_fps)
    ran = program.probe(_probe_command(path))
    report = ran.stderr.decode("utf-8", "replace")
    packets = parse_packets(ran.stdout)
    frame = re.search(r"\] n: *\d+ pts: *(\S+) .* sar:(\d+)/(\d+) s:(\d+)x(\d+)", report)
    base = re.search(r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)", report)
    if frame is None or base is None or not int(base[2]):
        raise _no_picture(path, report, ran)
    first_s = 0.0 if frame[1] == "NOPTS" else float(int(frame[1]) * Fraction(int(base[1]), int(base[2])))
    width, height = _display_size(int(frame[4]), int(frame[5]), int(frame[2]), int(frame[3]))
    check_size(path, width, height)
    info = VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=_mean_fps(packets.times_s, packets.unit_s, _ratio(int(base[3]), int(base[4]))),
        frame_count=_count_frames(path, _container(report), packets, first_s),
        duration_s=_duration(report),
        rotation_deg=_rotation(report),
        codec=_first(_VIDEO, report),
        has_audio=_first(_AUDIO, report) != "",
    )
    return Media(
        info=info,
        container=_container(report),
        first_time_s=first_s,
        coded_size_wh=(int(frame[4]), int(frame[5])),
        audio_codec=_first(_AUDIO, report),
        cover_first=bool(re.search(r"\(attached pic\)", _first(r"^( +Stream #0:\d+.*: Video: .*)", report))),
        lost_start_s=first_s - min(packets.times_s, default=first_s),
    )


def read_frame_times(path: str | Path) -> list[float]:
    """Presentation times of all frames, rising, 0 at the start of the file; read from the packets, nothing is decoded.

    Where the file is damaged, some of these frames may turn out not to decode.

    Raises:
        VideoError: see :func:`probe_video`.
    """
    media = examine(path)
    if media.images:
        return [i / media.info.fps for i in range(len(media.images))]
    return frame_times(media, read_packets(media.info.path))


def frame_times(media: Media, packets: Packets) -> list[float]:
    """Which frames a video file has, by their presentation times, rising: the one place that decides it.

    These are the packets that its edit list does not hide, from the first frame that can be decoded on; an AVI file's
    are at the times that its index gives them.
    """
    if "avi" not in media.container:
        return _shown_times(packets, media.first_time_s)
    clock = AviClock.of(media.info.path)
    times_s = [clock(time_s) for time_s in packets.times_s]
    # Its packets have times of decoding only; with B frames they are shown later.
    delay_s = media.first_time_s - times_s[0] if times_s else 0.0
    return [time_s + delay_s for time_s in clock.indexed_s or times_s]


def _shown_times(packets: Packets, first_s: float) -> list[float]:
    return [time_s for time_s in packets.times_s if time_s >= first_s - _TIME_TOLERANCE_S]


def _count_frames(path: Path, container: frozenset[str], packets: Packets, first_s: float) -> int | None:
    """Number of frames; None for a file that is too big to be read whole for it."""
    if packets.count >= _RATE_PACKETS:
        if path.stat().st_size > _COUNTED_BYTES:
            return None
        packets = read_packets(path)
    return len(packets.ticks if "avi" in container else _shown_times(packets, first_s))


# Lines of ffmpeg's report; a still picture (cover art) is no video.
_AUDIO = r"^ +Stream #0:\d+.*: Audio: (\w+)"
_VIDEO = r"^ +Stream #0:\d+.*: Video: (\w+)(?!.*\(attached pic\))"


def _probe_command(path: Path) -> list[str]:
    # One decoded frame gives size, rotation and exact time base; packets alone give the rate. One thread: each has
    # frames of its own.
    source = program.source(path, hide_banner=None, nostats=None, threads=1)
    decoded = source.output("-", map="0:V:0", vf="showinfo", **{"frames:v": 1}, f="null")
    return program.command(decoded, copy_packets(source, **{"frames:v": _RATE_PACKETS}))


def _check_readable(path: Path) -> None:
    if len(os.fsencode(path.name)) > _MAX_NAME:
        raise VideoError(f"no such video: {path.name[:40]}... ({len(path.name)} characters are no file name)")
    try:
        if path.is_symlink() and not path.exists():
            raise VideoError(f"{path} is a link to {os.readlink(path)}, which is not there; mend or remove the link")
        if not path.exists():
            kind = "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"
            raise VideoError(f"no such {kind}: {path}; check the spelling and the folder")
        if path.is_dir():
            return
        check_regular(path)
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {error.strerror}; check what it is and its permissions") from None
    except ValueError:  # a null character
        raise VideoError(f"no such video: {path}; this is no file name") from None
    if empty:
        raise VideoError(f"{path} is empty (0 bytes); copy or record it again")


def _starts_as_mp4(path: Path) -> bool:
    # ffmpeg believes the name: of a text renamed to mp4 it says, too, that the index is missing.
    with open_regular(path) as file:
        return file.read(8)[4:] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def _no_picture(path: Path, report: str, ran: subprocess.CompletedProcess[bytes]) -> VideoError:
    if "moov atom not found" in report and _starts_as_mp4(path):
        return VideoError(
            f"{path} is incomplete: its index (moov atom) is missing, so nothing of it can be decoded; "
            "copy or record it again"
        )
    stated = re.search(r"^ +Stream #0:\d+.*: Video: .*?, (\d+)x(\d+)[ ,]", report, re.M)
    for size in (re.search(r"Picture size (\d+)x(\d+) exceeds", report), stated):
        if size is not None and int(size[1]) * int(size[2]):
            check_size(path, int(size[1]), int(size[2]))
    container = _container(report)
    if container and not _first(_VIDEO, report):
        what = "sound but no picture" if _first(_AUDIO, report) else "no picture"
        return VideoError(f"{path} has {what}; give a file with a video track")
    if "Format not on whitelist" in report or "moov atom not found" in report:
        why = "it is no video container such as mp4, mov, mkv, webm or avi"
    elif container and ran.returncode >= 0:
        why = f"no frame of it can be decoded: {_complaint(path)}"
    else:
        why = program.reason(ran.stderr, ran.returncode)
    return VideoError(
        f"{path} cannot be read as a video ({why[:200]}); check that it plays, or convert it with ffmpeg to mp4"
    )


def _complaint(path: Path) -> str:
    """The last error of ffmpeg about a video that it opens and gets no frame of."""
    source = program.source(path, v="error", threads=1)
    ran = program.probe(program.command(source.output("-", map="0:V:0", f="null", **{"frames:v": 1})))
    return program.reason(ran.stderr, ran.returncode) if ran.stderr.strip() else "there is none in it"


def _examine_images(path: Path, image_fps: float) -> Media:
    images = list_images(path)
    height, width = read_image(images[0]).shape[:2]
    info = VideoInfo(path, width, height, image_fps, len(images), len(images) / image_fps, codec="images")
    return Media(info, images=images)


def _container(report: str) -> frozenset[str]:
    return frozenset(_first(r"^Input #0, (\S+), from ", report).split(",")) - {""}


def _first(pattern: str, report: str) -> str:
    """The first group of the first match among what ffmpeg says of its input."""
    found = re.search(pattern, re.split(r"^(?:Output #|Stream mapping)", report, maxsplit=1, flags=re.M)[0], re.M)
    return found[1] if found else ""


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0


def _display_size(width: int, height: int, aspect_num: int, aspect_den: int) -> tuple[int, int]:
    """Stretch the shorter side of pixels that are not square (HDV's 1440x1080 is shown as 1920x1080)."""
    aspect = _ratio(aspect_num, aspect_den) or 1.0
    if abs(aspect - 1) < _SQUARE_TOLERANCE:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _rotation(report: str) -> int:
    """Clockwise degrees by which the frames were turned; ffmpeg prints the matrix's angle counter-clockwise."""
    angle = _first(r"^ +display ?matrix: rotation of (-?[\d.]+) degrees", report.replace("Display M", "display m"))
    return round(-float(angle or 0) / 90) * 90 % 360


def _duration(report: str) -> float | None:
    clock = re.search(r"^  Duration: (\d+):(\d+):(\d+(?:\.\d+)?), ", report, re.M)
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else None


def _mean_fps(times_s: list[float], unit_s: float, declared: float) -> float:
    """The declared rate where the times show it to be constant (they are rounded to the unit), else the mean."""
    gaps_s = [after - before for before, after in pairwise(times_s)]
    if sum(gaps_s) <= 0:
        return declared or DEFAULT_IMAGE_FPS  # a single frame has no rate
    if declared and all(abs(gap_s - 1 / declared) <= 1.5 * unit_s for gap_s in gaps_s):
        return declared
    return len(gaps_s) / sum(gaps_s)
