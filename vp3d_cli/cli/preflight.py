"""Checks before the work starts: whether models and video exist. They load no heavy library, so they take no time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vp3d_cli.pipeline.settings import InferSettings


def check_models(settings: InferSettings, *, lifting: bool = True) -> None:
    """Check that the detector and the lifters that the settings name exist.

    Args:
        settings: name the detector and the lifters.
        lifting: False where only the detector is needed.

    Raises:
        ConfigError, MissingDependencyError: there is no such detector, or it is not installed.
        WeightsError: there is no such lifter, or its file is damaged.
    """
    from vp3d_cli.detect.base import find_detector
    from vp3d_cli.plugins import LIFTERS
    from vp3d_cli.weights import find_lifter

    if settings.keypoints is None:
        find_detector(settings.detector)[0].require()
    for name in (settings.lifter, settings.trajectory) if lifting else ():
        if name is not None and name not in LIFTERS:
            find_lifter(name)


def check_video(video: Path, settings: InferSettings) -> None:
    """Check that a video exists, can be read, and has the part that the settings ask for.

    Raises:
        VideoError: it does not, or has not.
    """
    from vp3d_cli.video import VideoReader

    VideoReader(video, settings.start_s, settings.end_s)
