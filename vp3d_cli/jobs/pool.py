"""One worker process as the batch sees it: start it, give it a video, hear from it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vp3d_cli.jobs.messages import Order, Setup
from vp3d_cli.runtime.processes import cause_of_death, command_line, thread_environment

_READ_BYTES = 1 << 16
_TAIL_BYTES = 4000
_DUMP_S = 0.3  # for a worker to write where it hangs
_POLL_S = 0.02


class Worker:
    """A worker process.

    Attributes:
        name: of this process, for its unfinished files.
        process: the process.
        ready: it has loaded its models.
        blameless: whether its end says nothing about its video; that of a process always may.
    """

    blameless = False

    def __init__(self, name: str, setup: Setup, lock_handles: Sequence[int], environment: Mapping[str, str]) -> None:
        """Start it; it says ``ready`` when its models are loaded.

        Args:
            name: of this process.
            setup: what it is to do.
            lock_handles: to keep open in it.
            environment: variables beside those of the batch.
        """
        self.name = name
        self.ready = False
        self._unread = b""
        # A file, not a pipe: nobody need read along. In append mode, so that it can be emptied under the writer.
        self._stderr = tempfile.TemporaryFile("a+b")  # noqa: SIM115 (closed in close)
        try:
            self.process = subprocess.Popen(
                command_line("vp3d_cli.jobs.worker", [setup.to_json()]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                pass_fds=tuple(lock_handles),
                start_new_session=True,  # Ctrl-C is for the batch, which then ends its workers
                env={**os.environ, **thread_environment(setup.threads), **environment},
            )
        except BaseException:
            self._stderr.close()
            raise
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._orders, self._reports = self.process.stdin, self.process.stdout

    def fileno(self) -> int:
        """What to wait on for reports."""
        return self._reports.fileno()

    def give(self, order: Order) -> None:
        """Hand over a video. Should the worker have died, its reports end, which says so."""
        self._stderr.truncate(0)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders.fileno(), order.to_json().encode() + b"\n")

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Reports that have come, waiting for the first; and whether these were the last."""
        data = os.read(self.fileno(), _READ_BYTES)
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines], not data

    def words(self) -> str:
        """The end of what it wrote to standard error since it got its video."""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _TAIL_BYTES))
        return self._stderr.read().decode("utf-8", "replace").strip()

    def how_it_ended(self) -> str:
        """How the process ended, in words; waits for its end."""
        return cause_of_death(self.process.wait())

    def show_where_it_hangs(self) -> None:
        """Have it write the traceback of each thread to standard error."""
        self._signal(signal.SIGUSR1)
        time.sleep(_DUMP_S)

    def dismiss(self) -> None:
        """Let an idle worker end by itself."""
        with contextlib.suppress(OSError):
            self._orders.close()

    def ask_to_end(self) -> None:
        """Have it stop its video, tidy up and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and the programs that it has started, at once."""
        family = _descendants(self.process.pid)
        with contextlib.suppress(OSError):
            self.process.kill()
        for number in family:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Let go of a process that has ended."""
        self.process.wait()
        for pipe in (self._orders, self._reports, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            self.process.send_signal(number)


def end_all(workers: Iterable[Worker], patience_s: float) -> None:
    """End workers: ask all, wait, and kill those that do not hear."""
    left = list(workers)
    for worker in left:
        worker.ask_to_end()
    until = time.monotonic() + patience_s
    while left and time.monotonic() < until:
        left = [worker for worker in left if worker.process.poll() is None]
        if left:
            time.sleep(_POLL_S)
    for worker in left:
        worker.kill()


def _descendants(number: int) -> list[int]:
    """Processes that a process has started, and theirs; none where the system does not say."""
    found: list[int] = []
    for listing in Path(f"/proc/{number}/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in listing.read_text(encoding="ascii").split():
                found += [int(child), *_descendants(int(child))]
    return found
