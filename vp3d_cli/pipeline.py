"""From a video to 3D motion: the stages, in order. Read this first."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vp3d_cli.camera import DEFAULT_FOV_DEG, Intrinsics
from vp3d_cli.condition import fill_gaps, resample, smooth, smooth_joints, uniform_times
from vp3d_cli.detect.base import DEFAULT_DETECTOR, Detector, load_detector
from vp3d_cli.errors import ConfigError, NobodyFoundError
from vp3d_cli.export import export_pose
from vp3d_cli.export.base import check_target
from vp3d_cli.ground import to_world
from vp3d_cli.lift.pose import DEFAULT_LIFTER, LIFTER_HEIGHT_M, Lifter, load_lifter
from vp3d_cli.lift.trajectory import fit_trajectory, smooth_trajectory
from vp3d_cli.render.side_by_side import SideBySideRenderer, check_fits
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.track import CutDetector, track_people
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR, Keypoints2D, Pose3D, Track2D, VideoInfo
from vp3d_cli.video import VideoReader, VideoWriter

# A person who is not seen for longer than this is taken to be out of view; shorter gaps are filled and marked.
MAX_GAP_S = 0.5

Progress = Callable[[str, int, int | None], None]  # stage, frames done, frames in all (None if not known)


@dataclass(frozen=True)
class InferSettings:
    """What a user may choose.

    Attributes:
        detector, lifter: names in their registries, or the path of a lifter file.
        max_people: keep the main people only; None for all.
        start_s, end_s: part of the video, seconds of its own time.
        intrinsics: fx, fy, cx, cy in pixels; wins over ``fov_deg``.
        fov_deg: field of view along the longer side; None takes 60 degrees.
        smooth: strength; 0 is off, 1 usual.
        device: ``auto``, ``cpu`` or ``cuda``.
        flip: average with the answer for the mirrored input.
        height_m: body height of the people, which sets the scale: one camera cannot tell size from distance.

    Raises:
        ConfigError: a value is out of range.
    """

    detector: str = DEFAULT_DETECTOR
    lifter: str = DEFAULT_LIFTER
    max_people: int | None = None
    start_s: float = 0.0
    end_s: float | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    fov_deg: float | None = None
    smooth: float = 1.0
    device: str = "auto"
    flip: bool = True
    height_m: float = 1.7

    def __post_init__(self) -> None:
        if self.max_people is not None and self.max_people < 1:
            raise ConfigError(f"max_people must be at least 1, got {self.max_people}")
        if not (math.isfinite(self.smooth) and self.smooth >= 0):
            raise ConfigError(f"smooth must be 0 or more, got {self.smooth}")
        if not 0.3 <= self.height_m <= 3.0:
            raise ConfigError(f"height must be between 0.3 and 3 metres, got {self.height_m}")
        if self.intrinsics is not None and self.fov_deg is not None:
            raise ConfigError("give intrinsics or a field of view, not both")
        self.camera((1920, 1080))

    def camera(self, size_wh: tuple[int, int]) -> Intrinsics:
        """The camera for a video of this size."""
        if self.intrinsics is not None:
            return Intrinsics(*self.intrinsics)
        return Intrinsics.from_fov(DEFAULT_FOV_DEG if self.fov_deg is None else self.fov_deg, size_wh)


def infer(
    video: str | Path,
    out: str | Path | None = None,
    *,
    settings: InferSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: str | None = None,
) -> Pose3D:
    """Find everyone in a video and lift them to 3D.

    Args:
        video: a video file or a folder of images.
        out: pose file to write; None writes none.
        settings: what to do; the defaults suit most videos.
        progress: called with (stage, done, total) as frames pass ``detect`` and ``lift``.
        overwrite: replace ``out`` if it exists.
        command: recorded in the result's provenance.

    Returns:
        Everyone's motion.

    Raises:
        VideoError: the video cannot be read.
        NobodyFoundError: nobody was found in it.
        OutputError: ``out`` cannot be written.
        WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
    """
    settings = settings or InferSettings()
    report = progress or (lambda stage, done, total: None)
    if out is not None:
        check_target(Path(out), overwrite)
    started = time.perf_counter()
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        detector = load_detector(settings.detector, settings.device)
        lifter = load_lifter(settings.lifter, settings.device)
        seen = detect(reader, detector, report, settings)

    info, times = reader.info, seen.times_s
    intrinsics = settings.camera(info.size_wh).as_tuple()
    tracks = track_people(seen.people, times, info.size_wh, max_people=settings.max_people, cuts=seen.cuts)
    if not tracks:
        raise NobodyFoundError(f"{video}: nobody was found in {len(times)} frames")
    motions: list[Motion] = []
    for track in tracks:
        report("lift", len(motions) * len(times), len(tracks) * len(times))
        motions.append(lift_person(track, times, lifter, intrinsics, info.size_wh, settings))
    report("lift", len(tracks) * len(times), len(tracks) * len(times))

    joints = np.stack([motion.joints for motion in motions])
    roots = np.stack([motion.root for motion in motions])
    weights = np.stack([motion.weight for motion in motions])
    world = to_world(joints, roots, weights, times)
    conditioned = [motion.track for motion in motions]
    seconds = time.perf_counter() - started
    pose = Pose3D(
        joints_3d=joints,
        trajectory=roots,
        joints_world=world.joints_world,
        keypoints_2d=np.stack([track.keypoints for track in conditioned]),
        scores_2d=np.stack([track.scores for track in conditioned]),
        boxes_xyxy=np.stack([track.boxes_xyxy for track in conditioned]),
        observed=np.stack([track.observed for track in conditioned]),
        frame_times_s=times,
        fps=info.fps,
        video_size_wh=info.size_wh,
        intrinsics=intrinsics,
        person_ids=tuple(track.person_id for track in tracks),
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=COCO17.joints,
        provenance={
            "version": version("vp3d"),
            "command": command,
            "video": str(video),
            "detector": {"name": detector.name, "sha256": detector.sha256},
            "lifter": {"name": lifter.name, "sha256": lifter.sha256, "licence": lifter.info.licence},
            "settings": dataclasses.asdict(settings),
            "assumed": _assumptions(settings),
            "warnings": list(reader.warnings),
            "timing": {
                "seconds": seconds,
                "frames_per_second": len(times) / seconds,
                "detector_seconds": seen.detector_s,
            },
        },
    )
    if out is not None:
        export_pose(pose, out, overwrite=overwrite)
    return pose


class Seen(NamedTuple):
    """What the detector saw: for each of T frames its time and its people; the first frames after camera cuts."""

    times_s: DoubleArray
    people: list[Keypoints2D]
    cuts: list[int]
    detector_s: float


def detect(reader: VideoReader, detector: Detector, report: Progress, settings: InferSettings) -> Seen:
    """Run the detector over a video. Frames are decoded in the reader's thread and dropped once seen."""
    times: list[float] = []
    people: list[Keypoints2D] = []
    cuts: list[int] = []
    cut_detector = CutDetector()
    busy = 0.0
    total = _frames_expected(reader.info, settings)
    report("detect", 0, total)
    detector.reset()
    for frames in _batches(reader, detector.batch_size):
        before = time.perf_counter()
        for images, is_cut in _split_at_cuts([frame.image for frame in frames], cut_detector):
            if is_cut:
                cuts.append(len(people))
                detector.reset()
            people += detector.detect(images)
        busy += time.perf_counter() - before
        times += [frame.time_s for frame in frames]
        report("detect", len(people), max(total, len(people)) if total else None)
    report("detect", len(people), len(people))
    return Seen(np.array(times), people, cuts, busy)


