"""Conversion between skeletons: detector keypoints for a lifter, and its output joints.

A lifter may be trained on other keypoints than the detector gives, and answer with other joints.

A midpoint of two keypoints in the image is (but for perspective) the image of their midpoint in space, so joints that
no detector finds are put between those that it finds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.skeletons import COCO17, H36M17, HUMANEVA15, Skeleton, get_skeleton
from vp3d_cli.types import BoolArray, FloatArray

Array = Any  # numpy.ndarray or torch.Tensor

_SHOULDERS, _HIPS = ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")
_EARS = ("left_ear", "right_ear")
# Joints that COCO lacks, as weighted means of its keypoints. Neck and head fit 27,395 frames of motion capture that
# have them and the face (least squares, rounded).
_HIP = dict.fromkeys(_HIPS, 0.5)
_THORAX = dict.fromkeys(_SHOULDERS, 0.5)
_SPINE = dict.fromkeys((*_HIPS, *_SHOULDERS), 0.25)
_NECK = {"nose": 0.5, **dict.fromkeys((*_EARS, *_SHOULDERS), 0.125)}
_CROWN = {**dict.fromkeys(_EARS, 0.8), **dict.fromkeys(_SHOULDERS, -0.3)}
_BETWEEN: dict[str, dict[str, dict[str, float]]] = {
    H36M17.name: {"hip": _HIP, "spine": _SPINE, "thorax": _THORAX, "neck": _NECK, "head": _CROWN},
    HUMANEVA15.name: {"hip": _HIP, "thorax": _THORAX, "head": _CROWN},
}


def from_coco(keypoints: Array, skeleton: str) -> Array:
    """COCO keypoints to those of another skeleton.

    Args:
        keypoints: (..., 17, 2), an array of numpy or torch; NaN where missing.
        skeleton: its name.

    Returns:
        (..., J, 2) of the same kind; NaN where a keypoint that is needed is missing.

    Raises:
        ConfigError: there is no such conversion.
    """
    if skeleton == COCO17.name:
        return keypoints
    xp = array_namespace(keypoints)
    weights = xp.asarray(_weights(skeleton), dtype=keypoints.dtype, device=device(keypoints))
    missing = ~xp.all(xp.isfinite(keypoints), axis=-1)
    converted = weights @ xp.where(missing[..., None], xp.zeros_like(keypoints), keypoints)
    gone = xp.any(missing[..., None, :] & (weights != 0), axis=-1)
    return xp.where(gone[..., None], xp.full_like(converted, math.nan), converted)


def as_trained(keypoints: Array, scores: Array, rule: InputRule) -> tuple[Array, Array]:
    """Convert COCO keypoints to those that a lifter was trained on.

    All have confidence 1 if the lifter takes no confidence.

    Screen coordinates without confidence are VideoPose3D's: such networks cannot tell a keypoint that is left out,
    shown as zero, from one in the middle of the image, so none is left out.

    Args:
        keypoints: (..., 17, 2) pixels, an array of numpy or torch; NaN where missing.
        scores: (..., 17) confidence.
        rule: the lifter's input rule.

    Returns:
        (..., J, 2) and (..., J), of the same kind. A joint between keypoints is as sure as the least of them.

    Raises:
        ConfigError: COCO's keypoints cannot be turned into the lifter's.
    """
    xp = array_namespace(keypoints)
    if rule.skeleton_2d != COCO17.name:
        weights = xp.asarray(_weights(rule.skeleton_2d), dtype=scores.dtype, device=device(scores))
        keypoints = from_coco(keypoints, rule.skeleton_2d)
        scores = xp.min(xp.where(weights != 0, scores[..., None, :], xp.ones_like(weights)), axis=-1)
    return keypoints, xp.ones_like(scores) if shows_all(rule) else scores


def shows_all(rule: InputRule) -> bool:
    """Whether no keypoint may be left out (see :func:`as_trained`)."""
    return rule.normalization == "screen" and not rule.confidence


def _weights(skeleton: str) -> FloatArray:
    """(J, 17) of each COCO keypoint in each joint; rows add up to 1."""
    if skeleton not in _BETWEEN:
        raise ConfigError(f"a lifter on keypoints of {skeleton} cannot use a detector's COCO keypoints")
    wanted = get_skeleton(skeleton)
    weights = np.zeros((wanted.num_joints, COCO17.num_joints), np.float32)
    for row, joint in enumerate(wanted.joints):
        for name, weight in _BETWEEN[skeleton].get(joint, {joint: 1.0}).items():
            weights[row, COCO17.index(name)] = weight
    return weights


def complete(keypoints: FloatArray, scores: FloatArray, least: float) -> FloatArray:
    """Fill missing keypoints, for lifters that were trained without missing ones.

    They are interpolated over time, or else taken from the next joint.

    Args:
        keypoints: (T, 17, 2) COCO keypoints in pixels, NaN where missing.
        scores: (T, 17) confidence.
        least: below this confidence a keypoint is missing too.

    Returns:
        (T, 17, 2), finite unless nothing is known at all: each joint follows straight lines between the frames in which
        it is seen, and stays at the ends; one that is never seen lies where its neighbour towards the head does.
    """
    seen: BoolArray = np.asarray(np.isfinite(keypoints).all(axis=2) & (scores >= least))
    filled = keypoints.astype(np.float32)
    frames = np.arange(len(filled))
    ever: BoolArray = np.asarray(seen.any(axis=0))
    for joint in np.flatnonzero(ever):
        known = seen[:, joint]
        for axis in range(2):
            filled[:, joint, axis] = np.interp(frames, frames[known], keypoints[known, joint, axis])
    for joint in np.flatnonzero(~ever).tolist():
        filled[:, joint] = filled[:, _neighbour(COCO17, joint, ever)] if ever.any() else np.nan
    return filled


def _neighbour(skeleton: Skeleton, joint: int, ever: BoolArray) -> int:
    parent = skeleton.parents[joint]
    while parent >= 0 and not ever[parent]:
        parent = skeleton.parents[parent]
    return parent if parent >= 0 else int(np.flatnonzero(ever)[0])


def to_h36m17(joints: FloatArray, skeleton: str) -> FloatArray:
    """Root-relative joints (T, J, 3) to (T, 17, 3) of Human3.6M.

    HumanEva's 15 lack the spine, put midway between hip and thorax, and the neck, midway between thorax and head.

    Raises:
        ConfigError: there is no such conversion.
    """
    if skeleton == H36M17.name:
        return joints
    if skeleton != HUMANEVA15.name:
        raise ConfigError(f"joints of {skeleton} cannot be turned into Human3.6M's")
    ends = {"spine": ("hip", "thorax"), "neck": ("thorax", "head")}
    columns = [[HUMANEVA15.index(name) for name in ends.get(joint, (joint,))] for joint in H36M17.joints]
    return np.stack([joints[:, column].mean(axis=1) for column in columns], axis=1).astype(np.float32)
