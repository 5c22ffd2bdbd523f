"""``vp3d render``: a pose file and its video in, a side-by-side video out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet


def render(
    pose: Annotated[Path, typer.Argument(help="Pose file, from vp3d infer.", show_default=False)],
    video: Annotated[Path, typer.Option(help="The video that it was made from.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Video to write: .mp4 or .gif.", show_default=False)],
    height: Annotated[int, typer.Option(min=120, max=4320, help="Height of the result, pixels.")] = 720,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw the video with 2D skeletons and the people in 3D, side by side.

    \b
    vp3d render pose.npz --video video.mp4 --out side.mp4
    vp3d render pose.npz --video video.mp4 --out side.gif --height 480
    """
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.atomic import check_target
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.pipeline import drawing

    motion = read_npz(pose)
    check_target(out, overwrite)
    if out.resolve() in (video.resolve(), pose.resolve()):
        raise typer.BadParameter(f"{out} is read by this command; give the result another name")
    with StageProgress(quiet) as progress:
        drawing.render(motion, video, out, height=height, overwrite=overwrite, progress=progress)
    print(out)
