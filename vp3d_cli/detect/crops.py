"""Cutting a person out of an image for a network with a fixed input size; training and detection share it.

Pixels are continuous: x right, y down, (0, 0) is the top-left corner, so the centre of the first pixel is
(0.5, 0.5). An affine map is a (2, 3) matrix that takes image points to points of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.types import DoubleArray, FrameBGR


def crop_map(
    box_xyxy: NDArray[Any],
    input_wh: tuple[int, int],
    grow_xy: tuple[float, float],
    *,
    zoom: float = 1.0,
    angle: float = 0.0,
    mirror: bool = False,
) -> DoubleArray:
    """The map that brings a grown box to a network's input, aspect ratio kept, centre to centre.

    Args:
        box_xyxy: (4,) pixels of the image.
        input_wh: width and height of the network's input.
        grow_xy: how much the box grows on each side, in shares of its width and height. Its shorter dimension (by
            the input's aspect ratio) then grows until the box has that ratio.
        zoom: enlarges the person by this factor (augmentation).
        angle: turns the person clockwise as seen, radians (augmentation).
        mirror: flips left and right (augmentation).

    Returns:
        (2, 3) matrix from image to input.
    """
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    width, height = (x1 - x0) * (1 + 2 * grow_xy[0]), (y1 - y0) * (1 + 2 * grow_xy[1])
    scale = zoom * min(input_wh[0] / width, input_wh[1] / height)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    if mirror:
        linear[0] *= -1
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.column_stack([linear, np.array(input_wh) / 2 - linear @ centre])


def map_points(matrix: DoubleArray, points: NDArray[Any]) -> DoubleArray:
    """Apply a (2, 3) map to points (..., 2)."""
    mapped: DoubleArray = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def invert(matrix: DoubleArray) -> DoubleArray:
    """The (2, 3) map that undoes another."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def cut(
    image: FrameBGR, matrix: DoubleArray, input_wh: tuple[int, int], border: Sequence[int] = (0, 0, 0)
) -> NDArray[np.uint8]:
    """Cut out what a map brings to the network's input, as (height, width, 3).

    Where the image is shrunk more than twofold, it is first shrunk by a whole factor with area averaging: bilinear
    sampling alone would skip pixels.

    Args:
        image: (H, W, 3).
        matrix: (2, 3) from image to input.
        input_wh: size of the result.
        border: colour of what lies outside the image.
    """
    width, height = input_wh
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    back = invert(matrix)
    factor = max(1, int(math.sqrt(abs(np.linalg.det(back[:, :2])))))
    reached = map_points(back, corners)
    limits = np.array(image.shape[1::-1])
    low = np.clip(np.floor(reached.min(axis=0)).astype(int) - 2 * factor, 0, limits)
    high = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 2 * factor, 0, limits)
    small = (high - low) // factor
    if small.min() < 1:
        return np.full((height, width, 3), border, np.uint8)
    x1, y1 = low + small * factor
    part = image[low[1] : y1, low[0] : x1]
    if factor > 1:
        part = cv2.resize(part, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA)
    # OpenCV counts from the centres of pixels: its coordinate 0 is our 0.5, in the part as in the result.
    linear = matrix[:, :2] * factor
    shift = matrix[:, 2] + matrix[:, :2] @ low + linear @ (0.5, 0.5) - 0.5
    result: NDArray[np.uint8] = cv2.warpAffine(
        part,
        np.column_stack([linear, shift]),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=[float(v) for v in border],
    )
    return result
