"""Lifter files: a safetensors file whose metadata holds architecture, input rule and origin.

Reading one needs numpy only; :func:`load_lifter_file` makes a torch network of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.runtime.devices import require_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FORMAT = "vp3d-lifter/1"
Task = Literal["pose", "trajectory"]
Storage = Literal["float32", "float16", "int8"]
State = dict[str, NDArray[Any]]  # parameters by name
# A matrix stored as int8 has a scale for each row, under its name and this suffix: largest value of the row / 127.
_SCALE = ".scale"
_INT8_MAX = 127


@dataclass(frozen=True)
class LifterInfo:
    """Metadata of a lifter file.

    Attributes:
        task: ``pose`` (17 root-relative joints) or ``trajectory`` (the root).
        architecture: name in :data:`vp3d_cli.plugins.ARCHITECTURES`.
        config: of the architecture.
        rule: how keypoints must be presented.
        licence: condition of use that comes from the training data.
        training: the whole configuration of the run, data and results.
        root: what a trajectory lifter predicts: ``scaled`` by the person's size in the image
            (:func:`vp3d_cli.lift.input_rule.decode_root`), or the root itself in ``metres``.
    """

    task: Task
    architecture: str
    config: Mapping[str, Any]
    rule: InputRule
    licence: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    root: Literal["scaled", "metres"] = "scaled"

    def as_metadata(self) -> dict[str, str]:
        """The texts in the file's metadata."""
        return {
            "format": FORMAT,
            "task": self.task,
            "architecture": self.architecture,
            "config": json.dumps(dict(self.config)),
            "input_rule": json.dumps(self.rule.as_dict()),
            "licence": self.licence,
            "training": json.dumps(dict(self.training)),
            "root": self.root,
        }


def save_lifter(path: Path, model: nn.Module, info: LifterInfo, *, storage: Storage = "float32") -> None:
    """Write a lifter file, whole or not at all.

    Args:
        path: target.
        model: the network; batch norm statistics included.
        info: what to say about it.
        storage: number format. ``float16`` takes half the space; ``int8`` a quarter: each row of a matrix has a scale,
            and vectors are float16.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: State = {}
    for name, tensor in model.state_dict().items():
        arrays |= _stored(name, np.array(tensor.detach().cpu().numpy(), order="C"), storage)
    with replacing(path, overwrite=True) as file:
        file.write(save(arrays, info.as_metadata()))


def read_lifter_info(path: Path) -> LifterInfo:
    """Read only the metadata of a lifter file.

    Raises:
        WeightsError: missing, or not a lifter file of this format.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a lifter file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: format is {metadata.get('format')!r}, this version of vp3d reads {FORMAT!r}")
    try:
        return _info(metadata, path)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise WeightsError(
            f"{path}: what it says about itself cannot be read ({type(error).__name__}: {error}); "
            "it may be of another version of vp3d"
        ) from error


def read_lifter_file(path: Path) -> tuple[State, LifterInfo]:
    """Read the parameters of a lifter as float32 arrays, and its metadata; needs no torch.

    Raises:
        WeightsError: not a lifter file.
    """
    info = read_lifter_info(path)
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _restored(arrays), info


def load_lifter_file(path: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, LifterInfo]:
    """Read a lifter file into a torch network in evaluation mode, float32.

    Raises:
        WeightsError: not a lifter file, or tensors that do not fit the architecture (the message names them).
        MissingDependencyError: torch is not installed.
    """
    require_torch(f"reading {path.name} as a torch network")
    import torch

    from vp3d_cli.lift.architectures import build_model

    state, info = read_lifter_file(path)
    with torch.device("meta"):  # no memory and no random numbers for parameters that the file brings
        model = build_model(info.architecture, info.config)
    load_state(model, {name: torch.from_numpy(array) for name, array in state.items()}, path)
    return model.to(device).eval(), info


def load_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a torch network, naming those that do not fit.

    Raises:
        WeightsError: names or shapes differ.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in state.items()}, path)
    model.load_state_dict(dict(state), assign=True)


def check_shapes(expected: Mapping[str, tuple[int, ...]], actual: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Check the names and shapes of parameters.

    Raises:
        WeightsError: they differ; the message names the first three.
    """
    wrong = [f"{name} missing" for name in expected if name not in actual]
    wrong += [f"{name} unexpected" for name in actual if name not in expected]
    wrong += [
        f"{name} is {actual[name]}, not {shape}"
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{path} does not fit the architecture: {'; '.join(wrong[:3])}{more}")


def _info(metadata: Mapping[str, str], path: Path) -> LifterInfo:
    task, root = metadata["task"], metadata.get("root", "scaled")
    if task not in ("pose", "trajectory"):
        raise WeightsError(f"{path}: unknown task {task!r}")
    if root not in ("scaled", "metres"):
        raise WeightsError(f"{path}: unknown kind of root {root!r}; it may be of another version of vp3d")
    return LifterInfo(
        task,  # type: ignore[arg-type]
        metadata["architecture"],
        dict(json.loads(metadata["config"])),
        InputRule.from_dict(json.loads(metadata["input_rule"])),
        metadata["licence"],
        json.loads(metadata["training"]),
        root,  # type: ignore[arg-type]
    )


def _stored(name: str, array: NDArray[Any], storage: Storage) -> State:
    if storage == "float32" or not np.issubdtype(array.dtype, np.floating):
        return {name: array}
    if storage == "float16" or array.ndim < 2:
        return {name: array.astype(np.float16)}
    largest = np.abs(array).reshape(len(array), -1).max(axis=1)
    scale = np.maximum(largest, np.finfo(np.float32).tiny) / np.float32(_INT8_MAX)
    return {name: np.round(array / _over_rows(scale, array)).astype(np.int8), name + _SCALE: scale}


def _restored(arrays: Mapping[str, NDArray[Any]]) -> State:
    state = {}
    for name, array in arrays.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in arrays:
            continue
        scale = arrays.get(name + _SCALE)
        if scale is not None:
            state[name] = array * _over_rows(scale, array)
        else:
            state[name] = array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array
    return state


def _over_rows(scale: NDArray[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    return scale.reshape(-1, *[1] * (matrix.ndim - 1))
