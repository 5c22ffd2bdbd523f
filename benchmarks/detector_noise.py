"""Detector errors on real video, joint by joint, which the simulated noise of the training data follows.

    python benchmarks/detector_noise.py VIDEO... [--detector movenet] [--out docs/measurements/detector_noise.json]

Two measures without ground truth: the high-frequency jitter is the residual of a smooth curve; the whole error,
including slow parts, is the difference of two detection passes (see clip_detections.py), each of which has half of its
variance. Errors that both passes share are not visible, so these are lower bounds. Lengths are in body sizes
(root-mean-square distance of the keypoints from their mean; about 0.50 m for an adult of 1.7 m seen whole).
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clip_detections import Opinions, load_opinions
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from vp3d_cli.preprocess import body_scale, fill_gaps, smooth
from vp3d_cli.preprocess.outliers import correct_outliers
from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D

Array = NDArray[np.float64]
SURE = 0.3  # both opinions; below, errors are reported by confidence only
GROSS = 0.15  # an error beyond this is another place (the other leg, the background), not jitter
SMOOTH_HZ = 5.0
SLOW = 1.0  # body sizes per second
FAST_FPS = 24.0  # below, jitter and its spectrum cannot be told from motion
LAGS_S = (0.0, 1 / 30, 2 / 30, 0.1, 0.1667, 0.2333, 0.3333, 0.5, 0.6667, 1.0, 1.5, 2.0)
SCORE_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
BURST_LIMITS = (0.2, 0.3)
M_PER_BODY_SIZE = 0.50


@dataclass(frozen=True)
class Person:
    """What is measured of one person, per frame and joint; NaN or 0 where not in view.

    Attributes:
        name: clip and person.
        fps: frames per second.
        scores: (T, 17) of the first opinion.
        second_scores: (T, 17).
        difference: (T, 17, 2) half-variance difference of the opinions, (first - second) / sqrt 2, body sizes.
        residual: (T, 17, 2) first opinion minus a smooth curve through it, body sizes; where the joint is slow, and the
            video has 24 frames per second or more, so that the curve can follow the motion.
        speed: (T, 17) body sizes per second.
        in_view: (T,).
        faults: how many were repaired, and filled.
        conditioned: (T, 17, 2) as ``difference``, after each opinion had its gaps filled and was smoothed: what a
            lifter gets to see.
    """

    name: str
    fps: float
    scores: Array
    second_scores: Array
    difference: Array
    residual: Array
    speed: Array
    in_view: NDArray[np.bool_]
    faults: dict[str, int]
    conditioned: Array

    @property
    def sure(self) -> NDArray[np.bool_]:
        """(T, 17) both opinions are sure, and mean the same place."""
        both = (self.scores >= SURE) & (self.second_scores >= SURE)
        return both & (np.linalg.norm(np.nan_to_num(self.difference), axis=-1) < GROSS)


def measure_person(opinions: Opinions) -> Person:
    """Residuals and differences of one person."""
    track, times = opinions.track, opinions.times_s
    keypoints, scores = track.keypoints.astype(np.float64), track.scores.astype(np.float64)
    size = body_scale(keypoints, scores, times)
    fps = 1 / float(np.median(np.diff(times)))
    seen = np.isfinite(keypoints).all(axis=-1)
    repaired = correct_outliers(keypoints, np.where(seen, scores, 0.0), times, size, COCO17)
    curve = np.full_like(keypoints, np.nan)
    joint, frame = np.nonzero(seen.T)
    series = np.cumsum(np.append(0.0, (np.diff(frame) != 1) | (np.diff(joint) != 0)))
    curve[frame, joint] = fit_spline(
        keypoints[frame, joint], times[frame], np.square(scores[frame, joint]) + 1e-3, series, SMOOTH_HZ
    )
    scale = size[:, None, None]
    speed = np.linalg.norm(np.gradient(curve, times, axis=0), axis=-1) / size[:, None]
    followed = (speed < SLOW) & (fps >= FAST_FPS)
    residual = np.where(followed[..., None], (keypoints - curve) / scale, np.nan)
    return Person(
        f"{opinions.clip} #{track.person_id}",
        fps,
        scores,
        opinions.second_scores,
        (keypoints - opinions.second_keypoints) / np.sqrt(2) / scale,
        residual,
        speed,
        track.present,
        {
            "jumps": int(repaired.jumps.sum()),
            "swapped_joints": int(repaired.swapped.sum()),
            "filled": int((~fill_gaps(track, times).observed & track.present[:, None]).sum()),
        },
        (_condition(track, times) - _condition(second_track(opinions), times)) / np.sqrt(2) / scale,
    )


def second_track(opinions: Opinions) -> Track2D:
    """The second opinion, as a track."""
    seen = np.isfinite(opinions.second_keypoints).all(axis=-1)
    boxes = np.where(seen.any(axis=1)[:, None], opinions.track.boxes_xyxy, np.nan)
    return Track2D(
        1,
        opinions.second_keypoints.astype(np.float32),
        opinions.second_scores.astype(np.float32),
        boxes.astype(np.float32),
        seen,
    )


def _condition(track: Track2D, times_s: Array) -> Array:
    return smooth(fill_gaps(track, times_s), times_s).keypoints.astype(np.float64)


def rms(values: Array) -> float | None:
    """Root mean square, rounded; None of nothing."""
    values = values[np.isfinite(values)]
    return round(float(np.sqrt(np.mean(values**2))), 5) if len(values) >= 20 else None


def robust(values: Array) -> float | None:
    """Standard deviation from the median absolute value, as if Gaussian; None of nothing."""
    values = values[np.isfinite(values)]
    return round(float(np.median(np.abs(values)) / 0.6745), 5) if len(values) >= 20 else None


def autocovariance(people: list[Person], joint: int, which: str = "difference") -> Array:
    """Covariance of a joint's error with itself after each of LAGS_S; NaN where no clip resolves the lag."""
    sums, counts = np.zeros(len(LAGS_S)), np.zeros(len(LAGS_S))
    for person in people:
        error = getattr(person, which)[:, joint]
        counts_here = person.sure[:, joint] & (np.linalg.norm(np.nan_to_num(error), axis=-1) < GROSS)
        error = np.where(counts_here[:, None], error, np.nan)
        for i, lag_s in enumerate(LAGS_S):
            lag = round(lag_s * person.fps)
            if lag >= len(error) or abs(lag / person.fps - lag_s) > 0.012:
                continue
            product = error[lag:] * error[: len(error) - lag]
            sums[i] += np.nansum(product)
            counts[i] += np.isfinite(product).sum()
    return np.where(counts >= 40, sums / np.maximum(counts, 1), np.nan)


