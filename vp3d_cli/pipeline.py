"""From a video to 3D motion: the stages, in order. Read this first.

:func:`infer` is the whole way; :func:`watch` is its first half (2D: everyone's keypoints and identities) and
:func:`lift_person` its second (3D). :func:`find_keypoints` stops after the first; :mod:`vp3d_cli.pictures` draws.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vp3d_cli.condition import MAX_GAP_S, fill_gaps, resample, smooth, smooth_joints, uniform_times
from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import InputError, NobodyFoundError
from vp3d_cli.export import export_pose
from vp3d_cli.files import check_target
from vp3d_cli.ground import to_world
from vp3d_cli.keypoint_files import read_keypoints, write_keypoints
from vp3d_cli.lift.pose import LIFTER_HEIGHT_M, Lifter, load_lifter
from vp3d_cli.lift.trajectory import fit_trajectory, smooth_trajectory
from vp3d_cli.settings import InferSettings
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.summary import Summary, summarize
from vp3d_cli.track import CutDetector, select_in_roi, select_people, track_people
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR, Keypoints2D, Pose3D, Track2D, VideoInfo
from vp3d_cli.video import VideoReader

__all__ = [
    "InferSettings",
    "Models",
    "Progress",
    "Summary",
    "find_keypoints",
    "infer",
    "summarize",
    "watch",
]

Progress = Callable[[str, int, int | None], None]  # stage, frames done, frames in all (None if not known)

# The lifter's answer is smoothed more than its input: on 40 held-out shots with simulated detections at 60 fps,
# factors of 1, 2, 3, 4 left a velocity error of 4.82, 4.63, 4.62, 4.69 mm per frame and an N-MPJPE of 92.2, 92.0,
# 92.3, 93.0 mm.
_LIFTED_SMOOTHING = 2.0


class Models:
    """The detector and the lifter of some settings, loaded when first needed and then kept.

    Who has many videos to do hands the same one to each call. Serves one video at a time.
    """

    def __init__(self, settings: InferSettings) -> None:
        self._settings = settings

    @cached_property
    def detector(self) -> Detector:
        """Finds people; raises what :func:`vp3d_cli.detect.base.load_detector` does."""
        return load_detector(self._settings.detector, self._settings.device)

    @cached_property
    def lifter(self) -> Lifter:
        """Lifts them; raises what :func:`vp3d_cli.lift.pose.load_lifter` does."""
        return load_lifter(self._settings.lifter, self._settings.device)


def infer(
    video: str | Path,
    out: str | Path | None = None,
    *,
    settings: InferSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: str | None = None,
    models: Models | None = None,
) -> Pose3D:
    """Find everyone in a video and lift them to 3D.

    Args:
        video: a video file or a folder of images.
        out: pose file to write; None writes none.
        settings: what to do; the defaults suit most videos.
        progress: called with (stage, done, total) as frames pass ``detect`` and ``lift``.
        overwrite: replace ``out`` if it exists.
        command: recorded in the result's provenance.
        models: of the same settings, already loaded; None loads them.

    Returns:
        Everyone's motion.

    Raises:
        VideoError: the video cannot be read.
        NobodyFoundError: nobody was found in it.
        OutputError: ``out`` cannot be written.
        WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
    """
    settings = settings or InferSettings()
    report = progress or silent
    if out is not None:
        check_target(Path(out), overwrite)
    started = time.perf_counter()
    models = models or Models(settings)
    lifter = models.lifter
    scene = watch(video, settings, report, models)
    times, size_wh = scene.times_s, scene.info.size_wh
    intrinsics = settings.camera(size_wh).as_tuple()

    motions: list[Motion] = []
    for done, track in enumerate(scene.tracks):
        report("lift", done * len(times), len(scene.tracks) * len(times))
        motions.append(lift_person(track, times, lifter, intrinsics, size_wh, settings))
    report("lift", len(motions) * len(times), len(motions) * len(times))
    joints = np.stack([motion.joints for motion in motions])
    roots = np.stack([motion.root for motion in motions])
    world = to_world(joints, roots, np.stack([motion.weight for motion in motions]), times)

    seconds = time.perf_counter() - started
    pose = Pose3D(
        joints_3d=joints,
        trajectory=roots,
        joints_world=world.joints_world,
        keypoints_2d=np.stack([motion.track.keypoints for motion in motions]),
        scores_2d=np.stack([motion.track.scores for motion in motions]),
        boxes_xyxy=np.stack([motion.track.boxes_xyxy for motion in motions]),
        observed=np.stack([motion.track.observed for motion in motions]),
        frame_times_s=times,
        fps=scene.info.fps,
        video_size_wh=size_wh,
        intrinsics=intrinsics,
        person_ids=tuple(track.person_id for track in scene.tracks),
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=COCO17.joints,
        provenance={
            **_provenance(video, scene, settings, command),
            "lifter": {"name": lifter.name, "sha256": lifter.sha256, "licence": lifter.info.licence},
            "assumed": settings.assumptions(),
            "timing": {
                "seconds": seconds,
                "frames_per_second": len(times) / seconds,
                "detector_seconds": scene.detector_s,
            },
        },
    )
    if out is not None:
        export_pose(pose, out, overwrite=overwrite)
    return pose


class Scene(NamedTuple):
    """A video watched in 2D: everyone's track over its T frames, and where the keypoints come from."""

    info: VideoInfo
    times_s: DoubleArray
    tracks: list[Track2D]
    source: dict[str, Any]
    detector_s: float
    warnings: list[str]


