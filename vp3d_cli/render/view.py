"""Virtual camera of the 3D scene, chosen once per clip from the motion of all people.

View space is the camera space of the virtual camera: metres, x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.camera import project
from vp3d_cli.errors import ConfigError
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.types import DoubleArray

# A narrow field of view distorts people at the edge of the picture little, and still shows depth.
_FOV_DEG = 32.0
# Angles beside and above the filming camera, degrees. Those of the oblique view are large enough to show depth, and
# small enough that left and right are as in the footage.
DIRECTIONS = {"oblique": (24.0, 14.0), "front": (0.0, 8.0), "side": (90.0, 8.0), "top": (0.0, 90.0)}
CAMERAS = ("auto", "fixed", "follow", "turntable")
_TURN_S = 8.0  # the turntable makes one turn in this time
_TURN_STEPS = 12  # directions from which the turntable's distance is chosen
_TURN_POINTS = 20_000  # more points than this are subsampled for it
# Share of the half width and half height that the people may fill; the rest is room for labels.
_FILL_X, _FILL_Y = 0.86, 0.80
_PERSON_M = 1.7  # height of a typical adult
# Smallest height of a person over the picture's height for a static camera and for one that follows all people. If
# people would be smaller, the camera follows the main person.
_MIN_SHARE_STATIC, _MIN_SHARE_EVERYONE = 0.26, 0.18
_FOLLOW_SIGMA_S = 1.5  # smoothing of the camera path
_NEAREST_M = 2.5  # smallest distance of the camera
# The view is chosen for people with at least this share of the greatest prominence, which is size in the image times
# time in view. A passer-by in the background has less and may leave the picture.
_MIN_PROMINENCE = 0.35
# Positions beyond this percentile are ignored, so that one wrong frame does not make all people small.
_INLIERS_PERCENT = 99.7
NEAR_M = 0.2  # near plane: nothing closer to the camera is drawn

Array = NDArray[Any]


@dataclass(frozen=True)
class View:
    """Pinhole camera in world space.

    Attributes:
        rotation: (3, 3) world to view axes; its rows are right, down and forward in world space.
        position: (3,) metres, world space.
        focal_px: focal length in pixels.
        center_px: (2,) centre of the picture in pixels.
    """

    rotation: DoubleArray
    position: DoubleArray
    focal_px: float
    center_px: DoubleArray

    def project(self, points_world: Array) -> tuple[DoubleArray, DoubleArray]:
        """Project (..., 3) metres to (..., 2) pixels and (...) depth; NaN behind the camera."""
        points = (np.asarray(points_world, np.float64) - self.position) @ self.rotation.T
        points[..., 2] = np.where(points[..., 2] > NEAR_M, points[..., 2], np.nan)
        pixels: DoubleArray = project(points, (self.focal_px, self.focal_px, *self.center_px.tolist()))
        return pixels, points[..., 2]


@dataclass(frozen=True)
class ViewPath:
    """Path of the virtual camera through the clip. It may translate, and a turntable turns about the vertical.

    Attributes:
        rotations: (T, 3, 3), or (1, 3, 3) if the camera does not turn; each as in :class:`View`.
        positions: (T, 3), or (1, 3) for a static camera; all at the same height, metres.
        focal_px: focal length in pixels.
        size_wh: size of the picture in pixels.
        target: (3,) point on the floor below the people in view space, metres; the same in all frames.
        radius_m: radius of the people's motion around the target.
    """

    rotations: DoubleArray
    positions: DoubleArray
    focal_px: float
    size_wh: tuple[int, int]
    target: DoubleArray
    radius_m: float

    @property
    def rotation(self) -> DoubleArray:
        """(3, 3) rotation of the first frame."""
        first: DoubleArray = self.rotations[0]
        return first

    @property
    def moves(self) -> bool:
        """Whether the camera translates or turns."""
        return len(self.positions) > 1 or len(self.rotations) > 1

    def at(self, frame: int) -> View:
        """Camera at a frame of the pose."""
        center = (np.asarray(self.size_wh, np.float64) - 1) / 2
        rotation = self.rotations[min(frame, len(self.rotations) - 1)]
        return View(rotation, self.positions[min(frame, len(self.positions) - 1)], self.focal_px, center)


def filming_rotation(pose: Pose3D) -> DoubleArray:
    """Estimate the rotation from camera space to world space from the joints of a pose.

    It is the orthogonal Procrustes solution (Kabsch 1976) between both sets of joints over all frames. Without joints
    the filming camera is assumed to look along y.

    Returns:
        (3, 3); its columns are the filming camera's right, down and forward in world space.
    """
    pairs = [_camera_and_world(person) for person in pose.people]
    camera, world = (np.concatenate([pair[i] for pair in pairs] or [np.zeros((0, 3))]) for i in range(2))
    if len(camera) < 3:
        return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    u, _, vt = np.linalg.svd(world.T @ camera)
    turn: DoubleArray = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return turn


def _camera_and_world(person: Person3D) -> tuple[DoubleArray, DoubleArray]:
    """Root-relative joints of a person, (N, 3), in camera axes and in world axes."""
    world = person.joints_world
    seen = np.isfinite(person.joints).all(axis=-1) & np.isfinite(world).all(axis=-1)
    seen &= np.isfinite(world[:, :1]).all(axis=-1)
    return person.joints[seen].astype(np.float64), (world - world[:, :1])[seen].astype(np.float64)


def choose_view(
    pose: Pose3D,
    size_wh: tuple[int, int],
    *,
    camera: str = "auto",
    direction: str = "oblique",
    also: Sequence[DoubleArray] = (),
) -> ViewPath:
    """Choose the camera path for a clip.

    The camera ``auto`` is static if the main people are large enough in the picture. Else it follows them, and if they
    would still be too small, the main person. ``fixed`` is always static, ``follow`` always moves with the people, and
    ``turntable`` is ``auto`` that also turns around them. The main people are those who are large in the image for
    long; others may leave the picture.

    Args:
        pose: pose; ``joints_world`` and the boxes are used.
        size_wh: size of the picture in pixels.
        camera: one of ``CAMERAS``.
        direction: one of ``DIRECTIONS``: from where the camera looks.
        also: (T, J, 3) world joints of people of another pose who shall be in the picture, metres.

    Raises:
        ConfigError: there is no such camera or direction.
    """
    if camera not in CAMERAS:
        raise ConfigError(f"unknown camera {camera!r}: use {', '.join(CAMERAS)}")
    if direction not in DIRECTIONS:
        raise ConfigError(f"unknown direction {direction!r}: use {', '.join(DIRECTIONS)}")
    rotation = _view_rotation(filming_rotation(pose), *DIRECTIONS[direction])
    focal_px = size_wh[1] / 2 / math.tan(math.radians(_FOV_DEG) / 2)
    everyone = [_Body(p.track.first, p.joints_world.astype(np.float64)) for p in main_people(pose)]
    everyone = [body for body in [*everyone, *(_Body(0, joints) for joints in also)] if body.is_seen()]
    if not everyone:
        everyone = [_Body(0, np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, _PERSON_M]]]))]
    angles = _turns(pose) if camera == "turntable" else None
    candidates = [
        (everyone, _static_center(everyone), _MIN_SHARE_STATIC),
        (everyone, _smooth_center(everyone, pose.num_frames, pose.fps), _MIN_SHARE_EVERYONE),
        (everyone[:1], _smooth_center(everyone[:1], pose.num_frames, pose.fps), 0.0),
    ]
    for people, centers, min_share in candidates[:1] if camera == "fixed" else candidates[camera == "follow" :]:
        path = _fit(people, centers, rotation, focal_px, size_wh, angles)
        if _person_share(everyone[0], path) >= min_share:
            break
    return path


def main_people(pose: Pose3D) -> list[Person3D]:
    """The people who are large in the image for long, the main person first; all if nobody has a box."""
    prominence = [_prominence(person) for person in pose.people]
    least = _MIN_PROMINENCE * max(prominence, default=0.0)
    return [person for person, value in zip(pose.people, prominence, strict=True) if value >= least]


def _prominence(person: Person3D) -> float:
    """Sum over all frames of the diagonal of a person's box, pixels."""
    boxes = person.track.boxes_xyxy
    return float(np.nansum(np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])))