def correlation(covariance: Array) -> list[float | None]:
    """An autocovariance over its first value, for JSON."""
    return [None if np.isnan(v) else round(float(v), 3) for v in covariance / covariance[0]]


def decompose(covariance: Array) -> dict[str, float | None]:
    """White jitter, slow jitter with its correlation time, and constant bias, from an autocovariance."""
    lags = np.array(LAGS_S)
    known = np.isfinite(covariance)
    if not known[0] or known[1:].sum() < 4:
        return {"white": None, "slow": None, "slow_tau_s": None, "bias": None}

    def model(lag: Array, slow: float, tau: float, bias: float) -> Array:
        value: Array = slow * np.exp(-lag / tau) + bias
        return value

    later = known & (lags > 0)
    total = covariance[0]
    (slow, tau, bias), _ = curve_fit(
        model, lags[later], covariance[later] / total, p0=(0.4, 0.2, 0.2), bounds=((0, 0.05, 0), (1, 1.0, 1))
    )
    white = max(0.0, 1 - slow - bias)
    parts = np.sqrt(np.array([white, slow, bias]) * total)
    return {
        "white": round(float(parts[0]), 5),
        "slow": round(float(parts[1]), 5),
        "slow_tau_s": round(float(tau), 3),
        "bias": round(float(parts[2]), 5),
    }


