"""Runs of the pipeline with settings and models of a test's own."""

from __future__ import annotations

from pathlib import Path

from vp3d_cli.io.detections import Detections
from vp3d_cli.pipeline import api
from vp3d_cli.pipeline.detection_cache import cache_path
from vp3d_cli.pipeline.infer import detect_people, track_and_select
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import Track2D

DEFAULTS = InferSettings()


def run_of(settings: InferSettings, out: Path | None, models: Models | None = None) -> Run:
    return Run(models or Models(settings), cache=None if out is None else cache_path(out))


def infer(
    video: Path,
    out: Path | None = None,
    *,
    settings: InferSettings = DEFAULTS,
    models: Models | None = None,
    overwrite: bool = False,
) -> Pose3D:
    return api.infer_to_file(video, out, settings, run_of(settings, out, models), overwrite=overwrite)


def find_keypoints(
    video: Path, out: Path, *, settings: InferSettings = DEFAULTS, overwrite: bool = False, format: str = "vp3d"
) -> list[str]:
    return api.detect_to_file(video, out, settings, run_of(settings, out), overwrite=overwrite, format=format)


def detect_and_track(
    video: Path, settings: InferSettings, models: Models | None = None, cache: Path | None = None
) -> tuple[Detections, list[Track2D]]:
    run = Run(models or Models(settings), cache=cache)
    detections = detect_people(video, settings, run)
    return detections, track_and_select(detections, settings)
