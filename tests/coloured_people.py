"""Synthetic people whose keypoints are known to the pixel: a grey figure with a dot of its own colour at each keypoint.

Two small ONNX networks with the inputs and outputs of RTMDet and RTMPose see them: one finds the bright figure, the
other the dots by their colours.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vp3d_cli.types import FrameBGR

# A standing person in a box of 100 x 200, COCO order: x, y.
STANDING = np.array(
    [[50, 20], [55, 15], [45, 15], [62, 20], [38, 20], [70, 50], [30, 50], [82, 80], [18, 80], [88, 110], [12, 110],
     [64, 110], [36, 110], [66, 150], [34, 150], [68, 190], [32, 190]],
    np.float64,
)  # fmt: skip
BOX_WH = np.array([100.0, 200.0])
BACKGROUND, FIGURE, DOT_RADIUS = 20, 110, 2.5

DET_MEAN, DET_STD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
POSE_MEAN, POSE_STD = DET_MEAN[::-1], DET_STD[::-1]


def colours_rgb() -> NDArray[np.float32]:
    """(17, 3): far apart from one another and from grey."""
    levels = (0, 128, 255)
    grid = np.array([(r, g, b) for r in levels for g in levels for b in levels if max(r, g, b) == 255], np.float32)
    vivid = grid[np.ptp(grid, axis=1) > 0]
    return vivid[:17]


def place(corner_xy: tuple[float, float], scale: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keypoints (17, 2) and box (4,) of a person whose box begins at a corner."""
    corner = np.array(corner_xy)
    return STANDING * scale + corner, np.concatenate([corner, corner + BOX_WH * scale])


def draw(
    size_wh: tuple[int, int],
    people: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    dot_radius: float = DOT_RADIUS,
) -> FrameBGR:
    """A frame with people from :func:`place`; positions are true to a sixteenth of a pixel."""
    frame = np.full((size_wh[1], size_wh[0], 3), BACKGROUND, np.uint8)

    def fixed(value: float) -> int:
        return round((value - 0.5) * 16)  # OpenCV counts from pixel centres, with four fractional bits

    for keypoints, box in people:
        x0, y0, x1, y1 = (round(v) for v in box)
        frame[y0:y1, x0:x1] = FIGURE
        radius = round(dot_radius * (box[2] - box[0]) / BOX_WH[0] * 16)
        for (x, y), colour in zip(keypoints, colours_rgb(), strict=True):
            bgr = tuple(float(v) for v in colour[::-1])
            cv2.circle(frame, (fixed(x), fixed(y)), radius, bgr, -1, cv2.LINE_AA, 4)
    return frame


def _constant(name: str, value: NDArray[np.generic]) -> TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(value), name)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    ins: dict[str, list[object]],
    outs: dict[str, tuple[int, list[object]]],
    constants: list[TensorProto],
) -> None:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ins.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def save_finder(path: Path, side: int = 320) -> None:
    """RTMDet's signature: ``input`` (1, 3, side, side), ``dets`` (1, 2, 5), ``labels`` (1, 2).

    The first row is the box of everything bright, with confidence 0.9 (0 where nothing is); the second is a sure
    detection of class 1, which is nobody.
    """
    # Back to grey levels: the padding, 114, is told from figures by its being quite grey; so figures are found by the
    # mean of the channels within a band around their own level, or beyond it.
    weights = (DET_STD / 3).astype(np.float32).reshape(1, 3, 1, 1)
    node = helper.make_node
    ramp = np.arange(side, dtype=np.float32)
    nodes = [
        node("Conv", ["input", "weights", "bias"], ["level"]),  # (1, 1, side, side) mean of the channels
        node("Sub", ["level", "padding"], ["off"]),
        node("Abs", ["off"], ["distance"]),
        node("Greater", ["level", "dark"], ["bright"]),
        node("Greater", ["distance", "tolerance"], ["no_padding"]),
        node("And", ["bright", "no_padding"], ["figure"]),
        node("Cast", ["figure"], ["mask"], to=TensorProto.FLOAT),
        node("ReduceMax", ["mask"], ["columns"], axes=[0, 1, 2], keepdims=0),
        node("ReduceMax", ["mask"], ["rows"], axes=[0, 1, 3], keepdims=0),
    ]
    for axis, profile in (("x", "columns"), ("y", "rows")):
        nodes += [
            node("Mul", [profile, "ramp_up"], [f"up_{axis}"]),
            node("ReduceMax", [f"up_{axis}"], [f"high_{axis}"], keepdims=1, axes=[0]),
            node("Mul", [profile, "ramp_down"], [f"down_{axis}"]),
            node("ReduceMax", [f"down_{axis}"], [f"reach_{axis}"], keepdims=1, axes=[0]),
            node("Sub", ["side", f"reach_{axis}"], [f"low_{axis}"]),
        ]
    nodes += [
        node("ReduceMax", ["columns"], ["any"], keepdims=1, axes=[0]),
        node("Mul", ["any", "sure"], ["score"]),
        node("Concat", ["low_x", "low_y", "high_x", "high_y", "score"], ["row"], axis=0),
        node("Reshape", ["row", "row_shape"], ["found"]),
        node("Concat", ["found", "other"], ["dets"], axis=1),
        node("Identity", ["classes"], ["labels"]),
    ]
    constants = [
        _constant("weights", weights),
        _constant("bias", np.array([DET_MEAN.mean()], np.float32)),
        _constant("padding", np.array(114, np.float32)),
        _constant("tolerance", np.array(1.0, np.float32)),
        _constant("dark", np.array((BACKGROUND + FIGURE) / 2, np.float32)),
        _constant("ramp_up", ramp + 1),
        _constant("ramp_down", side - ramp),
        _constant("side", np.array([side], np.float32)),
        _constant("sure", np.array([0.9], np.float32)),
        _constant("row_shape", np.array([1, 1, 5], np.int64)),
        _constant("other", np.array([[[0, 0, side, side, 0.99]]], np.float32)),
        _constant("classes", np.array([[0, 1]], np.int64)),
    ]
    outputs: dict[str, tuple[int, list[object]]] = {
        "dets": (TensorProto.FLOAT, [1, "found", 5]),
        "labels": (TensorProto.INT64, [1, "found"]),
    }
    _save(path, nodes, {"input": [1, 3, side, side]}, outputs, constants)


