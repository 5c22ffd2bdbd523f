"""Simulated crossings of people from motion capture, with the keypoints that a detector would find."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.camera import Intrinsics, project
from vp3d_cli.types import Keypoints2D

Array = NDArray[Any]
SIZE_WH = (1280, 720)
# COCO-17 from the archive's 22 joints (17 of Human3.6M, then nose, eyes, ears).
COCO_FROM_22 = (17, 18, 19, 20, 21, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3)
# What hides the people behind: capsules between COCO keypoints, and their radius in metres.
CAPSULES = (
    (5, 11, 0.14), (6, 12, 0.14), (5, 12, 0.14), (6, 11, 0.14), (5, 6, 0.08), (11, 13, 0.09), (13, 15, 0.07),
    (12, 14, 0.09), (14, 16, 0.07), (5, 7, 0.06), (7, 9, 0.05), (6, 8, 0.06), (8, 10, 0.05), (3, 4, 0.11),
)  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """How bad the simulated detector is; probabilities are per person and frame."""

    miss: float = 0.05
    false_people: float = 0.03
    double: float = 0.03
    jitter: float = 0.012  # of the person's height


@dataclass(frozen=True)
class Scene:
    """What the detector says, and what is true: boxes (P, T, 4), NaN where hardly any of the person can be seen.

    ``hidden`` has the boxes that ``truth`` leaves out: found or not, they count neither for nor against a tracker.
    """

    detections: list[Keypoints2D]
    times_s: Array
    truth: Array
    hidden: Array


def load_walks(archive: Path, fps: float) -> list[Array]:
    """Clips in which someone walks at least 1.5 m, (T, 22, 3) metres at ``fps``."""
    with np.load(archive, allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
        clips = [c for c in meta["clips"] if any(w in c["name"] for w in ("walk", "run", "dash", "jog", "cmu_02"))]
        chosen = clips[:: max(1, len(clips) // 300)]
        walks = [(data[c["name"]].astype(np.float64) * meta["unit_m"], c["fps"]) for c in chosen]
    return [
        resample(joints, rate, fps)
        for joints, rate in walks
        if np.linalg.norm(joints[-1, 0, :2] - joints[0, 0, :2]) > 1.5
    ]


def resample(joints: Array, rate: float, fps: float) -> Array:
    """Linear interpolation to another frame rate."""
    at = np.arange(0, len(joints) - 1, rate / fps)
    low = at.astype(int)
    return joints[low] + (at - low)[:, None, None] * (joints[low + 1] - joints[low])


def _turn(joints: Array, angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]).T


def _heading(joints: Array) -> float:
    across = joints[4, :2] - joints[1, :2]
    return float(np.arctan2(across[1], across[0]))


def prolong(walk: Array, frames: int, fps: float) -> Array:
    """Repeat a walk until it is long enough: each repetition starts where and whither the one before ended."""
    result, blend = walk, max(2, int(0.2 * fps))
    while len(result) < frames:
        more = _turn(walk, _heading(result[-1]) - _heading(walk[0]))
        shift = result[-1, :1] - more[0, :1]
        shift[:, 2] = 0
        more = more + shift
        fade = np.linspace(1, 0, blend)[:, None, None]
        offset = (result[-1] - result[-1, :1]) - (more[0] - more[0, :1])
        more[:blend] += offset * fade
        result = np.concatenate([result, more[1:]])
    return result[:frames]


def crossing_people(walks: list[Array], people: int, frames: int, fps: float, rng: Any) -> Array:
    """(P, T, 22, 3) metres, z up: everyone passes within a metre or so of the middle, nobody through another."""
    bodies: list[Array] = []
    while len(bodies) < people:
        body = prolong(walks[rng.integers(len(walks))], frames, fps)
        body = _turn(body * rng.uniform(0.9, 1.1), rng.uniform(0, 2 * np.pi))
        moment = int(frames * rng.uniform(0.2, 0.8))
        goal = rng.normal(0, 0.8, 2)
        body = body + np.array([*(goal - body[moment, 0, :2]), 0.0])
        if all(np.linalg.norm(body[:, 0, :2] - b[:, 0, :2], axis=1).min() > 0.45 for b in bodies):
            bodies.append(body)
    return np.stack(bodies)


def film(bodies: Array, rng: Any) -> tuple[Array, Array]:
    """Project (P, T, 22, 3) by a camera 5-9 m away: COCO keypoints (P, T, 17, 2) px and depth (P, T, 17)."""
    distance, height = rng.uniform(5, 9), rng.uniform(0.8, 2.5)
    yaw, pitch = rng.uniform(0, 2 * np.pi), np.arctan2(height - 0.9, distance)
    points = _turn(bodies[:, :, COCO_FROM_22].reshape(-1, 3), yaw).reshape(*bodies.shape[:2], 17, 3)
    x, y, z = points[..., 0], points[..., 1] + distance, points[..., 2] - height
    c, s = np.cos(pitch), np.sin(pitch)
    cam = np.stack([x, -(z * c + y * s), y * c - z * s], -1)
    pixels = project(cam, Intrinsics.from_fov(60, SIZE_WH).as_tuple())
    pixels[cam[..., 2] < 0.5] = np.nan
    return pixels, cam[..., 2]


def hidden_by_others(pixels: Array, depth: Array) -> tuple[Array, Array]:
    """For each keypoint whether someone nearer hides it, (P, T, 17), and who, (P, T, 17)."""
    people = len(pixels)
    focal = Intrinsics.from_fov(60, SIZE_WH).fx
    hidden = np.zeros(depth.shape, bool)
    who = np.full(depth.shape, -1)
    for front in range(people):
        for a, b, radius in CAPSULES:
            p, q = pixels[front, :, None, a], pixels[front, :, None, b]
            px = radius * focal / depth[front].mean(-1)[:, None]
            for behind in range(people):
                if behind == front:
                    continue
                along = np.clip(((pixels[behind] - p) * (q - p)).sum(-1) / (((q - p) ** 2).sum(-1) + 1e-9), 0, 1)
                gap = np.linalg.norm(pixels[behind] - p - along[..., None] * (q - p), axis=-1)
                covered = (gap < px) & (depth[front].mean(-1) < depth[behind].mean(-1) - 0.05)[:, None]
                hidden[behind] |= covered
                who[behind][covered] = front
    return hidden, who


def _slow_uniform(rng: Any, shape: tuple[int, ...], frames: int, hold: int) -> Array:
    """Uniform numbers (*shape, T) that change only every ``hold`` frames: mistakes last for a while."""
    coarse = rng.uniform(size=(*shape, frames // hold + 2))
    at = (np.arange(frames) + rng.integers(hold)) // hold
    result: Array = coarse[..., at]
    return result


def boxes_of(keypoints: Array) -> Array:
    """(..., 17, 2) to (..., 4), a tenth wider on each side, clipped to the image."""
    with np.errstate(all="ignore"):
        low, high = np.fmin.reduce(keypoints, axis=-2), np.fmax.reduce(keypoints, axis=-2)
    margin = 0.1 * (high - low)
    limit = np.array(SIZE_WH, float)
    return np.concatenate([np.clip(low - margin, 0, limit), np.clip(high + margin, 0, limit)], -1)


def simulate(bodies: Array, fps: float, noise: Noise, rng: Any) -> Scene:
    """Film the people and dirty what a perfect detector would see."""
    pixels, depth = film(bodies, rng)
    people, frames = pixels.shape[:2]
    hidden, who = hidden_by_others(pixels, depth)
    inside = ((pixels > 0) & (pixels < np.array(SIZE_WH))).all(-1)
    visible = (inside & ~hidden).mean(-1)
    hold = max(1, int(0.2 * fps))
    seen = (inside.mean(-1) > 0.4) & (visible > 0.15)
    fickle = _slow_uniform(rng, (people,), frames, hold)
    lost = (visible < 0.35) & (fickle < 0.6)
    copies = (visible < 0.35) & (fickle > 0.8)  # the detector gives the person in front twice
    height = np.fmax.reduce(pixels[..., 1], -1) - np.fmin.reduce(pixels[..., 1], -1)
    snapped = hidden & (_slow_uniform(rng, (people, 17), frames, hold).transpose(0, 2, 1) < 0.4)
    noisy = pixels + rng.normal(size=pixels.shape) * (noise.jitter * height)[..., None, None]
    # Where a joint is hidden the detector guesses: wrong by a hand's breadth, for a while, and shakier.
    guess = _slow_uniform(rng, (people, 17, 2), frames, hold).transpose(0, 3, 1, 2) - 0.5
    guess = 0.15 * guess + 0.02 * rng.normal(size=pixels.shape)
    noisy += guess * (hidden * height[..., None])[..., None]
    scores = np.where(hidden, rng.uniform(0.05, 0.4, hidden.shape), rng.uniform(0.5, 0.95, hidden.shape))
    scores[~inside] = rng.uniform(0.0, 0.15, (~inside).sum())
    swap = np.where(snapped, who, np.arange(people)[:, None, None])
    swap = np.where(copies[..., None], np.maximum(who.max(-1), 0)[..., None], swap)
    t_index, k_index = np.arange(frames)[None, :, None], np.arange(17)[None, None]
    own = swap == np.arange(people)[:, None, None]
    noisy = np.where(own[..., None], noisy, noisy[swap, t_index, k_index])
    missed = (rng.uniform(size=(people, frames)) < noise.miss) | lost | ~seen | ~np.isfinite(height)
    detections = [_frame(noisy[:, t][~missed[:, t]], scores[:, t][~missed[:, t]], noise, rng) for t in range(frames)]
    boxes = boxes_of(pixels)
    clear = ((visible > 0.3) & (inside.mean(-1) > 0.5))[..., None]
    truth = renew_after_absence(np.where(clear, boxes, np.nan), 2.0 * fps)
    return Scene(detections, np.arange(frames) / fps, truth, np.where(clear, np.nan, boxes))


def renew_after_absence(truth: Array, longest: float) -> Array:
    """Who comes back after more than ``longest`` frames counts as somebody else."""
    rows = []
    for boxes in truth:
        seen = np.flatnonzero(np.isfinite(boxes[:, 0]))
        for part in np.split(seen, np.flatnonzero(np.diff(seen) > longest) + 1):
            row = np.full_like(boxes, np.nan)
            row[part] = boxes[part]
            rows.append(row)
    return np.stack(rows)


def _frame(keypoints: Array, scores: Array, noise: Noise, rng: Any) -> Keypoints2D:
    points, confidences = list(keypoints), list(scores)
    for k, s in zip(keypoints, scores, strict=True):
        if rng.uniform() < noise.double:
            size = np.ptp(k[:, 1])
            points.append(k + rng.normal(0, 0.015, k.shape) * size + rng.normal(0, 0.01, 2) * size)
            confidences.append(s * 0.8)
    for _ in range(rng.poisson(noise.false_people)):
        size = rng.uniform(60, 400)
        points.append(rng.uniform(0, 1, 2) * SIZE_WH + rng.uniform(-0.5, 0.5, (17, 2)) * size * [0.4, 1])
        confidences.append(rng.uniform(0.1, 0.45, 17))
    if not points:
        return Keypoints2D.empty()
    order = rng.permutation(len(points))
    k = np.stack(points)[order].astype(np.float32)
    s = np.stack(confidences)[order].astype(np.float32)
    return Keypoints2D(boxes_of(k).astype(np.float32), k, s, s.mean(-1))
