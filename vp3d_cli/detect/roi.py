"""Square regions of interest around one person: geometry, cropping, and how alike two sets of keypoints are.

Pixels are continuous: x right, y down, (0, 0) is the top-left corner of the image, so the centre of the first
pixel is (0.5, 0.5). OpenCV counts from pixel centres; :func:`crop` makes up for that half pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, FrameBGR

SHOULDERS = (COCO17.index("left_shoulder"), COCO17.index("right_shoulder"))
HIPS = (COCO17.index("left_hip"), COCO17.index("right_hip"))

# Per-keypoint deviation of human annotators relative to the person's size (COCO keypoint evaluation, "OKS").
OKS_SIGMAS: NDArray[np.float64] = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
     0.089, 0.089]
)  # fmt: skip

# Half side of the square over the torso's length, at least: room for limbs that were not seen. MoveNet's published rule
# takes 1.9 around the hips; around the middle of the box, 1.5 to 1.9 serve alike and less or more serves worse.
TORSO_REACH = 1.6
MIN_SIDE_PX = 16.0  # nobody smaller can be made out


@dataclass(frozen=True)
class Roi:
    """A square in the image, possibly turned.

    Attributes:
        cx, cy: centre, pixels.
        side: pixels.
        angle: radians clockwise (as seen) from the image's axes to the square's; the crop shows the image turned
            back by it. A person whose head points along the square's "up" stands upright in the crop.
    """

    cx: float
    cy: float
    side: float
    angle: float = 0.0

    def to_image(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Points of the square, (..., 2) x y in 0..1, to pixels of the image."""
        local = (np.asarray(points, np.float64) - 0.5) * self.side
        image: NDArray[np.float64] = local @ self._axes() + np.array([self.cx, self.cy])
        return image

    def from_image(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Pixels of the image to points of the square; undoes :meth:`to_image`."""
        local: NDArray[np.float64] = (np.asarray(points, np.float64) - np.array([self.cx, self.cy])) @ self._axes().T
        return local / self.side + 0.5

    def _axes(self) -> NDArray[np.float64]:
        """Rows: the square's x and y axis in the image."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.array([[c, s], [-s, c]])


def crop(image: FrameBGR, roi: Roi, size: int) -> NDArray[np.uint8]:
    """Cut a square region out of an image, as (size, size, 3); what lies outside the image is black.

    Where the region is shrunk more than twofold, it is first shrunk by a whole factor with area averaging:
    bilinear sampling alone would skip pixels and let fine patterns shimmer.
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
    # Maps indices of the crop's pixels to indices of the image's: pixel i has its centre at i + 0.5.
    axes = roi._axes() * roi.side / size / factor
    centre = (np.array([roi.cx - x0, roi.cy - y0])) / factor
    offset = centre - 0.5 + (np.array([0.5, 0.5]) - size / 2) @ axes
    matrix = np.column_stack([axes.T, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch: NDArray[np.uint8] = cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return patch


def wrap_angle(angle: float) -> float:
    """The same angle between -pi and pi."""
    return math.remainder(angle, 2 * math.pi)


def similarity(first: FloatArray, second: FloatArray, weights: NDArray[Any], scale: float) -> float:
    """Object keypoint similarity of two people, 0..1: 1 where they coincide (COCO keypoint evaluation).

    Args:
        first, second: (17, 2) pixels.
        weights: (17,) how much each keypoint counts.
        scale: size of the person in pixels (square root of the area).
    """
    total = float(np.sum(weights))
    if total <= 0 or scale <= 0:
        return 0.0
    squared = np.sum((first.astype(np.float64) - second) ** 2, axis=-1)
    likeness = np.exp(-squared / (2 * scale**2 * (2 * OKS_SIGMAS) ** 2))
    return float(np.sum(likeness * weights) / total)


def roi_around(
    keypoints: FloatArray, scores: FloatArray, *, min_score: float, padding: float, angle: float = 0.0
) -> Roi | None:
    """The square that holds a person, from keypoints of this or the previous frame.

    The square is centred on the box of the keypoints that were seen; its half side is ``padding`` times the box's
    longer one, but never less than the torso asks for: limbs that were not seen, or were folded, still find room.

    Args:
        keypoints: (17, 2) pixels.
        scores: (17,).
        min_score: keypoints below this count as not seen.
        padding: 1 would cut through the outermost keypoints.
        angle: of the square, radians.

    Returns:
        None where fewer than three keypoints were seen.
    """
    seen = scores >= min_score
    if np.count_nonzero(seen) < 3:
        return None
    turned = Roi(0.0, 0.0, 1.0, angle)
    local = turned.from_image(keypoints)
    low, high = local[seen].min(axis=0), local[seen].max(axis=0)
    half = float((high - low).max()) / 2 * padding
    shoulders, hips = (local[list(pair)].mean(axis=0) if seen[list(pair)].all() else None for pair in (SHOULDERS, HIPS))
    if shoulders is not None and hips is not None:
        half = max(half, TORSO_REACH * float(np.linalg.norm(shoulders - hips)))
    cx, cy = turned.to_image((low + high) / 2)
    return Roi(float(cx), float(cy), max(2 * half, MIN_SIDE_PX), angle)
