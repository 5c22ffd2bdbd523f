"""Keypoint files that cannot be used, or not as they are: each one line that says what, where and what to try."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_samples import (
    FRAMES,
    SIZE_WH,
    alphapose_entries,
    coco_entries,
    dump,
    fails,
    flat,
    keypoint_arrays,
    mmpose_demo,
    video,
    walk,
    walk_coco,
    write_openpose,
)

from vp3d_cli.io.keypoints import LAYOUTS, read_keypoints, write_keypoints
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D, VideoInfo


def track(frames: int = FRAMES) -> Track2D:
    points = walk_coco(frames=frames)
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    return Track2D(1, points, np.ones((frames, 17), np.float32), boxes, np.ones((frames, 17), bool))


def write(path: Path, **options: Any) -> list[str]:
    settings = {"frame_times_s": np.arange(FRAMES) / 25.0, "fps": 25.0, "size_wh": SIZE_WH} | options
    return write_keypoints(path, [track()], **settings)


def own_file(path: Path) -> Path:
    write(path)
    return path


# Files that are not what they should be


def test_nothing_there(tmp_path: Path) -> None:
    fails(tmp_path / "none.json", r"none\.json: no such file or folder")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "is an empty folder; give the folder that has the keypoint files")
    (tmp_path / "empty.json").touch()
    fails(tmp_path / "empty.json", r"empty\.json: is empty")


@pytest.mark.parametrize(
    "content",
    [b"hello", b"a,b,c\n1,2,3\n", b'{"a": 1}', b"[1, 2]", b"[[1, 2]]", b"{}", b"null,x\n", b'[{"image_id": 1}]'],
)
def test_unknown_formats_list_the_known(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    fails(
        tmp_path / "a",
        "unknown keypoint format; known: .*AlphaPose.*OpenPose.*Sports2D",
    )


def test_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    fails(tmp_path, "unknown keypoint format")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    fails(tmp_path / "binary", "cannot be read as text")


@pytest.mark.parametrize("keep", [0.3, 0.9, -1])
def test_truncated_json_is_named(tmp_path: Path, keep: float) -> None:
    path = dump(tmp_path / "results.json", coco_entries())
    text = path.read_text()
    path.write_text(text[: int(len(text) * keep) if keep > 0 else -1])
    fails(path, r"results\.json: not a whole JSON file .* cut short\?")
    folder = write_openpose(tmp_path / "json")
    broken = folder / "clip_000000000007_keypoints.json"
    broken.write_text(broken.read_text()[:50])
    fails(folder, r"clip_000000000007_keypoints\.json: not a whole JSON file")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    fails(tmp_path / "deep.json", r"deep\.json: not a whole JSON file")


def hostile_archive(path: Path, mark: Path) -> Path:
    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.system, (f"touch {mark}",)

    np.savez(path, positions_2d=np.array({"clip": {"custom": [Hostile()]}}, object), metadata=np.array({}, object))
    return path


def test_hostile_archives_are_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = hostile_archive(tmp_path / "data_2d_custom_bad.npz", mark)
    fails(path, r"data_2d_custom_bad\.npz: positions_2d: refused, it asks for \w+\.system")
    with np.load(own_file(tmp_path / "own.npz")) as stored:
        arrays = dict(stored)
    for own in (arrays, keypoint_arrays([track()], np.arange(12) / 25, SIZE_WH)):
        np.savez(tmp_path / "bad.npz", **{**own, "person_ids": np.array([{}], object)})
        fails(tmp_path / "bad.npz", r"bad\.npz: cannot be read .*\(Object arrays cannot be loaded")
    assert not mark.exists()


def test_damaged_own_files(tmp_path: Path) -> None:
    path = own_file(tmp_path / "own.npz")
    arrays = keypoint_arrays([track()], np.arange(12) / 25, SIZE_WH)
    for change, message in [
        ({"schema": np.asarray("vp3d-keypoints/9")}, "schema 'vp3d-keypoints/9', but this vp3d reads vp3d-keypoints/1"),
        ({"scores_2d": arrays["scores_2d"][:, :5]}, r"scores_2d: expected shape \(1, 12, 17\), got \(1, 5, 17\)"),
        ({"fps": np.asarray("fast")}, "fps has type <U4"),
        ({"joint_names_2d": np.arange(17)}, "joint_names_2d has type int64"),
    ]:
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        fails(tmp_path / "bad.npz", message)
    del arrays["boxes_xyxy"]
    np.savez(tmp_path / "bad.npz", **arrays)
    fails(tmp_path / "bad.npz", "cannot be read .*boxes_xyxy")
    path.write_bytes(path.read_bytes()[:-40])
    fails(path, r"own\.npz")


# Files of another video


def test_frame_count_must_match(tmp_path: Path) -> None:
    path = own_file(tmp_path / "own.npz")
    for frames in (FRAMES - 2, FRAMES + 2, 1):
        fails(path, rf"has 12 frames, but clip\.mp4 has {frames}; give the keypoints of this very video", video(frames))
    folder = write_openpose(tmp_path / "json")
    fails(folder, r"has 12 frames, but clip\.mp4 has 20", video(20))
    results = dump(tmp_path / "results.json", coco_entries())
    fails(results, r"has 12 frames, but clip\.mp4 has 10", video(10))
    assert len(read_keypoints(path, video(None))) == FRAMES


@pytest.mark.parametrize(("frames", "note"), [(FRAMES + 1, "one frame less"), (FRAMES - 1, "one frame more")])
def test_one_trailing_frame_is_a_warning(tmp_path: Path, frames: int, note: str) -> None:
    for path in (own_file(tmp_path / "own.npz"), write_openpose(tmp_path / "json")):
        file = read_keypoints(path, video(frames))
        assert len(file) == frames
        assert file.ids is None or len(file.ids) == frames
        assert len(file.warnings) == 1
        assert note in file.warnings[0]


def test_a_list_that_ends_early_is_a_warning_for_people_may_have_left(tmp_path: Path) -> None:
    file = read_keypoints(dump(tmp_path / "results.json", coco_entries()), video(100))
    assert file.warnings == ("nobody is in the file after frame 11 of 100",)
    assert len(file) == 100


def test_image_size_must_match(tmp_path: Path) -> None:
    path = own_file(tmp_path / "own.npz")
    fails(path, r"for images of 640x480 pixels, but clip\.mp4 has 1280x720; detect", video(size_wh=(1280, 720)))
    scaled = read_keypoints(path, video(size_wh=(1280, 960)))
    assert scaled.warnings == ("the file was made for images of 640x480 pixels: positions are scaled to 1280x960",)
    np.testing.assert_allclose(
        scaled.detections[3].keypoints, 2 * read_keypoints(path).detections[3].keypoints, rtol=1e-6
    )
    fails(path, r"480x640 \(turned: .*before the video was rotated", video(size_wh=(480, 640)))


def test_most_keypoints_outside_the_image(tmp_path: Path) -> None:
    path = dump(tmp_path / "results.json", coco_entries())
    fails(
        path, r"100% of the keypoints lie outside the image of 200x100 pixels and reach to", video(size_wh=(200, 100))
    )


def test_boxes_outside_the_image(tmp_path: Path) -> None:
    """Over the edge they are kept as they are; wholly outside the person is left out."""
    entries: list[dict[str, Any]] = coco_entries()
    entries[0]["bbox"] = [-50, 100, 300, 500]
    entries[1]["bbox"] = [700, 100, 50, 200]
    file = read_keypoints(dump(tmp_path / "results.json", entries), video())
    assert file.detections[0].boxes_xyxy.tolist() == [[-50, 100, 250, 600]]
    assert [len(people) for people in file.detections] == [1, *[2] * 11]
    assert file.warnings == ("1 people lie wholly outside the image: left out",)
    for entry in entries:
        entry["bbox"] = [700, 100, 50, 200]
    fails(dump(tmp_path / "all.json", entries), "most people lie outside the image of 640x480 pixels", video())


def test_normalized_positions_where_pixels_belong(tmp_path: Path) -> None:
    folder = tmp_path / "json"
    folder.mkdir()
    for frame in range(FRAMES):
        points = walk(LAYOUTS["body25"])[frame] / np.asarray(SIZE_WH)
        dump(folder / f"a_{frame:012d}_keypoints.json", {"people": [{"pose_keypoints_2d": flat(points)}]})
    fails(folder, r"within -1\.\.1, so they are not pixels; .*--keypoint_scale 0", video())


def test_another_frame_rate_is_a_warning(tmp_path: Path) -> None:
    clip = VideoInfo(Path("clip.mp4"), *SIZE_WH, fps=30.0, frame_count=FRAMES, duration_s=None)
    file = read_keypoints(own_file(tmp_path / "own.npz"), clip)
    assert file.warnings == ("the file says 25 frames per second, the video 30: the video's is used",)


# Layouts


def test_mixed_layouts(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json")
    other = folder / f"clip_{9:012d}_keypoints.json"
    dump(other, {"people": [{"pose_keypoints_2d": flat(walk(LAYOUTS["coco18"])[0])}]})
    fails(
        folder,
        r"_000000000009_keypoints\.json: 18 keypoints, but .*_000000000000_keypoints\.json has 25: mixed",
        video(),
    )
    entries = alphapose_entries("coco17")[:6] + alphapose_entries("halpe26")[6:]
    fails(dump(tmp_path / "a.json", entries), "entry 6: 26 keypoints, but .*entry 0 has 17: mixed layouts")


def test_unknown_layouts_are_listed(tmp_path: Path) -> None:
    folder = write_openpose(tmp_path / "json")
    fails(
        folder, r"unknown layout 'body26'; known: coco17 \(COCO, 17 keypoints\), h36m17 .*mediapipe33", layout="body26"
    )
    fails(folder, "25 keypoints a person, but layout coco17 has 17; known layouts: ", layout="coco17")
    entry = {"image_id": 0, "category_id": 1, "keypoints": [100.0, 100.0, 1.0] * 21}
    fails(dump(tmp_path / "hand.json", [entry]), "no known layout has 21 keypoints; known: coco17")


def test_layout_that_contradicts_the_file(tmp_path: Path) -> None:
    path = dump(tmp_path / "a.json", mmpose_demo("coco17", COCO17.joints, "coco"))
    fails(path, "says itself that its layout is coco17, not h36m17; drop --layout", video(), layout="h36m17")
    metadata = {"layout_name": "humaneva15", "num_joints": 15}
    positions = {"clip": {"custom": [np.ones((FRAMES, 15, 2), np.float32)]}}
    np.savez(tmp_path / "h.npz", positions_2d=np.array(positions, object), metadata=np.array(metadata, object))
    fails(tmp_path / "h.npz", "its layout is 'humaneva15', which is unknown; known: coco17")


def test_layout_that_contradicts_the_body(tmp_path: Path) -> None:
    """OpenPose's experimental BODY_25B has 25 keypoints like BODY_25, and Human3.6M 17 like COCO."""
    folder = write_openpose(tmp_path / "b", "body25b")
    fails(folder, r"not in layout body25: .*; give the right one with --layout \(body25b\?\)", video())
    assert read_keypoints(folder, video(), layout="BODY_25B").layout == "body25b"
    entries = [
        {"image_id": frame, "category_id": 1, "keypoints": flat(walk(LAYOUTS["h36m17"])[frame])}
        for frame in range(FRAMES)
    ]
    path = dump(tmp_path / "a.json", entries)
    fails(path, r"not in layout coco17: .* \(h36m17\?\)", video())
    assert read_keypoints(path, video(), layout="h36m17").layout == "h36m17"


