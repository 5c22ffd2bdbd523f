"""Joints and midpoints of any skeleton by one set of names, and which keypoints show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray

SIDES = ("left", "right")
# Where each point is taken from: the first entry whose joints a skeleton has all of; the mean of these joints.
_CENTRE: dict[str, tuple[tuple[str, ...], ...]] = {
    "pelvis": (("hip",), ("pelvis",), ("left_hip", "right_hip")),
    "spine": (("spine",), ("left_hip", "right_hip", "left_shoulder", "right_shoulder")),
    "thorax": (("thorax",), ("left_shoulder", "right_shoulder")),
    "head": (("head",), ("head_top",), ("left_ear", "right_ear")),
}
_LIMB: dict[str, tuple[tuple[str, ...], ...]] = {
    **{name: ((name,),) for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist", "heel")},
    "toe": (("big_toe",), ("foot_index",), ("toe",)),
}
POINTS: dict[str, tuple[tuple[str, ...], ...]] = _CENTRE | {
    f"{side}_{name}": tuple(tuple(f"{side}_{joint}" for joint in joints) for joints in sources)
    for name, sources in _LIMB.items()
    for side in SIDES
}
# Keypoints that show a point of the trunk or head, where the 2D skeleton has no keypoint of its name.
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_SEEN_BY: dict[str, tuple[str, ...]] = {
    "pelvis": _HIPS,
    "spine": _HIPS + _SHOULDERS,
    "thorax": _SHOULDERS,
    "head": ("nose", "left_ear", "right_ear"),
}
_LEGS = ("knee", "ankle", "heel", "toe", "foot_index")
_ANY_OF = frozenset({"head"})  # one keypoint of the face is enough: the far ear is hidden in every side view


@dataclass(frozen=True)
class PersonPoints:
    """One person's points in world space, with how well each was seen.

    Attributes:
        person_id: as in the pose.
        times_s: (t,) seconds.
        frames: (t,) frame numbers in the video.
        places: of each point (t, 3) metres in world space, z up; NaN where not in view.
        body: the same relative to the root joint as the lifter placed them, (t, 3) metres along the axes of the world:
            before feet were held in place, which bends the legs by up to some centimetres.
        observed: of each point (t,) True where the detector saw it.
        scores: of each point (t,) confidence of the detector, 0..1.
    """

    person_id: int
    times_s: DoubleArray
    frames: np.ndarray[tuple[int], np.dtype[np.int64]]
    places: Mapping[str, DoubleArray]
    body: Mapping[str, DoubleArray]
    observed: Mapping[str, BoolArray]
    scores: Mapping[str, DoubleArray]

    def __len__(self) -> int:
        return len(self.times_s)


def named_points(joints: FloatArray | DoubleArray, names: Sequence[str]) -> dict[str, DoubleArray]:
    """Points of :data:`POINTS` that a skeleton has, as (t, 3) arrays.

    Args:
        joints: (t, J, 3).
        names: J joint names; left and right start with ``left_`` and ``right_``.
    """
    index = {name: i for i, name in enumerate(names)}
    points: dict[str, DoubleArray] = {}
    for point, sources in POINTS.items():
        source = next((joints_of for joints_of in sources if all(joint in index for joint in joints_of)), None)
        if source is not None:
            points[point] = joints[:, [index[joint] for joint in source]].astype(np.float64).mean(axis=1)
    return points


def split_side(name: str) -> tuple[str, str]:
    """``("knee_flexion", "left")`` of ``left_knee_flexion``."""
    side, _, rest = name.partition("_")
    return (rest, side) if side in SIDES else (name, "")


def points_of(pose: Pose3D, person: Person3D) -> PersonPoints:
    """The points of one person of a pose, in world space."""
    places = named_points(person.joints_world, pose.joint_names_3d)
    body = named_points(lifted_upright(person, pose.joint_names_3d), pose.joint_names_3d)
    observed: dict[str, BoolArray] = {}
    scores: dict[str, DoubleArray] = {}
    for point in places:
        keypoints = _keypoints_of(point, pose.joint_names_2d)
        seen = person.track.observed[:, keypoints]
        score = np.where(seen, person.track.scores[:, keypoints], 0.0).astype(np.float64)
        if not keypoints:  # nothing in the image shows it: it is the lifter's guess
            observed[point], scores[point] = np.zeros(len(seen), np.bool_), np.zeros(len(seen))
        elif point in _ANY_OF:
            observed[point], scores[point] = np.asarray(seen.any(axis=1)), np.asarray(score.max(axis=1))
        else:
            observed[point], scores[point] = np.asarray(seen.all(axis=1)), np.asarray(score.min(axis=1))
    frames = np.arange(person.track.frames.start, person.track.frames.stop)
    times_s = pose.frame_times_s[person.track.frames]
    return PersonPoints(person.track.person_id, times_s, frames, places, body, observed, scores)


def lifted_upright(person: Person3D, names: Sequence[str]) -> DoubleArray:
    """Lifted joints (t, J, 3) relative to the root, rotated to world axes.

    World space differs from what was lifted by a rotation, a shift, and legs bent to hold the feet. The rotation is
    found in each frame from the joints that are not of the legs (Kabsch 1976).
    """
    rigid = [i for i, name in enumerate(names) if not name.endswith(_LEGS)]
    camera = person.joints.astype(np.float64)
    world = person.joints_world.astype(np.float64)
    known = np.asarray(np.isfinite(camera[:, rigid] + world[:, rigid]).all(axis=2))
    there = known.sum(axis=1) >= 3
    a, b = (_centred(joints[there][:, rigid], known[there]) for joints in (camera, world))
    u, _, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)
    vt[:, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # a rotation, no mirror image
    result = np.full(camera.shape, np.nan)
    result[there] = camera[there] @ (u @ vt)
    return result


def _centred(joints: DoubleArray, known: BoolArray) -> DoubleArray:
    """Joints (t, J, 3) relative to the mean of those that are known; 0 for the others."""
    joints = np.where(known[..., None], joints, 0.0)
    mean = joints.sum(axis=1, keepdims=True) / known.sum(axis=1)[:, None, None]
    return np.asarray(np.where(known[..., None], joints - mean, 0.0))


def _keypoints_of(point: str, names: Iterable[str]) -> list[int]:
    """Indices of the 2D keypoints that show a point."""
    index = {name: i for i, name in enumerate(names)}
    own = [joints for joints in POINTS[point] if all(joint in index for joint in joints)]
    wanted = own[0] if own and point not in _ANY_OF else _SEEN_BY.get(point, ())
    return [index[name] for name in wanted if name in index]
