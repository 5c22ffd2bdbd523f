"""Files such as other tools write them, made from two people who walk: what the readers' tests read."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints import KeypointFile, read_keypoints
from vp3d_cli.io.keypoints.layouts import LAYOUTS, Layout
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D, VideoInfo

SIZE_WH = (640, 480)
FRAMES = 12
SCORE = 0.75

# Where joints are on a standing person of height 1, x right and y down, seen from the front: the left side of the
# body is on the right of the image.
_FRONT: dict[str, tuple[float, float]] = {
    "nose": (0.0, 0.08), "eye": (0.02, 0.065), "ear": (0.04, 0.075), "shoulder": (0.1, 0.18), "elbow": (0.13, 0.36),
    "wrist": (0.15, 0.52), "hip": (0.06, 0.52), "knee": (0.065, 0.75), "ankle": (0.07, 0.96),
    "neck": (0.0, 0.18), "thorax": (0.0, 0.18), "upper_neck": (0.0, 0.14), "head": (0.0, 0.0), "head_top": (0.0, 0.0),
    "mid_hip": (0.0, 0.52), "pelvis": (0.0, 0.52), "middle": (0.0, 0.52), "spine": (0.0, 0.35),
    "big_toe": (0.08, 0.99), "small_toe": (0.1, 0.99), "heel": (0.07, 0.98), "foot_index": (0.08, 0.99),
    "eye_inner": (0.01, 0.065), "eye_outer": (0.03, 0.065), "mouth": (0.015, 0.1), "pinky": (0.16, 0.56),
    "index": (0.15, 0.57), "thumb": (0.14, 0.55),
}  # fmt: skip


def _place(joint: str) -> tuple[float, float]:
    if joint == "hip":
        return _FRONT["middle"]
    if joint.startswith("face_or_hand"):
        return 0.01, 0.08
    if joint.startswith("mouth_"):
        joint = joint.removeprefix("mouth_") + "_mouth"
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return _FRONT[joint]
    x, y = _FRONT[part]
    return (x, y) if side == "left" else (-x, y)


def walk(layout: Layout, person: int = 0, frames: int = FRAMES) -> NDArray[np.float32]:
    """(T, J, 2) pixels of a person who crosses the image; 200 pixels tall; people are 200 pixels apart."""
    body = np.array([_place(joint) for joint in layout.joints]) * 200.0
    time = np.arange(frames)[:, None]
    start = np.stack([150.0 + 200.0 * person + 5.0 * time, 120.0 + 3.0 * np.sin(time)], axis=-1)
    return (body[None] + start).astype(np.float32)


def walk_coco(person: int = 0, frames: int = FRAMES) -> NDArray[np.float32]:
    """(T, 17, 2) the same person's COCO keypoints: what readers must return."""
    return walk(LAYOUTS["coco17"], person, frames)


def video(frames: int | None = FRAMES, size_wh: tuple[int, int] = SIZE_WH, name: str = "clip.mp4") -> VideoInfo:
    """A video that the samples belong to."""
    return VideoInfo(Path(name), *size_wh, fps=25.0, frame_count=frames, duration_s=None)


def flat(points: NDArray[Any], score: float = SCORE) -> list[float]:
    """x, y, confidence of one person, as most tools write them."""
    column = np.full((len(points), 1), score)
    values: list[float] = np.concatenate([points, column], axis=1).ravel().tolist()
    return values


def write_openpose(
    folder: Path, layout: str = "body25", people: int = 2, name: str = "clip_{:012d}_keypoints.json"
) -> Path:
    """OpenPose 1.7 with --write_json."""
    folder.mkdir(parents=True, exist_ok=True)
    tracks = [walk(LAYOUTS[layout], person) for person in range(people)]
    for frame in range(FRAMES):
        others = ("face", "hand_left", "hand_right")
        empty: dict[str, list[float]] = {f"{part}_keypoints_{d}d": [] for part in others for d in (2, 3)}
        listed = [{"person_id": [-1], "pose_keypoints_2d": flat(track[frame]), **empty} for track in tracks]
        (folder / name.format(frame)).write_text(json.dumps({"version": 1.3, "people": listed}))
    return folder


