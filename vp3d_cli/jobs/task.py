"""What a worker does: load the models, make the results of a video, or find people in one chunk of a long one.

Videos and keypoints at URLs are copied in first. Results are made in ``.vp3d-batch/work`` beside their place, or in a
folder for temporary files, and get their names when they are whole. Whatever goes wrong comes back as an
:class:`Outcome`.
"""

from __future__ import annotations

import functools
import importlib
import json
import pickle
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vp3d_cli import __version__
from vp3d_cli.detect.base import find_detector
from vp3d_cli.errors import DetectorError, InputError, Vp3dError
from vp3d_cli.io.atomic import content_sha256, fingerprint
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.plan import KEYPOINTS, POSE, RENDER, BatchItem
from vp3d_cli.jobs.report import Outcome
from vp3d_cli.jobs.storage import Place, fetch, modification, publish, remove, write_bytes
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.runtime.devices import count_nvidia_gpus, torch_device
from vp3d_cli.runtime.load import find_target

if TYPE_CHECKING:
    from vp3d_cli.jobs.executor import Reporter
    from vp3d_cli.pipeline.chunks import Chunk

_LOADING, _READING, _FETCHING, _SENDING = "load", "read", "fetch", "send"
# Stages beside those of the pipeline, in words.
STAGES = {
    _LOADING: "loading the models",
    _READING: "reading the video",
    _FETCHING: "fetching the video",
    _SENDING: "sending the result",
}


@dataclass(frozen=True)
class Setup:
    """What holds for all tasks of a batch.

    Attributes:
        settings: of all videos, with paths from the root.
        format: of the 2D keypoints to write; empty where poses are made.
        command: what the user typed, for the provenance of results.
        threads: of each numerical library.
        processor: ``module:class`` that does the work, as :class:`Pipeline` does.
    """

    settings: InferSettings
    format: str = ""
    command: str = ""
    threads: int = 1
    processor: str = "vp3d_cli.jobs.task:Pipeline"


class VideoTask(NamedTuple):
    """A video to do, with paths from the root: what is needed of it, and the weights of the models to make it with.

    ``spent_s`` are the seconds that its chunks took, if other tasks have done them.
    """

    item: BatchItem
    needed: tuple[str, ...]
    weights: Mapping[str, str]
    spent_s: float = 0.0


@dataclass(frozen=True)
class LocalVideo:
    """A video whose files are all of this machine.

    Attributes:
        path: of the video, or of its copy.
        source: what the user calls it.
        keypoints: 2D keypoints that belong to it, or None.
        needed: kinds of result to make.
        files: kind of result to the file to write; and to the pose that is there, if it is only to be drawn.
        keep: file for detections, should the detector fail, for the next attempt; None to keep nothing.
        input: size, mtime and sha256 of the video, and sha256 of keypoints and joint map, for the provenance.
        spent_s: see :class:`VideoTask`.
    """

    path: Path
    source: str
    keypoints: Path | None
    needed: tuple[str, ...]
    files: Mapping[str, Path]
    keep: Path | None
    input: Mapping[str, Any]
    spent_s: float


class Made(NamedTuple):
    """One result that is whole: its kind, frames, people if known, and what the user should know."""

    kind: str
    frames: int
    people: int | None
    warnings: Sequence[str]


