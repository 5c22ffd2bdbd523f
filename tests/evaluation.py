"""Motions, calibrated clips and lifters made up for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.checkpoint import LifterInfo, save_lifter
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M_LIMBS, LIMB_JOINTS

SHORT = [joint.replace("left_", "l").replace("right_", "r") for joint in LIMB_JOINTS]


def motion(frames: int = 30, joints: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    body = rng.normal(size=(joints, 3)) * [0.3, 0.5, 0.2]
    return body + np.cumsum(0.01 * rng.normal(size=(frames, joints, 3)), axis=0)


def calibrated_file(path: Path, pose: Pose3D, person: int = 0, **changes: Any) -> Path:
    """The clip in which one person of a pose is known."""
    joints = pose.joints_3d[person][:, H36M_LIMBS] + pose.trajectory[person][:, None]
    fx, fy, cx, cy = pose.intrinsics
    content = {
        "cam_joints_cam": joints.astype(np.float32),
        "cam_K": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]),
        "cam_dist": np.zeros(4),
        "joint_names": np.array(SHORT),
        "fps": np.array(pose.fps),
    }
    np.savez(path, **{k: v for k, v in {**content, **changes}.items() if v is not None})
    return path


def lifter_file(path: Path, task: Any = "pose", hold_out: tuple[str, ...] = ("walk_[23]",), **options: Any) -> Path:
    torch.manual_seed(0)
    config = {"widths": [3], "channels": 8, "in_features": 3, "out_joints": 17 if task == "pose" else 1, **options}
    model = build_model("temporal", config).eval()
    save_lifter(path, model, LifterInfo(task, "temporal", config, InputRule(), "", {"data": {"hold_out": hold_out}}))
    return path
