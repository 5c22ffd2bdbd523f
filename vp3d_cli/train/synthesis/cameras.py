"""Random cameras for motion capture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# World axes (x right, y forward, z up) to those of a level camera that looks along +y (x right, y down, z forward).
_LEVEL = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_ASPECTS = ((16, 9), (9, 16), (4, 3), (3, 4), (1, 1))
_LONG_SIDE_PX = 1000.0
_MIN_DEPTH_M = 0.6


@dataclass(frozen=True)
class CameraRanges:
    """Ranges from which random cameras are drawn; angles in degrees.

    Attributes:
        elevation: elevation of the camera above the person; negative from below.
        roll_sigma: standard deviation of the roll of most cameras.
        tipped: share of windows whose camera has a uniformly random orientation, which also stands for people who lie,
            hang or are upside down.
        fov: field of view along the longer side.
        person_height: height of a standing person as a share of the image height.
        off_centre: largest distance of the person from the image centre, as a share of half the image.
        intrinsics_error: standard deviation of the logarithm of the focal length that the lifter is given.
    """

    elevation: tuple[float, float] = (-40.0, 75.0)
    roll_sigma: float = 12.0
    tipped: float = 0.2
    fov: tuple[float, float] = (30.0, 95.0)
    person_height: tuple[float, float] = (0.15, 0.9)
    off_centre: float = 0.9
    intrinsics_error: float = 0.1


@dataclass(frozen=True)
class Cameras:
    """Batch of N random cameras.

    Attributes:
        rotations: (N, 3, 3) world to camera.
        root: (N, 3) root joint in camera space in the window's output frame, metres.
        intrinsics: (N, 4) fx fy cx cy in pixels.
        assumed_intrinsics: (N, 4) intrinsics that the lifter is given, with a wrong focal length.
        size_wh: (N, 2) pixels.
        distortion: (N, 5) k1 k2 p1 p2 k3.
    """

    rotations: Tensor
    root: Tensor
    intrinsics: Tensor
    assumed_intrinsics: Tensor
    size_wh: Tensor
    distortion: Tensor


def draw_cameras(n: int, stature_m: float, ranges: CameraRanges, generator: torch.Generator) -> Cameras:
    """Draw cameras that look at a person of a given stature."""
    device = generator.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator, device=device)

    def normal() -> Tensor:
        return torch.randn(n, generator=generator, device=device)

    aspects = torch.tensor(_ASPECTS, dtype=torch.float32, device=device)
    size_wh = aspects[torch.randint(len(_ASPECTS), (n,), generator=generator, device=device)]
    size_wh = size_wh / size_wh.amax(dim=1, keepdim=True) * _LONG_SIDE_PX
    focal = _LONG_SIDE_PX / 2 / torch.tan(torch.deg2rad(uniform(*ranges.fov)) / 2)
    centre = size_wh / 2
    intrinsics = torch.cat([focal[:, None], focal[:, None], centre], dim=1)
    assumed = focal * (ranges.intrinsics_error * normal()).exp()
    assumed_intrinsics = torch.cat([assumed[:, None], assumed[:, None], centre], dim=1)

    # Most videos are filmed by a standing person: half of the elevations are near level, half from the whole range.
    near_level = (8 + 15 * normal()).clamp(*ranges.elevation)
    elevation = torch.where(uniform(0, 1) < 0.5, near_level, uniform(*ranges.elevation))
    roll = ranges.roll_sigma * normal()
    yaw = uniform(-180.0, 180.0)
    rotations = _axis_rotation(2, roll) @ _axis_rotation(0, elevation) @ _LEVEL.to(device) @ _axis_rotation(2, yaw)
    anywhere = _random_rotations(n, generator)
    rotations = torch.where((uniform(0, 1) < ranges.tipped)[:, None, None], anywhere, rotations)

    log_low, log_high = (math.log(share) for share in ranges.person_height)
    person_px = uniform(log_low, log_high).exp() * size_wh[:, 1]
    depth = (focal * stature_m / person_px).clamp_min(_MIN_DEPTH_M + stature_m / 2)
    room = (1 - person_px / size_wh[:, 1]).clamp_min(0.05)[:, None] * ranges.off_centre
    offset = torch.stack([uniform(-1, 1), uniform(-1, 1)], dim=1)
    offset = offset * torch.cat([torch.full_like(room, ranges.off_centre), room], dim=1)
    plane = offset * centre / focal[:, None]
    root = torch.cat([plane * depth[:, None], depth[:, None]], dim=1)

    lens = torch.zeros(n, 5, device=device)
    lens[:, 0] = 0.05 * normal() * (uniform(0, 1) < 0.5)
    return Cameras(rotations, root, intrinsics, assumed_intrinsics, size_wh, lens)


def keep_in_front(joints: Tensor) -> Tensor:
    """Move windows (N, T, 3, J) away from the camera in which any joint is nearer than 0.6 m."""
    nearest = joints[:, :, 2].amin(dim=(1, 2))
    shift = (_MIN_DEPTH_M - nearest).clamp_min(0.0)
    pushed = joints.clone()
    pushed[:, :, 2] += shift[:, None, None]
    return pushed


def _axis_rotation(axis: int, degrees: Tensor) -> Tensor:
    c, s = torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))
    i, j = [k for k in range(3) if k != axis]
    out = torch.eye(3, device=degrees.device).repeat(len(degrees), 1, 1)
    out[:, i, i], out[:, j, j], out[:, i, j], out[:, j, i] = c, c, -s, s
    return out


def _random_rotations(n: int, generator: torch.Generator) -> Tensor:
    """Uniformly distributed rotations, from normalized Gaussian quaternions."""
    q = torch.randn(n, 4, generator=generator, device=generator.device)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1),
    ]
    return torch.stack(rows, dim=1)
