"""What a lifter network is, and the registry of architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.paper.networks.dense import DenseModel
from vp3d_cli.paper.networks.recurrent import RecurrentConfig, RecurrentModel
from vp3d_cli.paper.networks.simple import SimpleConfig, SimpleModel


class LifterConfig(Protocol):
    """Every architecture's configuration says what its network sees around a frame."""

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
        """What a checkpoint's metadata keeps."""


class LifterNetwork(Protocol):
    """A network from keypoints to joints."""

    config: LifterConfig

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, J, F) to (B, T - receptive_field + 1, out_joints, 3)."""

    def forward_strided(self, inputs: Tensor, stride: int | None = None) -> Tensor:
        """(B, receptive_field + n * stride, J, F) to (B, n + 1, out_joints, 3); one output if the stride is None."""


# One line per architecture: how to build the network from its configuration.
ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "temporal": lambda config: TemporalModel(TemporalConfig(**config)),
    "dense": lambda config: DenseModel(TemporalConfig(**config)),
    "simple": lambda config: SimpleModel(SimpleConfig(**config)),
    "recurrent": lambda config: RecurrentModel(RecurrentConfig(**config)),
}


def build_model(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh parameters.

    Raises:
        ConfigError: unknown architecture, or a configuration that does not fit it.
    """
    try:
        build = ARCHITECTURES[architecture]
    except KeyError:
        raise ConfigError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}") from None
    try:
        return build(config)
    except TypeError as error:
        raise ConfigError(f"architecture {architecture}: {error}") from error
