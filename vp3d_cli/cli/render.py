"""``vp3d render``: a video of a pose, with the footage or without."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet, print_warning


class Layout(str, Enum):
    """What is in the picture."""

    SIDE = "side"
    OVERLAY = "overlay"
    SCENE = "3d"
    GRID = "grid"


class Camera(str, Enum):
    """How the camera of the 3D view moves."""

    AUTO = "auto"
    FIXED = "fixed"
    FOLLOW = "follow"
    TURNTABLE = "turntable"


class ThemeName(str, Enum):
    """Colours around the people in the 3D view."""

    LIGHT = "light"
    DARK = "dark"


def render(
    pose: Annotated[Path, typer.Argument(help="Pose file, from vp3d infer.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Video to write: .mp4, .webm or .gif; a folder for PNG images.", show_default=False)
    ],
    video: Annotated[
        Path | None, typer.Option(help="The video that it was made from.  [default: 3D alone]", show_default=False)
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option(help="What to draw.  [default: side; 3d without --video]", show_default=False)
    ] = None,
    person: Annotated[
        list[int] | None, typer.Option(metavar="NUMBER", help="Only this person; may be repeated.", show_default=False)
    ] = None,
    camera: Annotated[Camera, typer.Option(help="Camera of the 3D view.")] = Camera.AUTO,
    compare: Annotated[
        Path | None, typer.Option(help="Second pose file, in other colours in the 3D view.", show_default=False)
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(min=120, max=4320, help="Of the result, pixels.  [default: 720; gif 288]", show_default=False),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="At most so many frames per second.  [default: all; gif 15]", show_default=False),
    ] = None,
    theme: Annotated[ThemeName, typer.Option(help="Colours of the 3D view.")] = ThemeName.LIGHT,
    trail: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Length of the trails; 0 for none.")] = 1.6,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Render a pose as a video.

    The footage with 2D skeletons and the people in 3D, side by side or in another layout.

    \b
    vp3d render pose.npz --video video.mp4 --out side.mp4
    vp3d render pose.npz --out 3d.gif --camera turntable
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise typer.BadParameter("must be a positive number", param_hint="--fps")
    if video is None and layout in (Layout.SIDE, Layout.OVERLAY):
        raise typer.BadParameter(f"{layout.value} shows the footage; give --video too", param_hint="--layout")
    if compare is not None and layout is Layout.OVERLAY:
        raise typer.BadParameter("needs a layout with a 3D view, such as side", param_hint="--compare")
    for given in (pose, video, compare):
        if given is not None and out.resolve() == given.resolve():
            raise typer.BadParameter(f"{out} is read by this command; give the result another name")
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.pipeline import drawing

    motion = read_npz(pose)
    other = None if compare is None else read_npz(compare)
    drawing.check_out(out, overwrite)
    warnings: list[str] = []
    with StageProgress(quiet) as progress:
        drawing.render(
            motion, video, out, height=height, fps=fps, layout=layout and layout.value, people=person or (),
            camera=camera.value, theme=theme.value, trail_s=trail, compare=other, overwrite=overwrite,
            progress=progress, warn=warnings.append,
        )  # fmt: skip
    for warning in warnings:
        print_warning(warning)
    print(out)