def alphapose_entries(layout: str = "coco17", *, tracked: bool = True, detector: float = 0.9) -> list[dict[str, Any]]:
    """AlphaPose's alphapose-results.json."""
    entries = []
    for frame in range(FRAMES):
        for person in range(2):
            points = walk(LAYOUTS[layout], person)[frame]
            low, high = points.min(axis=0), points.max(axis=0)
            entry = {
                "image_id": f"{frame}.jpg",
                "category_id": 1,
                "keypoints": flat(points),
                "score": SCORE + detector + 1.25 * SCORE,
                "box": [*low.tolist(), *(high - low).tolist()],
            }
            entries.append({**entry, "idx": [[float(person + 1)]]} if tracked else entry)
    return entries


def coco_entries() -> list[dict[str, Any]]:
    """COCO results, with frames as image ids."""
    return [
        {"image_id": frame, "category_id": 1, "keypoints": flat(walk_coco(person)[frame]), "score": 0.6}
        for frame in range(FRAMES)
        for person in range(2)
    ]


def coco_dataset(first: int = 100, *, visibility: bool = False) -> dict[str, Any]:
    """A COCO data set of the frames, with image ids from ``first``; confidence or COCO's visibility."""
    images = [
        {"id": first + i, "file_name": f"frame_{i:04d}.jpg", "width": SIZE_WH[0], "height": SIZE_WH[1]}
        for i in range(FRAMES)
    ]
    annotations = [
        {"id": 2 * i + person, "image_id": first + i, "category_id": 1, "num_keypoints": 17,
         "keypoints": flat(walk_coco(person)[i], 2 if visibility else SCORE), "iscrowd": 0}
        for i in range(FRAMES) for person in range(2)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}]
    return {"images": images, "annotations": annotations, "categories": categories}


def poseflow_images() -> dict[str, Any]:
    """AlphaPose's results after PoseFlow tracked them; nobody is in the first image."""
    images: dict[str, Any] = {f"{frame}.jpg": [] for frame in range(FRAMES)}
    for entry in alphapose_entries()[2:]:
        person = {"keypoints": entry["keypoints"], "scores": entry["score"], "idx": int(entry["idx"][0][0])}
        images[entry["image_id"]].append(person)
    return images


def easy_vitpose() -> dict[str, Any]:
    """easy_ViTPose's --save-json: y first; nobody is in the first frame."""
    frames: list[dict[str, Any]] = [
        {str(person): np.reshape(flat(walk_coco(person)[i]), (17, 3))[:, [1, 0, 2]].tolist() for person in range(2)}
        for i in range(FRAMES)
    ]
    return {"keypoints": [{}, *frames[1:]], "skeleton": {str(i): name for i, name in enumerate(COCO17.joints)}}


def write_yolo(folder: Path, *, first: int = 1, scores: bool = True, further: str = "") -> Path:
    """Ultralytics' labels of a pose model: fractions of the image, frames from 1; nobody is in the first frame."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in range(1, FRAMES):
        lines = []
        for person in range(2):
            points = walk_coco(person)[frame] / np.asarray(SIZE_WH)
            low, high = points.min(axis=0), points.max(axis=0)
            values = [*((low + high) / 2), *(high - low)]
            values += flat(points) if scores else points.ravel().tolist()
            lines.append("0 " + " ".join(f"{value:.6f}" for value in values) + further.format(person + 1))
        (folder / f"clip_{frame + first}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_detectron(path: Path) -> Path:
    """What VideoPose3D's infer_video_d2.py writes; nobody is in the first frame."""
    boxes, keypoints = np.empty((FRAMES, 2), object), np.empty((FRAMES, 2), object)
    for frame in range(FRAMES):
        points = np.stack([walk_coco(person)[frame] for person in range(2)])  # (2, 17, 2)
        scores = np.full((2, 17, 1), SCORE, np.float32)
        around = np.concatenate([points.min(axis=1), points.max(axis=1), np.full((2, 1), 0.9)], axis=1)
        stacked = np.concatenate([points, 0 * scores, scores], axis=2).transpose(0, 2, 1)
        keypoints[frame, 0], keypoints[frame, 1] = [], stacked if frame else []
        boxes[frame, 0], boxes[frame, 1] = [], around if frame else []
    size = {"w": SIZE_WH[0], "h": SIZE_WH[1]}
    np.savez_compressed(path, boxes=boxes, segments=boxes[:, 0], keypoints=keypoints, metadata=np.array(size, object))
    return path


