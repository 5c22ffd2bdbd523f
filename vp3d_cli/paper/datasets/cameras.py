"""Calibrated cameras of Human3.6M and HumanEva-I, from the JSON files beside this module."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.types import DoubleArray, FloatArray

Tangential = Literal["opencv", "human36m"]
DatasetName = Literal["human36m", "humaneva"]

_UNKNOWN = (math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class DatasetCamera:
    """Calibrated camera. Camera axes: x right, y down, z forward, metres.

    Attributes:
        name: name in the data set.
        width, height: size of the image in pixels.
        intrinsics: fx, fy, cx, cy in pixels; NaN if not known.
        distortion: k1, k2, p1, p2, k3, in OpenCV's order.
        rotation: (3, 3) world to camera.
        translation: (3,) metres; a world point X is at ``rotation @ X + translation`` in camera space.
        tangential: formula of the tangential coefficients, see :meth:`project`.
    """

    name: str
    width: int
    height: int
    intrinsics: tuple[float, float, float, float]
    distortion: tuple[float, float, float, float, float]
    rotation: DoubleArray
    translation: DoubleArray
    tangential: Tangential = "opencv"

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @property
    def position(self) -> DoubleArray:
        """(3,) position of the camera in the world, metres."""
        return np.asarray(-self.rotation.T @ self.translation)

    @property
    def opencv_distortion(self) -> DoubleArray:
        """Distortion coefficients (5 or 12) with which OpenCV projects as :meth:`project`.

        Human3.6M's formula is OpenCV's with half of each tangential coefficient and the other half as a thin prism.
        """
        k1, k2, p1, p2, k3 = self.distortion
        if self.tangential == "opencv":
            return np.array(self.distortion)
        return np.array([k1, k2, p1 / 2, p2 / 2, k3, 0, 0, 0, p2 / 2, 0, p1 / 2, 0])

    def to_camera(self, points: FloatArray | DoubleArray) -> FloatArray:
        """Transform points (..., 3) from world to camera space, metres."""
        return np.asarray(np.asarray(points, np.float64) @ self.rotation.T + self.translation, np.float32)

    def to_world(self, points: FloatArray | DoubleArray) -> FloatArray:
        """Transform points (..., 3) from camera to world space, metres."""
        return np.asarray((np.asarray(points, np.float64) - self.translation) @ self.rotation, np.float32)

    def project(self, points: FloatArray | DoubleArray) -> FloatArray:
        """Project world points in front of the camera, (..., 3) metres, to pixels (..., 2).

        With x, y on the plane z = 1, r2 = x*x + y*y and the radial factor R = 1 + k1 r2 + k2 r2^2 + k3 r2^3, OpenCV
        (``tangential`` "opencv") distorts to::

            x' = x R + 2 p1 x y + p2 (r2 + 2 x x)        y' = y R + 2 p2 x y + p1 (r2 + 2 y y)

        Human3.6M's own code (``ProjectPointRadial.m``; "human36m") has the mixed terms once, not twice::

            x' = x R +   p1 x y + p2 (r2 +   x x)        y' = y R +   p2 x y + p1 (r2 +   y y)

        The data set was calibrated with the latter, and the archives of exact keypoints were projected with it. The two
        differ by up to a pixel in the corners of the image. The order of coefficients differs as well: the data set
        lists k1, k2, k3, p1, p2, VideoPose3D k1, k2, k3, p2, p1; here the order is OpenCV's, k1, k2, p1, p2, k3.

        Raises:
            InputError: the intrinsics of the camera are not known.
        """
        if not all(map(math.isfinite, self.intrinsics)):
            raise InputError(
                f"camera {self.name}: its intrinsics are not known, so points cannot be projected; give them in a "
                "camera file (docs/datasets.md)"
            )
        moved = np.asarray(points, np.float64) @ self.rotation.T + self.translation
        x, y = moved[..., 0] / moved[..., 2], moved[..., 1] / moved[..., 2]
        k1, k2, p1, p2, k3 = self.distortion
        r2 = x * x + y * y
        mixed = (2.0 if self.tangential == "opencv" else 1.0) * (p1 * y + p2 * x)
        factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + mixed
        fx, fy, cx, cy = self.intrinsics
        pixels = np.stack([fx * (x * factor + p2 * r2) + cx, fy * (y * factor + p1 * r2) + cy], axis=-1)
        return pixels.astype(np.float32)


def cameras_of(dataset: DatasetName, subject: str, file: str | Path | None = None) -> list[DatasetCamera]:
    """Return the cameras of a subject, in the order of the arrays in the archives.

    The four cameras of Human3.6M are fully known for subjects S1 to S9 and S11. Of the three colour cameras of
    HumanEva-I, the poses are known; their intrinsics are NaN unless ``file`` has them.

    Args:
        dataset: ``human36m`` or ``humaneva``.
        subject: name such as ``S1``, ``Train/S1`` or ``Unlabeled/Validate/S2``.
        file: camera file to use instead of the bundled one.

    Raises:
        InputError: the data set or the subject is unknown, or the file is broken.
    """
    if dataset not in get_args(DatasetName):
        raise InputError(f"no cameras of a data set {dataset!r}; known: {', '.join(get_args(DatasetName))}")
    path = Path(file) if file is not None else Path(__file__).with_name(f"cameras_{dataset}.json")
    known = read_cameras(path)
    name = subject.rpartition("/")[2]
    if name not in known:
        raise InputError(f"{path.name}: no cameras of subject {subject!r}; known: {', '.join(known)}")
    return list(known[name])


@functools.lru_cache(maxsize=8)
def read_cameras(path: Path) -> dict[str, tuple[DatasetCamera, ...]]:
    """Read a camera file (format: docs/datasets.md).

    Raises:
        InputError: the file is missing, or not a camera file; the message says why.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a camera file ({error})") from error
    try:
        tangential: Tangential = values.get("tangential", "opencv")
        if tangential not in get_args(Tangential):
            raise ValueError(f"tangential is {tangential!r}, not {' or '.join(get_args(Tangential))}")
        models = {
            str(name): _camera_model(str(name), model, tangential) for name, model in values["intrinsics"].items()
        }
        return {
            str(subject): tuple(_with_pose(models[entry["camera"]], entry) for entry in entries)
            for subject, entries in values["subjects"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a camera file ({type(error).__name__}: {error})") from error


def _camera_model(name: str, values: dict[str, Any], tangential: Tangential) -> DatasetCamera:
    width, height = (int(size) for size in values["size_wh"])
    intrinsics, distortion = _UNKNOWN, (0.0, 0.0, 0.0, 0.0, 0.0)
    if "focal" in values:
        (fx, fy), (cx, cy) = values["focal"], values["centre"]
        intrinsics = (float(fx), float(fy), float(cx), float(cy))
        (k1, k2, k3), (p1, p2) = values.get("radial", (0, 0, 0)), values.get("tangential", (0, 0))
        distortion = (float(k1), float(k2), float(p1), float(p2), float(k3))
        if not all(map(math.isfinite, (*intrinsics, *distortion))) or fx <= 0 or fy <= 0 or min(width, height) < 1:
            raise ValueError(f"camera {name}: sizes and focal lengths must be positive, all numbers finite")
    return DatasetCamera(name, width, height, intrinsics, distortion, np.eye(3), np.zeros(3), tangential)


def _with_pose(camera: DatasetCamera, values: dict[str, Any]) -> DatasetCamera:
    quaternion = np.array(values["orientation"], np.float64)
    position = np.array(values["position_mm"], np.float64) / 1000
    if quaternion.shape != (4,) or position.shape != (3,) or not np.isfinite([*quaternion, *position]).all():
        raise ValueError(f"camera {camera.name}: orientation must be 4 numbers and position_mm 3")
    if abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        raise ValueError(f"camera {camera.name}: orientation is not a unit quaternion")
    rotation = _rotation(quaternion).T
    return dataclasses.replace(camera, rotation=rotation, translation=-rotation @ position)


def _rotation(quaternion: DoubleArray) -> DoubleArray:
    """(3, 3) camera-to-world rotation of a quaternion w, x, y, z."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
