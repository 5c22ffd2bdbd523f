"""Made-up people with a known rig: every rotation is a plain formula, so that what is read back can be checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from poses import arrays_of, camera_axes, pose_of, with_arrays
from scipy.spatial.transform import Rotation

from vp3d_cli.kinematics import global_rotations, joint_positions
from vp3d_cli.pose import Pose3D
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]

# T-pose: z up, facing -y, left at +x; metres.
OFFSETS = {
    "hip": (0, 0, 0), "spine": (0, 0, 0.24), "thorax": (0, 0, 0.25), "neck": (0, -0.04, 0.12), "head": (0, 0.02, 0.14),
    "left_hip": (0.11, 0, 0), "left_knee": (0, 0, -0.42), "left_ankle": (0, 0, -0.41),
    "right_hip": (-0.11, 0, 0), "right_knee": (0, 0, -0.42), "right_ankle": (0, 0, -0.41),
    "left_shoulder": (0.17, 0, -0.01), "left_elbow": (0.28, 0, 0), "left_wrist": (0.25, 0, 0),
    "right_shoulder": (-0.17, 0, -0.01), "right_elbow": (-0.28, 0, 0), "right_wrist": (-0.25, 0, 0),
}  # fmt: skip
BONES = np.array([OFFSETS[joint] for joint in H36M17.joints], np.float64)


def known_rotations(times_s: Array, heading_deg: float = 0.0) -> Array:
    """(t, 17, 3, 3) local rotations of someone who walks, waves and looks around; joints bend as people's do."""
    swing = np.sin(2 * np.pi * 0.9 * times_s)
    turns: dict[str, Array] = {
        "hip": _turns("Z", heading_deg + 10 * swing, "X", 5 + 3 * swing),
        "spine": _turns("Z", -8 * swing, "X", 4 + 0 * swing),
        "thorax": _turns("Z", -10 * swing, "Y", 4 * swing),
        "neck": _turns("Z", 20 * np.sin(times_s), "X", 5 * swing),
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        turns[f"{side}_hip"] = _turns("X", -20 - 25 * sign * swing, "Z", 8 * sign + 4 * swing)
        turns[f"{side}_knee"] = _turns("X", 45 + 25 * sign * swing)
        # From the T-pose down, then forwards and back, and turned about itself.
        turns[f"{side}_shoulder"] = _turns("X", 20 * sign * swing, "Y", 70 * sign + 0 * swing, "X", 15 + 0 * swing)
        turns[f"{side}_elbow"] = _turns("Z", -sign * (50 + 20 * swing))
    still = np.tile(np.eye(3), (len(times_s), 1, 1))
    return np.stack([turns.get(joint, still) for joint in H36M17.joints], axis=1)


def _turns(*axes_and_angles: Any) -> Array:
    """Rotations about moving axes, one after the other: ``"X", degrees, "Z", degrees``."""
    axes, angles = "".join(axes_and_angles[::2]), np.column_stack(np.broadcast_arrays(*axes_and_angles[1::2]))
    return Rotation.from_euler(axes, angles, degrees=True).as_matrix()


def known_joints(times_s: Array, start_xy: tuple[float, float] = (0.0, 0.0), heading_deg: float = 0.0) -> Array:
    """(t, 17, 3) world joints of :func:`known_rotations`, walking ahead."""
    ahead = Rotation.from_euler("Z", heading_deg, degrees=True).apply([0.0, -1.0, 0.0])
    root = np.array([*start_xy, 0.9]) + 1.1 * times_s[:, None] * ahead
    return joint_positions(
        global_rotations(known_rotations(times_s, heading_deg), H36M17.parents), BONES, root, H36M17.parents
    )


def moving_pose(people: int = 2, frames: int = 40, fps: float = 30.0) -> Pose3D:
    """People who walk to different sides, without rigs."""
    times_s = np.arange(frames) / fps
    bodies = [known_joints(times_s, (p - 0.5, 0.4 * p), -60.0 + 90.0 * p) for p in range(people)]
    return pose_of(bodies, fps, axes=camera_axes(10.0), position=(0.4, -6.0, 1.5))


def rigged_pose(people: int = 2, frames: int = 40, fps: float = 30.0, gaps: bool = False) -> Pose3D:
    """The same with rigs; with gaps the last person is out of view in frames 0 to 4, 20 to 24 and in the last."""
    pose = moving_pose(people, frames, fps)
    return add_rigs(with_gaps(pose, [*range(5), *range(20, 25), frames - 1]) if gaps else pose)


def with_gaps(pose: Pose3D, frames: list[int]) -> Pose3D:
    """The pose without its last person in some frames."""
    arrays = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][-1, frames] = np.nan
    for name in ("observed", "scores_2d"):
        arrays[name][-1, frames] = 0
    return with_arrays(pose, **arrays)


def rig_positions(pose: Pose3D, person: int) -> Array:
    """(t, 17, 3) world joints that a person's rig gives; scipy does the rotations."""
    rig = pose.people[person].rig
    assert rig is not None
    known = np.isfinite(rig.root).all(axis=1)
    local = np.full((*rig.rotations.shape[:2], 3, 3), np.nan)
    quaternions = rig.rotations[known].astype(np.float64).reshape(-1, 4)
    local[known] = Rotation.from_quat(quaternions, scalar_first=True).as_matrix().reshape(-1, 17, 3, 3)
    joints = np.full((len(known), 17, 3), np.nan)
    turns = local.copy()
    for joint, parent in enumerate(H36M17.parents):
        if parent < 0:
            joints[:, joint] = rig.root
        else:
            turns[:, joint] = turns[:, parent] @ local[:, joint]
            joints[:, joint] = joints[:, parent] + turns[:, parent] @ rig.bone_offsets[joint]
    return joints


def unevenly_timed(pose: Pose3D) -> Pose3D:
    """The pose with frames that come 12 ms late every third time, as phones film."""
    late = np.where(np.arange(pose.num_frames) % 3 == 1, 0.012, 0.0)
    return replace(pose, frame_times_s=pose.frame_times_s + late)
