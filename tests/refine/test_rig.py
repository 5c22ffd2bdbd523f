"""The rig: constant bones, rotations that are those of the motion, limbs that bend as people's do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from poses import pose_of, walking_pose
from rigs import BONES, known_joints, known_rotations, moving_pose, rig_positions, rigged_pose, with_gaps
from scipy.spatial.transform import Rotation

from vp3d_cli.camera import project
from vp3d_cli.errors import InputError
from vp3d_cli.kinematics import global_rotations, matrix_from_quaternion
from vp3d_cli.pose import Pose3D
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.refine.rig.limbs import steady_phasor
from vp3d_cli.skeletons import COCO17, H36M17

LEFT_KNEE, LEFT_ANKLE = H36M17.index("left_knee"), H36M17.index("left_ankle")


def angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Degrees between rotation matrices."""
    return np.degrees((Rotation.from_matrix(a).inv() * Rotation.from_matrix(b)).magnitude())


def test_exact_joints_give_back_the_known_skeleton_and_rotations() -> None:
    pose = rigged_pose(people=1, frames=90)
    rig = pose.people[0].rig
    assert rig is not None
    np.testing.assert_allclose(np.linalg.norm(rig.bone_offsets, axis=1), np.linalg.norm(BONES, axis=1), atol=1e-3)
    error = np.linalg.norm(rig_positions(pose, 0) - pose.people[0].joints_world, axis=-1)
    assert np.median(error) < 1e-3
    assert error.max() < 6e-3
    wanted = global_rotations(known_rotations(np.arange(90) / 30, -60.0), H36M17.parents)
    found = global_rotations(matrix_from_quaternion(rig.rotations), H36M17.parents)
    for joint in ("hip", "left_hip", "right_hip", "left_knee", "right_knee"):
        off = angle_deg(wanted[:, H36M17.index(joint)], found[:, H36M17.index(joint)])
        assert np.median(off) < 3, joint
    for joint in ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"):
        off = angle_deg(wanted[:, H36M17.index(joint)], found[:, H36M17.index(joint)])
        assert np.median(off) < 6, joint


def test_rotations_are_unit_and_do_not_jump() -> None:
    rig = rigged_pose(people=1, frames=90).people[0].rig
    assert rig is not None
    np.testing.assert_allclose(np.linalg.norm(rig.rotations, axis=-1), 1, atol=1e-6)
    turned = np.degrees(2 * np.arccos(np.clip((rig.rotations[1:] * rig.rotations[:-1]).sum(-1), -1, 1)))
    assert turned.max() < 15  # a knee swings by 25 degrees in a quarter of 1.1 s


def test_bones_that_stretch_become_constant_and_joints_stay_near() -> None:
    times = np.arange(60) / 30
    joints = known_joints(times)
    joints += 0.02 * np.random.default_rng(0).normal(size=(1, 17, 3)) * np.sin(3 * times)[:, None, None]
    pose = add_rigs(pose_of([joints]))
    placed = rig_positions(pose, 0)
    for parent, joint in H36M17.bones:
        assert np.ptp(np.linalg.norm(placed[:, joint] - placed[:, parent], axis=1)) < 1e-5
    assert np.median(np.linalg.norm(placed - joints, axis=-1)) < 0.025


def test_planted_feet_stand() -> None:
    """An ankle that lies still for a second while the lifted shin changes its length by some per cent."""
    times = np.arange(60) / 30
    joints = known_joints(times) * 1.0
    joints[15:45, LEFT_ANKLE] = joints[15, LEFT_ANKLE]
    ahead = joints[15:45, 0] - joints[15, 0]
    joints[15:45] -= ahead[:, None] * 0.95
    joints[45:] -= ahead[-1] * 0.95
    joints[15:45, LEFT_ANKLE] = joints[15, LEFT_ANKLE]
    placed = rig_positions(add_rigs(pose_of([joints])), 0)
    off = np.linalg.norm(placed[16:44, LEFT_ANKLE] - joints[15, LEFT_ANKLE], axis=1)
    assert np.percentile(off, 90) < 1e-3
    assert off.max() < 0.01


@pytest.mark.parametrize("leg", ["left", "right"])
def test_a_knee_that_bends_forwards_is_straightened_backwards(leg: str) -> None:
    """Errors of depth bend nearly straight knees to the wrong side for some frames; hinges do not."""
    times = np.arange(60) / 30
    joints = known_joints(times, heading_deg=0.0)
    hip, knee, ankle = (H36M17.index(f"{leg}_{part}") for part in ("hip", "knee", "ankle"))
    middle = (joints[25:32, hip] + joints[25:32, ankle]) / 2
    joints[25:32, knee] = 2 * middle - joints[25:32, knee]  # mirrored in the line from hip to ankle
    pose = add_rigs(pose_of([joints]))
    rig = pose.people[0].rig
    assert rig is not None
    bend = Rotation.from_quat(rig.rotations[:, knee], scalar_first=True).as_rotvec(degrees=True)
    assert np.abs(bend[:, 1:]).max() < 0.1  # about the hinge alone
    assert (bend[:, 0] > 0).all()
    assert (bend[:, 0] < 161).all()
    placed = rig_positions(pose, 0)
    pelvis = matrix_from_quaternion(rig.rotations[:, 0])
    ahead = pelvis @ [0.0, -1.0, 0.0]
    before_line = ((placed[:, knee] - (placed[:, hip] + placed[:, ankle]) / 2) * ahead).sum(axis=1)
    assert (before_line > 0).all()


