"""Progress display of a batch: a bar for each running video and one for the whole batch.

Where stderr is no terminal, one line per video.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from vp3d_cli.cli.common import clock, printable
from vp3d_cli.cli.progress import TITLES
from vp3d_cli.jobs.loop import Listener
from vp3d_cli.jobs.plan import RENDER, BatchItem
from vp3d_cli.jobs.report import FAILED, SKIPPED, BatchRow

# Share of a video's time that each stage takes, about: without and with a drawing.
_SHARES = {False: {"detect": 0.97, "lift": 0.03}, True: {"detect": 0.6, "lift": 0.02, "render": 0.38}}
# Characters of a line: what a video is at ("finding people 1234/5678"), two times, and the gaps between five columns.
_STATE_WIDTH = 26
_FIXED_WIDTH = _STATE_WIDTH + 2 * len("0:00:00") + 4
_NAME_WIDTH, _BAR_WIDTH = 36, 24  # at most; what is there is shared out between them
_LEAST_WIDTH = 6
_SPEED_WINDOW_S = 300.0  # videos differ: the time left is told from the speed over some of them


class _WholeElapsedColumn(TimeElapsedColumn):
    """Time since the batch began; nothing for its videos."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("whole") else Text("")


class BatchDisplay(Listener):
    """Listens to a batch and shows it on stderr; a context manager."""

    def __init__(self, quiet: bool) -> None:
        """Show nothing at all if ``quiet``."""
        self._quiet = quiet
        self._bars: dict[int, TaskID] = {}
        self._whole: TaskID | None = None
        self._done = self._failed = self._settled = self._total = 0
        self._bytes_total = self._bytes_settled = self._bytes_worked = 0
        self._parts: dict[int, float] = {}  # bytes of running videos that are through, about
        self._began = time.monotonic()
        console = Console(stderr=True)
        self._name_width, bar_width = widths(console.width)
        self._progress = (
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=bar_width),
                TextColumn("{task.fields[state]}", markup=False),
                _WholeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                speed_estimate_period=_SPEED_WINDOW_S,
            )
            if console.is_terminal and not quiet
            else None
        )

    def __enter__(self) -> BatchDisplay:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop drawing."""
        if self._progress is not None:
            self._progress.stop()

    def count(self) -> str:
        """Text with the numbers of finished and failed videos."""
        return f"{self._done} of {self._total} videos done, {self._failed} failed"

    def loading(self) -> None:
        """Print that the models are being loaded."""
        self._say("loading models ...")

    def planned(self, todo: Sequence[BatchItem], settled: Sequence[BatchRow], jobs: int, threads: int) -> None:
        """Print the planned work and start the timer."""
        self._total = len(todo) + len(settled)
        self._settled = len(settled)
        skipped = sum(row.status == SKIPPED for row in settled)
        self._done, self._failed = skipped, sum(row.status == FAILED for row in settled)
        self._bytes_total = sum(max(1, item.input.size) for item in todo)
        self._began = time.monotonic()
        workers = f"{jobs} at a time, {threads} {'thread' if threads == 1 else 'threads'} each"
        self._say(f"{len(todo)} {'video' if len(todo) == 1 else 'videos'} to do, {workers}; {skipped} done before")
        if self._progress is not None and todo:
            self._whole = self._progress.add_task("all", total=self._bytes_total, state=self._state(), whole=True)

    def started(self, item: BatchItem) -> None:
        """Add a bar."""
        self._parts[id(item)] = 0.0
        if self._progress is not None:
            name = printable(str(item.input.place))
            short = name if len(name) <= self._name_width else f"…{name[1 - self._name_width :]}"
            self._bars[id(item)] = self._progress.add_task(short.ljust(self._name_width), total=1.0, state="")

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        """Move its bar, and that of the whole."""
        if stage not in TITLES:
            return
        part = fraction(stage, done, total, RENDER in item.targets)
        self._parts[id(item)] = part * max(1, item.input.size)
        if self._progress is not None and id(item) in self._bars:
            state = f"{TITLES[stage]} {done}/{'?' if total is None else total}"
            self._progress.update(self._bars[id(item)], completed=part, state=state.ljust(_STATE_WIDTH))
            self._move_whole()

    def postponed(self, item: BatchItem, reason: str) -> None:
        """Print why an attempt failed."""
        self._forget(item)
        self._say(f"{item.input.place}: {reason}; tried again later")

    def ended(self, item: BatchItem, row: BatchRow) -> None:
        """Remove the video's bar and print its result."""
        self._forget(item)
        self._bytes_settled += max(1, item.input.size)
        self._settled += 1
        if row.status == FAILED:
            self._failed += 1
        else:
            self._done += 1
            self._bytes_worked += max(1, item.input.size)
        self._move_whole()
        rate = "" if row.frames_per_second is None else f", {row.frames} frames, {row.frames_per_second:.1f} frames/s"
        what = f"{row.status}: {row.reason}" if row.reason else f"{row.status}{rate}"
        left = "" if self._progress is not None or self._settled == self._total else f"; {self._time_left()} left"
        self._say(f"[{self._settled}/{self._total}] {item.input.place}: {what}{left}")

    def _forget(self, item: BatchItem) -> None:
        self._parts.pop(id(item), None)
        bar = self._bars.pop(id(item), None)
        if self._progress is not None and bar is not None:
            self._progress.remove_task(bar)

    def _move_whole(self) -> None:
        if self._progress is not None and self._whole is not None:
            through = self._bytes_settled + sum(self._parts.values())
            self._progress.update(self._whole, completed=through, state=self._state())

    def _state(self) -> str:
        return f"{self._settled}/{self._total} videos" + (f", {self._failed} failed" if self._failed else "")

    def _time_left(self) -> str:
        running = sum(self._parts.values())
        left = self._bytes_total - self._bytes_settled - running
        worked = self._bytes_worked + running  # what failed says nothing about how long a video takes
        return clock((time.monotonic() - self._began) * left / worked) if worked else "unknown time"

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        line = printable(line)
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def widths(console: int) -> tuple[int, int]:
    """Widths in characters of a video's name and of its bar, for the width of the console.

    The rest of the line is fixed.
    """
    room = console - _FIXED_WIDTH
    bar = min(_BAR_WIDTH, max(_LEAST_WIDTH, room // 3))
    return min(_NAME_WIDTH, max(_LEAST_WIDTH, room - bar)), bar


def fraction(stage: str, done: int, total: int | None, drawn: bool) -> float:
    """Progress of a video, 0..1, by its current stage."""
    shares = _SHARES[drawn]
    before = 0.0
    for name, share in shares.items():
        if name == stage:
            return before + share * (min(1.0, done / total) if total else 0.0)
        before += share
    return 0.0
