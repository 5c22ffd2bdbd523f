"""``vp3d lift``: a detections file in, a pose file out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Overwrite, Quiet, print_warning
from vp3d_cli.cli.preflight import check_models
from vp3d_cli.errors import InputError


@options.with_settings(*options.LIFTING_OPTIONS)
def lift(
    context: typer.Context,
    detections: Annotated[Path, typer.Argument(metavar="FILE", help="From vp3d detect.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Pose file; any format of vp3d export.  [default: {stem}.npz]", show_default=False
        ),
    ] = None,
    *,
    settings: options.Settings,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Lift a detections file to 3D.

    Tracks the people, lifts them and places them in the world; detects nothing.

    \b
    vp3d lift walk.detections.npz --out walk.npz
    vp3d lift walk.detections.npz --out walk.npz --person 2 --height 1.82 --smooth 2

    Exit status 3 means that nobody is in the file.
    """
    target = out or Path(detections.name.removesuffix(".npz").removesuffix(".detections") + ".npz")
    check_models(settings)
    if target.resolve() == detections.resolve():
        raise typer.BadParameter(f"{target} is read by this command; give the result another name", param_hint="--out")
    from vp3d_cli.cli.progress import StageProgress, format_summary
    from vp3d_cli.io.detections import is_detections_file, read_detections
    from vp3d_cli.io.poses import check_pose_target, export_pose
    from vp3d_cli.pipeline.infer import lift_detections
    from vp3d_cli.pipeline.run import Models, Run
    from vp3d_cli.pipeline.summary import summarize

    if detections.is_file() and not is_detections_file(detections):
        raise InputError(
            f"{detections}: is not a detections file; make one with vp3d detect, or lift keypoints of another tool "
            f"with vp3d infer VIDEO --keypoints {detections}"
        )
    check_pose_target(target, overwrite)
    found = read_detections(detections)
    found = found[_first(found.frame_times_s, settings.start_s) : _first(found.frame_times_s, settings.end_s)]
    with StageProgress(quiet) as progress:
        run = Run(Models(settings), progress, provenance={"command": str(context.obj)})
        pose = lift_detections(found, settings, run)
    files, notes = export_pose(pose, target, overwrite=overwrite)
    print(*files, sep="\n", flush=True)
    if not quiet:
        for warning in [*pose.provenance["warnings"], *notes]:
            print_warning(warning)
        print(format_summary(detections.name, summarize(pose)), file=sys.stderr)


def _first(times_s: object, time_s: float | None) -> int | None:
    """Index of the first frame at or after a time; None for the end."""
    import numpy as np

    return None if time_s is None else int(np.searchsorted(np.asarray(times_s), time_s))
