"""From skeletons of any program to the 22 joints: names, units, faces, and which way is up."""

from __future__ import annotations

from pathlib import Path

import motion_files as made
import numpy as np
import pytest
from motion_files import joint, y_up_to_z_up
from scipy.spatial.transform import Rotation

from vp3d_cli.errors import InputError
from vp3d_cli.metrics import p_mpjpe
from vp3d_cli.train.mocap.asfamc import find_asf, read_amc
from vp3d_cli.train.mocap.bvh import read_bvh
from vp3d_cli.train.mocap.joint_mapping import FACE_M, motion_joints, to_z_up
from vp3d_cli.train.mocap.motion import read_motion
from vp3d_cli.train.mocap.recording import Recording
from vp3d_cli.types import FloatArray

FRAMES = 5


def as_the_skeleton_has_it(recording: Recording) -> FloatArray:
    """(F, 22, 3) z up, before thorax and spine are put where those of all recordings are (test_trunk.py)."""
    return to_z_up([motion_joints(recording)])[0]


def test_joints_are_where_the_skeleton_has_them(tmp_path: Path) -> None:
    file = made.write_bvh(tmp_path / "walks" / "a.bvh")
    clip, joints = read_motion(file)[0], as_the_skeleton_has_it(read_bvh(file))
    positions, rotations = made.forward_kinematics(made.random_angles(FRAMES), made.root_path(FRAMES))
    truth = {name: y_up_to_z_up(positions[:, i]) for i, name in enumerate(made.JOINTS)}
    pairs = {
        "left_hip": "LeftUpLeg", "right_knee": "RightLeg", "left_ankle": "LeftFoot", "left_shoulder": "LeftArm",
        "right_elbow": "RightForeArm", "left_wrist": "LeftHand",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        np.testing.assert_allclose(joint(joints, ours), truth[theirs], atol=1e-5, err_msg=ours)
    hips = (truth["LeftUpLeg"] + truth["RightUpLeg"]) / 2
    np.testing.assert_allclose(joint(joints, "hip"), hips, atol=1e-5)
    shoulders = (truth["LeftArm"] + truth["RightArm"]) / 2
    np.testing.assert_allclose(joint(joints, "thorax"), (shoulders + truth["Neck"]) / 2, atol=1e-5)
    # The spine passes through Spine and Spine1; its middle is between those two.
    before, after = truth["Spine"], truth["Spine1"]
    detour = np.linalg.norm(joint(joints, "spine") - before, axis=-1)
    detour += np.linalg.norm(joint(joints, "spine") - after, axis=-1)
    np.testing.assert_allclose(detour, np.linalg.norm(before - after, axis=-1), atol=1e-4)
    # The head is a rigid thing about its joint.
    head = y_up_to_z_up(np.swapaxes(rotations[:, made.JOINTS.index("Head")], -1, -2))  # rows: its axes in z up
    for name in ("neck", "head", *FACE_M):
        own = np.einsum("fij,fj->fi", head, joint(joints, name) - truth["Head"])
        np.testing.assert_allclose(own, np.tile(own[0], (FRAMES, 1)), atol=1e-5, err_msg=name)
    nose = np.einsum("fij,fj->fi", head, joint(joints, "nose") - truth["Head"])[0]
    np.testing.assert_allclose(nose, np.array([0.0, 0.075, 0.115]), atol=0.02)  # y up, z forward, size of the body
    assert (clip.name, clip.source, clip.licence) == ("a", "walks", "not stated in walks")
    assert clip.fps == pytest.approx(60.0)


def test_the_face_turns_with_the_head(tmp_path: Path) -> None:
    angles = np.zeros((8, len(made.BODY), 3))
    angles[1, made.JOINTS.index("Head")] = [0.0, 0.0, 90.0]  # about y: to the left
    angles[2, made.JOINTS.index("Neck")] = [0.0, 60.0, 0.0]  # about x: nods
    file = tmp_path / "a.bvh"
    file.write_text(made.bvh_text(angles, made.root_path(8)))
    joints = read_motion(file)[0].joints
    ears = (joint(joints, "left_ear") + joint(joints, "right_ear")) / 2
    nose = joint(joints, "nose") - ears
    # x left, -y forward.
    assert nose[0] @ [0, -1, 0] > 0.08
    assert nose[1] @ [1, 0, 0] > 0.08
    assert nose[2] @ [0, 0, -1] > 0.07
    eyes = joint(joints, "left_eye") - joint(joints, "right_eye")
    assert eyes[0] @ [1, 0, 0] > 0.05
    assert eyes[1] @ [0, 1, 0] > 0.05


def test_heads_may_have_any_axes_of_their_own(tmp_path: Path) -> None:
    """Bandai Namco's head joints have x up and z left; what the zero pose looks like must not matter."""
    angles, path = made.random_angles(20, 12.0), made.root_path(20)
    plain, other = tmp_path / "a.bvh", tmp_path / "b.bvh"
    plain.write_text(made.bvh_text(angles, path))
    turn = Rotation.from_euler("ZXY", [90.0, 0.0, 90.0], degrees=True)
    turned = angles.copy()
    head = made.JOINTS.index("Head")
    turned[:, head] = (Rotation.from_euler("ZXY", angles[:, head], degrees=True) * turn).as_euler("ZXY", degrees=True)
    other.write_text(made.bvh_text(turned, path))
    np.testing.assert_allclose(read_motion(other)[0].joints, read_motion(plain)[0].joints, atol=1e-4)


@pytest.mark.parametrize("naming", sorted(made.NAMINGS))
def test_other_programs_names(tmp_path: Path, naming: str) -> None:
    plain = motion_joints(read_bvh(made.write_bvh(tmp_path / "a.bvh")))
    other = motion_joints(read_bvh(made.write_bvh(tmp_path / "b.bvh", names=made.NAMINGS[naming])))
    np.testing.assert_allclose(other, plain, atol=1e-5)


@pytest.mark.parametrize("units_per_m", [1.0, 10.0, 100.0, 1000.0, 1 / 0.0254, 1 / 0.3048, made.ASF_UNITS_PER_M])
def test_the_unit_is_told_from_the_body(tmp_path: Path, units_per_m: float) -> None:
    plain = motion_joints(read_bvh(made.write_bvh(tmp_path / "a.bvh", scale=1.0)))
    other = motion_joints(read_bvh(made.write_bvh(tmp_path / "b.bvh", scale=units_per_m)))
    np.testing.assert_allclose(other, plain, atol=2e-4)


def test_a_body_of_no_known_unit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"units tall, which no known unit makes 1\.3 to 2\.1 m"):
        read_motion(made.write_bvh(tmp_path / "a.bvh", scale=0.2))


