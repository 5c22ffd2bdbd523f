"""``vp3d doctor`` and ``vp3d bench``: what this machine has, and how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import AsJson, Quiet, format_table, one_line
from vp3d_cli.cli.preflight import check_models

if TYPE_CHECKING:
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.pipeline.settings import InferSettings


def doctor(as_json: AsJson = False) -> None:
    """Check the installation.

    Versions, devices, ffmpeg and weights; exit status 1 where something needed is missing.

    \b
    vp3d doctor
    """
    from vp3d_cli.cli.environment import examine

    checks = examine()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        rows = [("status", "what", "found")]
        print(format_table(rows + [(c.status, c.name, one_line(c.detail)) for c in checks]))
    if any(check.status == "FAIL" for check in checks):
        raise typer.Exit(1)


def bench(
    video: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO]", help="A video with people.  [default: the example]")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Measure vp3d batch on a folder (VIDEO), by jobs and threads.")
    ] = False,
    lifter_only: Annotated[
        bool, typer.Option("--lifter-network", help="Measure the lifter's network beside a matrix product.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="Use so many frames from its beginning.")] = 300,
    repeats: Annotated[int, typer.Option(min=1, help="Run each stage so often; medians count.")] = 3,
    detector: Annotated[str, typer.Option(help="See: vp3d detectors.")] = "movenet",
    lifter: Annotated[
        str, typer.Option(help="See: vp3d weights list; or random:243:1024 with --lifter-network.")
    ] = "default",
    max_people: Annotated[int | None, typer.Option(min=1, help="Keep the main people only.")] = None,
    device: options.Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure frames per second.

    Of each stage by itself, and from file to pose.

    \b
    vp3d bench
    vp3d bench video.mp4 --repeats 5 --json
    vp3d bench --batch clips/
    vp3d bench --lifter-network --lifter random:243:1024
    """
    if batch and lifter_only:
        raise typer.BadParameter("give --batch or --lifter-network, not both", param_hint="--batch")
    if lifter_only:
        _bench_network(lifter, repeats, as_json)
        return
    settings = options.make_settings(detector=detector, lifter=lifter, max_people=max_people, device=device)
    check_models(settings)
    from vp3d_cli.cli.progress import StageProgress

    if batch:
        with StageProgress(quiet, unit="rounds") as progress:
            _bench_batch(video, settings, frames, repeats, progress, as_json)
        return
    from vp3d_cli.cli import benchmark as stopwatch

    clip = video or stopwatch.example_clip()
    with StageProgress(quiet, unit="rounds") as progress:
        result = stopwatch.bench(clip, settings, max_frames=frames, repeats=repeats, report=progress)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
        return
    width, height = result.size_wh
    print(f"{result.video}: {result.frames} frames of {width}x{height}, {result.people} people, median of {repeats}")
    rows = [("stage", "frames/s", "ms/frame", "CPU ms/frame")]
    for row in result.stages:
        cpu_ms = f"{1000 * row.cpu_seconds / result.frames:.2f}"
        rows.append((row.stage, f"{row.frames_per_second:.1f}", f"{1000 / row.frames_per_second:.2f}", cpu_ms))
    print(format_table(rows, right=(1, 2, 3)))
    print(
        f"end to end / detect: {result.ratio_to_detector:.3f}; by CPU time, as if nothing overlapped: "
        f"{result.cpu_ratio_to_detector:.3f} (loading the models takes {result.loading_seconds:.2f} s)"
    )


def _bench_batch(
    folder: Path | None, settings: InferSettings, frames: int, repeats: int, report: StageProgress, as_json: bool
) -> None:
    """Measure a folder, and print a line for each way to do it."""
    from vp3d_cli.cli.benchmark import bench_batch

    result = bench_batch(folder, settings, max_frames=frames, repeats=repeats, report=report)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
        return
    print(f"{result.videos} videos, {result.frames} frames, {result.cores} cores, median of {result.repeats}")
    rows = [("way", "jobs", "threads", "seconds", "frames/s", "times infer in turn")]
    for row in result.ways:
        speeds = f"{row.seconds:.1f}", f"{row.frames_per_second:.1f}", f"{row.times_in_turn:.2f}"
        rows.append((row.way, str(row.jobs), str(row.threads), *speeds))
    print(format_table(rows, right=(1, 2, 3, 4, 5)))


def _bench_network(name: str, repeats: int, as_json: bool) -> None:
    """Measure a lifter's network, and print what it does beside others."""
    from vp3d_cli.cli.benchmark.lifter import bench_lifter

    result = bench_lifter(name, repeats=repeats)
    if as_json:
        print(json.dumps({**asdict(result), "share_of_product": result.share_of_product}, indent=2))
        return
    print(
        f"{result.name}: {result.receptive_field} frames, {result.channels} channels, {result.multiply_adds / 1e6:.2f} "
        f"million multiply-adds a frame; {result.runtime}, {result.threads} threads, median of {repeats}"
    )
    rows = [
        ("what", "figure"),
        ("plain matrix product, float32", f"{result.product_rate / 1e9:.1f} G multiply-adds/s per core"),
        ("the network", f"{result.rate / 1e9:.1f} G multiply-adds/s per core, {result.frames_per_second:.0f} frames/s"),
        ("of the matrix product's rate", f"{result.share_of_product:.3f}"),
        ("faster than Conv1d + batch norm, a window per frame", f"{result.times_windows:.1f} times"),
        ("faster than dilated Conv1d + batch norm", f"{result.times_dilated:.2f} times"),
        ("largest difference to that", f"{result.difference_m * 1e3:.4f} mm"),
    ]
    print(format_table(rows, right=()))
