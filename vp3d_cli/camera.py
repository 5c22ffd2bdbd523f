"""Pinhole cameras: intrinsics, projection, lens distortion, rotations.

Every function takes numpy arrays or torch tensors and returns the same kind, so that training and inference use the
same mathematics. Camera space: metres, x right, y down, z forward. Pixels: x right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from vp3d_cli.errors import ConfigError

# Default without --intrinsics and --fov. Phones film at 26-28 mm (35 mm equivalent) and crop about a tenth for
# stabilization, which leaves about 60 degrees along the longer side.
DEFAULT_FOV_DEG = 60.0

Array = Any  # numpy.ndarray or torch.Tensor; the result is of the kind of the first argument


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics in pixels.

    Attributes:
        fx, fy: focal lengths.
        cx, cy: principal point.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in values) or self.fx <= 0 or self.fy <= 0:
            raise ConfigError(f"intrinsics must be finite with fx, fy > 0, got {values}")

    @classmethod
    def from_fov(cls, fov_deg: float, size_wh: tuple[int, int]) -> Intrinsics:
        """Intrinsics of a field of view along the longer side, with square pixels.

        Raises:
            ConfigError: the field of view is not between 1 and 179 degrees.
        """
        if not 1.0 <= fov_deg <= 179.0:
            raise ConfigError(f"field of view must be between 1 and 179 degrees, got {fov_deg}")
        focal = max(size_wh) / 2 / math.tan(math.radians(fov_deg) / 2)
        return cls(focal, focal, size_wh[0] / 2, size_wh[1] / 2)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The tuple ``(fx, fy, cx, cy)``."""
        return self.fx, self.fy, self.cx, self.cy


def project(points_cam: Array, intrinsics: Array | Sequence[float], distortion: Array | None = None) -> Array:
    """Project points in camera space to pixels.

    Args:
        points_cam: (..., 3) metres, camera space, z > 0.
        intrinsics: (..., 4) fx fy cx cy, broadcast against the points.
        distortion: (..., 5) k1 k2 p1 p2 k3 in OpenCV's order (Brown-Conrady), or None.

    Returns:
        (..., 2) pixels.
    """
    xp = array_namespace(points_cam)
    x = points_cam[..., 0] / points_cam[..., 2]
    y = points_cam[..., 1] / points_cam[..., 2]
    if distortion is not None:
        k1, k2, p1, p2, k3 = (distortion[..., i] for i in range(5))
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    fx, fy, cx, cy = _intrinsics(intrinsics)
    return xp.stack([x * fx + cx, y * fy + cy], axis=-1)


def to_rays(points_px: Array, intrinsics: Array | Sequence[float]) -> Array:
    """Convert pixels to points (..., 2) of the plane z = 1, without distortion."""
    xp = array_namespace(points_px)
    fx, fy, cx, cy = _intrinsics(intrinsics)
    return xp.stack([(points_px[..., 0] - cx) / fx, (points_px[..., 1] - cy) / fy], axis=-1)


def _intrinsics(intrinsics: Any) -> tuple[Any, Any, Any, Any]:
    fx, fy, cx, cy = (intrinsics[..., i] for i in range(4)) if hasattr(intrinsics, "shape") else intrinsics
    return fx, fy, cx, cy


def rotation_to_axis(rays: Array) -> Array:
    """Smallest rotation of each ray onto the optical axis (Rodrigues' formula).

    Args:
        rays: (..., 2) points of the plane z = 1.

    Returns:
        (..., 3, 3) rotations R with ``R @ (x, y, 1)`` parallel to ``(0, 0, 1)``: the axes of a virtual camera at
        the same position that looks along the ray.
    """
    xp = array_namespace(rays)
    x, y = rays[..., 0], rays[..., 1]
    norm = (x * x + y * y + 1) ** 0.5
    a, b, c = x / norm, y / norm, 1 / norm
    k = 1 / (1 + c)
    rows = [
        xp.stack([1 - k * a * a, -k * a * b, -a], axis=-1),
        xp.stack([-k * a * b, 1 - k * b * b, -b], axis=-1),
        xp.stack([a, b, c], axis=-1),
    ]
    return xp.stack(rows, axis=-2)


def rotate(rotations: Array, points: Array) -> Array:
    """Rotate points (..., J, 3) by rotations (..., 3, 3): ``R @ p``."""
    xp = array_namespace(points)
    return points @ xp.matrix_transpose(rotations)


def rotate_back(rotations: Array, points: Array) -> Array:
    """Rotate points (..., J, 3) by the inverse rotations: ``R.T @ p``."""
    return points @ rotations


def rotation_from_axis_angle(vectors: Array) -> Array:
    """Convert rotation vectors (..., 3), radians, to matrices (..., 3, 3) (Rodrigues)."""
    xp = array_namespace(vectors)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    angle2 = x * x + y * y + z * z
    angle = (angle2 + 1e-12) ** 0.5
    s, c1 = xp.sin(angle) / angle, (1 - xp.cos(angle)) / (angle2 + 1e-12)
    rows = [
        xp.stack([1 - c1 * (y * y + z * z), c1 * x * y - s * z, c1 * x * z + s * y], axis=-1),
        xp.stack([c1 * x * y + s * z, 1 - c1 * (x * x + z * z), c1 * y * z - s * x], axis=-1),
        xp.stack([c1 * x * z - s * y, c1 * y * z + s * x, 1 - c1 * (x * x + y * y)], axis=-1),
    ]
    return xp.stack(rows, axis=-2)
