"""Comparison of smoothing methods for keypoints (vp3d_cli.preprocess.smooth, docs/smoothing.md).

    python benchmarks/smoothing.py --mocap mocap.npz VIDEO... [--plot docs/images/smoothing.png]

On simulated data the error is known. On real video, the smoothed keypoints of one detection pass are compared with the
other pass (clip_detections.py): the squared error plus the noise of the other pass, which is the same for all methods.
Every method runs at several strengths, since each trades jitter at rest for errors in fast motion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from clip_detections import load_opinions
from numpy.typing import NDArray
from scipy import ndimage, signal
from simulated_truth import disturb, load_truth

from vp3d_cli.preprocess import body_scale, smooth
from vp3d_cli.preprocess.smoothing_spline import fit_spline
from vp3d_cli.types import Track2D

mpl.use("Agg")
import matplotlib.pyplot as plt

Array = NDArray[np.float64]
Method = Callable[[Array, Array, Array, float], Array]  # places (T, 17, 2), scores (T, 17), times (T,), setting
STILL = 0.2  # body sizes per second


@dataclass(frozen=True)
class Case:
    """Places to smooth, and what the result is compared with."""

    places: Array
    scores: Array
    times_s: Array
    reference: Array
    speed: Array
    counts: NDArray[np.bool_]


def gaussian(places: Array, scores: Array, times: Array, cutoff: float) -> Array:
    """Half the amplitude at the cutoff, as for the others."""
    sigma_s = np.sqrt(2 * np.log(2)) / (2 * np.pi * cutoff)
    return np.asarray(ndimage.gaussian_filter1d(places, sigma_s / np.median(np.diff(times)), axis=0, mode="nearest"))


def savitzky_golay(places: Array, scores: Array, times: Array, cutoff: float) -> Array:
    """Second degree; a window of 1.28 periods leaves half the amplitude."""
    window = round(1.28 / np.median(np.diff(times)) / cutoff / 2 - 0.5) * 2 + 1
    window = min(max(window, 5), (len(places) - 1) // 2 * 2 + 1)
    return np.asarray(signal.savgol_filter(places, window, 2, axis=0))


def butterworth(places: Array, scores: Array, times: Array, cutoff: float) -> Array:
    """Second order, forward and backward: each pass leaves 0.707 of the amplitude at the cutoff."""
    nyquist = 0.5 / np.median(np.diff(times))
    if cutoff > 0.95 * nyquist:
        return places
    sections = signal.butter(2, min(cutoff, 0.95 * nyquist) / nyquist, output="sos")
    return np.asarray(signal.sosfiltfilt(sections, places, axis=0, padlen=min(15, len(places) - 1)))


def one_euro(places: Array, scores: Array, times: Array, cutoff: float, beta: float = 2.0) -> Array:
    """Casiez et al. 2012, as published: runs forward, lags."""
    result, speed = places.copy(), np.zeros_like(places[0])
    steps = np.diff(times)
    for t in range(1, len(places)):
        keep = 1 / (1 + 1 / (2 * np.pi * 1.0 * steps[t - 1]))
        speed = speed + keep * ((places[t] - places[t - 1]) / steps[t - 1] - speed)
        share = 1 / (1 + 1 / (2 * np.pi * (cutoff + beta * np.abs(speed)) * steps[t - 1]))
        result[t] = result[t - 1] + share * (places[t] - result[t - 1])
    return result


def one_euro_both(places: Array, scores: Array, times: Array, cutoff: float) -> Array:
    """Forward, then backward."""
    forward = one_euro(places, scores, times, cutoff)
    return one_euro(forward[::-1], scores[::-1], times[-1] - times[::-1], cutoff)[::-1]


def whittaker(places: Array, scores: Array, times: Array, cutoff: float) -> Array:
    """The spline of this project with one cutoff for all, weighted by confidence."""
    frames, joints = places.shape[:2]
    weights = np.clip(scores / np.median(scores), 0.14, 1).T.ravel() ** 2
    flat = places.transpose(1, 0, 2).reshape(frames * joints, 2)
    series = np.repeat(np.arange(joints, dtype=np.float64), frames)
    fitted = fit_spline(flat, np.tile(times, joints), weights, series, cutoff)
    return fitted.reshape(joints, frames, 2).transpose(1, 0, 2)


def vp3d(places: Array, scores: Array, times: Array, strength: float) -> Array:
    """What this project does."""
    boxes = np.zeros((len(places), 4), np.float32)
    scaled = (places * 1000).astype(np.float32)  # to numbers like pixels
    track = Track2D(1, scaled, scores.astype(np.float32), boxes, np.ones(scores.shape, np.bool_))
    return smooth(track, times, strength).keypoints.astype(np.float64) / 1000


METHODS: dict[str, tuple[Method, tuple[float, ...], float]] = {
    # name: function, settings to try, the one in the table
    "Gaussian": (gaussian, (2, 3, 4, 5, 7, 10), 5),
    "Savitzky-Golay": (savitzky_golay, (2, 3, 4, 5, 7, 10), 5),
    "Butterworth, both ways": (butterworth, (2, 3, 4, 5, 7, 10), 5),
    "One-Euro, as published": (one_euro, (0.5, 1, 1.5, 3, 6), 1.5),
    "One-Euro, both ways": (one_euro_both, (0.5, 1, 1.5, 3, 6), 1.5),
    "spline, fixed cutoff": (whittaker, (2, 3, 4, 5, 7, 10), 5),
    "vp3d: spline, cutoff by speed": (vp3d, (0.25, 0.5, 0.75, 1, 1.5, 2, 3), 1),
}


def simulated_cases(archive: Path, noise: Path, fps: float) -> list[Case]:
    """Motion capture with a detector's noise."""
    rng = np.random.default_rng(1)
    table = json.loads(noise.read_text())
    cases = []
    for truth in load_truth(archive, fps):
        places, scores = disturb(truth, table, rng)
        speed = np.linalg.norm(np.gradient(truth.places, truth.times_s, axis=0), axis=-1)
        counts = np.ones(scores.shape, np.bool_)
        cases.append(Case(places, scores, truth.times_s, truth.places, speed, counts))
    return cases


