"""What came of a batch: a row for each video, as a table and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from vp3d_cli.io.atomic import replacing
from vp3d_cli.jobs.remote import Place, Url, write

DONE, SKIPPED, FAILED, LEFT = "done", "skipped", "failed", "not done"
_CSV_COLUMNS = ("video", "status", "reason", "seconds", "frames", "frames_per_second", "people", "attempts", "results")


@dataclass(frozen=True)
class BatchRow:
    """What came of one video.

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
        stderr: the end of what a worker that died or hung, or met with an error of ours, wrote to standard error.
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
    exit_code: int = field(default=0)


def write_report(rows: Sequence[BatchRow], folder: Place) -> None:
    """Write ``batch.jsonl`` (everything) and ``batch.csv`` (a table) into a folder, in place of older ones.

    Raises:
        OutputError: they cannot be written.
    """
    lines = [json.dumps(asdict(row), ensure_ascii=False) for row in rows]
    _write(folder / "batch.jsonl", "".join(f"{line}\n" for line in lines))
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_CSV_COLUMNS)
    for row in rows:
        values = {**asdict(row), "results": ";".join(row.results), "seconds": round(row.seconds, 3)}
        table.writerow(["" if values[name] is None else values[name] for name in _CSV_COLUMNS])
    _write(folder / "batch.csv", text.getvalue())


def _write(place: Place, text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")
    if isinstance(place, Url):
        write(place, content)
        return
    with replacing(place, overwrite=True) as file:
        file.write(content)


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
