"""Decode with OpenCV: the fastest way, with no pipe between the decoder and us.

Its wheels carry no AV1 decoder that runs without special hardware, and it loses the times of frames in containers
that do not store presentation times (AVI): there ``ffmpeg_source.py`` decodes.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from vp3d_cli.errors import VideoError
from vp3d_cli.types import FrameBGR
from vp3d_cli.video.capture import open_capture
from vp3d_cli.video.frames import TimedFrames
from vp3d_cli.video.probe import Media

# Containers that store the presentation time of each frame.
_TIMED_CONTAINERS = frozenset({"mp4", "matroska", "gif"})
# A seek aims this far ahead of the wanted time, and twice as far each time that it lands behind it.
_SEEK_MARGIN_S = 0.5


def open_first(media: Media) -> cv2.VideoCapture | None:
    """OpenCV's decoder with the first frame grabbed; None where it does not decode, or not upright or with times."""
    if not media.container & _TIMED_CONTAINERS or media.cover_first:
        return None
    capture = open_capture(media.info.path)
    size_wh = (round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    if capture.isOpened() and size_wh == media.coded_size_wh and capture.grab():
        return capture
    capture.release()
    return None


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
            yield _position(capture) + offset_s, partial(_retrieve, capture, media.info.size_wh)
            if not capture.grab():
                return
    finally:
        capture.release()


def _position(capture: cv2.VideoCapture) -> float:
    return float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3


def _seek(media: Media, capture: cv2.VideoCapture, start_s: float, offset_s: float) -> cv2.VideoCapture:
    """Bring the capture to a grabbed frame at or before ``start_s``; OpenCV's own seek may land behind it.

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


def _retrieve(capture: cv2.VideoCapture, size_wh: tuple[int, int]) -> FrameBGR:
    _, image = capture.retrieve()
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[1::-1] != size_wh:  # pixels that are not square, or a size that changes within the file
        image = cv2.resize(image, size_wh)
    return np.asarray(image, np.uint8)
