"""Public functions: inference on videos, detections or arrays, with models that are loaded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, NobodyFoundError, ShapeError
from vp3d_cli.io.atomic import check_target
from vp3d_cli.io.detections import Detections, is_detections_file, read_detections
from vp3d_cli.io.keypoints import write_keypoints
from vp3d_cli.io.poses import check_pose_target, export_pose
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pipeline.detection_cache import cache_path, delete_cache
from vp3d_cli.pipeline.infer import detect_people, infer_video, lift_detections, track_and_select
from vp3d_cli.pipeline.run import Models, Run, provenance_of
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import COCO17, Skeleton, get_skeleton
from vp3d_cli.types import Keypoints2D


class Pipeline:
    """Detector and lifter, loaded once and used for any number of videos. A context manager.

        with Pipeline(detector="movenet", max_people=1) as pipeline:
            pose = pipeline.infer("walk.mp4")

    Args:
        settings: the fields of :class:`~vp3d_cli.pipeline.settings.InferSettings`, such as ``max_people=1``.

    Raises:
        ConfigError: an unknown setting, or one out of range.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = make_settings(settings)
        self._models = Models(self.settings)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *raised: object) -> None:
        """Release the models."""
        self._models = Models(self.settings)

    def infer(
        self,
        video: str | Path,
        out: str | Path | None = None,
        *,
        overwrite: bool = False,
        progress: Progress = no_progress,
    ) -> Pose3D:
        """Find everyone in a video and lift them to 3D; see :func:`infer`."""
        run = self._run(progress, out)
        return infer_to_file(video, out, self.settings, run, overwrite=overwrite)

    def detect(
        self,
        video: str | Path,
        out: str | Path | None = None,
        *,
        overwrite: bool = False,
        progress: Progress = no_progress,
    ) -> Detections:
        """Find everyone in each frame of a video, in 2D; see :func:`detect`."""
        run = self._run(progress, out)
        if out is not None:
            check_target(Path(out), overwrite)
        detections = detect_people(video, self.settings, run)
        if out is not None:
            detections.save(out, overwrite=overwrite)
            delete_cache(run.cache)
        return detections

    def lift(self, detections: Detections, *, progress: Progress = no_progress, **settings: Any) -> Pose3D:
        """Track the people of detections and lift them to 3D.

        Args:
            detections: of :meth:`detect` or of a detections file.
            progress: called with ("lift", done, total).
            settings: other settings than the pipeline's, such as ``smooth=2``, for this call.

        Raises:
            NobodyFoundError: nobody is in them, or nobody whom the settings ask for.
            InputError: their skeleton lacks joints that the lifter needs.
        """
        changed = make_settings({**_as_dict(self.settings), **settings})
        models = self._models
        if (changed.lifter, changed.trajectory, changed.device) != _models_of(self.settings):
            models = Models(changed)
        return lift_detections(detections, changed, Run(models, progress))

    def _run(self, progress: Progress, out: str | Path | None) -> Run:
        return Run(self._models, progress, None if out is None else cache_path(out))


