"""Networks on OpenVINO, for CPUs and for Intel's GPUs and NPUs.

It is the fastest runtime on the CPUs that were measured.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import platform
import sys
import threading
from collections import deque
from typing import Any

import numpy as np

from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.runtime.base import Array, LoadOptions, Model, Port, Target, one_line
from vp3d_cli.runtime.compiled_cache import cache_path, read_compiled, write_compiled

NAME = "openvino"
# Importing openvino imports its model converter as well, which reports every import to Intel over the network
# (openvino-telemetry). openvino does without the converter where it cannot be imported.
_CONVERTER = "openvino.tools.ovc"


@functools.cache
def import_openvino() -> Any:
    """The package, imported without its model converter and telemetry.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    if _CONVERTER in sys.modules:
        return importlib.import_module(NAME)
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # an import of it now raises ImportError
    try:
        return importlib.import_module(NAME)
    finally:
        del sys.modules[_CONVERTER]


@functools.cache
def _core() -> Any:
    return import_openvino().Core()


def devices() -> tuple[str, ...]:
    """Kinds of devices that OpenVINO sees: ``CPU``, ``GPU``, ``NPU``.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return tuple(dict.fromkeys(name.partition(".")[0] for name in _core().available_devices))


def device_name(device: str) -> str:
    """Return the manufacturer's name of a device."""
    return str(_core().get_property(device, "FULL_DEVICE_NAME")).strip()


def resolve_precision(device: str, precision: str) -> str:
    """The precision that a network runs with.

    Args:
        device: ``CPU``, ``GPU`` or ``NPU``.
        precision: ``auto``, ``f32`` or ``bf16``.

    Raises:
        ConfigError: the device does not compute in bf16.
    """
    has_bf16 = "BF16" in _core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:
        raise ConfigError(f"precision bf16: {device_name(device)} does not compute in bf16; use f32, or auto")
    if precision != "auto":
        return precision
    if device == "CPU":
        return "bf16" if has_bf16 else "f32"
    return "device"


class OpenVinoModel(Model):
    """A network compiled by OpenVINO.

    Args:
        data: content of an ONNX file.
        name: of the weights, for messages.
        target: device of OpenVINO.
        options: how to load; ``threads`` must not be 0.

    Raises:
        ConfigError: the device does not have the precision.
        MissingDependencyError: the device cannot be used.
        WeightsError: OpenVINO cannot read the model.
    """

    def __init__(self, data: bytes, name: str, target: Target, options: LoadOptions) -> None:
        self.name, self.target = name, target
        self.precision = resolve_precision(target.device, options.precision)
        self._compiled = _compile(data, name, target.device, _properties(target.device, self.precision, options))
        self.inputs = tuple(_port(port) for port in self._compiled.inputs)
        self.outputs = tuple(_port(port) for port in self._compiled.outputs)
        self._lock = threading.Lock()
        self._idle = [self._compiled.create_infer_request() for _ in range(max(1, options.requests))]
        self._running: deque[_OpenVinoRequest] = deque()

    def start(self, *inputs: Array) -> _OpenVinoRequest:
        """See :meth:`vp3d_cli.runtime.base.Model.start`."""
        with self._lock:
            if not self._idle:
                self._finish(self._running[0])
            raw = self._idle.pop()
            try:
                raw.start_async(dict(enumerate(inputs)))
            except Exception as error:
                self._idle.append(raw)  # OpenVINO's exceptions share no public base class
                raise WeightsError(f"weights {self.name}: an input does not fit ({one_line(error)})") from error
            request = _OpenVinoRequest(self, raw)
            self._running.append(request)
            return request

    def wait_for(self, request: _OpenVinoRequest) -> None:
        """Wait until a request has its outputs or its error."""
        with self._lock:
            self._finish(request)

    def _finish(self, request: _OpenVinoRequest) -> None:
        if request not in self._running:
            return
        try:
            request.raw.wait()
            request.outputs = [np.array(tensor.data) for tensor in request.raw.output_tensors]
        except Exception as error:  # noqa: BLE001 - OpenVINO's exceptions share no public base class
            request.error = one_line(error)
        self._running.remove(request)
        self._idle.append(request.raw)


class _OpenVinoRequest:
    """A run that was started; ``raw`` belongs to it until it has ended."""

    def __init__(self, model: OpenVinoModel, raw: Any) -> None:
        self.raw = raw
        self.outputs: list[Array] = []
        self.error = ""
        self._model = model

    def result(self) -> list[Array]:
        """See :meth:`vp3d_cli.runtime.base.Request.result`."""
        self._model.wait_for(self)
        if self.error:
            raise WeightsError(f"weights {self._model.name}: the network does not run ({self.error})")
        return self.outputs


def _properties(device: str, precision: str, options: LoadOptions) -> dict[str, Any]:
    """Return the OpenVINO configuration."""
    properties: dict[str, Any] = {} if precision == "device" else {"INFERENCE_PRECISION_HINT": precision}
    if device != "CPU":
        return properties | {"PERFORMANCE_HINT": "LATENCY"}
    streams = min(max(1, options.requests), options.threads)
    # Pinned threads of two processes would share the same cores.
    properties |= {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": streams, "ENABLE_CPU_PINNING": False}
    return properties


def _compile(data: bytes, name: str, device: str, properties: dict[str, Any]) -> Any:
    """Compile a model, or take it from the cache."""
    core = _core()
    described = [f"{key}={value}" for key, value in sorted(properties.items())]
    capabilities = ",".join(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
    machine = [platform.machine(), device, device_name(device), capabilities]
    path = cache_path(hashlib.sha256(data).hexdigest(), import_openvino().__version__, *machine, *described)
    kept = read_compiled(path)
    if kept is not None:
        try:
            return core.import_model(kept, device, properties)
        except Exception:  # noqa: BLE001 - whatever is wrong with a file of the cache, compiling anew helps
            path.unlink(missing_ok=True)
    try:
        model = core.read_model(data)
    except Exception as error:  # OpenVINO's exceptions share no public base class
        raise WeightsError(f"weights {name}: OpenVINO cannot read the model ({one_line(error)})") from error
    try:
        compiled = core.compile_model(model, device, properties)
    except Exception as error:
        if device == "CPU":
            raise WeightsError(f"weights {name}: OpenVINO cannot compile the model ({one_line(error)})") from error
        raise MissingDependencyError(
            f"OpenVINO cannot use the {device} ({one_line(error)}); check its driver, or use --device cpu"
        ) from error
    _keep(compiled, path)
    return compiled


def _keep(compiled: Any, path: Any) -> None:
    try:
        exported = compiled.export_model()
    except Exception:  # noqa: BLE001 - some devices cannot export; the model is then compiled at each start
        return
    write_compiled(path, exported if isinstance(exported, bytes) else exported.getvalue())


def _port(port: Any) -> Port:
    shape = tuple(int(d.get_length()) if d.is_static else None for d in port.partial_shape)
    return Port(str(next(iter(sorted(port.names)), "")), shape)
