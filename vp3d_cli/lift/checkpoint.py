"""Lifter files: a safetensors file whose metadata holds architecture, input rule and origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.input_rule import InputRule

FORMAT = "vp3d-lifter/1"
Task = Literal["pose", "trajectory"]
Storage = Literal["float32", "float16", "int8"]
# Of a matrix stored as int8, the largest number of each row is 127 of these; its name is the matrix's and this.
_SCALE = ".scale"
_INT8_MAX = 127


@dataclass(frozen=True)
class LifterInfo:
    """What a lifter file says about itself.

    Attributes:
        task: ``pose`` (17 root-relative joints) or ``trajectory`` (the root).
        architecture: name in :data:`vp3d_cli.plugins.ARCHITECTURES`.
        config: of the architecture.
        rule: how keypoints must be presented.
        licence: condition of use that comes from the training data.
        training: the whole configuration of the run, data and results.
        root: what a trajectory lifter answers: ``scaled`` by the person's size in the image
            (:func:`vp3d_cli.lift.input_rule.decode_root`), or the root itself in ``metres``.
    """

    task: Task
    architecture: str
    config: Mapping[str, Any]
    rule: InputRule
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    root: Literal["scaled", "metres"] = "scaled"


def save_lifter(path: Path, model: nn.Module, info: LifterInfo, *, storage: Storage = "float32") -> None:
    """Write a lifter file, whole or not at all.

    Args:
        path: target.
        model: the network; batch norm statistics included.
        info: what to say about it.
        storage: how numbers are stored. ``float16`` takes half the space; ``int8`` a quarter: every row of a matrix has
            a scale of its own, and what is no matrix is float16.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors |= _stored(name, tensor.detach().cpu().contiguous(), storage)
    metadata = {
        "format": FORMAT,
        "task": info.task,
        "architecture": info.architecture,
        "config": json.dumps(dict(info.config)),
        "input_rule": json.dumps(info.rule.as_dict()),
        "licence": info.licence,
        "training": json.dumps(dict(info.training)),
        "root": info.root,
    }
    with replacing(path, overwrite=True) as file:
        file.write(save(tensors, metadata))


def read_lifter_info(path: Path) -> LifterInfo:
    """Read only what a lifter file says about itself.

    Raises:
        WeightsError: missing, or not a lifter file of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a lifter file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: format is {metadata.get('format')!r}, this version of vp3d reads {FORMAT!r}")
    try:
        task = metadata["task"]
        if task not in ("pose", "trajectory"):
            raise WeightsError(f"{path}: unknown task {task!r}")
        root = metadata.get("root", "scaled")
        if root not in ("scaled", "metres"):
            raise WeightsError(f"{path}: unknown kind of root {root!r}; it may be of another version of vp3d")
        return LifterInfo(
            task,
            metadata["architecture"],
            dict(json.loads(metadata["config"])),
            InputRule.from_dict(json.loads(metadata["input_rule"])),
            metadata["licence"],
            json.loads(metadata["training"]),
            root,
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise WeightsError(
            f"{path}: what it says about itself cannot be read ({type(error).__name__}: {error}); "
            "it may be of another version of vp3d"
        ) from error


def load_lifter_file(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, LifterInfo]:
    """Read a lifter file into a network in evaluation mode, float32.

    Raises:
        WeightsError: not a lifter file, or tensors that do not fit the architecture (the message names them).
    """
    info = read_lifter_info(path)
    with torch.device("meta"):  # no memory and no random numbers for parameters that the file brings
        model = build_model(info.architecture, info.config)
    with safe_open(path, framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    load_state(model, _restored(tensors), path)
    return model.to(device).eval(), info


def _stored(name: str, tensor: Tensor, storage: Storage) -> dict[str, Tensor]:
    if storage == "float32" or not tensor.is_floating_point():
        return {name: tensor}
    if storage == "float16" or tensor.ndim < 2:
        return {name: tensor.half()}
    largest = tensor.abs().flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    scale = largest / _INT8_MAX
    return {name: (tensor / _over_rows(scale, tensor)).round().to(torch.int8), name + _SCALE: scale}


def _restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in tensors:
            continue
        scale = tensors.get(name + _SCALE)
        if scale is not None:
            state[name] = tensor * _over_rows(scale, tensor)
        else:
            state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _over_rows(scale: Tensor, matrix: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (matrix.ndim - 1))


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a network, naming those that do not fit.

    Raises:
        WeightsError: names or shapes differ.
    """
    expected = model.state_dict()
    wrong = [f"{name} missing" for name in expected if name not in state]
    wrong += [f"{name} unexpected" for name in state if name not in expected]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{path} does not fit the architecture: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(dict(state), assign=True)
