"""Start workers for a batch; the first one tells what the models are, and then works like the others."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vp3d_cli import errors
from vp3d_cli.batch.messages import Setup
from vp3d_cli.batch.pool import Worker, cause_of_death, end_all
from vp3d_cli.errors import Vp3dError

LOADING_S = 600.0  # importing torch and reading weights from a slow network disk
_END_S = 1.2
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class Staff:
    """Starts workers, all alike.

    Attributes:
        gpus: on which all networks run, one worker each; 0 where one runs on the CPU.
        identity: what results depend on beside the settings, once a worker has loaded the models.
    """

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

    def give_threads(self, threads: int) -> None:
        """Have workers use so many threads; the first one is replaced if it has another number."""
        if threads != self._setup.threads:
            self.dismiss()
            self._setup = replace(self._setup, threads=threads)

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
