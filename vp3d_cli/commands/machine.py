"""``vp3d doctor`` and ``vp3d bench``: what this machine has, and how fast it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.commands.common import AsJson, Quiet, format_table, one_line


def doctor(as_json: AsJson = False) -> None:
    """Check versions, devices, ffmpeg and weights; exit status 1 where something needed is missing.

    \b
    vp3d doctor
    """
    from vp3d_cli.doctor import examine

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
    frames: Annotated[int, typer.Option(min=1, help="Use so many frames from its beginning.")] = 300,
    repeats: Annotated[int, typer.Option(min=1, help="Run each stage so often; medians count.")] = 3,
    detector: Annotated[str, typer.Option(help="See: vp3d detectors.")] = "movenet",
    lifter: Annotated[str, typer.Option(help="See: vp3d weights list.")] = "default",
    max_people: Annotated[int | None, typer.Option(min=1, help="Keep the main people only.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure the frames per second of each stage by itself, and from file to pose.

    \b
    vp3d bench
    vp3d bench video.mp4 --repeats 5 --json
    """
    from vp3d_cli import bench as stopwatch
    from vp3d_cli.pipeline import InferSettings
    from vp3d_cli.progress import StageProgress

    settings = InferSettings(detector=detector, lifter=lifter, max_people=max_people, device=device)
    clip = video or stopwatch.example_clip()
    with StageProgress(quiet, unit="rounds") as progress:
        result = stopwatch.bench(clip, settings, max_frames=frames, repeats=repeats, report=progress)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
        return
    width, height = result.size_wh
    print(f"{result.video}: {result.frames} frames of {width}x{height}, {result.people} people, median of {repeats}")
    rows = [("stage", "frames/s", "ms/frame")]
    for row in result.stages:
        rows.append((row.stage, f"{row.frames_per_second:.1f}", f"{1000 / row.frames_per_second:.2f}"))
    print(format_table(rows, right=(1, 2)))
    print(
        f"end to end / detect: {result.ratio_to_detector:.3f} (loading the models takes {result.loading_seconds:.2f} s)"
    )