# Values


def test_nan_scores_are_missing_keypoints(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = coco_entries()
    entries[0]["keypoints"][2] = float("nan")
    entries[0]["keypoints"][5] = None
    entries[0]["keypoints"][7] = float("inf")  # a position
    file = read_keypoints(dump(tmp_path / "results.json", entries), video())
    assert file.warnings == (
        "2 keypoints have no valid confidence (NaN): taken as missing",
        "1 keypoints lie far beyond any image: taken as missing",
    )
    assert np.isnan(file.detections[0].keypoints[0, :3]).all()
    assert file.detections[0].scores[0, :3].tolist() == [0, 0, 0]
    assert np.isfinite(file.detections[0].keypoints[0, 3:]).all()


def test_negative_scores_and_people_without_keypoints(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = coco_entries()
    entries[0]["keypoints"][2] = -0.2
    entries[1]["keypoints"] = [0.0] * 51
    file = read_keypoints(dump(tmp_path / "results.json", entries), video())
    assert file.warnings == ("1 confidences are below 0: taken as 0",)
    assert [len(people) for people in file.detections] == [1, *[2] * 11]
    assert file.detections[0].scores[0, 0] == 0


def test_ids_that_are_no_identities_are_dropped(tmp_path: Path) -> None:
    entries = [{**entry, "track_id": 1} for entry in coco_entries()]
    file = read_keypoints(dump(tmp_path / "results.json", entries), video())
    assert file.ids is None
    assert file.tracks() is None
    assert file.warnings == ("two people of one frame have the same identity in the file: its identities are not used",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1.0] * 50}, r"results\.json: entry 3: expected 3 numbers for each keypoint"),
        ({"keypoints": ["a"] * 51}, "entry 3: keypoints are not numbers"),
        ({"keypoints": [[1.0], [2.0, 3.0]]}, "entry 3: keypoints are not numbers"),
        ({"keypoints": []}, "entry 3: expected 3 numbers"),
        ({"bbox": [1, 2]}, "entry 3: a box has four numbers, got 2"),
        ({"bbox": "x"}, "entry 3: the box is not numbers"),
        ({"score": "high"}, "entry 3: score is not a number but 'high'"),
        ({"image_id": -4}, "entry 3: -4 is no frame number"),
        ({"image_id": 10**30}, "entry 3: 1000.* is no frame number"),
        ({"image_id": 10**12}, "frames are numbered up to 1000000000000; are these times"),
        ({"image_id": "first.jpg"}, "entry 3: no frame number in image_id 'first.jpg'"),
    ],
)
def test_broken_entries(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    entries: list[dict[str, Any]] = coco_entries()
    entries[3] |= change
    fails(dump(tmp_path / "results.json", entries), message)
    entries[3] = {}
    fails(dump(tmp_path / "results.json", entries), "entry 3: has no image_id or no keypoints")
