"""One person's motion as exporters need it.

It is in the requested space and axes, at the requested times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.poses.base import ExportOptions
from vp3d_cli.kinematics import (
    best_rotations,
    global_rotations,
    joint_positions,
    matrix_from_quaternion,
    quaternion_from_matrix,
    without_sign_flips,
)
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.types import BoolArray, DoubleArray, over_all

# z up, as in world space, to y up: what faces -y then faces +z, as glTF and Mixamo have it.
Z_UP_TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# Camera axes, y down and z forward, to y up.
CAMERA_TO_Y_UP = np.diag([1.0, -1.0, -1.0])
# Frames are taken to be evenly spaced if none is off by more than this part of a frame.
_UNEVEN = 0.25
# The keypoints (COCO) that joints of the trunk and head are lifted from; joints of limbs are keypoints themselves.
_SOURCES = {
    "hip": ("left_hip", "right_hip"),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "neck": ("left_shoulder", "right_shoulder", "nose"),
    "head": ("nose", "left_ear", "right_ear"),
}


@dataclass(frozen=True)
class RigMotion:
    """Joint rotations of n frames.

    ``local`` is (n, J, 3, 3); ``offsets`` (J, 3) and ``root`` (n, 3) are in metres.
    """

    local: DoubleArray
    offsets: DoubleArray
    root: DoubleArray
    parents: tuple[int, ...]

    def positions(self) -> DoubleArray:
        """Joint positions (n, J, 3) in metres."""
        return joint_positions(global_rotations(self.local, self.parents), self.offsets, self.root, self.parents)

    def quaternions(self) -> DoubleArray:
        """Local rotations (n, J, 4), (w, x, y, z), without jumps of sign."""
        return without_sign_flips(quaternion_from_matrix(self.local))


@dataclass(frozen=True)
class Motion:
    """One person in the n frames to export; NaN where not in view.

    Attributes:
        person: identity, from 1.
        times_s: (n,) seconds of the video.
        fps: frames per second.
        joints: (n, J, 3) metres, in world or camera space.
        confidence: (n, J) 0..1, from the keypoints; 0 where not in view.
        observed: (n, J) whether the keypoints come from the detector.
        names, parents: the skeleton.
        space: ``"world"`` or ``"camera"``.
        rig: the rig in the same space, or None; rest pose z up.
    """

    person: int
    times_s: DoubleArray
    fps: float
    joints: DoubleArray
    confidence: DoubleArray
    observed: BoolArray
    names: tuple[str, ...]
    parents: tuple[int, ...]
    space: str
    rig: RigMotion | None

    @property
    def in_view(self) -> BoolArray:
        """(n,) frames in which all joints are known."""
        return np.asarray(np.isfinite(self.joints).all(axis=(1, 2)))

    @property
    def to_y_up(self) -> DoubleArray:
        """(3, 3) from the space's axes to axes with y up."""
        return CAMERA_TO_Y_UP if self.space == "camera" else Z_UP_TO_Y_UP

    def joints_y_up(self) -> DoubleArray:
        """(n, J, 3) metres, y up; NaN where not in view."""
        return np.asarray(self.joints @ self.to_y_up.T)

    def held_joints_y_up(self) -> DoubleArray:
        """(n, J, 3) metres, y up; held where the person is not in view."""
        return np.asarray(self.joints_y_up()[_held(self.in_view)])

    def held_rig(self) -> RigMotion:
        """Return the rig with y up and the rest pose facing +z, left side at +x.

        It keeps the last pose where the person is not in view.

        Raises:
            InputError: the person has no rig.
        """
        if self.rig is None:
            raise InputError(f"person {self.person} has no joint rotations; compute a rig before this export")
        rig, turn, rest = self.rig, self.to_y_up, Z_UP_TO_Y_UP
        known = np.asarray(np.isfinite(rig.root).all(axis=1) & np.isfinite(rig.local).all(axis=(1, 2, 3)))
        at = _held(known)
        local = rest @ rig.local[at] @ rest.T
        local[:, 0] = turn @ rig.local[at, 0] @ rest.T
        return RigMotion(local, rig.offsets @ rest.T, rig.root[at] @ turn.T, rig.parents)


def _held(known: BoolArray) -> NDArray[np.intp]:
    """(n,) for each frame the last known one before it, or the first known one."""
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    return np.where(last < 0, int(np.argmax(known)), last)


def motions_of(pose: Pose3D, options: ExportOptions, even: bool = False) -> list[Motion]:
    """Everyone's motion.

    Args:
        pose: people and frames as selected.
        options: space, frame rate and whether to stay in place.
        even: the format knows only a frame rate: frames of a video with uneven timestamps are resampled to its mean.
    """
    times, fps = pose.frame_times_s, float(pose.fps)
    new_times = times
    if options.fps is not None and len(times) > 1:
        fps = float(options.fps)
        new_times = _grid(times, fps)
    elif even and not is_even(times, fps):
        new_times = _grid(times, fps)
    motions = [_motion(pose, person, options.space, fps) for person in pose.people]
    if new_times is not times:
        motions = [_resampled(motion, new_times) for motion in motions]
    return [_in_place(motion) for motion in motions] if options.in_place else motions


