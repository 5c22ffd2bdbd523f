"""The OpenSim model: by forward kinematics of the XML alone its markers are where the joints are; and OpenSim's IK."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import rig_positions, rigged_pose
from scipy.spatial.transform import Rotation

from vp3d_cli.errors import OutputError
from vp3d_cli.io.poses import ExportOptions, export_pose, opensim
from vp3d_cli.io.poses.markers import marker_names
from vp3d_cli.io.poses.mot import turn_to_x
from vp3d_cli.io.poses.motion import motions_of
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]


def numbers(element: ET.Element | None) -> Array:
    assert element is not None
    assert element.text is not None
    return np.array([float(word) for word in element.text.split()])


def text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def read_motion(path: Path) -> dict[str, Array]:
    lines = path.read_text().splitlines()
    end = lines.index("endheader")
    values = np.array([[float(cell) for cell in line.split()] for line in lines[end + 2 :]])
    return dict(zip(lines[end + 1].split("\t"), values.T, strict=True))


def markers_of(model: Path, coordinates: dict[str, Array]) -> dict[str, Array]:
    """Markers (n, 3) of a model at coordinates (n,) in degrees and metres, by the definition of its joints."""
    document = ET.parse(model)
    frames: dict[str, tuple[Array, Array]] = {}
    count = len(coordinates["time"])
    frames["/ground"] = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))
    for joint in document.iter("CustomJoint"):
        above, body = (text(frame, "socket_parent") for frame in joint.iter("PhysicalOffsetFrame"))
        turn, place = frames[above]
        place = place + turn @ numbers(joint.find("frames/PhysicalOffsetFrame/translation"))
        for axis in joint.iter("TransformAxis"):
            name = text(axis, "coordinates")
            if not name:
                continue
            direction, value = numbers(axis.find("axis")), coordinates[name][:, None]
            if str(axis.get("name")).startswith("rotation"):
                turn = turn @ Rotation.from_rotvec(np.radians(value) * direction).as_matrix()
            else:
                place = place + value * direction
        frames[body] = turn, place
    found = {}
    for marker in document.iter("Marker"):
        turn, place = frames[text(marker, "socket_parent_frame")]
        found[str(marker.get("name"))] = place + turn @ numbers(marker.find("location"))
    return found


def wanted_markers(pose: Any) -> Array:
    """(n, 17, 3) the rig's joints, y up, turned as the file of markers is."""
    turn = turn_to_x(motions_of(pose, ExportOptions())[0].held_rig())
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    return np.asarray(rig_positions(pose, 0) @ to_y_up.T @ turn.T)


def test_the_model_with_the_angles_of_mot_is_where_the_joints_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opensim, "find_spec", lambda name: None)
    pose = rigged_pose(people=1, frames=40)
    files, _ = export_pose(pose, tmp_path / "walk.osim")
    assert [file.name for file in files] == ["walk.osim", "walk_markers.trc", "walk_ik.xml"]
    export_pose(pose, tmp_path / "walk.mot")
    found = markers_of(tmp_path / "walk.osim", read_motion(tmp_path / "walk.mot"))
    wanted = wanted_markers(pose)
    names = marker_names(H36M17.joints)
    assert set(found) == set(names)
    off = {name: np.linalg.norm(found[name] - wanted[:, i], axis=1).max() for i, name in enumerate(names)}
    for name in ("Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle"):
        assert off[name] < 2e-3, name
    # One joint for the back, where the rig has two: the trunk differs by centimetres.
    for name in ("Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist"):
        assert off[name] < 0.06, name


def test_the_setup_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensim, "find_spec", lambda name: None)
    files, warnings = export_pose(rigged_pose(people=2, gaps=True), tmp_path / "walk.osim")
    assert len(files) == 6
    assert "person 2: 11 of 40 frames" in warnings[0]
    tool = ET.parse(tmp_path / "walk_2_ik.xml").find("InverseKinematicsTool")
    assert tool is not None
    assert text(tool, "model_file") == "walk_2.osim"
    assert text(tool, "marker_file") == "walk_2_markers.trc"
    np.testing.assert_allclose(numbers(tool.find("time_range")), [0, 39 / 30], atol=1e-5)
    assert len(list(tool.iter("IKMarkerTask"))) == 17
    rows = (tmp_path / "walk_2_markers.trc").read_text().splitlines()[6:]
    assert all(len(row.split("\t")) == 2 + 3 * 17 for row in rows)  # no gaps: they are held


def test_files_beside_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "walk_ik.xml").write_text("mine")
    with pytest.raises(OutputError, match=r"walk_ik\.xml: exists already"):
        export_pose(rigged_pose(people=1, frames=3), tmp_path / "walk.osim")
    assert [path.name for path in tmp_path.iterdir()] == ["walk_ik.xml"]


@pytest.mark.skipif(find_spec("opensim") is None, reason="the package opensim is not installed")
def test_opensim_finds_the_angles_that_we_write(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=30)
    files, _ = export_pose(pose, tmp_path / "walk.osim")
    assert files[-1].name == "walk_ik.mot"
    assert len(list(tmp_path.iterdir())) == len(files) == 4  # and no log of OpenSim's
    export_pose(pose, tmp_path / "walk.mot")
    theirs, ours = read_motion(files[-1]), read_motion(tmp_path / "walk.mot")
    np.testing.assert_allclose(theirs["time"], ours["time"], atol=1e-5)
    for name in ("hip_flexion_r", "hip_flexion_l", "knee_angle_r", "knee_angle_l", "elbow_flex_r", "elbow_flex_l"):
        assert np.sqrt(np.mean((theirs[name] - ours[name]) ** 2)) < 5, name


def test_inverse_kinematics_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opensim, "find_spec", lambda name: object())
    monkeypatch.setattr(opensim, "_RUN", "raise SystemExit('no such model')")
    with pytest.raises(OutputError, match=r"inverse kinematics failed \(no such model\)"):
        export_pose(rigged_pose(people=1, frames=3), tmp_path / "walk.osim")
    assert not (tmp_path / "walk_ik.mot").exists()