def real_cases(videos: list[Path], detector: str, cache: Path) -> list[Case]:
    """Runs of frames that both opinions saw, in body sizes."""
    cases = []
    for video in videos:
        for one in load_opinions(video, detector, cache):
            first, second = one.track.keypoints.astype(np.float64), one.second_keypoints
            scale = body_scale(first, one.track.scores, one.times_s)[:, None, None]
            frames = np.flatnonzero(np.isfinite(first).all(axis=(1, 2)) & np.isfinite(second).all(axis=(1, 2)))
            for run in np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1):
                if len(run) < 25:
                    continue
                times, scores = one.times_s[run], one.track.scores[run].astype(np.float64)
                a, b = first[run] / scale[run].mean(), second[run] / scale[run].mean()
                middle = butterworth((a + b) / 2, scores, times, 6.0)
                speed = np.linalg.norm(np.gradient(middle, times, axis=0), axis=-1)
                sure = (np.minimum(scores, one.second_scores[run]) > 0.3) & (np.linalg.norm(a - b, axis=-1) < 0.3)
                cases.append(Case(a, scores, times, b, speed, sure))
    return cases


def judge(cases: list[Case], results: list[Array]) -> dict[str, float]:
    """Errors in percent of the body size, jitter in body sizes per s^2, lag in ms."""
    square = np.concatenate([((r - c.reference) ** 2).sum(-1)[c.counts] for c, r in zip(cases, results, strict=True)])
    speed = np.concatenate([c.speed[c.counts] for c in cases])
    jitter, moved, followed = [], 0.0, 0.0
    for case, result in zip(cases, results, strict=True):
        step = float(np.median(np.diff(case.times_s)))
        acceleration = np.linalg.norm(np.diff(result, 2, axis=0), axis=-1) / step**2
        still = ndimage.maximum_filter1d(case.speed, 5, axis=0)[1:-1] < STILL
        jitter.append(acceleration[still & case.counts[1:-1]])
        velocity = np.gradient(case.reference, case.times_s, axis=0)
        fast = (case.speed > np.quantile(speed, 0.95)) & case.counts
        moved += float((velocity[fast] ** 2).sum())
        followed -= float((velocity[fast] * (result - case.reference)[fast]).sum())

    def rms(mask: NDArray[np.bool_]) -> float:
        return 100 * float(np.sqrt(square[mask].mean()))

    return {
        "all": rms(speed >= 0),
        "slower half": rms(speed < np.median(speed)),
        "fastest 5 %": rms(speed > np.quantile(speed, 0.95)),
        "fastest 0.5 %": rms(speed > np.quantile(speed, 0.995)),
        "jitter": float(np.sqrt((np.concatenate(jitter) ** 2).mean())),
        "lag ms": 1000 * followed / moved,
    }


