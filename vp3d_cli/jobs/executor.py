"""Task executors: worker processes of this machine, or a thread of this process.

The loop in :mod:`vp3d_cli.jobs.run` sees them, and a cluster (:mod:`vp3d_cli.jobs.cluster`), as a
:class:`TaskExecutor`, which gives futures of :mod:`concurrent.futures`.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vp3d_cli.errors import Vp3dError
from vp3d_cli.runtime.processes import cause_of_death, granted_threads, thread_environment, usable_cores

if TYPE_CHECKING:
    from vp3d_cli.io.detections import Detections
    from vp3d_cli.pipeline.chunks import Chunk
    from vp3d_cli.pipeline.detection import Progress

POLL_S = 0.2
_REPORT_EVERY_S = 0.2
_WORKER_BYTES = 1 << 30  # what a worker takes at 1080p, with some air
_MOST_BREAKS = 3  # of all workers in a row, before one has begun with a task
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Of two processes to kill when memory runs out, the kernel should take the worker: it is replaced, the batch is not.
_OOM_SCORE = 500
_END_S = 1.0  # for a worker to end when it is asked to
_DUMP_S = 0.3  # for a worker to write where it hangs
_TAIL_BYTES = 4000
_VISIBLE = "CUDA_VISIBLE_DEVICES"

Message = dict[str, Any]  # ``task``, ``event``, and what belongs to it; see :class:`Reporter`
Task = Callable[..., Any]  # called with its arguments and a Reporter


class Reporter:
    """Reports the progress of a task to the batch, a few times a second.

    Pass it as ``progress``.

    Attributes:
        frames: that the furthest stage has reached.
    """

    def __init__(self, send: Callable[[Message], None], every_s: float = _REPORT_EVERY_S) -> None:
        """Send with a function."""
        self._send, self._every_s, self.frames = send, every_s, 0
        self._stage, self._sent = "", float("-inf")

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that ``done`` frames have passed a stage."""
        now, self.frames = time.monotonic(), max(self.frames, done)
        if stage != self._stage or now - self._sent >= self._every_s:
            self._stage, self._sent = stage, now
            self.event("progress", stage=stage, done=done, total=total)

    def event(self, event: str, **facts: Any) -> None:
        """Report something else."""
        self._send({"event": event, **facts})


class Failure(NamedTuple):
    """Why a future failed: the error, the worker's stderr, and whether the task caused it."""

    reason: str
    stderr: str = ""
    to_blame: bool = True


class TaskExecutor:
    """Runs up to ``capacity`` tasks at a time, with ``threads`` threads per worker.

    Attributes:
        begins_at_once: no task waits for a worker, as long as there are no more than the capacity.
    """

    capacity: int = 1
    threads: int = 1
    begins_at_once: bool = True

    def __init__(self) -> None:
        """No task yet."""
        self.inbox: deque[Message] = deque()

    def submit(self, task: str, function: Task, *arguments: Any) -> Future[Any]:
        """Submit ``function(*arguments, reporter)``; ``task`` is its name in messages."""
        raise NotImplementedError

    def messages(self) -> list[Message]:
        """Return the events that tasks have reported since the last call."""
        return [self.inbox.popleft() for _ in range(len(self.inbox))]

    def stop(self, task: str, future: Future[Any]) -> str:
        """Stop a task that hangs, if possible, and return the end of its stderr."""
        future.cancel()
        return ""

    def explain(self, task: str, error: BaseException) -> Failure:
        """Why a future has failed."""
        return Failure(f"unexpected {type(error).__name__}: {error}")

    def recover(self) -> None:
        """Continue after a failure that no task caused.

        Raises Vp3dError if that is not possible.
        """

    def check(self) -> None:
        """Check whether work can go on. Raises Vp3dError if not."""

    def close(self) -> None:
        """Stop all workers, also those with a running task."""


class InlineExecutor(TaskExecutor):
    """Runs one task at a time in a thread of this process.

    For stores that other processes cannot see (``memory://``).
    """

    def __init__(self) -> None:
        """No task yet."""
        super().__init__()
        self._pool = ThreadPoolExecutor(1, "vp3d-task")

    def submit(self, task: str, function: Task, *arguments: Any) -> Future[Any]:
        """Submit the function to the thread."""
        reporter = Reporter(lambda message: self.inbox.append({"task": task, **message}))
        return self._pool.submit(function, *arguments, reporter)

    def close(self) -> None:
        """Wait for the task that runs."""
        self._pool.shutdown(cancel_futures=True)


