"""``--detector mask-rcnn-torchvision``: Keypoint R-CNN of torchvision, which needs no build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vp3d_cli.detect.base import Detector
from vp3d_cli.detect.detector_weights import find_detector_weights
from vp3d_cli.detect.torch_tools import read_checkpoint
from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.runtime.devices import torch_device
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, FrameBGR, Keypoints2D
from vp3d_cli.weights import sha256_of

MIN_SCORE = 0.3
SHORT_SIDE = 800  # torchvision trained with 640 to 800, and no side longer than 1333
_LONG_OVER_SHORT = 1333 / 800
MAX_PEOPLE = 100  # torchvision's own limit
# Detectron draws keypoints whose logit is above 2 (vis_one_image); clearly visible ones have 5 to 20.
_HALF_SURE = 2.0
_STEEPNESS = 0.5

_HINT = "give the path of a .pth file, or omit the option to download torchvision's weights"


def confidence(logits: FloatArray) -> FloatArray:
    """Convert torchvision's keypoint logits to confidence 0..1: 1 / (1 + exp(-(logit - 2) / 2)).

    The function is monotone; a logit of 2, from which on Detectron draws a keypoint, becomes 0.5.
    """
    steep = np.clip(_STEEPNESS * (logits.astype(np.float64) - _HALF_SURE), -60, 60)
    return (1 / (1 + np.exp(-steep))).astype(np.float32)


class TorchvisionDetector:
    """Keypoint R-CNN of torchvision."""

    name = "mask-rcnn-torchvision"

    def __init__(self, model: nn.Module, sha256: str, device: torch.device, batch_size: int) -> None:
        self.sha256 = sha256
        self.batch_size = batch_size
        self._model = model.to(device).eval()
        self._device = device

    def reset(self, frame: int = 0) -> None:
        """Do nothing: the detector has no state between frames."""

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find all people in each frame."""
        found: list[Keypoints2D] = []
        for start in range(0, len(frames), self.batch_size):
            images = [self._input(frame) for frame in frames[start : start + self.batch_size]]
            with torch.inference_mode():
                outputs = self._model(images)
            found += [_to_keypoints({name: t.cpu().numpy() for name, t in output.items()}) for output in outputs]
        return found

    def _input(self, frame: FrameBGR) -> torch.Tensor:
        """Convert an image to (3, H, W) RGB in 0..1."""
        rgb = np.ascontiguousarray(frame[:, :, ::-1].transpose(2, 0, 1))
        return torch.from_numpy(rgb).to(self._device).float() / 255


def _to_keypoints(output: dict[str, Any]) -> Keypoints2D:
    """Convert the model's output; all its detections are people."""
    return Keypoints2D(
        output["boxes"].astype(np.float32).reshape(-1, 4),
        output["keypoints"][..., :2].astype(np.float32).reshape(-1, 17, 2),
        confidence(output["keypoints_scores"].reshape(-1, COCO17.num_joints)),
        np.clip(output["scores"], 0, 1).astype(np.float32),
    )


def _published() -> tuple[Path, str]:
    """Path and hash of torchvision's own weights, downloaded by its hub and checked."""
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    published = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    try:
        published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        hint = "check the network, or give weights=FILE"
        raise WeightsError(f"cannot download {published.url} ({error}); {hint}") from error
    return path, sha256_of(path)


def load(
    device: str = "auto",
    *,
    weights: str = "",
    min_score: float = MIN_SCORE,
    batch: int = 0,
    short_side: int = SHORT_SIDE,
    max_people: int = MAX_PEOPLE,
) -> Detector:
    """Load torchvision's Keypoint R-CNN.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        weights: path of a ``.pth`` file, or name in the manifests; by default torchvision's own.
        min_score: people of lower confidence are dropped.
        batch: frames per run; 0 means 4 on a GPU and 1 on the CPU.
        short_side: shorter side of the network's input in pixels; smaller is faster and less accurate.
        max_people: largest number of people per frame; those of highest score are kept.

    Raises:
        ConfigError: an option is out of range.
        MissingDependencyError: torchvision or the device is not available.
        WeightsError: the weights are missing, cannot be downloaded or do not match the model.
    """
    if not 0 <= min_score <= 1 or batch < 0 or short_side < 64 or max_people < 1:
        raise ConfigError(
            "min_score must be within 0 and 1, batch at least 0, short_side at least 64 and max_people at least 1, "
            f"got {min_score}, {batch}, {short_side} and {max_people}"
        )
    on = torch_device(device)
    try:
        from torchvision.models.detection import keypointrcnn_resnet50_fpn
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise MissingDependencyError(
            f"torchvision is installed but does not load ({error}); install the one that fits this torch"
        ) from error
    if weights:
        entry = find_detector_weights(weights, _HINT)
        path, sha256 = entry.path, entry.sha256
    else:
        path, sha256 = _published()
    state, _ = read_checkpoint(path)
    model = keypointrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        num_keypoints=COCO17.num_joints,
        box_score_thresh=min_score,
        box_detections_per_img=max_people,
        min_size=short_side,
        max_size=round(short_side * _LONG_OVER_SHORT),
    )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path} does not hold a keypointrcnn_resnet50_fpn: {problem}") from error
    return TorchvisionDetector(model, sha256, on, batch or (4 if on.type == "cuda" else 1))