class Motion(NamedTuple):
    """One person in 3D, T frames; NaN where out of view.

    ``joints`` (T, 17, 3) root-relative and ``root`` (T, 3), metres, camera axes; ``weight`` (T,) trust in the root.
    """

    track: Track2D
    joints: FloatArray
    root: FloatArray
    weight: FloatArray


def lift_person(
    track: Track2D,
    times_s: DoubleArray,
    lifter: Lifter,
    intrinsics: tuple[float, float, float, float],
    size_wh: tuple[int, int],
    settings: InferSettings,
) -> Motion:
    """Condition one track, lift it, and place it in front of the camera."""
    track = smooth(fill_gaps(track, times_s, max_gap_s=MAX_GAP_S), times_s, settings.smooth)
    frames = len(times_s)
    joints = np.full((frames, 17, 3), np.nan, np.float32)
    root = np.full((frames, 3), np.nan, np.float32)
    weight = np.zeros(frames, np.float32)
    rate = lifter.rule.rate_hz
    for start, stop in _stretches(track):
        own_times = times_s[start:stop]
        even_times = uniform_times(own_times, rate)
        keypoints = resample(track.keypoints[start:stop], own_times, even_times)
        scores = np.clip(resample(track.scores[start:stop], own_times, even_times), 0.0, 1.0)

        lifted = lifter.lift(keypoints, scores, intrinsics, size_wh, flip_test=settings.flip)
        lifted = lifted * (settings.height_m / LIFTER_HEIGHT_M)
        lifted = smooth_joints(lifted, even_times, settings.smooth)
        path, trust = fit_trajectory(lifted, keypoints, scores, intrinsics)
        path = smooth_trajectory(path, trust, rate)

        joints[start:stop] = resample(lifted, even_times, own_times)
        root[start:stop] = resample(path, even_times, own_times)
        weight[start:stop] = np.interp(own_times, even_times, trust)
    return Motion(track, joints, root, weight)