class LocalExecutor(TaskExecutor):
    """Runs tasks in worker processes; a task that dies or is stopped does not affect others.

    Linux kills them with this process; elsewhere they notice within a second that it has gone.
    """

    def __init__(self, jobs: int, threads: int, gpus: int = 0, scratch: Path | None = None) -> None:
        """Start workers.

        Args:
            jobs: processes.
            threads: of numerical libraries in each.
            gpus: each worker sees one of them; 0 where they are not used.
            scratch: a folder for their temporary files.
        """
        super().__init__()
        self.capacity, self.threads, self._gpus = jobs, threads, gpus
        self._logs = tempfile.TemporaryDirectory(prefix="vp3d-logs-")
        # Set here, as libraries look when they are loaded. Nothing is imported from the current folder.
        environment = {**thread_environment(threads), "PYTHONSAFEPATH": "1"}
        environment |= {} if scratch is None else {"TMPDIR": str(scratch)}
        self._before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self._processes: set[int] = set()
        self._at: dict[str, int] = {}  # task to the process that does it
        self._breaks = 0
        self._start()

    def _start(self) -> None:
        import pebble

        pebble.CONSTS.term_timeout = _END_S
        context = multiprocessing.get_context("spawn")
        self._reader, writer = context.Pipe(duplex=False)
        given = (writer, self._logs.name, os.getpid(), context.Value("i", 0), self._gpus)
        self._pool = pebble.ProcessPool(self.capacity, initializer=_begin_worker, initargs=given, context=context)

    def submit(self, task: str, function: Task, *arguments: Any) -> Future[Any]:
        """Submit the function to the pool of workers."""
        future: Future[Any] = self._pool.schedule(_call, (task, function, arguments))
        return future

    def messages(self) -> list[Message]:
        """Return the events that workers have reported."""
        with contextlib.suppress(EOFError, OSError):
            while self._reader.poll():
                message = json.loads(self._reader.recv_bytes())
                self._processes.add(message["process"])
                if "task" in message:
                    self._at[message["task"]] = message["process"]
                    self._breaks = 0
                    self.inbox.append(message)
        return super().messages()

    def stop(self, task: str, future: Future[Any]) -> str:
        """Kill the task's worker and its child processes, after it has written a traceback."""
        process = self._at.get(task)
        if process is not None:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGUSR1)
                time.sleep(_DUMP_S)
        stderr = self._stderr_of(task)
        future.cancel()
        _kill(process)
        return stderr

    def explain(self, task: str, error: BaseException) -> Failure:
        """Return why a task failed: a dead worker is its fault, a broken pool is not."""
        if isinstance(error, (BrokenProcessPool, CancelledError)):
            return Failure("the workers died", to_blame=False)
        code = getattr(error, "exitcode", None)
        if code is None:
            return super().explain(task, error)
        _kill(self._at.get(task))  # what it has started
        return Failure(cause_of_death(code), self._stderr_of(task))

    def recover(self) -> None:
        """Start workers anew.

        Raises:
            Vp3dError: they die again and again.
        """
        self._breaks += 1
        if self._breaks > _MOST_BREAKS:
            raise Vp3dError("workers die before they begin with a video; is there enough memory? Try fewer --jobs")
        self._end()
        self._start()

    def close(self) -> None:
        """Kill all workers."""
        self._end()
        self._logs.cleanup()
        for name, value in self._before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})

    def _end(self) -> None:
        import pebble
        from pebble.pool.process import WORKERS_NAME

        self.messages()
        self._pool.stop()  # type: ignore[no-untyped-call]
        time.sleep(2 * pebble.CONSTS.sleep_unit)  # until the pool starts no more workers
        for process in self._processes:
            _kill(process)
        for child in multiprocessing.active_children():  # those that had not begun: they would miss the pool, aloud
            if child.name == WORKERS_NAME:
                child.kill()
        self._pool.join()
        self._reader.close()
        self._processes.clear()

    def _stderr_of(self, task: str) -> str:
        """Return the end of the worker's stderr since the task began."""
        try:
            content = Path(self._logs.name, str(self._at[task])).read_bytes()
        except (OSError, KeyError):
            return ""
        return content[-_TAIL_BYTES:].decode("utf-8", "replace").strip()


