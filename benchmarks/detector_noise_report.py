"""Page and plot of the detector errors that detector_noise.py measured.

python benchmarks/detector_noise_report.py [docs/measurements/detector_noise.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from vp3d_cli.skeletons import COCO17
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings

INTRODUCTION = """# Measurements: errors of the MoveNet detector

Errors of MoveNet's keypoints on real video, joint by joint: the noise of the training data is modelled on these
figures, and so are the weights of the smoother. Made by `benchmarks/detector_noise.py` and
`benchmarks/detector_noise_report.py`; all figures are in [detector_noise.json](detector_noise.json).

The true keypoints of these clips are unknown, so two measures do without them:

- **Jitter** is the residual of a smooth curve (5 Hz) where a joint is slow, in clips of at least 24 frames per second.
- **Error** is the difference between two detections divided by sqrt 2: of the video, and of the mirrored and 7 %
  enlarged video. Its autocorrelation splits it into a *white* part (independent in each frame), a *slow* part with a
  time constant, and a constant *bias*. Errors that both detections share are not visible, so these are lower bounds,
  above all for the bias.

Both are standard deviations for each axis, in percent of the **body scale**: the root-mean-square distance of the
keypoints from their mean, weighted by confidence (`vp3d_cli.preprocess.body_scale`). An adult of 1.7 m seen whole has
one of about 0.50 m, so 1 % is 5 mm; one seen from the hips up, about 0.33 m. Keypoints whose two detections have a
confidence of 0.3 at least and agree within 0.15 body scales count; the others are in the second table.
"""
COLUMNS = (
    "jitter", "error", "white", "slow", "time constant", "bias", "error after preprocessing",
    "confidence: median", "5 % to 95 %", "below 0.3, times a minute",
)  # fmt: skip


def percent(value: float | None) -> str:
    """For a table."""
    return "–" if value is None else f"{100 * value:.1f}"


def joint_table(noise: dict[str, Any]) -> str:
    """One line for each joint."""
    lines = ["| joint | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, joint in noise["joints"].items():
        low, _, median, _, high = joint["score_quantiles_5_25_50_75_95"]
        often = joint["low_confidence"]["0.3"]["per_second"]
        lines.append(
            f"| {name.replace('_', ' ')} | {percent(joint['jitter_robust'])} | {percent(joint['error_rms'])} "
            f"| {percent(joint['white'])} | {percent(joint['slow'])} | {joint['slow_tau_s']:.2f} s "
            f"| {percent(joint['bias'])} | {percent(joint['conditioned']['error_rms'])} "
            f"| {median:.2f} | {low:.2f} to {high:.2f} | {'–' if often is None else round(60 * often)} |"
        )
    return "\n".join(lines)


def bin_table(title: str, rows: list[dict[str, Any]], *, gross: bool) -> str:
    """Error of single keypoints in bins; ``gross`` adds the share of those in gross error altogether."""
    columns = [title, "keypoints", "median", "root mean square", "90 % below", *(["gross error"] if gross else [])]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [
            f"{row['from']} to {row['to']}",
            str(row["samples"]),
            *(percent(row[k]) for k in ("median", "rms", "p90")),
        ]
        lines.append("| " + " | ".join([*cells, *([f"{row['gross_share']:.1%}"] if gross else [])]) + " |")
    return "\n".join(lines)


def simulated_joints(m_per_body_size: float, windows: int = 2000) -> dict[str, dict[str, float]]:
    """What the noise of the training data is like by the same measures; errors in body sizes, each axis.

    Of windows of three seconds at 30 Hz, in which nobody comes near the border of the image.
    """
    frames, px_per_m, far = 90, 100.0, 5000.0
    noise = DetectorNoise(NoiseSettings(), frames, 30.0, torch.device("cpu"))
    truth = torch.full((windows, frames, 17, 2), far)
    seen, scores = noise(
        truth,
        torch.full((windows,), px_per_m),
        torch.full((windows, 2), 2 * far),
        torch.Generator().manual_seed(0),
    )
    error = (seen - truth) / px_per_m / m_per_body_size
    bias = error.mean(1, keepdim=True)
    joints = {}
    for j, name in enumerate(COCO17.joints):
        sure = scores[..., j] >= 0.3
        low, median, high = np.quantile(scores[..., j].numpy(), (0.05, 0.5, 0.95))
        joints[name] = {
            "moving": float((error - bias)[..., j, :][sure].abs().median()) / 0.6745,
            "bias": float(bias[:, 0, j].abs().median()) / 0.6745,
            "low": float(low),
            "median": float(median),
            "high": float(high),
            "unsure": float((~sure).float().mean()),
        }
    return joints


def simulated_table(noise: dict[str, Any]) -> str:
    """Measured beside simulated, one line for each joint."""
    columns = (
        "joint", "moving: measured", "simulated", "bias: measured", "simulated", "confidence: measured", "simulated",
        "below 0.3: measured", "simulated",
    )  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    made = simulated_joints(noise["m_per_body_size"])
    for name, joint in noise["joints"].items():
        parts, ours = joint["conditioned"], made[name]
        low, _, median, _, high = joint["score_quantiles_5_25_50_75_95"]
        lines.append(
            f"| {name.replace('_', ' ')} | {percent(float(np.hypot(parts['white'], parts['slow'])))} "
            f"| {percent(ours['moving'])} | {percent(parts['bias'])} | {percent(ours['bias'])} "
            f"| {median:.2f} ({low:.2f} to {high:.2f}) "
            f"| {ours['median']:.2f} ({ours['low']:.2f} to {ours['high']:.2f}) "
            f"| {joint['low_confidence']['0.3']['share_of_time']:.0%} | {ours['unsure']:.0%} |"
        )
    return "\n".join(lines)


def page(noise: dict[str, Any]) -> str:
    """The whole page."""
    swaps = noise["swaps"]
    disagree = ", ".join(f"{part} {v['share_of_frames']:.1%}" for part, v in swaps["opinions_disagree"].items())
    tail = noise["error_tail_over_robust_std_quantiles_50_90_99"]
    people = ", ".join(f"{name} ({p['frames']} frames)" for name, p in noise["people"].items())
    return f"""{INTRODUCTION}
