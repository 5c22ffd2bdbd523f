"""TRC, C3D and MOT, for biomechanics programs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from poses import pose_of
from rigs import BONES, known_joints, rigged_pose
from scipy.spatial.transform import Rotation

from vp3d_cli.io.poses import ExportOptions, export_pose
from vp3d_cli.io.poses.markers import marker_names
from vp3d_cli.io.poses.mot import facing_x, opensim_coordinates
from vp3d_cli.io.poses.motion import RigMotion
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]
TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def test_marker_names_are_the_usual_ones() -> None:
    names = marker_names(H36M17.joints)
    assert len(set(names)) == 17
    assert {"Hip", "RHip", "RKnee", "RAnkle", "LHip", "Neck", "Head", "LShoulder", "LElbow", "LWrist"} <= set(names)


def read_trc(path: Path) -> tuple[dict[str, str], list[str], Array]:
    lines = path.read_text().splitlines()
    facts = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    markers = [name for name in lines[3].split("\t")[2:] if name]
    assert lines[5] == ""
    width = 2 + 3 * len(markers)
    rows = [line.split("\t") for line in lines[6:]]
    assert all(len(row) == width or (len(row) == width + 1 and not any(row[2:])) for row in rows)
    rows = [row[:width] for row in rows]
    assert {len(line.split("\t")) for line in lines[3:5]} <= {width, width + 1}
    return facts, markers, np.array([[float(cell) if cell else np.nan for cell in row] for row in rows])


def test_trc_holds_the_joints_and_leaves_gaps_empty(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    files, told = export_pose(pose, tmp_path / "walk.trc")
    assert told == []
    assert [file.name for file in files] == ["walk_1.trc", "walk_2.trc"]
    for number, file in enumerate(files):
        facts, markers, values = read_trc(file)
        assert (facts["NumFrames"], facts["NumMarkers"], facts["Units"], facts["DataRate"]) == ("40", "17", "m", "30")
        assert markers == marker_names(H36M17.joints)
        np.testing.assert_array_equal(values[:, 0], np.arange(1, 41))
        np.testing.assert_allclose(values[:, 1], np.arange(40) / 30, atol=1e-6)
        wanted = pose.joints_world[number] @ TO_Y_UP.T
        np.testing.assert_allclose(values[:, 2:].reshape(40, 17, 3), wanted, atol=1e-5)


def test_c3d_is_read_back_in_millimetres(tmp_path: Path) -> None:
    ezc3d = pytest.importorskip("ezc3d")
    pose = rigged_pose(people=2, gaps=True, fps=59.94)
    files, told = export_pose(pose, tmp_path / "walk.c3d")
    assert told == []
    for number, file in enumerate(files):
        document = ezc3d.c3d(str(file))
        point = document["parameters"]["POINT"]
        assert point["LABELS"]["value"] == marker_names(H36M17.joints)
        assert point["UNITS"]["value"] == ["mm"]
        assert point["RATE"]["value"][0] == pytest.approx(59.94, rel=1e-6)
        found = np.moveaxis(document["data"]["points"][:3], (0, 1, 2), (2, 1, 0))
        np.testing.assert_allclose(found, pose.joints_world[number] * 1000, atol=0.01)
        residuals = document["data"]["meta_points"]["residuals"][0].T
        np.testing.assert_array_equal(residuals < 0, np.isnan(pose.joints_world[number, :, :, 0]))


def test_c3d_is_read_by_another_library(tmp_path: Path) -> None:
    """ezc3d wrote it; py-c3d knows nothing of ezc3d."""
    pytest.importorskip("ezc3d")
    reader_of = pytest.importorskip("c3d")
    pose = rigged_pose(people=1, gaps=True)
    (file,), _ = export_pose(pose, tmp_path / "walk.c3d")
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No analog data found"
        reader = reader_of.Reader(stream)
        assert [label.strip() for label in reader.point_labels] == marker_names(H36M17.joints)
        assert reader.header.frame_rate == 30
        frames = [points for _, points, _ in reader.read_frames()]
    known = np.isfinite(pose.joints_world[0]).all(axis=(1, 2))
    assert len(frames) == 40
    for frame, points in enumerate(frames):
        assert ((points[:, 3] >= 0) == known[frame]).all()
        if known[frame]:
            np.testing.assert_allclose(points[:, :3], pose.joints_world[0, frame] * 1000, atol=0.01)


def rig_of(turns: dict[str, Array]) -> RigMotion:
    """One frame with these local rotations (z up, facing -y), as exporters get it."""
    local = np.stack([turns.get(joint, np.eye(3)) for joint in H36M17.joints])[None]
    turned = TO_Y_UP @ local @ TO_Y_UP.T
    return RigMotion(turned, BONES @ TO_Y_UP.T, np.array([[1.0, 0.9, 2.0]]), H36M17.parents)


def turn(axes: str, *angles: float) -> Array:
    return Rotation.from_euler(axes, angles if len(angles) > 1 else angles[0], degrees=True).as_matrix()


# In the rest pose x is to the left, y backwards, z up. Elbows bend about -z on the left and z on the right.
@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ({}, {"arm_add_r": -90, "arm_add_l": -90}),  # a T-pose
        ({"right_knee": turn("X", 60)}, {"knee_angle_r": 60, "knee_angle_l": 0}),
        ({"left_hip": turn("X", -30)}, {"hip_flexion_l": 30, "hip_flexion_r": 0}),  # the thigh goes ahead
        ({"left_hip": turn("Y", -20)}, {"hip_adduction_l": -20}),  # to the left, away from the body
        ({"right_hip": turn("Y", 20)}, {"hip_adduction_r": -20}),
        ({"left_hip": turn("Z", 15)}, {"hip_rotation_l": -15}),  # toes outwards
        ({"right_hip": turn("Z", -15)}, {"hip_rotation_r": -15}),
        ({"spine": turn("X", 25)}, {"lumbar_extension": -25}),  # bent forwards
        ({"spine": turn("Z", 10)}, {"lumbar_rotation": 10}),
        ({"hip": turn("X", 12)}, {"pelvis_tilt": -12}),
        ({"left_shoulder": turn("Y", 90)}, {"arm_add_l": 0, "arm_flex_l": 0, "arm_rot_l": 0}),  # hanging
        ({"right_shoulder": turn("Y", -90)}, {"arm_add_r": 0, "arm_flex_r": 0, "arm_rot_r": 0}),
        ({"left_shoulder": turn("XY", -40, 90)}, {"arm_flex_l": 40}),  # hanging, then ahead
        ({"right_shoulder": turn("XY", -40, -90)}, {"arm_flex_r": 40}),
        ({"left_elbow": turn("Z", -70)}, {"elbow_flex_l": 70, "elbow_flex_r": 0}),
        ({"right_elbow": turn("Z", 70)}, {"elbow_flex_r": 70}),
    ],
)
def test_opensim_coordinates_have_opensims_signs(turns: dict[str, Array], expected: dict[str, float]) -> None:
    found = opensim_coordinates(facing_x(rig_of(turns)), H36M17.joints)
    for name, degrees in expected.items():
        assert found[name][0] == pytest.approx(degrees, abs=1e-6), name
    arms = ("arm_add", "arm_flex", "arm_rot")
    for name, values in found.items():
        if name not in expected and not name.startswith((*arms, "pelvis_t")):
            assert values[0] == pytest.approx(0, abs=1e-6), name
    np.testing.assert_allclose([found[f"pelvis_t{axis}"][0] for axis in "xyz"], [2.0, 0.9, -1.0], atol=1e-9)


def test_opensim_coordinates_rebuild_the_legs() -> None:
    """Forward kinematics from the angles alone, as OpenSim's model does them, puts knees and ankles in their places."""
    pose = rigged_pose(people=1, frames=30)
    rig = pose.people[0].rig
    assert rig is not None
    names = H36M17.joints
    turns = Rotation.from_quat(rig.rotations.reshape(-1, 4), scalar_first=True).as_matrix().reshape(-1, 17, 3, 3)
    local = TO_Y_UP @ turns @ TO_Y_UP.T
    motion = facing_x(RigMotion(local, rig.bone_offsets @ TO_Y_UP.T, rig.root @ TO_Y_UP.T, H36M17.parents))
    joints = motion.positions()
    q = opensim_coordinates(motion, names)
    assert abs(q["pelvis_rotation"].mean()) < 1
    angles = np.column_stack([q["pelvis_tilt"], q["pelvis_list"], q["pelvis_rotation"]])
    pelvis = Rotation.from_euler("ZXY", angles, degrees=True)
    for side, mirror in (("right", 1), ("left", -1)):
        s = side[0]
        hip = Rotation.from_euler(
            "ZXY",
            np.column_stack([q[f"hip_flexion_{s}"], mirror * q[f"hip_adduction_{s}"], mirror * q[f"hip_rotation_{s}"]]),
            degrees=True,
        )
        knee = Rotation.from_euler("Z", -q[f"knee_angle_{s}"][:, None], degrees=True)
        thigh, shin = (np.linalg.norm(rig.bone_offsets[names.index(f"{side}_{j}")]) for j in ("knee", "ankle"))
        start = joints[:, names.index(f"{side}_hip")]
        at_knee = start + (pelvis * hip).apply([0, -thigh, 0])
        at_ankle = at_knee + (pelvis * hip * knee).apply([0, -shin, 0])
        np.testing.assert_allclose(at_knee, joints[:, names.index(f"{side}_knee")], atol=2e-3)
        np.testing.assert_allclose(at_ankle, joints[:, names.index(f"{side}_ankle")], atol=2e-3)