def render(
    pose: Pose3D,
    video: str | Path,
    out: str | Path,
    *,
    height: int = 720,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Draw footage and 3D side by side: mp4, or gif if the name ends so.

    Args:
        pose: the motion.
        video: that it was made from.
        out: file to write.
        height: of the result in pixels.
        overwrite: replace ``out`` if it exists.
        progress: called with ("render", done, total).

    Raises:
        InputError: the pose is not of this video.
        OutputError: ``out`` cannot be written.
    """
    report = progress or (lambda stage, done, total: None)
    with VideoReader(video) as reader:
        check_fits(pose, reader.info)
        renderer = SideBySideRenderer(pose, reader.info.size_wh, height)
        with VideoWriter(
            out, renderer.size_wh, frame_times_s=pose.frame_times_s, audio_from=video, overwrite=overwrite
        ) as writer:
            done = 0
            for frame in reader:
                if frame.time_s > pose.frame_times_s[-1] + 1.0:
                    break
                if renderer.covers(frame.time_s):
                    writer.write(renderer.draw(frame))
                    done += 1
                    report("render", done, pose.num_frames)
    return Path(out)


@dataclass(frozen=True)
class PersonSummary:
    """One person: seconds in view, frames in which a keypoint was filled in, mean confidence of seen keypoints."""

    person_id: int
    seconds_seen: float
    frames_filled: int
    mean_confidence: float


@dataclass(frozen=True)
class Summary:
    """What was found in a video; seconds of work and speed where the pose file knows them."""

    frames: int
    people: tuple[PersonSummary, ...]
    seconds: float | None
    frames_per_second: float | None


def summarize(pose: Pose3D) -> Summary:
    """Facts of a pose that fit on a screen."""
    times = pose.frame_times_s
    period = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / pose.fps
    people = []
    for p, person_id in enumerate(pose.person_ids):
        in_view = np.isfinite(pose.joints_3d[p]).all(axis=(1, 2))
        observed = pose.observed[p]
        scores = pose.scores_2d[p][observed]
        people.append(
            PersonSummary(
                person_id,
                float(in_view.sum() * period),
                int((in_view & ~observed.all(axis=1)).sum()),
                float(scores.mean()) if scores.size else 0.0,
            )
        )
    timing = pose.provenance.get("timing", {})
    return Summary(len(times), tuple(people), timing.get("seconds"), timing.get("frames_per_second"))


def _batches(reader: VideoReader, size: int) -> Iterator[list[Any]]:
    frames = iter(reader)
    while batch := list(islice(frames, size)):
        yield batch


def _split_at_cuts(images: Sequence[FrameBGR], cut_detector: CutDetector) -> Iterator[tuple[list[FrameBGR], bool]]:
    """Runs of frames of one shot, each with whether it begins with a camera cut."""
    run: list[FrameBGR] = []
    begins_with_cut = False
    for image in images:
        if cut_detector.update(image):
            if run:
                yield run, begins_with_cut
            run, begins_with_cut = [], True
        run.append(image)
    if run:
        yield run, begins_with_cut


def _stretches(track: Track2D) -> list[tuple[int, int]]:
    """Runs of frames in which the person has keypoints."""
    there = np.isfinite(track.keypoints).all(axis=2).max(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _frames_expected(info: VideoInfo, settings: InferSettings) -> int | None:
    """How many frames there will be, about; None if the container does not say."""
    if info.duration_s is None:
        return info.frame_count
    end_s = info.duration_s if settings.end_s is None else min(settings.end_s, info.duration_s)
    return max(1, round((end_s - settings.start_s) * info.fps))


def _assumptions(settings: InferSettings) -> dict[str, Any]:
    """What was taken for granted because the user did not say."""
    assumed: dict[str, Any] = {"height_m": settings.height_m, "camera": "does not move"}
    if settings.intrinsics is None:
        assumed["fov_deg"] = DEFAULT_FOV_DEG if settings.fov_deg is None else settings.fov_deg
    return assumed