def compare(name: str, cases: list[Case]) -> dict[str, dict[float, dict[str, float]]]:
    """All methods at all settings; prints a Markdown table of the usual ones."""
    raw = judge(cases, [case.places for case in cases])
    frames = sum(len(case.times_s) for case in cases)
    print(f"\n### {name}: {len(cases)} clips, {frames} frames\n")
    print("| method | setting | " + " | ".join(raw) + " |\n|---|---|" + "---|" * len(raw))
    print("| none | | " + " | ".join(f"{value:.2f}" for value in raw.values()) + " |")
    table: dict[str, dict[float, dict[str, float]]] = {"none": {0.0: raw}}
    for method, (function, settings, usual) in METHODS.items():
        table[method] = {}
        for setting in settings:
            results = [function(case.places, case.scores, case.times_s, setting) for case in cases]
            figures = judge(cases, results)
            table[method][setting] = figures
            if setting == usual or function is vp3d:
                print(f"| {method} | {setting} | " + " | ".join(f"{value:.2f}" for value in figures.values()) + " |")
    return table


def plot(tables: dict[str, dict[str, dict[float, dict[str, float]]]], target: Path) -> None:
    """Jitter at rest against error in fast motion; down and left is better."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4.8 * len(tables), 5.0), squeeze=False)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        for method, points in table.items():
            x = [figures["jitter"] for figures in points.values()]
            y = [figures["fastest 5 %"] for figures in points.values()]
            own = method.startswith("vp3d")
            style = {"color": "black", "linewidth": 2.4} if own else {"linewidth": 1.2}
            axis.plot(x, y, "*" if method == "none" else "o-", markersize=12 if method == "none" else 4, **style,
                      label=method)  # fmt: skip
            if own:
                axis.plot(points[1]["jitter"], points[1]["fastest 5 %"], "ko", markersize=9)
        axis.set(xscale="log", yscale="log", title=title, xlabel="jitter at rest, body sizes / s²")
        axis.grid(alpha=0.3, which="both")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    axes[0, 0].set_ylabel("error in the fastest 5 % of motion, % of body size")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)


def main() -> None:
    """Parse, compare, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--mocap", type=Path, help="archive of (frames, 22, 3) motions, see simulated_truth.py")
    parser.add_argument("--noise", type=Path, default=Path("docs/measurements/detector_noise.json"))
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--cache", type=Path, default=Path("runs/opinions"))
    parser.add_argument("--plot", type=Path, default=Path("docs/images/smoothing.png"))
    options = parser.parse_args()
    tables = {}
    if options.mocap:
        for fps in (30.0, 60.0):
            title = f"simulated, {fps:g} frames per second"
            tables[title] = compare(title, simulated_cases(options.mocap, options.noise, fps))
    if options.videos:
        cases = real_cases(options.videos, options.detector, options.cache)
        tables["real video, against a second opinion"] = compare("real video, against a second opinion", cases)
    if tables:
        plot(tables, options.plot)


if __name__ == "__main__":
    main()
