"""``vp3d reproduce``: the paper's tables, trained and evaluated again."""

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
        Path, typer.Argument(metavar="DIR", help="Folder of prepared archives (vp3d data).", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="REPORT_DIR", help="Folder of the report and the models.", show_default=False)
    ] = None,
    rows: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Only rows whose name matches.", show_default=False)
    ] = None,
    list_rows: Annotated[
        bool, typer.Option("--list", help="Print the rows and what they lack, and do nothing.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of every training run.  [default: the paper's]", show_default=False)
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Of every model.  [default: the paper's 1024]", show_default=False)
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train and evaluate every row of the paper's tables, and report ours beside theirs.

    \b
    vp3d reproduce data/ --out tables/ --device cuda
    vp3d reproduce data/ --out tables/ --rows 'cpn|semi-s1-10'
    vp3d reproduce data/ --out trial/ --epochs 1 --channels 32
    vp3d reproduce data/ --list

    Stop it at any time: the same command goes on where it was. Rows whose data is missing are skipped. Prints the path
    of report.html; report.md and results.json lie beside it (docs/reproducing.md).
    """
    from vp3d_cli.paper.reproduce.table_rows import select_rows

    chosen = select_rows(rows)
    if list_rows:
        print(format_table(listing(chosen, data), right=(2,)))
        return
    if out is None:
        raise typer.BadParameter("say where the report goes, or --list", param_hint="--out")
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
    """Reproduce rows with a line for each and a bar for the training run; print the path of the report."""
    from vp3d_cli.paper.reproduce.run import Callbacks, Plan
    from vp3d_cli.paper.reproduce.run import reproduce as reproduce_rows
    from vp3d_cli.runtime.devices import torch_device

    plan = Plan(data, out, rows, epochs, channels, str(torch_device(device)))
    with training_progress(threads, quiet, transient=True) as bar:
        shown = Display(bar, len(rows))
        outcome = reproduce_rows(plan, Callbacks(shown.row, shown.step, shown.note))
    print(outcome.report, file=sys.stdout)
    if not outcome.finished:
        print_error("stopped; the same command goes on")
        raise typer.Exit(130)
    failed = [name for name, result in outcome.results.items() if result.status == "failed"]
    if failed:
        print_error(f"{len(failed)} of {len(rows)} rows failed: {', '.join(failed)}; the same command tries them again")
        raise typer.Exit(1)
    if not any(result.status == "done" for result in outcome.results.values()):
        print_error(f"nothing could be done: {next(iter(outcome.results.values())).reason}; see: vp3d reproduce --list")
        raise typer.Exit(1)


class Display:
    """What is printed while rows are reproduced: all of it to stderr.

    Args:
        bar: for the steps of a training run; its console is for lines.
        rows: how many.
    """

    def __init__(self, bar: Progress, rows: int) -> None:
        self._bar, self._rows = bar, rows
        self._task = bar.add_task("", total=None, visible=False)
        self._number, self._begun, self._since = 0, "", 0.0
        self._noted: set[str] = set()

    def row(self, row: Row, result: RowResult) -> None:
        """A row is begun, or over."""
        if result.status == "waiting":
            self._begun, self._since = row.name, time.monotonic()
            self._bar.reset(self._task, description=row.name, total=None, visible=True)
            return
        self._number += 1
        self._bar.update(self._task, visible=False)
        if result.status == "done":
            said = f"MPJPE {result.figure('mpjpe'):.1f}  P-MPJPE {result.figure('p_mpjpe'):.1f}"
            took = clock(time.monotonic() - self._since) if self._begun == row.name else "done before"
            said += f"  ({took})"
        else:
            said = f"{result.status}: {result.reason}"
        line = f"{self._number}/{self._rows}  {row.name}  {said}"
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: int, steps: int, loss: float) -> None:
        """A step of training is done."""
        self._bar.update(self._task, completed=step, total=steps, description=f"{self._begun}  loss {loss:.4f}")

    def note(self, note: str) -> None:
        """What the user should know of the data, once."""
        if note not in self._noted and not self._bar.console.quiet:
            self._noted.add(note)
            print_warning(note)


def listing(rows: Sequence[Row], data: Path) -> list[tuple[str, ...]]:
    """Rows of the table of ``--list``: name, title, published MPJPE, and what is missing."""
    from vp3d_cli.paper.published import published
    from vp3d_cli.paper.reproduce.run import AvailableData

    inventory = AvailableData(data)
    lines: list[tuple[str, ...]] = [("row", "what", "published", "missing")]
    for row in rows:
        known = published(row.name)
        value = f"{known.figures['mpjpe']:.1f}" if known is not None else "-"
        lines.append((row.name, row.title, value, inventory.missing(row.config(data)) or "-"))
    return lines
