"""Call a function on several things at once, each in a process of its own that dies with this one."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from vp3d_cli.errors import MissingDependencyError, Vp3dError
from vp3d_cli.runtime.processes import cause_of_death, command_line, granted_threads, thread_environment, usable_cores

STOP = b"s"  # on standard input: keep what was found so far, and end
_PATIENCE_S = 1.2
_KEEPING_S = 15.0  # for that: on a CPU big detectors take some seconds for what they are at

Report = Callable[[str, int, int | None], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Call:
    """A process at work."""

    number: int
    process: subprocess.Popen[bytes]
    answers: Connection

    def end(self) -> None:
        """End it if it has not ended by itself."""
        self.process.terminate()
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.answers.close()


def run_in_processes(
    function: Callable[[T, Report], R], tasks: Sequence[T], sizes: Sequence[int], report: Report
) -> list[R]:
    """``function(task, report)`` for each task, as many at a time as there are cores, the cores shared out as threads.

    Args:
        function: of a module; it, the tasks and its results are pickled.
        tasks: what to call it with.
        sizes: how much there is to do in each task, in what it reports as done.
        report: called with the stage, all that is done, and the sum of the sizes.

    Returns:
        The results, in order.

    Raises:
        Vp3dError: raised by the function, or a process died. In the others ``report`` then raises StoppedError, so
            that the function can keep what it has; so it does on Ctrl-C.
    """
    cores = own_cores()
    jobs = max(1, min(cores, len(tasks)))
    waiting = list(reversed(range(len(tasks))))
    calls: dict[Any, _Call] = {}
    done = [0] * len(tasks)
    results: dict[int, R] = {}
    try:
        while waiting or calls:
            while waiting and len(calls) < jobs:
                call = _begin(function, tasks[waiting[-1]], waiting.pop(), max(1, cores // jobs))
                calls[call.answers] = call
            for ready in wait(list(calls)):
                call = calls[ready]
                kind, value = _answer(call)
                if kind == "progress":
                    stage, done[call.number] = value
                    report(stage, min(sum(done), sum(sizes)), sum(sizes))
                elif kind == "failed":
                    raise value
                else:
                    results[call.number] = value
                    done[call.number] = sizes[call.number]
                    calls.pop(ready).end()
    except (Vp3dError, KeyboardInterrupt):
        _stop(list(calls.values()))  # a second Ctrl-C does not wait for them
        raise
    finally:
        for call in calls.values():
            call.process.terminate()
        for call in calls.values():
            call.end()
    return [results[number] for number in range(len(tasks))]


def _stop(calls: Sequence[_Call]) -> None:
    """Let processes keep what they have found, and wait until they have."""
    for call in calls:
        with contextlib.suppress(OSError):  # it has ended
            assert call.process.stdin is not None
            call.process.stdin.write(STOP)
    busy = [call.answers for call in calls]
    until = time.monotonic() + _KEEPING_S
    while busy and time.monotonic() < until:
        for ready in wait(busy, until - time.monotonic()):
            assert isinstance(ready, Connection)
            try:
                ended = ready.recv()[0] != "progress"
            except (EOFError, OSError, pickle.UnpicklingError):  # Ctrl-C may come in the middle of an answer
                ended = True
            if ended:
                busy.remove(ready)


def own_cores() -> int:
    """Cores that this process may use: ``OMP_NUM_THREADS``, which a batch sets for its workers, else all."""
    return min(usable_cores(), granted_threads() or sys.maxsize)


def _begin(function: Callable[..., Any], task: Any, number: int, threads: int) -> _Call:
    if sys.platform == "win32":
        raise MissingDependencyError("--segment needs Linux or macOS; on Windows run it in WSL")
    answers, theirs = Pipe(duplex=False)
    try:
        process = subprocess.Popen(
            command_line("vp3d_cli.pipeline.chunk_worker", [str(theirs.fileno()), str(threads)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            env={**os.environ, **thread_environment(threads)},
        )
    finally:
        theirs.close()
    call = _Call(number, process, answers)
    try:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((function, task)))  # it stays open: its end tells the process that we died
    except BrokenPipeError:
        pass  # the process has died, which reading its answers will tell
    except BaseException:
        call.end()
        raise
    return call


def _answer(call: _Call) -> tuple[str, Any]:
    try:
        kind, value = call.answers.recv()
    except EOFError:
        reason = cause_of_death(call.process.wait())
        raise Vp3dError(f"part {call.number + 1} of the video: {reason}; run again, or without --segment") from None
    return kind, value
