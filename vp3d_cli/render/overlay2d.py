"""Drawing of 2D skeletons over the footage.

Each person has a colour: the light tone is the left side, the dark tone the right side. Opacity shows confidence.
Interpolated keypoints are hollow, and limbs that end in one are dashed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.render.palette import INK, WHITE, Color, mix, person_colors
from vp3d_cli.render.shapes import FIXED_ONE, SHIFT, Point, blend, crop_around, disc_outlines, fill, line, to_fixed
from vp3d_cli.render.text import label
from vp3d_cli.skeletons import skeleton_of
from vp3d_cli.types import FrameBGR

# Opacity rises with confidence between these two scores; low-confidence keypoints remain visible.
_FAINT_SCORE, _FULL_SCORE = 0.1, 0.6
_FAINT_OPACITY = 0.25
_LINE_SHARE = 1 / 190  # of the picture's height
_SMALL_PERSON_SHARE = 0.35  # of the picture's height; smaller people get thinner lines
_FACE = ("nose", "eye", "ear", "eye_inner", "eye_outer", "mouth")
_FACE_SHARE = 0.55  # face keypoints are close together, so they are drawn smaller
_DETAIL = "face_or_hand"  # the face and hand keypoints of whole-body detectors are even closer
_DETAIL_SHARE = 0.25
_HEAD_SHARE = 0.1  # radius of the head over the diagonal of a standing body, from the middle of the face

_OPAQUE = 0.98  # from this opacity on, draw without blending, which is faster
_MAX_DASHES = 40
_MIN_RIMMED_PX = 2.5  # smaller points have no white rim
# Radii of a point's dark rim, white rim, ring and core, relative to the width of the limb, pixels.
_POINT_RADII = np.array([1.4, 0.2, 1.6, -1.0])
_RING = 2
_MIN_RING_PX = 4.0  # a smaller ring has no visible hole

Array = NDArray[Any]


@dataclass(frozen=True)
class _Style:
    color: Color
    width: float  # of a limb, or radius of a point, in pixels
    opacity: float
    solid: bool  # False where a keypoint was interpolated


def draw_skeleton(
    image: FrameBGR,
    keypoints: Array,
    scores: Array,
    observed: Array,
    joint_names: Sequence[str],
    person_id: int,
    cap_px: float | None = None,
) -> None:
    """Draw the 2D skeleton of one person.

    Args:
        image: (H, W, 3), changed in place.
        keypoints: (J, 2) pixels of this image; NaN is not drawn.
        scores: (J,) confidence 0..1.
        observed: (J,) False where the keypoint was interpolated.
        joint_names: J joint names of the 2D skeleton.
        person_id: number of the person, for the colours and the label.
        cap_px: height of the label's capital letters in pixels; None for no label.
    """
    seen = np.asarray(np.isfinite(keypoints).all(axis=1))
    if not seen.any():
        return
    palette = person_colors(person_id)
    points: list[Point] = [(x, y) for x, y in keypoints.tolist()]
    width = _line_width(image.shape[0], keypoints[seen])
    widths = [width * _share(name) for name in joint_names]
    opacity: list[float] = _opacities(scores).tolist()
    radii = np.asarray(widths)[:, None] + _POINT_RADII
    radii[:, _RING] = np.maximum(radii[:, _RING], _MIN_RING_PX)
    for a, b in skeleton_bones(tuple(joint_names)):
        if seen[a] and seen[b]:
            same_side = _side(joint_names[a]) == _side(joint_names[b])
            color = palette.side(joint_names[b]) if same_side else palette.core
            solid = bool(observed[a] and observed[b])
            start = points[a] if observed[a] else _towards(points[a], points[b], float(radii[a, _RING]))
            end = points[b] if observed[b] else _towards(points[b], points[a], float(radii[b, _RING]))
            _draw_limb(image, start, end, _Style(color, widths[a], min(opacity[a], opacity[b]), solid))
    rounds = to_fixed(disc_outlines(np.nan_to_num(keypoints)[:, None], radii))
    for j in np.flatnonzero(seen).tolist():
        style = _Style(palette.side(joint_names[j]), widths[j], opacity[j], bool(observed[j]))
        _draw_point(image, points[j], rounds[j], style)
    inside = (keypoints[seen] >= 0) & (keypoints[seen] < [image.shape[1], image.shape[0]])
    if cap_px is not None and inside.all(axis=1).any():
        x, y, radius = _head(keypoints, seen, tuple(joint_names))
        label(image, str(person_id), (x, y - max(radius, 1.6 * cap_px)), cap_px, palette.core)


def _head(keypoints: Array, seen: Array, joint_names: tuple[str, ...]) -> tuple[float, float, float]:
    """Centre and radius of the head in pixels; of the top of the body where no keypoint of the head is seen."""
    points = keypoints[seen]
    size = float(np.hypot(*np.ptp(points, axis=0)))
    head = [j for j in _head_joints(joint_names) if seen[j]]
    if head:
        x, y = keypoints[head].mean(axis=0).tolist()
        return x, y, _HEAD_SHARE * size
    return float(points[:, 0].min() + points[:, 0].max()) / 2, float(points[:, 1].min()), 0.0


@lru_cache(maxsize=8)
def _head_joints(joint_names: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the keypoints of the head, without the many small ones of the face."""
    return tuple(
        j for j, name in enumerate(joint_names) if name.endswith((*_FACE, "head")) and not name.startswith(_DETAIL)
    )


