"""Motion capture seen by a simulated camera with detector noise: ground truth for other benchmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from scipy.interpolate import CubicSpline

from vp3d_cli.camera import project
from vp3d_cli.skeletons import COCO17

Array = NDArray[np.float64]
# COCO-17 from the archive's 22 joints (17 of Human3.6M, then nose, eyes, ears).
COCO_FROM_22 = [17, 18, 19, 20, 21, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]
CLIPS_PER_SOURCE = 12
LONGEST_S = 20.0


@dataclass(frozen=True)
class Truth:
    """A clip: times (T,) and places (T, 17, 2) in body sizes."""

    name: str
    times_s: Array
    places: Array


def load_truth(archive: Path, fps: float, seed: int = 0) -> list[Truth]:
    """Clips of all sources that were captured at ``fps`` or more, each before its own camera."""
    rng = np.random.default_rng(seed)
    clips = []
    with np.load(archive, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        sources: dict[str, list[dict[str, Any]]] = {}
        for clip in meta["clips"]:
            sources.setdefault(clip["source"], []).append(clip)
        for source in sources.values():
            for index in rng.permutation(len(source))[:CLIPS_PER_SOURCE]:
                clip = source[index]
                camera = rng.uniform((0, -0.1, 3.5), (2 * np.pi, 0.4, 6.0))
                if clip["fps"] < 0.9 * fps:
                    continue
                joints = file[clip["name"]][: int(LONGEST_S * clip["fps"])] * meta["unit_m"]
                places = _project(joints[:, COCO_FROM_22], *camera)
                old = np.arange(len(places)) / clip["fps"]
                new = np.arange(0, old[-1], 1 / fps)
                if len(new) >= 20:
                    clips.append(Truth(clip["name"], new, _in_body_sizes(CubicSpline(old, places)(new))))
    return clips


def _project(joints_m: Array, azimuth: float, elevation: float, distance: float) -> Array:
    forward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), -np.sin(elevation)])
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    axes = np.stack([right, np.cross(forward, right), forward])
    centre = joints_m.mean(axis=(0, 1))
    reach = np.ptp(joints_m.mean(axis=1)[:, :2], axis=0).max() / 2
    points = (joints_m - centre) @ axes.T + (0.0, 0.0, distance + reach)
    projected: Array = project(points, (1000.0, 1000.0, 0.0, 0.0))
    return projected


def _in_body_sizes(places: Array) -> Array:
    spread = places - places.mean(axis=1, keepdims=True)
    return places / float(np.median(np.sqrt((spread**2).sum(axis=-1).mean(axis=1))))


def disturb(truth: Truth, noise: dict[str, Any], rng: np.random.Generator) -> tuple[Array, Array]:
    """Places and confidences (T, 17) as a detector would give them.

    Jitter, slow error and its time constant are what detector_noise.py found for each joint; now and then a
    joint is unsure for a while, and off by several times as much.
    """
    frames = len(truth.times_s)
    step = float(truth.times_s[1] - truth.times_s[0])
    white, slow, tau = (
        np.array([noise["joints"][name][key] for name in COCO17.joints]) for key in ("white", "slow", "slow_tau_s")
    )
    scores = np.clip(rng.normal(0.75, 0.08, (frames, 17)), 0.3, 0.95)
    factor = np.ones((frames, 17))
    for joint in range(17):
        for start in np.flatnonzero(rng.random(frames) < 0.2 * step):
            length = 1 + int(rng.exponential(0.15) / step)
            scores[start : start + length, joint] = rng.uniform(0.1, 0.45)
            factor[start : start + length, joint] = rng.uniform(2, 6)
    error = rng.standard_normal((frames, 17, 2)) * white[:, None]
    for joint in range(17):
        keep = np.exp(-step / tau[joint])
        driven = rng.standard_normal((frames + 200, 2)) * np.sqrt(1 - keep**2) * slow[joint]
        error[:, joint] += signal.lfilter([1.0], [1.0, -keep], driven, axis=0)[200:]
    return truth.places + error * factor[..., None], scores
