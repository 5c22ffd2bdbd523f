"""Decode a video with OpenCV or ffmpeg, or a folder image by image.

ffmpeg, through a pipe, decodes what OpenCV cannot.

OpenCV is the fastest way, with no pipe between the decoder and us. Its wheels carry no AV1 decoder that runs without
special hardware, and it loses the times of frames in containers that do not store presentation times (AVI): there
ffmpeg decodes, and its report gives the times.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import queue
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from vp3d_cli.errors import VideoError
from vp3d_cli.types import FrameBGR
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.images import read_image
from vp3d_cli.video.packets import AviClock
from vp3d_cli.video.probe import Media

# A frame's time in seconds, and what gives its picture: frames that are only passed over are never converted to BGR.
TimedFrame = tuple[float, Callable[[], FrameBGR]]
TimedFrames = Generator[TimedFrame, None, None]

# Containers that store the presentation time of each frame.
_TIMED_CONTAINERS = frozenset({"mp4", "matroska", "gif"})
# A seek aims this far ahead of the wanted time. OpenCV's: twice as far each time that it lands behind it.
_SEEK_MARGIN_S = 0.5
# OpenCV tries so many packets that do not decode, one after another; at the end of a file that takes 0.2 ms.
_LONGEST_HOLE = 1000
# Longer than any decoder needs for a frame, a group of pictures behind a seek included.
_STALLED_S = 45.0


def open_first(media: Media) -> cv2.VideoCapture | None:
    """Open a video with OpenCV and grab its first frame.

    None where OpenCV does not decode it, or gives frames that are not upright or have no times.
    """
    if not media.container & _TIMED_CONTAINERS or media.cover_first or not _is_text(media.info.path):
        return None
    capture = _open_capture(media.info.path)
    size_wh = (round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    if capture.isOpened() and size_wh == media.coded_size_wh and capture.grab():
        return capture
    capture.release()
    return None


def _is_text(path: Path) -> bool:
    """Whether a name is UTF-8; another crashes OpenCV."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_capture(path: Path) -> cv2.VideoCapture:
    """Open a capture with OpenCV's FFmpeg, for the same containers and without log output."""
    # OpenCV's FFmpeg guesses the container anew, and the file may have been exchanged since it was probed.
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"protocol_whitelist;file|format_whitelist;{program.DEMUXERS}"
    # Read once, when OpenCV opens its first video: too late at import, if someone cleans the environment in between.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 and 4
    level = log.getLogLevel()
    log.setLogLevel(0)  # silent
    try:
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    finally:
        log.setLogLevel(level)


def opencv_frames(media: Media, capture: cv2.VideoCapture, start_s: float) -> TimedFrames:
    """Frames from a little before ``start_s`` on, by a capture of :func:`open_first`.

    Raises:
        VideoError: the file vanished meanwhile.
    """
    # OpenCV counts time from the first frame of the picture's track, we from the start of the file.
    offset_s = media.first_time_s - _position(capture)
    try:
        capture = _seek(media, capture, start_s, offset_s)
        while True:
            yield _position(capture) + offset_s, partial(_retrieve, capture, media)
            # It fails at each packet that does not decode, and at the end of the file.
            if not any(capture.grab() for _ in range(_LONGEST_HOLE)):
                return
    finally:
        capture.release()


def _position(capture: cv2.VideoCapture) -> float:
    return float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3


def _seek(media: Media, capture: cv2.VideoCapture, start_s: float, offset_s: float) -> cv2.VideoCapture:
    """Seek to a grabbed frame at or before ``start_s``.

    OpenCV's own seek may land behind it.

    It computes with frame numbers, which mean nothing where the frame rate varies.
    """
    margin_s = _SEEK_MARGIN_S
    while start_s - margin_s > media.first_time_s:
        capture.set(cv2.CAP_PROP_POS_MSEC, (start_s - margin_s - offset_s) * 1e3)
        if capture.grab() and _position(capture) + offset_s <= start_s:
            return capture
        margin_s *= 2
    if margin_s == _SEEK_MARGIN_S:
        return capture
    capture.release()
    from_start = open_first(media)
    if from_start is None:
        raise VideoError(f"{media.info.path} can no longer be read; was it changed or removed?")
    return from_start


def _retrieve(capture: cv2.VideoCapture, media: Media) -> FrameBGR:
    done, image = capture.retrieve()
    if not done or image is None:
        raise VideoError(f"{media.info.path}: a frame cannot be converted to BGR; convert the video with ffmpeg to mp4")
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[1::-1] != media.info.size_wh:  # pixels that are not square, or a size that changes within the file
        image = cv2.resize(image, media.info.size_wh)
    return np.asarray(image, np.uint8)


