"""Keypoints as vp3d writes them, in every format, read back; and what cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import (
    FRAMES,
    SCORE,
    SIZE_WH,
    check_walk,
    keypoint_arrays,
    video,
    walk_coco,
)

from vp3d_cli.errors import ConfigError, OutputError
from vp3d_cli.io.keypoints import WRITERS, read_keypoints, write_keypoints
from vp3d_cli.types import Track2D


def tracks() -> list[Track2D]:
    """Two people, one with gaps: not in view at first, a hidden ear, filled frames."""
    people = []
    for person in range(2):
        points = walk_coco(person)
        scores = np.full((FRAMES, 17), SCORE, np.float32)
        boxes = np.concatenate([points.min(axis=1) - 5, points.max(axis=1) + 5], axis=1)
        observed = np.ones((FRAMES, 17), bool)
        if person:
            points[:3], scores[:3], boxes[:3], observed[:3] = np.nan, 0, np.nan, False
            points[:, 3], scores[:, 3], observed[:, 3] = np.nan, 0, False
            observed[6], scores[6], boxes[6] = False, 0.1, np.nan  # filled in
            scores[6, 3] = 0
        people.append(Track2D(person + 3, points, scores, boxes, observed))
    return people


TIMES = np.arange(FRAMES) / 25.0


def write(path: Path, people: list[Track2D], name: str, **options: Any) -> list[str]:
    settings = {"frame_times_s": TIMES, "fps": 25.0, "size_wh": SIZE_WH} | options
    return write_keypoints(path, people, format=name, **settings)


def test_own_file_round_trip(tmp_path: Path) -> None:
    lost = write(tmp_path / "a.npz", tracks(), "vp3d", provenance={"detector": "none"})
    assert lost == ["16 keypoints that were filled in are left out: no detector saw them"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert str(stored["schema"]) == "vp3d-detections/1"
        assert json.loads(str(stored["provenance"]))["source"] == {"detector": "none"}
        assert stored["counts"].shape == (FRAMES,)
    file = read_keypoints(tmp_path / "a.npz", video())
    assert (file.format, file.layout, file.fps, file.size_wh, file.warnings) == ("vp3d", "coco17", 25.0, SIZE_WH, ())
    np.testing.assert_array_equal(file.frame_times_s, TIMES)
    back = file.tracks()
    assert back is not None
    for before, after in zip(tracks(), (track.over(FRAMES) for track in back), strict=True):
        assert after.person_id == before.person_id
        seen = before.observed
        np.testing.assert_array_equal(after.observed, seen)
        np.testing.assert_array_equal(after.keypoints[seen], before.keypoints[seen])
        assert np.isnan(after.keypoints[~seen]).all()  # what was filled in is not taken for seen
        np.testing.assert_array_equal(after.scores[seen], before.scores[seen])
        np.testing.assert_array_equal(after.boxes_xyxy[after.present], before.boxes_xyxy[before.present])


def test_own_file_of_nobody(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", [], "vp3d")
    file = read_keypoints(tmp_path / "a.npz", video())
    assert [len(people) for people in file.detections] == [0] * FRAMES
    assert file.tracks() == []


def test_2d_part_of_a_pose_file(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", tracks(), "vp3d")
    arrays = keypoint_arrays(tracks(), TIMES, SIZE_WH)
    np.savez(tmp_path / "former.npz", **arrays)
    assert read_keypoints(tmp_path / "former.npz", video()).ids == read_keypoints(tmp_path / "a.npz", video()).ids
    arrays |= {"schema": np.asarray("vp3d-pose/1"), "joints_3d": np.zeros((2, FRAMES, 17, 3), np.float32)}
    np.savez(tmp_path / "pose.npz", **arrays)
    assert read_keypoints(tmp_path / "pose.npz", video()).ids == read_keypoints(tmp_path / "a.npz", video()).ids


def test_coco_round_trip(tmp_path: Path) -> None:
    assert write(tmp_path / "a.json", tracks(), "coco") == [
        "COCO's format keeps neither frame times nor image size",
        "16 keypoints that were filled in are left out, for COCO's format cannot mark them",
    ]
    entries = json.loads((tmp_path / "a.json").read_text())
    first = entries[0]
    assert (first["image_id"], first["category_id"], first["track_id"]) == (0, 1, 3)
    assert len(first["keypoints"]) == 51
    x, y, width, height = first["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], tracks()[0].boxes_xyxy[0], atol=1e-3)
    hidden = next(entry for entry in entries if entry["track_id"] == 4)
    assert hidden["image_id"] == 3
    assert hidden["keypoints"][9:12] == [0, 0, 0]
    back = read_keypoints(tmp_path / "a.json", video()).tracks()
    assert back is not None
    for before, after in zip(tracks(), (track.over(FRAMES) for track in back), strict=True):
        assert after.person_id == before.person_id
        np.testing.assert_array_equal(after.observed, before.observed)
        seen = before.observed
        np.testing.assert_allclose(after.keypoints[seen], before.keypoints[seen], atol=1e-4)
        np.testing.assert_allclose(after.scores[seen], before.scores[seen], atol=1e-4)
    write(tmp_path / "nobody.json", [], "coco")
    assert json.loads((tmp_path / "nobody.json").read_text()) == []


def test_videopose3d_round_trip(tmp_path: Path) -> None:
    notes = write(tmp_path / "data_2d_custom_clip.npz", tracks(), "videopose3d")
    assert any("person 4: 60 missing keypoints are filled in" in note for note in notes)  # 3 x 17, and 9 of the ear
    with np.load(tmp_path / "data_2d_custom_clip.npz", allow_pickle=True) as stored:  # as VideoPose3D opens it
        positions, metadata = stored["positions_2d"].item(), stored["metadata"].item()
    assert list(positions) == ["clip_person3", "clip_person4"]
    array = positions["clip_person4"]["custom"][0]
    assert array.shape == (FRAMES, 17, 2)
    assert np.isfinite(array).all()
    assert array.flags.writeable  # VideoPose3D normalizes in place
    np.testing.assert_array_equal(array[0, 0], tracks()[1].keypoints[3, 0])  # held
    np.testing.assert_array_equal(array[:, 3], array[:, 1])  # the ear stands at the eye
    assert metadata["layout_name"] == "coco"
    assert metadata["keypoints_symmetry"] == [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
    assert metadata["video_metadata"]["clip_person3"] == {"w": 640, "h": 480, "fps": 25.0}
    file = read_keypoints(tmp_path / "data_2d_custom_clip.npz", video())
    assert (file.format, file.layout, file.fps) == ("videopose3d", "coco17", 25.0)
    assert file.ids == [(3, 4)] * FRAMES
    alone = write(tmp_path / "b.npz", tracks()[:1], "videopose3d", video_name="clip")
    assert len(alone) == 1
    check_walk(read_keypoints(tmp_path / "b.npz", video()), people=1, score=1.0)


@pytest.mark.parametrize("name", list(WRITERS))
def test_written_files_are_the_same_bytes_each_time(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "a", tmp_path / "b"):
        write(path, tracks(), name, video_name="clip")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown keypoint format 'bvh'; known: vp3d, coco, videopose3d"):
        write(tmp_path / "a.npz", tracks(), "bvh")
    with pytest.raises(ConfigError, match="has 3 frames, but somebody is seen up to frame 12"):
        write(tmp_path / "a.npz", tracks(), "vp3d", frame_times_s=np.zeros(3))
    with pytest.raises(OutputError, match=r"a\.npz: the provenance cannot be written as JSON"):
        write(tmp_path / "a.npz", tracks(), "vp3d", provenance={"x": {1, 2}})
    with pytest.raises(OutputError, match="does not exist; create it"):
        write(tmp_path / "none" / "a.npz", tracks(), "vp3d")
    with pytest.raises(OutputError, match="is a folder"):
        write(tmp_path, tracks(), "vp3d")
    with pytest.raises(OutputError, match="cannot hold a video without people"):
        write(tmp_path / "a.npz", [], "videopose3d")
    assert list(tmp_path.iterdir()) == []  # nothing partial is left
    write(tmp_path / "a.npz", tracks(), "vp3d")
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "a.npz", tracks(), "vp3d")
    with pytest.raises(OutputError, match="provenance"):
        write(tmp_path / "a.npz", tracks(), "vp3d", provenance={"x": object()}, overwrite=True)
    assert (tmp_path / "a.npz").read_bytes() == before
    write(tmp_path / "a.npz", tracks(), "vp3d", overwrite=True, provenance={"x": 1})
