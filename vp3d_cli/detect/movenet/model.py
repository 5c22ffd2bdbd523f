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
import onnxruntime as ort
from numpy.typing import NDArray

from vp3d_cli.detect.crops import SquareCrop, extract_square
from vp3d_cli.detect.keypoint_similarity import keypoint_similarity
from vp3d_cli.errors import MissingDependencyError, WeightsError
from vp3d_cli.runtime.processes import granted_threads
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR
from vp3d_cli.weights import WeightFile, find_weights

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
        """Box of the keypoints with at least this confidence (of all, where there is none), (4,) pixels."""
        seen = self.scores >= min_score
        points = self.keypoints[seen] if seen.any() else self.keypoints
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def size_px(self, min_score: float) -> float:
        """Longer side of :meth:`box_xyxy`, pixels."""
        box = self.box_xyxy(min_score)
        return float((box[2:] - box[:2]).max())

    def scale_px(self) -> float:
        """Size as the COCO evaluation takes it, square root of the area, here of the box of all keypoints."""
        width, height = (float(v) for v in np.ptp(self.keypoints, axis=0))
        # Somebody seen edge-on, or lying away from the camera, still covers a third of their length the other way.
        return math.sqrt(max(width, height / 3) * max(height, width / 3))


def person_similarity(first: Person, second: Person) -> float:
    """Object keypoint similarity, 0..1; each keypoint counts by the smaller of its two confidences."""
    weights = np.minimum(first.scores, second.scores)
    return keypoint_similarity(first.keypoints, second.keypoints, weights, (first.scale_px() + second.scale_px()) / 2)


def open_session(weights: WeightFile, device: str, threads: int) -> Any:
    """Load an ONNX file.

    Args:
        weights: verified file.
        device: ``auto`` (CUDA where onnxruntime has it, else the CPU), ``cpu`` or ``cuda``.
        threads: of one run on the CPU; 0 takes ``OMP_NUM_THREADS``, and without it lets onnxruntime choose.

    Raises:
        MissingDependencyError: CUDA was asked for and this onnxruntime cannot use it.
        WeightsError: the file is no model that onnxruntime reads.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or granted_threads()  # onnxruntime does not look itself
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: they are raised as well
    cuda = "CUDAExecutionProvider"
    if device == "cuda" and cuda not in ort.get_available_providers():
        raise MissingDependencyError(
            "device cuda: this onnxruntime has no CUDA; install onnxruntime-gpu in its place, or use --device cpu"
        )
    wanted = [cuda] if device != "cpu" and cuda in ort.get_available_providers() else []
    try:
        session = ort.InferenceSession(str(weights.path), options, providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's exceptions share no public base class
        raise WeightsError(f"weights {weights.name}: onnxruntime cannot read {weights.path} ({error})") from error
    if device == "cuda" and cuda not in session.get_providers():
        raise MissingDependencyError(
            "device cuda: onnxruntime-gpu is installed but found no usable GPU; check the driver, or use --device cpu"
        )
    return session


def expect_shapes(
    session: Any, weights: WeightFile, inputs: list[int | None], outputs: list[int | None], what: str
) -> None:
    """Check that a network takes and gives one array of these shapes; None stands for any length.

    Raises:
        WeightsError: it does not.
    """
    for ends, expected in ((session.get_inputs(), inputs), (session.get_outputs(), outputs)):
        fits = len(ends) == 1 and len(ends[0].shape) == len(expected)
        if not fits or any(e not in (None, s) for e, s in zip(expected, ends[0].shape, strict=True)):
            raise WeightsError(f"weights {weights.name}: not {what} ({weights.path} has other inputs or outputs)")


class SinglePose:
    """Thunder or Lightning: the keypoints of the one person in the middle of a square.

    Args:
        name: of the weights.
        device, threads: see :func:`open_session`.
        flip: look at the mirrored square as well and take the mean of both.
    """

    def __init__(self, name: str, device: str = "auto", threads: int = 0, *, flip: bool = False) -> None:
        weights = find_weights(name)
        self.sha256 = weights.sha256
        self._flip = flip
        self._session = open_session(weights, device, threads)
        expect_shapes(self._session, weights, [1, None, None, 3], [1, 1, 17, 3], "a single-person MoveNet")
        self.size = int(self._session.get_inputs()[0].shape[1])

    def __call__(self, image: FrameBGR, roi: SquareCrop) -> Person:
        """Keypoints of the person in ``roi``, in pixels of ``image``; the person's score is left 0."""
        patch = cv2.cvtColor(extract_square(image, roi, self.size), cv2.COLOR_BGR2RGB)
        points, scores = self._run(patch)
        if self._flip:
            swap = list(COCO17.flip_order)
            mirrored, mirrored_scores = self._run(np.ascontiguousarray(patch[:, ::-1]))
            mirrored, mirrored_scores = (mirrored * (-1, 1) + (1, 0))[swap], mirrored_scores[swap]
            weight = (scores / np.maximum(scores + mirrored_scores, 1e-6))[:, None]
            points = weight * points + (1 - weight) * mirrored
            scores = ((scores + mirrored_scores) / 2).astype(np.float32)
        return Person(roi.to_image(points).astype(np.float32), scores, 0.0)

    def _run(self, patch: NDArray[np.uint8]) -> tuple[DoubleArray, FloatArray]:
        """Points (17, 2) x y in 0..1 of an RGB patch, and scores (17,)."""
        output = self._session.run(None, {"input": patch[None].astype(np.int32)})[0][0, 0]
        points = output[:, 1::-1].astype(np.float64) + _OFFSET_PX / self.size
        return points, np.clip(output[:, 2], 0, 1).astype(np.float32)


class MultiPose:
    """MultiPose: up to six people in an image, at a side chosen by the caller."""

    stride = 32  # the network's coarsest level; input sides must be multiples of it

    def __init__(self, name: str = "movenet-multipose", device: str = "auto", threads: int = 0) -> None:
        weights = find_weights(name)
        self.sha256 = weights.sha256
        self._session = open_session(weights, device, threads)
        expect_shapes(self._session, weights, [1, None, None, 3], [1, 6, 56], "MoveNet MultiPose")

    def __call__(self, image: FrameBGR, long_side: int) -> list[Person]:
        """People in ``image``, seen at a size of ``long_side`` pixels along its longer side, aspect ratio kept.

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
        for row in self._session.run(None, {"input": padded})[0][0]:
            if row[55] < 0.1:
                continue
            points = row[:51].reshape(17, 3)
            xy = points[:, 1::-1] * (outer_w, outer_h) * (width / inner_w, height / inner_h)
            people.append(Person(xy.astype(np.float32), np.clip(points[:, 2], 0, 1), float(row[55])))
        return sorted(people, key=lambda person: -person.score)
