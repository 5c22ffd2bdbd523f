"""Two-step detection: one detector finds the people, a network then looks at each of them for the keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vp3d_cli.detect.base import Detector, Remembering
from vp3d_cli.types import FloatArray, FrameBGR, Keypoints2D

# A box drawn around keypoints (MoveNet's) ends at eyes, wrists and ankles; the networks were trained with boxes
# around whole people, which reach on to crown, fingers and toes: about a tenth of the person on each side.
HUGGING_GROW = 0.1


class PoseEstimator(Protocol):
    """A network that gives the keypoints of people whose boxes are known.

    Attributes:
        sha256: of its weights.
    """

    sha256: str

    def estimate(self, images: Sequence[FrameBGR], boxes_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Keypoints of one person in each image.

        Args:
            images: N images (H, W, 3); several may be the same frame.
            boxes_xyxy: (N, 4) pixels.

        Returns:
            (N, 17, 2) pixels, and (N, 17) confidence in 0..1.
        """
        ...


class TopDownDetector:
    """A detector of people followed by a network for their keypoints."""

    def __init__(self, name: str, finder: Detector, estimator: PoseEstimator, batch_size: int) -> None:
        self.name = name
        self.sha256 = "+".join(hash for hash in (estimator.sha256, finder.sha256) if hash)
        self.batch_size = batch_size
        self._finder = finder
        self._estimator = estimator

    def reset(self, frame: int = 0) -> None:
        """Forget the frames seen so far; ``frame`` is the number of the next one."""
        self._finder.reset(frame)

    def memory(self) -> dict[str, Any] | None:
        """That of the first step; the second has none."""
        return self._finder.memory() if isinstance(self._finder, Remembering) else None

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Know again what :meth:`memory` told."""
        if isinstance(self._finder, Remembering):
            self._finder.recall(memory)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Everyone in each of the frames; boxes and scores of people are those of the first step."""
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
    """The people whose boxes have an area."""
    x0, y0, x1, y1 = people.boxes_xyxy.T
    with np.errstate(invalid="ignore"):
        area = (x1 - x0 >= 1) & (y1 - y0 >= 1)
    return people.select(area & np.isfinite(people.boxes_xyxy).all(axis=1))


def person_boxes(people: Keypoints2D) -> FloatArray:
    """(N, 4) boxes around whole people.

    A detector's box is taken as it stands, except where it lies within the reach of its keypoints: then it was drawn
    around them, and grows by :data:`HUGGING_GROW` of its size on each side.
    """
    boxes = people.boxes_xyxy
    low, high = people.keypoints.min(axis=1) - 1.0, people.keypoints.max(axis=1) + 1.0
    # Comparisons with NaN, where a detector gives boxes only, are False.
    hugging = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
    reach = (boxes[:, 2:] - boxes[:, :2]) * HUGGING_GROW * hugging[:, None]
    return np.concatenate([boxes[:, :2] - reach, boxes[:, 2:] + reach], axis=1).astype(np.float32)
