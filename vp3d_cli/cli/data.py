"""The command ``vp3d data``: prepares Human3.6M and HumanEva-I, or synthesizes a substitute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet, clock, format_table, print_warning

if TYPE_CHECKING:
    from vp3d_cli.paper.datasets.prepare import Prepared

data_app = typer.Typer(help="Prepare or synthesize data sets.", no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[Path, typer.Option(help="Folder for the archives.", show_default=False)]


@data_app.command("prepare")
def prepare(
    dataset: Annotated[str, typer.Argument(help="human36m or humaneva.", show_default=False)],
    source: Annotated[Path, typer.Argument(help="Download: a folder or archive.", show_default=False)],
    out: Out,
    partial: Annotated[bool, typer.Option("--partial", help="Accept missing subjects or sequences.")] = False,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert a downloaded data set.

    The result is archives for training and evaluation.

    \b
    vp3d data prepare human36m downloads/ --out data     (Poses_D3_Positions_S*.tgz)
    vp3d data prepare human36m h36m.zip --out data
    vp3d data prepare humaneva converted_15j/ --out data
    vp3d data prepare human36m VideoPose3D/data/ --out data     (data_3d_h36m.npz)

    Prints the paths of the archives; docs/datasets.md says where to get the data.
    """
    from vp3d_cli.paper.datasets.prepare import prepare as prepare_data

    report(prepare_data(dataset, source, out, partial=partial, overwrite=overwrite), dataset, quiet)


@data_app.command("synthesize")
def synthesize(
    dataset: Annotated[str, typer.Argument(help="human36m.", show_default=False)],
    motion: Annotated[list[Path], typer.Option(help="Motion capture to use; can be repeated.", show_default=False)],
    out: Out,
    minutes: Annotated[float, typer.Option(help="Total duration; the real data set has 176 minutes.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    detections: Annotated[bool, typer.Option(help="Also simulate the keypoints of two detectors.")] = True,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Synthesize a substitute for Human3.6M.

    It is made from motion capture, with the cameras and files of Human3.6M.

    \b
    vp3d data synthesize human36m --motion mocap.npz --out data
    vp3d data synthesize human36m --motion bvh/ --out data --minutes 176 --seed 1

    For trying commands without the real data set. Prints the paths of the archives.
    """
    if dataset != "human36m":
        raise typer.BadParameter(f"only human36m can be synthesized, not {dataset!r}", param_hint="DATASET")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vp3d_cli.paper.datasets.synthetic import synthesize as synthesize_data
    from vp3d_cli.train.mocap.motion import read_motion

    clips = [clip for path in motion for clip in read_motion(path)]
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("sequences"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("sequences", total=None)
        result = synthesize_data(
            clips,
            out,
            minutes=minutes,
            seed=seed,
            detections=detections,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    report(result, dataset, quiet)


def report(result: Prepared, dataset: str, quiet: bool) -> None:
    """Print a summary of the data set and remarks to stderr, and the files to stdout."""
    from vp3d_cli.paper.datasets.specs import dataset_spec

    if not quiet:
        spec = dataset_spec(dataset)
        rows: list[tuple[object, ...]] = [("subject", "sequences", "frames", "time", "part")]
        for subject, sequences in result.joints.items():
            frames = sum(map(len, sequences.values()))
            part = "test" if subject in spec.test else "train" if subject in spec.train else "-"
            rows.append((subject, len(sequences), frames, clock(frames / spec.fps), part))
        print(format_table(rows, right=(1, 2, 3)), file=sys.stderr)
        for note in result.notes:
            print_warning(note)
    for file in result.files:
        print(file)
