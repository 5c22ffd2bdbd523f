"""What a lifter network is, and how one is built by the name of its architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from vp3d_cli.errors import ConfigError
from vp3d_cli.plugins import ARCHITECTURES


class LifterConfig(Protocol):
    """Interface of an architecture's configuration: the receptive field of its network."""

    @property
    def receptive_field(self) -> int:
        """Frames that one output sees."""

    @property
    def frames_before(self) -> int:
        """Frames seen before the output frame."""

    @property
    def frames_after(self) -> int:
        """Frames seen after the output frame."""

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration for a checkpoint's metadata."""


class LifterNetwork(Protocol):
    """A network from keypoints to joints."""

    config: LifterConfig

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, J, F) to (B, T - receptive_field + 1, out_joints, 3)."""

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """Run the strided form.

        (B, receptive_field + n * stride, J, F) to (B, n + 1, out_joints, 3); one output if the stride is None.
        """


def build_model(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh parameters.

    Raises:
        ConfigError: unknown architecture, or a configuration that does not fit it.
    """
    build: Callable[[Mapping[str, Any]], nn.Module] = ARCHITECTURES.get(architecture)
    try:
        return build(config)
    except TypeError as error:
        raise ConfigError(f"architecture {architecture}: {error}") from error
