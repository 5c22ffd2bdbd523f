"""``vp3d infer``: videos in, pose files and side-by-side videos out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.commands.common import Overwrite, Quiet, print_error, print_warning
from vp3d_cli.commands.outputs import Job, plan_jobs
from vp3d_cli.errors import ConfigError, Vp3dError

if TYPE_CHECKING:
    from vp3d_cli.pipeline import InferSettings


def parse_seconds(option: str, text: str) -> float:
    """Seconds out of ``12.5``, ``1:23.5`` or ``1:02:03``."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= part < float("inf") for part in parts):
        raise typer.BadParameter(f"{text!r} is no time; write seconds (83.5) or minutes (1:23.5)", param_hint=option)
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def parse_strength(option: str, text: str) -> float:
    """Strength of smoothing; ``off`` is 0."""
    try:
        strength = 0.0 if text == "off" else float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength < float("inf"):
        raise typer.BadParameter(f"{text!r} is no strength; write a number, or off", param_hint=option)
    return strength


def parse_intrinsics(option: str, text: str) -> tuple[float, float, float, float]:
    """Four numbers out of ``fx,fy,cx,cy``."""
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not four numbers FX,FY,CX,CY in pixels, such as 1500,1500,960,540", param_hint=option
        ) from None
    return fx, fy, cx, cy


def infer(
    context: typer.Context,
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO", help="Video files, or folders of images.", show_default=False)
    ],
    out: Annotated[
        str, typer.Option(help="Pose file (.npz), a folder, or a name with {stem} in it.", metavar="FILE|FOLDER")
    ] = "{stem}.npz",
    render: Annotated[
        str | None,
        typer.Option(help="Also draw footage and 3D side by side (.mp4 or .gif).", metavar="FILE|FOLDER"),
    ] = None,
    detector: Annotated[str, typer.Option(help="Finds the people; see: vp3d detectors.")] = "movenet",
    lifter: Annotated[str, typer.Option(help="Weights that turn 2D into 3D; see: vp3d weights list.")] = "default",
    max_people: Annotated[
        int | None, typer.Option(min=1, help="Keep the main people only; 1 for one.  [default: all found]")
    ] = None,
    start: Annotated[str, typer.Option(metavar="TIME", help="Begin here: seconds, or 1:23.5.")] = "0",
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop here.  [default: the end]", show_default=False)
    ] = None,
    intrinsics: Annotated[
        str | None, typer.Option(metavar="FX,FY,CX,CY", help="Of the camera, in pixels; or give --fov.")
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(help="Field of view of the longer side, degrees.  [default: 60]"),
    ] = None,
    smooth: Annotated[str, typer.Option(metavar="STRENGTH|off", help="A number, more is smoother; off for raw.")] = "1",
    height: Annotated[float, typer.Option(metavar="METRES", help="Height of a person, which sets the scale.")] = 1.7,
    flip: Annotated[bool, typer.Option(help="Average with the mirrored pose: steadier, twice the lifting.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Find everyone in a video and write their motion in 3D.

    \b
    vp3d infer walk.mp4 --out walk.npz
    vp3d infer walk.mp4 --out walk.npz --render side.mp4
    vp3d infer walk.mp4 --out walk.npz --max-people 1 --start 2 --end 1:30
    vp3d infer a.mp4 b.mov frames/ --out poses/ --render 'poses/{stem}.mp4'

    Prints the path of each file that it wrote. Exit status 3 means that nobody was found.
    """
    start_s = parse_seconds("--start", start)
    end_s = None if end is None else parse_seconds("--end", end)
    if end_s is not None and end_s <= start_s:
        raise typer.BadParameter("must be later than --start", param_hint="--end")
    smoothing = parse_strength("--smooth", smooth)
    camera = None if intrinsics is None else parse_intrinsics("--intrinsics", intrinsics)
    try:
        jobs = plan_jobs(videos, out, render)
        from vp3d_cli.pipeline import InferSettings  # loads torch: only once the options make sense

        settings = InferSettings(
            detector=detector,
            lifter=lifter,
            max_people=max_people,
            start_s=start_s,
            end_s=end_s,
            intrinsics=camera,
            fov_deg=fov,
            smooth=smoothing,
            device=device,
            flip=flip,
            height_m=height,
        )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    run = Run(settings, command=str(context.obj), quiet=quiet, overwrite=overwrite)
    run_jobs(jobs, run)


@dataclass(frozen=True)
class Run:
    """What holds for all videos of one call."""

    settings: InferSettings
    command: str
    quiet: bool
    overwrite: bool


def run_jobs(jobs: list[Job], run: Run) -> None:
    """Run the videos one after another; one that fails does not stop the others."""
    if len(jobs) == 1:
        run_job(jobs[0], run)
        return
    failures: list[tuple[Path, Vp3dError]] = []
    for number, job in enumerate(jobs, start=1):
        if not run.quiet:
            print(f"[{number}/{len(jobs)}] {job.video}", file=sys.stderr)
        try:
            run_job(job, run)
        except Vp3dError as error:
            failures.append((job.video, error))
            if not run.quiet:
                print(f"[{number}/{len(jobs)}] failed", file=sys.stderr)
    for _, failure in failures:
        print_error(failure)
    if failures:
        codes = {failure.exit_code for _, failure in failures}
        raise typer.Exit(codes.pop() if len(codes) == 1 else 1)


def run_job(job: Job, run: Run) -> None:
    """Infer one video, draw it if asked to, and print what was written."""
    from vp3d_cli import pipeline
    from vp3d_cli.files import check_target
    from vp3d_cli.progress import StageProgress, format_summary

    for target in (job.pose, job.render):
        if target is not None:
            check_target(target, run.overwrite)
    with StageProgress(run.quiet) as progress:
        pose = pipeline.infer(
            job.video,
            job.pose,
            settings=run.settings,
            progress=progress,
            overwrite=run.overwrite,
            command=run.command,
        )
    print(job.pose, flush=True)
    if job.render is not None:
        with StageProgress(run.quiet) as progress:
            pipeline.render(pose, job.video, job.render, overwrite=run.overwrite, progress=progress)
        print(job.render, flush=True)
    if not run.quiet:
        for warning in pose.provenance.get("warnings", ()):
            print_warning(warning)
        print(format_summary(job.video.name, pipeline.summarize(pose)), file=sys.stderr)
