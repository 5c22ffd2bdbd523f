"""Anti-aliased shapes at sub-pixel positions with OpenCV's fixed-point drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.render.palette import Color
from vp3d_cli.types import FrameBGR

SHIFT = 4  # sub-pixel bits: 1/16 pixel
_LIMIT_PX = 1e5  # beyond it fixed-point coordinates could overflow

Array = NDArray[Any]
Point = tuple[float, float]  # x, y in pixels; a whole number is the centre of a pixel
FIXED_ONE = 1 << SHIFT  # a pixel
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
# OpenCV's own small circles have visible corners.
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)


def capsule_outlines(ends: Array, radii: Array, arc_points: int) -> Array:
    """Outlines of tapered capsules, each the convex hull of two discs.

    Args:
        ends: (..., 2, 2) centres of both discs.
        radii: (..., 2) their radii, in the same unit.
        arc_points: number of points of the arc at each end.

    Returns:
        (..., 2 * arc_points, 2) convex polygons.
    """
    axis = ends[..., 1, :] - ends[..., 0, :]
    length = np.hypot(axis[..., 0], axis[..., 1])
    # Where one disc contains the other, the smaller one grows to touch its rim: the hull does not change.
    radius_a = np.maximum(radii[..., 0], radii[..., 1] - length)
    radius_b = np.maximum(radii[..., 1], radii[..., 0] - length)
    heading = np.arctan2(axis[..., 1], axis[..., 0])
    slope = np.divide(radius_a - radius_b, length, out=np.zeros_like(length), where=length > 1e-9)
    tangent = np.arccos(np.clip(slope, -1.0, 1.0))  # angle from the axis to the tangent points of the sides
    steps = np.linspace(-1.0, 1.0, arc_points)
    angle_b = heading[..., None] + steps * tangent[..., None]
    angle_a = heading[..., None] + np.pi + steps * (np.pi - tangent[..., None])
    arc_a = ends[..., 0, None, :] + radius_a[..., None, None] * np.stack([np.cos(angle_a), np.sin(angle_a)], -1)
    arc_b = ends[..., 1, None, :] + radius_b[..., None, None] * np.stack([np.cos(angle_b), np.sin(angle_b)], -1)
    return np.concatenate([arc_b, arc_a], axis=-2)


def to_fixed(points: Array) -> NDArray[np.int32]:
    """Convert pixels (a whole number is the centre of a pixel) to OpenCV's fixed point."""
    fixed: NDArray[np.int32] = np.rint(np.clip(points, -_LIMIT_PX, _LIMIT_PX) * FIXED_ONE).astype(np.int32)
    return fixed


def fill(image: Array, outline: NDArray[np.int32], color: Color | int) -> None:
    """Fill a convex outline (N, 2) in the fixed point of :func:`to_fixed`."""
    cv2.fillConvexPoly(image, outline, color, cv2.LINE_AA, SHIFT)


def disc_outlines(centers: Array, radii: Array) -> Array:
    """Outlines (..., 16, 2) of small discs with centres (..., 2) and radii (...)."""
    outlines: Array = centers[..., None, :] + radii[..., None, None] * _CIRCLE
    return outlines


def line(image: Array, start: Point, end: Point, color: Color | int, width: int) -> None:
    """Draw a straight line with round ends."""
    cv2.line(image, _fixed_point(start), _fixed_point(end), color, width, cv2.LINE_AA, SHIFT)


def _fixed_point(point: Point) -> tuple[int, int]:
    x, y = point
    if abs(x) > _LIMIT_PX or abs(y) > _LIMIT_PX:
        x, y = max(-_LIMIT_PX, min(_LIMIT_PX, x)), max(-_LIMIT_PX, min(_LIMIT_PX, y))
    return round(x * FIXED_ONE), round(y * FIXED_ONE)


def crop_around(image: FrameBGR, points: Sequence[Point], margin: float) -> tuple[FrameBGR, Point] | None:
    """Part of an image around some points, as a view, and its top-left corner.

    None if all points lie outside the image.
    """
    height, width = image.shape[:2]
    x0 = max(math.floor(min(x for x, _ in points) - margin), 0)
    y0 = max(math.floor(min(y for _, y in points) - margin), 0)
    x1 = min(math.ceil(max(x for x, _ in points) + margin) + 1, width)
    y1 = min(math.ceil(max(y for _, y in points) + margin) + 1, height)
    if x0 >= x1 or y0 >= y1:
        return None
    return image[y0:y1, x0:x1], (x0, y0)


def blend(image: FrameBGR, painted: FrameBGR, opacity: float) -> None:
    """Blend ``painted`` over ``image`` (changed in place) with an opacity in 0..1."""
    cv2.addWeighted(painted, opacity, image, 1.0 - opacity, 0.0, dst=image)


def even(value: float) -> int:
    """Nearest even number, at least 2: H.264 with yuv420p needs even sizes."""
    return max(2, 2 * round(value / 2))


def resize_into(target: FrameBGR, image: FrameBGR) -> None:
    """Resize an image into ``target``.

    An image that shrinks to less than half is first averaged over whole blocks of pixels, then sampled bilinearly. This
    prevents moiré and is six times as fast as averaging over fractions of pixels.
    """
    height, width = target.shape[:2]
    factor = min(image.shape[1] // width, image.shape[0] // height)
    if factor >= 2:
        blocks = (image.shape[1] // factor, image.shape[0] // factor)
        image = cv2.resize(image[: blocks[1] * factor, : blocks[0] * factor], blocks, interpolation=cv2.INTER_AREA)
    cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
