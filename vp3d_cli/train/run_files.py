"""Files of a training run (state, log, learning curve), and the request to stop."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from vp3d_cli.errors import InputError

# Columns of the log that are not errors; the learning curve leaves them out.
NOT_PLOTTED = ("step", "loss", "score", "seconds", "data_share")
# Unit of an error, by the last word of its column; all other errors are in millimetres.
_UNITS = {"root": "% of depth", "reprojection": "thousandths of the width"}


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one interrupts."""
    requested = False
    previous: dict[int, Any] = {}

    def handler(signum: int, frame: object) -> None:
        nonlocal requested
        requested = True
        restore()

    def restore() -> None:
        for number, old in previous.items():
            signal.signal(number, old)

    with contextlib.suppress(ValueError):  # signals can only be caught in the main thread
        for caught in (signal.SIGINT, signal.SIGTERM):
            previous[caught] = signal.signal(caught, handler)
    try:
        yield lambda: requested
    finally:
        restore()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save a training state with torch, atomically."""
    partial = path.with_name(path.name + ".part")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def copy_file(path: Path, target: Path) -> None:
    """Copy a file atomically."""
    partial = target.with_name(target.name + ".part")
    partial.write_bytes(path.read_bytes())
    os.replace(partial, target)


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Append a row to a CSV file; a new file gets a header first."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})


def plot_learning_curve(log: Path, out: Path) -> None:
    """Plot every error of ``log.csv`` against the training step.

    Args:
        log: written by :func:`vp3d_cli.train.loop.train`.
        out: PNG file to write.

    Raises:
        InputError: the log is missing, damaged or empty.
    """
    from matplotlib.figure import Figure

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
