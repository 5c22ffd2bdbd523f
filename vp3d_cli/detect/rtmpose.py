"""``--detector rtmpose``: RTMPose on the people that RTMDet-nano finds; ONNX files.

RTMPose (Jiang et al. 2023, arXiv 2303.07399) gives for each keypoint two distributions, over columns and over rows of
the person's crop (SimCC, Li et al. 2022). RTMDet (Lyu et al. 2022, arXiv 2212.07784) gives boxes; its file holds the
suppression of duplicates as well. Both are fed as their configurations at OpenMMLab say, written down beside each
constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vp3d_cli.detect.base import Detector
from vp3d_cli.detect.crops import crop_transform, extract_crop, invert_transform, transform_points
from vp3d_cli.detect.detector_weights import find_detector_weights
from vp3d_cli.detect.topdown import TopDownDetector
from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.runtime.base import Model
from vp3d_cli.runtime.load import load_weights
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, FrameBGR, Keypoints2D
from vp3d_cli.weights import WeightFile

MODELS = ("s", "m", "l")
MIN_SCORE = 0.3  # people below are dropped, as in RTMPose's own pipeline
# RTMDet: rtmdet_nano_320-8xb32_coco-person: BGR, these means and deviations, grey padding to the right and below.
_DET_MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)
_DET_STD_BGR = np.array([57.375, 57.12, 58.395], np.float32)
_DET_PADDING = 114
_DET_SIDE = 320  # where the file leaves its size open
# RTMPose: rtmpose-*_8xb256-420e_body8-256x192: bgr_to_rgb, these means and deviations, boxes 1.25 times as large,
# two bins for each pixel of the crop.
_POSE_MEAN_RGB = np.array([123.675, 116.28, 103.53], np.float32)
_POSE_STD_RGB = np.array([58.395, 57.12, 57.375], np.float32)
_POSE_GROW_XY = (0.125, 0.125)
_POSE_WH = (192, 256)
_BINS_PER_PX = 2.0

_HINT = "give the path of an ONNX file, or leave the option out to fetch OpenMMLab's"


def _load(
    weights: WeightFile, device: str, threads: int, precision: str, outputs: Sequence[str]
) -> tuple[Model, list[int]]:
    """Load a network, and the places of the outputs with these names."""
    model = load_weights(weights, device, threads=threads, precision=precision)
    names = [output.name for output in model.outputs]
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or not set(outputs) <= set(names):
        raise WeightsError(
            f"weights {weights.name}: {weights.path} gives {', '.join(names)}, not {' and '.join(outputs)}; "
            "it is another kind of model"
        )
    return model, [names.index(name) for name in outputs]


class RtmDet:
    """Finds people; gives boxes without keypoints."""

    name = "rtmdet-nano"
    batch_size = 1

    def __init__(self, weights: WeightFile, device: str, threads: int, precision: str, min_score: float) -> None:
        self.sha256 = weights.sha256
        self._min_score = min_score
        self._model, self._outputs = _load(weights, device, threads, precision, ("dets", "labels"))
        height, width = self._model.inputs[0].shape[2:]
        self._wh = (width or _DET_SIDE, height or _DET_SIDE)

    def reset(self, frame: int = 0) -> None:
        """Nothing is kept from one frame to the next."""

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Boxes of the people in each frame; keypoints are NaN."""
        return [self._find(frame) for frame in frames]

    def _find(self, frame: FrameBGR) -> Keypoints2D:
        height, width = frame.shape[:2]
        scale = min(self._wh[0] / width, self._wh[1] / height)
        inner = max(1, int(width * scale)), max(1, int(height * scale))
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        padded = np.full((self._wh[1], self._wh[0], 3), _DET_PADDING, np.float32)
        padded[: inner[1], : inner[0]] = cv2.resize(frame, inner, interpolation=shrink)
        image = ((padded - _DET_MEAN_BGR) / _DET_STD_BGR).transpose(2, 0, 1)[None]
        outputs = self._model.run(np.ascontiguousarray(image))
        dets, labels = (outputs[place] for place in self._outputs)
        rows = dets[0][(dets[0][:, 4] >= self._min_score) & (labels[0] == 0)]
        boxes = rows[:, :4] * (width / inner[0], height / inner[1], width / inner[0], height / inner[1])
        count = len(rows)
        return Keypoints2D(
            np.clip(boxes, 0, (width, height, width, height)).astype(np.float32),
            np.full((count, COCO17.num_joints, 2), np.nan, np.float32),
            np.zeros((count, COCO17.num_joints), np.float32),
            np.clip(rows[:, 4], 0, 1).astype(np.float32),
        )