class Pipeline:
    """The stages of :mod:`vp3d_cli.pipeline.infer` for many videos, models loaded once."""

    def __init__(self, setup: Setup) -> None:
        """Load no model yet."""
        import cv2

        from vp3d_cli.pipeline.run import Models

        # The runtimes of networks and the libraries under numpy have it from the environment.
        cv2.setNumThreads(setup.threads)
        self._setup, self._models = setup, Models(setup.settings)

    @functools.cached_property
    def weights(self) -> Mapping[str, str]:
        """Role of a model to the SHA-256 of its weights; loads them.

        Raises:
            WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
        """
        models = self._models
        used = {} if self._setup.settings.keypoints is not None else {"detector": models.detector.sha256}
        if not self._setup.format:
            used["lifter"] = models.lifter.sha256
            if models.trajectory is not None:
                used["trajectory"] = models.trajectory.sha256
        return used

    @property
    def gpus(self) -> int:
        """NVIDIA GPUs on which detection and lifting run; 0 where one of them runs on the CPU."""
        settings, count = self._setup.settings, count_nvidia_gpus()
        if settings.device == "cpu" or count == 0 or find_target(settings.device).device != "CUDA":
            return 0
        if settings.keypoints is None and "torch" in find_detector(settings.detector)[0].requires:
            return count if torch_device(settings.device).type == "cuda" else 0
        return count

    def make(self, video: LocalVideo, report: Reporter) -> Iterator[Made]:
        """Write each result that is needed, and yield when it is whole.

        Raises:
            Vp3dError: the video cannot be done.
        """
        from vp3d_cli.io.poses.npz import read_npz
        from vp3d_cli.pipeline import api, chunks, drawing
        from vp3d_cli.pipeline.run import Run

        keypoints = None if video.keypoints is None else str(video.keypoints)
        settings = replace(self._setup.settings, keypoints=keypoints)
        # Chunks that other tasks have done lie in the cache.
        detector = None if keypoints is not None or video.needed == (RENDER,) else self._models.detector
        in_turn = functools.partial(chunks.detect_in_turn, detector=detector, resumed=False)
        provenance: dict[str, Any] = {"command": self._setup.command, "video": video.source, "input": dict(video.input)}
        provenance["earlier_seconds"] = video.spent_s
        run = Run(self._models, report, video.keep, in_turn, provenance)
        files = video.files
        if KEYPOINTS in video.needed:
            warnings = api.detect_to_file(video.path, files[KEYPOINTS], settings, run, format=self._setup.format)
            yield Made(KEYPOINTS, report.frames, None, warnings)
        if POSE in video.needed:
            pose = api.infer_to_file(video.path, files[POSE], settings, run)
            yield Made(POSE, pose.num_frames, pose.num_people, pose.provenance.get("warnings", ()))
        if RENDER in video.needed:
            pose = read_npz(files[POSE]) if POSE not in video.needed else pose
            warnings = []
            drawing.render(pose, video.path, files[RENDER], progress=report, warn=warnings.append)
            yield Made(RENDER, pose.num_frames, pose.num_people, warnings)

    def plan_chunks(self, video: Path, keep: Path) -> Sequence[Chunk]:
        """Cut a video as the settings say; none where it is to be done in one piece."""
        from vp3d_cli.pipeline.chunks import plan_chunks

        return plan_chunks(video, self._setup.settings, keep)

    def detect_chunk(self, chunk: Chunk, report: Reporter) -> None:
        """Find everyone in a chunk, and keep what was found in the file that it names."""
        from vp3d_cli.pipeline.chunks import detect_chunk

        detect_chunk(chunk, report, self._models.detector)


@functools.lru_cache(maxsize=1)
def _processor(setup: Setup) -> Pipeline:
    """The processor of this process, made when it is first needed."""
    module, _, name = setup.processor.partition(":")
    processor: Pipeline = getattr(importlib.import_module(module), name)(setup)
    return processor


# The tasks. Each returns an outcome, and raises nothing but what ends the process.


def load_models(setup: Setup, report: Reporter) -> Outcome:
    """Load the models; the value is their weights, and on how many GPUs they run."""
    return _outcome(setup, report, lambda processor: Outcome((dict(processor.weights), processor.gpus)))


def plan_chunks(setup: Setup, video: Path, keep: Path, report: Reporter) -> Outcome:
    """Cut a video into chunks, which are the value."""
    return _outcome(setup, report, lambda processor: Outcome(tuple(processor.plan_chunks(video, keep))))


def detect_chunk(setup: Setup, chunk: Any, report: Reporter) -> Outcome:
    """Find everyone in a chunk, and keep what was found beside the results."""

    def detect(processor: Pipeline) -> Outcome:
        processor.detect_chunk(chunk, report)
        return Outcome()

    return _outcome(setup, report, detect)


def make_results(setup: Setup, task: bytes, report: Reporter) -> Outcome:
    """Make what is needed of a video; reports ``made`` for each result that is in its place.

    Args:
        setup: of the batch.
        task: a pickled :class:`VideoTask`: stores that the processor brings are known once that is loaded.
        report: hears of it.
    """
    return _outcome(setup, report, lambda processor: _make(processor, setup, pickle.loads(task), report))


def _outcome(setup: Setup, report: Reporter, work: Callable[[Pipeline], Outcome]) -> Outcome:
    started, loaded = time.monotonic(), False
    report(_LOADING, 0, None)
    try:
        processor = _processor(setup)
        _ = processor.weights
        started, loaded = time.monotonic(), True
        report.event("started")
        return replace(work(processor), seconds=time.monotonic() - started)
    except Exception as error:  # noqa: BLE001 (goes to the batch, which tells the user)
        ours = not isinstance(error, Vp3dError)
        message = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError):
            message = "out of memory; try fewer --jobs"
        elif ours:
            message = f"unexpected {type(error).__name__}: {message}"
        return Outcome(
            seconds=time.monotonic() - started,
            error=message,
            kind=type(error).__name__,
            exit_code=getattr(error, "exit_code", 1),
            retry=ours or not loaded or isinstance(error, DetectorError),  # out of GPU memory, say
            stderr=traceback.format_exc() if ours or isinstance(error, DetectorError) else "",
            input=getattr(error, "input", {}),
        )


