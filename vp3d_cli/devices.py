"""Where networks that run on torch are computed."""

from __future__ import annotations

import torch

from vp3d_cli.errors import MissingDependencyError


def torch_device(device: str) -> torch.device:
    """The device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        MissingDependencyError: ``cuda`` was asked for and is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError("--device cuda: torch sees no CUDA GPU here; use --device cpu, or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
