"""Detections: a container that is cut, joined and iterated, and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vp3d_cli.errors import InputError, OutputError, ShapeError
from vp3d_cli.io.detections import (
    Detections,
    detections_from_tracks,
    is_detections_file,
    join_detections,
    read_detections,
)
from vp3d_cli.skeletons import COCO17, COCO133, HALPE26, Skeleton
from vp3d_cli.types import Keypoints2D


def people(count: int, skeleton: Skeleton = COCO17, seed: int = 0) -> Keypoints2D:
    rng = np.random.default_rng(seed)
    joints = skeleton.num_joints
    points = rng.uniform(0, 400, (count, joints, 2)).astype(np.float32)
    if count:
        points[0, 3] = np.nan
    boxes = np.tile(np.array([0, 0, 400, 400], np.float32), (count, 1))
    scores = rng.uniform(0, 1, (count, joints)).astype(np.float32)
    return Keypoints2D(boxes, points, scores, np.full(count, 0.9, np.float32), skeleton)


def detections(skeleton: Skeleton = COCO17, **changes: Any) -> Detections:
    counts = [2, 1, 0, 3, 1, 2]
    frames = [people(count, skeleton, seed) for seed, count in enumerate(counts)]
    values: dict[str, Any] = {
        "frames": frames,
        "frame_times_s": np.arange(6) / 30.0,
        "fps": 30.0,
        "video_size_wh": (640, 480),
        "shot_starts": (3,),
        "detected": np.array([1, 1, 0, 1, 1, 1], bool),
        "source": {"detector": {"name": "x", "sha256": "0"}},
        "video": "walk.mp4",
        "detector_seconds": 1.5,
        "warnings": ("beware",),
    }
    return Detections(**{**values, **changes})


def assert_same(one: Detections, other: Detections) -> None:
    assert (len(one), one.fps, one.video_size_wh) == (len(other), other.fps, other.video_size_wh)
    assert (one.shot_starts, one.source, one.video) == (other.shot_starts, other.source, other.video)
    assert (one.warnings, one.skeleton) == (other.warnings, other.skeleton)
    np.testing.assert_array_equal(one.frame_times_s, other.frame_times_s)
    np.testing.assert_array_equal(one.detected, other.detected)
    for first, second in zip(one, other, strict=True):
        for name in ("keypoints", "scores", "boxes_xyxy", "person_scores"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("skeleton", [COCO17, HALPE26, COCO133])
def test_the_file_keeps_everything(tmp_path: Path, skeleton: Skeleton) -> None:
    ids = [tuple(range(1, len(frame) + 1)) for frame in detections()]
    for before in (detections(skeleton), detections(skeleton, person_ids=ids)):
        before.save(tmp_path / "d.npz", overwrite=True)
        after = read_detections(tmp_path / "d.npz")
        assert_same(before, after)
        assert after.person_ids == before.person_ids
    assert is_detections_file(tmp_path / "d.npz")
    with pytest.raises(OutputError, match="exists already"):
        before.save(tmp_path / "d.npz")


def test_it_is_iterated_cut_and_joined() -> None:
    whole = detections()
    assert [len(frame) for frame in whole] == [2, 1, 0, 3, 1, 2]
    assert whole[3] is whole.frames[3]
    parts = [whole[:3], whole[3:]]
    assert parts[1].shot_starts == (0,)
    assert_same(join_detections(parts), whole)
    assert join_detections(parts).detector_seconds == 3.0
    with pytest.raises(ShapeError, match="not in steps of 2"):
        whole[::2]
    other = detections(source={"detector": {"name": "y"}})
    with pytest.raises(InputError, match="different weights"):
        join_detections([whole, other])


def test_the_repr_is_short() -> None:
    assert repr(detections(HALPE26)) == (
        "Detections(6 frames at 30 fps, 640x480, up to 3 people a frame, skeleton 'halpe26')"
    )


def test_tracked_people_alone() -> None:
    ids = [(7, 3), (3,), (), (3, 7, 9), (9,), (3, 9)]
    whole = detections(person_ids=ids)
    tracks = whole.identified_tracks()
    assert tracks is not None
    assert [track.person_id for track in tracks] == [3, 7, 9]
    again = detections_from_tracks(tracks[:2], whole)
    assert again.person_ids == [(3, 7), (3,), (), (3, 7), (), (3,)]
    np.testing.assert_array_equal(again[1].keypoints, whole[1].keypoints)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": np.asarray("vp3d-detections/9")}, "schema is vp3d-detections/9, expected vp3d-detections/1"),
        ({"counts": np.array([9, 9, 9, 9, 9, 9])}, "expected 9 people in all, got 54"),
        ({"counts": np.array([-1, 2, 0, 3, 4, 1])}, "people in all"),
        ({"scores": np.zeros((9, 3), np.float32)}, r"scores: expected shape \(9, 17\), got \(9, 3\)"),
        ({"frame_times_s": np.zeros(6)}, "frame_times_s do not rise"),
        ({"fps": np.asarray(np.nan)}, "fps is not a positive number"),
        ({"video_size_wh": np.array([0, 480])}, "video_size_wh"),
        ({"person_ids": np.zeros(3, np.int32)}, "person_ids"),
        ({"provenance": np.asarray("{")}, "cannot be read as detections"),
        ({"provenance": np.asarray("[]")}, "cannot be read as detections"),
        ({"keypoints": np.array([{}], object)}, "cannot be read as detections"),
    ],
)
def test_damaged_files_are_refused_on_one_line(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    detections().save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "bad.npz", **(arrays | change))
    with pytest.raises(InputError, match=says) as caught:
        read_detections(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_what_is_no_detections_file(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    assert not is_detections_file(tmp_path / "text.npz")
    with pytest.raises(InputError, match="cannot be read as detections"):
        read_detections(tmp_path / "text.npz")
    with pytest.raises(InputError, match="no such file"):
        read_detections(tmp_path / "nothing.npz")


def test_provenance_is_json(tmp_path: Path) -> None:
    detections().save(tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz", allow_pickle=False) as stored:
        known = json.loads(str(stored["provenance"]))
    assert known["source"]["detector"]["name"] == "x"
    with pytest.raises(OutputError, match="JSON"):
        detections(source={"x": object()}).save(tmp_path / "e.npz")
    assert not (tmp_path / "e.npz").exists()
