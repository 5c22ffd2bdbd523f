"""Comparison of gap interpolation methods, and false alarms of outlier rejection (vp3d_cli.preprocess).

    python benchmarks/gap_filling.py --mocap mocap.npz

Keypoints of projected motion capture with detector jitter are removed for some time, and the interpolated ones are
compared with the truth. Errors are root mean squares in percent of the body size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator, CubicSpline, PchipInterpolator
from simulated_truth import Truth, load_truth

from vp3d_cli.preprocess import fill_gaps
from vp3d_cli.preprocess.outliers import correct_outliers
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D

Array = NDArray[np.float64]
PIXELS = 100.0  # per body size
JITTER = 0.008  # body sizes, white: docs/measurements/detector_noise.md
FPS = 30.0
GAPS_S = (1 / 30, 0.1, 0.2, 0.4, 0.8)
HIDDEN = {
    "wrist or ankle": [("left_wrist",), ("right_wrist",), ("left_ankle",), ("right_ankle",)],
    "forearm or shank": [("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
                         ("left_knee", "left_ankle"), ("right_knee", "right_ankle")],
    "elbow or knee": [("left_elbow",), ("right_elbow",), ("left_knee",), ("right_knee",)],
    "shoulder or hip": [("left_shoulder",), ("right_shoulder",), ("left_hip",), ("right_hip",)],
    "nose, eye or ear": [("nose",), ("left_eye",), ("right_ear",)],
}  # fmt: skip
CURVES: dict[str, Callable[[Array, Array], Callable[[Array], Array]]] = {
    "line": lambda t, x: lambda new: np.stack([np.interp(new, t, x[:, i]) for i in (0, 1)], axis=1),
    "PCHIP": lambda t, x: PchipInterpolator(t, x),
    "Akima": lambda t, x: Akima1DInterpolator(t, x),
    "cubic spline": lambda t, x: CubicSpline(t, x),
}


def as_track(places: Array, scores: Array) -> Track2D:
    """Places in body sizes as a track; the person is in view throughout."""
    seen = np.isfinite(places).all(axis=-1)
    boxes = np.zeros((len(places), 4), np.float32)
    return Track2D(1, (places * PIXELS).astype(np.float32), np.where(seen, scores, 0).astype(np.float32), boxes, seen)


def gap_errors(clips: list[Truth], joints: list[tuple[str, ...]], gap_s: float, repeats: int) -> dict[str, float]:
    """Error of the outermost hidden joint, by method; each clip has as many gaps as fit with 13 frames in between."""
    rng = np.random.default_rng(5)
    length = max(1, round(gap_s * FPS))
    square: dict[str, list[Array]] = {}
    for clip in clips * repeats:
        noisy = clip.places + rng.normal(0, JITTER, clip.places.shape)
        gaps = []
        for start in range(13 + int(rng.integers(13)), len(clip.times_s) - length - 13, length + 13):
            names = joints[rng.integers(len(joints))]
            noisy[start : start + length, [COCO17.index(name) for name in names]] = np.nan
            gaps.append((slice(start, start + length), COCO17.index(names[-1])))
        if not gaps:
            continue
        filled = fill_gaps(as_track(noisy, np.full(noisy.shape[:2], 0.8)), clip.times_s).keypoints / PIXELS
        for gap, joint in gaps:
            around = np.arange(gap.start - 13, gap.stop + 13)
            around = around[np.isfinite(noisy[around, joint, 0])]
            times, known = clip.times_s[around], noisy[around, joint]
            answers = {name: curve(times, known)(clip.times_s[gap]) for name, curve in CURVES.items()}
            answers["vp3d"] = filled[gap, joint]
            for name, answer in answers.items():
                square.setdefault(name, []).append(((answer - clip.places[gap, joint]) ** 2).sum(axis=-1))
    return {name: 100 * float(np.sqrt(np.concatenate(values).mean())) for name, values in square.items()}


def repair_figures(clips: list[Truth], jitter: float) -> dict[str, float]:
    """False alarms on what has no faults, and which share of made faults of one frame is found."""
    rng = np.random.default_rng(3)
    figures = dict.fromkeys(
        ("keypoints", "false jumps", "false swaps", "jumps", "found jumps", "swaps", "found swaps"), 0
    )
    for clip in clips:
        frames = len(clip.times_s)
        places = clip.places + rng.normal(0, jitter, clip.places.shape)
        scores, size = np.full(places.shape[:2], 0.75), np.ones(frames)
        clean = correct_outliers(places, scores, clip.times_s, size, COCO17)
        figures["keypoints"] += places.shape[0] * 17
        figures["false jumps"] += int(clean.jumps.sum())
        figures["false swaps"] += int(clean.swapped.sum())
        for frame in rng.choice(np.arange(3, frames - 4), max(1, frames // 40), replace=False):
            broken, joint = places.copy(), int(rng.integers(17))
            angle = rng.uniform(0, 2 * np.pi)
            broken[frame, joint] += rng.uniform(0.5, 1.5) * np.array([np.cos(angle), np.sin(angle)])
            figures["jumps"] += 1
            corrected = correct_outliers(broken, scores, clip.times_s, size, COCO17)
            figures["found jumps"] += int(corrected.jumps[frame, joint])
            pair = [(15, 16), (13, 14), (9, 10), (5, 6)][rng.integers(4)]
            if np.linalg.norm(places[frame, pair[0]] - places[frame, pair[1]]) < 0.3:
                continue
            broken = places.copy()
            broken[frame, pair] = broken[frame, pair[::-1]]
            figures["swaps"] += 1
            corrected = correct_outliers(broken, scores, clip.times_s, size, COCO17)
            figures["found swaps"] += int(corrected.swapped[frame, pair[0]])
    return figures


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    clips = load_truth(options.mocap, FPS)
    methods = [*CURVES, "vp3d"]
    print("| hidden | seconds | " + " | ".join(methods) + " |\n|---|---|" + "---|" * len(methods))
    for name, joints in HIDDEN.items():
        for gap_s in GAPS_S:
            errors = gap_errors(clips, joints, gap_s, options.repeats)
            print(f"| {name} | {gap_s:.2f} | " + " | ".join(f"{errors[m]:.1f}" for m in methods) + " |", flush=True)
    print("\n| frames per second | keypoints | false jumps | false swaps | jumps found | swaps found |")
    print("|---|---|---|---|---|---|")
    for fps in (10.0, 24.0, 30.0, 60.0):
        f = repair_figures(load_truth(options.mocap, fps, seed=4), JITTER)
        print(
            f"| {fps:g} | {f['keypoints']} | {f['false jumps']} | {f['false swaps']} "
            f"| {f['found jumps'] / f['jumps']:.0%} | {f['found swaps'] / f['swaps']:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
