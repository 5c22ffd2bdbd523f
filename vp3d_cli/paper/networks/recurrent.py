"""Recurrent network: gated recurrent units (Cho et al. 2014) over windows.

Every output is predicted from its own window of ``frames`` frames, so that inference on long videos equals training.
Unlike convolutions, the frames of a window are processed sequentially.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vp3d_cli.lift.receptive_field import WindowConfig, check_windows, flatten_features
from vp3d_cli.skeletons import COCO17, H36M17

# Windows per forward pass: bounds the states in memory to about 100 MB for 81 frames and twice 512 units.
_WINDOWS_AT_ONCE = 256


@dataclass(frozen=True)
class RecurrentConfig(WindowConfig):
    """Architecture of a recurrent model.

    Attributes:
        frames: frames of a window, the receptive field.
        channels: hidden units per direction.
        layers: number of recurrent layers.
        in_joints, in_features: joints of the 2D skeleton, and numbers per joint (2, or 3 with confidence).
        out_joints: joints predicted, three coordinates each (1 for a trajectory model).
        dropout: probability during training, after each layer.
        causal: forward in time only, with the last frame of the window as output; else both ways, with the middle one.
    """

    frames: int = 27
    channels: int = 512
    layers: int = 2
    in_joints: int = COCO17.num_joints
    in_features: int = 2
    out_joints: int = H36M17.num_joints
    dropout: float = 0.25
    causal: bool = False

    @property
    def receptive_field(self) -> int:
        """Frames that one output sees."""
        return self.frames


class RecurrentModel(nn.Module):
    """Gated recurrent units in both directions (one if causal), then a linear layer.

    The two directions of the top layer start at the first and the last frame of the window and end at the output frame,
    because no other state of it is used.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        features, directions = config.in_joints * config.in_features, 1 if config.causal else 2
        self.lower: nn.GRU | None = None
        if config.layers > 1:
            self.lower = nn.GRU(
                features,
                config.channels,
                config.layers - 1,
                batch_first=True,
                dropout=config.dropout if config.layers > 2 else 0.0,
                bidirectional=not config.causal,
            )
            features = config.channels * directions
        self.past = nn.GRU(features, config.channels, batch_first=True)
        self.future = None if config.causal else nn.GRU(features, config.channels, batch_first=True)
        self.last = nn.Linear(config.channels * directions, config.out_joints * 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, in_joints, in_features) to (B, T - frames + 1, out_joints, 3).

        Raises:
            ShapeError: there are too few frames, or wrong joints or features.
        """
        return self.forward_strided(inputs, 1)

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(B, T, in_joints, in_features) to (B, (T - frames) / stride + 1, out_joints, 3).

        Args:
            inputs: windows, with T = frames + n * stride.
            stride: frames between outputs; a whole window if None.

        Raises:
            ShapeError: T, the joints or the features are wrong.
        """
        config = self.config
        stride = config.frames if stride is None else stride
        x = flatten_features(inputs, config.in_joints, config.in_features, config.frames)
        check_windows(x.shape[1], config.frames, stride)
        windows = x.unfold(1, config.frames, stride).mT  # (B, outputs, frames, features), a view
        batch = len(windows)
        parts = [
            self._run(part.flatten(0, 1)).view(batch, -1, config.out_joints, 3)
            for part in torch.split(windows, max(1, _WINDOWS_AT_ONCE // batch), dim=1)
        ]
        return torch.cat(parts, dim=1)

    def _run(self, windows: Tensor) -> Tensor:
        """(N, frames, features) to (N, out_joints * 3)."""
        dropout, output = self.config.dropout, self.config.frames_before
        x = windows
        if self.lower is not None:
            x = F.dropout(self.lower(x)[0], dropout, self.training)
        state = _final_state(self.past, x[:, : output + 1])
        if self.future is not None:
            state = torch.cat([state, _final_state(self.future, x[:, output:].flip(1))], dim=1)
        joints: Tensor = self.last(F.dropout(state, dropout, self.training))
        return joints


def _final_state(units: nn.GRU, x: Tensor) -> Tensor:
    """(N, frames, features) to (N, channels): state of a layer after the last frame."""
    state: Tensor = units(x)[1][0]
    return state


def build(config: Mapping[str, Any]) -> RecurrentModel:
    """Build the network from the configuration in a lifter file."""
    return RecurrentModel(RecurrentConfig(**config))
