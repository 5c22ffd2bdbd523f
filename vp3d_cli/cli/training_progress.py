"""Progress bar and outcome of training runs, for the commands that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vp3d_cli.cli.common import print_error

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def training_progress(threads: int | None, quiet: bool, *, transient: bool = False) -> Iterator[Progress]:
    """Show a progress bar for training steps if stderr is a terminal; its console prints lines.

    Args:
        threads: CPU threads for training; None for all.
        quiet: show neither bar nor lines.
        transient: remove the bar at the end.
    """
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if threads is not None:
        torch.set_num_threads(threads)
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=transient) as bar:
        yield bar


def print_outcome(finished: bool, best: Path, out: Path) -> None:
    """Print the path of the best weights, or how to resume an interrupted run.

    Raises:
        typer.Exit: the run was interrupted.
    """
    if not finished:
        print_error(f"interrupted; continue with --resume --out {out}")
        raise typer.Exit(130)
    print(best)
