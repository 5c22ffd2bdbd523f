"""What lifter networks have in common: where in a window the output frame is, and what is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vp3d_cli.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WindowConfig(ABC):
    """What configurations have in common: checked sizes, and what the network sees around a frame.

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
