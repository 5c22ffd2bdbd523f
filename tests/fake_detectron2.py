"""A stand-in for detectron2 with the part of its public interface that vp3d uses.

Its model knows two people: their keypoints lie at fixed shares of the picture that it is given, so that a test can
tell whether sizes, colours and scores arrived as they should.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

ZOO_URL = "https://zoo.example/{}/model_final.pkl"


class CfgNode(SimpleNamespace):
    """Attributes in a tree, as yacs has them."""

    def merge_from_file(self, path: str) -> None:
        self.merged = path


def get_cfg() -> CfgNode:
    return CfgNode(
        MODEL=CfgNode(DEVICE="cuda", ROI_HEADS=CfgNode(SCORE_THRESH_TEST=0.05)),
        INPUT=CfgNode(FORMAT="BGR", MIN_SIZE_TEST=100, MAX_SIZE_TEST=200),
    )


class Instances:
    """People in one image; fields on a device."""

    def __init__(self, size_hw: tuple[int, int], **fields: Any) -> None:
        self.image_size = size_hw
        self._fields = fields

    def has(self, name: str) -> bool:
        return name in self._fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(name)
        return self._fields[name]

    def to(self, device: str) -> Instances:
        assert device == "cpu"
        return self


class ResizeShortestEdge:
    """To the shortest edge, but no longer than ``max_size``."""

    def __init__(self, short_edge_length: list[int], max_size: int) -> None:
        assert short_edge_length[0] == short_edge_length[1]
        self.shortest, self.longest = short_edge_length[0], max_size

    def get_transform(self, image: np.ndarray) -> Any:
        height, width = image.shape[:2]
        scale = min(self.shortest / min(height, width), self.longest / max(height, width))
        rows = np.linspace(0, height - 1, round(height * scale)).astype(int)
        columns = np.linspace(0, width - 1, round(width * scale)).astype(int)
        return SimpleNamespace(apply_image=lambda picture: picture[rows][:, columns])


class KeypointRcnn(nn.Module):
    """Sees two people wherever there is anything but black."""

    seen: list[dict[str, Any]]

    def __init__(self, config: CfgNode) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(2, 2)
        self.seen = []
        self.batches: list[int] = []

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        assert not self.training
        self.seen += inputs
        self.batches.append(len(inputs))
        return [{"instances": self._people(one)} for one in inputs]

    def _people(self, one: dict[str, Any]) -> Instances:
        assert one["image"].dtype == torch.float32
        assert one["image"].shape[0] == 3
        size = torch.tensor([one["width"], one["height"]], dtype=torch.float32)
        wanted = self.config.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        scores = torch.tensor([0.98, 0.5, 0.1])
        scores = scores[scores > wanted] if one["image"].abs().max() > 0 else scores[:0]
        count = len(scores)
        shares = torch.linspace(0.1, 0.9, 17)[None, :, None].expand(count, 17, 2)
        strength = torch.linspace(0, 1, 17)[None, :, None].expand(count, 17, 1)
        keypoints = torch.cat([shares * size, strength], dim=2)
        boxes = torch.tensor([0.05, 0.05, 0.95, 0.95]).expand(count, 4) * size.repeat(2)
        fields = {"pred_boxes": SimpleNamespace(tensor=boxes), "scores": scores, "pred_classes": torch.zeros(count)}
        if self.config.merged.startswith("COCO-Keypoints"):
            fields["pred_keypoints"] = keypoints
        return Instances((one["height"], one["width"]), **fields)


class DetectionCheckpointer:
    """Loads what fits, and only that, without a word: detectron2 logs the rest."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def load(self, path: str) -> dict[str, Any]:
        if path.endswith(".pkl"):
            content = pickle.loads(Path(path).read_bytes())
            tensors = {name: torch.as_tensor(value) for name, value in content["model"].items()}
        else:
            tensors = torch.load(path, weights_only=True)["model"]
        own = self.model.state_dict()
        self.model.load_state_dict({**own, **{k: v for k, v in tensors.items() if k in own}})
        return {}


def weights(**changes: Any) -> dict[str, Any]:
    """What a file of the model zoo holds."""
    tensors = {"head.weight": np.ones((2, 2), np.float32), "head.bias": np.ones(2, np.float32), **changes}
    return {"model": {k: v for k, v in tensors.items() if v is not None}, "__author__": "Detectron2 Model Zoo"}


def install(monkeypatch: pytest.MonkeyPatch, zoo: Path | None) -> list[KeypointRcnn]:
    """Put the stand-in in place of detectron2.

    Args:
        monkeypatch: undoes it.
        zoo: the file that any URL of the model zoo gives; None where the network is down.

    Returns:
        The models that will have been built.
    """
    built: list[KeypointRcnn] = []

    def build_model(config: CfgNode) -> KeypointRcnn:
        built.append(KeypointRcnn(config))
        return built[-1]

    def get_local_path(url: str) -> str:
        if zoo is None or not url.startswith("https://zoo.example/COCO-Keypoints/keypoint_rcnn_R_"):
            raise OSError(f"no route to {url}")
        return str(zoo)

    def module(name: str, **members: Any) -> None:
        new = ModuleType(name)
        new.__spec__ = SimpleNamespace(name=name)  # type: ignore[assignment]  # find_spec() looks at it
        new.__path__ = []  # type: ignore[attr-defined]
        vars(new).update(members)
        monkeypatch.setitem(sys.modules, name, new)

    zoo_members = {"get_config_file": lambda path: path, "get_checkpoint_url": ZOO_URL.format}
    module("detectron2.model_zoo", **zoo_members)
    module("detectron2", model_zoo=sys.modules["detectron2.model_zoo"])
    module("detectron2.config", get_cfg=get_cfg)
    module("detectron2.modeling", build_model=build_model)
    module("detectron2.checkpoint", DetectionCheckpointer=DetectionCheckpointer)
    module("detectron2.data")
    module("detectron2.data.transforms", ResizeShortestEdge=ResizeShortestEdge)
    module("detectron2.utils")
    module("detectron2.utils.file_io", PathManager=SimpleNamespace(get_local_path=get_local_path))
    return built