def is_even(times_s: DoubleArray, fps: float) -> bool:
    """Whether timestamps (T,) are those of a constant frame rate."""
    grid = times_s[:1] + np.arange(len(times_s)) / fps
    return bool((np.abs(times_s - grid) < _UNEVEN / fps).all())


def _grid(times_s: DoubleArray, fps: float) -> DoubleArray:
    count = int(np.floor((times_s[-1] - times_s[0]) * fps + 1e-6)) + 1
    return np.asarray(times_s[0] + np.arange(count) / fps)


def _motion(pose: Pose3D, person: Person3D, space: str, fps: float) -> Motion:
    frames, first = pose.num_frames, person.track.first
    placed = (person.joints + person.root[:, None]).astype(np.float64)
    world = person.joints_world.astype(np.float64)
    confidence, observed = _joint_evidence(pose, person)
    return Motion(
        person.track.person_id,
        pose.frame_times_s,
        fps,
        over_all(placed if space == "camera" else world, first, frames),
        over_all(confidence, first, frames, 0),
        over_all(observed, first, frames, 0),
        tuple(pose.joint_names_3d),
        tuple(pose.parents_3d),
        space,
        _rig(person, tuple(pose.parents_3d), frames, placed, world, space),
    )


def _rig(
    person: Person3D, parents: tuple[int, ...], frames: int, placed: DoubleArray, world: DoubleArray, space: str
) -> RigMotion | None:
    if person.rig is None:
        return None
    local, root = matrix_from_quaternion(person.rig.rotations), person.rig.root.astype(np.float64)
    if space == "camera":
        known = np.isfinite(placed).all(axis=(1, 2)) & np.isfinite(world).all(axis=(1, 2))
        turns = np.full((len(world), 3, 3), np.nan)
        turns[known] = best_rotations(world[known], placed[known])
        root = (turns @ (root - world[:, 0])[..., None])[..., 0] + placed[:, 0]
        local[:, 0] = turns @ local[:, 0]
    first = person.track.first
    offsets = person.rig.bone_offsets.astype(np.float64)
    return RigMotion(over_all(local, first, frames), offsets, over_all(root, first, frames), parents)


def _joint_evidence(pose: Pose3D, person: Person3D) -> tuple[DoubleArray, BoolArray]:
    """Return confidence (t, J) of the joints, and whether they were observed.

    Both come from the keypoints that a joint is lifted from: the least confidence, and whether all were observed.
    """
    names = list(pose.joint_names_2d)
    every = list(range(len(names)))
    known = np.isfinite(person.joints_world).all(axis=-1)
    confidence, observed = np.zeros(known.shape), np.zeros(known.shape, np.bool_)
    for joint, name in enumerate(pose.joint_names_3d):
        from_keypoints = [names.index(source) for source in _SOURCES.get(name, (name,)) if source in names] or every
        confidence[:, joint] = person.track.scores[:, from_keypoints].min(axis=1)
        observed[:, joint] = person.track.observed[:, from_keypoints].all(axis=1)
    return np.where(known, confidence, 0.0), observed & known


def _resampled(motion: Motion, times_s: DoubleArray) -> Motion:
    """The motion at other times, by straight lines and along the shortest turns; gaps stay gaps."""
    after = np.clip(np.searchsorted(motion.times_s, times_s - 1e-9), 0, len(motion.times_s) - 1)
    before = np.maximum(after - 1, 0)
    span = np.where(after > before, motion.times_s[after] - motion.times_s[before], 1.0)
    share = np.where(after > before, np.clip((times_s - motion.times_s[before]) / span, 0.0, 1.0), 0.0)
    before, after = np.where(share >= 1 - 1e-6, after, before), np.where(share <= 1e-6, before, after)
    share = np.where(before == after, 0.0, share)

    def between(values: DoubleArray) -> DoubleArray:
        weight = share.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray((1 - weight) * values[before] + weight * values[after])

    def between_turns(values: DoubleArray) -> DoubleArray:
        weight, first, second = share[:, None, None], values[before], values[after]
        near = np.where((first * second).sum(axis=-1, keepdims=True) < 0, -second, second)
        return np.asarray((1 - weight) * first + weight * near)

    rig = motion.rig
    if rig is not None:
        mixed = between_turns(quaternion_from_matrix(rig.local))
        mixed /= np.linalg.norm(mixed, axis=-1, keepdims=True)
        rig = RigMotion(matrix_from_quaternion(mixed), rig.offsets, between(rig.root), rig.parents)
    return replace(
        motion,
        times_s=times_s,
        joints=between(motion.joints),
        confidence=between(motion.confidence),
        observed=motion.observed[before] & motion.observed[after],
        rig=rig,
    )


def _in_place(motion: Motion) -> Motion:
    """The root stays where it is first seen, but for its height."""
    level = [0, 2] if motion.space == "camera" else [0, 1]

    def shift_of(root: DoubleArray) -> DoubleArray:
        known = np.isfinite(root).all(axis=1)
        shift = np.zeros_like(root)
        shift[:, level] = root[int(np.argmax(known)), level] - root[:, level]
        return shift

    rig = motion.rig
    if rig is not None:
        rig = replace(rig, root=rig.root + shift_of(rig.root))
    return replace(motion, joints=motion.joints + shift_of(motion.joints[:, 0])[:, None], rig=rig)
