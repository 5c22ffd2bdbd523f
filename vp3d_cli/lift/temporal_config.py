"""The configuration of a temporal convolution network; needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.receptive_field import WindowConfig


@dataclass(frozen=True)
class TemporalConfig(WindowConfig):
    """Architecture of a temporal model.

    Attributes:
        widths: kernel width of each level; all odd. The receptive field is their product.
        channels: hidden channels.
        in_joints, in_features: joints of the 2D skeleton, and numbers per joint (2, or 3 with confidence).
        out_joints: joints predicted, three coordinates each (1 for a trajectory model).
        dropout: probability during training.
        causal: the output frame is the last of its receptive field instead of the middle one.
    """

    widths: tuple[int, ...] = (3, 3, 3)
    channels: int = 1024
    in_joints: int = 17
    in_features: int = 2
    out_joints: int = 17
    dropout: float = 0.25
    causal: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths or any(w < 1 or w % 2 == 0 for w in self.widths):
            raise ConfigError(f"widths must be odd and positive, got {self.widths}")
        super().__post_init__()

    @property
    def receptive_field(self) -> int:
        """Frames that one output sees."""
        return math.prod(self.widths)

    @property
    def strides(self) -> tuple[int, ...]:
        """Distances between outputs that the strided form takes: products of the widths of the first levels."""
        return tuple(math.prod(self.widths[:level]) for level in range(len(self.widths) + 1))

    @property
    def multiply_adds(self) -> int:
        """Multiplications for one frame of output, those for neighbouring frames shared."""
        c, (first, *further) = self.channels, self.widths
        inputs, outputs = self.in_joints * self.in_features, 3 * self.out_joints
        return c * inputs * first + sum(c * c * (width + 1) for width in further) + c * outputs