def test_mot_is_a_table_with_opensims_header(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=30)
    (file,), _ = export_pose(pose, tmp_path / "walk.mot", options=ExportOptions(start_s=0.2))
    lines = file.read_text().splitlines()
    end = lines.index("endheader")
    header = dict(line.split("=") for line in lines[1:end])
    columns = lines[end + 1].split("\t")
    values = np.array([[float(cell) for cell in line.split("\t")] for line in lines[end + 2 :]])
    assert header == {"version": "1", "nRows": "24", "nColumns": str(len(columns)), "inDegrees": "yes"}
    assert values.shape == (24, len(columns))
    assert columns[:7] == [
        "time", "pelvis_tilt", "pelvis_list", "pelvis_rotation", "pelvis_tx", "pelvis_ty", "pelvis_tz",
    ]  # fmt: skip
    np.testing.assert_allclose(values[:, 0], 0.2 + np.arange(24) / 30, atol=1e-6)
    knee = values[:, columns.index("knee_angle_r")]
    assert 15 < knee.min() < 25 < 65 < knee.max() < 75  # 45 +- 25 degrees


def test_angles_of_a_full_turn_do_not_jump(tmp_path: Path) -> None:
    times = np.arange(90) / 30
    joints = known_joints(times)
    spin = Rotation.from_euler("Z", 180 * times[:, None], degrees=True).as_matrix()
    (file,), _ = export_pose(add_rigs(pose_of([joints @ np.swapaxes(spin, 1, 2)])), tmp_path / "spin.mot")
    lines = file.read_text().splitlines()
    at = lines.index("endheader") + 1
    column = lines[at].split("\t").index("pelvis_rotation")
    turned = np.array([float(line.split("\t")[column]) for line in lines[at + 1 :]])
    assert np.abs(np.diff(turned)).max() < 15
    assert abs(abs(turned[-1] - turned[0]) - 360 * 89 / 60) < 25
