"""Safe reading and writing of VideoPose3D's checkpoints (``.bin``).

A checkpoint is a dict pickled by ``torch.save``: ``model_pos`` and, from semi-supervised training, ``model_traj`` hold
tensors. Its optimizer and numpy RandomStates are ignored, and nothing in the file is executed.
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.restricted_pickle import Guarded, Refused
from vp3d_cli.lift.checkpoint import LifterInfo, Task, load_lifter_file, load_state, save_lifter
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.skeletons import H36M17, get_skeleton
from vp3d_cli.weights import WeightFile, add_weights, check_free, find_lifter

LICENCE = "CC BY-NC 4.0 (VideoPose3D's weights)"
DATA_PARALLEL = "module."  # prefix of names from torch.nn.DataParallel
# Old checkpoints lack this counter, which inference does not use.
_COUNTER = "num_batches_tracked"
# By the number of output joints: skeleton, data set, and frames per second.
_OUTPUTS = {17: ("h36m17", "Human3.6M", 50.0), 15: ("humaneva15", "HumanEva-I", 60.0)}
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, ImportError, RuntimeError, MemoryError, OverflowError, AssertionError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True)
class OfficialCheckpoint:
    """Tensors of a checkpoint by name, without the prefix of DataParallel.

    Attributes:
        pose: tensors of the network that predicts root-relative joints.
        trajectory: tensors of the network that predicts the root, if there is one.
    """

    pose: dict[str, Tensor]
    trajectory: dict[str, Tensor] | None


class _Ignored:
    """Placeholder for pickled numpy objects; ignores all arguments and state."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): Guarded(torch._utils._rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Guarded(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): Guarded(lambda data, *_: data),
    ("collections", "OrderedDict"): Guarded(collections.OrderedDict),
    ("collections", "defaultdict"): Guarded(lambda *_: {}),
    ("_codecs", "encode"): Guarded(lambda *_: b""),
    ("builtins", "dict"): Guarded(lambda *_: {}),  # factory of a defaultdict, never called
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module.partition(".")[0] == "numpy":
            return _Ignored
        raise Refused(f"it asks for {module}.{name}")


# The parts of a pickle module that torch.load uses.
_PICKLE = SimpleNamespace(
    __name__="restricted",
    Unpickler=_Unpickler,
    UnpicklingError=pickle.UnpicklingError,
    load=lambda file, **options: _Unpickler(file, **options).load(),
    loads=None,
)


def read_official(path: Path) -> OfficialCheckpoint:
    """Read a checkpoint of VideoPose3D, saved by any version of torch.

    Raises:
        WeightsError: the file is missing, damaged, lacks ``model_pos``, or is refused because it contains more than
            tensors and numpy objects. Nothing in the file is executed.
    """
    if not path.is_file():
        raise WeightsError(f"no such weight file: {path}")
    try:
        if zipfile.is_zipfile(path):
            _refuse_programs(path)
        values = torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    except Refused as error:
        raise WeightsError(
            f"{path}: refused, {error}: only tensors are taken from checkpoints; do not open this file with other "
            "tools unless you trust who made it"
        ) from error
    except _BROKEN as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"{path}: cut off, damaged, or not a checkpoint of torch (reading it: {what}); download it again"
        ) from error
    if not isinstance(values, Mapping) or not isinstance(values.get("model_pos"), Mapping):
        raise WeightsError(f"{path}: not a checkpoint of VideoPose3D: it has no model_pos")
    trajectory = values.get("model_traj")
    return OfficialCheckpoint(
        _tensors(path, "model_pos", values["model_pos"]),
        _tensors(path, "model_traj", trajectory) if isinstance(trajectory, Mapping) else None,
    )


def _refuse_programs(path: Path) -> None:
    """Refuse a TorchScript archive, because torch.load may run its code."""
    with zipfile.ZipFile(path) as archive:
        if any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist()):
            raise Refused("it is a program (TorchScript)")


