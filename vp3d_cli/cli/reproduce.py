"""The command ``vp3d reproduce``: reproduces the tables of the paper."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Quiet, clock, format_table, print_error, print_warning
from vp3d_cli.cli.training_progress import training_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from vp3d_cli.paper.reproduce.results import RowResult
    from vp3d_cli.paper.reproduce.table_rows import Row


def reproduce(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a prepared data set (vp3d data).", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="REPORT_DIR", help="Folder for the report and the models.", show_default=False),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Rows to reproduce, by name.  [default: all]", show_default=False),
    ] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Only list the rows and their missing data.")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of every training run.  [default: the paper's]", show_default=False),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="Channels of every model.  [default: the paper's 1024]", show_default=False),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: Quiet = False,
) -> None:
    """Reproduce the tables of the paper.

    Trains and evaluates their rows, and compares with the published figures.

    \b
    vp3d reproduce data/ --out tables/ --device cuda
    vp3d reproduce data/ --out tables/ --rows 'cpn|semi-s1-10'
    vp3d reproduce data/ --out trial/ --epochs 1 --channels 32
    vp3d reproduce data/ --list

    If interrupted, the same command continues. Rows without data are skipped. Prints the path of report.html;
    report.md and results.json are beside it (docs/reproducing.md).
    """
    from vp3d_cli.paper.reproduce.table_rows import select_rows

    chosen = select_rows(rows)
    if list_rows:
        print(format_table(listing(chosen, data), right=(2,)))
        return
    if out is None:
        raise typer.BadParameter("give a folder for the report, or --list", param_hint="--out")
    run(chosen, data, out, epochs=epochs, channels=channels, device=device, threads=threads, quiet=quiet)


def run(
    rows: Sequence[Row],
    data: Path,
    out: Path,
    *,
    epochs: int | None,
    channels: int | None,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Reproduce rows, print a line for each, and print the path of the report."""
    from vp3d_cli.paper.reproduce.run import Callbacks, Plan
    from vp3d_cli.paper.reproduce.run import reproduce as reproduce_rows
    from vp3d_cli.runtime.devices import torch_device

    plan = Plan(data, out, rows, epochs, channels, str(torch_device(device)))
    with training_progress(threads, quiet, transient=True) as bar:
        shown = Display(bar, len(rows))
        outcome = reproduce_rows(plan, Callbacks(shown.row, shown.step, shown.note))
    print(outcome.report, file=sys.stdout)
    if not outcome.finished:
        print_error("interrupted; the same command continues")
        raise typer.Exit(130)
    failed = [name for name, result in outcome.results.items() if result.status == "failed"]
    if failed:
        print_error(f"{len(failed)} of {len(rows)} rows failed: {', '.join(failed)}; the same command retries them")
        raise typer.Exit(1)
    if not any(result.status == "done" for result in outcome.results.values()):
        print_error(f"no row could be done: {next(iter(outcome.results.values())).reason}; see: vp3d reproduce --list")
        raise typer.Exit(1)


class Display:
    """Progress display on stderr.

    Args:
        bar: progress bar for training steps, with a console for lines.
        rows: number of rows.
    """

    def __init__(self, bar: Progress, rows: int) -> None:
        self._bar, self._rows = bar, rows
        self._task = bar.add_task("", total=None, visible=False)
        self._number, self._current, self._started = 0, "", 0.0
        self._noted: set[str] = set()

    def row(self, row: Row, result: RowResult) -> None:
        """Show that a row starts or ends."""
        if result.status == "waiting":
            self._current, self._started = row.name, time.monotonic()
            self._bar.reset(self._task, description=row.name, total=None, visible=True)
            return
        self._number += 1
        self._bar.update(self._task, visible=False)
        if result.status == "done":
            said = f"MPJPE {result.figure('mpjpe'):.1f}  P-MPJPE {result.figure('p_mpjpe'):.1f}"
            took = clock(time.monotonic() - self._started) if self._current == row.name else "done before"
            said += f"  ({took})"
        else:
            said = f"{result.status}: {result.reason}"
        line = f"{self._number}/{self._rows}  {row.name}  {said}"
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: int, steps: int, loss: float) -> None:
        """Show a training step."""
        self._bar.update(self._task, completed=step, total=steps, description=f"{self._current}  loss {loss:.4f}")

    def note(self, note: str) -> None:
        """Print a remark about the data, once."""
        if note not in self._noted and not self._bar.console.quiet:
            self._noted.add(note)
            print_warning(note)


def listing(rows: Sequence[Row], data: Path) -> list[tuple[str, ...]]:
    """Rows of the table of ``--list``: name, title, published MPJPE, and missing data."""
    from vp3d_cli.paper.published import published
    from vp3d_cli.paper.reproduce.run import AvailableData

    available = AvailableData(data)
    lines: list[tuple[str, ...]] = [("row", "description", "published", "missing")]
    for row in rows:
        known = published(row.name)
        value = f"{known.figures['mpjpe']:.1f}" if known is not None else "-"
        lines.append((row.name, row.title, value, available.missing(row.config(data)) or "-"))
    return lines
