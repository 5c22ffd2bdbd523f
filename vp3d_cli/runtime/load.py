"""Load an ONNX model on the fastest runtime and device that is present. Read this first.

:func:`find_target` picks runtime and device from a table, :func:`load_model` loads a model there. The environment
variable ``VP3D_RUNTIME`` (``openvino``, ``onnxruntime``) restricts the choice, ``VP3D_PRECISION`` (``f32``, ``bf16``)
replaces the precision ``auto``.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from importlib.util import find_spec
from pathlib import Path

from vp3d_cli.errors import ConfigError, MissingDependencyError, Vp3dError, WeightsError
from vp3d_cli.runtime import onnxruntime_model, openvino_model
from vp3d_cli.runtime.base import PRECISIONS, LoadOptions, Model, Port, Target
from vp3d_cli.runtime.devices import check_device
from vp3d_cli.runtime.onnx_check import check_onnx
from vp3d_cli.runtime.processes import granted_threads, usable_cores
from vp3d_cli.weights import WeightFile

RUNTIME_VARIABLE = "VP3D_RUNTIME"
PRECISION_VARIABLE = "VP3D_PRECISION"
RUNTIMES = (openvino_model.NAME, onnxruntime_model.NAME)

_CPU = (Target("openvino", "CPU"), Target("onnxruntime", "CPU"))
_CUDA = Target("onnxruntime", "CUDA")
_COREML, _DIRECTML = Target("onnxruntime", "CoreML"), Target("onnxruntime", "DirectML")
# The targets of each device, best first. `auto` leaves out CoreML, DirectML and OpenVINO's GPU: nobody has measured
# them with these networks, some of which have open input sizes, for which those compile anew.
TARGETS: dict[str, tuple[Target, ...]] = {
    "auto": (_CUDA, *_CPU),
    "cpu": _CPU,
    "cuda": (_CUDA,),
    "mps": (_COREML,),
    "gpu": (_CUDA, Target("openvino", "GPU"), _COREML, _DIRECTML),
    "npu": (Target("openvino", "NPU"),),
}
_CUDA_INSTALL = 'pip uninstall --yes onnxruntime; pip install "vp3d[cuda]"'
_INSTALL = {
    "auto": "pip install openvino",
    "cpu": "pip install openvino",
    "cuda": _CUDA_INSTALL,
    "mps": 'pip install "vp3d[coreml]"',
    "gpu": f'{_CUDA_INSTALL} (NVIDIA), pip install openvino (Intel), or pip install "vp3d[directml]" (Windows)',
    "npu": "pip install openvino, and Intel's driver of the NPU",
}


def load_model(
    data: bytes, name: str, device: str = "auto", *, precision: str = "auto", threads: int = 0, requests: int = 1
) -> Model:
    """Load a model.

    Args:
        data: content of an ONNX file.
        name: of the weights, for messages.
        device: ``auto`` (the fastest present), ``cpu``, ``cuda``, ``mps``, ``gpu`` or ``npu``.
        precision: ``auto`` (bf16 on processors that compute it natively, else f32), ``f32`` or ``bf16``.
        threads: CPU threads of all requests together; 0 takes ``OMP_NUM_THREADS``, else all usable cores.
        requests: how many requests run at the same time.

    Raises:
        ConfigError: unknown device, runtime or precision, or a precision that the device does not have.
        MissingDependencyError: no runtime for this device is installed, or the device is not present.
        WeightsError: the file is not an ONNX model, keeps weights in other files, or cannot be read by the runtime.
    """
    outputs = check_onnx(data, f"weights {name}")
    options = LoadOptions(_precision(precision), threads or granted_threads() or usable_cores(), requests)
    targets = _present_targets(device)
    for number, target in enumerate(targets, start=1):
        try:
            model = _load(data, name, target, options)
        except MissingDependencyError:  # the runtime has the device, but it does not work: try the next one
            if device != "auto" or number == len(targets):
                raise
            continue
        # OpenVINO has several names for a result that several nodes pass on, and does not say which is the output's.
        model.outputs = tuple(Port(own, port.shape) for own, port in zip(outputs, model.outputs, strict=True))
        return model
    raise _nothing_for(device)


def load_weights(
    weights: WeightFile, device: str = "auto", *, precision: str = "auto", threads: int = 0, requests: int = 1
) -> Model:
    """Load the model in a verified weight file; arguments and errors as for :func:`load_model`.

    Raises:
        WeightsError: also where the file cannot be read.
    """
    try:
        data = weights.path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {weights.name}: cannot read {weights.path} ({error.strerror or error})") from error
    return load_model(data, weights.name, device, precision=precision, threads=threads, requests=requests)


def find_target(device: str = "auto") -> Target:
    """Runtime and device that a model is loaded on; a GPU may still turn out not to work.

    Raises:
        ConfigError: unknown device or runtime.
        MissingDependencyError: no runtime for this device is installed, or the device is not present.
    """
    targets = _present_targets(device)
    if not targets:
        raise _nothing_for(device)
    return targets[0]


def resolve_precision(target: Target, precision: str = "auto") -> str:
    """The precision that models run with on a target.

    Raises:
        ConfigError: unknown, or the target does not have it.
    """
    if target.runtime == openvino_model.NAME:
        return openvino_model.resolve_precision(target.device, _precision(precision))
    return onnxruntime_model.resolve_precision(target.device, _precision(precision))


def install_hint(device: str) -> str:
    """Return the installation hint for a device."""
    return _INSTALL[device]


def _load(data: bytes, name: str, target: Target, options: LoadOptions) -> Model:
    if target.runtime == openvino_model.NAME:
        return openvino_model.OpenVinoModel(data, name, target, options)
    return onnxruntime_model.OnnxRuntimeModel(data, name, target, options)


def _precision(precision: str) -> str:
    if precision == "auto":
        precision = os.environ.get(PRECISION_VARIABLE) or "auto"
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return precision


def _wanted_runtimes() -> tuple[str, ...]:
    wanted = os.environ.get(RUNTIME_VARIABLE) or "auto"
    if wanted == "auto":
        return RUNTIMES
    if wanted not in RUNTIMES:
        raise ConfigError(f"{RUNTIME_VARIABLE}={wanted}: unknown runtime; choose one of auto, {', '.join(RUNTIMES)}")
    if (problem := runtime_problem(wanted)) is not None:
        raise MissingDependencyError(f"{RUNTIME_VARIABLE}={wanted}: {problem}; try: pip install {wanted}")
    return (wanted,)


def _present_targets(device: str) -> list[Target]:
    check_device(device)
    runtimes = _wanted_runtimes()
    return [target for target in TARGETS[device] if target.runtime in runtimes and is_present(target)]


def is_present(target: Target) -> bool:
    """Whether a runtime is installed and has code for a device (of OpenVINO: sees the device)."""
    if target == _CUDA and not _onnxruntime_has_cuda():
        return False  # without loading it, which takes a tenth of a second
    if runtime_problem(target.runtime) is not None:
        return False
    module = openvino_model if target.runtime == openvino_model.NAME else onnxruntime_model
    return target.device in module.devices()


@functools.cache
def runtime_problem(runtime: str) -> str | None:
    """None where a runtime can be imported, else why not."""
    try:
        if runtime == openvino_model.NAME:
            openvino_model.import_openvino()
        else:
            onnxruntime_model.import_onnxruntime()
    except ImportError as error:
        missing = find_spec(runtime) is None
        return f"{runtime} is not installed" if missing else f"{runtime} cannot be loaded ({error})"
    return None


def _onnxruntime_has_cuda() -> bool:
    spec = find_spec(onnxruntime_model.NAME)
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    return any(True for folder in folders for _ in Path(folder).glob("capi/*onnxruntime_providers_cuda.*"))


def _nothing_for(device: str) -> Vp3dError:
    if device in ("auto", "cpu"):
        return MissingDependencyError(f"no runtime for networks is installed; try: {_INSTALL[device]}")
    return MissingDependencyError(
        f"--device {device}: no runtime here has such a device; use --device cpu, or install one: {_INSTALL[device]}"
    )


def describe(model: Model) -> dict[str, str]:
    """Return the runtime and device of a model, for the provenance of results."""
    return {**dataclasses.asdict(model.target), "precision": model.precision}