def write_array(path: Path, *, people: int = 1) -> Path:
    """A plain array (T, 17, 3), or (P, T, 17, 3), as numpy or pickle saves it."""
    points = np.stack([walk_coco(person) for person in range(people)])
    whole = np.concatenate([points, np.full((*points.shape[:3], 1), SCORE, np.float32)], axis=3)
    array = whole[0] if people == 1 else whole
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(array))
    elif path.suffix == ".npz":
        np.savez(path, keypoints=array[..., :2], scores=array[..., 2])
    else:
        np.save(path, array)
    return path


def mmpose_instances(layout: str, frame: int) -> list[dict[str, Any]]:
    """What MMPose's split_instances makes of a frame."""
    instances = []
    for person in range(2):
        points = walk(LAYOUTS[layout], person)[frame]
        box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
        scores = [SCORE] * len(points)
        instances.append({"keypoints": points.tolist(), "keypoint_scores": scores, "bbox": [box], "bbox_score": 0.9})
    return instances


# Human3.6M as MMPose's meta data names it.
MMPOSE_H36M = (
    "root", "right_hip", "right_knee", "right_foot", "left_hip", "left_knee", "left_foot", "spine", "thorax",
    "neck_base", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip


def mmpose_demo(layout: str, names: tuple[str, ...], dataset: str) -> dict[str, Any]:
    """MMPose's demo/topdown_demo_with_mmdet.py --save-predictions: frames from 1, arrays as json_tricks has them."""
    meta = {
        "dataset_name": dataset,
        "num_keypoints": len(names),
        "keypoint_id2name": {str(i): name for i, name in enumerate(names)},
        "sigmas": {"__ndarray__": [0.026] * len(names), "dtype": "float32", "shape": [len(names)]},
    }
    frames = [{"frame_id": i + 1, "instances": mmpose_instances(layout, i)} for i in range(FRAMES)]
    return {"meta_info": meta, "instance_info": frames}


def mediapipe_landmarks(frame: int, person: int = 0) -> list[dict[str, float]]:
    """One person's landmarks as MediaPipe gives them."""
    points = walk(LAYOUTS["mediapipe33"], person)[frame] / np.asarray(SIZE_WH)
    return [{"x": float(x), "y": float(y), "z": -0.1, "visibility": SCORE} for x, y in points]


def write_csv(path: Path, rows: list[list[Any]]) -> Path:
    """A table."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def deeplabcut_rows(parts: tuple[str, ...] = COCO17.joints, individuals: int = 0) -> list[list[Any]]:
    """DeepLabCut's CSV as pandas writes it; body parts are COCO's joints in order, whatever their names."""
    names = [f"individual{i + 1}" for i in range(individuals)] or [""]
    columns = [(name, part, axis) for name in names for part in parts for axis in ("x", "y", "likelihood")]
    rows: list[list[Any]] = [["scorer", *["DLC_resnet50_walkOct30shuffle1_500000"] * len(columns)]]
    if individuals:
        rows.append(["individuals", *(name for name, _, _ in columns)])
    rows.append(["bodyparts", *(part for _, part, _ in columns)])
    rows.append(["coords", *(axis for _, _, axis in columns)])
    people = [walk_coco(i)[:, : len(parts)] for i in range(len(names))]
    rows += [[frame, *(value for track in people for value in flat(track[frame]))] for frame in range(FRAMES)]
    return rows


# What Sports2D writes with HALPE_26: no eyes, no ears, in the order of its skeleton's tree.
SPORTS2D_MARKERS = {
    "Hip": "hip", "RHip": "right_hip", "RKnee": "right_knee", "RAnkle": "right_ankle", "RBigToe": "right_big_toe",
    "RSmallToe": "right_small_toe", "RHeel": "right_heel", "LHip": "left_hip", "LKnee": "left_knee",
    "LAnkle": "left_ankle", "LBigToe": "left_big_toe", "LSmallToe": "left_small_toe", "LHeel": "left_heel",
    "Neck": "neck", "Head": "head", "Nose": "nose", "RShoulder": "right_shoulder", "RElbow": "right_elbow",
    "RWrist": "right_wrist", "LShoulder": "left_shoulder", "LElbow": "left_elbow", "LWrist": "left_wrist",
}  # fmt: skip


def write_trc(path: Path, person: int = 0, *, scale: float = 1.0, first: int = 0, frames: int = FRAMES) -> Path:
    """Sports2D's *_px_personNN.trc; the unit says m in those of pixels too."""
    names = list(SPORTS2D_MARKERS)
    points = walk(Layout("sports2d", "", tuple(SPORTS2D_MARKERS.values())), person, frames) * scale
    head = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"25\t25\t{frames}\t{len(names)}\tm\t25\t0\t{frames}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t\t",
        "\t\t" + "\t".join(f"X{i + 1}\tY{i + 1}\tZ{i + 1}" for i in range(len(names))),
    ]
    for i, frame in enumerate(points):
        cells = [cell for x, y in frame for cell in (f"{x}", f"{y}", "0.0")]
        head.append("\t".join([str(i), f"{(first + i) / 25}", *cells]))
    path.write_text("\n".join(head) + "\n")
    return path


