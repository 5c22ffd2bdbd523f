"""``vp3d view``: a pose in the browser, as one HTML page that needs no network."""

from __future__ import annotations

import shutil
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet, print_warning, printable

if TYPE_CHECKING:
    from vp3d_cli.pose import Pose3D

PAGE_SUFFIXES = (".html", ".htm")
PoseFile = Annotated[Path, typer.Argument(help="Pose file, from vp3d infer.", show_default=False)]
Video = Annotated[
    Path | None,
    typer.Option(help="The video that it was made from: shown beside the motion, in step with it.", show_default=False),
]
LinkVideo = Annotated[
    bool,
    typer.Option(
        "--link-video",
        help="Play the video file itself, by its path relative to the page; by default the page holds a small copy.",
    ),
]
VideoHeight = Annotated[int, typer.Option(min=90, max=4320, help="Height of the copy of the video, pixels, at most.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")]


def view(
    pose: PoseFile,
    video: Video = None,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML page to write; by default one in a temporary folder.", show_default=False),
    ] = None,
    open_browser: Open = True,
    link_video: LinkVideo = False,
    video_height: VideoHeight = 480,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """View a pose in the browser.

    Turn it, play it, step through it.

    Writes one HTML file that needs no network, and opens it. Press ? in the page for its keys.

    \b
    vp3d view pose.npz
    vp3d view pose.npz --video video.mp4 --out walk.html --no-open
    """
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.pipeline.viewing import write_view

    check_page(out, pose, video, link_video)
    motion = read_npz(pose)
    with page_place(out, pose) as target, StageProgress(quiet) as progress:
        write_view(
            motion, target, title=title_of(motion, pose), video=video, link_video=link_video,
            video_height=video_height, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    finish_page(target, open_browser)


def check_page(out: Path | None, pose: Path, video: Path | None, link_video: bool) -> None:
    """Check how a page was asked for.

    Raises:
        typer.BadParameter: its name does not end in .html, it is a file that is read, or options contradict.
    """
    if out is not None and out.suffix.lower() not in PAGE_SUFFIXES:
        raise typer.BadParameter(f"{out}: browsers open files that end in .html; give the page such a name")
    if out is not None and out.resolve() in {path.resolve() for path in (pose, video) if path is not None}:
        raise typer.BadParameter(f"{out} is read by this command; give the page another name")
    if link_video and video is None:
        raise typer.BadParameter("--link-video needs --video")


def title_of(pose: Pose3D, file: Path) -> str:
    """Name of the video that a pose was made from; of the pose file where it does not say."""
    video = pose.provenance.get("video")
    return printable(Path(video).name if isinstance(video, str) and video else file.name)


def finish_page(page: Path, open_browser: bool) -> None:
    """Print where the page is, and open it in the browser if that is wanted."""
    print(page)
    if open_browser and not webbrowser.open(page.resolve().as_uri()):
        print_warning(f"no browser could be started; open {page} yourself")


@contextmanager
def page_place(out: Path | None, pose: Path) -> Iterator[Path]:
    """Where to write a page: ``out``, or a file in a temporary folder that stays only if the block ends well."""
    if out is not None:
        yield out
        return
    folder = Path(tempfile.mkdtemp(prefix="vp3d-view-"))
    try:
        yield folder / f"{pose.stem}.html"
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
