"""Geometry of crops: boxes, squares and transforms from an image to a network's input.

All detectors and the training of detectors use this module. Pixels are continuous: x right, y down, (0, 0) is the
top-left corner of the image, so the centre of the first pixel is (0.5, 0.5). OpenCV counts from pixel centres; the
functions here correct for that half pixel. A transform is a (2, 3) affine matrix from image points to points of the
network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray, FloatArray, FrameBGR, Keypoints2D

SHOULDERS = (COCO17.index("left_shoulder"), COCO17.index("right_shoulder"))
HIPS = (COCO17.index("left_hip"), COCO17.index("right_hip"))

# A box around keypoints (MoveNet's) ends at eyes, wrists and ankles. Pose networks are trained with boxes around whole
# people, with crown, fingers and toes: about a tenth of the person more on each side.
KEYPOINT_BOX_MARGIN = 0.1
# Smallest half side of a square over the length of the torso: room for limbs that were not seen. MoveNet's published
# rule is 1.9 around the hips; around the centre of the box 1.5 to 1.9 are equally good.
TORSO_REACH = 1.6
MIN_SIDE_PX = 16.0  # smallest side of a square


def crop_transform(
    box_xyxy: NDArray[Any],
    input_wh: tuple[int, int],
    grow_xy: tuple[float, float],
    *,
    zoom: float = 1.0,
    angle: float = 0.0,
    mirror: bool = False,
) -> DoubleArray:
    """Transform that maps an enlarged box to a network's input of another size.

    Args:
        box_xyxy: (4,) pixels of the image.
        input_wh: width and height of the network's input.
        grow_xy: margin on each side as a share of the box's width and height. The shorter dimension (relative to the
            input's aspect ratio) then grows to that ratio.
        zoom: factor that enlarges the person (augmentation).
        angle: clockwise rotation of the person, radians (augmentation).
        mirror: flip left and right (augmentation).

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


