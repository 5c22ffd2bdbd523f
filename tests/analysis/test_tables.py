"""Tables of joint angles and measures, read back."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gait_motions import walking
from poses import walking_pose, with_arrays

from vp3d_cli.analysis.angles import joint_angles
from vp3d_cli.analysis.movement import analyze
from vp3d_cli.analysis.tables import write_analysis, write_angles
from vp3d_cli.errors import ConfigError, OutputError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_wide_table(tmp_path: Path) -> None:
    people = joint_angles(walking_pose(2, 20))
    write_angles(people, tmp_path / "angles.csv")
    rows = rows_of(tmp_path / "angles.csv")
    assert len(rows) == 40
    assert list(rows[0])[:4] == ["person", "frame", "time_s", "pelvis_tilt_deg"]
    for row in (rows[3], rows[25]):
        person = people[int(row["person"]) - 1]
        at = int(row["frame"])
        assert float(row["time_s"]) == pytest.approx(at / 30, abs=1e-6)
        for name in person.names:
            wanted, written = person[name][at], row[f"{name}_deg"]
            assert written == "" if np.isnan(wanted) else float(written) == pytest.approx(wanted, abs=1e-3)
            assert row[f"{name}_observed"] == "1"


def test_long_table(tmp_path: Path) -> None:
    pose = walking_pose(1, 5)
    observed = pose.observed.copy()
    observed[:, 2] = False
    people = joint_angles(with_arrays(pose, observed=observed), ["left_knee_flexion", "right_knee_flexion"])
    write_angles(people, tmp_path / "angles.csv", long=True)
    rows = rows_of(tmp_path / "angles.csv")
    assert len(rows) == 10
    assert list(rows[0]) == ["person", "frame", "time_s", "angle", "degrees", "observed", "confidence"]
    assert [row["observed"] for row in rows] == ["1"] * 4 + ["0"] * 2 + ["1"] * 4
    assert rows[5] | {"degrees": ""} == {
        "person": "1", "frame": "2", "time_s": "0.066667", "angle": "right_knee_flexion", "degrees": "",
        "observed": "0", "confidence": "0.000",
    }  # fmt: skip
    assert float(rows[5]["degrees"]) == pytest.approx(people[0]["right_knee_flexion"][2], abs=1e-3)


def test_angles_as_json(tmp_path: Path) -> None:
    pose = walking_pose(2, 20)
    gone = {name: getattr(pose, name).copy() for name in ("joints_3d", "joints_world")}
    for array in gone.values():
        array[1, 4:8] = np.nan
    write_angles(joint_angles(with_arrays(pose, **gone)), tmp_path / "angles.json")
    document = json.loads((tmp_path / "angles.json").read_bytes(), parse_constant=pytest.fail)  # no NaN
    assert (document["schema"], document["unit"]) == ("vp3d-angles/1", "degrees")
    first, second = document["people"]
    assert (first["person"], second["person"]) == (1, 2)
    assert second["frames"] == list(range(20))
    knee = second["angles"]["left_knee_flexion"]
    assert [at for at, degrees in enumerate(knee["degrees"]) if degrees is None] == [4, 5, 6, 7]
    assert len(knee["observed"]) == len(knee["confidence"]) == 20


def test_measures(tmp_path: Path) -> None:
    people = analyze(walking(6.0))
    write_analysis(people, tmp_path / "gait.csv")
    rows = rows_of(tmp_path / "gait.csv")
    assert len(rows) == len(people[0].measures)
    (cadence,) = (row for row in rows if row["name"] == "cadence")
    assert cadence == {
        "person": "1", "group": "gait", "name": "cadence", "side": "both", "value": "100", "sd": "",
        "unit": "steps/min", "count": "8", "note": "",
    }  # fmt: skip
    write_analysis(people, tmp_path / "gait.json")
    (person,) = json.loads((tmp_path / "gait.json").read_bytes(), parse_constant=pytest.fail)["people"]
    assert person["gait"]["found"] is True
    assert person["gait"]["kind"] == "walking"
    assert len(person["gait"]["steps"]) == 8
    assert person["gait"]["steps"][0]["length_m"] == pytest.approx(0.7, abs=0.01)
    assert [event["side"] for event in person["gait"]["heel_strikes"][:2]] == ["right", "left"]
    assert len(person["measures"]) == len(rows)


def test_no_gait_is_said_in_both(tmp_path: Path) -> None:
    people = analyze(walking(6.0, 5.0))
    write_analysis(people, tmp_path / "gait.csv")
    first = rows_of(tmp_path / "gait.csv")[0]
    assert (first["value"], first["note"]) == (
        "", "no gait found: 5 frames per second are too few; 10 are needed",
    )  # fmt: skip
    write_analysis(people, tmp_path / "gait.json")
    (person,) = json.loads((tmp_path / "gait.json").read_bytes(), parse_constant=pytest.fail)["people"]
    assert person["gait"]["found"] is False
    assert person["gait"]["steps"] == []
    assert person["measures"][0]["value"] is None


def test_nobody(tmp_path: Path) -> None:
    nobody = replace(walking(1.0), people=())
    write_angles(joint_angles(nobody), tmp_path / "angles.csv")
    assert rows_of(tmp_path / "angles.csv") == []
    write_analysis(analyze(nobody), tmp_path / "gait.json")
    assert json.loads((tmp_path / "gait.json").read_bytes())["people"] == []


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_nothing_is_replaced_or_left_half_written(tmp_path: Path, name: str) -> None:
    people = joint_angles(walking_pose(1, 5))
    path = tmp_path / name
    path.write_text("mine", encoding="ascii")
    with pytest.raises(OutputError, match="exists already"):
        write_angles(people, path)
    assert path.read_text(encoding="ascii") == "mine"
    write_angles(people, path, overwrite=True)
    assert path.stat().st_size > 100
    with pytest.raises(OutputError, match="does not exist"):
        write_angles(people, tmp_path / "missing" / name)
    with pytest.raises(ConfigError, match=r"a\.txt: the name must end in \.csv or \.json"):
        write_angles(people, tmp_path / "a.txt")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