def bursts(people: list[Person], joint: int, limit: float) -> dict[str, Any]:
    """How often and for how long a joint that is usually seen falls below a confidence."""
    lengths: list[float] = []
    seconds = 0.0
    for person in people:
        scores = person.scores[person.in_view, joint]
        if len(scores) < 20 or np.median(scores) < SURE:
            continue
        seconds += len(scores) / person.fps
        edges = np.flatnonzero(np.diff(np.concatenate([[0], scores < limit, [0]])))
        lengths += ((edges[1::2] - edges[::2]) / person.fps).tolist()
    return {
        "per_second": round(len(lengths) / seconds, 4) if seconds else None,
        "share_of_time": round(sum(lengths) / seconds, 4) if seconds else None,
        "seconds_quantiles_25_50_75_95": np.quantile(lengths, (0.25, 0.5, 0.75, 0.95)).round(3).tolist()
        if lengths
        else None,
    }


def measure_joint(people: list[Person], joint: int) -> dict[str, Any]:
    """All figures of one joint."""
    sure = [person.sure[:, joint] for person in people]
    difference = np.concatenate([p.difference[s, joint].ravel() for p, s in zip(people, sure, strict=True)])
    residual = np.concatenate([p.residual[s, joint].ravel() for p, s in zip(people, sure, strict=True)])
    scores = np.concatenate([p.scores[p.in_view, joint] for p in people])
    fast = [person for person in people if person.fps >= FAST_FPS]
    covariance = autocovariance(fast, joint)
    conditioned = autocovariance(fast, joint, "conditioned")
    # Left and right err alike: together they tell the parts apart better.
    other = COCO17.flip_order[joint]
    both = (covariance + autocovariance(fast, other)) / 2
    both_conditioned = (conditioned + autocovariance(fast, other, "conditioned")) / 2
    covariance_standing = autocovariance([p for p in people if p.fps < FAST_FPS], joint)
    logit = [np.log(np.clip(s, 0.01, 0.99) / (1 - np.clip(s, 0.01, 0.99))) for s in
             (p.scores[p.in_view, joint] for p in people)]  # fmt: skip
    return {
        "samples": int(sum(s.sum() for s in sure)),
        "jitter_rms": rms(residual),
        "jitter_robust": robust(residual),
        "error_rms": rms(difference),
        "error_robust": robust(difference),
        **decompose(both),
        "conditioned": {
            "error_rms_before": round(float(np.sqrt(covariance[0])), 5),
            "error_rms": round(float(np.sqrt(conditioned[0])), 5),
            **decompose(both_conditioned),
        },
        "autocorrelation": correlation(covariance),
        "autocorrelation_low_fps": correlation(covariance_standing),
        "score_quantiles_5_25_50_75_95": np.quantile(scores, (0.05, 0.25, 0.5, 0.75, 0.95)).round(3).tolist(),
        "score_logit_std_between_people": round(float(np.std([np.median(v) for v in logit if len(v) > 20])), 3),
        "score_logit_std_in_time": round(float(np.mean([v.std() for v in logit if len(v) > 20])), 3),
        "low_confidence": {str(limit): bursts(people, joint, limit) for limit in BURST_LIMITS},
    }


def error_by(people: list[Person], values: list[Array], edges: tuple[float, ...]) -> list[dict[str, Any]]:
    """Error of single keypoints in bins of something: gross errors included."""
    error = np.concatenate([np.linalg.norm(p.difference, axis=-1).ravel() for p in people])
    value = np.concatenate([v.ravel() for v in values])
    rows = []
    for low, high in itertools.pairwise(edges):
        here = error[(value >= low) & (value < high) & np.isfinite(error)]
        if len(here) < 20:
            continue
        rows.append(
            {
                "from": low,
                "to": high,
                "samples": len(here),
                "median": round(float(np.median(here)), 4),
                "rms": round(float(np.sqrt(np.mean(here**2))), 4),
                "p90": round(float(np.quantile(here, 0.9)), 4),
                "gross_share": round(float(np.mean(here > GROSS)), 4),
            }
        )
    return rows


