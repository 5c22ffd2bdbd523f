"""Properties over all formats: one format matches each file, names do not matter, and damage never escapes as anything
but an error of vp3d."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoint_samples import (
    FRAMES,
    SIZE_WH,
    alphapose_entries,
    coco_dataset,
    coco_entries,
    deeplabcut_rows,
    dump,
    easy_vitpose,
    flat,
    mediapipe_landmarks,
    mmpose_demo,
    mmpose_instances,
    poseflow_images,
    video,
    walk,
    walk_coco,
    write_array,
    write_csv,
    write_detectron,
    write_openpose,
    write_trc,
    write_yolo,
)

from vp3d_cli.errors import Vp3dError
from vp3d_cli.io.keypoints import LAYOUTS, read_keypoints, write_keypoints
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.plugins import KEYPOINT_READERS
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D, VideoInfo


def mediapipe_table() -> list[list[Any]]:
    header = [f"landmark_{i}_{axis}" for i in range(33) for axis in ("x", "y", "z", "visibility")]
    return [["frame", *header]] + [
        [frame, *(value for mark in mediapipe_landmarks(frame) for value in mark.values())] for frame in range(FRAMES)
    ]


def written(path: Path, name: str) -> Path:
    points = walk_coco()
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    track = Track2D(1, points, np.ones((FRAMES, 17), np.float32), boxes, np.ones((FRAMES, 17), bool))
    times = np.arange(FRAMES) / 25.0
    write_keypoints(path, [track], frame_times_s=times, fps=25.0, size_wh=SIZE_WH, format=name, video_name="clip")
    return path


SAMPLES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "own": ("vp3d", lambda folder: written(folder / "a.npz", "vp3d")),
    "videopose3d": ("videopose3d", lambda folder: written(folder / "a.npz", "videopose3d")),
    "our coco": ("coco", lambda folder: written(folder / "a.json", "coco")),
    "coco": ("coco", lambda folder: dump(folder / "a.json", coco_entries())),
    "alphapose": ("alphapose", lambda folder: dump(folder / "a.json", alphapose_entries())),
    "mmpose": ("mmpose", lambda folder: dump(folder / "a.json", mmpose_demo("coco17", COCO17.joints, "coco"))),
    "mmpose list": ("mmpose", lambda folder: dump(folder / "a.json", mmpose_frames())),
    "mmpose image": ("mmpose", lambda folder: dump(folder / "a.json", mmpose_instances("halpe26", 0))),
    "openpose": ("openpose", lambda folder: write_openpose(folder / "json")),
    "openpose frame": ("openpose", lambda folder: dump(folder / "a.json", openpose_frame())),
    "mediapipe json": ("mediapipe", lambda folder: dump(folder / "a.json", mediapipe_frames())),
    "mediapipe csv": ("mediapipe", lambda folder: write_csv(folder / "a.csv", mediapipe_table())),
    "deeplabcut": ("deeplabcut", lambda folder: write_csv(folder / "a.csv", deeplabcut_rows())),
    "poseflow": ("alphapose", lambda folder: dump(folder / "a.json", poseflow_images())),
    "coco data set": ("coco-dataset", lambda folder: dump(folder / "a.json", coco_dataset())),
    "easy_vitpose": ("easy-vitpose", lambda folder: dump(folder / "a.json", easy_vitpose())),
    "yolo": ("yolo", lambda folder: write_yolo(folder / "labels")),
    "detectron": ("detectron", lambda folder: write_detectron(folder / "a.npz")),
    "npy": ("array", lambda folder: write_array(folder / "a.npy")),
    "npz of arrays": ("array", lambda folder: write_array(folder / "a.npz")),
    "pickle": ("array", lambda folder: write_array(folder / "a.pkl")),
    "sports2d": ("sports2d", lambda folder: write_trc(folder / "a.trc")),
}


def mmpose_frames() -> list[Any]:
    return [{"frame_id": i, "instances": mmpose_instances("halpe26", i)} for i in range(FRAMES)]


def openpose_frame() -> dict[str, Any]:
    return {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": flat(walk(LAYOUTS["body25"])[0])}]}


def mediapipe_frames() -> list[Any]:
    return [{"frame": i, "landmarks": mediapipe_landmarks(i)} for i in range(FRAMES)]


@pytest.mark.parametrize("sample", list(SAMPLES))
def test_one_format_matches_whatever_the_file_is_called(tmp_path: Path, sample: str) -> None:
    name, make = SAMPLES[sample]
    path = make(tmp_path)
    assert [known.name for known in KEYPOINT_READERS.loaded().values() if known.matches(Source(path))] == [name]
    if path.is_file():
        renamed = tmp_path / "keypoints of Zoë.dat"
        shutil.copy(path, renamed)
        path = renamed
    clip = None if sample in ("openpose frame", "mmpose image") else video()
    file = read_keypoints(path, clip)
    assert file.format == name
    assert len(file) == (FRAMES if clip else 1)
    assert sum(map(bool, map(len, file.detections))) >= len(file) - 1  # some samples have nobody in the first frame
    for people in file.detections:
        positions, scores = people.keypoints, people.scores
        assert (np.isfinite(positions).all(axis=-1) | ((scores == 0) & np.isnan(positions).all(axis=-1))).all()
        assert ((scores >= 0) & (scores <= 1)).all()
        assert np.isfinite(people.boxes_xyxy).all()
        assert ((people.person_scores >= 0) & (people.person_scores <= 1)).all()


def test_every_format_has_a_sample() -> None:
    assert {name for name, _ in SAMPLES.values()} == {known.name for known in KEYPOINT_READERS.loaded().values()}


def damaged(document: Any, picks: random.Random, junk: Any) -> Any:
    """The document with one part of it, at any depth, replaced or removed."""
    document = copy.deepcopy(document)
    node, parent, key = document, None, None
    while isinstance(node, dict | list) and node and (parent is None or picks.random() < 0.75):
        key = picks.choice(list(node)) if isinstance(node, dict) else picks.randrange(len(node))
        parent, node = node, node[key]
    if parent is None:
        return junk
    if picks.random() < 0.3:
        del parent[key]
    else:
        parent[key] = junk
    return document


def read_or_refuse(path: Path, clip: VideoInfo | None) -> None:
    try:
        read_keypoints(path, clip)
        return
    except Vp3dError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message


DOCUMENTS = {
    "coco": coco_entries(),
    "alphapose": alphapose_entries(),
    "mmpose": mmpose_demo("coco17", COCO17.joints, "coco"),
    "mmpose list": mmpose_frames(),
    "openpose": openpose_frame(),
    "mediapipe": mediapipe_frames(),
    "poseflow": poseflow_images(),
    "coco data set": coco_dataset(),
    "easy_vitpose": easy_vitpose(),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), junk=JUNK)
@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_damaged_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, junk: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged_{name}.json"
    dump(path, damaged(DOCUMENTS[name], random.Random(seed), junk))
    for clip in (None, video()):
        read_or_refuse(path, clip)


TABLES = {
    "mediapipe": mediapipe_table(),
    "deeplabcut": deeplabcut_rows(individuals=2),
}


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), junk=st.text(max_size=5) | st.floats().map(str) | st.just(""))
@pytest.mark.parametrize("name", list(TABLES))
def test_damaged_tables_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, junk: str
) -> None:
    picks, rows = random.Random(seed), copy.deepcopy(TABLES[name])
    row = picks.choice(rows)
    if picks.random() < 0.3:
        row.pop()
    else:
        row[picks.randrange(len(row))] = junk
    path = write_csv(tmp_path_factory.getbasetemp() / f"damaged_{name}.csv", rows)
    read_or_refuse(path, video())


@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), junk=st.binary(max_size=8))
@pytest.mark.parametrize("sample", ["own", "videopose3d", "coco", "sports2d", "npy", "pickle", "detectron"])
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, sample: str, seed: int, junk: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"bytes_{sample}"
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder)
    folder.mkdir()
    path = SAMPLES[sample][1](folder)
    content, picks = path.read_bytes(), random.Random(seed)
    at = picks.randrange(len(content))
    path.write_bytes(content[:at] + junk + content[at + picks.randrange(20) :])
    read_or_refuse(path, video())
