"""Every format that is read, written as its tool writes it; and what is written read back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import (
    FRAMES,
    LIMBS,
    MMPOSE_H36M,
    SIZE_WH,
    alphapose_entries,
    check_walk,
    coco_entries,
    deeplabcut_rows,
    dump,
    flat,
    mediapipe_landmarks,
    mmpose_demo,
    mmpose_instances,
    video,
    walk,
    write_csv,
    write_openpose,
    write_trc,
)

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints import LAYOUTS, read_keypoints
from vp3d_cli.skeletons import COCO17

# OpenPose and Pose2Sim


@pytest.mark.parametrize("layout", ["body25", "coco18", "halpe26", "coco133", "halpe136"])
def test_openpose_folder(tmp_path: Path, layout: str) -> None:
    file = read_keypoints(write_openpose(tmp_path / "json", layout), video())
    assert (file.format, file.layout, file.warnings, file.ids) == ("openpose", layout, (), None)
    check_walk(file)


def test_openpose_layout_of_17_must_be_said(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json", "coco17", name="clip_{:06d}.json")
    with pytest.raises(InputError, match=r"17 keypoints .* --layout coco17 or --layout h36m17 .*BODY_25"):
        read_keypoints(folder, video())
    check_walk(read_keypoints(folder, video(), layout="COCO-17"))


def test_openpose_missing_points_absent_frames_and_empty_people(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json", people=1)
    points = walk(LAYOUTS["body25"])[3]
    values = flat(points)
    values[:3] = [0, 0, 0]  # the nose
    hands_alone = {"person_id": [-1], "pose_keypoints_2d": []}
    dump(folder / f"clip_{3:012d}_keypoints.json", {"people": [{"pose_keypoints_2d": values}, hands_alone]})
    dump(folder / f"clip_{4:012d}_keypoints.json", {"version": 1.3, "people": []})
    (folder / f"clip_{5:012d}_keypoints.json").unlink()
    file = read_keypoints(folder, video())
    assert [len(people) for people in file.detections] == [1, 1, 1, 1, 0, 0, *[1] * 6]
    assert np.isnan(file.detections[3].keypoints[0, 0]).all()
    assert file.detections[3].scores[0, 0] == 0
    assert np.isfinite(file.detections[3].keypoints[0, 1:]).all()


def test_openpose_tracked_and_one_frame(tmp_path: Path) -> None:
    people = [{"person_id": [7 + i], "pose_keypoints_2d": flat(walk(LAYOUTS["body25"], i)[0])} for i in range(2)]
    file = read_keypoints(dump(tmp_path / "frame.json", {"people": people}))
    assert file.ids == [(7, 8)]
    old = {"version": 0.1, "people": [{"pose_keypoints": flat(walk(LAYOUTS["coco18"])[0])}]}
    assert read_keypoints(dump(tmp_path / "old.json", old)).layout == "coco18"


def test_frames_that_do_not_count_from_0_are_told_by_the_video(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json")
    for offset in (1, 1001):
        moved = tmp_path / f"from_{offset}"
        moved.mkdir()
        for i, path in enumerate(sorted(folder.iterdir())):
            (moved / f"img{i + offset:05d}_keypoints.json").write_text(path.read_text())
        file = read_keypoints(moved, video())
        assert file.warnings == (
            f"frames are numbered from {offset}: {offset} is taken as the first frame of the video",
        )
        check_walk(file)
    assert len(read_keypoints(tmp_path / "from_1")) == FRAMES + 1  # without a video numbers are taken as they are


def test_pose2sim_folder_of_this_video_is_found(tmp_path: Path) -> None:
    write_openpose(tmp_path / "pose" / "clip_json", "halpe26", name="clip_{:06d}.json")
    check_walk(read_keypoints(tmp_path, video()))  # the only one
    write_openpose(tmp_path / "pose" / "other_json", "halpe26", people=1, name="other_{:06d}.json")
    check_walk(read_keypoints(tmp_path, video()))
    with pytest.raises(InputError, match=r"several videos .*clip_json, other_json"):
        read_keypoints(tmp_path, video(name="third.mp4"))


# AlphaPose


@pytest.mark.parametrize("layout", ["coco17", "halpe26", "mpii16", "halpe136"])
def test_alphapose(tmp_path: Path, layout: str) -> None:
    file = read_keypoints(dump(tmp_path / "alphapose-results.json", alphapose_entries(layout)), video())
    assert (file.format, file.layout, file.warnings) == ("alphapose", layout, ())
    assert file.ids == [(1, 2)] * FRAMES
    check_walk(file, joints=LIMBS if layout == "mpii16" else None)
    for people in file.detections:  # the detector's score is taken out of AlphaPose's sum
        np.testing.assert_allclose(people.person_scores, 0.9, atol=1e-5)


def test_alphapose_without_tracking_and_scores_above_1(tmp_path: Path) -> None:
    entries = alphapose_entries(tracked=False)
    for entry in entries:
        entry["idx"] = 0
    entries[0]["keypoints"][2] = 1.08
    file = read_keypoints(dump(tmp_path / "a.json", entries), video())
    assert file.ids is None
    assert file.warnings == ("1 confidences are above 1 (up to 1.08): taken as 1",)
    assert file.detections[0].scores[0, 0] == 1


@pytest.mark.parametrize("key", ["people", "bodies"])
def test_alphapose_in_openpose_form(tmp_path: Path, key: str) -> None:
    name = {"people": "pose_keypoints_2d", "bodies": "joints"}[key]
    document = {
        f"{frame}.jpg": {
            "version": "AlphaPose v0.3",
            key: [{name: flat(walk(LAYOUTS["coco18"], person)[frame])} for person in range(2)],
        }
        for frame in range(FRAMES)
    }
    file = read_keypoints(dump(tmp_path / "a.json", document), video())
    assert (file.format, file.layout) == ("alphapose", "coco18")
    check_walk(file)


# COCO


def test_coco(tmp_path: Path) -> None:
    file = read_keypoints(dump(tmp_path / "results.json", coco_entries()), video())
    assert (file.format, file.layout, file.warnings, file.ids) == ("coco", "coco17", (), None)
    check_walk(file)
    np.testing.assert_allclose(file.detections[0].person_scores, 0.6)


def test_coco_boxes_tracks_and_other_categories(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = coco_entries()[:2]
    entries[0] |= {"bbox": [100, 110, 50, 220], "track_id": 4}
    entries[1] |= {"track_id": 9}
    entries.append({**entries[0], "category_id": 2})
    file = read_keypoints(dump(tmp_path / "results.json", entries), video())
    assert file.detections[0].boxes_xyxy[0].tolist() == [100, 110, 150, 330]
    assert file.ids is not None
    assert file.ids[0] == (4, 9)
    assert file.warnings == (
        "1 entries are of another category than 1, person: left out",
        f"nobody is in the file after frame 0 of {FRAMES}",
    )


def test_coco_of_nobody(tmp_path: Path) -> None:
    file = read_keypoints(dump(tmp_path / "results.json", []), video())
    assert [len(people) for people in file.detections] == [0] * FRAMES
    assert file.warnings == ("nobody is in the file",)


# MMPose


def test_mmpose_demo_takes_keypoints_by_their_names(tmp_path: Path) -> None:
    coco = read_keypoints(dump(tmp_path / "a.json", mmpose_demo("coco17", COCO17.joints, "coco")), video())
    assert (coco.format, coco.layout, coco.warnings) == ("mmpose", "coco17", ())
    check_walk(coco)
    np.testing.assert_allclose(coco.detections[0].person_scores, 0.9)
    h36m = read_keypoints(dump(tmp_path / "b.json", mmpose_demo("h36m17", MMPOSE_H36M, "h36m")), video())
    assert h36m.layout == "h36m"
    check_walk(h36m, joints=LIMBS)


def test_mmpose_inferencer(tmp_path: Path) -> None:
    frames = [{"frame_id": i, "instances": mmpose_instances("coco17", i)} for i in range(FRAMES)]
    path = dump(tmp_path / "clip.json", frames)
    check_walk(read_keypoints(path, video()))
    with pytest.raises(InputError, match="--layout coco17 or --layout h36m17"):
        read_keypoints(dump(tmp_path / "image.json", mmpose_instances("coco17", 0)))
    human = [{"frame_id": i, "instances": mmpose_instances("h36m17", i)} for i in range(FRAMES)]
    with pytest.raises(InputError, match=r"not in layout coco17: .*--layout \(h36m17\?\)"):
        read_keypoints(dump(tmp_path / "human.json", human), video())
    halpe = [{"frame_id": i, "instances": mmpose_instances("halpe26", i)} for i in range(FRAMES)]
    file = read_keypoints(dump(tmp_path / "halpe.json", halpe), video())
    assert file.layout == "halpe26"
    check_walk(file)


def test_mmpose_folder_of_images_in_natural_order(tmp_path: Path) -> None:
    for i in range(FRAMES):
        dump(tmp_path / f"img{i + 1}.json", mmpose_instances("halpe26", i))
    check_walk(read_keypoints(tmp_path, video()))
    for i in range(3):
        dump(tmp_path / f"img{i + 1}.json", [])
    file = read_keypoints(tmp_path, video())
    assert [len(people) for people in file.detections] == [0, 0, 0, *[2] * (FRAMES - 3)]
    for path in tmp_path.iterdir():
        dump(path, [])
    assert [len(people) for people in read_keypoints(tmp_path, video()).detections] == [0] * FRAMES


# MediaPipe


def wide_header(style: str) -> list[str]:
    names = [joint.upper() for joint in LAYOUTS["mediapipe33"].joints]
    styles = {
        "name": [f"{name}_{axis}" for name in names for axis in ("x", "y", "z", "visibility")],
        "landmark": [f"landmark_{i}_{axis}" for i in range(33) for axis in ("x", "y", "z", "visibility")],
        "letter": [f"{axis}{i + 1}" for i in range(33) for axis in "xyzv"],
        "dot": [f"{name.replace('_', ' ').lower()}.{axis}" for name in names for axis in ("x", "y", "z", "vis")],
    }
    return styles[style]


@pytest.mark.parametrize("style", ["name", "landmark", "letter", "dot"])
@pytest.mark.parametrize("numbered", [True, False])
def test_mediapipe_wide_csv(tmp_path: Path, style: str, numbered: bool) -> None:
    rows: list[list[Any]] = [[*(["frame"] if numbered else []), "timestamp_ms", *wide_header(style)]]
    for i in range(FRAMES):
        cells = [value for mark in mediapipe_landmarks(i) for value in mark.values()]
        rows.append([*([i] if numbered else []), 40 * i, *cells])
    file = read_keypoints(write_csv(tmp_path / "a.csv", rows), video())
    assert (file.format, file.layout, file.warnings) == ("mediapipe", "mediapipe33", ())
    check_walk(file, people=1)


@pytest.mark.parametrize("named", [True, False])
def test_mediapipe_long_csv_of_two_people(tmp_path: Path, named: bool) -> None:
    rows: list[list[Any]] = [
        ["frame", "person", "landmark_name" if named else "landmark_id", "x", "y", "z", "visibility"]
    ]
    for frame in range(FRAMES):
        for person in range(2):
            for i, mark in enumerate(mediapipe_landmarks(frame, person)):
                label = f"PoseLandmark.{LAYOUTS['mediapipe33'].joints[i].upper()}" if named else i
                rows.append([frame, person, label, *mark.values()])
    file = read_keypoints(write_csv(tmp_path / "a.csv", rows), video())
    check_walk(file)
    assert file.ids == [(0, 1)] * FRAMES
    assert [track.person_id for track in file.tracks() or []] == [1, 2]


def json_frames(style: str) -> Any:
    marks = [mediapipe_landmarks(i) for i in range(FRAMES)]
    if style == "bare":
        return marks
    if style == "lists":
        return {"frames": [{"frame": i, "landmarks": [list(m.values()) for m in mark]} for i, mark in enumerate(marks)]}
    if style == "people":
        return [{"pose_landmarks": [mark]} for mark in marks]
    return {
        "width": SIZE_WH[0],
        "height": SIZE_WH[1],
        "poses": [{"landmark": {"landmark": m}} | {"landmarks": m} for m in marks],
    }


@pytest.mark.parametrize("style", ["bare", "lists", "people", "sized"])
def test_mediapipe_json(tmp_path: Path, style: str) -> None:
    path = dump(tmp_path / "a.json", json_frames(style))
    check_walk(read_keypoints(path, video()), people=1)
    if style == "sized":
        file = read_keypoints(path)
        assert file.size_wh == SIZE_WH
        check_walk(file, people=1)
    else:
        with pytest.raises(InputError, match="need the image size"):
            read_keypoints(path)


def test_mediapipe_frames_without_anyone(tmp_path: Path) -> None:
    frames = [{"frame": i, "landmarks": None if i in (0, 5) else mediapipe_landmarks(i)} for i in range(FRAMES)]
    file = read_keypoints(dump(tmp_path / "a.json", frames), video())
    assert [len(people) for people in file.detections] == [0, 1, 1, 1, 1, 0, *[1] * 6]


def test_mediapipe_without_visibility(tmp_path: Path) -> None:
    frames = [[[mark["x"], mark["y"]] for mark in mediapipe_landmarks(i)] for i in range(FRAMES)]
    file = read_keypoints(dump(tmp_path / "a.json", frames), video())
    assert file.warnings == ("the file has no confidence: 1 is taken for every keypoint in it",)
    check_walk(file, people=1, score=1.0)


# DeepLabCut

OWN_PARTS = tuple(f"part{i}" for i in range(17))
OWN_MAP = dict(zip(OWN_PARTS, COCO17.joints, strict=True))


@pytest.mark.parametrize("individuals", [0, 2])
def test_deeplabcut_csv(tmp_path: Path, individuals: int) -> None:
    path = write_csv(tmp_path / "a.csv", deeplabcut_rows(OWN_PARTS, individuals))
    file = read_keypoints(path, video(), joint_map=OWN_MAP)
    assert (file.format, file.layout, file.warnings) == ("deeplabcut", "joint map", ())
    check_walk(file, people=individuals or 1)
    with pytest.raises(InputError, match=r"body parts are part0, .*--joint-map FILE.*left_ankle"):
        read_keypoints(path, video())


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_deeplabcut_joint_map_in_a_file(tmp_path: Path, suffix: str) -> None:
    some = dict(list(OWN_MAP.items())[5:])
    lines = "[joint_map]\n" + "\n".join(f'{part} = "{joint}"' for part, joint in some.items())
    (tmp_path / f"map{suffix}").write_text(json.dumps(some) if suffix == ".json" else lines)
    path = write_csv(tmp_path / "a.csv", deeplabcut_rows(OWN_PARTS))
    check_walk(read_keypoints(path, video(), joint_map=str(tmp_path / f"map{suffix}")), people=1, joints=LIMBS)


def test_deeplabcut_human_model_needs_no_map(tmp_path: Path) -> None:
    parts = tuple(joint.replace("left", "L").title() for joint in COCO17.joints)
    check_walk(read_keypoints(write_csv(tmp_path / "a.csv", deeplabcut_rows(parts)), video()), people=1)


def test_deeplabcut_gaps(tmp_path: Path) -> None:
    rows = deeplabcut_rows(OWN_PARTS, 2)
    rows[4 + 3][1 : 1 + 51] = [""] * 51  # the first individual is not in frame 3
    rows[4 + 5][1:4] = ["nan", "nan", "0.01"]
    file = read_keypoints(write_csv(tmp_path / "a.csv", rows), video(), joint_map=OWN_MAP)
    assert file.ids is not None
    assert file.ids[3] == (2,)
    assert np.isnan(file.detections[5].keypoints[0, 0]).all()


@pytest.mark.parametrize("kind", ["table", "fixed"])
@pytest.mark.parametrize("individuals", [0, 2])
def test_deeplabcut_h5(tmp_path: Path, kind: str, individuals: int) -> None:
    """A file laid out as pandas writes it, in either of its formats."""
    h5py = pytest.importorskip("h5py")
    rows = deeplabcut_rows(OWN_PARTS, individuals)
    head = 4 if individuals else 3
    names = list(zip(*(row[1:] for row in rows[:head]), strict=True))
    table = np.array([row[1:] for row in rows[head:]], float)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        if kind == "table":
            group.attrs["pandas_type"] = np.bytes_("frame_table")
            dtype = [("index", "<i8"), ("values_block_0", "<f8", (table.shape[1],))]
            data = np.zeros(len(table), dtype)
            data["index"], data["values_block_0"] = np.arange(len(table)), table
            dataset = group.create_dataset("table", data=data)
            dataset.attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(names, protocol=0))
        else:
            group.attrs["pandas_type"] = np.bytes_("frame")
            group.attrs["nblocks"], group.attrs["block0_items_nlevels"] = 1, head
            group.create_dataset("block0_values", data=table)
            for level in range(head):
                words = sorted({name[level] for name in names})
                group.create_dataset(f"block0_items_level{level}", data=np.array(words, "S"))
                group.create_dataset(f"block0_items_label{level}", data=[words.index(name[level]) for name in names])
    check_walk(read_keypoints(path, video(), joint_map=OWN_MAP), people=individuals or 1)


@pytest.mark.parametrize("kind", ["table", "fixed"])
@pytest.mark.parametrize("individuals", [0, 2])
def test_deeplabcut_h5_by_pandas(tmp_path: Path, kind: str, individuals: int) -> None:
    """DeepLabCut's own way of writing."""
    pytest.importorskip("h5py")
    pytest.importorskip("tables")
    pandas = pytest.importorskip("pandas")
    path = write_csv(tmp_path / "a.csv", deeplabcut_rows(OWN_PARTS, individuals))
    frame = pandas.read_csv(path, header=list(range(4 if individuals else 3)), index_col=0)
    frame.to_hdf(tmp_path / "a.h5", key="df_with_missing", format=kind, mode="w")
    check_walk(read_keypoints(tmp_path / "a.h5", video(), joint_map=OWN_MAP), people=individuals or 1)


