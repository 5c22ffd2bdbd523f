"""``vp3d batch``: process folders of videos; finished results are not made again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Quiet, format_table, print_error, print_warning, printable
from vp3d_cli.cli.preflight import check_models
from vp3d_cli.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vp3d_cli.jobs.plan import BatchItem
    from vp3d_cli.jobs.report import BatchRow
    from vp3d_cli.jobs.run import BatchOptions
    from vp3d_cli.jobs.storage import Place

_WORDS_SHOWN = 30  # last lines of what a worker that died wrote


@options.with_settings()
def batch(
    context: typer.Context,
    videos: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER_OR_FILE", help="Folders to search, and videos; or URLs.", show_default=False),
    ],
    out: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="For pose files; mirrors the videos.", show_default=False)
    ],
    render: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Also draw footage and 3D side by side, in here.", show_default=False),
    ] = None,
    glob: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only videos like this: '*.mov', 'cam1/*'.", show_default=False),
    ] = None,
    *,
    settings: options.Settings,
    keypoints: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="2D keypoints of another tool, named as the videos are.", show_default=False
        ),
    ] = None,
    keypoints_only: options.KeypointsOnly = False,
    format: options.KeypointFormat = "vp3d",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Videos at a time.  [default: as many as cores]", show_default=False)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each job.  [default: the cores shared out]", show_default=False)
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="More attempts where a job died or hung.")] = 1,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that a video may take.", show_default=False)
    ] = None,
    stall: Annotated[float, typer.Option(min=0, help="Seconds without progress that end a job; 0: none.")] = 900,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="End at the first failure.")] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have a dask cluster do it: tcp://HOST:PORT.", show_default=False),
    ] = None,
    cluster_timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for a cluster that is away.")] = 300,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    quiet: Quiet = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do everything again; replace any file.")] = False,
) -> None:
    """Process many videos, several at a time.

    Run again, it does only what is missing.

    \b
    vp3d batch clips/ --out poses/
    vp3d batch clips/ --out poses/ --render videos/ --max-people 1
    vp3d batch clips/ extra.mov --out poses/ --glob '*.mov' --dry-run
    vp3d batch s3://lab/clips --out s3://lab/poses --scheduler tcp://10.0.0.1:8786

    Prints a table, which is in FOLDER/batch.csv, too. Exit status 0 only if every video is done; a video in which
    nobody was found counts as failed.
    """
    if scheduler is None:  # a cluster has weights of its own
        check_models(settings, lifting=not keypoints_only)
    from vp3d_cli.jobs.loop import Limits
    from vp3d_cli.jobs.run import BatchOptions
    from vp3d_cli.jobs.storage import to_place

    kept = BatchOptions(
        settings=settings,
        format=format if keypoints_only else "",
        command=str(context.obj),
        jobs=jobs,
        threads=threads,
        limits=Limits(retries, timeout, stall or None, fail_fast),
        overwrite=overwrite,
        scheduler=scheduler,
        cluster_timeout_s=cluster_timeout,
    )
    target = to_place(out)
    drawn, points = (None if given is None else to_place(given) for given in (render, keypoints))
    items = plan([to_place(video) for video in videos], target, drawn, kept, points, glob or ())
    if dry_run:
        print_plan(items, target, kept)
        return
    finish(run(items, target, kept, quiet), target, quiet)


def plan(
    videos: Sequence[Place],
    out: Place,
    render: Place | None,
    kept: BatchOptions,
    keypoints: Place | None,
    globs: Sequence[str],
) -> list[BatchItem]:
    """Find the videos and name their results.

    Raises:
        InputError: there are no videos.
        typer.BadParameter: the options make no sense together.
    """
    from vp3d_cli.jobs.inputs import find_inputs
    from vp3d_cli.jobs.plan import KEYPOINT_SUFFIXES, KEYPOINTS, POSE, RENDER, plan_items
    from vp3d_cli.jobs.storage import same_file

    if kept.format and kept.format not in KEYPOINT_SUFFIXES:
        raise typer.BadParameter(f"{kept.format!r} is none of {', '.join(KEYPOINT_SUFFIXES)}", param_hint="--format")
    if kept.format and render is not None:
        raise typer.BadParameter("needs 3D; leave it out with --keypoints-only", param_hint="--render")
    if keypoints is not None and not keypoints.is_dir():
        raise typer.BadParameter(f"{keypoints} is no folder, which batch needs", param_hint="--keypoints")
    for name, folder in (("--out", out), ("--render", render)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"{folder} is no folder", param_hint=name)
    if render is not None and any(same_file(video) == same_file(render) for video in videos):
        raise typer.BadParameter(
            f"{render} is searched for videos: drawn ones would be found there next time", param_hint="--render"
        )
    roots = {KEYPOINTS if kept.format else POSE: out} | ({} if render is None else {RENDER: render})
    suffixes = {POSE: ".npz", RENDER: ".mp4", KEYPOINTS: KEYPOINT_SUFFIXES.get(kept.format, "")}
    inputs = find_inputs(videos, globs=globs, exclude=tuple(roots.values()))
    if not inputs:
        where = ", ".join(map(str, videos))
        raise InputError(f"no videos in {where}" + (f" that match {', '.join(globs)}" if globs else ""))
    try:
        return plan_items(inputs, roots=roots, suffixes=suffixes, keypoints=keypoints)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def print_plan(items: Sequence[BatchItem], out: Place, kept: BatchOptions) -> None:
    """Print what would be done about each video."""
    from vp3d_cli.jobs.run import check_batch

    rows: list[tuple[str, ...]] = [("video", "plan", "because", "results")]
    for item, decision in zip(items, check_batch(items, out, kept), strict=True):
        plan = "fail" if decision.failure is not None else "do" if decision.needed else "skip"
        because = decision.failure or decision.because(_flag) or "done"
        results = ", ".join(str(item.targets[kind]) for kind in decision.needed or item.targets)
        rows.append((str(item.input.place), plan, because, results))
    print(format_table([[printable(cell) for cell in row] for row in rows]))


def _flag(field: str) -> str:
    """Return the command-line option of a settings field.

    A field that only an older version had keeps its name.
    """
    from vp3d_cli.pipeline.settings import InferSettings

    return options.flag_of(field) if hasattr(InferSettings, field) else field


def run(items: Sequence[BatchItem], out: Place, kept: BatchOptions, quiet: bool) -> list[BatchRow]:
    """Run the batch and show its progress."""
    from vp3d_cli.cli.batch_display import BatchDisplay
    from vp3d_cli.jobs.run import run_batch

    with BatchDisplay(quiet) as display:
        try:
            return run_batch(items, out, kept, display)
        except (KeyboardInterrupt, SystemExit):
            display.close()
            print(f"{display.count()}; run the same command again to go on", file=sys.stderr)
            raise


def finish(rows: Sequence[BatchRow], out: Place, quiet: bool) -> None:
    """Print the table and what needs attention.

    Raises:
        typer.Exit: a video is not done.
    """
    from vp3d_cli.jobs.report import DONE, FAILED, LEFT, SKIPPED, exit_code, table_rows

    cells = [[printable(cell) for cell in row] for row in table_rows(rows)]
    print(format_table(cells, right=(2, 3, 4)), flush=True)
    for row in rows:
        if row.stderr and not quiet:
            print(f"--- {printable(row.place)}: the end of what its worker wrote to stderr", file=sys.stderr)
            print("\n".join(row.stderr.splitlines()[-_WORDS_SHOWN:]), file=sys.stderr)
        if not quiet:
            for warning in row.warnings:
                print_warning(warning)
    counts = {status: sum(row.status == status for row in rows) for status in (DONE, SKIPPED, FAILED, LEFT)}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count or status == DONE)
    if not quiet:
        print(f"{told}; see {out / 'batch.csv'}", file=sys.stderr)
    code = exit_code(rows)
    if code:
        print_error(f"{counts[FAILED] + counts[LEFT]} of {len(rows)} videos are not done; the table says why")
        raise typer.Exit(code)
