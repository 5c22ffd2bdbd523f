"""Evaluation on real video with calibrated cameras and 12 triangulated limb joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.camera import project
from vp3d_cli.errors import InputError
from vp3d_cli.evaluate.scores import Scores, score_motion
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import COCO_LIMBS, H36M_LIMBS, LIMB_JOINTS
from vp3d_cli.types import DoubleArray, FloatArray

_HIPS = [LIMB_JOINTS.index("left_hip"), LIMB_JOINTS.index("right_hip")]


@dataclass(frozen=True)
class CalibratedView:
    """Ground truth of one calibrated camera.

    Attributes:
        camera: name of the camera.
        joints_cam: (T, 12, 3) joints in camera axes, metres, in the order of :data:`LIMB_JOINTS`; NaN where unknown.
        intrinsics: fx, fy, cx, cy in pixels.
        distortion: (5,) k1 k2 p1 p2 k3.
        fps: frames per second; the first frame is at time 0.
    """

    camera: str
    joints_cam: DoubleArray
    intrinsics: tuple[float, float, float, float]
    distortion: DoubleArray
    fps: float

    @property
    def times_s(self) -> DoubleArray:
        """(T,) time of each frame in seconds."""
        return np.arange(len(self.joints_cam)) / self.fps


def read_calibrated(path: Path, camera: str) -> CalibratedView:
    """Read one camera of a calibrated clip.

    The file is an npz with, for each camera NAME, ``NAME_joints_cam`` (T, 12, 3), ``NAME_K`` (3, 3), ``NAME_dist``
    (k1 k2 p1 p2, or with k3), and ``joint_names`` and ``fps`` for all.

    Raises:
        InputError: the file has another format, or lacks the camera or joints (the message names them).
    """
    if not path.is_file():
        raise InputError(f"no calibrated clip at {path}; give the path of an npz file")
    try:
        with open_arrays(path) as archive:
            cameras = [key.removesuffix("_joints_cam") for key in archive.files if key.endswith("_joints_cam")]
            if camera not in cameras:
                raise InputError(f"{path}: no camera {camera!r}; it has {', '.join(cameras) or 'none'}")
            names = [_canonical(str(name)) for name in archive["joint_names"]]
            missing = [joint for joint in LIMB_JOINTS if joint not in names]
            if missing:
                raise InputError(f"{path}: lacks the joints {', '.join(missing)}")
            joints = archive[f"{camera}_joints_cam"].astype(np.float64)
            if joints.ndim != 3 or joints.shape[1:] != (len(names), 3):
                raise InputError(f"{path}: {camera}_joints_cam must be (T, {len(names)}, 3), is {joints.shape}")
            k = archive[f"{camera}_K"].astype(np.float64)
            distortion = np.zeros(5)
            given = archive[f"{camera}_dist"].ravel()[:5]
            distortion[: len(given)] = given
            return CalibratedView(
                camera,
                joints[:, [names.index(joint) for joint in LIMB_JOINTS]],
                (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])),
                distortion,
                float(archive["fps"]),
            )
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{path} is not a calibrated clip ({error}); see docs/evaluation.md for the format") from error


def evaluate_calibrated(pose: Pose3D, view: CalibratedView, name: str | None = None) -> Scores:
    """Score the person of a pose file whom the calibrated camera saw.

    Args:
        pose: motion of all people.
        view: ground truth.
        name: name of the case; that of the camera by default.

    Raises:
        InputError: the times do not overlap with the ground truth.
    """
    person = find_person(pose.keypoints_2d, pose.frame_times_s, pose.video_size_wh, view)
    return score_person(pose.joints_3d[person], pose.trajectory[person], pose.frame_times_s, view, name)


def score_person(
    joints_3d: FloatArray, root: FloatArray, times_s: DoubleArray, view: CalibratedView, name: str | None = None
) -> Scores:
    """Score the motion of a person against a calibrated view.

    Both are aligned at the middle of the hips, with one scale for the whole clip. Predictions are interpolated linearly
    at the times of the ground truth.

    Args:
        joints_3d: (T, 17, 3) Human3.6M joints, root-relative, camera axes, metres; NaN where not in view.
        root: (T, 3) metres, camera space.
        times_s: (T,) times in seconds.
        view: ground truth.
        name: name of the case; that of the camera by default.

    Raises:
        InputError: the times do not overlap with the ground truth.
    """
    limbs = joints_3d[:, H36M_LIMBS].astype(np.float64)
    relative = at_times(limbs, times_s, view.times_s)
    root_cam = at_times(limbs[:, _HIPS].mean(axis=1) + root, times_s, view.times_s)
    truth_root = view.joints_cam[:, _HIPS].mean(axis=1)
    return score_motion(
        name or view.camera,
        relative - relative[:, _HIPS].mean(axis=1, keepdims=True),
        view.joints_cam - truth_root[:, None],
        LIMB_JOINTS,
        predicted_root=root_cam,
        truth_root=truth_root,
    )


def find_person(
    keypoints: Sequence[FloatArray] | FloatArray, times_s: DoubleArray, size_wh: tuple[int, int], view: CalibratedView
) -> int:
    """Index of the person whose keypoints are nearest to the projected ground truth.

    Frames in which a person is not in view count as a large distance.

    Args:
        keypoints: (T, 17, 2) COCO keypoints of each person, pixels.
        times_s: (T,) times in seconds.
        size_wh: size of the video in pixels.
        view: ground truth.

    Raises:
        InputError: there is nobody.
    """
    if not len(keypoints):
        raise InputError(f"{view.camera}: there is nobody to compare with the ground truth")
    truth = project(view.joints_cam, view.intrinsics, view.distortion)
    far = float(np.hypot(*size_wh)) / 4
    distances = []
    for points in keypoints:
        resampled = at_times(points[:, COCO_LIMBS].astype(np.float64), times_s, view.times_s)
        off = np.linalg.norm(resampled - truth, axis=-1)
        distances.append(float(np.nan_to_num(off, nan=far).clip(max=far).mean()))
    return int(np.argmin(distances))


def at_times(values: DoubleArray, times_s: DoubleArray, new_s: DoubleArray) -> DoubleArray:
    """Interpolate (T, ...) linearly at other times; NaN beside NaN and beyond the ends."""
    if len(times_s) == 1:
        near = np.abs(new_s - times_s[0]) < 1e-3
        return np.where(near.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
    step = float(np.median(np.diff(times_s)))
    right = np.clip(np.searchsorted(times_s, new_s), 1, len(times_s) - 1)
    share = (new_s - times_s[right - 1]) / (times_s[right] - times_s[right - 1])
    inside = (new_s > times_s[0] - step / 2) & (new_s < times_s[-1] + step / 2)
    # Timestamps are rounded: a time within 2 % of a frame uses this frame alone.
    share = np.where(np.abs(share - share.round()) < 0.02, share.round(), share)
    share = np.clip(share, 0.0, 1.0).reshape(-1, *[1] * (values.ndim - 1))
    low, high = values[right - 1], values[right]
    mixed = np.where(share == 0, low, np.where(share == 1, high, low + share * (high - low)))
    return np.where(inside.reshape(share.shape), mixed, np.nan)


def _canonical(name: str) -> str:
    """Joint name in full: ``lwrist`` becomes ``left_wrist``."""
    short = {joint.replace("left_", "l").replace("right_", "r"): joint for joint in LIMB_JOINTS}
    return short.get(name.lower(), name.lower())