@pytest.mark.parametrize("turn_deg", [-50.0, 0.0, 50.0])
def test_the_head_faces_where_nose_and_ears_say(turn_deg: float) -> None:
    pose = moving_pose(people=1, frames=30)
    person = add_rigs(pose).people[0]
    rig = person.rig
    assert rig is not None
    thorax, neck = H36M17.index("thorax"), H36M17.index("neck")
    chest = global_rotations(matrix_from_quaternion(rig.rotations), H36M17.parents)[:, thorax]
    head_turn = chest @ Rotation.from_euler("Z", turn_deg, degrees=True).as_matrix()
    face = {
        "nose": (0, -0.11, -0.02), "left_eye": (0.032, -0.085, 0.02), "right_eye": (-0.032, -0.085, 0.02),
        "left_ear": (0.075, 0.01, 0), "right_ear": (-0.075, 0.01, 0),
    }  # fmt: skip
    keypoints = person.track.keypoints.copy()
    to_camera = np.linalg.lstsq(person.joints_world[0] - person.joints_world[0, 0], person.joints[0], rcond=None)[0]
    head_cam = person.joints[:, H36M17.index("head")] + person.root
    for name, place in face.items():
        in_camera = head_cam + (head_turn @ np.array(place)) @ to_camera
        keypoints[:, COCO17.index(name)] = project(in_camera, np.array(pose.intrinsics))
    seen = replace(pose, people=(replace(pose.people[0], track=replace(person.track, keypoints=keypoints)),))
    found = add_rigs(seen).people[0].rig
    assert found is not None
    turns = global_rotations(matrix_from_quaternion(found.rotations), H36M17.parents)
    ahead = (np.swapaxes(turns[:, thorax], 1, 2) @ (turns[:, neck] @ [0.0, -1.0, 0.0])[..., None])[..., 0]
    yaw = np.degrees(np.arctan2(ahead[:, 0], -ahead[:, 1]))
    assert abs(np.median(yaw) - turn_deg) < 12


def test_gaps_are_missing_in_the_rig() -> None:
    frames = [*range(20, 25)]
    rig = add_rigs(with_gaps(moving_pose(people=2), frames)).people[1].rig
    assert rig is not None
    assert np.isnan(rig.rotations[frames]).all()
    assert np.isnan(rig.root[frames]).all()
    others = np.setdiff1d(np.arange(40), frames)
    assert np.isfinite(rig.rotations[others]).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_motion(frames: int) -> None:
    pose = rigged_pose(people=1, frames=frames)
    rig = pose.people[0].rig
    assert rig is not None
    assert np.isfinite(rig.rotations).all()
    assert np.abs(rig_positions(pose, 0) - pose.people[0].joints_world).max() < 0.01


def test_bones_without_length_and_joints_on_one_spot() -> None:
    joints = known_joints(np.arange(10) / 30)
    joints[:, LEFT_KNEE] = joints[:, LEFT_ANKLE]
    joints[:, H36M17.index("right_elbow") : H36M17.index("right_wrist") + 1] = joints[:, [0]]
    for case in (joints, np.ones((10, 17, 3))):
        rig = add_rigs(pose_of([case])).people[0].rig
        assert rig is not None
        assert np.isfinite(rig.rotations).all()
        assert (np.linalg.norm(rig.bone_offsets[1:], axis=1) > 0).all()


def test_a_rig_that_is_there_is_kept_and_others_are_added() -> None:
    pose = rigged_pose()
    half = replace(pose, people=(pose.people[0], replace(pose.people[1], rig=None)))
    added = add_rigs(half)
    assert added.people[0].rig is pose.people[0].rig
    assert added.people[1].rig is not None
    assert add_rigs(pose) is pose


def test_other_skeletons_are_refused() -> None:
    pose: Pose3D = walking_pose()
    other = replace(pose, joint_names_3d=("a", *pose.joint_names_3d[1:]))
    with pytest.raises(InputError, match="needs the 17 joints of the skeleton h36m17"):
        add_rigs(other)


def test_unweighted_angles_go_through_gaps_smoothly() -> None:
    values = np.exp(1j * np.full(60, 1.0))
    weights = np.ones(60)
    weights[20:40] = 0
    values[20:40] = -1
    angles = np.angle(steady_phasor(values, weights, 30.0, 0.03, 1e-6))
    np.testing.assert_allclose(angles, 1.0, atol=0.01)
