"""Reader of pose files (``vp3d-pose/1``) as motion clips for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.clip import MOTION_JOINTS, MotionClip
from vp3d_cli.train.mocap.joint_mapping import face_of_h36m
from vp3d_cli.types import DoubleArray, FloatArray, stretches

# Shorter parts of a track are too short to learn motion from.
_MIN_DURATION_S = 0.5


def read_pose_motion(path: Path, name: str, source: str) -> list[MotionClip]:
    """Read each gap-free part of a track of at least half a second as a motion clip.

    Pose files have no face: it is placed by average adult offsets, facing in the direction of the shoulders.

    Args:
        path: pose file.
        name: prefix of the clip names, to which person and part are appended.
        source: source of the clips.

    Raises:
        PoseFileError: the file is not a pose file.
        InputError: the skeleton is not that of Human3.6M, or no track is long enough.
    """
    pose = read_npz(path)
    order = _joint_order(path, pose)
    clips = []
    for person in pose.people:
        world, person_id = person.joints_world, person.track.person_id
        for number, (start, stop) in enumerate(stretches(np.asarray(np.isfinite(world).all(axis=(1, 2))))):
            times = pose.frame_times_s[person.track.frames][start:stop]
            if times[-1] - times[0] < _MIN_DURATION_S:
                continue
            joints = _evenly_sampled(world[start:stop, order].astype(np.float64), times)
            fps = (len(joints) - 1) / float(times[-1] - times[0])
            label = f"{name}_person{person_id}" + (f"_{number}" if number else "")
            clips.append(MotionClip(label, source, _licence(pose), fps, _with_face(joints)))
    if not clips:
        raise InputError(f"{path}: nobody is in view for {_MIN_DURATION_S:g} s or more")
    return clips


def _joint_order(path: Path, pose: Pose3D) -> list[int]:
    missing = [joint for joint in H36M17.joints if joint not in pose.joint_names_3d]
    if missing:
        raise InputError(f"{path}: skeleton lacks {', '.join(missing)}; it has {', '.join(pose.joint_names_3d)}")
    return [pose.joint_names_3d.index(joint) for joint in H36M17.joints]


def _evenly_sampled(values: DoubleArray, times_s: DoubleArray) -> DoubleArray:
    """Resample (T, J, 3) to T evenly spaced times, for videos of variable frame rate."""
    new = np.linspace(times_s[0], times_s[-1], len(times_s))
    right = np.clip(np.searchsorted(times_s, new), 1, len(times_s) - 1)
    share = ((new - times_s[right - 1]) / (times_s[right] - times_s[right - 1]))[:, None, None]
    return np.asarray(values[right - 1] * (1 - share) + values[right] * share)


def _with_face(joints: DoubleArray) -> FloatArray:
    """Append the five joints of the face: (F, 17, 3) to (F, 22, 3)."""

    def joint(name: str) -> DoubleArray:
        return joints[:, H36M17.index(name)]

    face = face_of_h36m(joint("neck"), joint("head"), joint("left_shoulder") - joint("right_shoulder"))
    names = MOTION_JOINTS[len(H36M17.joints) :]
    return np.concatenate([joints, np.stack([face[name] for name in names], axis=1)], axis=1).astype(np.float32)


def _licence(pose: Pose3D) -> str:
    lifter = pose.provenance.get("lifter", {})
    licence = lifter.get("licence") if isinstance(lifter, dict) else None
    return f"estimated by a model of licence {licence}" if licence else "not stated"
