"""Joint angles: those of a skeleton whose rotations are known, their signs, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gait_motions import walking
from numpy.typing import NDArray
from poses import camera_axes, pose_of, with_arrays
from scipy.spatial.transform import Rotation

from vp3d_cli.analysis.angles import ANGLE_NAMES, angles_from_joints, joint_angles, select_angles
from vp3d_cli.errors import ConfigError
from vp3d_cli.skeletons import COCO17, H36M17, HUMANEVA15

Array = NDArray[Any]
WITH_FEET = (*H36M17.joints, "left_heel", "right_heel", "left_big_toe", "right_big_toe")
# World axes of somebody who faces away from the camera: X forward (y of the world), Y up (z), Z right (x), as columns.
_FACING_AWAY = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
# Mean, amplitude and number of waves of each angle of the made-up motion, degrees.
_WAVES: dict[str, tuple[float, float, float]] = {
    "pelvis_tilt": (5, 20, 2), "pelvis_obliquity": (0, 10, 3), "pelvis_rotation": (40, 60, 1),
    "spine_flexion": (20, 30, 1), "spine_bending": (0, 15, 2), "spine_rotation": (0, 25, 2),
    "neck_flexion": (10, 20, 2), "neck_bending": (0, 15, 1),
}  # fmt: skip
_LIMB_WAVES: dict[str, tuple[float, float, float]] = {
    "hip_flexion": (40, 60, 2), "hip_adduction": (-15, 20, 3), "hip_rotation": (5, 25, 1), "knee_flexion": (80, 50, 2),
    "ankle_dorsiflexion": (-5, 25, 3), "shoulder_plane": (40, 50, 1), "shoulder_elevation": (80, 60, 2),
    "shoulder_rotation": (-30, 60, 2), "elbow_flexion": (85, 55, 3),
}  # fmt: skip


def known_angles(frames: int = 300) -> dict[str, Array]:
    """Every angle over time, smooth, left and right out of step."""
    phase = np.linspace(0, 2 * np.pi, frames)
    waves = {name: (wave, 0.3) for name, wave in _WAVES.items()}
    for side, shift in (("left", 0.0), ("right", 1.7)):
        waves |= {f"{side}_{name}": (wave, shift) for name, wave in _LIMB_WAVES.items()}
    return {name: mean + size * np.sin(count * phase + shift) for name, ((mean, size, count), shift) in waves.items()}


def turned(axes: Array, order: str, *degrees: Array) -> Array:
    """Axes (t, 3, 3) turned about their own axes one after the other, as a BVH file's channels do."""
    return np.asarray(axes @ Rotation.from_euler(order, np.stack(degrees, axis=-1), degrees=True).as_matrix())


def joints_with(angles: dict[str, Array]) -> dict[str, Array]:
    """Forward kinematics: world places (t, 3) of the joints of a body with these angles."""
    pelvis = turned(_FACING_AWAY, "YXZ", angles["pelvis_rotation"], angles["pelvis_obliquity"], -angles["pelvis_tilt"])
    thorax = turned(pelvis, "ZXY", -angles["spine_flexion"], angles["spine_bending"], angles["spine_rotation"])
    still = np.zeros(len(pelvis))
    head = turned(thorax, "ZXY", -angles["neck_flexion"], angles["neck_bending"], still)
    at = {"hip": np.zeros((len(pelvis), 3)) + [0.3, 4.0, 1.0]}
    at["spine"] = at["hip"] + 0.24 * pelvis[..., 1]
    at["thorax"] = at["spine"] + 0.26 * thorax[..., 1]
    at["neck"] = at["thorax"] + 0.12 * head[..., 1]
    at["head"] = at["thorax"] + 0.3 * head[..., 1]
    for side, sign in (("right", 1.0), ("left", -1.0)):
        of: Callable[[str], Array] = lambda name, side=side: angles[f"{side}_{name}"]  # noqa: E731
        at[f"{side}_hip"] = at["hip"] + 0.12 * sign * pelvis[..., 2]
        thigh = turned(pelvis, "ZXY", of("hip_flexion"), sign * of("hip_adduction"), sign * of("hip_rotation"))
        shank = turned(thigh, "Z", -of("knee_flexion"))
        foot = turned(shank, "Z", of("ankle_dorsiflexion"))
        at[f"{side}_knee"] = at[f"{side}_hip"] - 0.44 * thigh[..., 1]
        at[f"{side}_ankle"] = at[f"{side}_knee"] - 0.43 * shank[..., 1]
        at[f"{side}_heel"] = at[f"{side}_ankle"] - 0.06 * foot[..., 1] - 0.05 * foot[..., 0]
        at[f"{side}_big_toe"] = at[f"{side}_heel"] + 0.24 * foot[..., 0]
        at[f"{side}_shoulder"] = at["thorax"] + 0.18 * sign * thorax[..., 2]
        plane, rotation = sign * of("shoulder_plane"), sign * of("shoulder_rotation")
        arm = turned(thorax, "YXY", plane, -sign * of("shoulder_elevation"), rotation)
        fore = turned(arm, "Z", of("elbow_flexion"))
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] - 0.29 * arm[..., 1]
        at[f"{side}_wrist"] = at[f"{side}_elbow"] - 0.25 * fore[..., 1]
    return at


