"""What every decoder yields: times first, pictures when wanted."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

from vp3d_cli.types import FrameBGR

# A frame's time in seconds, and what gives its picture: frames that are only passed over are never converted to BGR.
TimedFrame = tuple[float, Callable[[], FrameBGR]]
TimedFrames = Generator[TimedFrame, None, None]


def decoded(time_s: float, image: FrameBGR) -> TimedFrame:
    """A frame whose picture is there already."""
    return time_s, partial(_itself, image)


def _itself(image: FrameBGR) -> FrameBGR:
    return image
