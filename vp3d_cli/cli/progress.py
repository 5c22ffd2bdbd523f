"""Progress bars for the stages, and the summary at the end; both are printed to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vp3d_cli.cli.common import clock, format_table

if TYPE_CHECKING:
    from vp3d_cli.pipeline.summary import Summary

TITLES = {"bench": "measuring", "detect": "finding people", "lift": "lifting to 3D", "render": "drawing"}
LOG_INTERVAL_S = 15.0  # between two lines of one stage where stderr is a file


class _RateColumn(ProgressColumn):
    """Column with the frames (or other units) done, the total, and the rate."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:.0f}"
        speed = task.finished_speed or task.speed
        rate = "" if speed is None else f"{speed:6.3g} {self._unit}/s"
        return Text(f"{task.completed:6.0f}/{total:<6s} {rate:>16s}")


class StageProgress:
    """Shows the progress of each stage; pass it as ``progress`` to :func:`vp3d_cli.pipeline.api.infer`.

    Bars with rate and time left on a terminal; elsewhere a line when a stage begins, every 15 seconds, and when it
    ends; nothing at all with ``quiet``. A context manager.

    Args:
        quiet: show nothing.
        unit: what is counted.
    """

    def __init__(self, quiet: bool = False, unit: str = "frames") -> None:
        self._quiet = quiet
        self._unit = unit
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, _LoggedStage] = {}
        console = Console(stderr=True)
        self._bars = (
            Progress(
                TextColumn("{task.description:14s}"),
                BarColumn(bar_width=28),
                _RateColumn(unit),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
            )
            if console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> StageProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` frames (None if not known) have passed ``stage``."""
        if self._quiet:
            return
        if self._bars is None:
            self._stages.setdefault(stage, _LoggedStage(TITLES.get(stage, stage), self._unit)).report(done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(TITLES.get(stage, stage), total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


class _LoggedStage:
    """Progress of one stage without a terminal: a line at its start, every 15 seconds, and at its end."""

    def __init__(self, title: str, unit: str) -> None:
        self._title = title
        self._unit = unit
        self._first: tuple[float, int] | None = None  # time and frames of the first report
        self._printed = time.monotonic()
        self._ended = False

    def report(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
            print(f"{self._title} ...", file=sys.stderr, flush=True)
        ends = total is not None and done >= total
        if self._ended or not (ends or now - self._printed >= LOG_INTERVAL_S):
            return
        self._printed, self._ended = now, ends
        parts = [f"{done}/{'?' if total is None else total} {self._unit}"]
        seconds, frames = now - self._first[0], done - self._first[1]
        if seconds > 0 and frames > 0:
            parts.append(f"{frames / seconds:.3g} {self._unit}/s")
            if total is not None and not ends:
                parts.append(f"{clock((total - done) * seconds / frames)} left")
        print(f"{self._title}: {', '.join(parts)}", file=sys.stderr, flush=True)


def format_summary(name: str, summary: Summary) -> str:
    """Format the summary of a video: a heading, and a table with a row for each person.

    Args:
        name: of the video.
        summary: from :func:`vp3d_cli.pipeline.summary.summarize`.
    """
    people = "1 person" if len(summary.people) == 1 else f"{len(summary.people)} people"
    heading = f"{name}: {people} in {summary.frames} {'frame' if summary.frames == 1 else 'frames'}"
    if summary.seconds is not None and summary.frames_per_second is not None:
        heading += f", {summary.seconds:.1f} s of work, {summary.frames_per_second:.1f} frames/s"
    rows: list[tuple[str, ...]] = [("person", "seen", "frames filled in", "mean confidence")]
    for p in summary.people:
        rows.append((str(p.person_id), f"{p.seconds_seen:.1f} s", str(p.frames_filled), f"{p.mean_confidence:.2f}"))
    return heading + "\n" + format_table(rows, right=(0, 1, 2, 3))