def stacked(at: dict[str, Array], names: tuple[str, ...]) -> Array:
    return np.stack([at[name] for name in names], axis=1)


def rms(a: Array, b: Array) -> float:
    return float(np.sqrt(np.nanmean((a - b) ** 2)))


def test_angles_are_those_of_known_rotations() -> None:
    known = known_angles()
    found = angles_from_joints(stacked(joints_with(known), WITH_FEET), WITH_FEET)
    assert set(found) == set(ANGLE_NAMES)
    for name, degrees in known.items():
        assert np.isfinite(found[name]).mean() > 0.9, name
        assert rms(found[name], degrees) < 0.01, name


def test_trunk_is_the_pelvis_where_the_spine_is_straight() -> None:
    known = known_angles()
    straight = known | {name: 0 * known[name] for name in ("spine_flexion", "spine_bending", "spine_rotation")}
    found = angles_from_joints(stacked(joints_with(straight), WITH_FEET), WITH_FEET)
    for motion in ("tilt", "obliquity", "rotation"):
        assert rms(found[f"trunk_{motion}"], known[f"pelvis_{motion}"]) < 0.01, motion


def test_angles_of_a_pose_do_not_depend_on_the_camera_or_on_where_feet_are_held() -> None:
    known = known_angles()
    world = stacked(joints_with(known), H36M17.joints)
    pose = pose_of([world], axes=camera_axes(50.0))
    bent = pose.joints_world.copy()
    for joint in ("left_knee", "left_ankle", "right_ankle"):
        bent[:, :, H36M17.index(joint)] += [0.04, -0.03, 0.02]
    (found,) = joint_angles(with_arrays(pose, joints_world=bent))
    assert found.names == tuple(name for name in ANGLE_NAMES if "ankle" not in name)
    for name in set(known) & set(found.names):
        assert rms(found[name], known[name]) < 0.05, name  # files hold single precision


# Upright, facing away from the camera; what changes, and which angles must say so.
STANDING: dict[str, tuple[float, float, float]] = {
    "hip": (0, 0, 0.9), "spine": (0, 0, 1.15), "thorax": (0, 0, 1.4), "neck": (0, 0.05, 1.5), "head": (0, 0, 1.7),
    "right_hip": (0.1, 0, 0.9), "right_knee": (0.1, 0, 0.5), "right_ankle": (0.1, 0, 0.1),
    "left_hip": (-0.1, 0, 0.9), "left_knee": (-0.1, 0, 0.5), "left_ankle": (-0.1, 0, 0.1),
    "right_shoulder": (0.2, 0, 1.4), "right_elbow": (0.2, 0, 1.1), "right_wrist": (0.2, 0, 0.8),
    "left_shoulder": (-0.2, 0, 1.4), "left_elbow": (-0.2, 0, 1.1), "left_wrist": (-0.2, 0, 0.8),
}  # fmt: skip


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ({}, {"left_hip_flexion": 0, "pelvis_rotation": 0, "left_shoulder_elevation": 0, "neck_flexion": 0}),
        ({"right_knee": (0.1, 0.4, 0.9), "right_ankle": (0.1, 0.4, 0.5)},
         {"right_hip_flexion": 90, "right_knee_flexion": 90, "right_hip_rotation": 0, "left_hip_flexion": 0}),
        ({"left_knee": (-0.3, 0, 0.5536), "left_ankle": (-0.5, 0, 0.2072)}, {"left_hip_adduction": -30}),
        ({"right_knee": (-0.1, 0, 0.5536)}, {"right_hip_adduction": 30}),
        ({"left_ankle": (-0.1, -0.4, 0.5)}, {"left_knee_flexion": 90, "left_hip_flexion": 0, "left_hip_rotation": 0}),
        ({"left_ankle": (-0.4, 0, 0.5)}, {"left_hip_rotation": 90}),  # the foot goes out when the thigh turns in
        ({"right_ankle": (0.4, 0, 0.5)}, {"right_hip_rotation": 90}),
        ({"right_elbow": (0.2, 0.3, 1.4), "right_wrist": (0.2, 0.6, 1.4)},
         {"right_shoulder_elevation": 90, "right_shoulder_plane": 90, "right_elbow_flexion": 0}),
        ({"left_elbow": (-0.5, 0, 1.4), "left_wrist": (-0.5, 0.3, 1.4)},
         {"left_shoulder_elevation": 90, "left_shoulder_plane": 0, "left_elbow_flexion": 90}),
        ({"head": (0, 0.3, 1.7)}, {"neck_flexion": 45, "neck_bending": 0}),
        ({"head": (0.3, 0, 1.7)}, {"neck_bending": 45, "neck_flexion": 0}),
        ({"right_hip": (0.1, 0, 0.8), "left_hip": (-0.1, 0, 1.0)}, {"pelvis_obliquity": 45}),
    ],
)  # fmt: skip
def test_signs(moved: dict[str, tuple[float, ...]], expected: dict[str, float]) -> None:
    joints = np.array([[(STANDING | moved)[name] for name in H36M17.joints]], np.float64)
    found = angles_from_joints(joints, H36M17.joints)
    assert {name: pytest.approx(degrees, abs=0.1) for name, degrees in expected.items()} == {
        name: found[name][0] for name in expected
    }


