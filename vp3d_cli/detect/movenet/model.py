"""The MoveNet networks: run one on an image, get keypoints back. No state.

MoveNet (Votel and Li, TensorFlow blog 2021; model cards on TensorFlow Hub) comes as a single-person network in two
sizes, which takes a square crop around the person, and as MultiPose, which finds up to six people in an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.detect.crops import SquareCrop, extract_square
from vp3d_cli.detect.keypoint_similarity import keypoint_similarity
from vp3d_cli.runtime.load import load_weights
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR
from vp3d_cli.weights import find_weights

# Crops mirrored and compared show both single-person networks about a quarter of a crop pixel too far left
# (0.55 px between a crop and its mirror image, standard error 0.07, Thunder); added back to both axes.
_OFFSET_PX = 0.25


@dataclass(frozen=True)
class Person:
    """One person in one image.

    Attributes:
        keypoints: (17, 2) pixels.
        scores: (17,) confidence 0..1.
        score: confidence that this is a person, 0..1.
    """

    keypoints: FloatArray
    scores: FloatArray
    score: float

    def moved(self, shift: DoubleArray) -> Person:
        """The same person (2,) pixels away."""
        return replace(self, keypoints=self.keypoints + shift.astype(np.float32))

    def box_xyxy(self, min_score: float) -> FloatArray:
        """Box (4,) in pixels of the keypoints with at least this confidence.

        If there are none, the box of all keypoints.
        """
        seen = self.scores >= min_score
        points = self.keypoints[seen] if seen.any() else self.keypoints
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def size_px(self, min_score: float) -> float:
        """Longer side of :meth:`box_xyxy`, pixels."""
        box = self.box_xyxy(min_score)
        return float((box[2:] - box[:2]).max())

    def scale_px(self) -> float:
        """Object scale as in the COCO evaluation, the square root of the area.

        Here the area is that of the box of all keypoints.
        """
        width, height = (float(v) for v in np.ptp(self.keypoints, axis=0))
        # Somebody seen edge-on, or lying away from the camera, still covers a third of their length the other way.
        return math.sqrt(max(width, height / 3) * max(height, width / 3))


def person_similarity(first: Person, second: Person) -> float:
    """Object keypoint similarity, 0..1.

    Each keypoint is weighted by the smaller of its two confidences.
    """
    weights = np.minimum(first.scores, second.scores)
    return keypoint_similarity(first.keypoints, second.keypoints, weights, (first.scale_px() + second.scale_px()) / 2)


class SinglePose:
    """Thunder or Lightning: the keypoints of the one person in the middle of a square.

    Args:
        name: of the weights.
        device, threads, precision: see :func:`vp3d_cli.runtime.load.load_model`.
        flip: run on the mirrored square as well and average the two.

    Raises:
        As :func:`vp3d_cli.runtime.load.load_model`.
    """

    def __init__(
        self, name: str, device: str = "auto", threads: int = 0, *, precision: str = "auto", flip: bool = False
    ) -> None:
        weights = find_weights(name)
        self.sha256 = weights.sha256
        self._flip = flip
        self._model = load_weights(weights, device, precision=precision, threads=threads, requests=2 if flip else 1)
        self._model.expect([(1, None, None, 3)], [(1, 1, 17, 3)], "a single-person MoveNet")
        self.size = int(self._model.inputs[0].shape[1] or 0)

    def __call__(self, image: FrameBGR, roi: SquareCrop) -> Person:
        """Keypoints of the person in ``roi``, in pixels of ``image``; the person's score is left 0."""
        patch = cv2.cvtColor(extract_square(image, roi, self.size), cv2.COLOR_BGR2RGB)
        patches = [patch, np.ascontiguousarray(patch[:, ::-1])] if self._flip else [patch]
        requests = [self._model.start(view[None].astype(np.int32)) for view in patches]
        points, scores = self._decode(requests[0].result())
        if self._flip:
            swap = list(COCO17.flip_order)
            mirrored, mirrored_scores = self._decode(requests[1].result())
            mirrored, mirrored_scores = (mirrored * (-1, 1) + (1, 0))[swap], mirrored_scores[swap]
            weight = (scores / np.maximum(scores + mirrored_scores, 1e-6))[:, None]
            points = weight * points + (1 - weight) * mirrored
            scores = ((scores + mirrored_scores) / 2).astype(np.float32)
        return Person(roi.to_image(points).astype(np.float32), scores, 0.0)

    def _decode(self, outputs: list[NDArray[Any]]) -> tuple[DoubleArray, FloatArray]:
        """Points (17, 2) x y in 0..1 of the square, and scores (17,), from the network's outputs."""
        output = outputs[0][0, 0]
        points = output[:, 1::-1].astype(np.float64) + _OFFSET_PX / self.size
        return points, np.clip(output[:, 2], 0, 1).astype(np.float32)


class MultiPose:
    """MultiPose: up to six people in an image, at a side chosen by the caller."""

    stride = 32  # the network's coarsest level; input sides must be multiples of it

    def __init__(
        self, name: str = "movenet-multipose", device: str = "auto", threads: int = 0, *, precision: str = "auto"
    ) -> None:
        weights = find_weights(name)
        self.sha256 = weights.sha256
        self._model = load_weights(weights, device, precision=precision, threads=threads)
        self._model.expect([(1, None, None, 3)], [(1, 6, 56)], "MoveNet MultiPose")

    def __call__(self, image: FrameBGR, long_side: int) -> list[Person]:
        """Detect people in an image, resized so that its longer side is ``long_side`` pixels.

        The aspect ratio is kept.

        Args:
            image: (H, W, 3).
            long_side: rounded to a multiple of 32.

        Returns:
            People with a score above 0.1, best first, in pixels of ``image``.
        """
        height, width = image.shape[:2]
        scale = max(self.stride, round(long_side / self.stride) * self.stride) / max(height, width)
        inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
        resized = cv2.resize(image, (inner_w, inner_h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        outer_w, outer_h = (-(-side // self.stride) * self.stride for side in (inner_w, inner_h))
        padded = np.zeros((1, outer_h, outer_w, 3), np.int32)
        padded[0, :inner_h, :inner_w] = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
        people: list[Person] = []
        for row in self._model.run(padded)[0][0]:
            if row[55] < 0.1:
                continue
            points = row[:51].reshape(17, 3)
            xy = points[:, 1::-1] * (outer_w, outer_h) * (width / inner_w, height / inner_h)
            people.append(Person(xy.astype(np.float32), np.clip(points[:, 2], 0, 1), float(row[55])))
        return sorted(people, key=lambda person: -person.score)
