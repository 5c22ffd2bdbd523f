"""A Human3.6M of a few seconds for the tests of training: walks between the real cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.motions import walk
from vp3d_cli.io.keypoints import write_keypoints
from vp3d_cli.paper.datasets.archives import write_positions_2d, write_positions_3d
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.types import FloatArray, Track2D

SUBJECTS = ("S1", "S5", "S9")
FRAMES = {"Walking": 40, "Walking 1": 31}


def joints_of(subject: str, sequence: str, frames: int) -> FloatArray:
    """(frames, 17, 3) metres, world axes: everyone walks at a pace of their own, on the spot."""
    number = SUBJECTS.index(subject) * len(FRAMES) + list(FRAMES).index(sequence)
    joints = walk(frames, 50.0, 0.8 + 0.25 * number)[:, :17] * (1 + 0.03 * number)
    joints[..., :2] -= joints[:, :1, :2].mean(axis=0)
    angle = 0.9 * number
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray(joints @ turn.T, np.float32)


def write_dataset(folder: Path) -> Path:
    """Archives of exact keypoints; one sequence has two frames of keypoints too many."""
    folder.mkdir(parents=True, exist_ok=True)
    joints = {s: {a: joints_of(s, a, frames) for a, frames in FRAMES.items()} for s in SUBJECTS}
    keypoints: dict[str, dict[str, list[FloatArray]]] = {}
    for subject, sequences in joints.items():
        cameras = cameras_of("human36m", subject)
        keypoints[subject] = {name: [c.project(values) for c in cameras] for name, values in sequences.items()}
    late = keypoints["S5"]["Walking"]
    keypoints["S5"]["Walking"] = [np.concatenate([view, view[-2:] + 300]) for view in late]
    write_positions_3d(folder / "data_3d_h36m.npz", joints)
    write_positions_2d(folder / "data_2d_h36m_gt.npz", keypoints, "h36m17")
    return folder


def values_for(folder: Path, **changes: Any) -> dict[str, Any]:
    """Configuration of a small run in the manner of the paper."""
    values: dict[str, Any] = {
        "model": {"options": {"widths": [3, 3], "channels": 16, "dropout": 0.1}},
        "input": {"normalization": "screen", "confidence": False},
        "dataset": {"folder": str(folder), "train": ["S1", "S5"], "test": ["S9"]},
        "train": {
            "epochs": 2, "batch": 256, "optimizer": "adam-amsgrad", "epoch_decay": 0.95, "warmup_steps": 0,
            "decay_share": 0.0, "ema": 0.0, "validate_every": 0, "validation_windows": 64, "precision": "float32",
        },
    }  # fmt: skip
    for section, names in changes.items():
        values[section] = {**values.get(section, {}), **names}
    return values


def write_people(path: Path, frames: int = 90, **settings: Any) -> Path:
    """A keypoint file with two people at 50 frames per second; the second is in view for half a second."""
    rng = np.random.default_rng(1)
    body = np.stack([rng.uniform(300, 340, 17), np.linspace(100, 400, 17)], axis=-1)
    tracks = []
    for person, there in ((1, slice(0, frames)), (2, slice(10, 35))):
        keypoints = np.full((frames, 17, 2), np.nan, np.float32)
        keypoints[there] = body + np.arange(frames)[there, None, None] + 60 * person
        boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=-1)
        scores = np.where(np.isfinite(keypoints[..., 0]), 0.9, 0.0).astype(np.float32)
        tracks.append(Track2D(person, keypoints, scores, boxes, np.isfinite(keypoints[..., 0])))
    write_keypoints(
        path, tracks, frame_times_s=np.arange(frames) / 50, fps=50.0, size_wh=(640, 480), format="vp3d",
        video_name="v", provenance={"settings": settings},
    )  # fmt: skip
    return path
