"""Contact sheet: one picture that shows the number of each person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.render.overlay2d import draw_skeleton
from vp3d_cli.render.palette import INK, LIGHT, mix, person_colors
from vp3d_cli.render.shapes import even, resize_into
from vp3d_cli.render.text import label, write
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray, Frame, FrameBGR

_MAX_TILES = 12
_GAP_SHARE, _CAPTION_SHARE = 0.02, 0.07  # of a tile's height
_CAP_SHARE = 1 / 26  # height of capital letters; tiles are small
_MIN_SCORE = 0.3  # keypoints of lower confidence are not drawn


@dataclass(frozen=True)
class NumberedPerson:
    """One person in one frame.

    Attributes:
        person_id: number to show.
        box_xyxy: (4,) pixels; NaN for no box.
        keypoints: (K, 2) pixels; NaN is not drawn.
        scores: (K,) confidence 0..1.
        joint_names: K joint names of the 2D skeleton.
    """

    person_id: int
    box_xyxy: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    joint_names: tuple[str, ...] = COCO17.joints


def contact_sheet(shots: Sequence[tuple[Frame, Sequence[NumberedPerson]]], *, width: int = 1920) -> FrameBGR:
    """Draw up to twelve frames with numbered people on one sheet.

    Of more than twelve frames, twelve evenly spaced ones are shown.

    Args:
        shots: frames, each with its people.
        width: width of the sheet in pixels.

    Returns:
        (H, width, 3) BGR.

    Raises:
        ConfigError: there are no frames.
    """
    if not shots:
        raise ConfigError("a contact sheet needs at least one frame")
    if len(shots) > _MAX_TILES:
        chosen = np.linspace(0, len(shots) - 1, _MAX_TILES).round().astype(int).tolist()
        shots = [shots[i] for i in chosen]
    aspect = max(frame.image.shape[1] / frame.image.shape[0] for frame, _ in shots)
    columns = _columns(len(shots), aspect)
    tile_width = round(width / (columns + (columns + 1) * _GAP_SHARE / aspect))
    tile_height = round(tile_width / aspect)
    gap, caption = max(2, round(tile_height * _GAP_SHARE)), max(14, round(tile_height * _CAPTION_SHARE))
    rows = math.ceil(len(shots) / columns)
    sheet = np.empty((even(gap + rows * (tile_height + caption + gap)), width, 3), np.uint8)
    sheet[:] = LIGHT.sky
    for i, (frame, people) in enumerate(shots):
        x = gap + (i % columns) * (tile_width + gap)
        y = gap + (i // columns) * (tile_height + caption + gap)
        area = sheet[y : y + tile_height, x : min(x + tile_width, width)]
        _draw_tile(area, frame, people)
        cap_px = 0.38 * caption
        write(sheet, f"{frame.time_s:.2f} s", (x + 2, y + tile_height + round(0.31 * caption)), cap_px, LIGHT.caption)
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Number of columns that gives a sheet of about 3:2 without an empty column."""
    wanted = round(math.sqrt(count * 1.5 / aspect))
    columns = min(count, max(1, wanted))
    return math.ceil(count / math.ceil(count / columns))


def _draw_tile(area: FrameBGR, frame: Frame, people: Sequence[NumberedPerson]) -> None:
    scale = min(area.shape[1] / frame.image.shape[1], area.shape[0] / frame.image.shape[0])
    width, height = round(frame.image.shape[1] * scale), round(frame.image.shape[0] * scale)
    left, top = (area.shape[1] - width) // 2, (area.shape[0] - height) // 2
    picture = area[top : top + height, left : left + width]
    resize_into(picture, frame.image)
    for person in reversed(people):  # the main person last, on top
        keypoints = np.where(person.scores[:, None] >= _MIN_SCORE, person.keypoints, np.nan)
        pixels = (keypoints + 0.5) * scale - 0.5
        observed = np.ones(len(pixels), bool)
        draw_skeleton(picture, pixels, person.scores, observed, person.joint_names, person.person_id)
    for person in reversed(people):
        _draw_box(picture, person.box_xyxy * scale, person.person_id)


def _draw_box(picture: FrameBGR, box_xyxy: NDArray[Any], person_id: int) -> None:
    if not np.isfinite(box_xyxy).all():
        return
    height, width = picture.shape[:2]
    x0, y0 = (round(v) for v in box_xyxy[:2].clip(1, (width - 2, height - 2)).tolist())
    x1, y1 = (round(v) for v in box_xyxy[2:].clip(1, (width - 2, height - 2)).tolist())
    color = person_colors(person_id).core
    thickness = max(1, round(height / 200))
    cv2.rectangle(picture, (x0, y0), (x1, y1), mix(color, INK, 0.6), thickness + 2, cv2.LINE_AA)
    cv2.rectangle(picture, (x0, y0), (x1, y1), color, thickness, cv2.LINE_AA)
    cap_px = max(9.0, height * _CAP_SHARE)
    label(picture, str(person_id), ((x0 + x1) / 2, y0 + cap_px), cap_px, color)
