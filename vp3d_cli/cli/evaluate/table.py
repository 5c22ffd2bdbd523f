"""Score table of ``vp3d evaluate``: every case of every system, beside published figures."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vp3d_cli.cli.common import format_table

if TYPE_CHECKING:
    from vp3d_cli.evaluate.scores import Scores
    from vp3d_cli.paper.published import Published

ScoreTable = dict[str, list["Scores"]]  # cases of each system; the case "mean" is the mean of the others

_COLUMNS = {
    "mpjpe": "MPJPE",
    "n_mpjpe": "N-MPJPE",
    "p_mpjpe": "P-MPJPE",
    "mpjve": "MPJVE",
    "trajectory": "trajectory",
    "trajectory_aligned": "aligned",
    "pck": "PCK@150",
    "auc": "AUC",
}


def summary_of(scores: Sequence[Scores]) -> Scores:
    """Select the case that represents all: the mean, simulated detections, or the first."""
    named = {case.name: case for case in scores}
    return named.get("mean") or named.get("detected") or scores[0]


def print_results(results: ScoreTable, published: Mapping[str, Published] | None = None) -> None:
    """Print a table of all cases to stdout: framed on a terminal, plain elsewhere.

    Args:
        results: cases of each system.
        published: published figures by system, printed beside each figure.
    """
    cases = [(system, case) for system, scores in results.items() for case in scores]
    several = len(results) > 1
    figures = [figure for figure in _COLUMNS if any(not math.isnan(getattr(case, figure)) for _, case in cases)]
    known = published or {}
    beside = [figure for figure in figures if any(figure in row.figures for row in known.values())]
    missing = any(case.missing for _, case in cases)
    header = (["system"] if several else []) + ["case", "frames"] + (["missing"] if missing else [])
    for figure in figures:
        header += [_COLUMNS[figure]] + (["(paper)"] if figure in beside else [])
    rows: list[list[str]] = [header]
    for system, case in cases:
        row = ([system] if several else []) + [case.name, str(case.frames)] + ([str(case.missing)] if missing else [])
        theirs = known[system].of(case.name) if system in known else {}
        for figure in figures:
            row += [_cell(getattr(case, figure))] + ([_cell(theirs.get(figure, math.nan))] if figure in beside else [])
        rows.append(row)
    text_columns = 2 if several else 1
    if not sys.stdout.isatty():
        print(format_table(rows, right=range(text_columns, len(rows[0]))))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for i, title in enumerate(rows[0]):
        if i < text_columns:
            table.add_column(title, overflow="fold")
        else:
            table.add_column(title, justify="right", no_wrap=True)
    for row_of_cells, (_, case) in zip(rows[1:], cases, strict=True):
        table.add_row(*row_of_cells, style="bold" if case.name == "mean" else None)
    Console().print(table)


def _cell(value: float) -> str:
    """Format a figure, with more digits below 10."""
    return "-" if math.isnan(value) else f"{value:.{2 if abs(value) < 10 else 1}f}"
