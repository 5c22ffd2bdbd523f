"""The dilated temporal convolution network of VideoPose3D.

Source: Pavllo et al. 2019, section 3 and figure 2.

One set of parameters, two ways to run it, equal to rounding error:

- :meth:`TemporalModel.forward`: dilated convolutions over a whole sequence, one output per frame that has its full
  receptive field. Every intermediate result is shared between neighbouring frames.
- :meth:`TemporalModel.forward_strided`: strided convolutions, for outputs that are many frames apart: one per window
  of one receptive field, or several per longer window. No intermediate result is computed that no output needs: right
  for training on shuffled windows.

For inference, :mod:`vp3d_cli.lift.onnx_export` writes the dilated form as an ONNX model, batch norm folded in.

Every convolution is written as one matrix product over (frames, channels), the layout in which a linear algebra
library is fastest on a CPU and no slower on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.lift.receptive_field import TemporalConfig as TemporalConfig
from vp3d_cli.lift.receptive_field import check_windows, flatten_features


class TemporalModel(nn.Module):
    """The network with its batch norms, for training and for loading published checkpoints.

    Parameter names are those of the official VideoPose3D checkpoints (``expand_conv``, ``expand_bn``,
    ``layers_conv.N``, ``layers_bn.N``, ``shrink``).
    """

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.expand_conv = nn.Conv1d(config.in_joints * config.in_features, c, config.widths[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(c)
        convs: list[nn.Module] = []
        dilation = config.widths[0]
        for width in config.widths[1:]:
            convs += [nn.Conv1d(c, c, width, dilation=dilation, bias=False), nn.Conv1d(c, c, 1, bias=False)]
            dilation *= width
        self.layers_conv = nn.ModuleList(convs)
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(c) for _ in convs)
        self.shrink = nn.Conv1d(c, config.out_joints * 3, 1)

    def set_batch_norm_momentum(self, momentum: float) -> None:
        """Set the momentum of every batch norm.

        The paper decays it from 0.1 to 0.001 while training.
        """
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = momentum

    def forward(self, inputs: Tensor) -> Tensor:
        """Dilated form.

        Args:
            inputs: (B, T, in_joints, in_features), T at least the receptive field.

        Returns:
            (B, T - receptive_field + 1, out_joints, 3).

        Raises:
            ShapeError: too few frames, or the wrong joints or features.
        """
        return self._run(self._flatten(inputs), 1)

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """Run the strided form: outputs ``stride`` frames apart.

        No intermediate result is computed that no output needs.

        Levels that end within the stride are strided; those above share their inputs between the outputs and are
        dilated. The dilated form is that of stride 1.

        Args:
            inputs: (B, T, in_joints, in_features), T a receptive field and any number of strides.
            stride: frames between outputs: the product of the widths of the first levels, of none (1) up to all (the
                receptive field, if None).

        Returns:
            (B, (T - receptive_field) / stride + 1, out_joints, 3).

        Raises:
            ShapeError: another T or stride, or the wrong joints or features.
        """
        field = self.config.receptive_field
        stride = field if stride is None else stride
        if stride not in self.config.strides:
            raise ShapeError(f"the stride must be one of {', '.join(map(str, self.config.strides))}, got {stride}")
        x = self._flatten(inputs)
        check_windows(x.shape[1], field, stride)
        return self._run(x, stride)

    def _run(self, x: Tensor, stride: int) -> Tensor:
        """Map (B, T, in_joints * in_features) to outputs that are ``stride`` frames apart."""
        apart, dilation = 1, 1  # frames between neighbours in x; neighbours between the taps of the next level
        for level, width in enumerate(self.config.widths):
            weight = self._weight(2 * level - 2) if level else self.expand_conv.weight
            if apart * width <= stride:
                mixed, residual = _strided(x, weight), x[:, (width - 1 if self.config.causal else width // 2) :: width]
                apart *= width
            else:
                mixed, residual = _dilated(x, weight, dilation), _trim(x, width, dilation, self.config.causal)
                dilation *= width
            x = self._block(level - 1, mixed) + residual if level else self._activate(mixed, self.expand_bn)
        return self._shrink(x)

    def _flatten(self, inputs: Tensor) -> Tensor:
        config = self.config
        return flatten_features(inputs, config.in_joints, config.in_features, config.receptive_field)

    def _block(self, i: int, x: Tensor) -> Tensor:
        x = self._activate(x, self.layers_bn[2 * i])
        return self._activate(_dilated(x, self._weight(2 * i + 1), 1), self.layers_bn[2 * i + 1])

    def _weight(self, i: int) -> Tensor:
        conv = self.layers_conv[i]
        assert isinstance(conv, nn.Conv1d)
        return conv.weight

    def _activate(self, x: Tensor, norm: nn.Module) -> Tensor:
        x = norm(x.flatten(0, 1)).view(x.shape)
        return F.dropout(F.relu(x), self.config.dropout, self.training)

    def _shrink(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.shrink.weight[..., 0], self.shrink.bias)
        return x.reshape(*x.shape[:2], self.config.out_joints, 3)


def _matrix(weight: Tensor) -> Tensor:
    """Reshape (out, in, width) convolution weights to the (width * in, out) matrix."""
    return weight.permute(2, 1, 0).reshape(-1, weight.shape[0])


def _windows(x: Tensor, width: int, dilation: int) -> Tensor:
    """Gather the frames that each output sees, side by side.

    (B, T, C) to (B, T - (width - 1) * dilation, width * C).
    """
    if width == 1:
        return x
    length = x.shape[1] - (width - 1) * dilation
    return torch.cat([x[:, i * dilation : i * dilation + length] for i in range(width)], dim=-1)


def _dilated(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return _windows(x, weight.shape[2], dilation) @ _matrix(weight)


def _strided(x: Tensor, weight: Tensor) -> Tensor:
    width = weight.shape[2]
    return x.reshape(x.shape[0], x.shape[1] // width, width * x.shape[2]) @ _matrix(weight)


def _trim(x: Tensor, width: int, dilation: int, causal: bool) -> Tensor:
    """Return the residual: the input frames that the outputs stand for.

    These are the middle frames, or the last ones if causal.
    """
    lost = (width - 1) * dilation
    start = lost if causal else lost // 2
    return x[:, start : start + x.shape[1] - lost]


def pad_edges(sequence: Tensor, config: TemporalConfig) -> Tensor:
    """Repeat the first and last frame of (B, T, ...).

    The model then gives one output per frame.
    """
    before = sequence[:, :1].expand(-1, config.frames_before, *sequence.shape[2:])
    after = sequence[:, -1:].expand(-1, config.frames_after, *sequence.shape[2:])
    return torch.cat([before, sequence, after], dim=1)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def widths_for(receptive_field: int) -> Sequence[int]:
    """Kernel widths of 3 for a receptive field that is a power of three.

    Raises:
        ConfigError: it is not.
    """
    widths: list[int] = []
    rest = receptive_field
    while rest > 1 and rest % 3 == 0:
        widths.append(3)
        rest //= 3
    if rest != 1:
        raise ConfigError(f"receptive field must be a power of three (1, 3, 9, 27, 81, 243), got {receptive_field}")
    return widths or [1]


def build(config: Mapping[str, Any]) -> TemporalModel:
    """Build the network from the configuration in a lifter file."""
    return TemporalModel(TemporalConfig(**config))