def choose_jobs(
    tasks: int, *, cores: int, free: int | None, gpus: int = 0, jobs: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """Workers, and threads of each.

    One thread each and as many workers as cores does the most: decoding, drawing and lifting of one video do not keep
    several cores busy. Fewer workers where there are fewer tasks or too little memory, with more threads each.
    Networks that run on GPUs get one worker per GPU.

    Args:
        tasks: to do.
        cores, free: what the machine has; see :func:`vp3d_cli.runtime.processes.usable_cores` and :func:`free_bytes`.
        gpus: on which all networks run; 0 where one runs on the CPU.
        jobs, threads: as the user wants it; None to choose.
    """
    if jobs is None:
        room = cores if free is None else max(1, free // _WORKER_BYTES)
        jobs = gpus or min(cores // (threads or 1), room)
    jobs = max(1, min(jobs, tasks))
    return jobs, threads or max(1, cores // jobs)


def free_bytes() -> int | None:
    """Memory available without swapping; None where the system does not report it."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        found.append(limit - used)
    return min(found, default=None)


def detect_chunks(chunks: Sequence[Chunk], report: Progress) -> list[Detections]:
    """Detect people in all chunks of a video, in processes of this machine.

    There are as many processes as cores, with one thread each.

    Raises:
        Vp3dError: what :func:`vp3d_cli.pipeline.chunks.detect_chunk` raises, or a process died.
    """
    from vp3d_cli.pipeline.chunks import detect_chunk

    cores = min(usable_cores(), granted_threads() or sys.maxsize)
    executor = LocalExecutor(*choose_jobs(len(chunks), cores=cores, free=free_bytes()))
    done, total = [0] * len(chunks), sum(chunk.frames for chunk in chunks)
    try:
        futures = [executor.submit(str(i), detect_chunk, chunk) for i, chunk in enumerate(chunks)]
        left = set(futures)
        while left:
            ended, left = wait(left, POLL_S, FIRST_COMPLETED)
            for message in executor.messages():
                done[int(message["task"])] = message.get("done", 0)
            for i in [futures.index(future) for future in ended]:
                error = futures[i].exception()
                if error is not None and not isinstance(error, Vp3dError):
                    reason = executor.explain(str(i), error).reason
                    raise Vp3dError(f"chunk {i + 1} of the video: {reason}; run again, or without --chunk-minutes")
                futures[i].result()
                done[i] = chunks[i].frames
            report("detect", min(sum(done), total), total)
        return [future.result() for future in futures]
    finally:
        executor.close()


# In the worker process.

_pipe: Connection | None = None
_log = -1


def _begin_worker(pipe: Connection, logs: str, parent: int, number: Any, gpus: int) -> None:
    """Make this process end with its parent, and record a traceback when it crashes."""
    global _pipe, _log
    os.setsid()  # Ctrl-C is for the batch, and what is started here can be ended together
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    threading.Thread(target=_end_with, args=(parent,), name="vp3d-parent", daemon=True).start()
    _pipe, _log = pipe, os.open(Path(logs, str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(_log, stream)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if gpus > 1:
        with number.get_lock():
            own, number.value = number.value, number.value + 1
        visible = os.environ.get(_VISIBLE, ",".join(map(str, range(gpus)))).split(",")
        os.environ[_VISIBLE] = visible[own % len(visible)]
    _send({"event": "begun"})


def _call(task: str, function: Task, arguments: Sequence[Any]) -> Any:
    os.ftruncate(_log, 0)
    _send({"event": "taken", "task": task})
    return function(*arguments, Reporter(lambda message: _send({"task": task, **message})))


def _send(message: Message) -> None:
    # Short messages are written at once: no lock is needed, which a worker that is killed could leave locked.
    if _pipe is not None:
        _pipe.send_bytes(json.dumps({"process": os.getpid(), **message}).encode())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(128 + signal.SIGTERM)


def _kill(process: int | None) -> None:
    """Kill a worker and its child processes."""
    if process is not None:
        with contextlib.suppress(OSError):
            os.killpg(process, signal.SIGKILL)
