"""Which way a head faces: from nose, eyes and ears in the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vp3d_cli.refine.rig.limbs import ComplexArray, steady_phasor
from vp3d_cli.types import DoubleArray, FloatArray

# Metres in the rest pose (facing -y, left at +x), relative to the middle of the head; means of adults, rounded (Farkas,
# Anthropometry of the Head and Face, 1994).
_FACE = {
    "nose": (0.0, -0.11, -0.02),
    "left_eye": (0.032, -0.085, 0.02),
    "right_eye": (-0.032, -0.085, 0.02),
    "left_ear": (0.075, 0.01, 0.0),
    "right_ear": (-0.075, 0.01, 0.0),
}
_LEAST_SCORE = 0.2
_MOST_TURN_DEG = 80.0  # against the chest (Norkin and White, Measurement of Joint Motion)
_FOLLOWS_S = 0.08
# Metres squared; what the chest's direction counts against the face. A face in full view has about 0.015.
_CHEST_WEIGHT = 0.001


def head_turn(
    base: DoubleArray,
    axis: DoubleArray,
    face: DoubleArray,
    scores: DoubleArray,
    names: Sequence[str],
    camera: DoubleArray,
    head_cam: DoubleArray,
    intrinsics: Sequence[float],
    rate: float,
) -> DoubleArray:
    """Return the angles (t,) in radians by which a head is rotated about ``axis``.

    Angles are relative to ``base``.

    A head of usual size is turned so that its face comes nearest to the keypoints, position aside: linear least squares
    in the cosine and the sine of the angle. Without keypoints of the face the angle goes to 0.

    Args:
        base: (t, 3, 3) rotations of the head from the rest pose, without that turn.
        axis: (t, 3) unit vectors, in the same axes.
        face: (t, K, 2) keypoints, pixels; NaN where missing.
        scores: (t, K) their confidence.
        names: K names; those of COCO's face are used.
        camera: (t, 3, 3) those axes to camera axes.
        head_cam: (t, 3) place of the head in camera space, metres.
        intrinsics: fx, fy, cx, cy in pixels.
        rate: frames per second.
    """
    used = [names.index(name) for name in _FACE if name in names]
    if not used:
        return np.zeros(len(base))
    model = np.array([_FACE[names[i]] for i in used])
    seen, weights = _seen(face[:, used], scores[:, used], head_cam, intrinsics)
    in_base = model @ np.swapaxes(base, -1, -2)
    along = (in_base * axis[:, None]).sum(-1, keepdims=True) * axis[:, None]
    parts = (along, in_base - along, np.cross(axis[:, None], in_base - along))
    fixed, cosine, sine = (_in_image(part @ np.swapaxes(camera, -1, -2), head_cam) for part in parts)
    fixed, cosine, sine, seen = (_centred(part, weights) for part in (fixed, cosine, sine, seen))
    wanted = seen - fixed

    def product(a: DoubleArray, b: DoubleArray) -> DoubleArray:
        return np.asarray((weights[..., None] * a * b).sum(axis=(1, 2)))

    cc = product(cosine, cosine) + _CHEST_WEIGHT
    ss, cs = product(sine, sine) + _CHEST_WEIGHT, product(cosine, sine)
    right = product(cosine, wanted) + _CHEST_WEIGHT, product(sine, wanted)
    determinant = cc * ss - cs**2
    phasor: ComplexArray = np.asarray(
        ((ss * right[0] - cs * right[1]) + 1j * (cc * right[1] - cs * right[0])) / determinant, np.complex128
    )
    size = np.abs(phasor)
    trust = np.clip((cc + ss - 2 * _CHEST_WEIGHT) / 0.015, 0.0, 1.0) * np.clip(size, 0.0, 1.0)
    steady = steady_phasor(phasor / np.maximum(size, 1e-9), trust, rate, _FOLLOWS_S, 0.01)
    return np.asarray(np.clip(np.angle(steady), -np.radians(_MOST_TURN_DEG), np.radians(_MOST_TURN_DEG)))


def _seen(
    face: DoubleArray | FloatArray, scores: DoubleArray | FloatArray, head_cam: DoubleArray, intrinsics: Sequence[float]
) -> tuple[DoubleArray, DoubleArray]:
    """Keypoints (t, K, 2) in metres at the distance of the head, and their weights (t, K)."""
    fx, fy, cx, cy = intrinsics
    known = np.isfinite(face).all(axis=-1) & (scores > _LEAST_SCORE)
    metres = (face.astype(np.float64) - [cx, cy]) / [fx, fy] * head_cam[:, None, 2:]
    return np.where(known[..., None], metres, 0.0), np.where(known, scores, 0.0).astype(np.float64)


def _in_image(points: DoubleArray, head_cam: DoubleArray) -> DoubleArray:
    """Project small offsets (t, K, 3) in camera axes to first order.

    The result is (t, K, 2) in metres at the head's distance.
    """
    ray = head_cam[:, None, :2] / head_cam[:, None, 2:]
    return np.asarray(points[..., :2] - ray * points[..., 2:])


def _centred(points: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Points (t, K, 2) relative to their weighted mean."""
    total = np.maximum(weights.sum(axis=1), 1e-9)[:, None, None]
    return np.asarray(points - (weights[..., None] * points).sum(axis=1, keepdims=True) / total)
