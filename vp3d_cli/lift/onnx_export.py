"""A temporal lifter as an ONNX model, from its parameters alone: no torch.

The graph is the dilated form of :mod:`vp3d_cli.lift.temporal` with batch norm folded into the convolutions; the number
of people and of frames is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.lift.receptive_field import TemporalConfig
from vp3d_cli.runtime.onnx_graph import GraphWriter
from vp3d_cli.types import FloatArray

INPUT, OUTPUT = "keypoints", "joints"
_BATCH_NORM_EPSILON = 1e-5  # torch's default, which training uses
_TO_END = np.iinfo(np.int64).max

State = Mapping[str, NDArray[Any]]


def temporal_to_onnx(state: State, config: TemporalConfig, metadata: Mapping[str, str]) -> bytes:
    """Write the network of a temporal lifter as an ONNX file.

    Input ``keypoints`` is (people, frames, joints, features) as the input rule presents them; output ``joints`` is
    (people, frames - receptive field + 1, joints, 3).

    Args:
        state: parameters by name, with the :func:`expected_shapes`.
        config: of the network.
        metadata: text that the file says about itself.
    """
    graph = GraphWriter("temporal lifter")
    width = config.in_joints * config.in_features
    x = graph.input(INPUT, ["people", "frames", config.in_joints, config.in_features])
    x = graph.node("Reshape", [x, graph.constant(np.array([0, 0, width]))])  # (people, frames, channels) from here on
    c = config.channels
    x = _convolution(graph, x, _folded(state, "expand_conv", "expand_bn", (c, width, config.widths[0])), 1)
    dilation = config.widths[0]
    for level, taps in enumerate(config.widths[1:]):
        lost = (taps - 1) * dilation
        residual = _frames(graph, x, lost if config.causal else lost // 2, lost)
        first, second = 2 * level, 2 * level + 1
        mixed = _folded(state, f"layers_conv.{first}", f"layers_bn.{first}", (c, c, taps))
        pointwise = _folded(state, f"layers_conv.{second}", f"layers_bn.{second}", (c, c, 1))
        x = _convolution(graph, _convolution(graph, x, mixed, dilation), pointwise, 1)
        x = graph.node("Add", [x, residual])
        dilation *= taps
    weight = _parameter(state, "shrink.weight", (config.out_joints * 3, c, 1))
    x = _linear(graph, x, weight, _parameter(state, "shrink.bias", weight.shape[:1]))
    graph.node("Reshape", [x, graph.constant(np.array([0, 0, config.out_joints, 3]))], OUTPUT)
    graph.output(OUTPUT, ["people", "output_frames", config.out_joints, 3])
    return graph.to_bytes(metadata)


def _convolution(graph: GraphWriter, x: str, folded: tuple[FloatArray, FloatArray], dilation: int) -> str:
    """Add a dilated convolution and ReLU to the graph.

    The frames that each output sees are put side by side; one matrix product follows.

    OpenVINO 2026.4 has no fast kernel for convolutions with large dilations: 21 s instead of 1.5 s for pose-243.
    """
    weight, bias = folded
    taps = weight.shape[2]
    lost = (taps - 1) * dilation
    seen = [_frames(graph, x, tap * dilation, lost) for tap in range(taps)]
    windows = graph.node("Concat", seen, axis=-1) if taps > 1 else x
    return graph.node("Relu", [_linear(graph, windows, weight, bias)])


def _linear(graph: GraphWriter, x: str, weight: FloatArray, bias: FloatArray) -> str:
    """Convolution weights (out, in, taps) applied to (people, frames, taps * in)."""
    matrix = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))
    return graph.node("Add", [graph.node("MatMul", [x, graph.constant(matrix)]), graph.constant(bias)])


def _frames(graph: GraphWriter, x: str, start: int, lost: int) -> str:
    """All frames but ``lost`` of them, ``start`` of these at the beginning."""
    if lost == 0:
        return x
    stop = start - lost or _TO_END
    return graph.node("Slice", [x, *(graph.constant(np.array([value])) for value in (start, stop, 1))])


def _folded(state: State, conv: str, norm: str, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Weights and bias of a convolution and the batch norm after it, as one convolution.

    ``(y - mean) / sqrt(var + eps) * gamma + beta`` after a convolution without bias is a convolution with weights
    ``w * gamma / sqrt(var + eps)`` and bias ``beta - mean * gamma / sqrt(var + eps)``.
    """
    weight = _parameter(state, f"{conv}.weight", shape)
    gamma, beta, mean, var = (
        _parameter(state, f"{norm}.{name}", shape[:1]).astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(var + _BATCH_NORM_EPSILON)
    return weight * scale.astype(np.float32)[:, None, None], (beta - mean * scale).astype(np.float32)


def _parameter(state: State, name: str, shape: tuple[int, ...]) -> FloatArray:
    assert state[name].shape == shape, name
    return state[name].astype(np.float32, copy=False)


def expected_shapes(config: TemporalConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a temporal lifter."""
    c = config.channels
    shapes: dict[str, tuple[int, ...]] = {
        "expand_conv.weight": (c, config.in_joints * config.in_features, config.widths[0]),
        "shrink.weight": (config.out_joints * 3, c, 1),
        "shrink.bias": (config.out_joints * 3,),
    }
    norms = ["expand_bn"]
    for level, taps in enumerate(config.widths[1:]):
        for layer, width in ((2 * level, taps), (2 * level + 1, 1)):
            shapes[f"layers_conv.{layer}.weight"] = (c, c, width)
            norms.append(f"layers_bn.{layer}")
    for norm in norms:
        shapes |= {f"{norm}.{name}": (c,) for name in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes
