"""``vp3d info``: which kind of file it is, what is printed for people, and valid JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import RunCli
from keypoint_samples import FRAMES, coco_entries, dump, write_array, write_openpose, write_trc, write_yolo

from vp3d_cli.cli.info_text import format_facts
from vp3d_cli.io.detections import Detections
from vp3d_cli.io.keypoints import read_keypoints


def labels(lines: list[str]) -> dict[str, str]:
    """Label to value of the lines of ``vp3d info``."""
    return {line[:20].strip(): line[22:] for line in lines if line and not line.startswith(" ")}


def test_labels_units_and_groups() -> None:
    facts = {
        "pose_file": "p.npz",
        "frames_per_second": 30000 / 1001,
        "seconds": 75.5,
        "video_size_wh": [1280, 720],
        "intrinsics_fx_fy_cx_cy": [1108.5, 1108.5, 640.0, 360.0],
        "persons": [{"person_id": 2, "seconds_seen": 3.25, "frames_filled": 4, "mean_confidence": 0.876}],
        "provenance": {
            "detector": {"name": "movenet", "sha256": "a" * 64 + "+" + "b" * 64},
            "lifter": {"name": "mine", "sha256": "c" * 64, "licence": "MIT"},
            "settings": {"smooth": 2.0, "start_s": 0.0, "person": None},
            "assumed": {"height_m": 1.7, "fov_deg": 60.0},
            "timing": {"seconds": 22.0, "frames_per_second": 10.44, "detector_seconds": 20.5},
            "warnings": ["first", "second"],
            "some_new_key": {"a_b": float("nan"), "c": True},
        },
    }
    lines = format_facts(facts)
    assert lines.count("") == 2
    assert labels(lines[: lines.index("")]) == {
        "Pose file": "p.npz",
        "Frame rate": "29.97 fps",
        "Duration": "75.5 s (1:16)",
        "Video size": "1280x720 pixels",
        "Camera": "focal length 1108.5 x 1108.5 pixels, principal point 640, 360",
    }
    assert [line.split() for line in lines if line.split()[:1] == ["2"]] == [["2", "3.25", "s", "4", "0.88"]]
    assert labels(lines[-9:]) == {
        "Detector": "movenet (sha256 aaaaaaaaaaaa + bbbbbbbbbbbb)",
        "Lifter": "mine (sha256 cccccccccccc, licence MIT)",
        "Settings": "smoothing 2",
        "Assumed": "body height 1.7 m, field of view 60 degrees",
        "Time taken": "22 s, of these 20.5 s detection, 10.4 frames/s",
        "Warnings": "first",
        "Some new key": "a b -, c yes",
    }
    assert "second" in [line.strip() for line in lines]


def test_facts_of_the_wrong_type_are_printed_as_they_are() -> None:
    odd = {"detector": 3, "settings": "all", "assumed": [], "timing": None, "input": "x", "keypoints": [1, 2]}
    assert labels(format_facts({"frames": None, "provenance": odd})) == {
        "Frames": "-", "Detector": "3", "Settings": "all", "Assumed": "-", "Time taken": "-", "Video file": "x",
        "Keypoints": "1, 2",
    }  # fmt: skip


def test_info_of_a_video_has_labels(run_cli: RunCli, demo: Path) -> None:
    shown = labels(run_cli("info", demo).stdout.splitlines())
    assert shown["Frames"] == "230"
    assert shown["Frame rate"].endswith(" fps")
    assert shown["Sound"] == "yes"


def test_info_of_a_detections_file(run_cli: RunCli, tmp_path: Path) -> None:
    found = read_keypoints(dump(tmp_path / "a.json", coco_entries()))
    detections = Detections(
        frames=found.detections, frame_times_s=np.arange(FRAMES) / 25.0, fps=25.0, video_size_wh=(640, 480),
        source={"detector": {"name": "toy", "sha256": "d" * 64}}, video="walk.mp4",
    )  # fmt: skip
    detections.save(tmp_path / "d.npz")
    facts = json.loads(run_cli("info", tmp_path / "d.npz", "--json").stdout)
    assert next(iter(facts)) == "detections_file"
    assert (facts["frames"], facts["most_people_in_a_frame"], facts["complete"]) == (FRAMES, 2, True)
    shown = labels(run_cli("info", tmp_path / "d.npz").stdout.splitlines())
    assert shown["Detector"] == "toy (sha256 dddddddddddd)"
    assert shown["Video"] == "walk.mp4"


@pytest.mark.parametrize("kind", ["openpose", "coco", "sports2d", "array", "nameless"])
def test_info_of_keypoint_files(run_cli: RunCli, tmp_path: Path, kind: str) -> None:
    path = {
        "openpose": lambda: write_openpose(tmp_path / "json"),
        "coco": lambda: dump(tmp_path / "a.json", coco_entries()),
        "sports2d": lambda: write_trc(tmp_path / "clip_px_person00.trc"),
        "array": lambda: write_array(tmp_path / "a.npy"),
        "nameless": lambda: dump(tmp_path / "keypoints", coco_entries()),
    }[kind]()
    facts = json.loads(run_cli("info", path, "--json").stdout)
    assert facts["keypoint_file"] == str(path)
    assert facts["format"] == {"nameless": "coco"}.get(kind, kind)
    assert facts["frames"] == FRAMES
    assert "Keypoint layout" in run_cli("info", path).stdout


def test_info_checks_keypoints_against_a_video(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "labels")
    outcome = run_cli("info", folder)
    assert (outcome.code, outcome.error_lines) == (
        1,
        [f"vp3d: error: {folder}: positions are fractions of the image size; give the video as well"],
    )
    facts = json.loads(run_cli("info", folder, "--video", short_clip, "--json").stdout)
    assert (facts["format"], facts["frames"], facts["frames_with_people"]) == ("yolo", 12, 11)