@lru_cache(maxsize=8)
def skeleton_bones(joint_names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Bones between joints of these names, as pairs of indices."""
    return skeleton_of("custom", joint_names).bones


def _share(name: str) -> float:
    """Size of a joint relative to a limb joint."""
    return _DETAIL_SHARE if name.startswith(_DETAIL) else _FACE_SHARE if name.endswith(_FACE) else 1.0


def _side(name: str) -> str:
    return name.partition("_")[0] if name.startswith(("left_", "right_")) else ""


def _opacities(scores: Array) -> Array:
    opacity = np.clip((np.nan_to_num(scores) - _FAINT_SCORE) / (_FULL_SCORE - _FAINT_SCORE), 0.0, 1.0)
    return _FAINT_OPACITY + (1.0 - _FAINT_OPACITY) * opacity


def _line_width(image_height: int, points: Array) -> float:
    size = float(np.hypot(*(points.max(axis=0) - points.min(axis=0))))
    scale = min(1.0, max(0.55, size / (_SMALL_PERSON_SHARE * image_height)))
    return max(1.5, image_height * _LINE_SHARE * scale)


def _draw_limb(image: FrameBGR, start: Point, end: Point, style: _Style) -> None:
    if style.opacity > _OPAQUE:
        _paint_limb(image, start, end, style)
    elif (part := crop_around(image, (start, end), style.width + 3)) is not None:
        area, (x, y) = part
        painted = area.copy()
        _paint_limb(painted, (start[0] - x, start[1] - y), (end[0] - x, end[1] - y), style)
        blend(area, painted, style.opacity)


def _paint_limb(image: FrameBGR, start: Point, end: Point, style: _Style) -> None:
    thick = max(2, round(style.width))
    if style.solid:
        line(image, start, end, mix(style.color, INK, 0.75), thick + 2)
        line(image, start, end, style.color, thick)
        return
    for dash_start, dash_end in _dashes(start, end, 2.6 * style.width):
        line(image, dash_start, dash_end, style.color, max(2, thick - 1))


def _towards(point: Point, goal: Point, distance: float) -> Point:
    """Move a point some pixels towards another, at most halfway: limbs end at the rim of a ring."""
    share = min(0.5, distance / max(math.dist(point, goal), 1e-6))
    return point[0] + share * (goal[0] - point[0]), point[1] + share * (goal[1] - point[1])


def _dashes(start: Point, end: Point, period_px: float) -> list[tuple[Point, Point]]:
    """Split a line into equal dashes and gaps, with a dash at both ends."""
    across, down = end[0] - start[0], end[1] - start[1]
    count = 2 * max(1, min(_MAX_DASHES, math.floor(math.hypot(across, down) / period_px))) + 1
    cuts = [(start[0] + across * i / count, start[1] + down * i / count) for i in range(count + 1)]
    return list(zip(cuts[::2], cuts[1::2], strict=True))


def _draw_point(image: FrameBGR, at: Point, rounds: NDArray[np.int32], style: _Style) -> None:
    if style.opacity > _OPAQUE:
        _paint_point(image, rounds, style)
    elif (part := crop_around(image, (at,), max(style.width, _MIN_RING_PX) + 4)) is not None:
        area, (x, y) = part
        painted = area.copy()
        _paint_point(painted, rounds - np.array([int(x), int(y)], np.int32) * FIXED_ONE, style)
        blend(area, painted, style.opacity)


def _paint_point(image: FrameBGR, rounds: NDArray[np.int32], style: _Style) -> None:
    """Paint a dot with a rim, or a ring for an interpolated keypoint."""
    rim = mix(style.color, INK, 0.75)
    outer, middle, edge, inner = rounds
    if not style.solid:
        cv2.polylines(image, [edge], True, rim, 3, cv2.LINE_AA, SHIFT)
        cv2.polylines(image, [edge], True, mix(style.color, WHITE, 0.35), 1, cv2.LINE_AA, SHIFT)
        return
    fill(image, outer, rim)
    if style.width > _MIN_RIMMED_PX:
        fill(image, middle, WHITE)
        fill(image, inner, style.color)
    else:
        fill(image, middle, style.color)
