"""Formats of AlphaPose's PoseFlow, COCO data sets, easy_ViTPose, YOLO, Detectron, and plain arrays."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from keypoint_samples import (
    FRAMES,
    SCORE,
    alphapose_entries,
    check_walk,
    coco_dataset,
    coco_entries,
    dump,
    easy_vitpose,
    fails,
    poseflow_images,
    video,
    walk,
    walk_coco,
    write_array,
    write_detectron,
    write_openpose,
    write_yolo,
)

from vp3d_cli.io.keypoints import LAYOUTS, KeypointFile, read_keypoints


def check_all_but_first(file: KeypointFile, ids: tuple[int, ...] | None = None) -> None:
    """Nobody is in the first frame, and the two people of the samples are in the others."""
    assert len(file) == FRAMES
    assert [len(people) for people in file.detections] == [0, *[2] * (FRAMES - 1)]
    for frame, people in enumerate(file.detections[1:], start=1):
        for person in range(2):
            np.testing.assert_allclose(people.keypoints[person], walk_coco(person)[frame], atol=2e-3)
    assert file.ids == (None if ids is None else [(), *[ids] * (FRAMES - 1)])


def test_files_are_recognised_by_any_entry(tmp_path: Path) -> None:
    """A first entry that is unlike the others is a fault of that entry, not another format."""
    fails(dump(tmp_path / "coco.json", [{"image_id": 0}, *coco_entries()]), "entry 0: has no image_id or no keypoints")
    entries = alphapose_entries()
    fails(dump(tmp_path / "alpha.json", [None, *entries]), "entry 0: has no image_id or no keypoints")
    folder = write_openpose(tmp_path / "json")
    dump(folder / "a_summary.json", {"frames": 12})
    assert read_keypoints(folder, video()).format == "openpose"


def test_poseflow_keeps_identities(tmp_path: Path) -> None:
    file = read_keypoints(dump(tmp_path / "a.json", poseflow_images()), video())
    assert (file.format, file.layout, file.warnings) == ("alphapose", "coco17", ())
    check_all_but_first(file, (1, 2))
    np.testing.assert_allclose(file.detections[1].person_scores, 0.9, atol=1e-5)
    broken = poseflow_images()
    broken["3.jpg"][0].pop("keypoints")
    fails(dump(tmp_path / "b.json", broken), "3.jpg: a person has no keypoints")


@pytest.mark.parametrize("first", [0, 100])
def test_coco_data_set(tmp_path: Path, first: int) -> None:
    file = read_keypoints(dump(tmp_path / "a.json", coco_dataset(first)), video())
    assert (file.format, file.layout, file.size_wh, file.warnings) == ("coco-dataset", "coco17", (640, 480), ())
    check_walk(file)


def test_coco_data_set_with_visibility(tmp_path: Path) -> None:
    document = coco_dataset(visibility=True)
    document["annotations"][0]["keypoints"][2] = 1
    document["annotations"][0]["keypoints"][3:6] = [0, 0, 0]
    file = read_keypoints(dump(tmp_path / "a.json", document), video())
    assert file.detections[0].scores[0, :3].tolist() == [0.5, 0.0, 1.0]
    assert file.warnings == ("the file has visibility, not confidence: visible is taken as 1, occluded as 0.5",)


def test_coco_data_set_frames_and_faults(tmp_path: Path) -> None:
    unnumbered = coco_dataset()
    for image in unnumbered["images"]:
        image["file_name"] = "x.jpg"
    check_walk(read_keypoints(dump(tmp_path / "a.json", unnumbered), video()))
    ours = coco_dataset()
    ours["annotations"].append({"image_id": 100, "category_id": 2, "keypoints": [1, 2, 1] * 4})
    check_walk(read_keypoints(dump(tmp_path / "b.json", ours), video()))
    for change, message in (
        (lambda d: d["images"][0].update(width=320), "different sizes"),
        (lambda d: d["images"][0].update(video_id=2), "several videos"),
        (lambda d: d["images"].pop(0), "annotation 0: belongs to no image"),
        (lambda d: d["images"][0].pop("id"), "image 0 has no id"),
    ):
        document = copy.deepcopy(coco_dataset())
        change(document)
        fails(dump(tmp_path / "c.json", document), message, video())


def test_easy_vitpose(tmp_path: Path) -> None:
    file = read_keypoints(dump(tmp_path / "a.json", easy_vitpose()), video())
    assert (file.format, file.layout, file.warnings) == ("easy-vitpose", "coco17", ())
    check_all_but_first(file, (0, 1))
    np.testing.assert_allclose(file.detections[1].scores, SCORE, atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "further", "ids"),
    [
        (True, "", None),
        (True, " 0.9", None),
        (True, " {0}", (1, 2)),
        (True, " 0.9 {0}", (1, 2)),
        (False, "", None),
        (False, " 0.9 {0}", (1, 2)),
    ],
)
def test_yolo_labels(tmp_path: Path, scores: bool, further: str, ids: tuple[int, ...] | None) -> None:
    folder = write_yolo(tmp_path / "run" / "labels", scores=scores, further=further)
    (folder / "classes.txt").write_text("person\n")
    for given in (folder, folder.parent):
        file = read_keypoints(given, video())
        assert (file.format, file.layout) == ("yolo", "coco17")
        check_all_but_first(file, ids)
        np.testing.assert_allclose(file.detections[1].scores, SCORE if scores else 1.0, atol=1e-6)
        if "0.9" in further:
            np.testing.assert_allclose(file.detections[1].person_scores, 0.9, atol=1e-6)


def test_yolo_frames_and_faults(tmp_path: Path) -> None:
    from_zero = read_keypoints(write_yolo(tmp_path / "zero", first=0), video(FRAMES - 1))
    assert [len(people) for people in from_zero.detections] == [2] * (FRAMES - 1)
    folder = write_yolo(tmp_path / "labels")
    fails(folder, "fractions of the image size; give the video as well")
    fails(folder, "56 numbers in a line are not a box and the 26 keypoints of halpe26", video(), layout="halpe26")
    (folder / "clip_5.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    fails(folder, r"clip_5\.txt: line 1: 5 numbers, but the first line has 56", video())
    (folder / "clip_5.txt").write_text("0 0.5 half 0.1 0.1\n")
    fails(folder, r"clip_5\.txt: line 1: not numbers", video())
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "clip_1.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    fails(boxes, "boxes without keypoints; use a pose model", video())


def test_detectron_archive(tmp_path: Path) -> None:
    file = read_keypoints(write_detectron(tmp_path / "a.npz"), video())
    assert (file.format, file.layout, file.size_wh, file.warnings) == ("detectron", "coco17", (640, 480), ())
    check_all_but_first(file)
    np.testing.assert_allclose(file.detections[1].scores, SCORE, atol=1e-6)
    np.testing.assert_allclose(file.detections[1].person_scores, 0.9, atol=1e-6)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pkl"])
def test_plain_arrays(tmp_path: Path, suffix: str) -> None:
    file = read_keypoints(write_array(tmp_path / f"a{suffix}"), video())
    assert (file.format, file.layout, file.ids, file.warnings) == ("array", "coco17", [(1,)] * FRAMES, ())
    check_walk(file, people=1)
    several = read_keypoints(write_array(tmp_path / f"b{suffix}", people=2), video())
    assert several.ids is None
    check_walk(several)


def test_arrays_of_frames_first_and_without_confidence(tmp_path: Path) -> None:
    points = np.stack([walk_coco(person) for person in range(2)])
    np.save(tmp_path / "a.npy", points.swapaxes(0, 1))
    file = read_keypoints(tmp_path / "a.npy", video())
    check_walk(file, score=1.0)
    assert "the file has no confidence: 1 is taken for every keypoint in it" in file.warnings
    (tmp_path / "mmaction.pkl").write_bytes(
        pickle.dumps({"keypoint": points, "keypoint_score": np.full(points.shape[:3], SCORE), "total_frames": FRAMES})
    )
    check_walk(read_keypoints(tmp_path / "mmaction.pkl", video()))


def test_arrays_that_are_no_keypoints(tmp_path: Path) -> None:
    halpe = walk(LAYOUTS["halpe26"])
    np.save(tmp_path / "halpe.npy", halpe)
    fails(tmp_path / "halpe.npy", "26 keypoints a person, but the file does not say in which layout; give --layout")
    assert read_keypoints(tmp_path / "halpe.npy", video(), layout="halpe26").layout == "halpe26"
    np.save(tmp_path / "human.npy", walk(LAYOUTS["h36m17"]))
    fails(tmp_path / "human.npy", r"not in layout coco17: .*\(h36m17\?\)", video())
    for name, value, message in (
        ("flat", np.zeros((5, 34)), r"expected an array \(frames, keypoints, 2 or 3\) or .*got \(5, 34\)"),
        ("text", np.array(["a"]), "not numbers"),
        ("object", np.array({"a": 1}, object), "has no keypoints or .* but a; save"),
    ):
        np.save(tmp_path / f"{name}.npy", value)
        fails(tmp_path / f"{name}.npy", message, video())
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([{"a": 1}]))
    fails(tmp_path / "list.pkl", "not an array of numbers|expected an array", video())
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps(halpe)[:200])
    fails(tmp_path / "cut.pkl", "not a whole pickle of plain data")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "halpe.npy").read_bytes()[:200])
    fails(tmp_path / "cut.npy", "not a whole numpy array")


def test_a_hostile_pickle_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02cposix\nsystem\nX" + len(f"touch {mark}").to_bytes(4, "little")
                                     + f"touch {mark}".encode() + b"\x85R.")  # fmt: skip
    fails(tmp_path / "a.pkl", r"a\.pkl: refused, it asks for posix\.system")
    assert not mark.exists()
