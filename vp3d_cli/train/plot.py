"""The learning curve of a run, from its log."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure

from vp3d_cli.errors import InputError

# Columns of the log that are no error.
NOT_PLOTTED = ("step", "loss", "score", "seconds", "data_share")
# What errors are measured in, by the end of a column's name; the others are in millimetres.
_UNITS = {"root": "% of depth", "reprojection": "thousandths of the width"}


def plot_learning_curve(log: Path, out: Path) -> None:
    """Draw every error of ``log.csv`` over the steps.

    Args:
        log: written by :func:`vp3d_cli.train.loop.train`.
        out: PNG to write.

    Raises:
        InputError: there is no such log, or it is empty.
    """
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{log} is not the log of a training run: {error}") from error
    if not rows:
        raise InputError(f"{log} has no rows yet")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [row["step"] for row in rows]
    for name in rows[0]:
        if name not in NOT_PLOTTED:
            axes.plot(steps, [row[name] for row in rows], label=_label(name))
    axes.set_xlabel("step")
    axes.set_ylabel("error")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)


def _label(column: str) -> str:
    return f"{column.replace('_', ', ')} ({_UNITS.get(column.rpartition('_')[2], 'mm')})"
