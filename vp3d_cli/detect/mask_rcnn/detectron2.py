"""``--detector mask-rcnn``: Keypoint R-CNN of detectron2, the detector of VideoPose3D.

The network is described in section 5 of He et al. 2017. This module uses only detectron2's public interface: the model
zoo for configuration and weights, build_model and DetectionCheckpointer for the network, ResizeShortestEdge for its
input. detectron2 must be built from source; docs/detectors.md has the steps.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vp3d_cli.detect.base import Detector
from vp3d_cli.detect.detector_weights import find_detector_weights
from vp3d_cli.detect.torch_tools import few
from vp3d_cli.errors import ConfigError, MissingDependencyError, ShapeError, WeightsError
from vp3d_cli.runtime.devices import torch_device
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, FrameBGR, Keypoints2D
from vp3d_cli.weights import sha256_of

MODELS = {
    "R101": "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x.yaml",
    "R50": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml",
}
MIN_SCORE = 0.3
# The score is the peak of a softmax over 56 x 56 positions, so it rarely comes near 1. detectron2's Visualizer draws
# keypoints from this score on.
_HALF_SURE = 0.05

_HINT = "give the path of a .pkl or .pth file, or omit the option to download detectron2's weights"


def confidence(scores: FloatArray) -> FloatArray:
    """Convert detectron2's keypoint scores s to confidence 0..1: s / (s + 0.05).

    The function is monotone; 0 stays 0, and 0.05, from which on detectron2 draws a keypoint, becomes 0.5.
    """
    positive = np.maximum(scores, 0)
    return (positive / (positive + _HALF_SURE)).astype(np.float32)


def to_keypoints(instances: Any, where: str) -> Keypoints2D:
    """Convert detectron2's ``Instances`` (on the CPU) to keypoints.

    Raises:
        ShapeError: the model does not give 17 keypoints.
    """
    if not instances.has("pred_keypoints"):
        raise ShapeError(f"{where} gives no keypoints; use a keypoint_rcnn model")
    keypoints = instances.pred_keypoints.numpy().astype(np.float32)
    if keypoints.shape[1:] != (COCO17.num_joints, 3):
        raise ShapeError(f"{where} gives keypoints of shape {keypoints.shape}, expected (N, 17, 3): x, y, score")
    return Keypoints2D(
        instances.pred_boxes.tensor.numpy().astype(np.float32).reshape(-1, 4),
        keypoints[..., :2],
        confidence(keypoints[..., 2]),
        np.clip(instances.scores.numpy(), 0, 1).astype(np.float32),
    )


class MaskRcnnDetector:
    """Keypoint R-CNN of detectron2."""

    name = "mask-rcnn"

    def __init__(self, model: Any, resize: Any, colours: str, sha256: str, where: str, batch_size: int) -> None:
        """Take the model, its resizing, ``RGB`` or ``BGR``, hash, name for messages, frames per run."""
        self.sha256 = sha256
        self.batch_size = batch_size
        self._model = model
        self._resize = resize
        self._colours = colours
        self._where = where

    def reset(self, frame: int = 0) -> None:
        """Do nothing: the detector has no state between frames."""

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find all people in each frame."""
        found: list[Keypoints2D] = []
        for start in range(0, len(frames), self.batch_size):
            inputs = [self._input(frame) for frame in frames[start : start + self.batch_size]]
            with torch.inference_mode():
                outputs = self._model(inputs)
            found += [to_keypoints(output["instances"].to("cpu"), self._where) for output in outputs]
        return found

    def _input(self, frame: FrameBGR) -> dict[str, Any]:
        """Convert an image to the model's input format (detectron2's documentation, "Use Models")."""
        image = frame[:, :, ::-1] if self._colours == "RGB" else frame
        resized = self._resize.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(np.ascontiguousarray(resized.astype(np.float32).transpose(2, 0, 1)))
        return {"image": tensor, "height": frame.shape[0], "width": frame.shape[1]}


def _local_weights(weights: str, url: str) -> tuple[Path, str]:
    """Path and hash of the weights: the user's file, else that of the model zoo."""
    from detectron2.utils.file_io import PathManager

    if weights:
        entry = find_detector_weights(weights, _HINT)
        return entry.path, entry.sha256
    try:
        path = Path(PathManager.get_local_path(url))
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"cannot download {url} ({error}); check the network, or give weights=FILE") from error
    return path, sha256_of(path)


def load(
    device: str = "auto", *, model: str = "R101", weights: str = "", min_score: float = MIN_SCORE, batch: int = 0
) -> Detector:
    """Load detectron2's Keypoint R-CNN.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        model: ``R101``, as in the paper, or ``R50``.
        weights: path of a ``.pkl`` or ``.pth`` file, or name in the manifests; by default the model zoo's. detectron2
            unpickles a ``.pkl``, which can run code: use only files from sources that you trust.
        min_score: people of lower confidence are dropped.
        batch: frames per run; 0 means 4 on a GPU and 1 on the CPU.

    Raises:
        ConfigError: an option is out of range.
        MissingDependencyError: detectron2 or the device is not available.
        WeightsError: the weights are missing, cannot be downloaded or do not match the model.
    """
    if model not in MODELS:
        raise ConfigError(f"unknown model {model!r} of mask-rcnn; choose one of {', '.join(MODELS)}")
    if not 0 <= min_score <= 1 or batch < 0:
        raise ConfigError(f"min_score must be within 0 and 1 and batch at least 0, got {min_score} and {batch}")
    on = torch_device(device)
    try:
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.data.transforms import ResizeShortestEdge
        from detectron2.modeling import build_model
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"detectron2 is installed but does not load ({error}); build it again for this torch, see docs/detectors.md"
        ) from error
    path, sha256 = _local_weights(weights, model_zoo.get_checkpoint_url(MODELS[model]))
    config = get_cfg()
    config.merge_from_file(model_zoo.get_config_file(MODELS[model]))
    config.MODEL.DEVICE = str(on)
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min_score
    network = build_model(config).eval()
    where = f"detectron2's keypoint_rcnn {model}"
    _load(network, path, where)
    shortest = config.INPUT.MIN_SIZE_TEST
    resize = ResizeShortestEdge([shortest, shortest], config.INPUT.MAX_SIZE_TEST)
    batch_size = batch or (4 if on.type == "cuda" else 1)
    return MaskRcnnDetector(network, resize, config.INPUT.FORMAT, sha256, where, batch_size)


@torch.no_grad()
def _load(network: Any, path: Path, where: str) -> None:
    """Load a checkpoint and check that it sets every parameter.

    Raises:
        WeightsError: the file cannot be read, or does not set all parameters; the message names them.
    """
    from detectron2.checkpoint import DetectionCheckpointer

    for parameter in network.parameters():
        parameter.fill_(float("nan"))
    try:
        DetectionCheckpointer(network).load(str(path))
    except (AssertionError, OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} does not load as {where}: {error}") from error
    empty = [name for name, parameter in network.named_parameters() if bool(parameter.isnan().any())]
    if empty:
        raise WeightsError(f"{path} does not hold {where}: {few(empty)} missing or of another shape")
