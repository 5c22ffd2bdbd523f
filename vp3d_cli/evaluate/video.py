"""Evaluation of the whole pipeline on a video, with several lifters on the same detections."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vp3d_cli.evaluate.calibrated import CalibratedView, find_person, score_person
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.lift.lifter import load_lifter
from vp3d_cli.pipeline.detection import Progress
from vp3d_cli.pipeline.infer import detect_people, lift_person, track_and_select
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.skeletons import COCO17
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
        progress: see :func:`vp3d_cli.pipeline.api.infer`.

    Returns:
        Scores of each lifter, named by the camera.

    Raises:
        NobodyFoundError, VideoError, WeightsError: see :func:`vp3d_cli.pipeline.api.infer`.
        InputError: the times of the video do not overlap with the ground truth.
    """
    if settings.intrinsics is None and settings.fov_deg is None:
        settings = dataclasses.replace(settings, intrinsics=view.intrinsics)
    loaded = [load_lifter(name, settings.device) for name in lifters]
    models = Models(settings)
    detections = detect_people(video, settings, Run(models, progress))
    tracks, times, size_wh = track_and_select(detections, settings), detections.frame_times_s, detections.video_size_wh
    everyone = [track.in_skeleton(COCO17).over(len(times)).keypoints for track in tracks]
    track = tracks[find_person(everyone, times, size_wh, view)]
    intrinsics = settings.camera(size_wh).as_tuple()
    scores = []
    for lifter in loaded:
        motion = lift_person(track, times, lifter, intrinsics, size_wh, settings, models.trajectory)
        joints, root = (over_all(a, track.first, len(times)) for a in (motion.joints, motion.root))
        scores.append(score_person(joints, root, times, view))
    return scores
