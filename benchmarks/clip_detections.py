"""Two independent detections of the same videos, from the original and from the mirrored, enlarged video.

The second pass runs the same detector on the mirrored video, enlarged by 7 %, and maps the keypoints back. The errors
of the two passes are largely independent, so their difference shows the noise of the detector, including its slow
parts, without ground truth. Errors that both passes share are not visible.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.detect.base import load_detector
from vp3d_cli.skeletons import COCO17
from vp3d_cli.track import track_people
from vp3d_cli.types import Keypoints2D, Track2D

ENLARGED = 1.07  # of the second opinion: moves every pixel against the network's grid


@dataclass(frozen=True)
class Opinions:
    """One person of one video.

    Attributes:
        clip: name of the file.
        track: what the detector said.
        second_keypoints: (T, 17, 2) what it said of the mirrored video; NaN where it did not see the person.
        second_scores: (T, 17).
        times_s: (T,).
    """

    clip: str
    track: Track2D
    second_keypoints: NDArray[np.float64]
    second_scores: NDArray[np.float64]
    times_s: NDArray[np.float64]


def load_opinions(video: Path, detector: str, cache: Path, *, min_frames: int = 20) -> list[Opinions]:
    """Both opinions about everyone in a video; detections are kept in ``cache``."""
    first, second, times, size_wh = _detections(video, detector, cache)
    people = []
    for track in track_people(first, times, size_wh):
        if np.count_nonzero(track.present) < min_frames:
            continue
        keypoints = np.full((len(track), 17, 2), np.nan)
        scores = np.zeros((len(track), 17))
        for t in np.flatnonzero(track.present):
            others = second[track.first + t]
            found = _same_person(track.keypoints[t], track.scores[t], others)
            if found is not None:
                keypoints[t], scores[t] = others.keypoints[found], others.scores[found]
        people.append(Opinions(video.name, track, keypoints, scores, times[track.frames]))
    return people


def _same_person(keypoints: NDArray[Any], scores: NDArray[Any], others: Keypoints2D) -> int | None:
    """Index of the person of ``others`` that lies on these keypoints; None where there is none."""
    if not len(others):
        return None
    weights = scores * (scores > 0.3) * (others.scores > 0.3)
    distance = np.linalg.norm(others.keypoints - keypoints, axis=-1)
    mean = (distance * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    mean[weights.sum(axis=1) < 1.0] = np.inf
    best = int(mean.argmin())
    reach = np.ptp(keypoints[scores > 0.3], axis=0).max() if (scores > 0.3).any() else 0.0
    return best if mean[best] < 0.1 * reach else None


def _detections(
    video: Path, detector: str, cache: Path
) -> tuple[list[Keypoints2D], list[Keypoints2D], NDArray[np.float64], tuple[int, int]]:
    key = hashlib.sha256(f"{video.resolve()}{detector}{ENLARGED}".encode()).hexdigest()[:8]
    kept = cache / f"{video.stem}-{key}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _detect(video, detector, kept)
    with np.load(kept, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    return (
        _unpack(data, "first"), _unpack(data, "second"), data["times_s"],
        (int(data["size_wh"][0]), int(data["size_wh"][1])),
    )  # fmt: skip


def _detect(video: Path, name: str, kept: Path) -> None:
    straight, mirrored = load_detector(name), load_detector(name)
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        raise SystemExit(f"{video}: cannot be read")
    fps = capture.get(cv2.CAP_PROP_FPS)
    first: list[Keypoints2D] = []
    second: list[Keypoints2D] = []
    width = height = 0
    while True:
        read, image = capture.read()
        if not read:
            break
        height, width = image.shape[:2]
        first += straight.detect([image])  # type: ignore[list-item]
        scale = round(width * ENLARGED) / width, round(height * ENLARGED) / height
        larger = cv2.resize(image[:, ::-1], (round(width * ENLARGED), round(height * ENLARGED)))
        second.append(_mirror_back(mirrored.detect([larger])[0], np.array(scale), width))  # type: ignore[list-item]
    np.savez_compressed(
        kept,
        times_s=np.arange(len(first)) / fps,
        size_wh=np.array([width, height]),
        **_pack(first, "first"),
        **_pack(second, "second"),
    )


def _mirror_back(people: Keypoints2D, scale: NDArray[np.float64], width: int) -> Keypoints2D:
    order = list(COCO17.flip_order)
    keypoints = (people.keypoints / scale)[:, order]
    keypoints[..., 0] = width - keypoints[..., 0]
    boxes = people.boxes_xyxy / np.tile(scale, 2)
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return Keypoints2D(
        boxes.astype(np.float32), keypoints.astype(np.float32), people.scores[:, order], people.person_scores
    )


def _pack(frames: list[Keypoints2D], name: str) -> dict[str, NDArray[Any]]:
    return {
        f"{name}_count": np.array([len(people) for people in frames]),
        f"{name}_keypoints": np.concatenate([people.keypoints for people in frames]),
        f"{name}_scores": np.concatenate([people.scores for people in frames]),
        f"{name}_boxes": np.concatenate([people.boxes_xyxy for people in frames]),
        f"{name}_person": np.concatenate([people.person_scores for people in frames]),
    }


def _unpack(data: dict[str, NDArray[Any]], name: str) -> list[Keypoints2D]:
    ends = np.cumsum(data[f"{name}_count"])[:-1]
    parts = (np.split(data[f"{name}_{part}"], ends) for part in ("boxes", "keypoints", "scores", "person"))
    return [Keypoints2D(*person) for person in zip(*parts, strict=True)]
