"""``vp3d detect``: a video in, a detections file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Overwrite, Quiet, print_warning
from vp3d_cli.cli.preflight import check_models, check_video


@options.with_settings(*options.DETECTION_OPTIONS)
def detect(
    context: typer.Context,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="Video file or folder of images.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Detections file.  [default: {stem}.detections.npz]", show_default=False),
    ] = None,
    *,
    settings: options.Settings,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Detect people in 2D in each frame.

    \b
    vp3d detect walk.mp4 --out walk.detections.npz
    vp3d lift walk.detections.npz --out walk.npz --person 2 --smooth 2

    The file has everybody whom the detector found. vp3d lift tracks, chooses and lifts people in seconds.
    """
    target = out or Path(f"{video.resolve().name if video.is_dir() else video.stem}.detections.npz")
    check_models(settings, lifting=False)
    check_video(video, settings)
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.atomic import check_target
    from vp3d_cli.jobs.executor import detect_chunks
    from vp3d_cli.pipeline.detection_cache import cache_path, delete_cache
    from vp3d_cli.pipeline.infer import detect_people
    from vp3d_cli.pipeline.run import Models, Run

    check_target(target, overwrite)
    cache = cache_path(target)
    with StageProgress(quiet) as progress:
        run = Run(Models(settings), progress, cache, detect_chunks, {"command": str(context.obj)})
        detections = detect_people(video, settings, run)
    detections.save(target, overwrite=overwrite)
    delete_cache(cache)
    print(target, flush=True)
    if not quiet:
        for warning in detections.warnings:
            print_warning(warning)
