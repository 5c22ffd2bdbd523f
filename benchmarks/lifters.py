"""Accuracy, size and speed of lifters: the table of the model card.

python benchmarks/lifters.py --motion mocap.npz --calibrated beam_gt.npz --video cam01.mp4 pose-27 pose-243 open-27
python benchmarks/lifters.py --motion mocap.npz runs/simple/best.safetensors runs/gru/best.safetensors

Errors are those of ``vp3d evaluate --motion`` on windows that all lifters held out and, with ``--calibrated``, those on
a calibrated clip. Speed is that of lifting alone, interleaved and repeated, one thread, no test-time augmentation.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vp3d_cli.cli.evaluate.ground_truth import on_calibrated_clip, on_motion_capture
from vp3d_cli.cli.evaluate.table import summary_of
from vp3d_cli.cli.progress import StageProgress
from vp3d_cli.lift.checkpoint import load_lifter_file
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.lift.temporal import count_parameters
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.weights import find_lifter

_FRAMES = 4096
_REPEATS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lifters", nargs="+", help="names or files of pose lifters")
    parser.add_argument("--motion", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=2048)
    parser.add_argument("--calibrated", type=Path)
    parser.add_argument("--camera", action="append", default=[])
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    settings, progress = InferSettings(), StageProgress(quiet=True)
    held_out = on_motion_capture([given.motion], given.lifters, [], None, given.windows, [], 1, settings, progress)
    real = {}
    if given.calibrated:
        real = on_calibrated_clip(
            given.calibrated, given.camera or None, given.video, [], given.lifters, settings, progress
        )
    speeds = speeds_of(given.lifters)
    rows = []
    for lifter in given.lifters:
        cases = {case.name: case for case in held_out[lifter]}
        row: dict[str, Any] = {"lifter": lifter, **facts(lifter), "frames_per_s": round(speeds[lifter])}
        for case in ("clean", "detected"):
            row[f"{case}_n"], row[f"{case}_p"] = cases[case].n_mpjpe, cases[case].p_mpjpe
        if real:
            mean = summary_of(real[lifter])
            row |= {"real_n": mean.n_mpjpe, "real_p": mean.p_mpjpe, "real_velocity": mean.mpjve}
            row["real_path"] = mean.trajectory_aligned
        rows.append(row)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps({"windows": given.windows, "lifters": rows}, indent=2) + "\n")


def facts(lifter: str) -> dict[str, Any]:
    """Frames that one answer sees, parameters, architecture."""
    model, info = load_lifter_file(find_lifter(lifter)[0])
    config: Any = model.config
    return {
        "architecture": info.architecture,
        "normalization": info.rule.normalization,
        "sees": config.receptive_field,
        "parameters": count_parameters(model),
        "steps": info.training.get("step"),
    }


def speeds_of(lifters: list[str]) -> dict[str, float]:
    """Frames per second of each, the median of several turns."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(200, 800, (_FRAMES, 17, 2)).astype(np.float32)
    scores = np.full((_FRAMES, 17), 0.8, np.float32)
    loaded = {name: Lifter(find_lifter(name)[0], "cpu") for name in lifters}
    seconds: dict[str, list[float]] = {name: [] for name in lifters}
    for _ in range(_REPEATS):
        for name, lifter in loaded.items():
            started = time.perf_counter()
            lifter.lift(keypoints, scores, (1000.0, 1000.0, 500.0, 500.0), (1000, 1000), flip_test=False)
            seconds[name].append(time.perf_counter() - started)
    return {name: _FRAMES / statistics.median(values) for name, values in seconds.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
