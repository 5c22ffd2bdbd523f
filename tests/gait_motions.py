"""People whose steps are known: feet that stand still on the ground, and swing from one place to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from poses import pose_of

from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]
_THIGH_M, _SHANK_M, _ANKLE_M, _HIP_M = 0.44, 0.43, 0.08, 0.93


@dataclass(frozen=True)
class Walk:
    """A gait: the left foot strikes at 0 s and then every ``stride_s``.

    Attributes:
        stride_s: seconds from one heel strike to the next of the same foot.
        left_m, right_m: length of the step that ends with this foot.
        stance: share of the stride that a foot stands.
        lag: share of the stride from the left to the right heel strike; a half if even.
    """

    stride_s: float = 1.2
    left_m: float = 0.7
    right_m: float = 0.7
    stance: float = 0.62
    lag: float = 0.5

    @property
    def speed_m_s(self) -> float:
        return (self.left_m + self.right_m) / self.stride_s


def walking_joints(times_s: Array, walk: Walk) -> Array:
    """(T, 17, 3) world joints of somebody who walks along x."""
    joints = np.zeros((len(times_s), 17, 3))
    pelvis = np.stack([walk.speed_m_s * times_s, 0 * times_s, np.full(len(times_s), _HIP_M)], axis=-1)

    def put(joint: str, place: Array) -> None:
        joints[:, H36M17.index(joint)] = place

    for joint, height in (("hip", 0.0), ("spine", 0.24), ("thorax", 0.48), ("neck", 0.6), ("head", 0.78)):
        put(joint, pelvis + [0.0, 0.0, height])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        out = np.array([0.0, 0.1 * sign, 0.0])
        swing = 0.3 * np.sin(2 * np.pi * times_s / walk.stride_s) * sign
        put(f"{side}_shoulder", pelvis + 1.8 * out + [0.0, 0.0, 0.48])
        for joint, length in (("elbow", 0.28), ("wrist", 0.53)):
            arm = np.stack([length * np.sin(swing), 0 * swing, -length * np.cos(swing)], axis=-1)
            put(f"{side}_{joint}", pelvis + 1.8 * out + [0.0, 0.0, 0.48] + arm)
        put(f"{side}_hip", pelvis + out)
        ankle = _ankle(times_s, walk, side) + out
        put(f"{side}_ankle", ankle)
        put(f"{side}_knee", _knee(pelvis + out, ankle))
    return joints


def _ankle(times_s: Array, walk: Walk, side: str) -> Array:
    """(T, 3) of one ankle: still while it stands, then forward by a stride."""
    since = times_s / walk.stride_s - (walk.lag if side == "right" else 0.0)
    stride = np.floor(since)
    swing = np.clip((since - stride - walk.stance) / (1 - walk.stance), 0.0, 1.0)
    length = walk.left_m + walk.right_m
    # Midway through its stance a foot is below the pelvis; the right one lands by its own step length before the left.
    first = 0.5 * walk.stance * length if side == "left" else 0.5 * walk.stance * length + walk.right_m
    ahead = first + length * (stride + _share_of_way(swing))
    return np.stack([ahead, 0 * ahead, _ANKLE_M + 0.12 * np.sin(np.pi * swing)], axis=-1)


def _share_of_way(time: Array) -> Array:
    """Share of the way after a share of the time: the speed rises within 0.15 of it, stays, and falls as quickly."""
    ramp = 0.15
    begin = np.minimum(time, ramp) ** 2 / (2 * ramp)
    middle = np.clip(time - ramp, 0.0, 1 - 2 * ramp)
    end = np.maximum(time - (1 - ramp), 0.0)
    share: Array = (begin + middle + end - end**2 / (2 * ramp)) / (1 - ramp)
    return share


def _knee(hip: Array, ankle: Array) -> Array:
    """(T, 3) between hip and ankle, bent forward so far that the bones keep their lengths where that can be."""
    line = ankle - hip
    length = np.linalg.norm(line, axis=1, keepdims=True)
    near = (_THIGH_M**2 - _SHANK_M**2 + length**2) / (2 * length)
    bend = np.sqrt(np.maximum(_THIGH_M**2 - near**2, 1e-4))
    forward = np.cross(np.array([0.0, 1.0, 0.0]), line / length)
    return hip + near * line / length + bend * -forward


def pose_at(joints: Array, fps: float) -> Pose3D:
    """The pose that a faultless detector and lifter would make of (T, 17, 3) joints of one person."""
    return pose_of([joints], fps)


def walking(seconds: float = 6.0, fps: float = 30.0, walk: Walk | None = None) -> Pose3D:
    """The pose of somebody who walks."""
    return pose_at(walking_joints(np.arange(round(seconds * fps)) / fps, walk or Walk()), fps)