def test_missing_joints_are_named(tmp_path: Path) -> None:
    names = {"LeftHand": "Hook", "RightForeArm": "Tentacle", "Head": "Lamp"}
    with pytest.raises(InputError, match=r"skeleton lacks right_elbow, left_wrist, head; it has Hips, ") as caught:
        read_motion(made.write_bvh(tmp_path / "a.bvh", names=names))
    assert "a.bvh" in str(caught.value)


def test_a_spine_without_joints_near_the_shoulders(tmp_path: Path) -> None:
    text = made.bvh_text(made.random_angles(FRAMES, 0.0), made.root_path(FRAMES))
    # Spine, Spine1 and Neck all at the hips; the head and the arms stay where they are.
    for old, new in (
        ("OFFSET 0.000000 10.000000 -1.000000", "OFFSET 0 0 0"),
        ("OFFSET 0.000000 13.000000 0.000000", "OFFSET 0 0 0"),
        ("OFFSET 0.000000 25.000000 0.000000", "OFFSET 0 0 0"),
        ("OFFSET 0.000000 12.000000 2.000000", "OFFSET 0 60 1"),
        ("OFFSET 5.000000 20.000000 0.000000", "OFFSET 5 43 0"),
        ("OFFSET -5.000000 20.000000 0.000000", "OFFSET -5 43 0"),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "a.bvh"
    file.write_text(text)
    joints = as_the_skeleton_has_it(read_bvh(file))
    shoulders = (joint(joints, "left_shoulder") + joint(joints, "right_shoulder")) / 2
    np.testing.assert_allclose(joint(joints, "thorax"), shoulders, atol=1e-5)
    np.testing.assert_allclose(joint(joints, "spine"), (joint(joints, "hip") + shoulders) / 2, atol=1e-5)


def test_amc_joints(tmp_path: Path) -> None:
    file = made.write_amc(tmp_path / "subject", FRAMES)
    clip, joints = read_motion(file)[0], as_the_skeleton_has_it(read_amc(find_asf(file), file))
    truth = made.asf_kinematics(made.amc_values(FRAMES))
    pairs = {
        "left_hip": truth["lfemur"][0], "right_knee": truth["rtibia"][0], "left_ankle": truth["lfoot"][0],
        "right_shoulder": truth["rhumerus"][0], "left_elbow": truth["lradius"][0], "left_wrist": truth["lwrist"][0],
    }  # fmt: skip
    for name, expected in pairs.items():
        np.testing.assert_allclose(joint(joints, name), y_up_to_z_up(expected), atol=1e-5, err_msg=name)
    shoulders = (truth["lhumerus"][0] + truth["rhumerus"][0]) / 2
    expected = y_up_to_z_up((shoulders + truth["lowerneck"][0]) / 2)
    np.testing.assert_allclose(joint(joints, "thorax"), expected, atol=1e-5)
    off = np.linalg.norm(joint(joints, "head") - y_up_to_z_up(truth["head"][0]), axis=-1)
    np.testing.assert_allclose(off, 0.19, rtol=0.15)
    assert clip.name == "01_02"


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)])
def test_up_is_where_people_stand(axis: int, sign: int, tmp_path: Path) -> None:
    standing = motion_joints(read_bvh(made.write_bvh(tmp_path / "a.bvh")))
    standing = y_up_to_z_up(standing)
    turn = np.zeros((3, 3), np.float32)
    turn[axis, 2] = sign
    turn[(axis + 1) % 3, 0], turn[(axis + 2) % 3, 1] = 1, sign
    assert np.linalg.det(turn) == pytest.approx(1)
    again = to_z_up([standing @ turn.T])[0]
    up = joint(again, "thorax") - joint(again, "left_ankle")
    assert (up[:, 2] > 0.5).all()
    # Not mirrored: the same body but for a turn about the vertical.
    ours, theirs = again - again[:, :1], standing - standing[:, :1]
    np.testing.assert_allclose(ours[..., 2], theirs[..., 2], atol=1e-5)
    np.testing.assert_allclose(p_mpjpe(ours, theirs), 0.0, atol=1e-5)


def test_a_clip_of_someone_lying_follows_its_collection(tmp_path: Path) -> None:
    upright = motion_joints(read_bvh(made.write_bvh(tmp_path / "a.bvh", frames=9)))
    lying = upright[:3, :, [1, 2, 0]]
    together = to_z_up([upright, lying])
    np.testing.assert_allclose(together[1], y_up_to_z_up(lying), atol=1e-6)
