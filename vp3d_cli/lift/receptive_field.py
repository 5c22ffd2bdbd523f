"""Window sizes of lifter networks, and the configuration of the temporal one; needs no torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.skeletons import COCO17, H36M17

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WindowConfig(ABC):
    """Base of the configurations: checked sizes, and the frames that one output sees.

    Raises:
        ConfigError: a size below 1, or a dropout outside [0, 1).
    """

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is int and value < 1:  # flags are int, too
                raise ConfigError(f"{name} must be at least 1, got {value}")
            if name == "dropout" and not 0 <= value < 1:
                raise ConfigError(f"dropout must be in [0, 1), got {value}")

    @property
    @abstractmethod
    def receptive_field(self) -> int:
        """Frames that one output sees."""

    @property
    def causal(self) -> bool:
        """Whether the output frame is the last of its receptive field instead of the middle one."""
        return False

    @property
    def frames_before(self) -> int:
        """Frames of the receptive field before the output frame."""
        return self.receptive_field - 1 if self.causal else (self.receptive_field - 1) // 2

    @property
    def frames_after(self) -> int:
        """Frames of the receptive field after the output frame; 0 for a causal model."""
        return self.receptive_field - 1 - self.frames_before

    def as_dict(self) -> dict[str, Any]:
        """What a checkpoint's metadata keeps."""
        return asdict(self)


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
    in_joints: int = COCO17.num_joints
    in_features: int = 2
    out_joints: int = H36M17.num_joints
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


def flatten_features(inputs: Tensor, joints: int, features: int, frames: int) -> Tensor:
    """(B, T, joints, features) to (B, T, joints * features), checked.

    Args:
        inputs: keypoints as the input rule presents them.
        joints, features: that the network was built for.
        frames: its receptive field, which T must reach.

    Raises:
        ShapeError: too few frames, or the wrong joints or features.
    """
    if inputs.ndim != 4 or inputs.shape[2:] != (joints, features):
        raise ShapeError(f"inputs must be (B, T, {joints}, {features}), got {tuple(inputs.shape)}")
    if inputs.shape[1] < frames:
        raise ShapeError(f"inputs must have at least {frames} frames, the receptive field, got {inputs.shape[1]}")
    return inputs.flatten(2)


def check_windows(frames: int, field: int, stride: int) -> None:
    """Check that windows end with the receptive field of their last output.

    Raises:
        ShapeError: they do not.
    """
    if (frames - field) % stride:
        raise ShapeError(
            f"windows must have {field} frames, the receptive field, and any number of {stride} more, got {frames}"
        )
