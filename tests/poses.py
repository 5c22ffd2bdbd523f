"""Made-up poses: people who walk in straight lines in front of a camera, as plain formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.camera import Intrinsics, project
from vp3d_cli.pose import POSE_ARRAYS, Pose3D
from vp3d_cli.skeletons import COCO17, COCO_LIMBS, H36M17, H36M_LIMBS

Array = NDArray[Any]


def walker(
    times_s: Array, start_xy: tuple[float, float] = (0.0, 0.0), heading_deg: float = 0.0, speed_m_s: float = 1.2
) -> Array:
    """(T, 17, 3) Human3.6M joints in world space, metres, z up, of someone 1.7 m tall who walks."""
    phase = 2 * math.pi * 0.9 * times_s
    body = np.zeros((len(times_s), 17, 3))  # x ahead, y to the person's left, z up

    def put(joint: str, ahead: Any, left: float, up: Any) -> None:
        body[:, H36M17.index(joint)] = np.stack(np.broadcast_arrays(ahead, left, up), axis=-1)

    trunk = (("hip", 0.92), ("spine", 1.15), ("thorax", 1.40), ("neck", 1.52), ("head", 1.70))
    for joint, height in trunk:
        put(joint, 0.0, 0.0, height)
    for side, sign in (("left", 1), ("right", -1)):
        swing = 0.45 * np.sin(phase + (0 if sign > 0 else math.pi))
        put(f"{side}_hip", 0.0, 0.12 * sign, 0.92)
        put(f"{side}_knee", 0.44 * np.sin(swing), 0.12 * sign, 0.92 - 0.44 * np.cos(swing))
        put(f"{side}_ankle", 0.86 * np.sin(swing), 0.12 * sign, 0.92 - 0.86 * np.cos(swing))
        put(f"{side}_shoulder", 0.0, 0.18 * sign, 1.40)
        put(f"{side}_elbow", -0.2 * np.sin(swing), 0.22 * sign, 1.13)
        put(f"{side}_wrist", -0.4 * np.sin(swing), 0.24 * sign, 0.90)
    heading = math.radians(heading_deg)
    ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
    left = np.array([-math.sin(heading), math.cos(heading), 0.0])
    world = body[..., :1] * ahead + body[..., 1:2] * left + body[..., 2:] * [0.0, 0.0, 1.0]
    placed: Array = world + (speed_m_s * times_s)[:, None, None] * ahead + [*start_xy, 0.0]
    return placed


def camera_axes(yaw_deg: float = 0.0) -> Array:
    """(3, 3) world to camera: level, looking along y, then turned to the left by ``yaw_deg``."""
    yaw = math.radians(yaw_deg)
    right = [math.cos(yaw), math.sin(yaw), 0.0]
    forward = [-math.sin(yaw), math.cos(yaw), 0.0]
    return np.array([right, [0.0, 0.0, -1.0], forward])


def pose_of(
    people: list[Array],
    fps: float = 30.0,
    size_wh: tuple[int, int] = (640, 360),
    axes: Array | None = None,
    position: tuple[float, float, float] = (0.0, -6.0, 1.5),
) -> Pose3D:
    """The pose that a faultless detector and lifter would find: (T, 17, 3) world joints of each person."""
    world = np.stack(people)
    count, frames = world.shape[:2]
    cam = (world - np.array(position)) @ (camera_axes() if axes is None else axes).T
    intrinsics = Intrinsics.from_fov(60.0, size_wh).as_tuple()
    pixels = project(cam, intrinsics)
    keypoints = np.repeat(pixels[:, :, H36M17.index("head"), None], 17, axis=2)
    for coco, h36m in zip(COCO_LIMBS, H36M_LIMBS, strict=True):
        keypoints[:, :, coco] = pixels[:, :, h36m]
    arrays: dict[str, Array] = {
        "joints_3d": cam - cam[:, :, :1],
        "trajectory": cam[:, :, 0],
        "joints_world": world,
        "keypoints_2d": keypoints,
        "scores_2d": np.full((count, frames, 17), 0.9),
        "boxes_xyxy": np.concatenate([keypoints.min(axis=2), keypoints.max(axis=2)], axis=-1),
        "observed": np.ones((count, frames, 17), bool),
    }
    return Pose3D.from_arrays(
        arrays,
        range(1, count + 1),
        np.arange(frames) / fps,
        fps=fps,
        video_size_wh=size_wh,
        intrinsics=intrinsics,
        joint_names_3d=H36M17.joints,
        parents_3d=H36M17.parents,
        joint_names_2d=COCO17.joints,
        provenance={"version": "0", "note": "gemacht für Tests", "settings": {"smooth": None, "fov": 60.0}},
    )


def arrays_of(pose: Pose3D) -> dict[str, Array]:
    """Copies of the arrays of a pose over all people and frames, by name."""
    return {name: getattr(pose, name).copy() for name in POSE_ARRAYS}


def with_arrays(pose: Pose3D, person_ids: Sequence[int] | None = None, **changes: Array) -> Pose3D:
    """The pose with other arrays, and other people if they are named."""
    others = {field.name: getattr(pose, field.name) for field in fields(pose) if field.name != "people"}
    return Pose3D.from_arrays(arrays_of(pose) | changes, person_ids or pose.person_ids, **others)


def walking_pose(people: int = 2, frames: int = 20, size_wh: tuple[int, int] = (640, 360)) -> Pose3D:
    """People who stand side by side, 1 m apart, and walk to the right."""
    times_s = np.arange(frames) / 30.0
    return pose_of([walker(times_s, (p - 1.0, 0.4 * p)) for p in range(people)], 30.0, size_wh)
