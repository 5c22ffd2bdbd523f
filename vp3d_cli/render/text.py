"""Text and labels: rendered once at eight times their size, cached as masks, and blended."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.render.palette import INK, WHITE, Color
from vp3d_cli.types import FrameBGR

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_CAP_PX = 22  # height of capital letters at scale 1 in OpenCV's glyph table
_OVERSAMPLING = 8

_CAP_SHARE, _MIN_CAP_PX = 1 / 60, 7.0  # height of capitals over the picture's height; smallest legible height

Mask = NDArray[np.float32]  # (H, W, 1) coverage 0..1


def caption_px(image_height: int) -> float:
    """Height of capital letters in pixels for labels and captions on a picture."""
    return max(_MIN_CAP_PX, image_height * _CAP_SHARE)


@lru_cache(maxsize=256)
def text_mask(text: str, cap_px: float) -> Mask:
    """Coverage mask of a line of text with capitals ``cap_px`` high.

    The mask has a margin of 30 % of ``cap_px`` above and 40 % below.
    """
    scale = cap_px * _OVERSAMPLING / _FONT_CAP_PX
    thickness = max(1, round(2.2 * scale))
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    cap = cap_px * _OVERSAMPLING
    canvas = np.zeros((round(1.7 * cap), width + round(2 * cap)), np.uint8)
    cv2.putText(canvas, text, (round(0.5 * cap), round(1.3 * cap)), _FONT, scale, 255, thickness, cv2.LINE_AA)
    inked = np.flatnonzero(canvas.any(axis=0))
    if len(inked):
        canvas = canvas[:, inked[0] : inked[-1] + 1]
    size = (max(1, round(canvas.shape[1] / _OVERSAMPLING)), max(1, round(canvas.shape[0] / _OVERSAMPLING)))
    return _frozen(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=256)
def rounded_bar_mask(width: int, height: int) -> Mask:
    """Coverage mask of a bar with round ends."""
    canvas = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    radius = height * _OVERSAMPLING // 2
    cv2.line(canvas, (radius, radius), (max(radius, canvas.shape[1] - radius - 1), radius), 255, 2 * radius - 1)
    return _frozen(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def _frozen(mask: NDArray[np.uint8]) -> Mask:
    coverage = (mask.astype(np.float32) / 255.0)[:, :, None]
    coverage.flags.writeable = False  # all callers share the cached array
    return coverage


def blend_mask(image: FrameBGR, mask: Mask, xy: tuple[int, int], color: Color, opacity: float = 1.0) -> None:
    """Blend a colour into an image through a mask with its top-left corner at ``xy``, clipped."""
    x, y = xy
    top, left = max(0, -y), max(0, -x)
    bottom, right = min(mask.shape[0], image.shape[0] - y), min(mask.shape[1], image.shape[1] - x)
    if top >= bottom or left >= right:
        return
    part = image[y + top : y + bottom, x + left : x + right]
    cover = mask[top:bottom, left:right] * np.float32(opacity)
    part[:] = np.rint(part + cover * (np.asarray(color, np.float32) - part))


def write(image: FrameBGR, text: str, xy: tuple[int, int], cap_px: float, color: Color) -> None:
    """Draw a line of text; ``xy`` is the top-left corner of the capital letters."""
    blend_mask(image, text_mask(text, cap_px), (xy[0], xy[1] - round(0.3 * cap_px)), color)


def label(image: FrameBGR, text: str, bottom_center: tuple[float, float], cap_px: float, color: Color) -> None:
    """Draw white text on a rounded bar above a point, moved to stay within the image."""
    glyphs = text_mask(text, cap_px)
    height = round(2.1 * cap_px)
    width = max(height, glyphs.shape[1] + round(1.3 * cap_px))
    x = min(max(round(bottom_center[0] - width / 2), 2), image.shape[1] - width - 2)
    y = min(max(round(bottom_center[1] - height), 2), image.shape[0] - height - 2)
    blend_mask(image, rounded_bar_mask(width + 2, height + 2), (x - 1, y - 1), INK, 0.55)  # dark rim for bright footage
    blend_mask(image, rounded_bar_mask(width, height), (x, y), color)
    baseline = y + round((height - cap_px) / 2 - 0.3 * cap_px)
    blend_mask(image, glyphs, (x + (width - glyphs.shape[1]) // 2, baseline), WHITE)