LIMBS = [
    i for i, joint in enumerate(COCO17.joints) if joint.split("_")[-1] in ("shoulder", "elbow", "wrist", "hip")
] + [i for i, joint in enumerate(COCO17.joints) if joint.split("_")[-1] in ("knee", "ankle")]


def check_walk(file: KeypointFile, *, people: int = 2, joints: list[int] | None = None, score: float = SCORE) -> None:
    """Whether a file holds the people of the samples, in their joints and no others."""
    wanted = list(range(17)) if joints is None else joints
    absent = [i for i in range(17) if i not in wanted]
    assert len(file) == FRAMES
    for frame, own in enumerate(file.detections):
        assert len(own) == people
        found = own.in_skeleton(COCO17)
        for person in range(people):
            expected = walk_coco(person)[frame]
            np.testing.assert_allclose(found.keypoints[person, wanted], expected[wanted], atol=2e-3)
            assert np.isnan(found.keypoints[person, absent]).all()
            np.testing.assert_allclose(found.scores[person, wanted], score, atol=1e-6)
            assert (found.scores[person, absent] == 0).all()
            x0, y0, x1, y1 = found.boxes_xyxy[person]
            assert x0 <= expected[wanted, 0].min() + 1e-3
            assert x1 >= expected[wanted, 0].max() - 1e-3
            assert y0 <= expected[wanted, 1].min() + 1e-3
            assert y1 >= expected[wanted, 1].max() - 1e-3


def dump(path: Path, document: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(document))
    return path


def fails(path: Path, message: str, clip: VideoInfo | None = None, **options: Any) -> None:
    """Check that reading fails with one line that matches."""
    with pytest.raises(InputError, match=message) as caught:
        read_keypoints(path, clip, **options)
    assert "\n" not in str(caught.value)


def keypoint_arrays(tracks: list[Track2D], times_s: NDArray[np.float64], size_wh: tuple[int, int]) -> dict[str, Any]:
    """The arrays of ``vp3d-keypoints/1``, which earlier versions wrote: the 2D part of a pose file."""
    whole = [track.over(len(times_s)) for track in tracks]
    return {
        "schema": np.asarray("vp3d-keypoints/1"),
        "keypoints_2d": np.stack([track.keypoints for track in whole]),
        "scores_2d": np.stack([track.scores for track in whole]),
        "boxes_xyxy": np.stack([track.boxes_xyxy for track in whole]),
        "observed": np.stack([track.observed for track in whole]),
        "frame_times_s": times_s,
        "fps": np.asarray(25.0),
        "video_size_wh": np.asarray(size_wh, np.int32),
        "person_ids": np.asarray([track.person_id for track in whole], np.int32),
        "joint_names_2d": np.asarray(COCO17.joints),
        "provenance": np.asarray("{}"),
    }
