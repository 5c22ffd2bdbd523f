"""What a video says of itself, before its frames are read."""

from __future__ import annotations

import math
import os
import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import ffmpeg

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.io.atomic import IMAGE_SUFFIXES
from vp3d_cli.types import VideoInfo
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.capture import open_capture
from vp3d_cli.video.images import DEFAULT_IMAGE_FPS, list_images, read_image

# Packets from which the mean frame rate is measured: half a minute of video, read without decoding.
_RATE_PACKETS = 1000
# Pixels count as square unless they are further from it than this: scaling leaves 1216:1215 behind, which a gif, that
# counts in 64ths, makes 63:64. The narrowest pixels in use are DV's, 12:11.
_SQUARE_TOLERANCE = 0.02
# Demuxers that make a "video" out of any text.
_NOT_VIDEO = frozenset({"tty", "bintext", "xbin", "adf", "idf", "lavfi"})


@dataclass(frozen=True)
class Media:
    """A video and what its decoder needs to know beyond :class:`VideoInfo`.

    Attributes:
        info: what everyone may know.
        images: the files of a folder of images in order; empty for a video file.
        container: names of ffmpeg's demuxer.
        first_time_s: presentation time of the first frame, 0 at the start of the file.
        coded_size_wh: upright, but before pixels that are not square are stretched.
        audio_codec: codec of the first sound track; empty where there is none.
        cover_first: a still picture (cover art) stands before the video among the streams.
    """

    info: VideoInfo
    images: tuple[Path, ...] = ()
    container: frozenset[str] = frozenset()
    first_time_s: float = 0.0
    coded_size_wh: tuple[int, int] = (0, 0)
    audio_codec: str = ""
    cover_first: bool = False


def probe_video(path: str | Path, *, image_fps: float = DEFAULT_IMAGE_FPS) -> VideoInfo:
    """Read the facts of a video file, or of a folder of images (jpg, png, bmp, webp, tif in natural order).

    ``fps`` is the mean over the first thousand frames (true for a variable frame rate, too); ``frame_count`` is what
    an mp4 or mov declares, or the number of frames of a short file; ``duration_s`` is that of the whole file,
    which includes sound that outlasts the picture.

    Args:
        path: the file or folder.
        image_fps: frames per second of a folder of images.

    Raises:
        VideoError: there is no such file, or no picture in it that can be decoded.
        ConfigError: ``image_fps`` is not a positive number.
    """
    return examine(path, image_fps=image_fps).info


def examine(path: str | Path, *, image_fps: float = DEFAULT_IMAGE_FPS) -> Media:
    """The same as :func:`probe_video`, with what decoding needs."""
    if not (math.isfinite(image_fps) and image_fps > 0):
        raise ConfigError(f"image_fps must be a positive number of frames per second, got {image_fps}")
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return _examine_images(path, image_fps)
    _check_readable(path)
    ran = program.run(_probe_command(path))
    report = ran.stderr.decode("utf-8", "replace")
    packets = ran.stdout.decode("ascii", "replace")
    container = _container(report)
    frame = re.search(r"\] n: *\d+ pts: *(\S+) .* sar:(\d+)/(\d+) s:(\d+)x(\d+)", report)
    base = re.search(r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)", report)
    if frame is None or base is None or container & _NOT_VIDEO:
        raise _no_picture(path, report, ran)
    time_base = Fraction(int(base[1]), int(base[2]))
    first = 0 if frame[1] == "NOPTS" else int(frame[1])
    width, height = _display_size(int(frame[4]), int(frame[5]), int(frame[2]), int(frame[3]))
    times_s, unit_s, all_seen = _packet_times(packets)
    fps = _mean_fps(times_s, unit_s, _ratio(int(base[3]), int(base[4])))
    duration_s = _duration(report)
    hidden = sum(time_s < float(first * time_base) - 1e-6 for time_s in times_s) if "mp4" in container else 0
    info = VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=fps,
        frame_count=len(times_s) - hidden if all_seen else _declared_frames(path, container, fps, duration_s),
        duration_s=duration_s,
        rotation_deg=_rotation(report),
        codec=_first(_VIDEO, report),
        has_audio=_first(_AUDIO, report) != "",
    )
    return Media(
        info=info,
        container=container,
        first_time_s=float(first * time_base),
        coded_size_wh=(int(frame[4]), int(frame[5])),
        audio_codec=_first(_AUDIO, report),
        cover_first=bool(re.search(r"\(attached pic\)", _first(r"^( +Stream #0:\d+.*: Video: .*)", report))),
    )


def read_packets(path: Path) -> tuple[float, str]:
    """Read all packets of the picture without decoding them: the last one's time, and what ffmpeg complains of.

    A file that was cut off is told by its complaint (``partial file``, ``File ended prematurely``); a sound track
    that outlasts the picture raises none.
    """
    ran = _copy_packets(path)
    times_s, _, _ = _packet_times(ran.stdout.decode("ascii", "replace"))
    return max(times_s, default=0.0), program.reason(ran.stderr, ran.returncode) if ran.stderr.strip() else ""


