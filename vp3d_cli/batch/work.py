"""What a worker does with a video: make what is missing, beside its place, and move it there when whole."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vp3d_cli import __version__
from vp3d_cli.batch.fingerprint import Fingerprint, content_sha256, glance, take_fingerprint
from vp3d_cli.batch.messages import Order, Setup
from vp3d_cli.errors import InputError, OutputError

Progress = Callable[[str, int, int | None], None]
HASHING = "read"  # a stage beside those of the pipeline: the input is read once more, for its fingerprint


class Made(NamedTuple):
    """One result that a processor wrote: its kind, frames, people, and what the user should know."""

    kind: str
    frames: int
    people: int
    warnings: list[str]


class Processor(Protocol):
    """Does videos; made once per worker by a function that takes a :class:`Setup`.

    Attributes:
        identity: what results depend on beside the settings: hashes of weights.
        gpus: number of GPUs on which everything heavy runs; 0 where something runs on the CPU.
    """

    identity: Mapping[str, str]
    gpus: int

    def process(self, order: Order, progress: Progress) -> Iterator[Made]:
        """Write each result that is needed to its staged path, and yield when it is whole.

        Raises:
            Vp3dError: the video cannot be done.
        """
        ...


class Pipeline:
    """The processor of ``vp3d batch``: the stages of :mod:`vp3d_cli.pipeline`, models loaded once."""

    def __init__(self, setup: Setup) -> None:
        """Load the models.

        Raises:
            WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
        """
        import cv2
        import torch

        from vp3d_cli import pictures, pipeline

        # onnxruntime and the libraries under numpy have it from the environment.
        torch.set_num_threads(setup.threads)
        cv2.setNumThreads(setup.threads)
        self._setup = setup
        self._stages, self._pictures = pipeline, pictures
        self._models = pipeline.Models(setup.settings)
        self._wants_pose = setup.format == ""
        self.identity = {"version": __version__, "detector": "", "lifter": ""}
        if setup.settings.keypoints is None:
            self.identity["detector"] = f"{self._models.detector.name} {self._models.detector.sha256}"
        if self._wants_pose:
            self.identity["lifter"] = self._models.lifter.sha256 or content_sha256(Path(setup.settings.lifter))
        self.gpus = torch.cuda.device_count() if _all_on_gpu(setup) else 0

    def process(self, order: Order, progress: Progress) -> Iterator[Made]:
        """Make pose and drawing, or keypoints, or a preview."""
        settings = dataclasses.replace(self._setup.settings, keypoints=order.keypoints)
        common: dict[str, Any] = {"settings": settings, "progress": progress, "models": self._models}
        pose = None
        if "pose" in order.needed:
            staged = order.staged["pose"]
            pose = self._stages.infer(order.video, staged, **common, command=self._setup.command)
            yield Made("pose", pose.num_frames, pose.num_people, list(pose.provenance.get("warnings", ())))
        if "render" in order.needed:
            if pose is None:
                from vp3d_cli.export.npz import read_npz

                pose = read_npz(order.targets["pose"])
            self._pictures.render(pose, order.video, order.staged["render"], progress=progress)
            yield Made("render", pose.num_frames, pose.num_people, [])
        if "keypoints" in order.needed:
            staged, format = order.staged["keypoints"], self._setup.format
            count = _Counter(progress)
            warnings = self._stages.find_keypoints(
                order.video, staged, **{**common, "progress": count}, format=format, command=self._setup.command
            )
            yield Made("keypoints", count.frames, 0, warnings)


class _Counter:
    """A progress that remembers how many frames went by."""

    def __init__(self, report: Progress) -> None:
        self.frames = 0
        self._report = report

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.frames = max(self.frames, done)
        self._report(stage, done, total)


def _all_on_gpu(setup: Setup) -> bool:
    """Whether detector and lifter both run on GPUs, so that more processes than GPUs only wait for each other."""
    import torch

    if setup.settings.device == "cpu" or not torch.cuda.is_available():
        return False
    if setup.settings.device == "cuda" or setup.settings.keypoints is not None:
        return True
    from vp3d_cli.detect.base import list_detectors, parse_detector

    if "onnxruntime" not in list_detectors()[parse_detector(setup.settings.detector)[0]].requires:
        return True
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def carry_out(processor: Processor, order: Order, progress: Progress) -> Iterator[dict[str, Any]]:
    """Do a video, move each result into place, and yield the facts of it that the journal keeps.

    Raises:
        InputError: the video was written to meanwhile.
        OutputError: a result cannot be moved into place.
        Vp3dError: what the processor raises.
    """
    video = Path(order.video)
    started = time.monotonic()
    before = _glance_if_there(video)
    fingerprint: Fingerprint | None = None
    for made in processor.process(order, progress):
        if fingerprint is None:
            fingerprint = take_fingerprint(video, lambda: progress(HASHING, 0, None))
        if before is None or glance(video) != before:
            raise InputError(f"{video} was changed while it was read; run again when it is complete")
        output = _put_in_place(Path(order.staged[made.kind]), Path(order.targets[made.kind]))
        yield {
            "kind": made.kind,
            "input": fingerprint.as_json(),
            "output": output.as_json(),
            "frames": made.frames,
            "people": made.people,
            "warnings": made.warnings,
            "seconds": time.monotonic() - started,
        }


def _glance_if_there(video: Path) -> Any:
    try:
        return glance(video)
    except OSError:
        return None  # opening it will say why


def _put_in_place(staged: Path, target: Path) -> Fingerprint:
    """Give a whole file its name, and take the fingerprint by which it is known later."""
    try:
        sha256 = content_sha256(staged)
        with staged.open("rb") as file:
            os.fsync(file.fileno())  # the name must not reach the disk before the content
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, target)
        return Fingerprint(glance(target), sha256)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error
