"""Scores of motion against ground truth, computed from two arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli import metrics
from vp3d_cli.errors import InputError

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]

_MM = 1000.0
_UNKNOWN = math.nan


@dataclass(frozen=True)
class Scores:
    """Scores of one case in mm (``pck`` and ``auc`` in percent); NaN if unknown.

    Attributes:
        name: name of the case.
        frames: number of poses that were compared.
        missing: poses of the ground truth without a prediction; no other score includes them.
        mpjpe: mean per-joint position error, root-aligned.
        n_mpjpe: root-aligned and scaled by the best factor: one per continuous motion, else one per pose.
        p_mpjpe: after Procrustes alignment of each pose.
        mpjve: mean per-joint velocity error, aligned as ``n_mpjpe`` (on a data set not aligned), mm per frame of the
            ground truth.
        trajectory: distance of the root in camera space.
        trajectory_aligned: the same after one similarity transform of the whole path.
        pck, auc: 3DPCK at 150 mm and the area under its curve, percent, aligned as ``n_mpjpe``.
        joints: J joint names.
        joints_n, joints_p: (J,) mean error of each joint in ``n_mpjpe`` and ``p_mpjpe``.
    """

    name: str
    frames: int
    missing: int = 0
    mpjpe: float = _UNKNOWN
    n_mpjpe: float = _UNKNOWN
    p_mpjpe: float = _UNKNOWN
    mpjve: float = _UNKNOWN
    trajectory: float = _UNKNOWN
    trajectory_aligned: float = _UNKNOWN
    pck: float = _UNKNOWN
    auc: float = _UNKNOWN
    joints: tuple[str, ...] = ()
    joints_n: tuple[float, ...] = ()
    joints_p: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; None for unknown scores."""
        plain: dict[str, Any] = {"name": self.name, "frames": self.frames, "missing": self.missing}
        for figure in FIGURES:
            value = getattr(self, figure)
            plain[figure] = None if math.isnan(value) else value
        plain["joints"] = {
            joint: {"n_mpjpe": n, "p_mpjpe": p}
            for joint, n, p in zip(self.joints, self.joints_n, self.joints_p, strict=True)
        }
        return plain


# Names of the scores, in the order in which they are shown.
FIGURES: tuple[str, ...] = tuple(f.name for f in fields(Scores) if f.type == "float")


def score_motion(
    name: str,
    predicted: Floats,
    truth: Floats,
    joints: Sequence[str],
    *,
    predicted_root: Floats | None = None,
    truth_root: Floats | None = None,
) -> Scores:
    """Score a continuous motion with one scale.

    Args:
        name: name of the case.
        predicted: (T, J, 3) metres, root-aligned; NaN in frames without a prediction.
        truth: (T, J, 3) metres, root-aligned; NaN in frames without ground truth.
        joints: J joint names.
        predicted_root, truth_root: (T, 3) root in camera space, metres.

    Raises:
        InputError: no frame has both a prediction and ground truth.
    """
    known = np.asarray(np.isfinite(truth).all(axis=(1, 2)))
    both = np.asarray(known & np.isfinite(predicted).all(axis=(1, 2)))
    if not both.any():
        raise InputError(f"{name}: no frame has both a prediction and ground truth; do their times overlap?")
    ours, real = predicted[both].astype(np.float64), truth[both].astype(np.float64)
    scaled = one_scale(ours, real)
    # Pairs of consecutive frames of the video, not only of the selection.
    pairs = np.diff(np.flatnonzero(both)) == 1
    velocity = metrics.joint_errors(np.diff(scaled, axis=0)[pairs], np.diff(real, axis=0)[pairs])
    absolute, path = _trajectory_errors(predicted_root, truth_root)
    return Scores(
        name,
        int(both.sum()),
        int((known & ~both).sum()),
        mpjve=_mean(velocity) * _MM,
        trajectory=absolute * _MM,
        trajectory_aligned=path * _MM,
        **_pose_figures(ours, scaled, real, joints),
    )


def score_poses(name: str, predicted: Floats, truth: Floats, joints: Sequence[str]) -> Scores:
    """Score N independent poses, each with its own scale.

    Args:
        name: name of the case.
        predicted, truth: (N, J, 3) metres, root-aligned.
        joints: J joint names.
    """
    ours, real = predicted.astype(np.float64), truth.astype(np.float64)
    return Scores(name, len(real), **_pose_figures(ours, metrics.scale_align(ours, real), real, joints))


def score_roots(name: str, predicted: Floats, truth: Floats) -> Scores:
    """Score N independent root positions in camera space, (N, 3) metres."""
    return Scores(name, len(truth), trajectory=_mean(metrics.joint_errors(predicted, truth)) * _MM)


def one_scale(predicted: Floats, truth: Floats) -> Doubles:
    """Scale a motion (T, J, 3) by one factor, the least-squares fit to the ground truth."""
    flat = metrics.scale_align(predicted.reshape(-1, 3), truth.reshape(-1, 3))
    return flat.reshape(predicted.shape)


def mean_scores(name: str, scores: Sequence[Scores]) -> Scores:
    """Average the scores of cases; a score that any case lacks is NaN in the mean."""
    numbers = {figure: float(np.mean([getattr(s, figure) for s in scores])) for figure in FIGURES}
    same_joints = len({s.joints for s in scores}) == 1
    return Scores(
        name,
        sum(s.frames for s in scores),
        sum(s.missing for s in scores),
        joints=scores[0].joints if same_joints else (),
        joints_n=tuple(np.mean([s.joints_n for s in scores], axis=0).tolist()) if same_joints else (),
        joints_p=tuple(np.mean([s.joints_p for s in scores], axis=0).tolist()) if same_joints else (),
        **numbers,
    )


def _pose_figures(ours: Doubles, scaled: Doubles, real: Doubles, joints: Sequence[str]) -> dict[str, Any]:
    """Scores of (N, J, 3) poses that do not depend on time."""
    errors_n = metrics.joint_errors(scaled, real)
    errors_p = metrics.joint_errors(metrics.procrustes_align(ours, real), real)
    return {
        "mpjpe": _mean(metrics.mpjpe(ours, real)) * _MM,
        "n_mpjpe": _mean(errors_n) * _MM,
        "p_mpjpe": _mean(errors_p) * _MM,
        "pck": 100 * _mean(metrics.pck(scaled, real)),
        "auc": 100 * _mean(metrics.auc(scaled, real)),
        "joints": tuple(joints),
        "joints_n": tuple(float(e) * _MM for e in errors_n.mean(axis=0)),
        "joints_p": tuple(float(e) * _MM for e in errors_p.mean(axis=0)),
    }


def _trajectory_errors(predicted: Floats | None, truth: Floats | None) -> tuple[float, float]:
    """Mean distance of two paths (T, 3), unaligned and after a similarity transform."""
    if predicted is None or truth is None:
        return _UNKNOWN, _UNKNOWN
    known = np.isfinite(predicted).all(axis=1) & np.isfinite(truth).all(axis=1)
    if not np.any(known):
        return _UNKNOWN, _UNKNOWN
    ours, real = predicted[known].astype(np.float64), truth[known].astype(np.float64)
    # Two points can always be aligned with two others.
    aligned = _mean(metrics.p_mpjpe(ours, real)) if len(ours) > 2 else _UNKNOWN
    return _mean(metrics.joint_errors(ours, real)), aligned


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else _UNKNOWN
