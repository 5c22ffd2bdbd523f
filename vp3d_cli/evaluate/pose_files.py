"""Evaluation of a pose file against another one of the same scene."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from vp3d_cli.errors import InputError
from vp3d_cli.evaluate.calibrated import at_times
from vp3d_cli.evaluate.scores import Scores, score_motion
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray


def evaluate_pair(pose: Pose3D, truth: Pose3D) -> list[Scores]:
    """Score each person of the ground truth against the nearest person of the other file.

    Joints are matched by name. Both are aligned at the middle of the hips, with one scale per person. Predictions are
    interpolated linearly at the times of the ground truth.

    Returns:
        Scores of each person of the ground truth who has a counterpart, named by person id.

    Raises:
        InputError: the files have no joints, times or people in common.
    """
    joints = [joint for joint in truth.joint_names_3d if joint in pose.joint_names_3d]
    if not {"left_hip", "right_hip"} <= set(joints):
        raise InputError(
            "the two files have no hips in common: one has "
            f"{', '.join(pose.joint_names_3d)}; the other {', '.join(truth.joint_names_3d)}"
        )
    scores = []
    for ours, theirs in _match_people(pose, truth):
        relative, root = _aligned(pose, ours, joints, truth.frame_times_s)
        wanted, wanted_root = _aligned(truth, theirs, joints, truth.frame_times_s)
        name = f"person {truth.person_ids[theirs]}"
        scores.append(score_motion(name, relative, wanted, joints, predicted_root=root, truth_root=wanted_root))
    if not scores:
        raise InputError("nobody in the one file is in view at the same time as somebody in the other")
    return scores


def _aligned(pose: Pose3D, person: int, joints: list[str], times_s: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """(T, J, 3) joints relative to the middle of the hips, and (T, 3) this middle."""
    values = pose.joints_3d[person][:, [pose.joint_names_3d.index(joint) for joint in joints]].astype(np.float64)
    hips = values[:, [joints.index("left_hip"), joints.index("right_hip")]].mean(axis=1)
    relative = at_times(values - hips[:, None], pose.frame_times_s, times_s)
    return relative, at_times(hips + pose.trajectory[person], pose.frame_times_s, times_s)


def _match_people(pose: Pose3D, truth: Pose3D) -> list[tuple[int, int]]:
    """Match people by the smallest total distance in the image: (pose index, truth index)."""
    width, height = truth.video_size_wh
    far = float(np.hypot(width, height))
    cost = np.full((pose.num_people, truth.num_people), 2 * far)
    for i, keypoints in enumerate(pose.keypoints_2d):
        moved = at_times(keypoints.astype(np.float64), pose.frame_times_s, truth.frame_times_s)
        for j, wanted in enumerate(truth.keypoints_2d):
            off = np.linalg.norm(moved - wanted, axis=-1)
            together = np.isfinite(off)
            if together.any():
                # Of two equally near people, the one who is in view together longer is the better match.
                cost[i, j] = np.where(together, off.clip(max=far), far).mean()
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if cost[i, j] < 2 * far]
