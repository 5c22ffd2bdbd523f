"""Device names, and the torch device for networks that run on torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vp3d_cli.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps", "gpu", "npu")
INSTALL_TORCH = 'pip install "vp3d[train]"'


def check_device(device: str) -> None:
    """Check that this is the name of a device; whether the device is present is not checked.

    Raises:
        ConfigError: unknown name.
    """
    if device not in DEVICES:
        raise ConfigError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")


def require_torch(what: str) -> None:
    """Check that torch can be imported.

    Args:
        what: what needs torch, the subject of the message.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs torch, which is not installed; try: {INSTALL_TORCH}") from error


def torch_device(device: str) -> torch.device:
    """The torch device for a device name.

    Args:
        device: ``auto`` (CUDA if present, else the CPU), ``cpu``, ``cuda``, ``mps``, or ``gpu`` (CUDA or MPS).

    Raises:
        ConfigError: unknown name, or a device that torch does not support (``npu``).
        MissingDependencyError: torch is not installed, or the device is not present.
    """
    check_device(device)
    require_torch(f"--device {device} for this model")
    import torch

    if device == "npu":
        raise ConfigError("--device npu: this model runs on torch, which has no NPU; use --device cpu, or auto")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "cpu")
    if device == "gpu":
        device = "mps" if mps and not cuda else "cuda"
    if device == "cuda" and not cuda:
        raise MissingDependencyError("--device cuda: torch sees no CUDA GPU here; use --device cpu, or auto")
    if device == "mps" and not mps:
        raise MissingDependencyError("--device mps: torch sees no Apple GPU here; use --device cpu, or auto")
    return torch.device(device)


def count_nvidia_gpus() -> int:
    """Count the NVIDIA GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible.

    No CUDA library is loaded.
    """
    names = _nvidia_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        len(names) if visible is None else min(len(names), len([part for part in visible.split(",") if part.strip()]))
    )


def _nvidia_gpus() -> list[str]:
    folder = Path("/proc/driver/nvidia/gpus")
    if folder.is_dir():
        return [gpu.name for gpu in folder.iterdir()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.startswith("GPU ")] if done.returncode == 0 else []
