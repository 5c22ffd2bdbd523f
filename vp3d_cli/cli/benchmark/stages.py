"""Benchmark of each stage, and of all stages together.

Every stage runs over the same frames, already in memory, so that one does not pay for another; "end to end" is
:func:`vp3d_cli.pipeline.api.infer` from the file, where decoding and the rest overlap with detection as they do in
use.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

import vp3d_cli
from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import InputError, NobodyFoundError
from vp3d_cli.lift.lifter import Lifter, load_lifter
from vp3d_cli.pipeline.infer import Motion, infer_video, lift_person, place_in_world
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.layouts import FrameRenderer
from vp3d_cli.track import track_people
from vp3d_cli.types import Frame, FrameBGR, Keypoints2D, VideoInfo
from vp3d_cli.video import VideoReader, VideoWriter

END_TO_END = "end to end"
# Decoded and drawn frames are held in memory, at most so many bytes of each.
_FRAMES_BYTES = 1 << 30

Report = Callable[[str, int, int | None], None]
_Result = TypeVar("_Result")


class Spent(NamedTuple):
    """Wall-clock seconds, and CPU seconds of this process on all cores."""

    wall: float
    cpu: float

    @classmethod
    def until_now(cls) -> Spent:
        """Return the times now, relative to some moment in the past."""
        return cls(time.perf_counter(), time.process_time())

    @classmethod
    def nothing(cls) -> Spent:
        """Return zero times."""
        return cls(0.0, 0.0)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def times(self, factor: float) -> Spent:
        """Return both times multiplied by ``factor``."""
        return Spent(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True)
class StageSpeed:
    """Speed of one stage: median seconds for all frames, frames per second, and CPU seconds.

    CPU seconds are those of this process on all cores.
    """

    stage: str
    seconds: float
    frames_per_second: float
    cpu_seconds: float


@dataclass(frozen=True)
class BenchResult:
    """Result of the benchmark.

    Attributes:
        video: the clip.
        size_wh: pixels.
        frames: that each stage handled.
        people: found in them.
        repeats: that the medians are of.
        stages: each by itself, then end to end (from file to pose, models loaded, nothing drawn).
        loading_seconds: to load the models, a part of end to end.
        ratio_to_detector: speed of end to end over that of the detector alone, the median of the rounds' own.
        cpu_ratio_to_detector: the same by seconds of all cores: what it would be without any overlap, and the figure to
            go by where other programs keep the cores busy.
    """

    video: str
    size_wh: tuple[int, int]
    frames: int
    people: int
    repeats: int
    stages: tuple[StageSpeed, ...]
    loading_seconds: float
    ratio_to_detector: float
    cpu_ratio_to_detector: float


def example_clip() -> Path:
    """The example of a source checkout.

    Raises:
        InputError: vp3d was installed without it.
    """
    path = Path(vp3d_cli.__file__).resolve().parent.parent / "examples" / "demo.mp4"
    if not path.is_file():
        raise InputError("this installation has no example clip; give a video: vp3d bench VIDEO")
    return path


def bench(
    video: Path,
    settings: InferSettings,
    *,
    max_frames: int = 300,
    repeats: int = 3,
    report: Report = lambda stage, done, total: None,
) -> BenchResult:
    """Time every stage on a video.

    Args:
        video: file or folder of images.
        settings: detector, lifter, device and the like.
        max_frames: use the beginning of the video only.
        repeats: how often each stage runs.
        report: called with ("bench", done, total).

    Raises:
        VideoError: the video cannot be read.
        NobodyFoundError: there is nobody in it, so that most stages have nothing to do.
    """
    info, frames = _first_frames(video, settings, max_frames)
    settings = replace(settings, end_s=_end_of(frames, info))
    seconds: dict[str, list[Spent]] = {}
    people = 0
    for number in range(repeats):
        report("bench", number, repeats)
        people = _one_round(video, info, frames, settings, seconds)
    report("bench", repeats, repeats)
    medians = {stage: median(s.wall for s in values) for stage, values in seconds.items()}
    cpu = {stage: median(s.cpu for s in values) for stage, values in seconds.items()}
    loading = medians.pop("load")
    rounds = list(zip(seconds["detect"], seconds[END_TO_END], strict=True))
    return BenchResult(
        video=str(video),
        size_wh=info.size_wh,
        frames=len(frames),
        people=people,
        repeats=repeats,
        stages=tuple(StageSpeed(stage, s, len(frames) / s, cpu[stage]) for stage, s in medians.items()),
        loading_seconds=loading,
        ratio_to_detector=median(alone.wall / whole.wall for alone, whole in rounds),
        cpu_ratio_to_detector=median(alone.cpu / whole.cpu for alone, whole in rounds),
    )


def _one_round(
    video: Path, info: VideoInfo, frames: Sequence[Frame], settings: InferSettings, seconds: dict[str, list[Spent]]
) -> int:
    """Run every stage once, add the seconds of each to ``seconds``, and count the people."""

    def timed(stage: str, function: Callable[[], _Result], less: Callable[[], Spent] = Spent.nothing) -> _Result:
        started = Spent.until_now()
        result = function()
        seconds.setdefault(stage, []).append(Spent.until_now() - started - less())
        return result

    detector, lifter = timed("load", lambda: _load(settings))
    times = np.array([frame.time_s for frame in frames])
    camera = settings.camera(info.size_wh).as_tuple()
    timed("decode", lambda: _decode(video, settings))
    detections = timed("detect", lambda: _detect(detector, [frame.image for frame in frames]))
    stopwatch = _TimedLifter(lifter)

    def track_and_lift() -> list[Motion]:
        tracks = track_people(detections, times, info.size_wh, max_people=settings.max_people)
        if not tracks:
            raise NobodyFoundError(f"{video}: nobody was found in {len(frames)} frames; bench needs people")
        watched = cast(Lifter, stopwatch)
        return [lift_person(track, times, watched, camera, info.size_wh, settings) for track in tracks]

    motions = timed("track and preprocess", track_and_lift, less=lambda: stopwatch.spent)
    seconds.setdefault("lift", []).append(stopwatch.spent)
    timed("world", lambda: place_in_world(motions, times))
    pose = timed(END_TO_END, lambda: infer_video(video, settings, Run(Models(settings))))
    renderer = FrameRenderer(pose, info.size_wh)
    drawable = min(len(frames), _FRAMES_BYTES // (renderer.size_wh[0] * renderer.size_wh[1] * 3))
    drawn = timed("draw", lambda: [renderer.draw(frame) for frame in frames[:drawable]])
    timed("encode", lambda: _encode(drawn, renderer.size_wh, pose))
    for stage in ("draw", "encode"):  # as if all frames had been in memory at once
        seconds[stage][-1] = seconds[stage][-1].times(len(frames) / drawable)
    seconds[END_TO_END] = seconds.pop(END_TO_END)  # the last row
    return pose.num_people


def _first_frames(video: Path, settings: InferSettings, max_frames: int) -> tuple[VideoInfo, list[Frame]]:
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        fitting = max(1, _FRAMES_BYTES // (reader.info.width * reader.info.height * 3))
        return reader.info, list(islice(reader, min(max_frames, fitting)))


def _end_of(frames: Sequence[Frame], info: VideoInfo) -> float:
    """A time after the last of these frames and before the next one."""
    return frames[-1].time_s + 0.5 / info.fps


def _load(settings: InferSettings) -> tuple[Detector, Lifter]:
    return load_detector(settings.detector, settings.device), load_lifter(settings.lifter, settings.device)


def _decode(video: Path, settings: InferSettings) -> None:
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        for _ in reader:
            pass


def _detect(detector: Detector, images: Sequence[FrameBGR]) -> list[Keypoints2D]:
    """The bare detector loop."""
    detector.reset()
    people: list[Keypoints2D] = []
    for start in range(0, len(images), detector.batch_size):
        people += detector.detect(images[start : start + detector.batch_size])
    return people


def _encode(images: Sequence[FrameBGR], size_wh: tuple[int, int], pose: Pose3D) -> None:
    with tempfile.TemporaryDirectory() as folder:
        times = pose.frame_times_s[: len(images)]
        with VideoWriter(Path(folder) / "side.mp4", size_wh, frame_times_s=times) as writer:
            for image in images:
                writer.write(image)


class _TimedLifter:
    """A lifter that measures its lifting time, and otherwise acts as the wrapped one."""

    def __init__(self, lifter: Lifter) -> None:
        self._lifter = lifter
        self.spent = Spent.nothing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lifter, name)

    def lift(self, *arguments: Any, **options: Any) -> Any:
        started = Spent.until_now()
        try:
            return self._lifter.lift(*arguments, **options)
        finally:
            self.spent = self.spent - (started - Spent.until_now())
