"""From a video to 3D motion: the stages, in order. Read this first.

:func:`infer` is the whole way; :func:`watch` is its first half (2D: everyone's keypoints and identities) and
:func:`lift_person` its second (3D). :func:`find_keypoints` stops after the first; :mod:`vp3d_cli.pipeline.drawing`
draws.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import NobodyFoundError
from vp3d_cli.io.atomic import check_target
from vp3d_cli.io.keypoints import write_keypoints
from vp3d_cli.io.poses import export_pose
from vp3d_cli.lift.lifter import LIFTER_HEIGHT_M, Lifter, load_lifter
from vp3d_cli.pipeline.chunks import SideBySide, detect_in_parts, in_processes, plan_segments
from vp3d_cli.pipeline.detection import Progress, frames_expected, take_keypoints
from vp3d_cli.pipeline.detection_cache import Stretch, detect_resumably, forget, partial_of
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pipeline.summary import Summary, summarize
from vp3d_cli.preprocess import MAX_GAP_S, fill_gaps, resample, smooth, smooth_joints, uniform_times
from vp3d_cli.refine.bone_lengths import steady_bones
from vp3d_cli.refine.reprojection import anchor
from vp3d_cli.refine.trajectory import fit_trajectory, smooth_trajectory
from vp3d_cli.refine.world import to_world
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.track import select_in_roi, select_people
from vp3d_cli.types import DoubleArray, FloatArray, Person3D, Pose3D, Track2D, VideoInfo
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

# The lifter's answer is smoothed more than its input, and its depth, which one camera sees worst, more than the rest.
# On 60 held-out shots with simulated detections at 60 fps, depth smoothed 1, 1.5 and 2 times as much as the rest left a
# velocity error of 4.47, 4.44 and 4.47 mm per frame; the rest smoothed 1, 2 and 3 times as much as the input (depth 3
# times), 4.49, 4.44 and 4.52.
_LIFTED_SMOOTHING = 2.0
_DEPTH_SMOOTHING = 1.5


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
        """Lifts them; raises what :func:`vp3d_cli.lift.lifter.load_lifter` does."""
        return load_lifter(self._settings.lifter, self._settings.device)

    @cached_property
    def trajectory(self) -> Lifter | None:
        """Says where they are, if the settings name a model for it."""
        name = self._settings.trajectory
        return None if name is None else load_lifter(name, self._settings.device, "trajectory")


def infer(
    video: str | Path,
    out: str | Path | None = None,
    *,
    settings: InferSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: str | None = None,
    models: Models | None = None,
    side_by_side: SideBySide = in_processes,
    source: str | None = None,
    keep: Path | None = None,
    spent_s: float = 0.0,
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
        side_by_side: how the parts of a long video are done, if the settings ask for parts.
        source: where ``video`` is a copy from, for the provenance; None if it is none.
        keep: for what was found, should ``out`` not come to be; removed when it is there. By default beside ``out``.
        spent_s: seconds that others have spent on parts of it before, for the timing in the provenance.

    Returns:
        Everyone's motion.

    Raises:
        VideoError: the video cannot be read.
        NobodyFoundError: nobody was found in it.
        OutputError: ``out`` cannot be written.
        DetectorError: the detector failed in the middle of the video.
        WeightsError, MissingDependencyError, ConfigError: detector or lifter cannot be loaded.
    """
    settings = settings or InferSettings()
    report = progress or silent
    if out is not None:
        check_target(Path(out), overwrite)
    started = time.perf_counter()
    models = models or Models(settings)
    lifter, trajectory = models.lifter, models.trajectory
    keep = keep or (None if out is None else partial_of(out))
    scene = watch(video, settings, report, models, side_by_side, keep)
    times, size_wh = scene.times_s, scene.info.size_wh
    intrinsics = settings.camera(size_wh).as_tuple()

    motions: list[Motion] = []
    for done, track in enumerate(scene.tracks):
        report("lift", done * len(times), len(scene.tracks) * len(times))
        motions.append(lift_person(track, times, lifter, intrinsics, size_wh, settings, trajectory))
    report("lift", len(motions) * len(times), len(motions) * len(times))

    people = stand(motions, times)
    seconds = time.perf_counter() - started + spent_s
    pose = Pose3D(
        people=people,
        frame_times_s=times,
        fps=scene.info.fps,
        video_size_wh=size_wh,
        intrinsics=intrinsics,
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=scene.tracks[0].skeleton.joints,
        provenance={
            **_provenance(source or video, scene, settings, command),
            "lifter": _weights(lifter),
            **({} if trajectory is None else {"trajectory": _weights(trajectory)}),
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
        if keep is not None:
            forget(keep)
    return pose


def _weights(lifter: Lifter) -> dict[str, str]:
    return {"name": lifter.name, "sha256": lifter.sha256, "licence": lifter.info.licence}


class Scene(NamedTuple):
    """A video watched in 2D: the times of its T frames, everyone's track, and where the keypoints come from."""

    info: VideoInfo
    times_s: DoubleArray
    tracks: list[Track2D]
    source: dict[str, Any]
    detector_s: float
    warnings: list[str]


def watch(
    video: str | Path,
    settings: InferSettings,
    report: Progress,
    models: Models | None = None,
    side_by_side: SideBySide = in_processes,
    keep: Path | None = None,
) -> Scene:
    """Find and follow everyone in a video, or take the keypoints that the user brings.

    Args:
        video, settings, report, models, side_by_side: see :func:`infer`.
        keep: for what was found, should it not come to a result (see :mod:`vp3d_cli.pipeline.detection_cache`).

    Raises:
        DetectorError: the detector failed in the middle of the video.
        NobodyFoundError: nobody is in it, or nobody whom the user asked for.
        VideoError, InputError, WeightsError, MissingDependencyError, ConfigError: see :func:`infer`.
    """
    parts = plan_segments(video, settings, keep)
    reader = VideoReader(video, settings.start_s, settings.end_s)
    if parts:
        seen = detect_in_parts(parts, side_by_side, report)
    else:
        with reader:
            if settings.keypoints is not None:
                seen = take_keypoints(reader, settings, report)
            else:
                detector = (models or Models(settings)).detector
                expected = frames_expected(reader.info, settings)
                stretch = Stretch(str(video), settings, settings.start_s, settings.end_s, frames=expected)
                seen = detect_resumably(stretch, reader, detector, report, keep)
    tracks = seen.tracks(reader.info.size_wh)
    try:
        if not tracks:
            raise NobodyFoundError(f"{video}: nobody was found in {len(seen.times_s)} frames")
        tracks = _choose(tracks, reader.info.size_wh, settings)
    except NobodyFoundError:
        if keep is not None:
            forget(keep)
        raise
    return Scene(reader.info, seen.times_s, tracks, seen.source, seen.busy_s, [*reader.warnings, *seen.warnings])


def _choose(tracks: list[Track2D], size_wh: tuple[int, int], settings: InferSettings) -> list[Track2D]:
    """The people whom the user asked for."""
    if settings.roi is not None:
        tracks = select_in_roi(tracks, settings.roi)
    if settings.person is not None:
        tracks = select_people(tracks, settings.person, size_wh)
    return tracks[: settings.max_people]


class Motion(NamedTuple):
    """One person in 3D, in the t frames of the track; NaN where out of view.

    ``joints`` (t, J, 3) root-relative and ``root`` (t, 3), metres, camera axes; ``weight`` (t,) trust in the root.
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
    trajectory: Lifter | None = None,
) -> Motion:
    """Condition one track, lift it, and place it in front of the camera: by a trajectory model, or else by fitting."""
    in_view = times_s[track.frames]
    track = smooth(fill_gaps(track, in_view, max_gap_s=MAX_GAP_S), in_view, settings.smooth)
    frames = len(track)
    body = track.in_skeleton(COCO17)
    joints = np.full((frames, H36M17.num_joints, 3), np.nan, np.float32)
    root = np.full((frames, 3), np.nan, np.float32)
    weight = np.zeros(frames, np.float32)
    rate, scale = lifter.rule.rate_hz, settings.height_m / LIFTER_HEIGHT_M
    for start, stop in body.stretches:
        own_times = in_view[start:stop]
        even_times = uniform_times(own_times, rate)
        keypoints = resample(body.keypoints[start:stop], own_times, even_times)
        scores = np.clip(resample(body.scores[start:stop], own_times, even_times), 0.0, 1.0)

        lifted = lifter.lift(keypoints, scores, intrinsics, size_wh, flip_test=settings.flip)
        lifted = smooth_joints(lifted, even_times, _LIFTED_SMOOTHING * settings.smooth, depth=_DEPTH_SMOOTHING)
        path, trust = fit_trajectory(lifted, keypoints, scores, intrinsics)
        lifted, path = anchor(lifted, path, keypoints, scores, intrinsics)
        lifted = steady_bones(lifted)
        if trajectory is not None:
            steps = uniform_times(own_times, trajectory.rule.rate_hz)
            seen, trusted = (resample(values, even_times, steps) for values in (keypoints, scores))
            answer = trajectory.lift(seen, trusted, intrinsics, size_wh, flip_test=settings.flip)[:, 0]
            path = resample(answer, steps, even_times).astype(np.float64)
        path = smooth_trajectory(path, trust, rate)

        joints[start:stop] = resample(lifted, even_times, own_times) * scale
        root[start:stop] = resample(path, even_times, own_times) * scale
        weight[start:stop] = np.interp(own_times, even_times, trust)
    return Motion(track, joints, root, weight)


def stand(motions: Sequence[Motion], times_s: DoubleArray) -> tuple[Person3D, ...]:
    """Stand everyone on the floor."""
    joints, roots = [motion.joints for motion in motions], [motion.root for motion in motions]
    weights, first = [motion.weight for motion in motions], [motion.track.first for motion in motions]
    world = to_world(joints, roots, weights, times_s, first)
    each = zip(motions, world.joints_world, strict=True)
    return tuple(Person3D(motion.track, motion.joints, motion.root, grounded) for motion, grounded in each)


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
    side_by_side: SideBySide = in_processes,
    source: str | None = None,
    keep: Path | None = None,
) -> list[str]:
    """Write everyone's 2D keypoints, as the detector gave them, without lifting.

    Args:
        video: a video file or a folder of images.
        out: file to write.
        format: ``vp3d``, ``coco`` or ``videopose3d`` (see :data:`vp3d_cli.io.keypoints.WRITERS`).
        settings, progress, overwrite, command, models, side_by_side, source, keep: as for :func:`infer`.

    Returns:
        What the user should know, one sentence each.

    Raises:
        As :func:`infer`.
    """
    settings = settings or InferSettings()
    check_target(Path(out), overwrite)
    keep = keep or partial_of(out)
    scene = watch(video, settings, progress or silent, models, side_by_side, keep)
    lost = write_keypoints(
        out,
        scene.tracks,
        frame_times_s=scene.times_s,
        fps=scene.info.fps,
        size_wh=scene.info.size_wh,
        format=format,
        video_name=Path(video).stem,
        provenance=_provenance(source or video, scene, settings, command),
        overwrite=overwrite,
    )
    forget(keep)
    return [*scene.warnings, *lost]


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