Clips: {people}.

## Joint by joint

{joint_table(noise)}

"After preprocessing": both detections with gaps filled and smoothed at strength 1, clips of at least 24 frames per
second. Half of the errors lie within {tail[0]}, 90 % within {tail[1]}, 99 % within {tail[2]} robust standard deviations
(a Gaussian: 0.67, 1.64, 2.58): the distribution has heavy tails.

![Jitter, error by confidence, autocorrelation](../images/detector_noise.png)

## Error and confidence

Distance between the detections over sqrt 2, in percent of the body scale, by the lower of the two confidences. "Gross
error" is beyond 15 %.

{bin_table("confidence", noise["error_by_score"], gross=True)}

## Error and speed

As above, for keypoints that are confident in both detections.

{bin_table("body scales per second", noise["error_by_speed_body_sizes_per_s"], gross=False)}

## Left and right

In {swaps["person_seconds"]} seconds of people: {60 * swaps["brief_swaps_of_a_pair_per_second"]:.1f} brief swaps of a
pair a minute (a frame of one pair counts as one) and {60 * swaps["brief_jumps_of_a_keypoint_per_second"]:.1f} brief
jumps of a keypoint, as found by outlier correction in `fill_gaps`. Share of frames in which the detections swap
left and right: {disagree}.

## Comparison with the noise of the training data

The noise of `vp3d_cli/train/synthesis/noise.py` with the same measures: errors in percent of the body scale per axis,
measured after preprocessing, as a lifter sees them; median and 5 % to 95 % range of confidences. The simulated moving
error is 1.1 to 1.6 times the measured one on purpose: the two detections share errors that this measurement cannot
see, and other detectors are less accurate. The bias is set by hand, because nearly all of it is shared (annotators
place a hip elsewhere than motion capture does). Wrists are out of view in half of the clips, which lowers their
measured confidence.

{simulated_table(noise)}
"""


def plot(noise: dict[str, Any], target: Path) -> None:
    """Parts of the error, error by confidence, autocorrelation."""
    figure, (parts, confidence, correlation) = plt.subplots(1, 3, figsize=(14.5, 4.4))
    names = list(noise["joints"])
    for shift, key in enumerate(("jitter_robust", "white", "slow", "bias")):
        values = [100 * (noise["joints"][name][key] or 0.0) for name in names]
        parts.bar([i + 0.2 * shift for i in range(len(names))], values, 0.2, label=key.replace("_robust", ""))
    parts.set_xticks(
        [i + 0.3 for i in range(len(names))], [n.replace("_", " ") for n in names], rotation=90, fontsize=8
    )
    parts.set(ylabel="% of body scale, each axis", title="parts of the error")
    parts.legend(fontsize=8)
    rows = noise["error_by_score"]
    middle = [(row["from"] + row["to"]) / 2 for row in rows]
    for key, label in (("median", "median"), ("rms", "root mean square"), ("p90", "90 % below")):
        confidence.semilogy(middle, [100 * row[key] for row in rows], "o-", label=label)
    confidence.set(xlabel="confidence", ylabel="% of body scale", title="error of a keypoint by its confidence")
    confidence.grid(alpha=0.3, which="both")
    confidence.legend(fontsize=8)
    for name in ("nose", "left_shoulder", "left_wrist", "left_hip", "left_ankle"):
        pairs = zip(noise["lags_s"], noise["joints"][name]["autocorrelation"], strict=True)
        known = [(lag, value) for lag, value in pairs if value is not None]
        correlation.plot(*zip(*known, strict=True), "o-", markersize=3, label=name.replace("_", " "))
    correlation.set(xlabel="seconds apart", title="autocorrelation of the error", ylim=(-0.1, 1.02))
    correlation.grid(alpha=0.3)
    correlation.legend(fontsize=8)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=100)


def main() -> None:
    """Read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noise", nargs="?", type=Path, default=Path("docs/measurements/detector_noise.json"))
    options = parser.parse_args()
    noise = json.loads(options.noise.read_text())
    options.noise.with_suffix(".md").write_text(page(noise))
    plot(noise, options.noise.parent.parent / "images" / "detector_noise.png")


if __name__ == "__main__":
    main()
