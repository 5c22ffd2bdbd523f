"""``--detector cpn``: Cascaded Pyramid Network on the boxes of another detector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.detect.cpn.heatmaps import read_keypoints
from vp3d_cli.detect.cpn.network import Cpn, build_from_state
from vp3d_cli.detect.crops import crop_transform, extract_crop, invert_transform, transform_points
from vp3d_cli.detect.detector_weights import find_detector_weights
from vp3d_cli.detect.topdown import TopDownDetector
from vp3d_cli.detect.torch_tools import read_checkpoint
from vp3d_cli.errors import ConfigError
from vp3d_cli.runtime.devices import torch_device
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, FrameBGR
from vp3d_cli.weights import WeightFile

# Input normalization and crop margins of the published checkpoints.
MEAN_RGB = (122.7717, 115.9465, 102.9801)
GROW_XY = (0.10, 0.15)  # of the person's box, on each side
SIZES = {"256x192": (192, 256), "384x288": (288, 384)}  # height x width, as in file names, to (width, height)
BORDER_BGR = tuple(round(value) for value in reversed(MEAN_RGB))  # becomes 0 after normalization

_HINT = "give them: --detector cpn:weights=CPN50_384x288.pth.tar, or vp3d weights add FILE --name cpn --kind detector"


def to_input(crops: NDArray[np.uint8]) -> Tensor:
    """Convert crops (N, H, W, 3) BGR to input (N, 3, H, W): RGB in 0..1 minus the mean."""
    rgb = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1].transpose(0, 3, 1, 2)))
    return (rgb.float() - torch.tensor(MEAN_RGB).view(1, 3, 1, 1)) / 255


def choose_size(size: str, weights: WeightFile, metadata: dict[str, str]) -> str:
    """Choose the input size of the network: from the option, the file's metadata or its name.

    Raises:
        ConfigError: the size is unknown, or not given; the tensors are the same for all sizes.
    """
    named = re.search(r"(256x192|384x288)", f"{weights.name} {weights.path.name} {Path(weights.source).name}")
    chosen = size or metadata.get("input_size", "") or (named[1] if named else "")
    if not chosen:
        raise ConfigError(
            f"{weights.path} does not say the size of its input; add size={' or size='.join(SIZES)} to the detector"
        )
    if chosen not in SIZES:
        raise ConfigError(f"unknown input size {chosen!r} of cpn; choose one of {', '.join(SIZES)}")
    return chosen


class CpnEstimator:
    """Pose network that estimates the keypoints of one person in each image."""

    def __init__(
        self, model: Cpn, input_wh: tuple[int, int], sha256: str, device: torch.device, *, flip: bool, crops: int
    ) -> None:
        self.sha256 = sha256
        self._model = model.to(device).eval()
        self._input_wh = input_wh
        self._device = device
        self._flip = flip
        self._crops = crops

    def estimate(self, images: Sequence[FrameBGR], boxes_xyxy: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See :class:`vp3d_cli.detect.topdown.PoseEstimator`."""
        keypoints, scores = [], []
        for start in range(0, len(images), self._crops):
            boxes = boxes_xyxy[start : start + self._crops]
            maps = [crop_transform(box, self._input_wh, GROW_XY) for box in boxes]
            crops = [
                extract_crop(image, matrix, self._input_wh, BORDER_BGR)
                for image, matrix in zip(images[start : start + self._crops], maps, strict=True)
            ]
            points, confidence = read_keypoints(self._heatmaps(to_input(np.stack(crops))))
            keypoints += [
                transform_points(invert_transform(m), p).astype(np.float32) for m, p in zip(maps, points, strict=True)
            ]
            scores.append(confidence)
        return np.stack(keypoints), np.concatenate(scores)

    @torch.inference_mode()
    def _heatmaps(self, crops: Tensor) -> FloatArray:
        """Heat-maps (N, 17, H / 4, W / 4), averaged with those of the mirrored crops if ``flip``."""
        crops = crops.to(self._device)
        maps = self._model.heatmaps(crops)
        if self._flip:
            mirrored = self._model.heatmaps(crops.flip(-1)).flip(-1)
            maps = (maps + mirrored[:, list(COCO17.flip_order)]) / 2
        result: FloatArray = maps.float().cpu().numpy()
        return result


def load(
    device: str = "auto",
    *,
    weights: str = "cpn",
    boxes: str = "movenet",
    boxes_weights: str = "",
    size: str = "",
    flip: bool = True,
    crops: int = 16,
) -> Detector:
    """Load a Cascaded Pyramid Network with ResNet-50 or -101, as in the checkpoint.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        weights: path of a checkpoint, or name in the manifests of weights.
        boxes: detector that gives the boxes.
        boxes_weights: ``weights`` option of that detector.
        size: height x width of the input, ``256x192`` or ``384x288``; by default from the file or its name.
        flip: average with the mirrored crop; twice the time.
        crops: people per run of the network.

    Raises:
        ConfigError: an option is out of range, or the input size is unknown.
        MissingDependencyError: CUDA was requested but is not available, or the other detector cannot be loaded.
        WeightsError: the weights do not exist or are not those of a CPN.
    """
    if crops < 1:
        raise ConfigError(f"crops must be at least 1, got {crops}")
    if boxes == "cpn":
        raise ConfigError("boxes=cpn: cpn needs the boxes of another detector, such as boxes=movenet")
    on = torch_device(device)
    entry = find_detector_weights(weights, _HINT)
    state, metadata = read_checkpoint(entry.path)
    model = build_from_state(state, entry.path)
    input_wh = SIZES[choose_size(size, entry, metadata)]
    finder = load_detector(boxes, device, **({"weights": boxes_weights} if boxes_weights else {}))
    estimator = CpnEstimator(model, input_wh, entry.sha256, on, flip=flip, crops=crops)
    return TopDownDetector("cpn", finder, estimator, batch_size=max(4, finder.batch_size))