def ffmpeg_frames(media: Media, start_s: float) -> TimedFrames:
    """Frames from a little before ``start_s`` on, by ffmpeg.

    Raises:
        VideoError: nothing can be decoded, or decoding does not go on.
    """
    clock = AviClock.of(media.info.path) if "avi" in media.container else AviClock()
    seek_s = start_s - _SEEK_MARGIN_S
    # A seek in an AVI file with holes lands nowhere.
    if seek_s > media.first_time_s and not clock.has_holes:
        with contextlib.closing(_decode(media, seek_s)) as frames:
            first = next(frames, None)
            if first is not None and first[0] <= start_s:
                yield first
                yield from frames
                return
    with contextlib.closing(_decode(media, None)) as frames:
        found = False
        for time_s, picture in frames:
            found = True
            yield clock(time_s), picture
        if not found:
            raise VideoError(f"no frame of {media.info.path} can be decoded; convert it with ffmpeg to mp4")


def _decode(media: Media, seek_s: float | None) -> TimedFrames:
    width, height = media.info.size_wh
    pipe = subprocess.PIPE
    limit = program.decoder_bytes(media.info.size_wh)
    process = program.start(
        _command(media, seek_s), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, data_bytes=limit
    )
    stdout, stderr = cast(io.FileIO, process.stdout), cast(io.FileIO, process.stderr)
    times: queue.Queue[float] = queue.Queue()
    listener = threading.Thread(target=_listen, args=(stderr, times), name="vp3d-ffmpeg-times", daemon=True)
    listener.start()
    previous_s = media.first_time_s - 1 / media.info.fps
    try:
        while (image := _read_frame(stdout, height, width, media.info.path)) is not None:
            time_s = times.get()
            if time_s == math.inf:  # no frame of the file: at its end ffmpeg may repeat the last one
                return
            if math.isnan(time_s):  # the file gives this frame no time
                time_s = previous_s + 1 / media.info.fps
            previous_s = time_s
            yield time_s, partial(_itself, image)
    finally:
        process.kill()  # else the listener would wait for an ffmpeg that waits for us
        listener.join()
        program.stop(process)


def _command(media: Media, seek_s: float | None) -> list[str]:
    width, height = media.info.size_wh
    seek = {} if seek_s is None else {"ss": f"{seek_s:.6f}"}
    # copyts and start_at_zero together keep the times of the file when seeking, 0 at its start.
    source = program.source(media.info.path, hide_banner=None, nostats=None, copyts=None, start_at_zero=None, **seek)
    # showinfo tells the true times; then the frames are renumbered to an even rate, because ffmpeg repeats and drops
    # frames of raw video until it is even.
    filters = f"showinfo,settb=1/25,setpts=N,scale={width}:{height}"
    return program.command(source.output("pipe:", map="0:V:0", vf=filters, r="25", pix_fmt="bgr24", f="rawvideo"))


def _listen(stderr: io.FileIO, times: queue.Queue[float]) -> None:
    """Put the time of each frame into the queue, in order.

    NaN for a frame without a time, infinity at the end.
    """
    time_base = Fraction(0)
    with io.TextIOWrapper(io.BufferedReader(stderr), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if base := re.search(r"config in time_base: (\d+/[1-9]\d*),", line):
                time_base = Fraction(base[1])
            elif stamp := re.search(r"\] n: *\d+ pts: *(\S+) ", line):
                times.put(math.nan if stamp[1] == "NOPTS" else float(int(stamp[1]) * time_base))
    times.put(math.inf)


def _read_frame(pipe: io.FileIO, height: int, width: int, path: Path) -> FrameBGR | None:
    """The next whole frame, or None at the end.

    Raises:
        VideoError: ffmpeg has stopped to give any.
    """
    image = np.empty((height, width, 3), np.uint8)
    left = image.data.cast("B")
    while left:
        if sys.platform != "win32" and not select.select([pipe], [], [], _STALLED_S)[0]:  # there: sockets only
            raise VideoError(f"{path}: decoding has stood still for {_STALLED_S:g} s; convert it with ffmpeg to mp4")
        count = pipe.readinto(left)
        if not count:
            return None
        left = left[count:]
    return image


def _itself(image: FrameBGR) -> FrameBGR:
    return image


def image_frames(
    images: Sequence[Path], fps: float, size_wh: tuple[int, int], start_s: float, warnings: list[str]
) -> TimedFrames:
    """The images from a little before ``start_s`` on, image k at ``k / fps`` seconds.

    One that cannot be read is left out (the others keep their times), and ``warnings`` gets a sentence that says so.

    Raises:
        VideoError: an image has another size than the first.
    """
    broken: list[Path] = []
    try:
        for index in range(max(0, math.floor(start_s * fps)), len(images)):
            path = images[index]
            try:
                image = read_image(path)
            except VideoError:
                broken.append(path)
                continue
            if image.shape[1::-1] != size_wh:
                raise VideoError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}, but the first image of its folder is "
                    f"{size_wh[0]}x{size_wh[1]}; the images of a video must have one size"
                )
            yield index / fps, partial(_itself, image)
    finally:  # whoever reads may not want all of them
        if broken:
            left_out = f"{len(broken)} of {len(images)} images cannot be read and were left out"
            warnings.append(f"{left_out}, first {broken[0]}")
