"""``vp3d report``: one HTML page about a pose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet
from vp3d_cli.cli.view import LinkVideo, PoseFile, Video, VideoHeight, check_page, finish_page, title_of


def report(
    pose: PoseFile,
    out: Annotated[Path, typer.Option(help="HTML page to write.", show_default=False)],
    video: Video = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
    link_video: LinkVideo = False,
    video_height: VideoHeight = 480,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Write an HTML report of a pose.

    One page with facts, warnings, pictures, tables and the viewer of vp3d view.

    The page needs no network and no other file.

    \b
    vp3d report pose.npz --video video.mp4 --out report.html
    """
    check_page(out, pose, video, link_video)

    from vp3d_cli.analysis.report import write_report
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.poses.npz import read_npz

    motion = read_npz(pose)
    with StageProgress(quiet) as progress:
        write_report(
            motion, out, title=title_of(motion, pose), video=video, link_video=link_video,
            video_height=video_height, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    finish_page(out, open_browser)