def save_pose(path: Path, wh: tuple[int, int] = (192, 256), joints: int = 17, batch: object = "batch") -> None:
    """RTMPose's signature: ``input`` (N, 3, H, W), ``simcc_x`` (N, joints, 2 W), ``simcc_y`` (N, joints, 2 H).

    A keypoint's response is 1 where the picture has exactly its colour, and falls with the distance of the colours.
    """
    colours = (colours_rgb()[:joints] - POSE_MEAN) / POSE_STD
    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["input", "joint_axis"], ["images"]),  # (N, 1, 3, H, W)
        node("Sub", ["images", "colours"], ["differences"]),
        node("Mul", ["differences", "differences"], ["squares"]),
        node("ReduceSum", ["squares", "channel_axis"], ["distance"], keepdims=0),  # (N, joints, H, W)
        # Blurred, so that the peak is the middle of the dot and not one of its pixels.
        node("Mul", ["distance", "steepness"], ["exponent"]),
        node("Exp", ["exponent"], ["response"]),
        node("Conv", ["response", "blur"], ["blurred"], group=joints, pads=[3, 3, 3, 3]),
        node("ReduceMax", ["blurred"], ["columns"], axes=[2], keepdims=0),
        node("ReduceMax", ["blurred"], ["rows"], axes=[3], keepdims=0),
        # Two bins for each pixel: nearest neighbours of bin b are pixels b / 2.
        node("Gather", ["columns", "bins_x"], ["simcc_x"], axis=2),
        node("Gather", ["rows", "bins_y"], ["simcc_y"], axis=2),
    ]
    kernel = cv2.getGaussianKernel(7, 1.5, cv2.CV_32F)
    blur = np.broadcast_to(kernel @ kernel.T, (joints, 1, 7, 7))
    constants = [
        _constant("joint_axis", np.array([1], np.int64)),
        _constant("channel_axis", np.array([2], np.int64)),
        _constant("colours", colours.astype(np.float32).reshape(1, joints, 3, 1, 1)),
        _constant("steepness", np.array(-2.0, np.float32)),
        _constant("blur", blur.astype(np.float32)),
        _constant("bins_x", np.arange(2 * wh[0], dtype=np.int64) // 2),
        _constant("bins_y", np.arange(2 * wh[1], dtype=np.int64) // 2),
    ]
    outputs: dict[str, tuple[int, list[object]]] = {
        "simcc_x": (TensorProto.FLOAT, [batch, joints, 2 * wh[0]]),
        "simcc_y": (TensorProto.FLOAT, [batch, joints, 2 * wh[1]]),
    }
    _save(path, nodes, {"input": [batch, 3, wh[1], wh[0]]}, outputs, constants)
