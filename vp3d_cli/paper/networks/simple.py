"""SimpleBaseline3D: fully connected network on single frames (Martinez et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vp3d_cli.lift.receptive_field import WindowConfig, flatten_features
from vp3d_cli.skeletons import COCO17, H36M17


@dataclass(frozen=True)
class SimpleConfig(WindowConfig):
    """Architecture of SimpleBaseline3D; the defaults are those of its paper.

    Attributes:
        channels: width of every hidden layer.
        blocks: residual blocks of two layers each.
        in_joints, in_features: joints of the 2D skeleton, and numbers per joint (2, or 3 with confidence).
        out_joints: joints predicted, three coordinates each (1 for a trajectory model).
        dropout: probability during training.
    """

    channels: int = 1024
    blocks: int = 2
    in_joints: int = COCO17.num_joints
    in_features: int = 2
    out_joints: int = H36M17.num_joints
    dropout: float = 0.5

    @property
    def receptive_field(self) -> int:
        """Frames that one output sees, always 1."""
        return 1


class SimpleModel(nn.Module):
    """Linear layers with batch norm, ReLU and dropout, and a residual connection over every two.

    The paper also limits the norm of the weights; batch norm removes their scale, so this network has no such limit.
    """

    def __init__(self, config: SimpleConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.first = _Layer(config.in_joints * config.in_features, c, config.dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(_Layer(c, c, config.dropout), _Layer(c, c, config.dropout)) for _ in range(config.blocks)
        )
        self.last = nn.Linear(c, config.out_joints * 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, in_joints, in_features) to (B, T, out_joints, 3).

        Raises:
            ShapeError: there are no frames, or wrong joints or features.
        """
        return self._run(flatten_features(inputs, self.config.in_joints, self.config.in_features, 1))

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(B, T, in_joints, in_features) to (B, ceil(T / stride), out_joints, 3).

        Raises:
            ShapeError: there are no frames, or wrong joints or features.
        """
        return self.forward(inputs[:, :: stride or 1])

    def _run(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        x = self.first(x.flatten(0, 1))
        for block in self.blocks:
            x = x + block(x)
        output: Tensor = self.last(x)
        return output.view(batch, frames, self.config.out_joints, 3)


class _Layer(nn.Module):
    """Linear, batch norm, ReLU, dropout on (N, channels)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(self.linear.weight)  # He et al. 2015, as in the paper
        self.norm = nn.BatchNorm1d(outputs)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(F.relu(self.norm(self.linear(x))), self.dropout, self.training)


def build(config: Mapping[str, Any]) -> SimpleModel:
    """Build the network from the configuration in a lifter file."""
    return SimpleModel(SimpleConfig(**config))
