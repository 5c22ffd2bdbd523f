"""Scores of one motion against the truth: everything that ``vp3d evaluate`` reports, from two arrays."""

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


@dataclass(frozen=True)
class Scores:
    """Errors of one case: a camera, a hold-out, a person. Millimetres but for the two in percent; NaN if not known.

    Attributes:
        name: of the case.
        frames: poses compared.
        missing: poses of the truth without a prediction; they are in no other figure.
        mpjpe: root-aligned, not scaled.
        n_mpjpe: root-aligned and scaled by the factor that fits best.
        p_mpjpe: after Procrustes alignment of each pose.
        mpjve: change from frame to frame, aligned as for ``n_mpjpe``, mm per frame.
        trajectory: distance of the root in camera space.
        trajectory_aligned: the same after one similarity transform of the whole path.
        pck, auc: 3DPCK at 150 mm and the area under its curve, percent, aligned as for ``n_mpjpe``.
        joints: J names.
        joints_n, joints_p: (J,) what each joint adds to ``n_mpjpe`` and ``p_mpjpe``.
    """

    name: str
    frames: int
    missing: int
    mpjpe: float
    n_mpjpe: float
    p_mpjpe: float
    mpjve: float
    trajectory: float
    trajectory_aligned: float
    pck: float
    auc: float
    joints: tuple[str, ...]
    joints_n: tuple[float, ...]
    joints_p: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is None."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("joints")}
        per_joint = {
            joint: {"n_mpjpe": n, "p_mpjpe": p}
            for joint, n, p in zip(self.joints, self.joints_n, self.joints_p, strict=True)
        }
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
        return {**plain, "joints": per_joint}


def score_motion(
    name: str,
    predicted: Floats,
    truth: Floats,
    joints: Sequence[str],
    *,
    predicted_root: Floats | None = None,
    truth_root: Floats | None = None,
) -> Scores:
    """Score one continuous motion with one scale.

    Args:
        name: of the case.
        predicted: (T, J, 3) metres, root-aligned; NaN in frames without a prediction.
        truth: (T, J, 3) metres, root-aligned; NaN in frames without truth.
        joints: J names.
        predicted_root, truth_root: (T, 3) root in camera space, metres.

    Raises:
        InputError: no frame has both.
    """
    known = np.asarray(np.isfinite(truth).all(axis=(1, 2)))
    both = np.asarray(known & np.isfinite(predicted).all(axis=(1, 2)))
    if not both.any():
        raise InputError(f"{name}: no frame has both a prediction and the truth; are they of the same time span?")
    ours, real = predicted[both].astype(np.float64), truth[both].astype(np.float64)
    scaled = one_scale(ours, real)
    aligned = metrics.procrustes_align(ours, real)
    errors_n, errors_p = metrics.joint_errors(scaled, real), metrics.joint_errors(aligned, real)
    consecutive = np.flatnonzero(both[1:] & both[:-1])
    index = np.cumsum(both) - 1
    velocity = metrics.joint_errors(
        scaled[index[consecutive + 1]] - scaled[index[consecutive]],
        real[index[consecutive + 1]] - real[index[consecutive]],
    )
    absolute, path = _trajectory_errors(predicted_root, truth_root)
    return Scores(
        name=name,
        frames=int(both.sum()),
        missing=int((known & ~both).sum()),
        mpjpe=_mean(metrics.mpjpe(ours, real)) * _MM,
        n_mpjpe=_mean(errors_n) * _MM,
        p_mpjpe=_mean(errors_p) * _MM,
        mpjve=_mean(velocity) * _MM,
        trajectory=absolute * _MM,
        trajectory_aligned=path * _MM,
        pck=100 * _mean(metrics.pck(scaled, real)),
        auc=100 * _mean(metrics.auc(scaled, real)),
        joints=tuple(joints),
        joints_n=tuple(float(e) * _MM for e in errors_n.mean(axis=0)),
        joints_p=tuple(float(e) * _MM for e in errors_p.mean(axis=0)),
    )


def one_scale(predicted: Floats, truth: Floats) -> Doubles:
    """Scale a whole motion (T, J, 3) about the origin by the one factor that fits best (least squares)."""
    flat = metrics.scale_align(predicted.reshape(-1, 3), truth.reshape(-1, 3))
    return flat.reshape(predicted.shape)


def mean_scores(name: str, scores: Sequence[Scores]) -> Scores:
    """Mean over cases, each counting the same; a figure that a case lacks is NaN in the mean."""
    numbers = {
        f.name: float(np.mean([getattr(s, f.name) for s in scores])) for f in fields(Scores) if f.type == "float"
    }
    return Scores(
        name=name,
        frames=sum(s.frames for s in scores),
        missing=sum(s.missing for s in scores),
        joints=scores[0].joints,
        joints_n=tuple(np.mean([s.joints_n for s in scores], axis=0).tolist()),
        joints_p=tuple(np.mean([s.joints_p for s in scores], axis=0).tolist()),
        **numbers,
    )


def _trajectory_errors(predicted: Floats | None, truth: Floats | None) -> tuple[float, float]:
    if predicted is None or truth is None:
        return math.nan, math.nan
    known = np.isfinite(predicted).all(axis=1) & np.isfinite(truth).all(axis=1)
    if not known.any():
        return math.nan, math.nan
    ours, real = predicted[known].astype(np.float64), truth[known].astype(np.float64)
    # Fewer than three points fit any others.
    aligned = _mean(metrics.p_mpjpe(ours, real)) if known.sum() >= 3 else math.nan
    return _mean(metrics.joint_errors(ours, real)), aligned


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan
