"""Motion files: their kinematics by scipy, their names and units, and what is wrong with broken ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import motion_files as made
import numpy as np
import pytest
from poses import walking_pose
from scipy.spatial.transform import Rotation

from vp3d_cli.data.asfamc import find_asf, read_amc
from vp3d_cli.data.bvh import read_bvh
from vp3d_cli.data.humanoid import FACE_M, motion_joints, to_z_up
from vp3d_cli.data.motion import MOTION_JOINTS, MotionClip, read_motion
from vp3d_cli.errors import InputError
from vp3d_cli.export.npz import write_npz
from vp3d_cli.metrics import p_mpjpe
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import Pose3D

FRAMES = 5


def joint(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[..., MOTION_JOINTS.index(name), :]


def y_up_to_z_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


# BVH


def test_bvh_kinematics_are_scipys(tmp_path: Path) -> None:
    recording = read_bvh(made.write_bvh(tmp_path / "a.bvh"))
    positions, rotations = made.forward_kinematics(made.random_angles(FRAMES), made.root_path(FRAMES))
    order = [recording.names.index(name) for name in made.JOINTS]
    np.testing.assert_allclose(recording.positions[:, order], 100 * positions, atol=1e-3)
    np.testing.assert_allclose(recording.rotations[:, order], rotations, atol=1e-6)
    assert recording.fps == pytest.approx(60.0)
    crown = recording.names.index("Head_end")
    head = positions[:, made.JOINTS.index("Head")] + rotations[:, made.JOINTS.index("Head")] @ np.array(made.CROWN)
    np.testing.assert_allclose(recording.positions[:, crown], 100 * head, atol=1e-3)


def test_bvh_position_channels_replace_the_offset(tmp_path: Path) -> None:
    text = """HIERARCHY
    ROOT a {
      OFFSET 1 2 3
      CHANNELS 3 Xposition Yposition Zposition
      JOINT b {
        OFFSET 0 10 0
        CHANNELS 6 Zrotation Yrotation Xrotation Xposition Zposition Yposition
        End Site {
          OFFSET 1 0 0
        }
      }
    }
    MOTION
    Frames: 2
    Frame Time: 0.5
    5 6 7  0 0 0  0 0 10
    5 6 7  90 0 0  1 2 12
    """
    file = tmp_path / "a.bvh"
    file.write_text(text)
    recording = read_bvh(file)
    assert recording.names == ("a", "b", "b_end")
    assert recording.fps == pytest.approx(2.0)
    expected = [[[5, 6, 7], [5, 16, 7], [6, 16, 7]], [[5, 6, 7], [6, 18, 9], [6, 19, 9]]]
    np.testing.assert_allclose(recording.positions, expected, atol=1e-12)


def broken_bvh(tmp_path: Path, change: tuple[str, str] | None = None, cut_lines: int = 0, append: str = "") -> Path:
    text = made.bvh_text(made.random_angles(FRAMES), made.root_path(FRAMES))
    if change is not None:
        assert change[0] in text
        text = text.replace(*change, 1)
    lines = text.splitlines()
    file = tmp_path / "broken.bvh"
    file.write_text("\n".join(lines[: len(lines) - cut_lines]) + "\n" + append)
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("HIERARCHY", "HIERARCHIE"), "line 1: a BVH file begins with HIERARCHY"),
        (("ROOT Hips\n{", "ROOT Hips\n"), r"line 4: '\{' must follow 'ROOT Hips', found 'OFFSET"),
        (("OFFSET 11.000000", "OFFSET x11"), r"line 8: OFFSET: 'x11' is not a number"),
        (("OFFSET 11.000000", "OFFSET nan"), r"line 8: OFFSET: a value is not finite"),
        (("OFFSET 11.000000 -2.000000 0.000000", "OFFSET 1 2"), "line 8: OFFSET must be 3 numbers, found 2"),
        (("CHANNELS 3 ", "CHANNELS 4 "), "line 9: CHANNELS says 4, but 3 follow"),
        (("CHANNELS 3 Zrotation", "CHANNELS 3 Wrotation"), "line 9: channel 'wrotation' is unknown"),
        (("CHANNELS 3 Zrotation", "CHANNELS 3 Xrotation"), "line 9: channel 'xrotation' is unknown or given twice"),
        (("MOTION", "}\nMOTION"), "a brace is closed that was never opened"),
        (("\n}\nMOTION", "\nMOTION"), "the brace of Hips is open"),
        (("\tOFFSET 11.000000 -2.000000 0.000000\n", ""), "joint LeftUpLeg has no OFFSET"),
        (("MOTION", "JOINT more\n{\n}\nMOTION"), "'JOINT more' is outside of ROOT"),
        (("MOTION", "ROOT second\n{\nOFFSET 0 0 0\n}\nMOTION"), "a second ROOT"),
        (("MOTION", "DANCE"), "'DANCE' does not belong into a hierarchy"),
        (("Frames: 5", "Frames: 6"), "6 frames are announced, 5 lines follow; is the file cut off?"),
        (("Frames: 5", "Frames: 4"), "4 frames are announced, 5 lines follow"),
        (("Frames: 5", "Images: 5"), "expected 'Frames:'"),
        (("Frame Time: 0.016", "Frame Time: -0.016"), "Frame Time must be positive"),
        (("Frame Time: 0.016666667", "Frame Time:"), "Frame Time: must be 1 numbers, found 0"),
        (("20.000000 95.000000", "20.000000 nan"), r"line \d+: a frame: a value is not finite"),
        (("20.000000 95.000000", "20.000000 inf"), "a value is not finite"),
        (("20.000000 95.000000", "20.000000 9,5"), "'9,5' is not a number"),
        (("20.000000 95.000000", "20.000000"), r"a frame must be 60 numbers, found 59"),
    ],
)
def test_broken_bvh(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_bvh(broken_bvh(tmp_path, change))
    assert "broken.bvh line " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 3, 6, 7, 8, 9, 40, 100])
def test_truncated_bvh_is_never_read(tmp_path: Path, cut: int) -> None:
    with pytest.raises(InputError, match=r"broken\.bvh line \d+: "):
        read_bvh(broken_bvh(tmp_path, cut_lines=cut))


def test_value_errors_name_their_line(tmp_path: Path) -> None:
    file = broken_bvh(tmp_path)
    lines = file.read_text().splitlines()
    lines[-2] = lines[-2].replace(" ", " nan ", 1).rsplit(" ", 1)[0]
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"line {len(lines) - 1}: a frame: a value is not finite"):
        read_bvh(file)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.bvh"
    file.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a text file"):
        read_bvh(file)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="line 1: the file ends where HIERARCHY should be"):
        read_bvh(file)
    with pytest.raises(InputError, match="cannot read"):
        read_bvh(tmp_path)


# ASF/AMC


def test_amc_kinematics_are_scipys(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path, FRAMES)
    recording = read_amc(find_asf(amc), amc)
    for name, (start, end) in made.asf_kinematics(made.amc_values(FRAMES)).items():
        found = recording.positions[:, recording.names.index(name)] / made.ASF_UNITS_PER_M
        np.testing.assert_allclose(found, start, atol=1e-8, err_msg=name)
        if f"{name}_end" in recording.names:
            found = recording.positions[:, recording.names.index(f"{name}_end")] / made.ASF_UNITS_PER_M
            np.testing.assert_allclose(found, end, atol=1e-8, err_msg=name)
    assert {"head_end", "lhand_end", "rfoot_end"} <= set(recording.names)
    assert recording.fps == 120.0


def test_amc_may_say_how_fast_it_is(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path)
    amc.write_text(amc.read_text().replace(":DEGREES", ":DEGREES\n:SAMPLES-PER-SECOND 60"))
    assert read_amc(find_asf(amc), amc).fps == 60.0


def test_which_skeleton_belongs_to_a_motion(tmp_path: Path) -> None:
    for name in ("1.asf", "12.asf", "12_01.amc", "7_01.amc"):
        (tmp_path / name).write_text("")
    assert find_asf(tmp_path / "12_01.amc").name == "12.asf"
    with pytest.raises(InputError, match=r"cannot tell its skeleton; beside it is 1\.asf, 12\.asf"):
        find_asf(tmp_path / "7_01.amc")
    (tmp_path / "12.asf").unlink()
    assert find_asf(tmp_path / "7_01.amc").name == "1.asf"
    (tmp_path / "1.asf").unlink()
    with pytest.raises(InputError, match=r"beside it is no \.asf file"):
        find_asf(tmp_path / "7_01.amc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name lfemur", "title lfemur"), r"01\.asf line \d+: a bone without name"),
        (("axis 0 0 20   XYZ", "axis 0 0 twenty XYZ"), "'twenty' is not a number"),
        (("axis 0 0 20   XYZ", "axis 0 0 20 XXZ"), "axis order must be some order of XYZ"),
        (("dof rx ry rz", "dof rx ry l"), "cannot read degrees of freedom l"),
        (("    lfemur ltibia", "    lfemur ltibia tail"), "names 'tail', which is no bone"),
        (("    lfemur ltibia\n", ""), "bones that do not hang on the root: ltibia"),
        (("    lfemur ltibia", "    lfemur ltibia lfoot"), "bone lfoot has two parents"),
        (("order TX TY TZ RX RY RZ", "order TX TY TZ RX RY"), "root order must name"),
        ((":hierarchy", ":end"), "without :bonedata and :hierarchy"),
    ],
)
def test_broken_asf(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    amc = made.write_amc(tmp_path)
    asf = find_asf(amc)
    text = asf.read_text()
    assert change[0] in text
    asf.write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_amc(asf, amc)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [3, 20, 60, 200, 275])
def test_truncated_asf_is_never_read(tmp_path: Path, lines: int) -> None:
    amc = made.write_amc(tmp_path)
    asf = find_asf(amc)
    whole = asf.read_text().splitlines()
    assert len(whole) > lines
    asf.write_text("\n".join(whole[:lines]))
    with pytest.raises(InputError, match=r"01\.asf line \d+: "):
        read_amc(asf, amc)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ltibia ", "ltibia nan #"), "a value is not finite"),
        (("ltibia ", "ltibia 1 "), "bone ltibia must be 1 numbers, found 2"),
        (("ltibia ", "tail "), "no moving bone 'tail'"),
        (("ltibia ", "lhipjoint 1\nltibia "), "no moving bone 'lhipjoint'"),
        (("\n2\n", "\nroot 1 2 3 4 5 6\n2\n"), r"bone root is given twice in frame 1"),
        (("\n1\n", "\n"), "the number of a frame must come first"),
    ],
)
def test_broken_amc(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    amc = made.write_amc(tmp_path)
    text = amc.read_text()
    assert change[0] in text
    amc.write_text(text.replace(*change, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_amc(find_asf(amc), amc)
    assert "01_02.amc line " in str(caught.value)


def test_truncated_amc(tmp_path: Path) -> None:
    amc = made.write_amc(tmp_path)
    lines = amc.read_text().splitlines()
    amc.write_text("\n".join(lines[:-3]))
    with pytest.raises(InputError, match=r"frame 4 lacks rradius, rwrist, rhand; is the file cut off\?"):
        read_amc(find_asf(amc), amc)
    amc.write_text("\n".join(lines[:3]))
    with pytest.raises(InputError, match="there are no frames"):
        read_amc(find_asf(amc), amc)


# From skeletons to the 22 joints


def test_joints_are_where_the_skeleton_has_them(tmp_path: Path) -> None:
    clip = read_motion(made.write_bvh(tmp_path / "walks" / "a.bvh"))[0]
    positions, rotations = made.forward_kinematics(made.random_angles(FRAMES), made.root_path(FRAMES))
    truth = {name: y_up_to_z_up(positions[:, i]) for i, name in enumerate(made.JOINTS)}
    pairs = {
        "left_hip": "LeftUpLeg", "right_knee": "RightLeg", "left_ankle": "LeftFoot", "left_shoulder": "LeftArm",
        "right_elbow": "RightForeArm", "left_wrist": "LeftHand",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        np.testing.assert_allclose(joint(clip.joints, ours), truth[theirs], atol=1e-5, err_msg=ours)
    hips = (truth["LeftUpLeg"] + truth["RightUpLeg"]) / 2
    np.testing.assert_allclose(joint(clip.joints, "hip"), hips, atol=1e-5)
    shoulders = (truth["LeftArm"] + truth["RightArm"]) / 2
    np.testing.assert_allclose(joint(clip.joints, "thorax"), (shoulders + truth["Neck"]) / 2, atol=1e-5)
    # The spine passes through Spine and Spine1; its middle is between those two.
    before, after = truth["Spine"], truth["Spine1"]
    detour = np.linalg.norm(joint(clip.joints, "spine") - before, axis=-1)
    detour += np.linalg.norm(joint(clip.joints, "spine") - after, axis=-1)
    np.testing.assert_allclose(detour, np.linalg.norm(before - after, axis=-1), atol=1e-4)
    # The head is a rigid thing about its joint.
    head = y_up_to_z_up(np.swapaxes(rotations[:, made.JOINTS.index("Head")], -1, -2))  # rows: its axes in z up
    for name in ("neck", "head", *FACE_M):
        own = np.einsum("fij,fj->fi", head, joint(clip.joints, name) - truth["Head"])
        np.testing.assert_allclose(own, np.tile(own[0], (FRAMES, 1)), atol=1e-5, err_msg=name)
    nose = np.einsum("fij,fj->fi", head, joint(clip.joints, "nose") - truth["Head"])[0]
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
    joints = read_motion(file)[0].joints
    shoulders = (joint(joints, "left_shoulder") + joint(joints, "right_shoulder")) / 2
    np.testing.assert_allclose(joint(joints, "thorax"), shoulders, atol=1e-5)
    np.testing.assert_allclose(joint(joints, "spine"), (joint(joints, "hip") + shoulders) / 2, atol=1e-5)


def test_amc_joints(tmp_path: Path) -> None:
    clip = read_motion(made.write_amc(tmp_path / "subject", FRAMES))[0]
    truth = made.asf_kinematics(made.amc_values(FRAMES))
    pairs = {
        "left_hip": truth["lfemur"][0], "right_knee": truth["rtibia"][0], "left_ankle": truth["lfoot"][0],
        "right_shoulder": truth["rhumerus"][0], "left_elbow": truth["lradius"][0], "left_wrist": truth["lwrist"][0],
    }  # fmt: skip
    for name, expected in pairs.items():
        np.testing.assert_allclose(joint(clip.joints, name), y_up_to_z_up(expected), atol=1e-5, err_msg=name)
    shoulders = (truth["lhumerus"][0] + truth["rhumerus"][0]) / 2
    expected = y_up_to_z_up((shoulders + truth["lowerneck"][0]) / 2)
    np.testing.assert_allclose(joint(clip.joints, "thorax"), expected, atol=1e-5)
    off = np.linalg.norm(joint(clip.joints, "head") - y_up_to_z_up(truth["head"][0]), axis=-1)
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


# Files and folders


def test_a_folder_of_all_kinds(tmp_path: Path) -> None:
    made.write_bvh(tmp_path / "dance" / "b.bvh")
    made.write_bvh(tmp_path / "dance" / "A.BVH", names=made.NAMINGS["mixamo"])
    made.write_amc(tmp_path / "cmu" / "01")
    (tmp_path / "poses").mkdir()
    write_npz(walking_pose(people=1, frames=40), tmp_path / "poses" / "x.npz")
    (tmp_path / "dance" / "LICENSE.txt").write_text("free")
    (tmp_path / "dance" / "notes.txt").write_text("to be ignored")
    clips = read_motion(tmp_path)
    found = {(clip.name, clip.source, clip.licence) for clip in clips}
    assert found == {
        ("cmu/01/01_02", "01", "not stated in 01"),
        ("dance/A", "dance", "see dance/LICENSE.txt"),
        ("dance/b", "dance", "see dance/LICENSE.txt"),
        ("poses/x_person1", "poses", "not stated"),
    }
    assert all(np.isfinite(clip.joints).all() for clip in clips)


@pytest.fixture
def pose() -> Pose3D:
    return walking_pose(people=2, frames=60)


def test_pose_files(tmp_path: Path, pose: Pose3D) -> None:
    write_npz(pose, tmp_path / "walk.npz")
    clips = read_motion(tmp_path / "walk.npz")
    assert [clip.name for clip in clips] == ["walk_person1", "walk_person2"]
    for clip, world in zip(clips, pose.joints_world, strict=True):
        np.testing.assert_allclose(clip.joints[:, : len(H36M17.joints)], world, atol=1e-5)
        assert clip.fps == pytest.approx(30.0)
        left = joint(clip.joints, "left_shoulder") - joint(clip.joints, "right_shoulder")
        forward = np.cross(left, joint(clip.joints, "head") - joint(clip.joints, "neck"))
        nose = joint(clip.joints, "nose") - joint(clip.joints, "neck")
        assert ((nose * forward).sum(-1) > 0).all()


def test_pose_files_are_cut_where_a_person_is_out_of_view(tmp_path: Path, pose: Pose3D) -> None:
    world = pose.joints_world.copy()
    world[0, 20:25] = np.nan
    world[0, 57:] = np.nan
    world[1] = np.nan
    write_npz(dataclasses.replace(pose, joints_world=world), tmp_path / "walk.npz")
    clips = read_motion(tmp_path / "walk.npz")
    assert [(clip.name, len(clip.joints)) for clip in clips] == [("walk_person1", 20), ("walk_person1_1", 32)]


def test_pose_files_carry_the_lifters_licence(tmp_path: Path, pose: Pose3D) -> None:
    lifted = dataclasses.replace(pose, provenance={"lifter": {"name": "x", "licence": "CC BY-NC 4.0"}})
    write_npz(lifted, tmp_path / "walk.npz")
    assert read_motion(tmp_path / "walk.npz")[0].licence == "estimated by a model of licence CC BY-NC 4.0"


def test_pose_files_without_anyone(tmp_path: Path, pose: Pose3D) -> None:
    nobody = dataclasses.replace(pose, joints_world=np.full_like(pose.joints_world, np.nan))
    write_npz(nobody, tmp_path / "walk.npz")
    with pytest.raises(InputError, match="nobody is in view"):
        read_motion(tmp_path / "walk.npz")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no motion at"):
        read_motion(tmp_path / "none.bvh")
    with pytest.raises(InputError, match=r"no motion in this folder; vp3d reads \.npz, \.bvh, \.amc"):
        read_motion(tmp_path)
    (tmp_path / "a.fbx").write_text("")
    with pytest.raises(InputError, match="motion of an unknown kind"):
        read_motion(tmp_path / "a.fbx")
    (tmp_path / "a.npz").write_text("no zip")
    with pytest.raises(InputError, match="neither a motion archive nor a pose file"):
        read_motion(tmp_path / "a.npz")


def test_one_broken_file_in_a_folder_is_named(tmp_path: Path) -> None:
    made.write_bvh(tmp_path / "a.bvh")
    broken_bvh(tmp_path, ("Frames: 5", "Frames: 9"))
    with pytest.raises(InputError, match=r"broken\.bvh line \d+: 9 frames are announced"):
        read_motion(tmp_path)


def test_a_motion_of_one_frame(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least 2 frames"):
        read_motion(made.write_bvh(tmp_path / "a.bvh", frames=1))


def test_motion_clips_are_checked() -> None:
    good = np.zeros((4, 22, 3), np.float32)
    bad = good.copy()
    bad[2, 5] = np.nan
    with pytest.raises(InputError, match="values of frame 2 are not finite"):
        MotionClip("a", "b", "c", 30.0, bad)
    for fps in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="positive rate"):
            MotionClip("a", "b", "c", fps, good)
