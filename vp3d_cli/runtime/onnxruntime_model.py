"""Networks on onnxruntime.

It runs on NVIDIA GPUs (CUDA), Apple devices (CoreML), DirectML on Windows, and any CPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.runtime.base import Array, LoadOptions, Model, Port, Target, one_line

NAME = "onnxruntime"
PROVIDERS = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "CoreML": "CoreMLExecutionProvider",
    "DirectML": "DmlExecutionProvider",
}


@functools.cache
def import_onnxruntime() -> Any:
    """The package, imported without its telemetry.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    # Read once, when the library is loaded; else it writes files to the home and temporary folders and sends events.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    ort = importlib.import_module(NAME)
    if PROVIDERS["CUDA"] in ort.get_available_providers() and hasattr(ort, "preload_dlls"):
        # vp3d[cuda] installs CUDA's libraries as packages of Python, where onnxruntime does not look by itself. What
        # it cannot load it prints; the session that needs it fails with a reason.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    return ort


def devices() -> tuple[str, ...]:
    """Return the devices that this build of onnxruntime supports.

    Whether the hardware is present shows on use.

    Raises:
        ImportError: onnxruntime is not installed.
    """
    available = import_onnxruntime().get_available_providers()
    return tuple(device for device, provider in PROVIDERS.items() if provider in available)


def resolve_precision(device: str, precision: str) -> str:
    """The precision that a network runs with.

    Raises:
        ConfigError: bf16, which onnxruntime does not convert models to.
    """
    if precision == "bf16":
        raise ConfigError(f"precision bf16: onnxruntime on {device} computes in f32 only; use f32, or auto")
    return "f32"


class OnnxRuntimeModel(Model):
    """A network in a session of onnxruntime.

    Args:
        data: content of an ONNX file.
        name: of the weights, for messages.
        target: device of onnxruntime.
        options: how to load; ``threads`` must not be 0.

    Raises:
        ConfigError: the precision is not supported.
        MissingDependencyError: the device cannot be used.
        WeightsError: onnxruntime cannot read the model.
    """

    def __init__(self, data: bytes, name: str, target: Target, options: LoadOptions) -> None:
        self.name, self.target = name, target
        self.precision = resolve_precision(target.device, options.precision)
        self._session = _session(data, name, target.device, options)
        self.inputs = tuple(_port(port) for port in self._session.get_inputs())
        self.outputs = tuple(_port(port) for port in self._session.get_outputs())
        self._workers = ThreadPoolExecutor(max(1, options.requests), thread_name_prefix=f"vp3d-{name}")

    def start(self, *inputs: Array) -> _OnnxRuntimeRequest:
        """See :meth:`vp3d_cli.runtime.base.Model.start`."""
        if len(inputs) != len(self.inputs):
            raise WeightsError(f"weights {self.name}: takes {len(self.inputs)} inputs, got {len(inputs)}")
        feed = {port.name: array for port, array in zip(self.inputs, inputs, strict=True)}
        return _OnnxRuntimeRequest(self.name, self._workers.submit(self._session.run, None, feed))


class _OnnxRuntimeRequest:
    """A run that was handed to a thread."""

    def __init__(self, name: str, future: Future[list[Array]]) -> None:
        self._name, self._future = name, future

    def result(self) -> list[Array]:
        """See :meth:`vp3d_cli.runtime.base.Request.result`."""
        try:
            return self._future.result()
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise WeightsError(f"weights {self._name}: the network does not run ({one_line(error)})") from error


def _session(data: bytes, name: str, device: str, options: LoadOptions) -> Any:
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = max(1, options.threads // max(1, options.requests))
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 4  # fatal only: errors are raised as well
    # CUDA would compute float32 convolutions with TensorFloat-32, whose mantissa has 10 bits.
    provider = (PROVIDERS[device], {"use_tf32": "0"} if device == "CUDA" else {})
    fallback = [] if device == "CPU" else [PROVIDERS["CPU"]]
    try:
        session = ort.InferenceSession(data, settings, providers=[provider, *fallback])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise WeightsError(f"weights {name}: onnxruntime cannot read the model ({one_line(error)})") from error
    if PROVIDERS[device] not in session.get_providers():
        raise MissingDependencyError(
            f"onnxruntime has {device} but found no usable GPU; check the driver, or use --device cpu"
        )
    return session


def _port(port: Any) -> Port:
    return Port(port.name, tuple(length if isinstance(length, int) else None for length in port.shape))
