"""Made-up motion for the tests of training: a few walks, good enough to learn something from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vp3d_cli.types import FloatArray

# Names as motion archives have them, and a standing body: x right, y forward, z up, metres.
_STANDING = {
    "hip": (0, 0, 0.92), "rhip": (0.12, 0, 0.92), "rknee": (0.12, 0.02, 0.5), "rankle": (0.12, 0, 0.08),
    "lhip": (-0.12, 0, 0.92), "lknee": (-0.12, 0.02, 0.5), "lankle": (-0.12, 0, 0.08),
    "spine": (0, 0, 1.15), "thorax": (0, 0, 1.4), "neck": (0, 0.02, 1.52), "head": (0, 0.02, 1.68),
    "lshoulder": (-0.18, 0, 1.38), "lelbow": (-0.22, -0.02, 1.1), "lwrist": (-0.22, 0.06, 0.86),
    "rshoulder": (0.18, 0, 1.38), "relbow": (0.22, -0.02, 1.1), "rwrist": (0.22, 0.06, 0.86),
    "nose": (0, 0.12, 1.55), "leye": (-0.03, 0.1, 1.59), "reye": (0.03, 0.1, 1.59),
    "lear": (-0.07, 0.03, 1.57), "rear": (0.07, 0.03, 1.57),
}  # fmt: skip
ARCHIVE_JOINTS = tuple(_STANDING)


def walk(frames: int, fps: float, pace: float) -> FloatArray:
    """(frames, 22, 3) metres, z up: arms and legs swing about hips and shoulders, the body moves forward."""
    joints = np.array([_STANDING[name] for name in ARCHIVE_JOINTS])[None].repeat(frames, axis=0)
    phase = np.arange(frames) / fps * 2 * np.pi * pace
    for side, sign in (("l", 1.0), ("r", -1.0)):
        for root, limb, amount in (("hip", ("knee", "ankle"), 0.5), ("shoulder", ("elbow", "wrist"), -0.4)):
            angle = sign * amount * np.sin(phase)
            pivot = joints[:, ARCHIVE_JOINTS.index(side + root)].copy()
            for joint in limb:
                i = ARCHIVE_JOINTS.index(side + joint)
                y, z = (joints[:, i] - pivot)[:, 1:].T
                joints[:, i, 1] = pivot[:, 1] + y * np.cos(angle) - z * np.sin(angle)
                joints[:, i, 2] = pivot[:, 2] + y * np.sin(angle) + z * np.cos(angle)
    joints[:, :, 1] += 1.2 * pace * np.arange(frames)[:, None] / fps
    return joints.astype(np.float32)


def write_archive(path: Path, clips: int = 4) -> Path:
    """A motion archive of a few walks called walk_0, walk_1, ..."""
    unit = 0.00025
    arrays = {f"walk_{i}": np.round(walk(60, 30.0, 0.6 + 0.2 * i) / unit).astype(np.int16) for i in range(clips)}
    records = [
        {"name": name, "source": "made-up", "fps": 30.0, "frames": len(values), "licence": "made up for tests"}
        for name, values in arrays.items()
    ]
    meta = {"joints": list(ARCHIVE_JOINTS), "unit_m": unit, "up": "z", "clips": records}
    np.savez(path, meta=json.dumps(meta), **arrays)
    return path
