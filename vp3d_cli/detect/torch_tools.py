"""What the detectors that run on torch share: reading checkpoints safely."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vp3d_cli.errors import WeightsError


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the metadata of the file.

    Takes safetensors, and torch files that hold the tensors themselves or a dict with ``state_dict``, with or without
    the prefix ``module.`` of DataParallel. Nothing but tensors and plain values is unpickled.

    Raises:
        WeightsError: not such a file.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is not a checkpoint of torch or safetensors that can be read ({reason})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no tensors by name, nor a dict with state_dict; give another file")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}, {}


def few(names: list[str], count: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
