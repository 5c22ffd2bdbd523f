"""Axes of body segments, and the rotation between two segments as three angles.

Axes follow the International Society of Biomechanics (Wu et al. 2002, 2005): X forward, Y up, Z to the person's right.
A set of axes is (t, 3, 3) with X, Y, Z as columns in world coordinates. Angles are in degrees.
"""

from __future__ import annotations

import numpy as np

from vp3d_cli.types import DoubleArray, stretches

# World axes (x right, y away from the camera, z up) of somebody who stands upright and faces away from the camera.
WORLD_AXES = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
# So near to a pole, where two of the three angles turn about the same axis, they are left undefined.
POLE_DEG = 80.0
_NO_LENGTH_M = 1e-6


def unit(vectors: DoubleArray) -> DoubleArray:
    """Vectors (t, 3) of length 1; NaN where they have no length."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > _NO_LENGTH_M, length, np.nan))


def axes_from_right(right: DoubleArray, up: DoubleArray) -> DoubleArray:
    """Axes (t, 3, 3) with Z along ``right`` (t, 3) and Y as near to ``up`` (t, 3) as it can be."""
    z = unit(right)
    x = unit(np.cross(up, z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def axes_from_up(up: DoubleArray, right: DoubleArray) -> DoubleArray:
    """Axes (t, 3, 3) with Y along ``up`` (t, 3) and Z as near to ``right`` (t, 3) as it can be."""
    y = unit(up)
    x = unit(np.cross(y, right))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def relative(parent: DoubleArray, child: DoubleArray) -> DoubleArray:
    """Rotation (t, 3, 3) from the parent's axes to the child's, in the parent's axes."""
    return np.asarray(np.swapaxes(parent, -1, -2) @ child)


def direction(parent: DoubleArray, vectors: DoubleArray) -> DoubleArray:
    """Unit vectors (t, 3) along ``vectors`` (t, 3), in the parent's axes (t, 3, 3)."""
    return np.asarray((np.swapaxes(parent, -1, -2) @ unit(vectors)[..., None])[..., 0])


def mirrored(rotation: DoubleArray) -> DoubleArray:
    """The rotation (t, 3, 3) mirrored in the sagittal plane: left and right exchanged."""
    flip = np.diag([1.0, 1.0, -1.0])
    return np.asarray(flip @ rotation @ flip)


def angles_zxy(rotation: DoubleArray) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Cardan angles about Z, X, Y (each in the axes turned by those before), degrees, (t,) each."""
    x = _arcsin(rotation[..., 2, 1])
    z = _arctan(-rotation[..., 0, 1], rotation[..., 1, 1])
    y = _arctan(-rotation[..., 2, 0], rotation[..., 2, 2])
    x, z, y = _without_pole(x, z, y)
    return z, x, y


def angles_yxz(rotation: DoubleArray) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Cardan angles about Y, X, Z, degrees, (t,) each: pelvis and trunk in space (Baker 2001)."""
    x = _arcsin(-rotation[..., 1, 2])
    y = _arctan(rotation[..., 0, 2], rotation[..., 2, 2])
    z = _arctan(rotation[..., 1, 0], rotation[..., 1, 1])
    x, y, z = _without_pole(x, y, z)
    return y, x, z


def axial_yxy(rotation: DoubleArray) -> DoubleArray:
    """Axial rotation (t,) of the shoulder, degrees: third angle about Y, X, Y (Wu et al. 2005).

    Undefined (NaN) within 10 degrees of where the first and third axis are one.
    """
    elevation = np.degrees(np.arccos(np.clip(rotation[..., 1, 1], -1.0, 1.0)))
    axial = _arctan(-rotation[..., 1, 0], rotation[..., 1, 2])
    return np.where(np.abs(elevation - 90.0) > POLE_DEG, np.nan, axial)


def swing_zx(up: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """The first two of the Cardan angles about Z, X, Y, degrees, (t,) each, from where Y points.

    Args:
        up: (t, 3) unit vectors: Y of the child in the parent's axes. How it is turned about Y does not matter.
    """
    z, x = _arctan(-up[..., 0], up[..., 1]), _arcsin(up[..., 2])
    return np.where(np.abs(x) > POLE_DEG, np.nan, z), x


def swing_yx(up: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Plane of elevation and elevation (t,) of the right shoulder, degrees (Wu et al. 2005).

    Elevation is counted as positive, 0 to 180; the plane is undefined (NaN) within 10 degrees of either end.

    Args:
        up: (t, 3) unit vectors: from the elbow to the shoulder in the axes of the thorax.
    """
    elevation = _arctan(np.hypot(up[..., 0], up[..., 2]), up[..., 1])
    plane = _arctan(-up[..., 0], -up[..., 2])
    return np.where(np.abs(elevation - 90.0) > POLE_DEG, np.nan, plane), elevation


def angle_between(a: DoubleArray, b: DoubleArray) -> DoubleArray:
    """(t,) degrees between vectors (t, 3), 0 to 180; exact also where they are nearly parallel."""
    sine = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.where(np.isfinite(unit(a) + unit(b)).all(axis=-1), _arctan(sine, (a * b).sum(axis=-1)), np.nan)


def continuous(degrees: DoubleArray, centre: float | None) -> DoubleArray:
    """An angle (t,) without jumps of 360 degrees; NaN stays.

    Args:
        degrees: known up to full turns.
        centre: each uninterrupted run is shifted by full turns so that its median lies within 180 degrees of this
            angle, the middle of what the joint can do. None for a body that may turn round and round: a run goes on
            by the shorter way from where the one before it ended.
    """
    result = np.array(degrees, np.float64)
    last = 0.0
    for start, stop in stretches(np.asarray(np.isfinite(result))):
        run = np.unwrap(result[start:stop], period=360.0)
        off = run[0] - last if centre is None else float(np.median(run)) - centre
        result[start:stop] = run - 360.0 * np.round(off / 360.0)
        last = float(result[stop - 1])
    return result


def _without_pole(middle: DoubleArray, *others: DoubleArray) -> list[DoubleArray]:
    """The middle angle, and the others with NaN where it is near 90 degrees."""
    return [middle, *(np.where(np.abs(middle) > POLE_DEG, np.nan, other) for other in others)]


def _arcsin(values: DoubleArray) -> DoubleArray:
    return np.asarray(np.degrees(np.arcsin(np.clip(values, -1.0, 1.0))))


def _arctan(y: DoubleArray, x: DoubleArray) -> DoubleArray:
    return np.asarray(np.degrees(np.arctan2(y, x)))