def infer(
    video: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> Pose3D:
    """Find everyone in a video and lift them to 3D.

    Args:
        video: a video file or a folder of images.
        out: file to write, such as ``walk.npz``; None writes none.
        overwrite: replace ``out`` if it exists.
        progress: called with (stage, frames done, frames in all) for the stages ``detect`` and ``lift``.
        settings: the fields of :class:`~vp3d_cli.pipeline.settings.InferSettings`, such as ``max_people=1``.

    Returns:
        Everyone's motion: pixels in 2D, metres in camera space and in world space.

    Raises:
        VideoError: the video cannot be read.
        NobodyFoundError: nobody was found in it.
        OutputError: ``out`` cannot be written.
        DetectorError: the detector failed in the middle of the video; what it found is kept for the next run.
        ConfigError: an unknown setting, or one out of range.
        WeightsError, MissingDependencyError: detector or lifter cannot be loaded.
    """
    return Pipeline(**settings).infer(video, out, overwrite=overwrite, progress=progress)


def detect(
    video: str | Path,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> Detections:
    """Find everyone in each frame of a video, in 2D, without lifting.

    Args:
        video, overwrite, progress, settings: as for :func:`infer`.
        out: detections file to write, such as ``walk.detections.npz``; None writes none.

    Raises:
        As :func:`infer`; nobody found is no error.
    """
    return Pipeline(**settings).detect(video, out, overwrite=overwrite, progress=progress)


def lift(
    keypoints: NDArray[Any] | Detections | str | Path,
    scores: NDArray[Any] | None = None,
    *,
    fps: float = 30.0,
    size_wh: tuple[int, int] | None = None,
    skeleton: str | Skeleton = COCO17,
    frame_times_s: NDArray[Any] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Pose3D:
    """Lift 2D keypoints to 3D: arrays, detections, or a detections file.

    Args:
        keypoints: (T, K, 2) pixels of one person or (P, T, K, 2) of several, NaN where missing; or detections, or the
            path of a detections file, which bring all that follows.
        scores: (T, K) or (P, T, K) confidence 0..1; None takes 1 wherever there is a keypoint.
        fps: frames per second.
        size_wh: width and height of the image in pixels.
        skeleton: which K joints the keypoints are: a name such as ``coco17``, ``halpe26``, ``body25``, or a Skeleton.
        frame_times_s: (T,) seconds, where frames are not evenly spaced.
        progress: called with ("lift", done, total).
        settings: the fields of :class:`~vp3d_cli.pipeline.settings.InferSettings`, such as ``smooth=2``.

    Raises:
        ShapeError: arrays that do not fit each other.
        NobodyFoundError: no keypoint is there.
        InputError: the skeleton lacks joints that the lifter needs; the message names them.
        ConfigError: an unknown skeleton or setting.
    """
    pipeline = Pipeline(**settings)
    if isinstance(keypoints, (str, Path)):
        keypoints = read_detections(keypoints)
    if not isinstance(keypoints, Detections):
        keypoints = _from_arrays(np.asarray(keypoints), scores, fps, size_wh, skeleton, frame_times_s)
    return pipeline.lift(keypoints, progress=progress)


def read(path: str | Path) -> Pose3D | Detections:
    """Read a file that vp3d wrote: a pose file or a detections file, recognised by its content.

    Raises:
        InputError, PoseFileError: it is missing, damaged, or neither of them.
    """
    return read_detections(path) if is_detections_file(path) else read_npz(path)


def infer_to_file(
    video: str | Path, out: str | Path | None, settings: InferSettings, run: Run, *, overwrite: bool = False
) -> Pose3D:
    """As :func:`infer`, for a caller who has a run: models, progress, cache, provenance."""
    if out is not None:
        check_pose_target(Path(out), overwrite)
    with _cache_of_nobody(run):
        pose = infer_video(video, settings, run)
    if out is not None:
        files, notes = export_pose(pose, out, overwrite=overwrite)
        run.written += files
        pose.provenance["warnings"].extend(notes)
        delete_cache(run.cache)
    return pose


def detect_to_file(
    video: str | Path,
    out: str | Path,
    settings: InferSettings,
    run: Run,
    *,
    format: str = "vp3d",
    overwrite: bool = False,
) -> list[str]:
    """Write the 2D keypoints of the people whom the settings ask for, tracked, as the detector gave them.

    Args:
        video: a video file or a folder of images.
        out: file to write.
        settings, run: of the pipeline.
        format: ``vp3d`` for a detections file, or ``coco`` or ``videopose3d``.
        overwrite: replace ``out`` if it exists.

    Returns:
        Warnings for the user, one sentence each.

    Raises:
        As :func:`infer`.
    """
    check_target(Path(out), overwrite)
    with _cache_of_nobody(run):
        detections = detect_people(video, settings, run)
        tracks = track_and_select(detections, settings)
    lost = write_keypoints(
        out,
        tracks,
        frame_times_s=detections.frame_times_s,
        fps=detections.fps,
        size_wh=detections.video_size_wh,
        format=format,
        video_name=Path(video).stem,
        provenance=provenance_of(detections, settings, run),
        overwrite=overwrite,
    )
    delete_cache(run.cache)
    return [*detections.warnings, *lost]


@contextmanager
def _cache_of_nobody(run: Run) -> Iterator[None]:
    """Delete the cache when nobody was found: there is nothing to resume."""
    try:
        yield
    except NobodyFoundError:
        delete_cache(run.cache)
        raise


def make_settings(settings: dict[str, Any]) -> InferSettings:
    """Settings from keyword arguments.

    Raises:
        ConfigError: an unknown setting, or one out of range.
    """
    known = [field.name for field in dataclasses.fields(InferSettings)]
    if unknown := sorted(set(settings) - set(known)):
        raise ConfigError(f"unknown setting {', '.join(unknown)}; known: {', '.join(known)}")
    return InferSettings(**settings)


def _as_dict(settings: InferSettings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _models_of(settings: InferSettings) -> tuple[str, str | None, str]:
    return settings.lifter, settings.trajectory, settings.device


def _from_arrays(
    keypoints: NDArray[Any],
    scores: NDArray[Any] | None,
    fps: float,
    size_wh: tuple[int, int] | None,
    skeleton: str | Skeleton,
    frame_times_s: NDArray[Any] | None,
) -> Detections:
    """Detections of people whose identities are known: the first axis."""
    joints = skeleton if isinstance(skeleton, Skeleton) else get_skeleton(skeleton)
    points = np.asarray(keypoints, np.float32)
    points = points[None] if points.ndim == 3 else points
    if points.ndim != 4 or points.shape[2:] != (joints.num_joints, 2):
        expected = f"(T, {joints.num_joints}, 2) or (P, T, {joints.num_joints}, 2) for the skeleton {joints.name}"
        raise ShapeError(f"keypoints: expected shape {expected}, got {np.shape(keypoints)}")
    there = np.asarray(np.isfinite(points).all(axis=-1))
    confidence = there.astype(np.float32) if scores is None else np.asarray(scores, np.float32).reshape(there.shape)
    if not (np.isfinite(fps) and fps > 0):
        raise ConfigError(f"fps must be a positive number, got {fps}")
    if size_wh is None:
        raise ConfigError("give size_wh, the width and height of the image in pixels: the camera follows from it")
    people, count = points.shape[:2]
    times = np.arange(count) / fps if frame_times_s is None else np.asarray(frame_times_s, np.float64)
    rows = [[p for p in range(people) if there[p, t].any()] for t in range(count)]
    return Detections(
        frames=[_frame_of(points[own, t], confidence[own, t], joints) for t, own in enumerate(rows)],
        frame_times_s=times,
        fps=float(fps),
        video_size_wh=(int(size_wh[0]), int(size_wh[1])),
        person_ids=[tuple(p + 1 for p in own) for own in rows],
        source={"keypoints": {"format": "arrays", "layout": joints.name}},
    )


def _frame_of(points: NDArray[np.float32], scores: NDArray[np.float32], skeleton: Skeleton) -> Keypoints2D:
    """People of one frame, with boxes around their keypoints."""
    if not len(points):
        return Keypoints2D.empty(skeleton)
    seen = np.asarray(np.isfinite(points).all(axis=-1))[..., None]
    low, high = np.where(seen, points, np.inf).min(axis=1), np.where(seen, points, -np.inf).max(axis=1)
    confidence = np.where(seen[..., 0], np.nan_to_num(scores), 0.0).astype(np.float32)
    return Keypoints2D(np.concatenate([low, high], axis=1), points, confidence, confidence.mean(axis=1), skeleton)
