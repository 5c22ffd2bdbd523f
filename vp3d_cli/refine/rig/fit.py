"""From a person's joints to a rig: constant bone lengths, rotations of all joints.

The order: rest pose (``rest_pose.py``), rotations of the whole body by least squares (``solve.py``), standing feet
held, planes of arms and legs (``limbs.py``), direction of the face (``head.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vp3d_cli.camera import rotation_from_axis_angle
from vp3d_cli.errors import InputError
from vp3d_cli.kinematics import (
    best_rotations,
    joint_positions,
    local_rotations,
    quaternion_from_matrix,
    without_sign_flips,
)
from vp3d_cli.pose import Person3D, Pose3D, Rig
from vp3d_cli.refine.body import ANKLES, NECK, THORAX, frame_rate, low_pass, unit_vectors
from vp3d_cli.refine.foot_locking import fade_out
from vp3d_cli.refine.rig.head import head_turn
from vp3d_cli.refine.rig.limbs import ARMS, LEGS, limb_rotations
from vp3d_cli.refine.rig.rest_pose import HEAD, estimate_rest_pose, in_view
from vp3d_cli.refine.rig.solve import fit_rotations, swing
from vp3d_cli.skeletons import H36M17, H36M_LIMBS, LIMB_JOINTS
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, stretches

# Feet that stand are held while the rest of the body gives way.
_STANDING_WEIGHT = 4.0
_STANDING_SIGMA_S = 0.05
# Planted feet lie still but for rounding; swinging feet move at 1 m/s and more.
_STILL_M_S = 0.02
_SHORTEST_STAND_S = 0.08


@dataclass(frozen=True)
class View:
    """Image evidence of a person, from which :func:`fit_rig` takes the direction of the face.

    Attributes:
        keypoints: (t, K, 2) pixels; NaN where missing.
        scores: (t, K) confidence 0..1.
        names: K names of the keypoints.
        intrinsics: fx, fy, cx, cy in pixels.
    """

    keypoints: FloatArray
    scores: FloatArray
    names: tuple[str, ...]
    intrinsics: tuple[float, float, float, float]


def add_rigs(pose: Pose3D) -> Pose3D:
    """The pose with a rig for each person who has none.

    Raises:
        InputError: the skeleton is not Human3.6M's of 17 joints.
    """
    if all(person.rig is not None for person in pose.people):
        return pose
    if tuple(pose.joint_names_3d) != H36M17.joints or tuple(pose.parents_3d) != H36M17.parents:
        raise InputError(
            f"a rig needs the {H36M17.num_joints} joints of the skeleton {H36M17.name}; this pose has "
            f"{', '.join(pose.joint_names_3d)}"
        )
    people = []
    for person in pose.people:
        view = View(person.track.keypoints, person.track.scores, tuple(pose.joint_names_2d), pose.intrinsics)
        times = pose.frame_times_s[person.track.frames]
        people.append(person if person.rig is not None else replace(person, rig=fit_rig(person, view, times)))
    return replace(pose, people=tuple(people))


def fit_rig(person: Person3D, view: View, times_s: DoubleArray) -> Rig:
    """Fit a skeleton with constant bone lengths to one person's motion.

    Args:
        person: with joints of Human3.6M's skeleton.
        view: what the camera saw of them.
        times_s: (t,) seconds of their frames.

    Returns:
        The rig; NaN in frames in which a joint is missing. Someone who is never in view gets bones of length 0.
    """
    count, known = H36M17.num_joints, in_view(person.joints_world) & in_view(person.joints)
    rotations = np.full((len(known), count, 4), np.nan, np.float32)
    root = np.full((len(known), 3), np.nan, np.float32)
    if not known.any():
        return Rig(rotations, np.zeros((count, 3), np.float32), root)
    world = person.joints_world.astype(np.float64)
    placed = (person.joints + person.root[:, None]).astype(np.float64)
    known &= in_view(placed)
    scores = _joint_scores(view)
    camera = np.full((len(known), 3, 3), np.nan)
    camera[known] = best_rotations(world[known], placed[known])
    rays = unit_vectors(placed) @ camera
    offsets = estimate_rest_pose(world[known], rays[known], scores[known])
    rate = frame_rate(times_s)
    for start, stop in stretches(known):
        part = slice(start, stop)
        turns, root[part] = _fit_stretch(world[part], offsets, rate)
        turns[:, NECK] = _face(turns, offsets, view, part, camera[part], placed[part, HEAD], rate)
        turns[:, HEAD] = turns[:, NECK]
        local = local_rotations(turns, H36M17.parents)
        rotations[part] = without_sign_flips(quaternion_from_matrix(local))
    return Rig(rotations, offsets, root)


def _joint_scores(view: View) -> DoubleArray:
    """(t, 17) confidence of the 3D joints: their own keypoint's, or the mean of the limbs'."""
    names = list(view.names)
    if not set(LIMB_JOINTS) <= set(names):
        return np.ones((len(view.scores), H36M17.num_joints))
    own = view.scores[:, [names.index(joint) for joint in LIMB_JOINTS]]
    limbs = np.clip(own.astype(np.float64), 0.0, 1.0)
    result: DoubleArray = np.repeat(limbs.mean(axis=1)[:, None], H36M17.num_joints, axis=1)
    result[:, H36M_LIMBS] = limbs
    return result


def _fit_stretch(world: DoubleArray, offsets: FloatArray, rate: float) -> tuple[DoubleArray, FloatArray]:
    """Global rotations (t, 17, 3, 3) and root (t, 3) of uninterrupted frames."""
    standing = _standing(world[:, ANKLES], rate)
    weights = np.ones(world.shape[:2])
    weights[:, ANKLES] += (_STANDING_WEIGHT - 1) * low_pass(standing.astype(np.float64), _STANDING_SIGMA_S, rate)
    turns, root = fit_rotations(world, offsets, weights)
    joints = joint_positions(turns, offsets, root, H36M17.parents)
    for foot, ankle in enumerate(ANKLES):
        joints[:, ankle] += fade_out(world[:, ankle] - joints[:, ankle], standing[:, foot], rate)
    for limb in (*LEGS, *ARMS):
        upper, lower = limb_rotations(limb, turns[:, limb.base], joints, offsets, rate)
        turns[:, limb.upper], turns[:, limb.middle] = upper, lower
        turns[:, limb.end] = lower  # the skeleton has no hands and feet
    return turns, root.astype(np.float32)


def _standing(ankles: DoubleArray, rate: float) -> BoolArray:
    """(t, 2) frames in which an ankle (t, 2, 3) lies still."""
    if len(ankles) < 2:
        return np.zeros(ankles.shape[:2], np.bool_)
    still = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) * rate < _STILL_M_S
    flags = np.zeros(ankles.shape[:2], np.bool_)
    for foot in range(2):
        for start, stop in stretches(still[:, foot]):
            flags[start : stop + 1, foot] = (stop - start) >= _SHORTEST_STAND_S * rate
    return flags


def _face(
    turns: DoubleArray,
    offsets: FloatArray,
    view: View,
    part: slice,
    camera: DoubleArray,
    head_cam: DoubleArray,
    rate: float,
) -> DoubleArray:
    """Rotate the neck's bone to where the face looks: global rotations (t, 3, 3).

    The neck's bone carries the head.
    """
    chest, rest = turns[:, THORAX], unit_vectors(offsets[HEAD].astype(np.float64))
    axis = turns[:, NECK] @ rest
    local = (np.swapaxes(chest, -1, -2) @ axis[..., None])[..., 0]
    base = chest @ swing(np.broadcast_to(rest, local.shape), local)
    keypoints, scores = view.keypoints[part].astype(np.float64), view.scores[part].astype(np.float64)
    angle = head_turn(base, axis, keypoints, scores, view.names, camera, head_cam, view.intrinsics, rate)
    return np.asarray(rotation_from_axis_angle(angle[:, None] * axis) @ base)
