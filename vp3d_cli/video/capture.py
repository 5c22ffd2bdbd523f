"""Open a video with OpenCV, quietly."""

from __future__ import annotations

import os
from pathlib import Path

import cv2


def open_capture(path: Path) -> cv2.VideoCapture:
    """A capture by OpenCV's own FFmpeg; look at ``isOpened``.

    What OpenCV would write to stderr, this package says in its own errors and warnings.
    """
    # Read once, when OpenCV opens its first video: too late at import, if someone cleans the environment in between.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 and 4
    level = log.getLogLevel()
    log.setLogLevel(0)  # silent
    try:
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    finally:
        log.setLogLevel(level)
