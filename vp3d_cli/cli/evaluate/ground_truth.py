"""Evaluation against motion capture, data set, calibrated clip or pose file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vp3d_cli.cli.common import print_warning
from vp3d_cli.cli.evaluate.table import ScoreTable

if TYPE_CHECKING:
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.evaluate.scores import Scores
    from vp3d_cli.paper.evaluation import DatasetProtocol
    from vp3d_cli.paper.published import Published
    from vp3d_cli.pipeline.settings import InferSettings


def on_motion_capture(
    motion: Sequence[Path],
    lifters: Sequence[str],
    hold_out: Sequence[str],
    by: str | None,
    windows: int,
    fps: Sequence[float],
    shots: int,
    settings: InferSettings,
    progress: StageProgress,
) -> ScoreTable:
    """Score lifters on motion capture that none of them was trained on."""
    from vp3d_cli.evaluate.motion_capture import HeldOutMotion, evaluate_shots, evaluate_windows, held_out_clips

    held_out = HeldOutMotion(held_out_clips(motion, lifters, hold_out), windows, by, settings.tta)
    results: ScoreTable = {}
    for lifter in lifters:
        results[lifter] = evaluate_windows(lifter, held_out, progress)
        if fps:
            results[lifter] += evaluate_shots(lifter, held_out, fps, shots, settings, progress)
    return results


def on_dataset(
    protocol: DatasetProtocol, lifters: Sequence[str], device: str, progress: StageProgress, quiet: bool
) -> tuple[ScoreTable, dict[str, Published]]:
    """Score lifters on a data set, and look up published results; notes are printed to stderr."""
    from vp3d_cli.lift.lifter import Lifter
    from vp3d_cli.paper.evaluation import evaluate_dataset
    from vp3d_cli.weights import find_lifter

    results: ScoreTable = {}
    published: dict[str, Published] = {}
    notes: dict[str, None] = {}  # each once, in order
    sources: dict[str, None] = {}
    for name in lifters:
        path, full_name, sha256 = find_lifter(name)
        result = evaluate_dataset(Lifter(path, device, name=full_name, sha256=sha256), protocol, progress)
        results[name] = result.scores
        notes.update(dict.fromkeys(result.notes))
        if result.published is not None:
            published[name] = result.published
            sources[f"(paper): {result.published.source}"] = None
    if not quiet:
        for note in notes:
            print_warning(note)
        for source in sources:
            print(source, file=sys.stderr)
    return results, published


def on_calibrated_clip(
    calibrated: Path,
    cameras: Sequence[str] | None,
    videos: Sequence[Path],
    poses: Sequence[Path],
    lifters: Sequence[str],
    settings: InferSettings,
    progress: StageProgress,
) -> ScoreTable:
    """Score lifters on videos of calibrated cameras, or pose files made from them."""
    from vp3d_cli.evaluate.calibrated import evaluate_calibrated, read_calibrated
    from vp3d_cli.io.poses.npz import read_npz

    if bool(videos) == bool(poses):
        raise typer.BadParameter("--calibrated needs --video or --pose")
    files = [*videos, *poses]
    names = list(cameras) if cameras else [file.stem for file in files]
    if len(names) != len(files):
        raise typer.BadParameter(f"{len(names)} cameras for {len(files)} files", param_hint="--camera")
    views = [read_calibrated(calibrated, name) for name in names]
    if poses:
        scores = [evaluate_calibrated(read_npz(file), view) for file, view in zip(poses, views, strict=True)]
        return {"pose files" if len(poses) > 1 else str(poses[0]): with_mean(scores)}
    from vp3d_cli.evaluate.video import evaluate_video

    per_video = [
        evaluate_video(file, view, lifters, settings, progress) for file, view in zip(videos, views, strict=True)
    ]
    return {lifter: with_mean([scores[i] for scores in per_video]) for i, lifter in enumerate(lifters)}


def on_pose_file(truth: Path, poses: Sequence[Path]) -> ScoreTable:
    """Score pose files against another pose file."""
    from vp3d_cli.evaluate.pose_files import evaluate_pair
    from vp3d_cli.io.poses.npz import read_npz

    if not poses:
        raise typer.BadParameter("--truth needs --pose, the file to evaluate")
    truth_pose = read_npz(truth)
    return {str(pose): with_mean(evaluate_pair(read_npz(pose), truth_pose)) for pose in poses}


def with_mean(scores: Sequence[Scores]) -> list[Scores]:
    """Append the mean to the scores of several cases."""
    from vp3d_cli.evaluate.scores import mean_scores

    return [*scores, mean_scores("mean", scores)] if len(scores) > 1 else list(scores)
