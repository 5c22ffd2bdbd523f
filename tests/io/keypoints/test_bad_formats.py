"""What can be wrong with a file of each format, apart from what they share."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import (
    FRAMES,
    deeplabcut_rows,
    dump,
    fails,
    mediapipe_landmarks,
    mmpose_demo,
    mmpose_instances,
    video,
    walk_coco,
    write_csv,
    write_openpose,
    write_trc,
)

from vp3d_cli.errors import MissingDependencyError
from vp3d_cli.io.keypoints import read_keypoints
from vp3d_cli.skeletons import COCO17


def test_openpose_names(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json")
    (folder / "clip_keypoints.json").write_text('{"people": []}')
    fails(folder, r"clip_keypoints\.json: no frame number in the name")
    (folder / "clip_keypoints.json").rename(folder / "other_000000000003_keypoints.json")
    fails(folder, r"frame 3 is also in clip_000000000003_keypoints\.json; keep the files of each video in a folder")
    (folder / "other_000000000003_keypoints.json").unlink()
    dump(folder / "clip_000000000012_keypoints.json", [1])
    fails(folder, r'clip_000000000012_keypoints\.json: no list "people" in it')


def test_mmpose_bad_input(tmp_path: Path) -> None:
    document = mmpose_demo("coco17", COCO17.joints, "coco")
    document["instance_info"][2]["instances"][0]["keypoint_scores"].pop()
    fails(dump(tmp_path / "a.json", document), "frame 2: 17 keypoints but 16 scores")
    points = [[1.0, 2.0, 3.0]] * 17
    spatial = [{"frame_id": 0, "instances": [{"keypoints": points, "keypoint_scores": [1.0] * 17}]}]
    fails(dump(tmp_path / "b.json", spatial), "holds 3D keypoints; give the 2D predictions", layout="coco17")
    twice = [{"frame_id": 0, "instances": []}] * 2
    fails(dump(tmp_path / "c.json", twice), "the same frame_id comes twice")
    gaps = [{"frame_id": i, "instances": mmpose_instances("halpe26", i)} for i in (0, 5, 7)]
    file = read_keypoints(dump(tmp_path / "d.json", gaps), video())
    assert [i for i, people in enumerate(file.detections) if len(people)] == [0, 5, 7]
    assert any("frames are missing in the file" in note for note in file.warnings)


def landmarks_csv(path: Path, change: Callable[[float], float], count: int = 33) -> Path:
    rows: list[list[Any]] = [[f"{axis}{i}" for i in range(count) for axis in "xyv"]]
    for frame in range(FRAMES):
        marks = mediapipe_landmarks(frame)[:count]
        rows.append([value for m in marks for value in (change(m["x"]), change(m["y"]), m["visibility"])])
    return write_csv(path, rows)


def test_mediapipe_bad_input(tmp_path: Path) -> None:
    fails(landmarks_csv(tmp_path / "few.csv", float, 32), "unknown keypoint format")
    fails(landmarks_csv(tmp_path / "px.csv", lambda value: 640 * value), "landmarks are in pixels", video())
    world = [[{**m, "x": m["x"] - hip["x"], "y": m["y"] - hip["y"]} for m in marks]
             for marks in map(mediapipe_landmarks, range(FRAMES)) for hip in [
                 {axis: (marks[23][axis] + marks[24][axis]) / 2 for axis in "xy"}]]  # fmt: skip
    fails(dump(tmp_path / "world.json", world), "world landmarks, in metres; write pose_landmarks", video())
    short = [mediapipe_landmarks(0), mediapipe_landmarks(1)[:20]]
    fails(dump(tmp_path / "short.json", short), "frame 1: not 33 landmarks")
    path = landmarks_csv(tmp_path / "cut.csv", float)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], lines[5][:40]]))
    fails(path, "line 6: .* cells, but the header has 99; was the file cut short", video())
    path.write_text("\n".join([*lines[:5], "x" + lines[5]]))
    fails(path, "line 6: could not convert", video())
    long = [["landmark", "x", "y"], ["NOSE", 0.5, 0.5]]
    fails(write_csv(tmp_path / "long.csv", long), "a row for each landmark, but no column frame", video())
    rows = [["frame", *long[0]], [0, "TAIL", 0.5, 0.5]]
    fails(write_csv(tmp_path / "tail.csv", rows), "line 2: unknown landmark 'TAIL'", video())


def test_deeplabcut_bad_input(tmp_path: Path) -> None:
    parts = tuple(f"part{i}" for i in range(17))
    rows = deeplabcut_rows(parts)
    path = write_csv(tmp_path / "a.csv", rows)
    fails(path, "no COCO keypoints; these are nose", joint_map={"part0": "snout"})
    fails(path, "has no body part tail; it has part0", joint_map={"tail": "nose"})
    fails(path, "give each COCO keypoint one body part", joint_map={"part0": "nose", "part1": "nose"})
    (tmp_path / "map.toml").write_text("part0 = ")
    fails(path, r"map\.toml: not a joint map in TOML or JSON", joint_map=tmp_path / "map.toml")
    (tmp_path / "map.toml").write_text("part0 = 3")
    fails(path, r"map\.toml: a joint map has lines such as", joint_map=tmp_path / "map.toml")
    fails(path, r"none\.toml: not a joint map", joint_map=tmp_path / "none.toml")
    options = {"joint_map": {"part0": "nose"}}
    fails(write_csv(tmp_path / "b.csv", [*rows[:4], rows[4][:9]]), "frame 1 has 8 values, the header 51", **options)
    fails(write_csv(tmp_path / "c.csv", [*rows[:3], [0, "x", *rows[3][2:]]]), "frame 0: could not convert", **options)
    labelled = [*rows[:3], ["labeled-data/clip/img0001.png", *rows[3][1:]]]
    fails(write_csv(tmp_path / "d.csv", labelled), "holds labelled images, not a video", **options)
    fails(write_csv(tmp_path / "e.csv", [rows[0], rows[3]]), "lacks the header rows bodyparts and coords", **options)


def test_deeplabcut_h5_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    load = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingDependencyError, match=r"a\.h5: .* needs h5py: pip install 'vp3d\[deeplabcut\]', or give the .csv"
    ):
        read_keypoints(tmp_path / "a.h5")


def test_deeplabcut_damaged_and_hostile_h5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    fails(path, "not a table of DeepLabCut")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    fails(path, "holds 0 pandas tables")
    mark = tmp_path / "mark"
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = np.bytes_("frame_table")
        data = np.zeros(3, [("index", "<i8"), ("values_block_0", "<f8", (3,))])
        table = group.create_dataset("table", data=data)
        table.attrs["values_block_0_kind"] = np.bytes_(f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode())
    fails(path, r"a\.h5: column names: refused, it asks for posix\.system")
    assert not mark.exists()


def test_sports2d_bad_input(tmp_path: Path) -> None:
    path = write_trc(tmp_path / "clip_px_person00.trc")
    lines = path.read_text().splitlines()
    for broken in (lines[:2], [*lines[:6], lines[6].replace("0.0", "zero")], lines[:5]):
        path.write_text("\n".join(broken))
        fails(path, r"clip_px_person00\.trc: (not a whole TRC file|a TRC file without markers)")
    path.write_text("\n".join(lines))
    write_trc(tmp_path / "clip_px_person01.trc")
    other = tmp_path / "clip_px_person01.trc"
    other.write_text(other.read_text().replace("RAnkle", "RFoot"))
    fails(tmp_path, r"clip_px_person01\.trc: other markers than in clip_px_person00\.trc: mixed layouts")
    other.rename(tmp_path / "other_px_person00.trc")
    fails(tmp_path, r"several videos \(clip, other\)")
    path.write_text(
        re.sub(r"[LR]\w+|Nose|Head|Neck|Hip", "M", lines[3]).join(
            ["\n".join(lines[:3]) + "\n", "\n" + "\n".join(lines[4:])]
        )
    )
    fails(path, "no marker is a COCO keypoint; it has M")


def test_videopose3d_bad_input(tmp_path: Path) -> None:
    points = walk_coco()

    def archive(positions: Any, **metadata: Any) -> Path:
        meta = {"layout_name": "coco", "num_joints": 17, "video_metadata": {}} | metadata
        np.savez(tmp_path / "a.npz", positions_2d=np.array(positions, object), metadata=np.array(meta, object))
        return tmp_path / "a.npz"

    fails(archive({"clip": {"custom": [points, points]}}), r"clip has 2 sequences \(actions and cameras\), not one")
    fails(archive({"clip": {"custom": [points[0]]}}), r"clip: expected an array \(T, J, 2\), got \(17, 2\)")
    fails(archive({"clip": {"custom": ["x"]}}), r"clip: expected an array")
    fails(archive({}), "holds 0 videos")
    fails(archive({"clip": {"custom": [points]}}, layout_name=""), "--layout coco17 or --layout h36m17")
    fails(
        archive({"clip": {"custom": [points]}}, video_metadata={"clip": {"w": 1, "h": 2}}), "for images of 1x2", video()
    )
    np.savez(tmp_path / "a.npz", positions_2d=points)
    fails(tmp_path / "a.npz", "positions_2d and metadata are not dicts")