def transform_points(matrix: DoubleArray, points: NDArray[Any]) -> DoubleArray:
    """Apply a (2, 3) transform to points (..., 2)."""
    mapped: DoubleArray = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def invert_transform(matrix: DoubleArray) -> DoubleArray:
    """Invert a (2, 3) transform."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def extract_crop(
    image: FrameBGR, matrix: DoubleArray, input_wh: tuple[int, int], border: Sequence[int] = (0, 0, 0)
) -> NDArray[np.uint8]:
    """Extract the part of an image that a transform maps to the network's input.

    If the image shrinks more than twofold, it is first reduced by a whole factor with area averaging, because bilinear
    sampling alone would skip pixels.

    Args:
        image: (H, W, 3).
        matrix: (2, 3) transform from image to input.
        input_wh: width and height of the result.
        border: colour outside the image.

    Returns:
        (height, width, 3).
    """
    width, height = input_wh
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    back = invert_transform(matrix)
    factor = max(1, int(math.sqrt(abs(np.linalg.det(back[:, :2])))))
    corners_in_image = transform_points(back, corners)
    limits = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners_in_image.min(axis=0)).astype(int) - 2 * factor, 0, limits)
    high = np.clip(np.ceil(corners_in_image.max(axis=0)).astype(int) + 2 * factor, 0, limits)
    small = (high - low) // factor
    if small.min() < 1:
        return np.full((height, width, 3), border, np.uint8)
    x1, y1 = low + small * factor
    part = image[low[1] : y1, low[0] : x1]
    if factor > 1:
        part = cv2.resize(part, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA)
    # Coordinate 0 of OpenCV is 0.5 here, in the part and in the result.
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


@dataclass(frozen=True)
class SquareCrop:
    """Square region of an image, possibly rotated.

    Attributes:
        cx, cy: centre in pixels.
        side: length of a side in pixels.
        angle: clockwise rotation of the square against the image, radians. A person whose head points to the top of
            the square is upright in the crop.
    """

    cx: float
    cy: float
    side: float
    angle: float = 0.0

    def to_image(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Convert points of the square, (..., 2) x y in 0..1, to pixels of the image."""
        local = (np.asarray(points, np.float64) - 0.5) * self.side
        image: NDArray[np.float64] = local @ self._axes() + np.array([self.cx, self.cy])
        return image

    def from_image(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Convert pixels of the image to points of the square, the inverse of :meth:`to_image`."""
        local: NDArray[np.float64] = (np.asarray(points, np.float64) - np.array([self.cx, self.cy])) @ self._axes().T
        return local / self.side + 0.5

    def _axes(self) -> NDArray[np.float64]:
        """Axes of the square in the image: rows x and y."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.array([[c, s], [-s, c]])


def extract_square(image: FrameBGR, roi: SquareCrop, size: int) -> NDArray[np.uint8]:
    """Extract a square of an image as (size, size, 3); black outside the image.

    If the square shrinks more than twofold, the image is first reduced by a whole factor with area averaging, because
    bilinear sampling alone would skip pixels.
    """
    factor = max(1, int(roi.side / size))
    x0 = y0 = 0
    if factor > 1:
        reach = roi.side / 2 * (abs(math.cos(roi.angle)) + abs(math.sin(roi.angle))) + 2 * factor
        height, width = image.shape[:2]
        x0, x1 = (int(min(max(v, 0), width)) for v in (roi.cx - reach, roi.cx + reach))
        y0, y1 = (int(min(max(v, 0), height)) for v in (roi.cy - reach, roi.cy + reach))
        wh = (x1 - x0) // factor, (y1 - y0) // factor
        if min(wh) < 1:
            return np.zeros((size, size, 3), np.uint8)
        image = cv2.resize(image[y0 : y0 + wh[1] * factor, x0 : x0 + wh[0] * factor], wh, interpolation=cv2.INTER_AREA)
    # Maps pixel indices of the crop to pixel indices of the image; pixel i has its centre at i + 0.5.
    axes = roi._axes() * roi.side / size / factor
    centre = (np.array([roi.cx - x0, roi.cy - y0])) / factor
    offset = centre - 0.5 + (np.array([0.5, 0.5]) - size / 2) @ axes
    matrix = np.column_stack([axes.T, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch: NDArray[np.uint8] = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return patch


def wrap_angle(angle: float) -> float:
    """Wrap an angle to -pi..pi."""
    return math.remainder(angle, 2 * math.pi)


def square_around(
    keypoints: FloatArray, scores: FloatArray, *, min_score: float, padding: float, angle: float = 0.0
) -> SquareCrop | None:
    """Square around a person, from the keypoints of this or the previous frame.

    The square is centred on the box of the visible keypoints. Its side is ``padding`` times the longer side of the box,
    and at least twice :data:`TORSO_REACH` times the torso, so that limbs that were not seen are inside.

    Args:
        keypoints: (17, 2) pixels.
        scores: (17,) confidence.
        min_score: keypoints of lower confidence count as not seen.
        padding: side of the square over the longer side of the box.
        angle: rotation of the square, radians.

    Returns:
        The square, or None if fewer than three keypoints were seen.
    """
    seen = scores >= min_score
    if np.count_nonzero(seen) < 3:
        return None
    turned = SquareCrop(0.0, 0.0, 1.0, angle)
    local = turned.from_image(keypoints)
    low, high = local[seen].min(axis=0), local[seen].max(axis=0)
    half = float((high - low).max()) / 2 * padding
    shoulders, hips = (local[list(pair)].mean(axis=0) if seen[list(pair)].all() else None for pair in (SHOULDERS, HIPS))
    if shoulders is not None and hips is not None:
        half = max(half, TORSO_REACH * float(np.linalg.norm(shoulders - hips)))
    cx, cy = turned.to_image((low + high) / 2)
    return SquareCrop(float(cx), float(cy), max(2 * half, MIN_SIDE_PX), angle)


def person_boxes(people: Keypoints2D) -> FloatArray:
    """Boxes (N, 4) around whole people.

    A box inside the extent of its keypoints was drawn around keypoints: it grows by :data:`KEYPOINT_BOX_MARGIN` of its
    size on each side. Other boxes do not change.
    """
    boxes = people.boxes_xyxy
    low, high = people.keypoints.min(axis=1) - 1.0, people.keypoints.max(axis=1) + 1.0
    # Comparisons with NaN, where a detector gives boxes only, are False.
    around_keypoints = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
    margin = (boxes[:, 2:] - boxes[:, :2]) * KEYPOINT_BOX_MARGIN * around_keypoints[:, None]
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1).astype(np.float32)
