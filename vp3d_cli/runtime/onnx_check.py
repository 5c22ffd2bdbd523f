"""Check that a file is an ONNX model that includes all of its weights.

The protobuf fields are read directly.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The package ``onnx``
would do the same for 30 MB of installation.
"""

from __future__ import annotations

from collections.abc import Iterator

from vp3d_cli.errors import WeightsError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# ModelProto
_IR_VERSION, _GRAPH = 1, 7
# GraphProto, NodeProto, AttributeProto: where tensors and further graphs are.
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_ATTRIBUTE = 5
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS = 5, 6, 10, 11
# TensorProto, ValueInfoProto
_EXTERNAL_DATA = 13
_NAME = 1

Field = tuple[int, "int | memoryview"]


class _NotProtobufError(ValueError):
    """The bytes are no protobuf message."""


def check_onnx(data: bytes, where: str) -> list[str]:
    """Check a model file, and give the names of its outputs.

    Args:
        data: content of the file.
        where: its name, for messages.

    Raises:
        WeightsError: this is not an ONNX model, or weights lie in further files.
    """
    try:
        fields = list(_fields(memoryview(data)))
        graphs = [value for number, value in fields if number == _GRAPH and isinstance(value, memoryview)]
        is_model = any(number == _IR_VERSION and isinstance(value, int) for number, value in fields) and graphs
        external = any(_graph_is_external(graph) for graph in graphs)
        outputs = [_name_of(value) for graph in graphs for number, value in _fields(graph) if number == _OUTPUT]
    except (_NotProtobufError, UnicodeDecodeError):
        is_model, external, outputs = False, False, []
    if not is_model:
        raise WeightsError(f"{where} is not an ONNX model; give a file that ends in .onnx")
    if external:
        raise WeightsError(
            f"{where} keeps its weights in a separate file (external data); save it as one file: "
            "onnx.save(model, path, save_as_external_data=False)"
        )
    return outputs


def _graph_is_external(graph: memoryview) -> bool:
    for number, value in _fields(graph):
        if number == _INITIALIZER and _tensor_is_external(value):
            return True
        if number == _NODE and _node_is_external(value):
            return True
    return False


def _node_is_external(node: int | memoryview) -> bool:
    attributes = (value for number, value in _message(node) if number == _ATTRIBUTE)
    for attribute in attributes:
        for number, value in _message(attribute):
            if number in (_TENSOR, _TENSORS) and _tensor_is_external(value):
                return True
            if number in (_SUBGRAPH, _SUBGRAPHS) and isinstance(value, memoryview) and _graph_is_external(value):
                return True
    return False


def _tensor_is_external(tensor: int | memoryview) -> bool:
    return any(number == _EXTERNAL_DATA for number, _ in _message(tensor))


def _name_of(value_info: int | memoryview) -> str:
    names = [value for number, value in _message(value_info) if number == _NAME and isinstance(value, memoryview)]
    return bytes(names[0]).decode() if names else ""


def _message(value: int | memoryview) -> Iterator[Field]:
    if isinstance(value, int):
        raise _NotProtobufError
    return _fields(value)


def _fields(data: memoryview) -> Iterator[Field]:
    """Number and value of each field of a message; values of fixed size are given as 0."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise _NotProtobufError
            yield key >> 3, data[at : at + length]
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            yield key >> 3, 0
        else:
            raise _NotProtobufError


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a place, and the place after it."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise _NotProtobufError