def watch(video: str | Path, settings: InferSettings, report: Progress, models: Models | None = None) -> Scene:
    """Find and follow everyone in a video, or take the keypoints that the user brings.

    Raises:
        NobodyFoundError: nobody is in it, or nobody whom the user asked for.
        VideoError, InputError, WeightsError, MissingDependencyError, ConfigError: see :func:`infer`.
    """
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        if settings.keypoints is not None:
            seen, source, warnings = take_keypoints(reader, settings, report)
        else:
            detector = (models or Models(settings)).detector
            source = {"detector": {"name": detector.name, "sha256": detector.sha256}}
            seen, warnings = detect(reader, detector, report, settings), []
    size_wh = reader.info.size_wh
    tracks = seen.tracks
    if tracks is None:
        tracks = track_people(seen.people, seen.times_s, size_wh, cuts=seen.cuts)
    if not tracks:
        raise NobodyFoundError(f"{video}: nobody was found in {len(seen.times_s)} frames")
    if settings.roi is not None:
        tracks = select_in_roi(tracks, settings.roi)
    if settings.person is not None:
        tracks = select_people(tracks, settings.person, size_wh)
    tracks = tracks[: settings.max_people]
    return Scene(reader.info, seen.times_s, tracks, source, seen.busy_s, [*reader.warnings, *warnings])


class Seen(NamedTuple):
    """What was seen in each of T frames: its time and its people; identities where the source has them."""

    times_s: DoubleArray
    people: list[Keypoints2D]
    cuts: list[int]
    busy_s: float
    tracks: list[Track2D] | None = None


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


def take_keypoints(
    reader: VideoReader, settings: InferSettings, report: Progress
) -> tuple[Seen, dict[str, Any], list[str]]:
    """Read keypoints from a file; the video gives the time of each frame, and is otherwise not looked at."""
    assert settings.keypoints is not None
    if settings.start_s > 0 or settings.end_s is not None:
        raise InputError("--keypoints covers the whole video; leave out --start and --end")
    file = read_keypoints(settings.keypoints, reader.info, layout=settings.layout, joint_map=settings.joint_map)
    times = []
    for frame in reader:
        times.append(frame.time_s)
        report("detect", len(times), len(file))
    count = min(len(times), len(file))
    warnings = list(file.warnings)
    if len(times) != len(file):
        lengths = f"{len(file)} frames, the video {len(times)}"
        warnings.append(f"{settings.keypoints} has {lengths}: the first {count} are used")
    people = [file.detections[i] for i in range(count)]
    tracks = file.tracks()
    if tracks is not None:
        tracks = [_first_frames(track, count) for track in tracks]
    source = {"keypoints": {"file": settings.keypoints, "format": file.format, "layout": file.layout}}
    return Seen(np.array(times[:count]), people, [], 0.0, tracks), source, warnings


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
        lifted = smooth_joints(lifted, even_times, _LIFTED_SMOOTHING * settings.smooth)
        path, trust = fit_trajectory(lifted, keypoints, scores, intrinsics)
        path = smooth_trajectory(path, trust, rate)

        joints[start:stop] = resample(lifted, even_times, own_times)
        root[start:stop] = resample(path, even_times, own_times)
        weight[start:stop] = np.interp(own_times, even_times, trust)
    return Motion(track, joints, root, weight)


def find_keypoints(
    video: str | Path,
    out: str | Path,
    *,
    format: str = "vp3d",
    settings: InferSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: str | None = None,
    models: Models | None = None,
) -> list[str]:
    """Write everyone's 2D keypoints, as the detector gave them, without lifting.

    Args:
        video: a video file or a folder of images.
        out: file to write.
        format: ``vp3d``, ``coco`` or ``videopose3d`` (see :data:`vp3d_cli.keypoint_files.WRITERS`).
        settings, progress, overwrite, command, models: as for :func:`infer`.

    Returns:
        What the user should know, one sentence each.

    Raises:
        As :func:`infer`.
    """
    settings = settings or InferSettings()
    check_target(Path(out), overwrite)
    scene = watch(video, settings, progress or silent, models)
    lost = write_keypoints(
        out,
        scene.tracks,
        frame_times_s=scene.times_s,
        fps=scene.info.fps,
        size_wh=scene.info.size_wh,
        format=format,
        video_name=Path(video).stem,
        provenance=_provenance(video, scene, settings, command),
        overwrite=overwrite,
    )
    return [*scene.warnings, *lost]


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


def _first_frames(track: Track2D, count: int) -> Track2D:
    return Track2D(
        track.person_id, track.keypoints[:count], track.scores[:count], track.boxes_xyxy[:count], track.observed[:count]
    )


def _provenance(video: str | Path, scene: Scene, settings: InferSettings, command: str | None) -> dict[str, Any]:
    return {
        "version": version("vp3d"),
        "command": command,
        "video": str(video),
        **scene.source,
        "settings": dataclasses.asdict(settings),
        "warnings": scene.warnings,
    }


def silent(stage: str, done: int, total: int | None) -> None:
    """Report to nobody."""