def read_simcc(columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Keypoints from the distributions over columns and rows.

    Args:
        columns: (N, 17, bins) and
        rows: (N, 17, bins): two bins for each pixel of the crop, bin 0 at the centre of the first pixel.

    Returns:
        (N, 17, 2) pixels of the crop, continuous (the centre of the first pixel is 0.5); and (N, 17) confidence: the
        lower of the two peaks, within 0..1.
    """
    bins = np.stack([columns.argmax(axis=-1), rows.argmax(axis=-1)], axis=-1)
    peaks = np.minimum(columns.max(axis=-1), rows.max(axis=-1))
    return (bins / _BINS_PER_PX + 0.5).astype(np.float32), np.clip(peaks, 0, 1).astype(np.float32)


class RtmPoseEstimator:
    """Keypoints of one person in each image."""

    def __init__(
        self, weights: WeightFile, device: str, threads: int, precision: str, *, flip: bool, crops: int
    ) -> None:
        self.sha256 = weights.sha256
        self._weights = weights
        self._flip = flip
        self._model, self._outputs = _load(weights, device, threads, precision, ("simcc_x", "simcc_y"))
        batch, _, height, width = self._model.inputs[0].shape
        self._wh = (width, height) if width and height else _POSE_WH
        if batch not in (None, 1):
            raise WeightsError(
                f"weights {weights.name}: {weights.path} takes {batch} people at once; export it for one"
            )
        self._crops = 1 if batch == 1 else crops

    def estimate(self, images: Sequence[FrameBGR], boxes_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See :class:`vp3d_cli.detect.topdown.PoseEstimator`."""
        maps = [crop_transform(box, self._wh, _POSE_GROW_XY) for box in boxes_xyxy]
        keypoints, scores = [], []
        for start in range(0, len(images), self._crops):
            part = slice(start, start + self._crops)
            crops = np.stack(
                [extract_crop(image, m, self._wh) for image, m in zip(images[part], maps[part], strict=True)]
            )
            points, confidence = read_simcc(*self._distributions(crops))
            keypoints += [
                transform_points(invert_transform(m), p).astype(np.float32)
                for m, p in zip(maps[part], points, strict=True)
            ]
            scores.append(confidence)
        return np.stack(keypoints), np.concatenate(scores)

    def _distributions(self, crops: Any) -> tuple[FloatArray, FloatArray]:
        """Return distributions (N, 17, bins) over columns and over rows.

        With mirroring, they are averaged with those of the mirrored crops.
        """
        rgb = ((crops[..., ::-1] - _POSE_MEAN_RGB) / _POSE_STD_RGB).transpose(0, 3, 1, 2)
        columns, rows = self._checked(np.ascontiguousarray(rgb, np.float32))
        if self._flip:
            swap = list(COCO17.flip_order)
            mirrored, mirrored_rows = self._checked(np.ascontiguousarray(rgb[..., ::-1], np.float32))
            # Bin b lies b / 2 pixels right of the first pixel's centre, so the mirror takes b to 2 (width - 1) - b:
            # the last bin, right of the last pixel's centre, has no partner.
            partner = np.clip(int(_BINS_PER_PX) * (self._wh[0] - 1) - np.arange(columns.shape[-1]), 0, None)
            columns += mirrored[:, swap][..., partner]
            rows += mirrored_rows[:, swap]
            columns *= 0.5
            rows *= 0.5
        return columns, rows

    def _checked(self, images: FloatArray) -> tuple[FloatArray, FloatArray]:
        outputs = self._model.run(images)
        columns, rows = (outputs[place] for place in self._outputs)
        wanted = [(len(images), COCO17.num_joints, int(side * _BINS_PER_PX)) for side in self._wh]
        if [columns.shape, rows.shape] != wanted:
            raise WeightsError(
                f"weights {self._weights.name}: {self._weights.path} gives {columns.shape} and {rows.shape} instead "
                f"of {wanted[0]} and {wanted[1]}; vp3d needs a model of the 17 COCO keypoints"
            )
        return columns, rows


def load(
    device: str = "auto",
    *,
    model: str = "m",
    weights: str = "",
    boxes_weights: str = "rtmdet-nano",
    flip: bool = False,
    min_score: float = MIN_SCORE,
    crops: int = 16,
    threads: int = 0,
    precision: str = "auto",
) -> Detector:
    """Load RTMPose and RTMDet-nano.

    Args:
        device: see :func:`vp3d_cli.runtime.load.load_model`.
        model: ``s``, ``m`` or ``l``.
        weights: path of an ONNX file of RTMPose, or a name in the manifests, instead of OpenMMLab's ``model``.
        boxes_weights: the same for RTMDet.
        flip: average with the mirrored crop; twice the time.
        min_score: people whose box has less confidence are dropped.
        crops: people per run of RTMPose, where the file leaves that open.
        threads: CPU threads of one run; 0 takes all usable cores.
        precision: ``auto`` (bf16 on processors that compute it natively, else f32), ``f32`` or ``bf16``.

    Raises:
        ConfigError: an option is out of range.
        MissingDependencyError: no runtime is installed, or the device is not present.
        WeightsError: a weight file is missing, cannot be fetched, or is another kind of model.
    """
    if model not in MODELS:
        raise ConfigError(f"unknown model {model!r} of rtmpose; choose one of {', '.join(MODELS)}")
    if crops < 1 or threads < 0 or not 0 <= min_score <= 1:
        raise ConfigError(
            f"crops must be at least 1, threads at least 0 and min_score within 0 and 1, got {crops}, {threads} and "
            f"{min_score}"
        )
    finder = RtmDet(find_detector_weights(boxes_weights, _HINT), device, threads, precision, min_score)
    pose = find_detector_weights(weights or f"rtmpose-{model}", _HINT)
    estimator = RtmPoseEstimator(pose, device, threads, precision, flip=flip, crops=crops)
    return TopDownDetector("rtmpose", finder, estimator, batch_size=4)
