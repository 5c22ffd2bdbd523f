"""CSV, Parquet, JSON and COCO, read back by other libraries."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rigs import rigged_pose

from vp3d_cli.errors import ConfigError, MissingDependencyError
from vp3d_cli.io.keypoints import read_keypoints
from vp3d_cli.io.poses import ExportOptions, export_pose
from vp3d_cli.skeletons import H36M17

COLUMNS = ["time", "person", "joint", "x", "y", "z", "confidence", "observed"]


def test_csv_has_a_row_for_each_person_frame_and_joint(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    export_pose(pose, tmp_path / "walk.csv")
    with (tmp_path / "walk.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 2 * 40 * 17
    for number, frame, joint in ((0, 0, "hip"), (0, 7, "left_wrist"), (1, 12, "head")):
        row = rows[(number * 40 + frame) * 17 + H36M17.index(joint)]
        assert (row["person"], row["joint"]) == (str(number + 1), joint)
        assert float(row["time"]) == pytest.approx(frame / 30, abs=1e-6)
        wanted = pose.joints_world[number, frame, H36M17.index(joint)]
        np.testing.assert_allclose([float(row[axis]) for axis in "xyz"], wanted, atol=1e-5)
        assert float(row["confidence"]) == pytest.approx(0.9, abs=1e-3)
        assert row["observed"] == "1"
    missing = rows[40 * 17]  # the second person's first frame
    assert [missing[name] for name in ("x", "y", "z", "confidence", "observed")] == ["", "", "", "0", "0"]


def test_csv_in_camera_space_at_another_rate(tmp_path: Path) -> None:
    pose = rigged_pose(people=1, frames=31)
    options = ExportOptions(space="camera", fps=60.0, start_s=0.5)
    export_pose(pose, tmp_path / "walk.csv", options=options)
    values = np.genfromtxt(tmp_path / "walk.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    hips = values[values["joint"] == "hip"]
    np.testing.assert_allclose(hips["time"], 0.5 + np.arange(31) / 60, atol=1e-6)
    places = np.column_stack([hips[axis] for axis in "xyz"])
    np.testing.assert_allclose(places[::2], pose.trajectory[0, 15:], atol=1e-5)
    np.testing.assert_allclose(places[1::2], (pose.trajectory[0, 15:-1] + pose.trajectory[0, 16:]) / 2, atol=1e-5)


def test_parquet_is_the_same_table_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pose = rigged_pose(people=2, gaps=True)
    export_pose(pose, tmp_path / "walk.parquet")
    table = parquet.read_table(tmp_path / "walk.parquet")
    assert table.column_names == COLUMNS
    assert table.num_rows == 2 * 40 * 17
    assert [str(table.schema.field(name).type) for name in ("time", "person", "x", "observed")] == [
        "double",
        "int32",
        "float",
        "bool",
    ]
    x = np.array(table["x"].to_pylist(), np.float64).reshape(2, 40, 17)
    np.testing.assert_allclose(x, pose.joints_world[..., 0], atol=1e-6)
    assert table["x"].null_count == 11 * 17
    assert table["joint"].to_pylist()[:17] == list(H36M17.joints)


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = rigged_pose(people=1, frames=5)
    for name, module in (("parquet", "pyarrow"), ("c3d", "ezc3d")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingDependencyError, match=rf"{module}.*pip install 'vp3d\[{name}\]'"):
            export_pose(pose, tmp_path / f"walk.{name}")
    assert list(tmp_path.iterdir()) == []


def test_json_has_everything(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    export_pose(pose, tmp_path / "walk.json")
    document = json.loads((tmp_path / "walk.json").read_text())
    assert document["joints"] == list(H36M17.joints)
    assert document["fps"] == 30
    first, second = document["people"]
    np.testing.assert_allclose(first["positions"], pose.joints_world[0], atol=1e-5)
    rig = pose.people[0].rig
    assert rig is not None
    dots = (np.array(first["rotations"]) * rig.rotations).sum(axis=-1)
    np.testing.assert_allclose(np.abs(dots), 1, atol=1e-4)
    np.testing.assert_allclose(first["bone_offsets"], rig.bone_offsets, atol=1e-5)
    np.testing.assert_allclose(first["root"], rig.root, atol=1e-5)
    assert second["positions"][:5] == [None] * 5
    assert second["rotations"][39] is None
    assert second["positions"][5] is not None


def test_coco_has_2d_and_3d_and_is_read_as_keypoints(tmp_path: Path) -> None:
    pose = rigged_pose(people=2, gaps=True)
    export_pose(pose, tmp_path / "walk.coco.json")
    entries = json.loads((tmp_path / "walk.coco.json").read_text())
    assert len(entries) == 40 + 29
    entry = next(entry for entry in entries if (entry["image_id"], entry["track_id"]) == (7, 2))
    placed = np.array(entry["keypoints_3d"]).reshape(17, 4)
    np.testing.assert_allclose(placed[:, :3], pose.joints_world[1, 7], atol=1e-5)
    np.testing.assert_allclose(np.array(entry["keypoints"]).reshape(17, 3)[:, :2], pose.keypoints_2d[1, 7], atol=0.01)
    left, top, right, bottom = pose.boxes_xyxy[1, 7]
    np.testing.assert_allclose(entry["bbox"], [left, top, right - left, bottom - top], atol=0.02)
    keypoints = read_keypoints(tmp_path / "walk.coco.json")
    assert keypoints.format == "coco"
    assert len(keypoints) == 40
    with pytest.raises(ConfigError, match="leave out the frame rate"):
        export_pose(pose, tmp_path / "other.coco.json", options=ExportOptions(fps=10.0))
