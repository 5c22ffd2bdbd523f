"""Drawing of the floor: metric grid, shadows of people and trails of their roots."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.render.palette import LIGHT, Color, Theme, mix
from vp3d_cli.render.shapes import SHIFT, capsule_outlines, fill, line, to_fixed
from vp3d_cli.render.view import NEAR_M, View, ViewPath
from vp3d_cli.types import FloatArray, FrameBGR

_GRID_STRENGTH = 0.9
_MAX_LINES = 30  # in each direction; a larger floor gets a wider grid

_SHADOW_SHRINK = 4  # shadows are blurred, so a quarter of the resolution is enough and sixteen times as fast
_SHADOW_BLUR_PX = 1.6  # at that resolution
_SHADOW_DARK, _SHADOW_FAINT = 0.50, 0.16  # darkness below a foot on the floor and below a high body part
_SHADOW_FADE_M = 0.7  # height at which a shadow has lost two thirds of the difference

TRAIL_S = 1.6  # length of a trail
_TRAIL_SEGMENTS = 24
_TRAIL_RADIUS_M = 0.035
# A person higher than this above the floor gets a plumb line. It fades in, so that it does not flicker in jumps.
_PLUMB_FROM_M, _PLUMB_FADE_M = 0.35, 0.5
_ARC_POINTS = 7  # points of an arc; enough for blurred shadows and narrow trails

Array = NDArray[Any]


class Floor:
    """Draws the background with the grid; cached while the camera does not move."""

    def __init__(self, path: ViewPath, theme: Theme = LIGHT) -> None:
        self._path = path
        self._theme = theme
        self._reach_m = max(3.0, 1.15 * path.radius_m + 1.5)
        self.step_m = _grid_step(4 * self._reach_m / _MAX_LINES)
        self._fade = self._floor_share()
        self._bare = self._bare_floor()
        self._grid_color = np.full_like(self._bare, theme.grid)
        self._painted: FrameBGR | None = None

    def background(self, frame: int) -> FrameBGR:
        """Background (H, W, 3) at a frame: sky, floor and grid. The caller must not change it."""
        if self._painted is None or self._path.moves:
            self._painted = self._with_grid(self._path.at(frame))
        return self._painted

    def _floor_share(self) -> FloatArray:
        """Visibility of the floor, (H, W): 1 below the people, 0 from the horizon upwards.

        The camera keeps its height and its tilt, so this is the same for all frames.
        """
        width, height = self._path.size_wh
        view = self._path.at(0)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack([(x - view.center_px[0]) / view.focal_px, (y - view.center_px[1]) / view.focal_px], -1)
        rays_world = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) @ view.rotation
        down = -rays_world[..., 2]
        reach = np.where(down > 1e-4, view.position[2] / np.maximum(down, 1e-4), np.inf)
        offset = reach[..., None] * rays_world[..., :2] - (view.rotation.T @ self._path.target)[:2]
        distance = np.hypot(offset[..., 0], offset[..., 1]) / (1.5 * self._reach_m)
        return np.where(np.isfinite(distance), np.exp(-(distance**2)), 0.0).astype(np.float32)

    def _bare_floor(self) -> FrameBGR:
        share = self._fade[:, :, None]
        floor = (
            np.asarray(self._theme.sky, np.float32) * (1 - share) + np.asarray(self._theme.floor, np.float32) * share
        )
        # Dithering prevents visible bands between grey levels.
        noise = np.random.default_rng(0).random(self._fade.shape, np.float32)[:, :, None]
        return np.floor(floor + noise).clip(0, 255).astype(np.uint8)

    def _with_grid(self, view: View) -> FrameBGR:
        grid = np.zeros(self._fade.shape, np.uint8)
        cv2.polylines(grid, list(to_fixed(self._grid_lines(view))), False, 255, 1, cv2.LINE_AA, SHIFT)
        share = cv2.multiply(grid, self._fade, scale=_GRID_STRENGTH / 255, dtype=cv2.CV_32F)
        painted: FrameBGR = cv2.blendLinear(self._grid_color, self._bare, share, 1.0 - share)
        return painted

    def _grid_lines(self, view: View) -> Array:
        """Ends of the grid lines, (N, 2, 2) pixels, clipped in front of the camera."""
        center = view.position[:2] + (view.rotation.T @ self._path.target)[:2]
        half = 2 * self._reach_m
        lines = []
        for axis in range(2):
            first = math.ceil((center[axis] - half) / self.step_m)
            last = math.floor((center[axis] + half) / self.step_m)
            at = np.arange(first, last + 1) * self.step_m
            ends = np.zeros((len(at), 2, 3))
            ends[:, :, axis] = at[:, None]
            ends[:, :, 1 - axis] = center[1 - axis] + [-half, half]
            lines.append(ends)
        ends = np.concatenate(lines)
        depth = (ends - view.position) @ view.rotation[2]
        near = 2 * NEAR_M
        ends, depth = ends[(depth > near).any(axis=1)], depth[(depth > near).any(axis=1)]
        for end in range(2):
            other = 1 - end
            behind = depth[:, end] < near
            share = (near - depth[behind, end]) / (depth[behind, other] - depth[behind, end])
            ends[behind, end] += share[:, None] * (ends[behind, other] - ends[behind, end])
        return view.project(ends)[0]


def _grid_step(least_m: float) -> float:
    """Grid step: the smallest of 1, 2, 5, 10, 20, 50 m ... that is at least ``least_m``."""
    decade = 10.0 ** max(0, math.floor(math.log10(least_m)))
    return next(decade * factor for factor in (1, 2, 5, 10) if decade * factor >= least_m)


def draw_shadows(image: FrameBGR, view: View, bones: Array, radii: Array) -> None:
    """Draw soft shadows on the floor below the bones; darker below lower bones.

    Args:
        image: (H, W, 3), changed in place.
        view: virtual camera.
        bones: (B, 2, 3) metres, world space, both ends of each bone.
        radii: (B, 2) metres.
    """
    if len(bones) == 0:
        return
    outlines = capsule_outlines(bones[..., :2], radii * 1.1, _ARC_POINTS)
    pixels, _ = view.project(np.concatenate([outlines, np.zeros_like(outlines[..., :1])], -1))
    height_m = np.maximum(bones[..., 2].mean(axis=1), 0.0)
    order = np.argsort(-height_m)  # the darkest last, on top of the others
    order = order[np.isfinite(pixels[order]).all(axis=(1, 2))]
    strength = _SHADOW_FAINT + (_SHADOW_DARK - _SHADOW_FAINT) * np.exp(-height_m / _SHADOW_FADE_M)
    rows, columns = -(-image.shape[0] // _SHADOW_SHRINK), -(-image.shape[1] // _SHADOW_SHRINK)
    shade = np.zeros((rows, columns), np.uint8)
    fixed = to_fixed((pixels + 0.5) / _SHADOW_SHRINK - 0.5)
    for i in order:
        fill(shade, fixed[i], round(255 * float(strength[i])))
    x, y, width, height = cv2.boundingRect(shade)
    if width == 0:
        return
    margin = math.ceil(3 * _SHADOW_BLUR_PX)
    x0, y0 = max(x - margin, 0), max(y - margin, 0)
    x1, y1 = min(x + width + margin, columns), min(y + height + margin, rows)
    soft = cv2.GaussianBlur(shade[y0:y1, x0:x1], (0, 0), _SHADOW_BLUR_PX)
    large = cv2.resize(soft, None, fx=_SHADOW_SHRINK, fy=_SHADOW_SHRINK, interpolation=cv2.INTER_LINEAR)
    part = image[y0 * _SHADOW_SHRINK : y1 * _SHADOW_SHRINK, x0 * _SHADOW_SHRINK : x1 * _SHADOW_SHRINK]
    light = cv2.cvtColor(255 - large[: part.shape[0], : part.shape[1]], cv2.COLOR_GRAY2BGR)
    part[:] = cv2.multiply(part, light, scale=1 / 255)


def draw_trail(image: FrameBGR, view: View, roots: Array, freshness: Array, color: Color, floor: Color) -> None:
    """Draw the recent path of a person's root as a fading band on the floor.

    Args:
        image: (H, W, 3), changed in place.
        view: virtual camera.
        roots: (N, 3) metres, world space, oldest first; NaN interrupts the band.
        freshness: (N,) 1 for now, 0 for the end of the trail.
        color: of the person.
        floor: colour of the floor, to which the band fades.
    """
    if len(roots) < 2:
        return
    ends = np.stack([roots[:-1, :2], roots[1:, :2]], axis=1)
    widths = _TRAIL_RADIUS_M * (0.35 + 0.65 * np.stack([freshness[:-1], freshness[1:]], axis=1))
    outlines = capsule_outlines(ends, widths, _ARC_POINTS)
    pixels, _ = view.project(np.concatenate([outlines, np.zeros_like(outlines[..., :1])], -1))
    for i in np.flatnonzero(np.isfinite(pixels).all(axis=(1, 2))):
        fill(image, to_fixed(pixels[i]), mix(floor, color, 0.75 * float(freshness[i + 1])))


def draw_plumb_line(image: FrameBGR, view: View, lowest: Array, color: Color, floor: Color) -> None:
    """Draw a faint vertical line from the lowest joint (3,) of a person in the air to the floor."""
    share = min(1.0, (float(lowest[2]) - _PLUMB_FROM_M) / _PLUMB_FADE_M)
    if share <= 0:
        return
    pixels, _ = view.project(np.array([lowest, [lowest[0], lowest[1], 0.0]]))
    if np.isfinite(pixels).all():
        (x0, y0), (x1, y1) = pixels.tolist()
        line(image, (x0, y0), (x1, y1), mix(floor, color, 0.4 * share), 1)


def trail_frames(times_s: Array, frame: int, trail_s: float = TRAIL_S) -> NDArray[np.intp]:
    """Frames that a trail connects, oldest first, ending with ``frame``.

    High frame rates are subsampled, always at the same frames, so that the trail does not flicker.
    """
    first = int(np.searchsorted(times_s, times_s[frame] - trail_s))
    period = (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1)
    stride = max(1, math.floor(trail_s / _TRAIL_SEGMENTS / period)) if period > 0 else 1
    frames = np.arange(first, frame + 1)
    kept: NDArray[np.intp] = frames[(frames % stride == 0) | (frames == frame)]
    return kept