def _turns(pose: Pose3D) -> DoubleArray:
    """Angle of the turntable at each frame, (T,) radians."""
    turns: DoubleArray = (pose.frame_times_s - pose.frame_times_s[:1]) * (2 * math.pi / _TURN_S)
    return turns


class _Body(NamedTuple):
    """Joints (t, J, 3) of a person in world space, from frame ``first`` on."""

    first: int
    joints: DoubleArray

    def along(self, path: DoubleArray) -> DoubleArray:
        """Part of a path (T, 3) for the frames of the person; a path (1, 3) as it is."""
        return path if len(path) == 1 else path[self.first : self.first + len(self.joints)]

    def is_seen(self) -> bool:
        """Whether any joint is there."""
        return bool(np.isfinite(self.joints).any())


def _view_rotation(filming: DoubleArray, azimuth_deg: float, elevation_deg: float) -> DoubleArray:
    forward = filming[:, 2]
    if math.hypot(forward[0], forward[1]) < 0.2:  # filmed from above or below: the top of the image is forward
        forward = -filming[:, 1] * (1.0 if forward[2] < 0 else -1.0)
    # The virtual camera is to the right of the filming camera and looks to the left.
    heading = math.atan2(forward[1], forward[0]) + math.radians(azimuth_deg)
    tilt = math.radians(elevation_deg)
    ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
    right = np.array([math.sin(heading), -math.cos(heading), 0.0])
    look = ahead * math.cos(tilt) - np.array([0.0, 0.0, math.sin(tilt)])
    return np.stack([right, np.cross(look, right), look])


