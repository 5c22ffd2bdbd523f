"""What a worker does with a video: make what is missing, where it is staged; the batch moves it to its place.

What is elsewhere is copied here first, and what is made here is sent there.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vp3d_cli import __version__
from vp3d_cli.errors import InputError, OutputError, Vp3dError
from vp3d_cli.io.atomic import content_sha256
from vp3d_cli.jobs.fingerprint import Fingerprint, Glance, glance
from vp3d_cli.jobs.kept import KeptAfar
from vp3d_cli.jobs.messages import Order, Setup
from vp3d_cli.jobs.remote import Url, fetch, send, to_place
from vp3d_cli.runtime.devices import count_nvidia_gpus, torch_device

Progress = Callable[[str, int, int | None], None]
# Stages beside those of the pipeline: the input is read once more for its fingerprint, fetched, a result is sent.
HASHING, FETCHING, SENDING = "read", "fetch", "send"


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

    def share(self, order: Order, progress: Progress) -> dict[str, Any]:
        """Do a share of a video that several machines do together, and report; see :mod:`vp3d_cli.jobs.shares`.

        Raises:
            Vp3dError: it cannot be done.
        """
        ...


class Pipeline:
    """The processor of ``vp3d batch``: the stages of :mod:`vp3d_cli.pipeline.infer`, models loaded once."""

    def __init__(self, setup: Setup) -> None:
        """Load the models.

        Raises:
            WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
        """
        import cv2

        from vp3d_cli.jobs import shares
        from vp3d_cli.pipeline import drawing as pictures
        from vp3d_cli.pipeline import infer as pipeline

        # The runtimes of networks and the libraries under numpy have it from the environment.
        cv2.setNumThreads(setup.threads)
        self._setup = setup
        self._stages, self._pictures, self._shares = pipeline, pictures, shares
        self._models = pipeline.Models(setup.settings)
        self._wants_pose = setup.format == ""
        self.identity = {"version": __version__, "detector": "", "lifter": ""}
        if setup.settings.keypoints is None:
            self.identity["detector"] = f"{self._models.detector.name} {self._models.detector.sha256}"
        if self._wants_pose:
            self.identity["lifter"] = self._models.lifter.sha256 or content_sha256(Path(setup.settings.lifter))
        if self._wants_pose and self._models.trajectory is not None:
            weights = self._models.trajectory.sha256 or content_sha256(Path(str(setup.settings.trajectory)))
            self.identity["trajectory"] = weights
        self.gpus = count_nvidia_gpus() if _all_on_gpu(setup) else 0

    def process(self, order: Order, progress: Progress) -> Iterator[Made]:
        """Make pose and drawing, or keypoints, or a preview."""
        settings = dataclasses.replace(self._setup.settings, keypoints=order.keypoints)
        common: dict[str, Any] = {"settings": settings, "progress": progress, "models": self._models}
        common |= {"command": self._setup.command, "source": order.copies.get(order.video)}
        common |= {"keep": None if order.keep is None else Path(order.keep)}
        if order.share is not None:
            common["side_by_side"] = self._shares.taken_together(order, self._models.detector)
        pose = None
        if "pose" in order.needed:
            staged = order.staged["pose"]
            pose = self._stages.infer(order.video, staged, **common, spent_s=_spent_s(order))
            yield Made("pose", pose.num_frames, pose.num_people, list(pose.provenance.get("warnings", ())))
        if "render" in order.needed:
            if pose is None:
                from vp3d_cli.io.poses.npz import read_npz

                pose = read_npz(order.targets["pose"])
            self._pictures.render(pose, order.video, order.staged["render"], progress=progress)
            yield Made("render", pose.num_frames, pose.num_people, [])
        if "keypoints" in order.needed:
            staged, format = order.staged["keypoints"], self._setup.format
            count = _Counter(progress)
            warnings = self._stages.find_keypoints(order.video, staged, **{**common, "progress": count}, format=format)
            yield Made("keypoints", count.frames, 0, warnings)

    def share(self, order: Order, progress: Progress) -> dict[str, Any]:
        """Plan the parts of a video, or do one."""
        return self._shares.do_share(order, self._setup.settings, self._models.detector, progress)


class _Counter:
    """A progress that remembers how many frames went by."""

    def __init__(self, report: Progress) -> None:
        self.frames = 0
        self._report = report

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.frames = max(self.frames, done)
        self._report(stage, done, total)


def _all_on_gpu(setup: Setup) -> bool:
    """Whether detector and lifter both run on NVIDIA GPUs: more processes than GPUs would only wait for each other."""
    from vp3d_cli.detect.base import find_detector
    from vp3d_cli.runtime.load import find_target

    settings = setup.settings
    if settings.device == "cpu" or count_nvidia_gpus() == 0:
        return False
    on_gpu = find_target(settings.device).device == "CUDA"
    if on_gpu and settings.keypoints is None and "torch" in find_detector(settings.detector)[0].requires:
        return torch_device(settings.device).type == "cuda"
    return on_gpu


def carry_out(processor: Processor, order: Order, progress: Progress) -> Iterator[dict[str, Any]]:
    """Do a video, and yield for each result where it is staged, whole, and the facts that the journal keeps.

    Raises:
        InputError: the video was written to meanwhile, or cannot be fetched.
        OutputError: a result cannot be written.
        Vp3dError: what the processor raises.
    """
    video = to_place(order.video)
    started = time.monotonic() - _spent_s(order)
    before = _glance_if_there(video)
    kept = _kept_afar(order, progress)
    local = _brought_here(order, progress, kept)
    fingerprint: Fingerprint | None = None
    results = _speaking_of(local.copies, processor.process(local, progress))
    for made in results if kept is None else _returned(kept, results):
        if fingerprint is None:
            sha256 = content_sha256(Path(local.video), lambda: progress(HASHING, 0, None))
            fingerprint = Fingerprint(_glance_if_there(video) or Glance(str(video), 0, ""), sha256)
        if before is None or _glance_if_there(video) != before:
            raise InputError(f"{video} was changed while it was read; run again when it is complete")
        yield {
            "kind": made.kind,
            "input": fingerprint.as_json(),
            "staged": order.staged[made.kind],
            "sha256": _staged_whole(Path(local.staged[made.kind]), order.staged[made.kind], progress),
            "frames": made.frames,
            "people": made.people,
            "warnings": made.warnings,
            "seconds": time.monotonic() - started,
        }


def _spent_s(order: Order) -> float:
    """Seconds in which others did their shares of a video."""
    return 0.0 if order.share is None else float(order.share["spent_s"])


def _kept_afar(order: Order, progress: Progress) -> KeptAfar | None:
    """What is kept in a store, if it is."""
    place = None if order.keep is None else to_place(order.keep)
    if not isinstance(place, Url):
        return None
    progress(FETCHING, 0, None)
    return KeptAfar(place, Path(order.scratch) / "kept")


def _returned(kept: KeptAfar, results: Iterator[Made]) -> Iterator[Made]:
    with kept.sent_back():
        yield from results


def _brought_here(order: Order, progress: Progress, kept: KeptAfar | None) -> Order:
    """The order with copies of what is elsewhere."""
    copies = {**order.copies, **({} if kept is None else kept.names)}

    def here(text: str, name: str) -> str:
        place = to_place(text)
        if not isinstance(place, Url):
            return str(place)
        progress(FETCHING, 0, None)
        folder = Path(order.scratch) / name
        folder.mkdir(parents=True, exist_ok=True)
        copy = str(fetch(place, folder))
        copies[copy] = text
        return copy

    def staged_here(text: str, kind: str) -> str:
        place = to_place(text)
        return str(Path(order.scratch) / f"{kind}{place.suffix}") if isinstance(place, Url) else str(place)

    targets = {kind: here(text, kind) if is_read(kind, order.needed) else text for kind, text in order.targets.items()}
    staged = {kind: staged_here(text, kind) for kind, text in order.staged.items()}
    keypoints = None if order.keypoints is None else here(order.keypoints, "keypoints")
    video = here(order.video, "video")
    changes: dict[str, Any] = {"video": video, "keypoints": keypoints, "targets": targets, "staged": staged}
    if kept is not None:
        changes["keep"] = str(kept.here)
    return dataclasses.replace(order, **changes, copies=copies)


def is_read(kind: str, needed: Sequence[str]) -> bool:
    """Whether a result that is there is needed for another one: a pose, to be drawn."""
    return kind == "pose" and kind not in needed


def _speaking_of(copies: Mapping[str, str], results: Iterator[Made]) -> Iterator[Made]:
    """Results, and errors, that name what the user named and not our copies of it."""
    try:
        for made in results:
            yield made._replace(warnings=[_renamed(text, copies) for text in made.warnings])
    except Vp3dError as error:
        if not copies:
            raise
        raise type(error)(_renamed(str(error), copies)) from error


def _renamed(text: str, copies: Mapping[str, str]) -> str:
    for copy, original in copies.items():
        text = text.replace(copy, original)
    return text


def _glance_if_there(video: Path | Url) -> Glance | None:
    try:
        return glance(video)
    except OSError:
        return None  # opening it will say why


def _staged_whole(file: Path, staged: str, progress: Progress) -> str:
    """See that a result is on the disk, or in the store, where it is staged; returns its SHA-256."""
    try:
        sha256 = content_sha256(file)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())  # the name must not reach the disk before the content
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}); choose another folder") from error
    place = to_place(staged)
    if isinstance(place, Url):
        progress(SENDING, 0, None)
        send(file, place)
        file.unlink()
    return sha256
