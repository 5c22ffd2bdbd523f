"""Evaluation of the whole pipeline on a video, with several lifters on the same detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vp3d_cli.evaluate.calibrated import CalibratedView, find_person, score_person
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.lift.lifter import load_lifter
from vp3d_cli.pipeline.infer import Models, Progress, lift_person, watch
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import over_all


def evaluate_video(
    video: Path,
    view: CalibratedView,
    lifters: Sequence[str],
    settings: InferSettings,
    progress: Progress,
) -> list[Scores]:
    """Score lifters on the video of a calibrated camera.

    Args:
        video: video of the camera.
        view: ground truth.
        lifters: names or files; people are detected once for all of them.
        settings: inference settings; without intrinsics or field of view, those of the calibration are used.
        progress: see :func:`vp3d_cli.pipeline.infer.infer`.

    Returns:
        Scores of each lifter, named by the camera.

    Raises:
        NobodyFoundError, VideoError, WeightsError: see :func:`vp3d_cli.pipeline.infer.infer`.
        InputError: the times of the video do not overlap with the ground truth.
    """
    if settings.intrinsics is None and settings.fov_deg is None:
        settings = dataclasses.replace(settings, intrinsics=view.intrinsics)
    loaded = [load_lifter(name, settings.device) for name in lifters]
    trajectory = Models(settings).trajectory
    scene = watch(video, settings, progress)
    size_wh = scene.info.size_wh
    everyone = [track.over(len(scene.times_s)).keypoints for track in scene.tracks]
    track = scene.tracks[find_person(everyone, scene.times_s, size_wh, view)]
    intrinsics = settings.camera(size_wh).as_tuple()
    scores = []
    for lifter in loaded:
        motion = lift_person(track, scene.times_s, lifter, intrinsics, size_wh, settings, trajectory)
        joints, root = (over_all(a, track.first, len(scene.times_s)) for a in (motion.joints, motion.root))
        scores.append(score_person(joints, root, scene.times_s, view))
    return scores
