"""From a video to 3D motion: all stages, in order. Read this first.

    video -> detections -> tracks -> preprocess -> lift -> refine -> world -> rig

:func:`infer_video` is the whole way, :func:`detect_people` its 2D half, :func:`lift_detections` its 3D half.
:mod:`vp3d_cli.pipeline.api` has the public functions around them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vp3d_cli.errors import InputError, NobodyFoundError
from vp3d_cli.io.detections import Detections
from vp3d_cli.lift.base import LIFTER_HEIGHT_M, Lifter
from vp3d_cli.pipeline.chunks import detect_in_chunks, plan_chunks
from vp3d_cli.pipeline.detection import expected_frames, keypoints_from_file, tracks_of
from vp3d_cli.pipeline.detection_cache import FrameRange, detect_resumably
from vp3d_cli.pipeline.run import Run, provenance_of_pose
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.preprocess import MAX_GAP_S, fill_gaps, resample, smooth, smooth_joints, uniform_times
from vp3d_cli.refine.bone_lengths import refine_bone_lengths
from vp3d_cli.refine.confidence import guessed_parts, joint_confidence
from vp3d_cli.refine.floor import AssumedHeight
from vp3d_cli.refine.reprojection import refine_reprojection
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.refine.trajectory import fit_trajectory, smooth_trajectory
from vp3d_cli.refine.world import to_world_by_shot
from vp3d_cli.skeletons import COCO17, H36M17, LIMB_JOINTS, Skeleton
from vp3d_cli.track import select_in_roi, select_people, split_partial
from vp3d_cli.types import DoubleArray, FloatArray, Track2D
from vp3d_cli.video import VideoReader

# The lifted joints are smoothed more than the keypoints, and their depth, which one camera sees worst, more than the
# rest; measured in docs/measurements/smoothing.md.
_LIFTED_SMOOTHING = 2.0
_DEPTH_SMOOTHING = 1.5
_ANKLES = [COCO17.index("left_ankle"), COCO17.index("right_ankle")]


def infer_video(video: str | Path, settings: InferSettings, run: Run) -> Pose3D:
    """Find everyone in a video and lift them to 3D.

    Raises:
        VideoError, InputError: the video or the keypoint file cannot be read.
        NobodyFoundError: nobody was found, or nobody whom the settings ask for.
        DetectorError: the detector failed in the middle of the video.
        WeightsError, MissingDependencyError, ConfigError: a model cannot be loaded.
    """
    started = time.perf_counter()
    _ = run.models.lifter  # a lifter that cannot be loaded is reported before minutes of detection
    detections = detect_people(video, settings, run)
    return lift_detections(detections, settings, run, started)


def detect_people(video: str | Path, settings: InferSettings, run: Run) -> Detections:
    """Stage 1: detect all people in each frame, or read them from a keypoint file."""
    chunks = plan_chunks(video, settings, run.cache)
    reader = VideoReader(video, settings.start_s, settings.end_s)
    if chunks:
        return detect_in_chunks(chunks, run.report, run.map_chunks)
    with reader:
        if settings.keypoints is not None:
            detections = keypoints_from_file(reader, settings, run.report)
        else:
            total = expected_frames(reader.info, settings)
            frames = FrameRange(str(video), settings.start_s, settings.end_s, settings.detect_every, total=total)
            detections = detect_resumably(frames, reader, run.models.detector, run.report, run.cache)
    warnings = dict.fromkeys([*reader.warnings, *detections.warnings])
    return dataclasses.replace(detections, warnings=tuple(warnings), video=str(video))


def lift_detections(detections: Detections, settings: InferSettings, run: Run, started: float | None = None) -> Pose3D:
    """Stages 2 to 7: track, select, lift, place in the world, and fit rigs."""
    started = time.perf_counter() if started is None else started
    times, size_wh = detections.frame_times_s, detections.video_size_wh
    intrinsics = settings.camera(size_wh).as_tuple()
    tracks, notes = track_liftable(detections, settings)
    check_skeleton(tracks[0].skeleton)

    motions: list[Motion] = []
    for done, track in enumerate(tracks):
        run.report("lift", done * len(times), len(tracks) * len(times))
        motions.append(
            lift_person(track, times, run.models.lifter, intrinsics, size_wh, settings, run.models.trajectory)
        )
    run.report("lift", len(motions) * len(times), len(motions) * len(times))

    pose = Pose3D(
        people=place_in_world(motions, times, detections.shot_starts, settings),
        frame_times_s=times,
        fps=detections.fps,
        video_size_wh=size_wh,
        intrinsics=intrinsics,
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=tracks[0].skeleton.joints,
    )
    pose = add_rigs(pose)
    guessed = [sentence for motion in motions for sentence in guessed_parts(motion.track)]
    detections = dataclasses.replace(detections, warnings=(*detections.warnings, *notes, *guessed))
    seconds = time.perf_counter() - started
    return dataclasses.replace(pose, provenance=provenance_of_pose(detections, settings, run, seconds))


def track_and_select(detections: Detections, settings: InferSettings) -> list[Track2D]:
    """Stage 2: one track for every person, and of those the people whom the settings ask for."""
    return _selected(tracks_of(detections), detections, settings)[: settings.max_people]


def track_liftable(detections: Detections, settings: InferSettings) -> tuple[list[Track2D], list[str]]:
    """Return the selected people with a visible torso, and warnings about the others.

    They are selected by :func:`track_and_select`.

    A person asked for by number and, with ``keep_partial``, everyone is lifted.

    Raises:
        NobodyFoundError: nobody was found, nobody whom the settings ask for, or nobody with a visible torso.
    """
    tracks = tracks_of(detections)
    whole, partial = split_partial(tracks)
    asked_for = settings.person is not None and settings.person.strip().isdigit()
    if settings.keep_partial or asked_for or not partial:
        return _selected(tracks, detections, settings)[: settings.max_people], []
    if not whole:
        raise NobodyFoundError(
            f"{detections.video or 'keypoints'}: only parts of people were seen, never a shoulder and a hip for long; "
            "use --keep-partial to lift them"
        )
    numbers = ", ".join(str(track.person_id) for track in partial)
    note = f"not lifted, because their torso is hardly seen: {numbers} (--keep-partial lifts them too)"
    return _selected(whole, detections, settings)[: settings.max_people], [note]


def _selected(tracks: list[Track2D], detections: Detections, settings: InferSettings) -> list[Track2D]:
    """Select the tracks in the requested region and of the requested person."""
    if not tracks:
        raise NobodyFoundError(f"{detections.video}: nobody was found in {len(detections)} frames")
    if settings.roi is not None:
        tracks = select_in_roi(tracks, settings.roi)
    if settings.person is not None:
        tracks = select_people(tracks, settings.person, detections.video_size_wh)
    return tracks


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
    """Stages 3 to 5 for one person: preprocess the track, lift it, refine the result.

    Refinement is of joints and root trajectory.
    """
    in_view = times_s[track.frames]
    track = smooth(fill_gaps(track, in_view, max_gap_s=MAX_GAP_S), in_view, settings.smooth)
    body = track.in_skeleton(COCO17)
    frames, rate = len(track), lifter.rate_hz
    scale = settings.height_of(track.person_id)[0] / LIFTER_HEIGHT_M
    joints = np.full((frames, H36M17.num_joints, 3), np.nan, np.float32)
    root, weight = np.full((frames, 3), np.nan, np.float32), np.zeros(frames, np.float32)
    for start, stop in body.stretches:
        own_times = in_view[start:stop]
        even_times = uniform_times(own_times, rate)
        keypoints = resample(body.keypoints[start:stop], own_times, even_times)
        scores = np.clip(resample(body.scores[start:stop], own_times, even_times), 0.0, 1.0)

        lifted = lifter.lift(keypoints, scores, intrinsics, size_wh, flip_test=settings.tta)
        lifted = smooth_joints(lifted, even_times, _LIFTED_SMOOTHING * settings.smooth, depth=_DEPTH_SMOOTHING)
        path, trust = fit_trajectory(lifted, keypoints, scores, intrinsics)
        lifted, path = refine_reprojection(lifted, path, keypoints, scores, intrinsics)
        lifted = refine_bone_lengths(lifted)
        if trajectory is not None:
            steps = uniform_times(own_times, trajectory.rate_hz)
            seen, trusted = (resample(values, even_times, steps) for values in (keypoints, scores))
            answer = trajectory.lift(seen, trusted, intrinsics, size_wh, flip_test=settings.tta)[:, 0]
            path = resample(answer, steps, even_times).astype(np.float64)
        path = smooth_trajectory(path, trust, rate)

        joints[start:stop] = resample(lifted, even_times, own_times) * scale
        root[start:stop] = resample(path, even_times, own_times) * scale
        weight[start:stop] = np.interp(own_times, even_times, trust)
    return Motion(track, joints, root, weight)


def place_in_world(
    motions: Sequence[Motion],
    times_s: DoubleArray,
    shot_starts: Sequence[int] = (),
    settings: InferSettings | None = None,
) -> tuple[Person3D, ...]:
    """Stage 6: estimate gravity and floor of each shot, and place all people in world space.

    It also estimates body heights and foot contacts.
    """
    settings = InferSettings() if settings is None else settings
    numbers = [motion.track.person_id for motion in motions]
    heights = [AssumedHeight(*settings.height_of(number, numbers[0])) for number in numbers]
    placed, scales = to_world_by_shot(
        [motion.joints for motion in motions],
        [motion.root for motion in motions],
        [motion.weight for motion in motions],
        times_s,
        [motion.track.first for motion in motions],
        shot_starts,
        foot_confidence=[_foot_confidence(motion.track) for motion in motions],
        heights=heights,
    )
    return tuple(
        Person3D(
            motion.track,
            motion.joints * scale[:, None, None],
            motion.root * scale[:, None],
            joints,
            confidence=np.where(np.isfinite(joints).all(axis=-1), joint_confidence(motion.track), np.float32(0)),
        )
        for motion, joints, scale in zip(motions, placed, scales, strict=True)
    )


def _foot_confidence(track: Track2D) -> FloatArray:
    """Confidence (t, 2) of the left and right ankle."""
    return track.in_skeleton(COCO17).scores[:, _ANKLES]


def check_skeleton(skeleton: Skeleton) -> None:
    """Check whether keypoints have the joints that lifters need.

    Raises:
        InputError: they lack some; the message names them.
    """
    if missing := skeleton.missing(LIMB_JOINTS):
        raise InputError(
            f"the keypoints (skeleton {skeleton.name!r}) lack joints that the lifter needs: {', '.join(missing)}; "
            "give keypoints of a skeleton that has them, such as coco17, halpe26 or body25"
        )
