"""Where networks that run on torch are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vp3d_cli.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> None:
    """See whether there is a device of this name anywhere.

    Raises:
        ConfigError: there is none.
    """
    if device not in DEVICES:
        raise ConfigError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")


def torch_device(device: str) -> torch.device:
    """The device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: it has another name.
        MissingDependencyError: ``cuda`` was asked for and is not there.
    """
    import torch  # here, because looking at a name should not take long

    check_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError("--device cuda: torch sees no CUDA GPU here; use --device cpu, or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
