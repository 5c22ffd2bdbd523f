"""Start workers for a batch; the first one tells what the models are, and then works like the others.

A batch sees workers as :class:`Hand`, and who starts and ends them as :class:`Crew`: here processes of this machine
(:class:`Staff`), in ``cluster.py`` those of a cluster.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from vp3d_cli import errors
from vp3d_cli.errors import Vp3dError
from vp3d_cli.jobs.cores import choose_jobs, free_bytes
from vp3d_cli.jobs.messages import Order, Setup
from vp3d_cli.jobs.pool import Worker, end_all
from vp3d_cli.runtime.processes import cause_of_death, usable_cores

LOADING_S = 600.0  # importing torch and reading weights from a slow network disk
_END_S = 1.2
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Hand(Protocol):
    """A worker as the batch sees it; see :class:`vp3d_cli.jobs.pool.Worker`.

    Attributes:
        name: that no other one has, for its unfinished files.
        ready: it takes orders.
        blameless: it has ended for a reason that has nothing to do with its video.
    """

    name: str
    ready: bool
    blameless: bool

    def fileno(self) -> int:
        """What to wait on for reports."""
        ...

    def give(self, order: Order) -> None:
        """Hand over a video."""
        ...

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Reports that have come, and whether these were the last."""
        ...

    def words(self) -> str:
        """The end of what it wrote to standard error since it got its video."""
        ...

    def how_it_ended(self) -> str:
        """Why there are no more reports, in words."""
        ...

    def show_where_it_hangs(self) -> None:
        """Have it write the traceback of each thread to standard error."""
        ...

    def close(self) -> None:
        """Let go of one that has ended."""
        ...


HandType = TypeVar("HandType", bound=Hand)


class Crew(Protocol[HandType]):
    """Who starts and ends workers.

    Attributes:
        identity: what results depend on beside the settings; known once :meth:`load` has returned.
        capacity: workers that there is room for now.
        check_every_s: how often :meth:`check` wants to be called; None where it need not be.
        keeps_time: whether it ends videos that take too long by itself.
    """

    @property
    def identity(self) -> Mapping[str, str]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def check_every_s(self) -> float | None: ...
    @property
    def keeps_time(self) -> bool: ...

    def load(self) -> None:
        """Wait until somebody has loaded the models. Raises what that raises."""
        ...

    def size(self, videos: int, jobs: int | None, threads: int | None) -> tuple[int, int]:
        """Workers for so many videos, and threads of each, as the user wants it or as is best; threads are set."""
        ...

    def hire(self, number: int) -> HandType:
        """A worker, which may still be loading its models; its number is its own."""
        ...

    def welcome(self, worker: HandType, report: Mapping[str, Any]) -> None:
        """A worker says that it is ready. Raises Vp3dError if its models are not those of the others."""
        ...

    def check(self) -> None:
        """See whether work can go on. Raises Vp3dError if not."""
        ...

    def end(self, workers: Sequence[HandType], patience_s: float) -> None:
        """End workers: ask, wait, and kill those that do not hear."""
        ...

    def dismiss(self) -> None:
        """Let go of whoever was not hired."""
        ...


class Staff:
    """Starts worker processes on this machine, all alike.

    Attributes:
        gpus: on which all networks run, one worker each; 0 where one runs on the CPU.
        identity: what results depend on beside the settings, once a worker has loaded the models.
    """

    capacity = sys.maxsize
    check_every_s = None
    keeps_time = False

    def __init__(self, setup: Setup, lock_handles: Sequence[int] = ()) -> None:
        """Nothing is started yet.

        Args:
            setup: what workers are told.
            lock_handles: to keep open in them.
        """
        self.gpus = 0
        self.identity: Mapping[str, str] = {}
        self._setup, self._lock_handles = setup, tuple(lock_handles)
        self._first: Worker | None = None

    def hire(self, number: int) -> Worker:
        """A worker, which may still be loading its models.

        Args:
            number: that no other worker of this batch has.
        """
        if self._first is not None:
            worker, self._first = self._first, None
            return worker
        return Worker(f"{os.getpid()}-{number}", self._setup, self._lock_handles, _environment(number, self.gpus))

    def welcome(self, worker: Worker, report: Mapping[str, Any]) -> None:
        """A worker says that it is ready.

        Raises:
            Vp3dError: its models are not those of the others.
        """
        if self.identity and report["identity"] != self.identity:
            raise Vp3dError("the weights, or vp3d itself, were changed while the batch ran; run the same command again")
        self.identity, self.gpus = report["identity"], report["gpus"]
        worker.ready = True

    def load(self) -> None:
        """Start the first worker, and wait until it has loaded the models.

        Raises:
            Vp3dError: as loading them raises, or the worker died.
        """
        self._first = worker = self.hire(0)
        while not worker.ready:
            if not select.select([worker], [], [], LOADING_S)[0]:
                raise workers_die(f"it did not finish loading in {LOADING_S:g} s", worker.words())
            reports, last = worker.read()
            for report in reports:
                if report["event"] != "ready":
                    raise error_of(report)
                self.welcome(worker, report)
            if last:
                raise workers_die(cause_of_death(worker.process.wait()), worker.words())

    def size(self, videos: int, jobs: int | None, threads: int | None) -> tuple[int, int]:
        """Workers and threads, by the cores, memory and GPUs; the first worker is replaced if it has another number."""
        jobs, threads = choose_jobs(
            videos, cores=usable_cores(), free=free_bytes(), gpus=self.gpus, jobs=jobs, threads=threads
        )
        if threads != self._setup.threads:
            self.dismiss()
            self._setup = replace(self._setup, threads=threads)
        return jobs, threads

    def check(self) -> None:
        """Processes of this machine need no looking after."""

    def end(self, workers: Sequence[Worker], patience_s: float) -> None:
        """End processes: ask all, wait, and kill those that do not hear."""
        end_all(workers, patience_s)

    def dismiss(self) -> None:
        """End the first worker, unless it was hired."""
        if self._first is not None:
            end_all([self._first], _END_S)
            self._first.close()
            self._first = None


def error_of(report: Mapping[str, Any]) -> Vp3dError:
    """The exception that a worker reports."""
    kind = getattr(errors, report["error"], Vp3dError)
    return kind(report["message"]) if issubclass(kind, Vp3dError) else Vp3dError(report["message"])


def workers_die(reason: str, words: str) -> Vp3dError:
    """What to raise when workers do not get as far as their first video."""
    last = words.splitlines()[-1] if words else "it wrote nothing to stderr"
    return Vp3dError(f"no worker could load the models: {reason}; {last}")


def _environment(number: int, gpus: int) -> dict[str, str]:
    """One GPU for each worker, out of those that the user lets us see."""
    if gpus < 2:
        return {}
    visible = os.environ.get(_VISIBLE, ",".join(map(str, range(gpus)))).split(",")
    return {_VISIBLE: visible[number % len(visible)]}
