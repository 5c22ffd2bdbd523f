"""Room for one video on a cluster, which the batch takes for a worker; and who else hears of tasks."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from vp3d_cli.jobs.messages import Order

_READ_BYTES = 1 << 16


class Receiver(Protocol):
    """Hears what comes of a task: a :class:`Slot`, or a share of its video.

    Attributes:
        owner: the slot.
    """

    @property
    def owner(self) -> Slot: ...

    def tell(self, report: dict[str, Any]) -> None:
        """Progress of the task, or that it has failed; called in any thread."""
        ...

    def finish(self, reports: Sequence[dict[str, Any]]) -> None:
        """All that the task returned."""
        ...

    def end(self, reason: str, blameless: bool = False) -> None:
        """Nothing will come of the task."""
        ...

    def elsewhere(self, reason: str) -> None:
        """The machine that had the task cannot do it; another one may."""
        ...


class Slot:
    """Room for one video on the cluster.

    Attributes:
        name: for unfinished files.
        ready: always: it is dask that waits for a machine.
        blameless: it has ended because the cluster did.
        ended: no more reports will come.
    """

    def __init__(self, name: str, submit: Callable[[Slot, Order], None], ready: Mapping[str, Any]) -> None:
        """Nothing is submitted yet.

        Args:
            name: that no other slot has.
            submit: hands an order to the cluster.
            ready: the first report.
        """
        self.name = name
        self.ready = self.blameless = self.ended = False
        self._submit = submit
        self._reports: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        self._lock = threading.Lock()
        self._closed = False
        self._words = self._end = ""
        self.tell(dict(ready))

    @property
    def owner(self) -> Slot:
        """It hears of its tasks itself."""
        return self

    def fileno(self) -> int:
        """What to wait on for reports."""
        return self._bell

    def give(self, order: Order) -> None:
        """Submit a video."""
        self._words = ""
        self._submit(self, order)

    def tell(self, report: dict[str, Any] | None) -> None:
        """Add a report, from any thread; None is the last."""
        with self._lock:
            if not self._closed:
                self._reports.put(report)
                with contextlib.suppress(BlockingIOError):  # it has rung often enough
                    os.write(self._ring, b"!")

    def finish(self, reports: Sequence[dict[str, Any]]) -> None:
        """Add all that a task returned."""
        for report in reports:
            if report["event"] == "lost":
                self._words = report["words"]
                self.end(report["reason"])
            else:
                self._words = report.get("words", self._words)
                self.tell(report)

    def end(self, reason: str, blameless: bool = False) -> None:
        """No more reports will come."""
        self._end, self.blameless, self.ended = reason, blameless, True
        self.tell(None)

    def elsewhere(self, reason: str) -> None:
        """The machine that had the video cannot do it."""
        self.end(reason, blameless=True)

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Reports that have come, and whether these were the last."""
        reports: list[dict[str, Any]] = []
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, _READ_BYTES)
        with contextlib.suppress(queue.Empty):
            while True:
                report = self._reports.get_nowait()
                if report is None:
                    return reports, True
                reports.append(report)
        return reports, False

    def words(self) -> str:
        """What the process that had the video wrote to standard error."""
        return self._words

    def how_it_ended(self) -> str:
        """Why there are no more reports."""
        return self._end

    def show_where_it_hangs(self) -> None:
        """The machine that has the video sees to that."""

    def close(self) -> None:
        """Let go."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._bell)
                os.close(self._ring)
