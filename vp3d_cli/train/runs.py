"""What every training run does: stop when asked to, keep its state, write its log."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop after the step; a second one is not caught."""
    asked = False
    previous: dict[int, Any] = {}

    def handler(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for number, old in previous.items():
            signal.signal(number, old)

    with contextlib.suppress(ValueError):  # not in the main thread: no signals to catch
        for caught in (signal.SIGINT, signal.SIGTERM):
            previous[caught] = signal.signal(caught, handler)
    try:
        yield lambda: asked
    finally:
        restore()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Save with torch, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def copy_file(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    partial = target.with_name(target.name + ".part")
    partial.write_bytes(path.read_bytes())
    os.replace(partial, target)


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file; the first one brings the header."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