@pytest.mark.parametrize(
    ("turn", "axis", "angle"),
    [("left", (0, 0, 1), "rotation"), ("forward", (-1, 0, 0), "tilt"), ("right", (0, 1, 0), "obliquity")],
)
def test_a_body_that_turns_as_a_whole_turns_pelvis_and_trunk_only(turn: str, axis: Any, angle: str) -> None:
    upright = np.array([[STANDING[name] for name in H36M17.joints]], np.float64)
    found = angles_from_joints(
        upright @ Rotation.from_rotvec(np.radians(30) * np.array(axis)).as_matrix().T, H36M17.joints
    )
    for segment in ("pelvis", "trunk"):
        assert found[f"{segment}_{angle}"][0] == pytest.approx(30, abs=1e-6), turn
    assert found["spine_flexion"][0] == pytest.approx(0, abs=1e-6)
    assert found["left_hip_flexion"][0] == pytest.approx(0, abs=1e-6)


def test_turns_and_somersaults_are_counted_on() -> None:
    still = {name: 0 * degrees for name, degrees in known_angles(400).items()}
    for name in ("pelvis_rotation", "pelvis_tilt"):
        turning = still | {name: np.linspace(0, 1080, 400)}
        found = angles_from_joints(stacked(joints_with(turning), WITH_FEET), WITH_FEET)[name]
        assert rms(found, turning[name]) < 0.01, name
        assert np.abs(np.diff(found)).max() < 5


def test_an_angle_at_the_cut_does_not_jump() -> None:
    """A heel kicked up behind: the knee is bent by 150 degrees and the hip is far beyond what it can do."""
    known = known_angles() | {"left_hip_flexion": 170 + 30 * np.sin(np.linspace(0, 20, 300))}
    found = angles_from_joints(stacked(joints_with(known), WITH_FEET), WITH_FEET)["left_hip_flexion"]
    assert rms(found, known["left_hip_flexion"]) < 0.01


def test_after_a_gap_a_turn_goes_on_by_the_shorter_way() -> None:
    turning = {name: 0 * degrees for name, degrees in known_angles(400).items()}
    turning["pelvis_rotation"] = np.linspace(0, 720, 400)
    joints = stacked(joints_with(turning), WITH_FEET)
    joints[150:200] = np.nan
    found = angles_from_joints(joints, WITH_FEET)
    assert np.isnan(found["pelvis_rotation"][150:200]).all()
    assert rms(found["pelvis_rotation"], turning["pelvis_rotation"]) < 0.01
    assert np.isfinite(found["left_knee_flexion"][200:]).all()