def _make(processor: Pipeline, setup: Setup, task: VideoTask, report: Reporter) -> Outcome:
    if dict(processor.weights) != task.weights:
        raise Vp3dError("the weights are others than when the batch began; run the same command again")
    path = task.item.input.path
    before = _modification(path)
    frames, people, warnings = 0, None, list[str]()
    with _staging(task) as (scratch, temporary):
        video, copies = _copied_in(task, setup, scratch, temporary, report)
        video = replace(video, input={**before, **video.input})
        with _original_names(copies, video.input):
            for made in processor.make(video, report):
                if _modification(path) != before:
                    raise InputError(f"{path} was changed while it was read; run again when it is complete")
                _publish(task, made.kind, video, setup, temporary[made.kind], report)
                report.event("made", kind=made.kind)
                frames, people = made.frames, people if made.people is None else made.people
                warnings += [_renamed(text, copies) for text in made.warnings]
    return Outcome(frames=frames, people=people, warnings=tuple(warnings), input=video.input)


def _modification(video: Place) -> dict[str, Any]:
    try:
        return modification(video)
    except OSError as error:
        raise InputError(f"no such video: {video} ({error.strerror or error}); is its disk there?") from error


@contextmanager
def _staging(task: VideoTask) -> Iterator[tuple[Path, dict[str, Place]]]:
    """A folder for copies, and for each kind one in the store of its target; all are removed in the end."""
    roots = task.item.roots
    folders = {kind: roots[kind] / STATE / "work" / uuid.uuid4().hex for kind in task.needed}
    for kind, folder in folders.items():
        if isinstance(folder, Path):
            if not roots[kind].is_dir():
                raise InputError(
                    f"there is no folder {roots[kind]} here: all machines of a cluster must see videos and results "
                    "under the same path; put them on a shared disk, or give URLs such as s3://..."
                )
            folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="vp3d-") as scratch:
            yield Path(scratch), folders
    finally:
        for folder in folders.values():
            remove(folder)


def _copied_in(
    task: VideoTask, setup: Setup, scratch: Path, temporary: Mapping[str, Place], report: Reporter
) -> tuple[LocalVideo, dict[str, str]]:
    """The video with copies of what is elsewhere; and what the user calls those."""
    item, copies = task.item, dict[str, str]()

    def here(place: Place, name: str) -> Path:
        if isinstance(place, Path):
            return place
        report(_FETCHING, 0, None)
        copy = fetch(place, scratch / name)
        copies[str(copy)] = str(place)
        return copy

    files: dict[str, Path] = {}
    if RENDER in task.needed and POSE not in task.needed:
        files[POSE] = here(item.targets[POSE], POSE)
    for kind, folder in temporary.items():
        own = folder if isinstance(folder, Path) else scratch / f"made-{kind}"
        own.mkdir(exist_ok=True)
        files[kind] = own / f"{kind}{item.targets[kind].suffix}"
    path = here(item.input.path, "video")
    keypoints = None if item.keypoints is None else here(item.keypoints, KEYPOINTS)
    hashed = {"sha256": path, "keypoints_sha256": keypoints, "joint_map_sha256": setup.settings.joint_map}
    try:
        input = {
            name: content_sha256(Path(file), lambda: report(_READING, 0, None))
            for name, file in hashed.items()
            if file is not None
        }
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}); check its permissions") from error
    source = str(item.input.path)
    return LocalVideo(path, source, keypoints, task.needed, files, item.keep_file, input, task.spent_s), copies


def _publish(task: VideoTask, kind: str, video: LocalVideo, setup: Setup, temporary: Place, report: Reporter) -> None:
    """Give a result its name, after its provenance was written where its format cannot hold it."""
    file, target = video.files[kind], task.item.targets[kind]
    if not isinstance(target, Path):
        report(_SENDING, 0, None)
    if kind == POSE or setup.format == "vp3d":
        publish(file, target, temporary)
        return
    provenance: dict[str, Any] = {
        "version": __version__,
        "command": setup.command,
        "video": video.source,
        "settings": asdict(setup.settings),
        "format": setup.format,
        "input": dict(video.input),
        "output": fingerprint(file),
        **{role: {"sha256": sha256} for role, sha256 in task.weights.items()},
    }
    note = task.item.provenance_file(kind)
    write_bytes(note, json.dumps(provenance).encode())
    publish(file, target, temporary)
    if not isinstance(target, Path):  # which has a time of its own
        provenance["output"] |= modification(target)
        write_bytes(note, json.dumps(provenance).encode())


@contextmanager
def _original_names(copies: Mapping[str, str], input: Mapping[str, Any]) -> Iterator[None]:
    """Errors that name what the user named and not our copies of it, and that know the video."""
    try:
        yield
    except Vp3dError as error:
        renamed = type(error)(_renamed(str(error), copies))
        renamed.__dict__["input"] = dict(input)
        raise renamed from error.__cause__


def _renamed(text: str, copies: Mapping[str, str]) -> str:
    for copy, original in copies.items():
        text = text.replace(copy, original)
    return text
