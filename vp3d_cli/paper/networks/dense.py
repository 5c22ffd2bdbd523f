"""Temporal network with dense instead of dilated convolutions, an ablation of the paper.

Its kernels span the same frames as the dilated ones, with many times the parameters (Pavllo et al. 2019, section 6.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vp3d_cli.lift.receptive_field import check_windows, flatten_features
from vp3d_cli.lift.temporal import TemporalConfig


class DenseModel(nn.Module):
    """Network of :class:`vp3d_cli.lift.temporal.TemporalModel` without dilation.

    Args:
        config: architecture of the dilated network.
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.expand_conv = nn.Conv1d(config.in_joints * config.in_features, c, config.widths[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(c)
        self.wide_convs, self.wide_norms = nn.ModuleList(), nn.ModuleList()
        self.narrow_convs, self.narrow_norms = nn.ModuleList(), nn.ModuleList()
        dilation = config.widths[0]
        for width in config.widths[1:]:
            self.wide_convs.append(nn.Conv1d(c, c, (width - 1) * dilation + 1, bias=False))
            self.narrow_convs.append(nn.Conv1d(c, c, 1, bias=False))
            self.wide_norms.append(nn.BatchNorm1d(c))
            self.narrow_norms.append(nn.BatchNorm1d(c))
            dilation *= width
        self.shrink = nn.Conv1d(c, config.out_joints * 3, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, in_joints, in_features) to (B, T - receptive_field + 1, out_joints, 3).

        Raises:
            ShapeError: there are too few frames, or wrong joints or features.
        """
        config = self.config
        x = flatten_features(inputs, config.in_joints, config.in_features, config.receptive_field).mT
        x = self._activate(self.expand_conv(x), self.expand_bn)
        layers = zip(self.wide_convs, self.wide_norms, self.narrow_convs, self.narrow_norms, strict=True)
        for wide, wide_norm, narrow, narrow_norm in layers:
            y = self._activate(wide(x), wide_norm)
            lost = x.shape[2] - y.shape[2]
            start = lost if config.causal else lost // 2
            x = self._activate(narrow(y), narrow_norm) + x[:, :, start : start + y.shape[2]]
        output: Tensor = self.shrink(x).mT
        return output.reshape(*output.shape[:2], config.out_joints, 3)

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(B, receptive_field + n * stride, ...) to (B, n + 1, out_joints, 3).

        Raises:
            ShapeError: the number of frames, joints or features is wrong.
        """
        stride = stride or self.config.receptive_field
        check_windows(inputs.shape[1], self.config.receptive_field, stride)
        return self.forward(inputs)[:, ::stride]

    def _activate(self, x: Tensor, norm: nn.Module) -> Tensor:
        return F.dropout(F.relu(norm(x)), self.config.dropout, self.training)


def build(config: Mapping[str, Any]) -> DenseModel:
    """Build the network from the configuration in a lifter file."""
    return DenseModel(TemporalConfig(**config))
