"""Cascaded Pyramid Network (CPN) for pose estimation (Chen et al., CVPR 2018).

A ResNet gives features at four scales. GlobalNet (section 3.1 of the paper) converts them to a common width with
lateral 1x1 convolutions, adds to each the up-sampled coarser one, and predicts heat-maps at every scale. RefineNet
(section 3.2) applies more bottleneck blocks to coarser features, up-samples all to the finest scale, concatenates them
and predicts the final heat-maps. Heat-maps have a quarter of the input's size.

Parameter names are those of the community's PyTorch checkpoints, so that these can be loaded unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vp3d_cli.detect.torch_tools import few
from vp3d_cli.errors import WeightsError
from vp3d_cli.skeletons import COCO17

JOINTS = COCO17.num_joints
# Approximate standard deviation of a heat-map with a peak of 255. The scale of the last batch norm starts there; from 1
# it would take thousands of steps to grow.
_OUTPUT_SPREAD = 10.0
STRIDE = 4  # input pixels for each pixel of a heat-map
_EXPANSION = 4  # output width of a ResNet bottleneck over its inner width (He et al. 2016)
_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # He et al. 2016, table 1


@dataclass(frozen=True)
class CpnConfig:
    """Size of the network.

    Attributes:
        blocks: number of bottleneck blocks at each of the ResNet's four scales, fine to coarse.
        base: width of the ResNet's first layer; 64 in the paper.
        channels: width of GlobalNet and RefineNet; 256 in the paper.
    """

    blocks: tuple[int, int, int, int] = _BLOCKS[50]
    base: int = 64
    channels: int = 256

    @classmethod
    def resnet(cls, depth: int) -> CpnConfig:
        """Configuration of a published network of depth 50 or 101."""
        return cls(_BLOCKS[depth])

    @property
    def name(self) -> str:
        """``CPN50``, ``CPN101``, or a description of the sizes."""
        for depth, blocks in _BLOCKS.items():
            if self == CpnConfig(blocks):
                return f"CPN{depth}"
        return f"CPN of {self.blocks} blocks, base {self.base}, {self.channels} channels"

    @property
    def scales(self) -> tuple[int, int, int, int]:
        """Width of the ResNet's features at each scale, fine to coarse."""
        first = self.base * _EXPANSION
        return first, 2 * first, 4 * first, 8 * first


class Bottleneck(nn.Module):
    """ResNet bottleneck block with the stride in the 3x3 convolution (He et al. 2016)."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int = 1, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if project
            else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.relu(self.bn2(self.conv2(out)))
        shortcut = features if self.downsample is None else self.downsample(features)
        result: Tensor = self.relu(self.bn3(self.conv3(out)) + shortcut)
        return result


class ResNet(nn.Module):
    """ResNet backbone without the last pooling and the classifier."""

    def __init__(self, config: CpnConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, config.base, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        width = config.base
        for number, (count, outputs) in enumerate(zip(config.blocks, config.scales, strict=True), start=1):
            blocks = []
            for block in range(count):
                stride = 2 if number > 1 and block == 0 else 1
                project = block == 0
                blocks.append(Bottleneck(width, outputs // _EXPANSION, outputs, stride, project=project))
                width = outputs
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to features at 1/4, 1/8, 1/16 and 1/32 of the size."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        scales = []
        for number in range(1, 5):
            features = self.get_submodule(f"layer{number}")(features)
            scales.append(features)
        return scales


class _UpsampleTo(nn.Module):
    """Bilinear up-sampling with aligned corners to a size given at run time."""

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return nn.functional.interpolate(features, size=size, mode="bilinear", align_corners=True)


def _upsample() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class GlobalNet(nn.Module):
    """Feature pyramid; every list is ordered from coarse to fine."""

    def __init__(self, config: CpnConfig) -> None:
        super().__init__()
        width = config.channels
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for inputs in reversed(config.scales)
        )
        self.upsamples = nn.ModuleList(
            nn.Sequential(_upsample(), nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)) for _ in range(3)
        )
        # The up-sampling keeps index 4, so that the batch norm has index 5 as in the checkpoints.
        self.predict = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, JOINTS, 3, padding=1, bias=False),
                _UpsampleTo(),
                nn.BatchNorm2d(JOINTS),
            )
            for _ in range(4)
        )

    def forward(self, scales: list[Tensor]) -> list[Tensor]:
        """Features of the ResNet, fine to coarse, to features of one width, coarse to fine."""
        pyramid: list[Tensor] = []
        for level, features in enumerate(reversed(scales)):
            lateral = self.laterals[level](features)
            pyramid.append(lateral + self.upsamples[level - 1](pyramid[-1]) if pyramid else lateral)
        return pyramid

    def heatmaps(self, pyramid: list[Tensor]) -> list[Tensor]:
        """Heat-maps of each level, all at the finest level's size."""
        height, width = pyramid[-1].shape[2:]
        maps = []
        for head, features in zip(self.predict, pyramid, strict=True):
            squeeze, norm, relu, convolve, resize, last = head.children()
            maps.append(last(resize(convolve(relu(norm(squeeze(features)))), (height, width))))
        return maps


