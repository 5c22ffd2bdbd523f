"""The one interface of a loaded network, whichever runtime runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from vp3d_cli.errors import WeightsError

Array = NDArray[Any]
Shape = Sequence["int | None"]
Precision = Literal["auto", "f32", "bf16"]
PRECISIONS: tuple[str, ...] = ("auto", "f32", "bf16")


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: as the model file calls it.
        shape: its lengths; None where a length is open.
    """

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Target:
    """A runtime and one of its devices, on which a network runs.

    Attributes:
        runtime: ``openvino`` or ``onnxruntime``.
        device: ``CPU``, ``GPU`` or ``NPU`` of OpenVINO; ``CPU``, ``CUDA``, ``CoreML`` or ``DirectML`` of onnxruntime.
    """

    runtime: str
    device: str

    def __str__(self) -> str:
        return f"{self.runtime} on {self.device}"


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading a network.

    Attributes:
        precision: ``f32``; ``bf16``; or ``auto``, which is bf16 on processors that compute it natively, else f32.
        threads: CPU threads of all requests together; 0 takes ``OMP_NUM_THREADS``, else all usable cores.
        requests: how many requests run at the same time; further ones wait.
    """

    precision: str = "auto"
    threads: int = 0
    requests: int = 1


class Request(Protocol):
    """A run of a network that may still be going on."""

    def result(self) -> list[Array]:
        """Wait for the outputs, in the order of :attr:`Model.outputs`.

        Raises:
            WeightsError: the network did not run.
        """
        ...


class Model(ABC):
    """A network that is ready to run. Safe to use from several threads.

    Attributes:
        name: of the weights, for messages.
        target: where it runs.
        precision: ``f32`` or ``bf16``; on a GPU or NPU of OpenVINO also that device's own default, ``device``.
        inputs, outputs: what it takes and gives.
    """

    name: str
    target: Target
    precision: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @abstractmethod
    def start(self, *inputs: Array) -> Request:
        """Start a run and return at once, or as soon as one of the requests in flight has ended.

        Args:
            inputs: one array for each of :attr:`inputs`, of its type and shape.

        Raises:
            WeightsError: an input does not fit.
        """

    def run(self, *inputs: Array) -> list[Array]:
        """Run once and wait for the outputs; see :meth:`start`."""
        return self.start(*inputs).result()

    def expect(self, inputs: Sequence[Shape], outputs: Sequence[Shape], what: str) -> None:
        """Check the shapes of inputs and outputs.

        Args:
            inputs, outputs: expected shapes; None stands for any length.
            what: what the network should be, for the message.

        Raises:
            WeightsError: this is another kind of model.
        """
        if not (_fits(self.inputs, inputs) and _fits(self.outputs, outputs)):
            raise WeightsError(
                f"weights {self.name}: not {what}; inputs are {_shapes(self.inputs)}, outputs {_shapes(self.outputs)}"
            )


def _fits(ports: Sequence[Port], expected: Sequence[Shape]) -> bool:
    return len(ports) == len(expected) and all(
        len(port.shape) == len(shape) and all(e in (None, s) for e, s in zip(shape, port.shape, strict=True))
        for port, shape in zip(ports, expected, strict=True)
    )


def _shapes(ports: Sequence[Port]) -> str:
    return ", ".join("x".join("?" if length is None else str(length) for length in port.shape) for port in ports)


def one_line(error: BaseException, limit: int = 200) -> str:
    """An exception's message on one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