# Sports2D


def test_sports2d_folder_and_file(tmp_path: Path) -> None:
    joints = [0, *LIMBS]
    for person in range(2):
        write_trc(tmp_path / f"clip_Sports2D_px_person{person:02d}.trc", person)
        write_trc(tmp_path / f"clip_Sports2D_m_person{person:02d}.trc", person, scale=0.01)
    file = read_keypoints(tmp_path, video())
    assert (file.format, file.layout, file.fps) == ("sports2d", "trc", 25.0)
    assert file.ids == [(1, 2)] * FRAMES
    check_walk(file, joints=joints, score=1.0)
    one = read_keypoints(tmp_path / "clip_Sports2D_px_person00.trc", video())
    check_walk(one, people=1, joints=joints, score=1.0)
    with pytest.raises(InputError, match="in metres, not pixels; give the file with _px_"):
        read_keypoints(tmp_path / "clip_Sports2D_m_person00.trc", video())


def test_sports2d_part_of_a_video(tmp_path: Path) -> None:
    file = read_keypoints(write_trc(tmp_path / "clip_px_person00.trc", first=4, frames=5), video())
    assert [len(people) for people in file.detections] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


# VideoPose3D


def videopose3d(path: Path, layout: str, names: tuple[str, ...] = ("clip.mp4",), **meta: Any) -> Path:
    """As its data/prepare_data_2d_custom.py writes it."""
    positions = {name: {"custom": [walk(LAYOUTS[layout], i)]} for i, name in enumerate(names)}
    stated = {"coco17": "coco", "h36m17": "h36m"}[layout]
    metadata = {
        "layout_name": stated,
        "num_joints": 17,
        "keypoints_symmetry": [[1, 3], [2, 4]],
        "video_metadata": {name: {"w": SIZE_WH[0], "h": SIZE_WH[1]} for name in names},
    } | meta
    np.savez_compressed(path, positions_2d=np.array(positions, object), metadata=np.array(metadata, object))
    return path


@pytest.mark.parametrize("layout", ["coco17", "h36m17"])
def test_videopose3d_takes_the_layout_that_is_named(tmp_path: Path, layout: str) -> None:
    file = read_keypoints(videopose3d(tmp_path / "data_2d_custom_a.npz", layout), video())
    assert (file.format, file.layout, file.size_wh) == ("videopose3d", layout, SIZE_WH)
    check_walk(file, people=1, joints=LIMBS if layout == "h36m17" else None, score=1.0)


def test_videopose3d_of_several_videos(tmp_path: Path) -> None:
    path = videopose3d(tmp_path / "a.npz", "coco17", ("clip.mp4", "other.mp4"))
    check_walk(read_keypoints(path, video()), people=1, score=1.0)
    with pytest.raises(InputError, match=r"holds 2 videos \(clip\.mp4, other\.mp4\)"):
        read_keypoints(path, video(name="third.mp4"))
