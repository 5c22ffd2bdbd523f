"""Data sets of a second or less of each sequence, with all their subjects, for the tests of evaluation and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tests.motions import walk
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.checkpoint import LifterInfo, Task, save_lifter
from vp3d_cli.lift.input_rule import InputRule, Normalization
from vp3d_cli.paper.datasets.archives import write_positions_2d, write_positions_3d
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.datasets.specs import DATASETS
from vp3d_cli.types import FloatArray

SPEC = DATASETS["human36m"]
FRAMES = {"Walking": 40, "Walking 1": 25, "Eating": 31}


def joints_of(subject: str, sequence: str) -> FloatArray:
    """(T, 17, 3) metres, world axes."""
    number = SPEC.subjects.index(subject) * len(FRAMES) + list(FRAMES).index(sequence)
    frames = FRAMES[sequence] + number % 3
    joints = walk(frames, 50.0, 0.7 + 0.1 * number)[:, :17] * (1 + 0.01 * (number % 7))
    joints[..., :2] -= joints[:, :1, :2].mean(axis=0)
    angle = 0.9 * number
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return np.asarray(joints @ turn.T, np.float32)


def write_dataset(folder: Path, subjects: tuple[str, ...] = SPEC.subjects) -> Path:
    """Archives of joints, of exact keypoints, and of keypoints a few pixels off that go on after the joints end."""
    folder.mkdir(parents=True, exist_ok=True)
    joints = {subject: {sequence: joints_of(subject, sequence) for sequence in FRAMES} for subject in subjects}
    exact = {
        subject: {
            name: [camera.project(values) for camera in cameras_of("human36m", subject)]
            for name, values in sequences.items()
        }
        for subject, sequences in joints.items()
    }
    rng = np.random.default_rng(0)

    def detected(view: FloatArray) -> FloatArray:
        longer = np.concatenate([view, view[-2:] + 500])
        return np.asarray(longer + rng.normal(size=longer.shape) * 3, np.float32)

    seen = {s: {name: [detected(v) for v in views] for name, views in actions.items()} for s, actions in exact.items()}
    write_positions_3d(folder / SPEC.file_3d, joints)
    write_positions_2d(folder / SPEC.file_2d("gt"), exact, "h36m17")
    write_positions_2d(folder / SPEC.file_2d("cpn_ft_h36m_dbb"), seen, "h36m17")
    return folder


def write_humaneva(folder: Path) -> Path:
    """Archives of HumanEva-I with poses that mean nothing: everybody in both parts, two actions of the usual three."""
    rng = np.random.default_rng(0)
    takes = {"Walking 1 chunk0": 20, "Walking 1 chunk2": 9, "Box 1 chunk0": 12, "Gestures 1 chunk0": 7}
    subjects = DATASETS["humaneva"].subjects
    joints = {s: {a: rng.normal(size=(n, 15, 3)).astype(np.float32) for a, n in takes.items()} for s in subjects}
    seen = {
        s: {a: [rng.uniform(0, 400, (n, 17, 2)).astype(np.float32)] * 3 for a, n in takes.items()} for s in subjects
    }
    write_positions_3d(folder / "data_3d_humaneva15.npz", joints)
    write_positions_2d(folder / "data_2d_humaneva15_detectron_pt_coco.npz", seen, "coco17")
    return folder


def write_lifter(
    path: Path,
    *,
    task: Task = "pose",
    normalization: Normalization = "screen",
    skeletons: tuple[str, str, int, int] = ("h36m17", "h36m17", 17, 17),
    rate_hz: float = 50.0,
    root: str = "metres",
    training: dict[str, object] | None = None,
    **options: object,
) -> Path:
    """A lifter file with random weights, small answers of the size of a body."""
    torch.manual_seed(3)
    skeleton_2d, skeleton_3d, keypoints, joints = skeletons
    config = {
        "widths": [3, 3], "channels": 8, "in_joints": keypoints, "out_joints": 1 if task == "trajectory" else joints,
        **options,
    }  # fmt: skip
    model = build_model("temporal", config).eval()
    rule = InputRule(normalization, False, rate_hz, skeleton_2d, skeleton_3d, "repeat")
    kind = "scaled" if root == "scaled" else "metres"
    save_lifter(path, model, LifterInfo(task, "temporal", config, rule, "", training or {}, kind))
    return path
