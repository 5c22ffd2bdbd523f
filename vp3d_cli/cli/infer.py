"""``vp3d infer``: videos in, pose files and side-by-side videos out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Overwrite, Quiet, print_error, print_warning
from vp3d_cli.cli.output_paths import VideoOutputs, plan_outputs
from vp3d_cli.cli.preflight import check_models, check_video
from vp3d_cli.cli.remote_files import LocalFiles
from vp3d_cli.errors import ConfigError, Vp3dError
from vp3d_cli.jobs.storage import Place, to_place

if TYPE_CHECKING:
    from vp3d_cli.io.detections import Detections
    from vp3d_cli.pipeline.chunks import Chunk
    from vp3d_cli.pipeline.detection import Progress
    from vp3d_cli.pipeline.run import Run
    from vp3d_cli.pipeline.settings import InferSettings

_KEYPOINT_SUFFIXES = {"vp3d": ".npz", "videopose3d": ".npz", "coco": ".json"}


@options.with_settings()
def infer(
    context: typer.Context,
    videos: Annotated[
        list[str],
        typer.Argument(metavar="VIDEO", help="Video files, folders of images, or URLs.", show_default=False),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Pose file (.npz, .bvh, .csv, ...), a folder, or a name with {stem}.  [default: {stem}.npz]",
            metavar="FILE|FOLDER",
            show_default=False,
        ),
    ] = "{stem}",
    render: Annotated[
        str | None,
        typer.Option(
            help="Also draw footage and 3D side by side (.mp4 or .gif).", metavar="FILE|FOLDER", show_default=False
        ),
    ] = None,
    *,
    settings: options.Settings,
    keypoints_only: options.KeypointsOnly = False,
    format: options.KeypointFormat = "vp3d",
    preview: Annotated[
        str | None,
        typer.Option(help="Only draw a PNG in which people are numbered.", metavar="FILE|FOLDER", show_default=False),
    ] = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a video of people into 3D motion.

    \b
    vp3d infer walk.mp4 --out walk.npz
    vp3d infer walk.mp4 --out walk.npz --render side.mp4
    vp3d infer walk.mp4 --preview people.png
    vp3d infer walk.mp4 --out walk.npz --person 2 --start 2 --end 1:30
    vp3d infer walk.mp4 --out walk.npz --keypoints openpose_json/
    vp3d infer walk.mp4 --out walk.json --keypoints-only --format coco
    vp3d infer a.mp4 b.mov frames/ --out poses/ --render 'poses/{stem}.mp4'
    vp3d infer s3://lab/walk.mp4 --out s3://lab/walk.npz

    Prints the path of each file that it wrote. Exit status 3 means that nobody was found.
    """
    if settings.keypoints is not None and len(videos) > 1:
        raise typer.BadParameter("works for one video; give one video at a time", param_hint="--keypoints")
    if format not in _KEYPOINT_SUFFIXES:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(_KEYPOINT_SUFFIXES)}", param_hint="--format")
    if render is not None and (keypoints_only or preview is not None):
        raise typer.BadParameter("needs 3D; leave it out with --keypoints-only and --preview", param_hint="--render")
    places = [to_place(video) for video in videos]
    try:
        if preview is not None:
            outputs = plan_outputs(places, preview, None, (".png",))
        else:
            suffixes = [_KEYPOINT_SUFFIXES[format]] if keypoints_only else pose_suffixes(out)
            outputs = plan_outputs(places, out, render, suffixes)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    check_models(settings, lifting=preview is None and not keypoints_only)
    run = Options(settings, command=str(context.obj), quiet=quiet, overwrite=overwrite, keypoint_format=format)
    work = write_preview if preview is not None else write_keypoints if keypoints_only else write_pose
    process_all(outputs, run, work)


def pose_suffixes(out: str) -> list[str]:
    """Return the allowed suffixes of a pose file, ``.npz`` first.

    Export formats are loaded only if another suffix is asked for.
    """
    if out.lower().endswith((".npz", "/", "{stem}")):
        return [".npz"]
    from vp3d_cli.plugins import EXPORTERS

    return [exporter.suffix for exporter in EXPORTERS.loaded().values()]


@dataclass(frozen=True)
class Options:
    """Options that all videos of one call share."""

    settings: InferSettings
    command: str
    quiet: bool
    overwrite: bool
    keypoint_format: str


