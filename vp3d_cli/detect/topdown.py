"""Top-down detection: a detector finds people, a pose network their keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vp3d_cli.detect.base import Detector, StatefulDetector
from vp3d_cli.detect.crops import person_boxes
from vp3d_cli.types import FloatArray, FrameBGR, Keypoints2D


class PoseEstimator(Protocol):
    """Network that estimates the keypoints of people with known boxes.

    Attributes:
        sha256: hash of its weights.
    """

    sha256: str

    def estimate(self, images: Sequence[FrameBGR], boxes_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Estimate the keypoints of one person in each image.

        Args:
            images: N images (H, W, 3); several may be the same frame.
            boxes_xyxy: (N, 4) pixels.

        Returns:
            (N, 17, 2) pixels, and (N, 17) confidence in 0..1.
        """
        ...


class TopDownDetector:
    """Person detector followed by a pose network."""

    def __init__(self, name: str, finder: Detector, estimator: PoseEstimator, batch_size: int) -> None:
        self.name = name
        self.sha256 = "+".join(hash for hash in (estimator.sha256, finder.sha256) if hash)
        self.batch_size = batch_size
        self._finder = finder
        self._estimator = estimator

    def reset(self, frame: int = 0) -> None:
        """Clear the state; ``frame`` is the index of the next frame."""
        self._finder.reset(frame)

    def state(self) -> dict[str, Any] | None:
        """State of the person detector; the pose network has none."""
        return self._finder.state() if isinstance(self._finder, StatefulDetector) else None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state` returned."""
        if isinstance(self._finder, StatefulDetector):
            self._finder.restore(state)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find all people in each frame; boxes and person scores are those of the person detector."""
        found = [_usable(people) for people in self._finder.detect(frames)]
        counts = [len(people) for people in found]
        if sum(counts) == 0:
            return [Keypoints2D.empty() for _ in frames]
        images = [frame for frame, count in zip(frames, counts, strict=True) for _ in range(count)]
        boxes = np.concatenate([person_boxes(people) for people in found])
        keypoints, scores = self._estimator.estimate(images, boxes)
        results = []
        for people, end in zip(found, np.cumsum(counts), strict=True):
            of_frame = slice(int(end) - len(people), int(end))
            results.append(Keypoints2D(people.boxes_xyxy, keypoints[of_frame], scores[of_frame], people.person_scores))
        return results


def _usable(people: Keypoints2D) -> Keypoints2D:
    """People with finite boxes of at least one pixel on each side."""
    x0, y0, x1, y1 = people.boxes_xyxy.T
    with np.errstate(invalid="ignore"):
        area = (x1 - x0 >= 1) & (y1 - y0 >= 1)
    return people.select(area & np.isfinite(people.boxes_xyxy).all(axis=1))
