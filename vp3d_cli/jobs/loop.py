"""The batch loop: submits tasks, collects results, stops slow tasks and retries failed ones."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp3d_cli.errors import NobodyFoundError, OutputError
from vp3d_cli.jobs import task as tasks
from vp3d_cli.jobs.executor import POLL_S, TaskExecutor
from vp3d_cli.jobs.lock import FolderLock
from vp3d_cli.jobs.plan import BatchItem, Recipe, write_nobody
from vp3d_cli.jobs.report import DONE, FAILED, BatchRow, Outcome
from vp3d_cli.jobs.storage import Place
from vp3d_cli.jobs.task import Setup, VideoTask

# With less free than this no video is begun: a pose of an hour with a few people takes some ten MB.
LEAST_FREE_BYTES = 16 << 20
_LOADING_S = 600.0  # importing torch and reading weights from a slow network disk
_STAGES = {"detect": "finding people", "lift": "lifting to 3D", "render": "drawing"} | tasks.STAGES


@dataclass(frozen=True)
class Limits:
    """Limits of time and attempts.

    Attributes:
        retries: further attempts at a video whose worker died, hung or raised an unexpected error.
        timeout_s: that one task (a video, or a chunk of it) may take; None for no limit.
        stall_s: without progress before a worker counts as hanging; None for no limit.
        fail_fast: end the batch at the first failure.
    """

    retries: int = 1
    timeout_s: float | None = None
    stall_s: float | None = 900.0
    fail_fast: bool = False


class Listener:
    """Receives the events of a batch; this base class ignores them."""

    def loading(self) -> None:
        """The models are being loaded for the first time."""

    def planned(self, todo: Sequence[BatchItem], settled: Sequence[BatchRow], jobs: int, threads: int) -> None:
        """The plan is known: videos to process, and those already done or known to fail."""

    def started(self, item: BatchItem) -> None:
        """A video is handed to a worker."""

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        """``done`` frames have passed a stage."""

    def postponed(self, item: BatchItem, reason: str) -> None:
        """An attempt has failed; another will be made."""

    def ended(self, item: BatchItem, row: BatchRow) -> None:
        """A video is done or has failed."""


@dataclass
class Job:
    """A video to process, and its progress.

    Attributes:
        needed: kinds of result still to make.
        chunks: frames that are through, for each chunk; empty for a video in one piece.
        frames: of all chunks.
        left: tasks of this attempt that have not ended.
        failure: why this attempt has failed.
    """

    number: int
    item: BatchItem
    needed: tuple[str, ...]
    attempts: int = 0
    seconds: float = 0.0
    began: float = 0.0
    chunks: list[int] = field(default_factory=list)
    frames: int = 0
    left: int = 0
    failure: Outcome | None = None


@dataclass
class _Step:
    """A task of a job.

    ``alive`` is None until a worker has the task; ``began`` is None until its models are loaded.
    """

    job: Job
    function: Callable[..., Outcome]
    arguments: tuple[Any, ...]
    chunk: int | None = None
    future: Future[Outcome] = field(default_factory=Future)
    began: float | None = None
    alive: float | None = None
    doing: str = ""

    def too_late(self, limits: Limits, now: float) -> str:
        """Return why the task must be stopped now; empty if it need not."""
        if limits.timeout_s is not None and self.began is not None and now - self.began >= limits.timeout_s:
            return f"took longer than {limits.timeout_s:g} s (--timeout)"
        if self.began is None and self.alive is not None and now - self.alive >= _LOADING_S:
            return f"the models were not loaded in {_LOADING_S:g} s"
        if limits.stall_s is not None and self.began is not None and now - (self.alive or now) >= limits.stall_s:
            return f"hung: no progress for {limits.stall_s:g} s (--stall)"
        return ""

    def lost(self, reason: str, stderr: str) -> Outcome:
        """The outcome of a task whose worker died or was stopped."""
        seconds = 0.0 if self.began is None else time.monotonic() - self.began
        return Outcome(error=reason + self.doing, exit_code=1, retry=True, stderr=stderr, seconds=seconds)


class Loop:
    """Submits tasks, collects their results, stops slow ones and retries failed ones.

    Only failures that may not occur again are retried.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        jobs: int | None,
        setup: Setup,
        recipe: Recipe,
        locks: Sequence[FolderLock],
        limits: Limits,
        listener: Listener,
        rows: dict[int, BatchRow],
    ) -> None:
        """Nothing is submitted yet.

        Args:
            executor: does the tasks.
            jobs: tasks at a time, at most; None for what the executor can do.
            setup: what workers are told.
            recipe: what results are made with.
            locks: of the folders that results go to.
            limits: when to give up.
            listener: told what happens.
            rows: filled with what comes of each job, by its number.
        """
        self._executor, self._jobs, self._setup, self._recipe, self._locks = executor, jobs, setup, recipe, locks
        self._limits, self._listener, self._rows = limits, listener, rows
        self._pending: deque[Job] = deque()
        self._queue: deque[_Step] = deque()
        self._running: dict[str, _Step] = {}
        self._count = 0
        self._over = False  # no further video is begun

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs, started in this order; with ``fail_fast`` up to the first failure.

        Raises:
            OutputError: the disk is full.
            Vp3dError: workers cannot be started.
        """
        self._pending = deque(jobs)
        executor = self._executor
        while not self._over and (self._pending or self._queue or self._running):
            executor.check()
            self._submit()
            wait([step.future for step in self._running.values()], POLL_S, FIRST_COMPLETED)
            ended = [name for name, step in self._running.items() if step.future.done()]
            self._hear()
            sound = [self._collect(name) for name in ended]
            if not all(sound):
                executor.recover()
            self._end_late()

    def _submit(self) -> None:
        executor = self._executor
        while len(self._running) < min(executor.capacity, self._jobs or sys.maxsize) and (self._queue or self._pending):
            if not self._queue:
                self._begin(self._pending.popleft())
            step = self._queue.popleft()
            self._count += 1
            name = str(self._count)
            step.future = executor.submit(name, step.function, *step.arguments)
            step.alive = time.monotonic() if executor.begins_at_once else None
            self._running[name] = step

    def _begin(self, job: Job) -> None:
        for lock in self._locks:
            lock.check()
        for kind in job.needed:
            _check_room(job.item.roots[kind])
        job.attempts, job.began = job.attempts + 1, time.monotonic()
        job.chunks, job.failure = [], None
        self._listener.started(job.item)
        setup, video, keep = self._setup, job.item.input.path, job.item.keep_file
        if setup.settings.chunk_minutes is not None and keep is not None and isinstance(video, Path):
            self._add(job, [_Step(job, tasks.plan_chunks, (setup, video.absolute(), keep))])
        else:
            self._add_video(job, 0.0)

    def _add(self, job: Job, steps: Sequence[_Step]) -> None:
        job.left = len(steps)
        self._queue.extendleft(reversed(steps))

    def _add_video(self, job: Job, spent_s: float) -> None:
        task = VideoTask(job.item.with_absolute_paths(), job.needed, self._recipe["weights"], spent_s)
        self._add(job, [_Step(job, tasks.make_results, (self._setup, pickle.dumps(task)))])

    def _hear(self) -> None:
        """Handle the events that tasks have reported."""
        now = time.monotonic()
        for message in self._executor.messages():
            step = self._running.get(message["task"])
            if step is None:
                continue
            job, event, step.alive = step.job, message["event"], now
            if event == "started":
                step.began = now
            elif event == "made":
                job.needed = tuple(kind for kind in job.needed if kind != message["kind"])
            elif event == "progress":
                stage, done, total = message["stage"], message["done"], message["total"]
                step.doing = f" while {_STAGES.get(stage, stage)}, frame {done}"
                if step.chunk is not None:
                    job.chunks[step.chunk] = done
                    done, total = min(sum(job.chunks), job.frames), job.frames
                self._listener.progress(job.item, stage, done, total)

    def _collect(self, name: str) -> bool:
        """Handle the outcome of a task; return whether the executor is still usable."""
        step = self._running.pop(name)
        try:
            outcome = step.future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001
            failure = self._executor.explain(name, error)
            if not failure.to_blame:
                self._queue.appendleft(dataclasses.replace(step, began=None, alive=None))
                self._listener.postponed(step.job.item, failure.reason)
                return False
            outcome = step.lost(failure.reason, failure.stderr)
        self._take(step, outcome)
        return True

    def _end_late(self) -> None:
        for name, step in list(self._running.items()):
            reason = step.too_late(self._limits, time.monotonic())
            if reason and not step.future.done():
                stderr = self._executor.stop(name, step.future)
                self._take(self._running.pop(name), step.lost(reason, stderr))

    def _take(self, step: _Step, outcome: Outcome) -> None:
        """Continue with a video after one of its tasks has ended.

        After a failure, it waits for the chunks that are running.
        """
        job = step.job
        job.left -= 1
        job.seconds += outcome.seconds
        if outcome.error:
            if step.chunk is not None:
                message = f"chunk {step.chunk + 1} of {len(job.chunks)}: {outcome.error}"
                outcome = dataclasses.replace(outcome, error=message)
            job.failure = job.failure or outcome
            before = len(self._queue)
            self._queue = deque(other for other in self._queue if other.job is not job)
            job.left -= before - len(self._queue)
        if job.left:
            return
        if job.failure is not None:
            self._failed(job, job.failure)
        elif step.function is tasks.make_results:
            job.needed = ()
            self._settle(job, DONE, outcome)
        elif step.function is tasks.plan_chunks and outcome.value:
            setup, chunks = self._setup, outcome.value
            job.chunks, job.frames = [0] * len(chunks), sum(chunk.frames for chunk in chunks)
            self._add(job, [_Step(job, tasks.detect_chunk, (setup, chunk), i) for i, chunk in enumerate(chunks)])
        else:
            self._add_video(job, job.seconds)

    def _failed(self, job: Job, outcome: Outcome) -> None:
        if outcome.retry and job.attempts <= self._limits.retries and not self._limits.fail_fast:
            self._pending.append(job)
            self._listener.postponed(job.item, outcome.error)
            return
        if outcome.kind == NobodyFoundError.__name__ and outcome.input:
            write_nobody(job.item, self._recipe, outcome.error, outcome.input)
        self._settle(job, FAILED, outcome)

    def _settle(self, job: Job, status: str, outcome: Outcome) -> None:
        item = job.item
        seconds = time.monotonic() - job.began if job.chunks else outcome.seconds  # chunks are done at the same time
        row = BatchRow(
            video=str(item.input.path),
            place=str(item.input.place),
            status=status,
            reason=outcome.error,
            seconds=job.seconds,
            frames=outcome.frames,
            frames_per_second=outcome.frames / seconds if outcome.frames and seconds else None,
            people=outcome.people,
            attempts=job.attempts,
            results=tuple(str(target) for kind, target in item.targets.items() if kind not in job.needed),
            warnings=outcome.warnings,
            stderr=outcome.stderr,
            exit_code=outcome.exit_code,
        )
        self._rows[job.number] = row
        self._over = status == FAILED and self._limits.fail_fast
        self._listener.ended(item, row)


def _check_room(folder: Place) -> None:
    """Check the free disk space, before work whose result could not be written.

    Remote stores do not report their free space, so they are not checked.

    Raises:
        OutputError: the disk is full.
    """
    if isinstance(folder, Path):
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise OutputError(f"{folder}: has gone ({error.strerror}); run again when it is back") from error
        if free < LEAST_FREE_BYTES:
            again = "run the same command again: what is done stays done"
            raise OutputError(f"{folder}: its disk is full; make room, and {again}")