def _static_center(people: list[_Body]) -> DoubleArray:
    """Median position of the people on the floor, (1, 3)."""
    roots = np.concatenate([body.joints[:, 0] for body in people])
    roots = roots[np.isfinite(roots).all(axis=-1)]
    return np.median(roots, axis=0, keepdims=True) * [1.0, 1.0, 0.0] if len(roots) else np.zeros((1, 3))


def _smooth_center(people: list[_Body], total: int, fps: float) -> DoubleArray:
    """Smoothed and interpolated mean position of the people on the floor, (T, 3)."""
    summed, count = np.zeros((total, 2)), np.zeros(total)
    for body in people:
        roots = body.joints[:, 0, :2]
        present = np.flatnonzero(np.isfinite(roots).all(axis=-1))
        summed[body.first + present] += roots[present]
        count[body.first + present] += 1
    frames = np.flatnonzero(count)
    if len(frames) == 0:
        return np.zeros((1, 3))
    centers = summed[frames] / count[frames, None]
    every = np.arange(total)
    path = np.stack([np.interp(every, frames, centers[:, axis]) for axis in range(2)], axis=-1)
    path = scipy.ndimage.gaussian_filter1d(path, _FOLLOW_SIGMA_S * fps, axis=0, mode="nearest")
    return np.concatenate([path, np.zeros((len(path), 1))], axis=-1)


def _fit(
    people: list[_Body],
    centers: DoubleArray,
    rotation: DoubleArray,
    focal_px: float,
    size_wh: tuple[int, int],
    angles: DoubleArray | None,
) -> ViewPath:
    """Nearest camera that shows all people around the centers (T or 1, 3), with their shadows.

    It turns about the centers by the angles (T,), radians; None for no turn.
    """
    around = np.concatenate([(body.joints - body.along(centers)[:, None]).reshape(-1, 3) for body in people])
    around = around[np.isfinite(around).all(axis=-1)]
    if angles is not None:
        every = np.linspace(0.0, 2 * math.pi, _TURN_STEPS, endpoint=False)
        around = (around[:: 1 + len(around) // _TURN_POINTS] @ _about_vertical(every)).reshape(-1, 3)
    shadows = around * [1.0, 1.0, 0.0]
    x, y, z = rotation @ np.concatenate([around, shadows]).T
    tan_x = _FILL_X * size_wh[0] / 2 / focal_px
    tan_y = _FILL_Y * size_wh[1] / 2 / focal_px
    # A point is inside the left edge if x >= cx - tan_x * (z - cz), and similarly for the other edges. The most extreme
    # point at each edge bounds the camera position (cx, cy, cz); opposite edges together bound cz.
    left, right = _extreme(-x - tan_x * z), _extreme(x - tan_x * z)
    top, bottom = _extreme(-y - tan_y * z), _extreme(y - tan_y * z)
    back = min(-(left + right) / (2 * tan_x), -(top + bottom) / (2 * tan_y), float(np.median(z)) - _NEAREST_M)
    eye = rotation.T @ np.array([(right - left) / 2, (bottom - top) / 2, back])
    center = np.median(around, axis=0) * [1.0, 1.0, 0.0]
    radius = np.percentile(np.hypot(*(around - center)[:, :2].T), _INLIERS_PERCENT)
    target = rotation @ (center - eye)
    if angles is None:
        return ViewPath(rotation[None], eye + centers, focal_px, size_wh, target, float(radius))
    turned = _about_vertical(angles)
    return ViewPath(
        rotation @ turned.transpose(0, 2, 1), turned @ eye + centers, focal_px, size_wh, target, float(radius)
    )


def _about_vertical(angles: DoubleArray) -> DoubleArray:
    """(N, 3, 3) rotations of the world about z by the angles (N,), radians."""
    turned = np.zeros((len(angles), 3, 3))
    turned[:, 0, 0] = turned[:, 1, 1] = np.cos(angles)
    turned[:, 1, 0], turned[:, 0, 1] = np.sin(angles), -np.sin(angles)
    turned[:, 2, 2] = 1.0
    return turned


def _extreme(values: DoubleArray) -> float:
    return float(np.percentile(values, _INLIERS_PERCENT))


def _person_share(body: _Body, path: ViewPath) -> float:
    """Median height of a standing person over the height of the picture."""
    offset = body.joints[:, 0] - body.along(path.positions)
    depth = (offset * body.along(path.rotations[:, 2])).sum(axis=-1)
    depth = depth[np.isfinite(depth)]
    if len(depth) == 0:
        return 1.0
    return _PERSON_M * path.focal_px / float(np.median(depth)) / path.size_wh[1]
