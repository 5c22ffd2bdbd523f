"""Normalization of thorax and spine, which differ between motion-capture skeletons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from vp3d_cli.train.mocap.clip import MOTION_JOINTS, MotionClip
from vp3d_cli.types import DoubleArray, FloatArray

_HIP, _SPINE, _THORAX = (MOTION_JOINTS.index(joint) for joint in ("hip", "spine", "thorax"))
_LEFT, _RIGHT = (MOTION_JOINTS.index(joint) for joint in ("left_shoulder", "right_shoulder"))
# Distance of the spine joint behind the line from hip to thorax, relative to its length, as in most recordings.
_SPINE_OFFSET = 0.03


def normalize_spines(clips: Sequence[MotionClip]) -> list[MotionClip]:
    """Move thorax and spine of all clips to the same place in the trunk.

    Hips, shoulders and limbs are defined by the body; the trunk joints by the convention of a skeleton. In one
    collection the shoulders are 3 cm above the thorax and in another 3 cm below; the spine joint is at 60 % of the
    trunk or at 25 %, in front of the line from hip to thorax or behind it. A lifter can learn one convention only.

    - The thorax is moved along the trunk to the height of the shoulders, on average over a clip; it does not follow
      them when they are raised.
    - The spine is moved to half of the trunk, along its bend, and to a common distance behind the straight line, on
      average over a source: it still bends as recorded. A source in which all backs are bent loses the common part of
      the bend.

    Args:
        clips: clips of any sources.

    Returns:
        Copies of the clips with the two joints moved.
    """
    leveled = [replace(clip, joints=_with_level_thorax(clip.joints)) for clip in clips]
    before: dict[str, list[DoubleArray]] = {}
    for clip in leveled:
        before.setdefault(clip.source, []).append(_offset_in_front(clip.joints))
    mean_offsets = {source: float(np.concatenate(shares).mean()) for source, shares in before.items()}
    return [
        replace(clip, joints=_with_spine_moved(clip.joints, -_SPINE_OFFSET - mean_offsets[clip.source]))
        for clip in leveled
    ]


def _with_level_thorax(joints: FloatArray) -> FloatArray:
    """(F, 22, 3) joints with the thorax at the height of the shoulders, and the spine halfway."""
    hip, spine, thorax = (joints[:, joint].astype(np.float64) for joint in (_HIP, _SPINE, _THORAX))
    along = _unit(thorax - hip)
    below = ((joints[:, [_LEFT, _RIGHT]].mean(axis=1) - thorax) * along).sum(axis=-1).mean()
    thorax = thorax + below * along
    out: FloatArray = joints.copy()
    out[:, _THORAX], out[:, _SPINE] = thorax, spine_midpoint(hip, [spine], thorax)
    return out


def spine_midpoint(hip: DoubleArray, spine: Sequence[DoubleArray], thorax: DoubleArray) -> DoubleArray:
    """(F, 3) midpoint of the polyline from hip to thorax through the spine joints between them."""
    along = thorax - hip
    squared = np.maximum((along * along).sum(axis=-1), 1e-12)
    shares = {float((((joint - hip) * along).sum(axis=-1) / squared).mean()): joint for joint in spine}
    between = [shares[share] for share in sorted(shares) if 0.15 < share < 0.85]
    line = [hip, *between, thorax]
    lengths = [float(np.linalg.norm(b - a, axis=-1).mean()) for a, b in pairwise(line)]
    left = sum(lengths) / 2
    for (a, b), length in zip(pairwise(line), lengths, strict=True):
        if left <= length:
            return a + (b - a) * (left / max(length, 1e-12))
        left -= length
    return thorax


def _offset_in_front(joints: FloatArray) -> DoubleArray:
    """(F,) distance of the spine in front of the hip-thorax line, relative to its length."""
    forward, length = _forward(joints)
    off: DoubleArray = ((joints[:, _SPINE] - joints[:, _HIP]) * forward).sum(axis=-1)
    return off / np.maximum(length[:, 0], 1e-9)


def _with_spine_moved(joints: FloatArray, by: float) -> FloatArray:
    """(F, 22, 3) joints with the spine moved forward, relative to the hip-thorax length."""
    forward, length = _forward(joints)
    out: FloatArray = joints.copy()
    out[:, _SPINE] += (by * length * forward).astype(np.float32)
    return out


def _forward(joints: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """(F, 3) unit vectors in the direction of the chest, and (F, 1) hip-thorax length."""
    left, line = ((joints[:, a] - joints[:, b]).astype(np.float64) for a, b in ((_LEFT, _RIGHT), (_THORAX, _HIP)))
    length: DoubleArray = np.linalg.norm(line, axis=-1, keepdims=True)
    return _unit(np.cross(left, line)), length


def _unit(vectors: DoubleArray) -> DoubleArray:
    units: DoubleArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return units
