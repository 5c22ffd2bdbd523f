"""Plots of a report: errors by row, action, share of labels, and over training."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vp3d_cli.paper.published import published
from vp3d_cli.paper.reproduce.results import Results, RowResult
from vp3d_cli.paper.reproduce.table_rows import SHARES, VARIANTS, all_rows

# Colour-blind safe (Okabe and Ito 2008).
_OURS, _THEIRS = "#0072b2", "#d55e00"
_VARIANT_COLOURS = ("#0072b2", "#009e73", "#cc79a7")
_CURVES_ACROSS = 4
# Rows whose actions are plotted: the first of these that is done.
_BY_ACTION = ("h36m-cpn-243", "h36m-cpn-243-causal", "h36m-cpn-1")


def draw_plots(results: Results, folder: Path) -> dict[str, tuple[str, bytes]]:
    """Draw all plots for which there are results: {name: (title, PNG)}.

    Args:
        results: results of the reproduction.
        folder: folder of the report, with the logs of the training runs.
    """
    done = {
        row.name: results.rows[row.name]
        for row in all_rows()
        if row.name in results.rows and results.rows[row.name].status == "done"
    }
    figures = {
        "rows": ("MPJPE of every row (mm), and published values", _rows(done)),
        "actions": ("MPJPE by action (mm)", _actions(done)),
        "labels": ("MPJPE (mm) by the labelled share, exact keypoints", _labels(done)),
        "training": ("MPJPE on test subjects (mm) after each epoch", _training(results, folder)),
    }
    return {name: (title, _png(figure)) for name, (title, figure) in figures.items() if figure is not None}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version of matplotlib, so that equal results give equal files.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _rows(done: Mapping[str, RowResult]) -> Figure | None:
    if not done:
        return None
    figure = Figure(figsize=(8, 0.3 * len(done) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(done)), [result.figure("mpjpe") for result in done.values()], 0.6, color=_OURS, label="ours")
    theirs = {place: row.figures["mpjpe"] for place, name in enumerate(done) if (row := published(name))}
    if theirs:
        places, values = list(theirs), list(theirs.values())
        axes.plot(values, places, "D", color=_THEIRS, markeredgecolor="white", label="published")
    axes.set_yticks(range(len(done)), list(done))
    axes.invert_yaxis()
    _finish(axes, "x", "MPJPE (mm)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _actions(done: Mapping[str, RowResult]) -> Figure | None:
    name = next((name for name in _BY_ACTION if name in done), None)
    row = None if name is None else published(name)
    if name is None or row is None:
        return None
    cases = [case["name"] for case in done[name].cases]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for shift, colour, label, values in (
        (-0.2, _OURS, "ours", [done[name].figure("mpjpe", case) for case in cases]),
        (0.2, _THEIRS, "published", [row.of(case).get("mpjpe", math.nan) for case in cases]),
    ):
        axes.bar([place + shift for place in range(len(cases))], values, 0.4, color=colour, label=label)
    axes.set_xticks(range(len(cases)), cases, rotation=40, ha="right")
    _finish(axes, "y", "MPJPE (mm)")
    axes.set_title(name, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    return figure


def _labels(done: Mapping[str, RowResult]) -> Figure | None:
    if not any(f"semi-{share}{ending}" in done for share in SHARES for ending in VARIANTS):
        return None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for colour, (ending, (title, _)) in zip(_VARIANT_COLOURS, VARIANTS.items(), strict=True):
        names = [f"semi-{share}{ending}" for share in SHARES]
        ours = [done[name].figure("mpjpe") if name in done else math.nan for name in names]
        theirs = [row.figures["mpjpe"] if (row := published(name)) else math.nan for name in names]
        if not all(map(math.isnan, ours)):
            axes.plot(ours, "o-", color=colour, label=f"{title}, ours")
        axes.plot(theirs, "D--", color=colour, alpha=0.55, markersize=4, label=f"{title}, published")
    axes.set_xticks(range(len(SHARES)), [share[0].replace(" of ", "\nof ") for share in SHARES.values()])
    axes.set_xlabel("labelled")
    _finish(axes, "y", "MPJPE (mm)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", frameon=False)
    return figure


def _training(results: Results, folder: Path) -> Figure | None:
    curves = {run: _curve(folder / "runs" / run / "log.csv") for run in results.runs}
    curves = {run: values for run, values in curves.items() if values}
    if not curves:
        return None
    across = min(_CURVES_ACROSS, len(curves))
    down = -(-len(curves) // across)
    figure = Figure(figsize=(2.9 * across, 2.1 * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (run, values) in zip(grid, curves.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, "." if len(values) == 1 else "-", color=_OURS)
        axes.set_title(run, fontsize="small")
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0.5, len(values) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("epoch", fontsize="small")
    figure.supylabel("MPJPE (mm)", fontsize="small")
    return figure


def _curve(log: Path) -> list[float]:
    """MPJPE on test subjects after each epoch; empty without a log."""
    if not log.is_file():
        return []
    with log.open(newline="", encoding="utf-8") as file:
        return [float(row["test_mpjpe"]) for row in csv.DictReader(file) if row.get("test_mpjpe")]


def _finish(axes: Axes, grid: str, label: str) -> None:
    axes.grid(axis="x" if grid == "x" else "y", alpha=0.3)
    axes.set_axisbelow(True)
    if grid == "x":
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
    else:
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