def read_frame_times(path: str | Path) -> list[float]:
    """Presentation times of all frames, rising, 0 at the start of the file; read from the packets, nothing is decoded.

    Where the file is damaged, some of these frames may turn out not to decode.

    Raises:
        VideoError: see :func:`probe_video`.
    """
    media = examine(path)
    if media.images:
        return [i / media.info.fps for i in range(len(media.images))]
    times_s, _, _ = _packet_times(_copy_packets(media.info.path).stdout.decode("ascii", "replace"))
    return [time_s for time_s in times_s if time_s >= media.first_time_s - 1e-6]  # an edit list may hide the first


def _copy_packets(path: Path) -> subprocess.CompletedProcess[bytes]:
    source = ffmpeg.input(program.as_url(path), v="error", protocol_whitelist="file")
    return program.run(program.command(source.output("pipe:", map="0:V:0", c="copy", f="framecrc")))


# Lines of ffmpeg's report; a still picture (cover art) is no video.
_AUDIO = r"^ +Stream #0:\d+.*: Audio: (\w+)"
_VIDEO = r"^ +Stream #0:\d+.*: Video: (\w+)(?!.*\(attached pic\))"


def _probe_command(path: Path) -> list[str]:
    # One decoded frame gives size, rotation and exact time base; packets alone give the rate.
    source = ffmpeg.input(program.as_url(path), hide_banner=None, nostats=None, protocol_whitelist="file")
    decoded = source.output("-", map="0:V:0", vf="showinfo", **{"frames:v": 1}, f="null")
    copied = source.output("pipe:", map="0:V:0", c="copy", **{"frames:v": _RATE_PACKETS}, f="framecrc")
    return program.command(decoded, copied)


def _check_readable(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise VideoError(f"{path} is a link to {os.readlink(path)}, which is not there; mend the link, or remove it")
    if not path.exists():
        raise VideoError(f"no such video: {path}; check the spelling and the folder")
    if not path.is_file():
        raise VideoError(f"{path} is neither a file nor a folder; give a video file or a folder of images")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise VideoError(f"{path} cannot be opened: {error.strerror}; check its permissions") from None
    if empty:
        raise VideoError(f"{path} is empty (0 bytes); copy or record it again")


def _starts_as_mp4(path: Path) -> bool:
    # ffmpeg believes the name: of a text renamed to mp4 it says, too, that the index is missing.
    with path.open("rb") as file:
        return file.read(8)[4:] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def _no_picture(path: Path, report: str, ran: subprocess.CompletedProcess[bytes]) -> VideoError:
    if "moov atom not found" in report and _starts_as_mp4(path):
        return VideoError(
            f"{path} is incomplete: its index (moov atom) is missing, so nothing of it can be decoded; "
            "copy or record it again"
        )
    container = _container(report)
    if container - _NOT_VIDEO and not _first(_VIDEO, report):
        what = "sound but no picture" if _first(_AUDIO, report) else "no picture"
        return VideoError(f"{path} has {what}; give a file with a video track")
    if container & _NOT_VIDEO or "moov atom not found" in report:
        why = "it holds something else"
    elif container:
        why = f"no frame of it can be decoded: {_complaint(path)}"
    else:
        why = program.reason(ran.stderr, ran.returncode)
    return VideoError(
        f"{path} cannot be read as a video ({why}); check that it plays, or convert it with ffmpeg to mp4"
    )


def _complaint(path: Path) -> str:
    """What ffmpeg says of a video that it opens and gets no frame of: its errors alone, the last of which tells."""
    source = ffmpeg.input(program.as_url(path), v="error", protocol_whitelist="file")
    ran = program.run(program.command(source.output("-", map="0:V:0", f="null", **{"frames:v": 1})))
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


def _packet_times(listing: str) -> tuple[list[float], float, bool]:
    """Presentation times of the packets that ffmpeg's framecrc lists, in order; their unit; whether these are all."""
    base = re.search(r"^#tb 0: (\d+)/(\d+)", listing, re.M)
    if base is None:
        return [], 0.0, False
    unit_s = _ratio(int(base[1]), int(base[2]))
    stamps = re.findall(r"^0, *(-?\d+), *(NOPTS|-?\d+),", listing, re.M)
    # A container such as AVI has times of decoding only; they are as far apart.
    ticks = sorted(int(decode if show == "NOPTS" or int(show) < -(1 << 62) else show) for decode, show in stamps)
    return [tick * unit_s for tick in ticks], unit_s, len(stamps) < _RATE_PACKETS


def _mean_fps(times_s: list[float], unit_s: float, declared: float) -> float:
    """The declared rate where the times show it to be constant (they are rounded to the unit), else the mean."""
    gaps_s = [after - before for before, after in pairwise(times_s)]
    if sum(gaps_s) <= 0:
        return declared or DEFAULT_IMAGE_FPS  # a single frame has no rate
    if declared and all(abs(gap_s - 1 / declared) <= 1.5 * unit_s for gap_s in gaps_s):
        return declared
    return len(gaps_s) / sum(gaps_s)


def _declared_frames(path: Path, container: frozenset[str], fps: float, duration_s: float | None) -> int | None:
    # Of the other containers OpenCV gives duration times rate, which is no count. An edit list hides frames: what
    # does not fit into the duration is not shown.
    if "mp4" not in container:
        return None
    capture = open_capture(path)
    count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    fits = duration_s is None or count <= duration_s * fps * 1.01 + 1
    return count if count > 0 and fits else None
