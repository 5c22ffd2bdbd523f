"""Heat-maps of the Cascaded Pyramid Network: training targets, and decoding of keypoints.

Positions are continuous pixels of the network's input. A pixel of a heat-map covers 4 x 4 of them; pixel i has its
centre at 4 i + 2.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.detect.cpn.network import STRIDE
from vp3d_cli.types import BoolArray, FloatArray

PEAK = 255.0
# Sides of the Gaussian kernels of the targets, pixels of the heat-map: GlobalNet's levels from coarse to fine, and
# RefineNet.
GLOBAL_KERNELS = (15, 11, 9, 7)
REFINE_KERNEL = 7
_READING_KERNEL = 21  # Gaussian blur of a heat-map before its peak is located
_QUARTER = 0.25  # Chen et al. 2018, section 4.1: "a quarter offset in the direction from the highest to the second"


def kernel_sigma(kernel: int) -> float:
    """Standard deviation of OpenCV's Gaussian kernel of this side (getGaussianKernel)."""
    return 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8


def draw_targets(points: NDArray[Any], drawn: BoolArray, map_hw: tuple[int, int], kernel: int) -> FloatArray:
    """Draw target heat-maps with a Gaussian at each point.

    The Gaussian is centred on the point, not on the nearest pixel, so that the network learns sub-pixel positions.

    Args:
        points: (J, 2) pixels of the network's input.
        drawn: (J,) False gives an empty map.
        map_hw: height and width of a heat-map.
        kernel: side of the Gaussian kernel.

    Returns:
        (J, H, W) with a peak of 255.
    """
    centres = np.asarray(points, np.float64) / STRIDE - 0.5
    sigma, reach = kernel_sigma(kernel), kernel / 2
    profiles = []
    for axis, size in ((1, map_hw[0]), (0, map_hw[1])):
        away = np.arange(size) - centres[:, axis, None]
        profiles.append(np.where(np.abs(away) <= reach, np.exp(-(away**2) / (2 * sigma**2)), 0.0))
    maps = PEAK * profiles[0][:, :, None] * profiles[1][:, None, :]
    return np.where(drawn[:, None, None], maps, 0.0).astype(np.float32)


def read_keypoints(maps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Decode keypoints: peak of the blurred map, moved a quarter pixel to the second peak.

    Args:
        maps: (N, J, H, W).

    Returns:
        (N, J, 2) pixels of the network's input, and (N, J) confidence: value of the map at the peak divided by the
        training peak of 255, clipped to 0..1.
    """
    people, joints, height, width = maps.shape
    flat = np.ascontiguousarray(maps.reshape(people * joints, height, width), np.float32)
    blurred = np.stack(
        [cv2.GaussianBlur(one, (_READING_KERNEL, _READING_KERNEL), 0, borderType=cv2.BORDER_CONSTANT) for one in flat]
    ).reshape(len(flat), -1)
    first = blurred.argmax(axis=1)
    number = np.arange(len(flat))
    blurred[number, first] = -np.inf
    second = blurred.argmax(axis=1)
    peak, other = (np.stack([index % width, index // width], axis=1).astype(np.float64) for index in (first, second))
    away = other - peak
    cells = peak + _QUARTER * away / np.linalg.norm(away, axis=1, keepdims=True)
    points = (cells + 0.5) * STRIDE
    scores = np.clip(flat.reshape(len(flat), -1)[number, first] / PEAK, 0, 1)
    return points.reshape(people, joints, 2).astype(np.float32), scores.reshape(people, joints).astype(np.float32)