def swaps(people: list[Person], opinions: list[Opinions]) -> dict[str, Any]:
    """Left and right: how often a swap of some frames shows in time, and how often the two opinions disagree."""
    seconds = sum(float(p.in_view.sum()) / p.fps for p in people)
    result: dict[str, Any] = {
        "person_seconds": round(seconds, 1),
        "brief_swaps_of_a_pair_per_second": round(sum(p.faults["swapped_joints"] for p in people) / 2 / seconds, 4),
        "brief_jumps_of_a_keypoint_per_second": round(sum(p.faults["jumps"] for p in people) / seconds, 4),
        "opinions_disagree": {},
    }
    for left, right in zip(COCO17.left, COCO17.right, strict=True):
        share, lengths = [], []
        for person, opinion in zip(people, opinions, strict=True):
            first, second = opinion.track.keypoints, opinion.second_keypoints
            kept = sum(np.linalg.norm(first[:, j] - second[:, j], axis=-1) for j in (left, right))
            traded = sum(np.linalg.norm(first[:, a] - second[:, b], axis=-1) for a, b in ((left, right), (right, left)))
            sure = (np.minimum(person.scores, person.second_scores)[:, [left, right]] >= SURE).all(axis=1)
            apart = kept + traded > 0.3 * body_scale(first, person.scores, opinion.times_s)
            told = sure & apart & np.isfinite(kept)
            crossed = told & (kept > 2 * traded)
            share.append((int(crossed.sum()), int(told.sum())))
            edges = np.flatnonzero(np.diff(np.concatenate([[0], crossed, [0]])))
            lengths += ((edges[1::2] - edges[::2]) / person.fps).tolist()
        crossed_all, told_all = np.sum(share, axis=0)
        result["opinions_disagree"][COCO17.joints[left][5:]] = {
            "share_of_frames": round(float(crossed_all / max(told_all, 1)), 4),
            "seconds_quantiles_50_95": np.quantile(lengths, (0.5, 0.95)).round(3).tolist() if lengths else None,
        }
    return result


def measure(opinions: list[Opinions], detector: str) -> dict[str, Any]:
    """Everything, ready for JSON."""
    people = [measure_person(one) for one in opinions]
    sure_difference = np.concatenate([p.difference[p.sure].ravel() for p in people])
    scale = robust(sure_difference) or 1.0
    tail = np.abs(sure_difference) / scale
    return {
        "detector": detector,
        "unit": "body sizes, per axis, unless said otherwise",
        "m_per_body_size": M_PER_BODY_SIZE,
        "clips": sorted({one.clip for one in opinions}),
        "people": {p.name: {"frames": int(p.in_view.sum()), "fps": round(p.fps, 3), **p.faults} for p in people},
        "lags_s": [round(lag, 4) for lag in LAGS_S],
        "joints": {name: measure_joint(people, i) for i, name in enumerate(COCO17.joints)},
        "error_by_score": error_by(people, [np.minimum(p.scores, p.second_scores) for p in people], SCORE_EDGES),
        "error_by_speed_body_sizes_per_s": error_by(
            people, [np.where(p.sure, p.speed, np.nan) for p in people], (0, 0.25, 0.5, 1, 2, 4, 8, 16)
        ),
        "error_tail_over_robust_std_quantiles_50_90_99": np.quantile(tail, (0.5, 0.9, 0.99)).round(2).tolist(),
        "swaps": swaps(people, opinions),
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--cache", type=Path, default=Path("runs/opinions"), help="detections are kept here")
    parser.add_argument("--out", type=Path, default=Path("docs/measurements/detector_noise.json"))
    options = parser.parse_args()
    opinions = [one for video in options.videos for one in load_opinions(video, options.detector, options.cache)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(measure(opinions, options.detector), indent=1) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
