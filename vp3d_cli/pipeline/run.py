"""One run of the pipeline: its models, progress report, cache and provenance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.io.atomic import fingerprint
from vp3d_cli.io.detections import Detections
from vp3d_cli.lift.base import Lifter
from vp3d_cli.lift.lifter import load_lifter
from vp3d_cli.pipeline.chunks import MapChunks
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.plugins import LIFTERS


class Models:
    """The models of a run: detector, lifter and trajectory model, each loaded on first use.

    Args:
        settings: which models, on which device.
    """

    def __init__(self, settings: InferSettings) -> None:
        self._settings = settings

    @cached_property
    def detector(self) -> Detector:
        """The detector; raises what :func:`vp3d_cli.detect.base.load_detector` does."""
        return load_detector(self._settings.detector, self._settings.device)

    @cached_property
    def lifter(self) -> Lifter:
        """The lifter; raises what :func:`vp3d_cli.lift.lifter.load_lifter` does."""
        name, device = self._settings.lifter, self._settings.device
        if name in LIFTERS:
            found: Lifter = LIFTERS.get(name).load(device)
            return found
        return load_lifter(name, device)

    @cached_property
    def trajectory(self) -> Lifter | None:
        """The root trajectory model; None if the settings name none."""
        name = self._settings.trajectory
        return None if name is None else load_lifter(name, self._settings.device, "trajectory")


@dataclass
class Run:
    """One run of the pipeline, apart from its video and settings.

    Attributes:
        models: of the settings.
        report: called with (stage, done, total) as frames pass ``detect`` and ``lift``.
        cache: detections file of an interrupted run; None keeps nothing.
        map_chunks: runs the chunks of a long video; None runs them in processes of this machine.
        provenance: what the result's provenance says besides, such as the command; ``earlier_seconds`` is added to the
            time that the run took.
        written: filled with the files that were written: formats that hold one person have a file for each.
    """

    models: Models
    report: Progress = no_progress
    cache: Path | None = None
    map_chunks: MapChunks | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)


def fingerprint_of(video: str) -> dict[str, Any]:
    """Size, modification time and sha256 of a video, which identify it; empty where there is no file."""
    return fingerprint(Path(video)) if video and Path(video).exists() else {}


def provenance_of(detections: Detections, settings: InferSettings, run: Run) -> dict[str, Any]:
    """Provenance of keypoints: version, video with its sha256, detector with its sha256, settings, warnings."""
    video = detections.video
    return {
        "version": version("vp3d"),
        "video": video,
        "input": run.provenance["input"] if "input" in run.provenance else fingerprint_of(video),
        **detections.source,
        "settings": dataclasses.asdict(settings),
        "warnings": list(detections.warnings),
        **{key: value for key, value in run.provenance.items() if key != "earlier_seconds"},
    }


def provenance_of_pose(detections: Detections, settings: InferSettings, run: Run, seconds: float) -> dict[str, Any]:
    """Provenance of a pose: that of its keypoints, lifters with their sha256, assumptions, timing."""
    seconds += run.provenance.get("earlier_seconds", 0.0)
    models = {"lifter": run.models.lifter, "trajectory": run.models.trajectory}
    return {
        **provenance_of(detections, settings, run),
        **{
            name: {"name": model.name, "sha256": model.sha256, "licence": model.licence}
            for name, model in models.items()
            if model is not None
        },
        "assumed": settings.assumptions(),
        "timing": {
            "seconds": seconds,
            "frames_per_second": len(detections) / seconds,
            "detector_seconds": detections.detector_seconds,
        },
    }