def _tensors(path: Path, part: str, values: Mapping[Any, Any]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, tensor in values.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise WeightsError(
                f"{path}: {part} holds {name!r}, which is not a tensor; this is not a checkpoint of VideoPose3D"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {part}: {name} has values that are not finite; download it again")
        state[name.removeprefix(DATA_PARALLEL)] = tensor.float() if tensor.is_floating_point() else tensor
    for name in [name for name in state if name.endswith(".running_mean")]:
        state.setdefault(name.removesuffix("running_mean") + _COUNTER, torch.tensor(0))
    return state


def infer_architecture(path: Path, state: Mapping[str, Tensor], *, causal: bool = False) -> TemporalConfig:
    """Infer the architecture of a network from the names and shapes of its tensors.

    They do not show whether the network is causal. A network without dilation (the paper's ablation) is refused.

    Raises:
        WeightsError: the architecture is not VideoPose3D's.
    """
    try:
        first, last = state["expand_conv.weight"], state["shrink.weight"]
        convs = [state[f"layers_conv.{i}.weight"] for i in range(sum(_is_conv(name) for name in state))]
    except KeyError as error:
        raise WeightsError(f"{path}: not VideoPose3D's architecture: it has no {error.args[0]}") from error
    kernels = (first, last, *convs)
    if any(kernel.ndim != 3 for kernel in kernels) or first.shape[1] % 2 or last.shape[0] % 3:
        raise WeightsError(f"{path}: not VideoPose3D's architecture: its convolutions have unknown shapes")
    widths = (int(first.shape[2]), *(int(kernel.shape[2]) for kernel in convs[::2]))
    if len(widths) > 1 and widths[1:] == _undilated(widths[0], len(widths)):
        raise WeightsError(f"{path}: a network without dilation (kernels of {widths} frames), which vp3d does not run")
    try:
        return TemporalConfig(
            widths=widths,
            channels=int(first.shape[0]),
            in_joints=int(first.shape[1]) // 2,
            in_features=2,
            out_joints=int(last.shape[0]) // 3,
            causal=causal,
        )
    except ConfigError as error:
        raise WeightsError(f"{path}: not VideoPose3D's architecture: {error}") from error


def _is_conv(name: str) -> bool:
    return re.fullmatch(r"layers_conv\.\d+\.weight", name) is not None


def _undilated(width: int, levels: int) -> tuple[int, ...]:
    """Kernel widths after the first of a network without dilation."""
    return tuple((width - 1) * width**level + 1 for level in range(1, levels))


def convert(
    path: Path, *, skeleton_2d: str | None = None, causal: bool = False, rate_hz: float | None = None
) -> dict[str, tuple[nn.Module, LifterInfo]]:
    """Convert a checkpoint of VideoPose3D to lifters.

    Args:
        path: the checkpoint.
        skeleton_2d: skeleton of its keypoints; None to guess it, see :func:`guess_keypoints`.
        causal: whether the network is causal, which the file does not say.
        rate_hz: frame rate that it was trained at, which the file does not say; None for that of the data set.

    Returns:
        Network and metadata for ``pose`` and, if the file has one, ``trajectory``.

    Raises:
        WeightsError: as in :func:`read_official` and :func:`infer_architecture`, or the skeleton is unknown.
    """
    checkpoint = read_official(path)
    config = infer_architecture(path, checkpoint.pose, causal=causal)
    if config.out_joints not in _OUTPUTS:
        raise WeightsError(f"{path}: predicts {config.out_joints} joints; known are 17 (Human3.6M), 15 (HumanEva)")
    skeleton_3d, trained_on, usual_rate_hz = _OUTPUTS[config.out_joints]
    if skeleton_2d is None:
        skeleton_2d = guess_keypoints(path.stem, config)
    try:
        joints = get_skeleton(skeleton_2d).num_joints
        rule = InputRule(
            "screen",
            confidence=False,
            rate_hz=usual_rate_hz if rate_hz is None else rate_hz,
            edges="repeat",
            skeleton_2d=skeleton_2d,
            skeleton_3d=skeleton_3d,
        )
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    if joints != config.in_joints:
        raise WeightsError(
            f"{path}: takes {config.in_joints} keypoints, but {skeleton_2d} has {joints}; give their skeleton with "
            "--skeleton-2d"
        )
    training = {"from": path.name, "trained_on": trained_on}
    lifters: dict[str, tuple[nn.Module, LifterInfo]] = {}
    lifters["pose"] = _lifter(path, checkpoint.pose, config, rule, training)
    if checkpoint.trajectory is not None:
        own = infer_architecture(path, checkpoint.trajectory, causal=causal)
        if own.out_joints != 1 or own.in_joints != joints:
            raise WeightsError(f"{path}: model_traj does not predict one joint from {joints} keypoints")
        lifters["trajectory"] = _lifter(path, checkpoint.trajectory, own, rule, training)
    return lifters


def guess_keypoints(name: str, config: TemporalConfig) -> str:
    """Guess the keypoints of a checkpoint from joint numbers and file name.

    17 are COCO's if the name has "coco" or the output has HumanEva's 15 joints, else Human3.6M's; 15 are HumanEva's, 16
    are those of Stacked Hourglass networks.
    """
    if config.in_joints == H36M17.num_joints:
        return "coco17" if "coco" in name.lower() or config.out_joints == 15 else "h36m17"
    return {15: "humaneva15", 16: "hourglass16"}.get(config.in_joints, _OUTPUTS[config.out_joints][0])


def _lifter(
    path: Path, state: Mapping[str, Tensor], config: TemporalConfig, rule: InputRule, training: Mapping[str, Any]
) -> tuple[nn.Module, LifterInfo]:
    model = TemporalModel(config)
    load_state(model, state, path)
    values = config.as_dict()
    if config.out_joints == 1:
        return model.eval(), LifterInfo("trajectory", "temporal", values, rule, LICENCE, training, "metres")
    return model.eval(), LifterInfo("pose", "temporal", values, rule, LICENCE, training)


def add_official(
    path: Path,
    name: str,
    *,
    only: str | None = None,
    skeleton_2d: str | None = None,
    causal: bool = False,
    rate_hz: float | None = None,
    licence: str = LICENCE,
    source: str = "",
    trained_on: str | None = None,
    overwrite: bool = False,
) -> list[WeightFile]:
    """Convert a checkpoint of VideoPose3D and add it to the user's weights.

    Args:
        path: the checkpoint.
        name: name of the pose lifter; a trajectory lifter becomes ``NAME-trajectory``.
        only: ``pose`` or ``trajectory`` to add only this lifter, as ``name``.
        skeleton_2d, causal, rate_hz: see :func:`convert`.
        licence, source, trained_on: shown by ``vp3d weights list``; by default VideoPose3D's licence, the path and the
            data set.
        overwrite: replace existing weights of the user.

    Raises:
        WeightsError: as in :func:`convert`, the file lacks the lifter, or the name is invalid or taken.
    """
    lifters = convert(path, skeleton_2d=skeleton_2d, causal=causal, rate_hz=rate_hz)
    if only is not None and only not in lifters:
        raise WeightsError(f"{path}: has no {only} model; leave out --kind to add its {' and '.join(lifters)} model")
    names = {task: name if task in ("pose", only) else f"{name}-{task}" for task in lifters if only in (None, task)}
    for own_name in names.values():
        check_free(own_name, overwrite)  # both, before the first is added
    added = []
    with tempfile.TemporaryDirectory() as folder:
        for task, own_name in names.items():
            model, info = lifters[task]
            file = Path(folder) / "lifter.safetensors"
            save_lifter(file, model, dataclasses.replace(info, licence=licence))
            added.append(
                add_weights(
                    file,
                    own_name,
                    kind=task,
                    licence=licence,
                    source=source or str(path.resolve()),
                    trained_on=trained_on or str(info.training["trained_on"]),
                    overwrite=overwrite,
                )
            )
    return added


def load_part(name: str, task: Task) -> tuple[nn.Module, LifterInfo]:
    """Load a lifter by name or file for :func:`write_official`.

    Raises:
        WeightsError: the lifter is unknown, damaged, or of another task.
    """
    path, called, _ = find_lifter(name)
    model, info = load_lifter_file(path)
    if info.task != task:
        raise WeightsError(f"{called} is a {info.task} model, not a {task} model; see: vp3d weights list")
    return model, info


def write_official(
    path: Path,
    pose: tuple[nn.Module, LifterInfo],
    trajectory: tuple[nn.Module, LifterInfo] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write lifters as a checkpoint for VideoPose3D's ``run.py --evaluate``.

    Args:
        path: file to write.
        pose: pose network and its metadata.
        trajectory: trajectory network and its metadata, or None.
        overwrite: replace an existing file.

    Raises:
        WeightsError: VideoPose3D does not have the architecture or the input rule.
        OutputError: the file cannot be written.
    """
    for model, info in (pose, *([trajectory] if trajectory is not None else [])):
        if not isinstance(model, TemporalModel):
            raise WeightsError(f"{path}: VideoPose3D has no architecture {info.architecture!r}, only temporal")
        if info.rule.normalization != "screen" or info.rule.confidence:
            raise WeightsError(
                f"{path}: VideoPose3D gives networks screen coordinates without confidence, but this one was trained "
                f"on {info.rule.normalization} coordinates{' with confidence' if info.rule.confidence else ''}"
            )
        if info.task == "trajectory" and info.root != "metres":
            raise WeightsError(
                f"{path}: VideoPose3D's trajectory networks answer in metres, this one relative to the person's size "
                "in the image, which cannot be converted; leave out --trajectory"
            )
    values = {
        "epoch": 0,
        "lr": 0.0,
        "random_state": None,
        "optimizer": None,
        "model_pos": _state_of(pose[0]),
        "model_traj": None if trajectory is None else _state_of(trajectory[0]),
        "random_state_semi": None,
    }
    with replacing(path, overwrite) as file:
        torch.save(values, file)


def options_not_stored(name: str, info: LifterInfo) -> list[str]:
    """Options of ``vp3d weights add`` for what VideoPose3D's format does not store.

    Args:
        name: name of the written file, without suffix.
        info: metadata of the lifter.
    """
    config, rule = TemporalConfig(**info.config), info.rule
    options = []
    if rule.rate_hz != _OUTPUTS.get(config.out_joints, ("", "", 0.0))[2]:
        options.append(f"--rate {rule.rate_hz:g}")
    if config.causal:
        options.append("--causal")
    if config.out_joints in _OUTPUTS and guess_keypoints(name, config) != rule.skeleton_2d:
        options.append(f"--skeleton-2d {rule.skeleton_2d}")
    return options


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
