"""The long table of CSV and Parquet: one row for each person, frame and joint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.io.poses.base import ExportOptions
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Pose3D

# Name, and what it is; the order of the columns.
COLUMNS = {
    "time": "seconds of the video",
    "person": "identity, from 1",
    "joint": "name of the joint",
    "x": "metres; empty where not in view",
    "y": "metres",
    "z": "metres",
    "confidence": "0..1, least of the keypoints that the joint is lifted from; 0 where not in view",
    "observed": "whether the detector saw them, rather than their being filled in",
}


def long_table(pose: Pose3D, options: ExportOptions) -> dict[str, NDArray[np.generic]]:
    """Return the columns of the long table, each (N,).

    Order: by person, frame, joint. NaN where not in view.
    """
    parts = [_columns(motion) for motion in motions_of(pose, options)]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def _columns(motion: Motion) -> dict[str, NDArray[np.generic]]:
    frames, joints = motion.joints.shape[:2]
    x, y, z = np.moveaxis(motion.joints.reshape(-1, 3), -1, 0)
    return {
        "time": np.repeat(motion.times_s, joints),
        "person": np.full(frames * joints, motion.person, np.int32),
        "joint": np.tile(np.array(motion.names), frames),
        "x": x,
        "y": y,
        "z": z,
        "confidence": motion.confidence.ravel(),
        "observed": motion.observed.ravel(),
    }