def process_all(outputs: list[VideoOutputs], run: Options, work: Callable[[VideoOutputs, Options], None]) -> None:
    """Process the videos one after another; one that fails does not stop the others."""
    if len(outputs) == 1:
        work(outputs[0], run)
        return
    failures: list[tuple[Place, Vp3dError]] = []
    for number, paths in enumerate(outputs, start=1):
        if not run.quiet:
            print(f"[{number}/{len(outputs)}] {paths.video}", file=sys.stderr)
        try:
            work(paths, run)
        except Vp3dError as error:
            failures.append((paths.video, error))
            if not run.quiet:
                print(f"[{number}/{len(outputs)}] failed", file=sys.stderr)
    for _, failure in failures:
        print_error(failure)
    if failures:
        codes = {failure.exit_code for _, failure in failures}
        raise typer.Exit(codes.pop() if len(codes) == 1 else 1)


def write_pose(paths: VideoOutputs, run: Options) -> None:
    """Infer one video, draw it if asked to, and print what was written."""
    with LocalFiles() as files:
        out = files.target(paths.out, run.overwrite)
        render = None if paths.render is None else files.target(paths.render, run.overwrite)
        video = files.copy_in(paths.video)
        check_video(video, run.settings)
        from vp3d_cli.cli.progress import StageProgress, format_summary
        from vp3d_cli.pipeline import api
        from vp3d_cli.pipeline.drawing import render as draw
        from vp3d_cli.pipeline.summary import summarize

        with pipeline_run(video, files, paths, run) as pipeline:
            pose = api.infer_to_file(video, out, run.settings, pipeline, overwrite=run.overwrite)
        if out == paths.out:
            print(*pipeline.written, sep="\n", flush=True)
        else:
            deliver(files, out, paths.out)
        if render is not None and paths.render is not None:
            with StageProgress(run.quiet) as progress:
                draw(pose, video, render, overwrite=run.overwrite, progress=progress, warn=print_warning)
            deliver(files, render, paths.render)
    if not run.quiet:
        for warning in pose.provenance.get("warnings", ()):
            print_warning(warning)
        print(format_summary(paths.video.name, summarize(pose)), file=sys.stderr)


def write_keypoints(paths: VideoOutputs, run: Options) -> None:
    """Write the 2D keypoints of the tracked people of one video, and print the path."""
    with LocalFiles() as files:
        out = files.target(paths.out, run.overwrite)
        video = files.copy_in(paths.video)
        check_video(video, run.settings)
        from vp3d_cli.pipeline import api

        with pipeline_run(video, files, paths, run) as pipeline:
            format, overwrite = run.keypoint_format, run.overwrite
            warnings = api.detect_to_file(video, out, run.settings, pipeline, format=format, overwrite=overwrite)
        deliver(files, out, paths.out)
    if not run.quiet:
        for warning in warnings:
            print_warning(warning)


@contextmanager
def pipeline_run(video: Path, files: LocalFiles, paths: VideoOutputs, run: Options) -> Iterator[Run]:
    """Provide the pipeline run for one video.

    Ctrl-C reports the cache that is kept, also for a video in chunks.

    Raises:
        KeyboardInterrupt: with this as its message.
    """
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.jobs.executor import detect_chunks
    from vp3d_cli.pipeline.chunks import kept_note
    from vp3d_cli.pipeline.detection_cache import cache_path
    from vp3d_cli.pipeline.run import Models, Run

    planned: list[Chunk] = []

    def map_chunks(chunks: Sequence[Chunk], report: Progress) -> list[Detections]:
        planned.extend(chunks)
        return detect_chunks(chunks, report)

    source = files.source(paths.video)
    provenance = {"command": run.command, **({} if source is None else {"video": source})}
    cache = files.keep(paths.out) or cache_path(Path(str(paths.out)))
    try:
        with StageProgress(run.quiet) as progress:
            yield Run(Models(run.settings), progress, cache, map_chunks, provenance)
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(str(stopped) or kept_note(planned)) from None


def deliver(files: LocalFiles, file: Path, place: Place) -> None:
    """Send a result to its place, and print the path."""
    files.copy_out(file, place)
    print(place, flush=True)


def write_preview(paths: VideoOutputs, run: Options) -> None:
    """Draw the contact sheet of one video, and print its path."""
    with LocalFiles() as files:
        out = files.target(paths.out, run.overwrite)
        video = files.copy_in(paths.video)
        check_video(video, run.settings)
        from vp3d_cli.cli.progress import StageProgress
        from vp3d_cli.pipeline.drawing import preview

        with StageProgress(run.quiet) as progress:
            preview(video, out, settings=run.settings, progress=progress, overwrite=run.overwrite)
        deliver(files, out, paths.out)
