"""Write an ONNX model: nodes and arrays in, the bytes of the file out.

The protobuf messages are written directly (field numbers of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), because a lifter needs six kinds of nodes and the package
``onnx`` is 30 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vp3d_cli.runtime.base import Array

# Version 8 of the format and 17 of the operators are read by onnxruntime 1.12 and by every OpenVINO that vp3d takes.
_IR_VERSION = 8
_OPSET = 17
_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_INTS = 2, 7  # AttributeProto.AttributeType

Dimension = int | str  # a length, or the name of an open one


class GraphWriter:
    """Collects the nodes of a network; :meth:`to_bytes` gives the model file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0

    def input(self, name: str, shape: Sequence[Dimension]) -> str:
        """Declare a float32 input; returns its name."""
        self._inputs.append(_value_info(name, shape))
        return name

    def output(self, name: str, shape: Sequence[Dimension]) -> None:
        """Declare the result called ``name`` as a float32 output."""
        self._outputs.append(_value_info(name, shape))

    def constant(self, values: Array) -> str:
        """Add an array of float32 or int64; returns its name."""
        name = self._new_name()
        self._tensors.append(_tensor(name, values))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: int | Sequence[int]) -> str:
        """Add an operator with one output; returns the output's name."""
        output = output or self._new_name()
        fields = [_text(1, name) for name in inputs] + [_text(2, output), _text(4, operator)]
        fields += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return output

    def to_bytes(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """Return the model file, with metadata."""
        graph = b"".join(
            [
                *(_bytes(1, node) for node in self._nodes),
                _text(2, self._name),
                *(_bytes(5, tensor) for tensor in self._tensors),
                *(_bytes(11, value) for value in self._inputs),
                *(_bytes(12, value) for value in self._outputs),
            ]
        )
        properties = [_bytes(14, _text(1, key) + _text(2, text)) for key, text in (metadata or {}).items()]
        opset = _bytes(8, _text(1, "") + _integer(2, _OPSET))
        return b"".join([_integer(1, _IR_VERSION), _text(2, "vp3d"), _bytes(7, graph), opset, *properties])

    def _new_name(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, _ATTRIBUTE_INT)
    return _text(1, name) + b"".join(_integer(8, v) for v in value) + _integer(20, _ATTRIBUTE_INTS)


def _tensor(name: str, values: Array) -> bytes:
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    raw = np.ascontiguousarray(values, "<i8" if kind == _INT64 else "<f4").tobytes()
    dims = b"".join(_integer(1, length) for length in values.shape)
    return dims + _integer(2, kind) + _text(8, name) + _bytes(9, raw)


def _value_info(name: str, shape: Sequence[Dimension]) -> bytes:
    dims = b"".join(_bytes(1, _integer(1, d) if isinstance(d, int) else _text(2, d)) for d in shape)
    tensor_type = _integer(1, _FLOAT) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor_type))