def test_what_cannot_be_told_is_missing() -> None:
    """Axial rotation of a straight limb, angles next to a pole, bones without length: NaN, and no warning."""
    straight = np.array([[STANDING[name] for name in H36M17.joints]], np.float64)
    found = angles_from_joints(straight, H36M17.joints)
    missing = {name for name, degrees in found.items() if np.isnan(degrees[0])}
    limbs = {f"{side}_{name}" for side in ("left", "right") for name in ("hip_rotation", "shoulder_rotation")}
    assert missing == limbs | {"left_shoulder_plane", "right_shoulder_plane"}  # an arm that hangs down
    without_shank = straight.copy()
    without_shank[:, H36M17.index("left_ankle")] = without_shank[:, H36M17.index("left_knee")]
    assert np.isnan(angles_from_joints(without_shank, H36M17.joints)["left_knee_flexion"][0])
    assert all(np.isnan(degrees).all() for degrees in angles_from_joints(0 * straight, H36M17.joints).values())


def test_an_angle_is_marked_where_one_of_its_joints_was_filled_in() -> None:
    pose = walking(1.0)
    observed, scores = pose.observed.copy(), pose.scores_2d.copy()
    observed[0, 5:9, COCO17.index("left_ankle")] = False
    scores[0, 20, COCO17.index("left_knee")] = 0.25
    (found,) = joint_angles(with_arrays(pose, observed=observed, scores_2d=scores))
    of_knee, of_elbow = found.index("left_knee_flexion"), found.index("left_elbow_flexion")
    assert np.flatnonzero(~found.observed[:, of_knee]).tolist() == [5, 6, 7, 8]
    assert found.observed[:, of_elbow].all()
    assert (found.confidence[5:9, of_knee] == 0).all()
    assert found.confidence[20, of_knee] == pytest.approx(0.25)
    assert found.confidence[20, of_elbow] == pytest.approx(0.9)


def test_a_person_who_comes_later_and_leaves_a_gap() -> None:
    pose = walking(2.0)
    missing = np.r_[0:10, 30:35]
    arrays = {name: getattr(pose, name).copy() for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d")}
    for array in arrays.values():
        array[0, missing] = np.nan
    gone = {name: getattr(pose, name).copy() for name in ("scores_2d", "boxes_xyxy", "observed")}
    for name, array in gone.items():
        array[0, missing] = np.nan if name == "boxes_xyxy" else 0
    (found,) = joint_angles(with_arrays(pose, **arrays, **gone))
    assert found.frames.tolist() == list(range(10, 60))
    assert found.times_s[0] == pytest.approx(10 / 30)
    knee = found["left_knee_flexion"]
    assert np.flatnonzero(np.isnan(knee)).tolist() == list(range(20, 25))
    assert not found.observed[20:25].any()


def test_a_joint_that_is_missing_takes_its_own_angles_only() -> None:
    pose = walking(1.0)
    arrays = {name: getattr(pose, name).copy() for name in ("joints_3d", "joints_world")}
    for array in arrays.values():
        array[0, 5:9, H36M17.index("left_wrist")] = np.nan
    (whole,), (found,) = joint_angles(pose), joint_angles(with_arrays(pose, **arrays))
    assert np.flatnonzero(np.isnan(found["left_elbow_flexion"])).tolist() == [5, 6, 7, 8]
    for name in ("left_knee_flexion", "right_elbow_flexion", "pelvis_rotation"):
        assert found[name] == pytest.approx(whole[name], abs=0.01)


def test_one_frame_and_nobody() -> None:
    (found,) = joint_angles(walking(1 / 30))
    assert found.degrees.shape == (1, len(found.names))
    assert np.isfinite(found["right_knee_flexion"]).all()
    assert joint_angles(replace(walking(1.0), people=())) == ()


def test_angles_that_are_named() -> None:
    (found,) = joint_angles(walking(1.0), ["right_knee_flexion", "pelvis_tilt"])
    assert found.names == ("right_knee_flexion", "pelvis_tilt")
    with pytest.raises(ConfigError, match=r"unknown angle 'knee'; known: pelvis_tilt, .*right_elbow_flexion"):
        joint_angles(walking(1.0), ["knee"])
    with pytest.raises(ConfigError, match="left_ankle_dorsiflexion': the skeleton has no left_heel, left_toe"):
        joint_angles(walking(1.0), ["left_ankle_dorsiflexion"])
    with pytest.raises(ConfigError, match="no angle 'pelvis_rotation' here; there are: right_knee_flexion"):
        _ = found["pelvis_rotation"]


def test_other_skeletons_have_the_angles_that_they_have_joints_for() -> None:
    limbs = {f"{side}_knee_flexion" for side in ("left", "right")}
    for skeleton in (COCO17, HUMANEVA15):
        assert limbs | {"pelvis_tilt", "neck_flexion", "left_shoulder_plane"} <= set(select_angles(skeleton.joints))
    assert select_angles(("left_hip", "left_knee", "left_ankle")) == ("left_knee_flexion",)
