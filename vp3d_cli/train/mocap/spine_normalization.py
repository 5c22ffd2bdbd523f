"""Where thorax and spine are: recordings divide the trunk in different ways, and a lifter can only learn one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from vp3d_cli.train.mocap.clip import MOTION_JOINTS, MotionClip
from vp3d_cli.types import DoubleArray, FloatArray

_HIP, _SPINE, _THORAX = (MOTION_JOINTS.index(joint) for joint in ("hip", "spine", "thorax"))
_LEFT, _RIGHT = (MOTION_JOINTS.index(joint) for joint in ("left_shoulder", "right_shoulder"))
# The spine lies this far behind the line from hip to thorax, in lengths of that line: what most recordings have.
_BEHIND = 0.03


def normalize_spines(clips: Sequence[MotionClip]) -> list[MotionClip]:
    """Put thorax and spine of recordings where those of all others are.

    Hips, shoulders and limbs are found by the body; the joints of the trunk are what a skeleton's maker liked. In one
    collection the shoulders lie 3 cm above the thorax and in another 3 below, the spine six tenths of the way up or a
    quarter, before the line from hip to thorax or behind it.

    - The thorax is moved along the trunk until it is level with the shoulders, on average over a clip; it does not
      follow them when they are raised.
    - The spine is half way up the trunk, on the line that it bent before, and as far behind the straight line as most,
      on average over a source: it still bends as it did. A source of nothing but bent backs loses what they have in
      common.

    Args:
        clips: of any sources.

    Returns:
        The same, with the two joints moved.
    """
    leveled = [replace(clip, joints=_leveled(clip.joints)) for clip in clips]
    before: dict[str, list[DoubleArray]] = {}
    for clip in leveled:
        before.setdefault(clip.source, []).append(_before_line(clip.joints))
    bows = {source: float(np.concatenate(shares).mean()) for source, shares in before.items()}
    return [replace(clip, joints=_bowed(clip.joints, -_BEHIND - bows[clip.source])) for clip in leveled]


def _leveled(joints: FloatArray) -> FloatArray:
    """(F, 22, 3) with the thorax level with the shoulders, and the spine half way."""
    hip, spine, thorax = (joints[:, joint].astype(np.float64) for joint in (_HIP, _SPINE, _THORAX))
    along = _unit(thorax - hip)
    below = ((joints[:, [_LEFT, _RIGHT]].mean(axis=1) - thorax) * along).sum(axis=-1).mean()
    thorax = thorax + below * along
    out: FloatArray = joints.copy()
    out[:, _THORAX], out[:, _SPINE] = thorax, spine_midpoint(hip, [spine], thorax)
    return out


def spine_midpoint(hip: DoubleArray, spine: Sequence[DoubleArray], thorax: DoubleArray) -> DoubleArray:
    """(F, 3): the middle of the line from hip to thorax through the joints of the spine that lie between them."""
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


def _before_line(joints: FloatArray) -> DoubleArray:
    """(F,) how far the spine lies before the line from hip to thorax, in lengths of the line."""
    forward, length = _forward(joints)
    off: DoubleArray = ((joints[:, _SPINE] - joints[:, _HIP]) * forward).sum(axis=-1)
    return off / np.maximum(length[:, 0], 1e-9)


def _bowed(joints: FloatArray, by: float) -> FloatArray:
    """(F, 22, 3) with the spine moved forward by so many lengths of the line from hip to thorax."""
    forward, length = _forward(joints)
    out: FloatArray = joints.copy()
    out[:, _SPINE] += (by * length * forward).astype(np.float32)
    return out


def _forward(joints: FloatArray) -> tuple[DoubleArray, DoubleArray]:
    """(F, 3) unit vectors to where the chest faces, and (F, 1) the length of the line from hip to thorax."""
    left, line = ((joints[:, a] - joints[:, b]).astype(np.float64) for a, b in ((_LEFT, _RIGHT), (_THORAX, _HIP)))
    length: DoubleArray = np.linalg.norm(line, axis=-1, keepdims=True)
    return _unit(np.cross(left, line)), length


def _unit(vectors: DoubleArray) -> DoubleArray:
    units: DoubleArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return units
