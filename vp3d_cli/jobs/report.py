"""Outcomes of tasks, and the batch report: one row per video, as a table and a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vp3d_cli.jobs.storage import Place, write_bytes

DONE, SKIPPED, FAILED, LEFT = "done", "skipped", "failed", "not done"
_CSV_COLUMNS = (
    "video",
    "status",
    "reason",
    "seconds",
    "frames",
    "frames_per_second",
    "people",
    "attempts",
    "results",
    "warnings",
)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task.

    Attributes:
        value: what the task gives; see :mod:`vp3d_cli.jobs.task`.
        frames, people: of the video; None if not known.
        seconds: that it took.
        warnings: what the user should know, one sentence each.
        error: why it failed, on one line; empty if it did not.
        kind: name of the class of the exception.
        exit_code: of a command that ends with this error.
        retry: another attempt may succeed.
        stderr: where in the code it failed, for errors that are not the video's.
        input: what the video is known by; empty if it was not read to the end.
    """

    value: Any = None
    frames: int | None = None
    people: int | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str = ""
    kind: str = ""
    exit_code: int = 0
    retry: bool = False
    stderr: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchRow:
    """Outcome of one video.

    Attributes:
        video: its path.
        place: its path in the tree that the results mirror.
        status: ``done``, ``skipped`` (it was done before), ``failed``, or ``not done`` (the batch ended before).
        reason: why it failed or was left; empty otherwise.
        seconds: of work in this run, all attempts together; 0 for what was skipped.
        frames: in the result.
        frames_per_second: of the last attempt.
        people: found.
        attempts: in this run.
        results: files that are there and good.
        warnings: of the pipeline.
        stderr: the end of what a worker that died or hung wrote to standard error, or where in the code it failed.
        exit_code: of a command that ends with this failure; 0 where there is none.
    """

    video: str
    place: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    frames: int | None = None
    frames_per_second: float | None = None
    people: int | None = None
    attempts: int = 0
    results: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stderr: str = ""
    exit_code: int = 0


def write_report(rows: Sequence[BatchRow], folder: Place) -> None:
    """Write ``batch.csv`` into a folder, in place of an older one.

    Raises:
        OutputError: it cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_CSV_COLUMNS)
    for row in rows:
        values = {**asdict(row), "seconds": round(row.seconds, 3)}
        cells = [values[name] for name in _CSV_COLUMNS]
        table.writerow(["" if cell is None else "; ".join(cell) if isinstance(cell, tuple) else cell for cell in cells])
    write_bytes(folder / "batch.csv", text.getvalue().encode("utf-8", "surrogateescape"))


def failed_before(folder: Place) -> frozenset[str]:
    """The videos that failed in an earlier batch into a folder, by its report."""
    try:
        text = (folder / "batch.csv").read_bytes().decode("utf-8", "surrogateescape")
        return frozenset(row["video"] for row in csv.DictReader(io.StringIO(text)) if row["status"] == FAILED)
    except (OSError, KeyError, csv.Error):
        return frozenset()


def table_rows(rows: Sequence[BatchRow]) -> list[tuple[str, ...]]:
    """Cells to print, the header first."""
    cells: list[tuple[str, ...]] = [("video", "status", "frames", "seconds", "frames/s", "reason")]
    for row in rows:
        rate = "" if row.frames_per_second is None else f"{row.frames_per_second:.1f}"
        seconds = f"{row.seconds:.1f}" if row.attempts else ""
        frames = "" if row.frames is None else str(row.frames)
        cells.append((row.place, row.status, frames, seconds, rate, row.reason))
    return cells


def exit_code(rows: Sequence[BatchRow]) -> int:
    """0 if every video is done; the code that all failures share; else 1."""
    codes = {row.exit_code for row in rows if row.status in (FAILED, LEFT)}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1
