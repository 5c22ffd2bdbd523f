"""Decode with ffmpeg itself, for what OpenCV cannot: raw frames through a pipe, their times from ffmpeg's report."""

from __future__ import annotations

import contextlib
import io
import queue
import re
import subprocess
import threading
from fractions import Fraction
from typing import cast

import ffmpeg
import numpy as np

from vp3d_cli.errors import VideoError
from vp3d_cli.types import FrameBGR
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.frames import TimedFrames, decoded
from vp3d_cli.video.probe import Media

# A seek aims this far ahead of the wanted time; some containers seek no better than to the next key frame.
_SEEK_MARGIN_S = 0.5


def ffmpeg_frames(media: Media, start_s: float) -> TimedFrames:
    """Frames from a little before ``start_s`` on.

    Raises:
        VideoError: nothing can be decoded.
    """
    seek_s = start_s - _SEEK_MARGIN_S
    if seek_s > media.first_time_s:
        with contextlib.closing(_decode(media, seek_s)) as frames:
            first = next(frames, None)
            if first is not None and first[0] <= start_s:
                yield first
                yield from frames
                return
    with contextlib.closing(_decode(media, None)) as frames:
        first = next(frames, None)
        if first is None:
            raise VideoError(f"no frame of {media.info.path} can be decoded; convert it with ffmpeg to mp4")
        yield first
        yield from frames


def _decode(media: Media, seek_s: float | None) -> TimedFrames:
    width, height = media.info.size_wh
    process = program.start(
        _command(media, seek_s), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    stdout, stderr = cast(io.FileIO, process.stdout), cast(io.FileIO, process.stderr)
    times: queue.Queue[float | None] = queue.Queue()
    listener = threading.Thread(target=_listen, args=(stderr, times), name="vp3d-ffmpeg-times", daemon=True)
    listener.start()
    previous_s = media.first_time_s - 1 / media.info.fps
    try:
        while (image := _read_image(stdout, height, width)) is not None:
            time_s = times.get()
            if time_s is None:  # the file gives this frame no time, or ffmpeg died between the two
                time_s = previous_s + 1 / media.info.fps
            previous_s = time_s
            yield decoded(time_s, image)
    finally:
        process.kill()  # else the listener would wait for an ffmpeg that waits for us
        listener.join()
        program.stop(process)


def _command(media: Media, seek_s: float | None) -> list[str]:
    width, height = media.info.size_wh
    seek = {} if seek_s is None else {"ss": f"{seek_s:.6f}"}
    source = ffmpeg.input(
        program.as_url(media.info.path),
        hide_banner=None,
        nostats=None,
        # Both together keep the times of the file when seeking, 0 at its start.
        copyts=None,
        start_at_zero=None,
        protocol_whitelist="file",
        **seek,
    )
    # showinfo tells the true times; then the frames are renumbered to an even rate, because ffmpeg repeats and drops
    # frames of raw video until it is even.
    filters = f"showinfo,settb=1/25,setpts=N,scale={width}:{height}"
    return program.command(source.output("pipe:", map="0:V:0", vf=filters, r="25", pix_fmt="bgr24", f="rawvideo"))


def _listen(stderr: io.FileIO, times: queue.Queue[float | None]) -> None:
    """Put the time of each frame into the queue, in order; None for a frame without a time, and at the end."""
    time_base = Fraction(0)
    with io.TextIOWrapper(io.BufferedReader(stderr), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if base := re.search(r"config in time_base: (\d+/\d+),", line):
                time_base = Fraction(base[1])
            elif stamp := re.search(r"\] n: *\d+ pts: *(\S+) ", line):
                times.put(None if stamp[1] == "NOPTS" else float(int(stamp[1]) * time_base))
    times.put(None)


def _read_image(pipe: io.FileIO, height: int, width: int) -> FrameBGR | None:
    """The next whole frame, or None at the end."""
    image = np.empty((height, width, 3), np.uint8)
    left = image.data.cast("B")
    while left:
        count = pipe.readinto(left)
        if not count:
            return None
        left = left[count:]
    return image
