"""Drawing of people as figures of shaded tapered limbs, from back to front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.render.palette import INK, WHITE, Color, mix, person_colors
from vp3d_cli.render.shapes import capsule_outlines, fill, to_fixed
from vp3d_cli.render.view import View
from vp3d_cli.types import FrameBGR

# Radius of the figure at each joint, metres; thinner than a real body, whose limbs would hide the joints.
_RADII_M = {
    "hip": 0.068, "knee": 0.050, "ankle": 0.034, "spine": 0.082, "thorax": 0.078, "neck": 0.045, "head": 0.045,
    "shoulder": 0.050, "elbow": 0.039, "wrist": 0.029,
}  # fmt: skip
_OTHER_RADIUS_M = 0.035
HEAD_RADIUS_M = 0.105
_HEAD_BONE = ("neck", "head")  # drawn as a head, not as a limb
_MIN_RADIUS_PX = 1.6
_GUESSED, _FADE = 0.2, 0.72  # confidence below which a joint was not seen, and the share of white in its limbs

# Light comes from the upper left: limbs get lighter in that direction, layer by layer.
_LIGHT_PX = np.array([-0.36, -0.50])
_DARKEST, _LIGHTEST = 0.26, 0.34  # share of ink at the dark edge and of white at the light edge
_OUTLINE_PX = 1.1


@dataclass(frozen=True)
class _Detail:
    """Level of detail of limbs up to a radius in pixels: shading layers, points of each arc."""

    up_to_px: float
    layers: int
    arc_points: int


_DETAILS = (_Detail(6.0, 3, 7), _Detail(14.0, 5, 11), _Detail(35.0, 9, 21), _Detail(float("inf"), 14, 37))

Array = NDArray[Any]


@dataclass(frozen=True)
class Limbs:
    """Limbs of one body: B tapered capsules.

    Attributes:
        ends: (B, 2, 3) metres, world space.
        radii: (B, 2) metres.
        colors: B colours.
    """

    ends: Array
    radii: Array
    colors: tuple[Color, ...]


class Figure:
    """Converts the joints of one person to limbs.

    Args:
        person_id: number of the person, which selects the colours.
        joint_names: J joint names of the 3D skeleton.
        parents: J parent indices, -1 for the root.
    """

    def __init__(self, person_id: int, joint_names: Sequence[str], parents: Sequence[int]) -> None:
        palette = person_colors(person_id)
        names = [name.removeprefix("left_").removeprefix("right_") for name in joint_names]
        radii = [_RADII_M.get(name, _OTHER_RADIUS_M) for name in names]
        bones = [(parent, child) for child, parent in enumerate(parents) if parent >= 0]
        self._bones = np.array(bones, np.intp).reshape(-1, 2)
        self._radii = np.array([(radii[a], radii[b]) for a, b in bones], np.float64).reshape(-1, 2)
        self._is_head = np.array([(names[a], names[b]) == _HEAD_BONE for a, b in bones], bool)
        self._colors = tuple(palette.side(joint_names[child]) for _, child in bones)
        # Limbs that begin at the pelvis or chest are no thicker there than at their other end.
        for i, (a, b) in enumerate(bones):
            if names[a] in ("hip", "thorax") and not joint_names[a].startswith(("left_", "right_")):
                self._radii[i, 0] = min(self._radii[i, 0], radii[b])

    def limbs(self, joints: Array, confidence: Array | None = None) -> Limbs:
        """Limbs of a body with joints (J, 3) in world space, without limbs that have a NaN end.

        Limbs with an end below ``_GUESSED`` in ``confidence`` (J,) are faded: they were not seen.
        """
        ends = joints[self._bones].astype(np.float64)
        radii = self._radii
        if self._is_head.any():
            ends, radii = ends.copy(), radii.copy()
            low, high = ends[self._is_head, 0], ends[self._is_head, 1]
            length = np.linalg.norm(high - low, axis=-1, keepdims=True)
            inset = np.minimum(HEAD_RADIUS_M / np.maximum(length, 1e-6), 0.5)
            radii[self._is_head] = HEAD_RADIUS_M * np.array([0.86, 1.0])
            ends[self._is_head] = np.stack([low + (high - low) * inset * 0.9, high - (high - low) * inset], axis=1)
        seen = np.flatnonzero(np.isfinite(ends).all(axis=(1, 2)))
        faded = np.zeros(len(ends), bool) if confidence is None else confidence[self._bones].min(axis=1) < _GUESSED
        colors = tuple(mix(self._colors[i], WHITE, _FADE) if faded[i] else self._colors[i] for i in seen.tolist())
        return Limbs(ends[seen], radii[seen], colors)


def head_center(joints: Array, head: Sequence[int]) -> Array | None:
    """Centre of the head as it is drawn.

    Args:
        joints: (J, 3) metres, world space.
        head: indices of neck and head; of one joint if the skeleton has no more, empty if it has none.

    Returns:
        (3,) metres; the highest joint where the head is missing, None where all joints are.
    """
    known = [joints[i].astype(np.float64) for i in head if len(joints) and np.isfinite(joints[i]).all()]
    if len(known) == 2:
        neck, top = known
        inset = min(HEAD_RADIUS_M / max(float(np.linalg.norm(top - neck)), 1e-6), 0.5)
        center: Array = top - (top - neck) * inset
        return center
    seen = joints[np.isfinite(joints).all(axis=1)].astype(np.float64)
    if not known and len(seen):
        known = [seen[seen[:, 2].argmax()]]
    return known[0] if known else None


def draw_limbs(image: FrameBGR, view: View, bodies: Sequence[Limbs]) -> None:
    """Draw the limbs of all people, in order of decreasing distance from the camera.

    Args:
        image: (H, W, 3), changed in place.
        view: virtual camera.
        bodies: limbs of each person.
    """
    bodies = [body for body in bodies if len(body.colors)]
    if not bodies:
        return
    ends = np.concatenate([body.ends for body in bodies])
    radii_m = np.concatenate([body.radii for body in bodies])
    colors = [color for body in bodies for color in body.colors]
    pixels, depth = view.project(ends)
    radii = np.maximum(radii_m * view.focal_px / depth, _MIN_RADIUS_PX)
    order = np.argsort(-depth.mean(axis=1))
    order = order[np.isfinite(pixels[order]).all(axis=(1, 2))]
    layers = _layers(pixels, radii, order.tolist())
    for limb in order.tolist():
        outlines, detail = layers[limb]
        for outline, tone in zip(outlines, _tones(colors[limb], detail.layers), strict=True):
            fill(image, outline, tone)


def _layers(pixels: Array, radii: Array, limbs: Sequence[int]) -> dict[int, tuple[NDArray[np.int32], _Detail]]:
    """Outlines of each limb, (1 + layers, points, 2) in fixed point, by limb index."""
    found = {}
    widest: list[float] = radii.max(axis=1).tolist()
    bound_px = 0.0
    for detail in _DETAILS:
        group = [i for i in limbs if bound_px <= widest[i] < detail.up_to_px]
        bound_px = detail.up_to_px
        if group:
            outlines = _limb_outlines(pixels[group], radii[group], detail)
            found.update({limb: (outlines[k], detail) for k, limb in enumerate(group)})
    return found


def _limb_outlines(ends: Array, radii: Array, detail: _Detail) -> NDArray[np.int32]:
    """Outline of each limb and its shading layers, (B, 1 + layers, points, 2) in fixed point.

    The layers are smaller and smaller capsules, moved towards the light by less than the loss of radius, so that each
    stays inside the limb.
    """
    shrink = 1.0 - 0.86 * _lightness(detail.layers)
    inner = radii[:, None] * shrink[:, None]
    moved = ends[:, None] + (radii[:, None] - inner)[..., None] * _LIGHT_PX
    all_ends = np.concatenate([ends[:, None], moved], axis=1)
    all_radii = np.concatenate([radii[:, None] + _OUTLINE_PX, inner], axis=1)
    return to_fixed(capsule_outlines(all_ends, all_radii, detail.arc_points))


def _lightness(layers: int) -> Array:
    """Lightness of the layers, from 0 at the edge to 1 at the light."""
    return np.linspace(0.0, 1.0, layers)


@lru_cache(maxsize=256)
def _tones(color: Color, layers: int) -> tuple[Color, ...]:
    """Colours of the outline and of the layers from shadow over ``color`` to full light."""
    shades = [
        mix(color, INK, _DARKEST * (1 - share / 0.55))
        if share < 0.55
        else mix(color, WHITE, _LIGHTEST * (share - 0.55) / 0.45)
        for share in _lightness(layers).tolist()
    ]
    return (mix(color, INK, 0.72), *shades)
