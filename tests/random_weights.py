"""Files of random weights, for detectors whose real ones cannot ship."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from vp3d_cli.detect.cpn.network import Cpn, CpnConfig


def save_small_cpn(path: Path, size: str = "256x192") -> Path:
    """A small Cascaded Pyramid Network, as training writes it."""
    torch.manual_seed(7)
    model = Cpn(CpnConfig((1, 1, 1, 1), base=8, channels=16))
    model.initialise()
    save_file(model.state_dict(), path, {"input_size": size})
    return path


def save_keypoint_rcnn(path: Path) -> Path:
    """torchvision's Keypoint R-CNN with a classifier that finds people everywhere; needs torchvision."""
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    torch.manual_seed(3)
    model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, num_keypoints=17)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[:] = torch.tensor([-1.0, 1.0])
    torch.save(model.state_dict(), path)
    return path