class RefineNet(nn.Module):
    """Refinement: more bottleneck blocks for coarser levels, then concatenation of all levels."""

    def __init__(self, config: CpnConfig) -> None:
        super().__init__()
        width = config.channels
        inner = width // 2
        self.cascade = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width, inner, width, project=True) for _ in range(3 - level)))
            for level in range(4)
        )
        self.resize = _UpsampleTo()
        self.final_predict = nn.Sequential(
            Bottleneck(4 * width, inner, width, project=True),
            nn.Conv2d(width, JOINTS, 3, padding=1, bias=False),
            nn.BatchNorm2d(JOINTS),
        )

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Features, coarse to fine, to heat-maps (N, 17, H / 4, W / 4)."""
        height, width = pyramid[-1].shape[2:]
        levels = [
            self.resize(blocks(features), (height, width))
            for blocks, features in zip(self.cascade, pyramid, strict=True)
        ]
        maps: Tensor = self.final_predict(torch.cat(levels, dim=1))
        return maps


class Cpn(nn.Module):
    """The whole network.

    Input: (N, 3, H, W) RGB in 0..1 minus the mean colour, H and W multiples of 32.
    """

    def __init__(self, config: CpnConfig) -> None:
        super().__init__()
        self.config = config
        self.resnet = ResNet(config)
        self.global_net = GlobalNet(config)
        self.refine_net = RefineNet(config)

    def initialise(self) -> None:
        """Initialize random weights for training (He et al. 2015)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        outputs = [*(head.get_submodule("5") for head in self.global_net.predict), self.refine_net.final_predict[-1]]
        for norm in outputs:
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.constant_(norm.weight, _OUTPUT_SPREAD)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """GlobalNet's heat-maps, coarse to fine, and RefineNet's: each (N, 17, H / 4, W / 4)."""
        pyramid = self.global_net(self.resnet(image))
        return self.global_net.heatmaps(pyramid), self.refine_net(pyramid)

    def heatmaps(self, image: Tensor) -> Tensor:
        """Heat-maps of RefineNet only, for detection."""
        maps: Tensor = self.refine_net(self.global_net(self.resnet(image)))
        return maps


def recognise(state: Mapping[str, Tensor]) -> CpnConfig:
    """Infer the size of a network from the names and shapes of its tensors.

    Raises:
        KeyError: a required tensor is missing.
    """
    found = (re.match(r"resnet\.layer([1-4])\.(\d+)\.conv1\.weight$", name) for name in state)
    layers = [(int(match[1]), int(match[2])) for match in found if match]
    counts = [max((block + 1 for layer, block in layers if layer == number), default=0) for number in range(1, 5)]
    base = state["resnet.conv1.weight"].shape[0]
    channels = state["global_net.laterals.0.0.weight"].shape[0]
    return CpnConfig((counts[0], counts[1], counts[2], counts[3]), base, channels)


def build_from_state(state: Mapping[str, Tensor], origin: Path) -> Cpn:
    """Build the network for a state dictionary, and load it.

    Args:
        state: tensors by name, without a ``module.`` prefix. The counters of batch norm may be missing, as in old
            checkpoints.
        origin: file, for error messages.

    Raises:
        WeightsError: the tensors are not those of a CPN; the message names missing, unexpected or misshapen ones.
    """
    try:
        config = recognise(state)
    except KeyError:
        config = CpnConfig()
    with torch.device("meta"):  # no memory for initial values: the file replaces them
        model = Cpn(config)
    expected = model.state_dict()
    counters = {name: torch.zeros((), dtype=torch.long) for name in expected if name.endswith("num_batches_tracked")}
    problems = {
        "missing": [name for name in expected if name not in state and name not in counters],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        details = "; ".join(f"{few(names)} {what}" for what, names in problems.items() if names)
        raise WeightsError(f"{origin} does not hold a {config.name}: {details}; give weights of a CPN")
    values = {name: t.float().contiguous() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict({**counters, **values}, assign=True)
    return model.eval()
