"""What every lifter network checks before it starts."""

from __future__ import annotations

from torch import Tensor

from vp3d_cli.errors import ConfigError, ShapeError


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


def check_sizes(dropout: float, **sizes: int) -> None:
    """Check what configurations have in common.

    Raises:
        ConfigError: a size below 1, or a dropout outside [0, 1).
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be at least 1, got {size}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout must be in [0, 1), got {dropout}")
