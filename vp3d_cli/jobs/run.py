"""Run a batch: find out what is missing, hand it to an executor, and lose nothing whatever happens to its workers."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp3d_cli import errors
from vp3d_cli.errors import NobodyFoundError, OutputError, Vp3dError
from vp3d_cli.jobs import task as tasks
from vp3d_cli.jobs.executor import POLL_S, InlineExecutor, LocalExecutor, TaskExecutor, choose_jobs, free_bytes
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.lock import FolderLock, lock_folder
from vp3d_cli.jobs.plan import BatchItem, Decision, Recipe, decide, make_recipe, results_of_older_versions, write_nobody
from vp3d_cli.jobs.report import DONE, FAILED, LEFT, SKIPPED, BatchRow, failed_before, write_report
from vp3d_cli.jobs.storage import Place, is_shared, remove
from vp3d_cli.jobs.task import Outcome, Setup
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.runtime.processes import usable_cores

# With less free than this no video is begun: a pose of an hour with a few people takes some ten MB.
LEAST_FREE_BYTES = 16 << 20
_LOADING_S = 600.0  # importing torch and reading weights from a slow network disk
_STAGES = {"detect": "finding people", "lift": "lifting to 3D", "render": "drawing"} | tasks.STAGES


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        retries: further attempts at a video whose worker died, hung or met with an error that vp3d did not expect.
        timeout_s: that one task (a video, or a chunk of it) may take; None for no limit.
        stall_s: without progress before a worker counts as hanging; None for no limit.
        fail_fast: end the batch at the first failure.
    """

    retries: int = 1
    timeout_s: float | None = None
    stall_s: float | None = 900.0
    fail_fast: bool = False


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run.

    Attributes:
        settings: of every video; with ``keypoints``, those of each :class:`BatchItem` are taken.
        format: of the 2D keypoints to write; empty where poses are made.
        command: what the user typed, for the provenance of results.
        jobs: tasks at a time; None to choose from the machine.
        threads: of each worker; None to choose.
        limits: retries and time.
        overwrite: do everything, whether it is there or not.
        processor: ``module:class`` that does a video; see :class:`vp3d_cli.jobs.task.Pipeline`.
        scheduler: address of a dask cluster that does the work; None for this machine.
        cluster_timeout_s: how long to wait for that cluster to come back, or to get workers.
    """

    settings: InferSettings = field(default_factory=InferSettings)
    format: str = ""
    command: str = ""
    jobs: int | None = None
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    overwrite: bool = False
    processor: str = Setup.processor
    scheduler: str | None = None
    cluster_timeout_s: float = 300.0


class Listener:
    """Is told what happens in a batch; this one ignores it."""

    def loading(self) -> None:
        """The models are being loaded for the first time."""

    def planned(self, todo: Sequence[BatchItem], settled: Sequence[BatchRow], jobs: int, threads: int) -> None:
        """What is to be done is known, and what is not: done before, or known to fail."""

    def started(self, item: BatchItem) -> None:
        """A video is handed to a worker."""

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        """So many frames are through a stage."""

    def postponed(self, item: BatchItem, reason: str) -> None:
        """An attempt has failed; another will be made."""

    def ended(self, item: BatchItem, row: BatchRow) -> None:
        """A video is done or has failed."""


def run_batch(
    items: Sequence[BatchItem], out: Place, options: BatchOptions, listener: Listener | None = None
) -> list[BatchRow]:
    """Do every video that is not done, and report in ``batch.csv``.

    Results appear under their names when whole, and say what they were made from and with; the next batch does only
    what is missing. Ended by an exception, Ctrl-C included, workers are ended and unfinished files removed before it is
    raised again. Call it in the main thread, in a program below ``if __name__ == "__main__":``.

    Args:
        items: from :func:`vp3d_cli.jobs.plan.plan_items`.
        out: folder of the batch, for the report.
        options: how.
        listener: told what happens.

    Returns:
        A row for each item, in order.

    Raises:
        OutputError: a folder is in use by another batch, or cannot be written, or its disk is full.
        WeightsError, MissingDependencyError, ConfigError: the models cannot be loaded.
        Vp3dError: workers cannot be started, or the cluster is away.
    """
    listener = listener or Listener()
    roots = list(dict.fromkeys([out, *(root for item in items for root in item.roots.values())]))
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context(lock_folder(root)) for root in roots]
        scratch = stack.enter_context(_scratch(roots))
        unknown = [item for item in items if not all(target.exists() for target in item.targets.values())]
        workers = stack.enter_context(contextlib.closing(_Workers(options, items, len(unknown), scratch)))
        listener.loading()
        workers.load()
        recipe = workers.recipe()
        rows: dict[int, BatchRow] = {}
        jobs: list[_Job] = []
        older = results_of_older_versions(out)
        for i, item in enumerate(items):
            decision = decide(item, recipe, older, overwrite=options.overwrite)
            if decision.failure is None and decision.needed:
                jobs.append(_Job(i, item, decision.needed))
            else:
                rows[i] = _settled(item, decision)
        before = failed_before(out)
        jobs.sort(key=lambda job: str(job.item.input.path) in before)  # lest they keep the others waiting
        workers.resize(len(jobs))
        listener.planned([job.item for job in jobs], list(rows.values()), workers.capacity, workers.executor.threads)
        with _reporting(items, rows, out):
            _Loop(workers, recipe, locks, options.limits, listener, rows).run(jobs)
        return _all_rows(items, rows)


def check_batch(items: Sequence[BatchItem], out: Place, options: BatchOptions) -> list[Decision]:
    """What :func:`run_batch` would do; nothing is written.

    Raises:
        WeightsError, MissingDependencyError, ConfigError: the models cannot be loaded.
    """
    with contextlib.closing(_Workers(options, items, 1, None)) as workers:
        if any(place.exists() for item in items for place in (*item.targets.values(), item.nobody_file)):
            workers.load()
        recipe, older = workers.recipe(), results_of_older_versions(out)
        return [decide(item, recipe, older, overwrite=options.overwrite) for item in items]


class _Workers:
    """The executor of a batch, and what its workers are told; local ones are as many as there is to do.

    Attributes:
        setup: what workers are told.
        weights: of the models, once they are loaded.
    """

    def __init__(self, options: BatchOptions, items: Sequence[BatchItem], count: int, scratch: Path | None) -> None:
        self._options, self._scratch, self._gpus, self._count = options, scratch, 0, count
        settings = tasks.with_absolute_paths(options.settings)
        self.setup = Setup(settings, options.format, options.command, options.threads or 1, options.processor)
        self.weights: Mapping[str, str] = {}
        self._shared = all(is_shared(place) for item in items for place in (item.input.path, *item.targets.values()))
        self._made: TaskExecutor | None = None

    @property
    def executor(self) -> TaskExecutor:
        """Made when it is first needed."""
        if self._made is None:
            options = self._options
            if options.scheduler is not None:
                from vp3d_cli.jobs.cluster import ClusterExecutor

                self._made = ClusterExecutor(options.scheduler, options.cluster_timeout_s)
            else:
                self._made = self._local(self._count) if self._shared else InlineExecutor()
        return self._made

    @property
    def capacity(self) -> int:
        """Tasks at a time."""
        return min(self.executor.capacity, self._options.jobs or sys.maxsize)

    def resize(self, count: int) -> None:
        """Have workers of this machine for so many videos."""
        if isinstance(self._made, LocalExecutor) and self._size(count) != (self._made.capacity, self._made.threads):
            self._made.close()
            self._made = self._local(count)

    def load(self) -> None:
        """Have a worker load the models.

        Raises:
            Vp3dError: as loading them raises, or the worker died.
        """
        future = self.executor.submit("load", tasks.load_models, self.setup)
        while not wait([future], POLL_S).done:
            self.executor.check()
            self.executor.messages()
        self.executor.messages()
        try:
            outcome: Outcome = future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001
            failure = self.executor.explain("load", error)
            last = (failure.stderr.splitlines() or ["it wrote nothing to stderr"])[-1]
            raise Vp3dError(f"no worker could load the models: {failure.reason}; {last}") from None
        if outcome.error:
            kind = getattr(errors, outcome.kind, Vp3dError)
            raise (kind if issubclass(kind, Vp3dError) else Vp3dError)(outcome.error)
        self.weights, self._gpus = outcome.value

    def recipe(self) -> Recipe:
        """What results are made with."""
        return make_recipe(self.setup.settings, self.setup.format, self.weights)

    def close(self) -> None:
        """End all workers."""
        if self._made is not None:
            with _undisturbed():
                self._made.close()

    def _size(self, count: int) -> tuple[int, int]:
        options = self._options
        count = sys.maxsize if options.settings.chunk_minutes is not None else max(1, count)  # chunks are tasks, too
        machine: dict[str, Any] = {"cores": usable_cores(), "free": free_bytes(), "gpus": self._gpus}
        return choose_jobs(count, **machine, jobs=options.jobs, threads=options.threads)

    def _local(self, count: int) -> TaskExecutor:
        jobs, threads = self._size(count)
        self.setup = dataclasses.replace(self.setup, threads=threads)
        return LocalExecutor(jobs, threads, self._gpus, self._scratch)


@dataclass
class _Job:
    """A video to do, and how far it is.

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
    chunks: list[int] = field(default_factory=list)
    frames: int = 0
    left: int = 0
    failure: Outcome | None = None


@dataclass
class _Step:
    """A task of a job; ``alive`` is None until a worker has it, ``began`` until its models are loaded."""

    job: _Job
    function: Callable[..., Outcome]
    arguments: tuple[Any, ...]
    chunk: int | None = None
    future: Future[Outcome] = field(default_factory=Future)
    began: float | None = None
    alive: float | None = None
    doing: str = ""

    def too_late(self, limits: Limits, now: float) -> str:
        """Why it has to be ended now; empty if it need not."""
        if limits.timeout_s is not None and self.began is not None and now - self.began >= limits.timeout_s:
            return f"took longer than {limits.timeout_s:g} s (--timeout)"
        if self.began is None and self.alive is not None and now - self.alive >= _LOADING_S:
            return f"the models were not loaded in {_LOADING_S:g} s"
        if limits.stall_s is not None and self.began is not None and now - (self.alive or now) >= limits.stall_s:
            return f"hung: no progress for {limits.stall_s:g} s (--stall)"
        return ""

    def lost(self, reason: str, stderr: str) -> Outcome:
        """The outcome of a task whose worker has died, or was ended."""
        seconds = 0.0 if self.began is None else time.monotonic() - self.began
        return Outcome(error=reason + self.doing, exit_code=1, retry=True, stderr=stderr, seconds=seconds)


class _Loop:
    """Submits tasks, hears of them, ends those that take too long, and tries again what may succeed."""

    def __init__(
        self,
        workers: _Workers,
        recipe: Recipe,
        locks: Sequence[FolderLock],
        limits: Limits,
        listener: Listener,
        rows: dict[int, BatchRow],
    ) -> None:
        self._workers, self._recipe, self._locks = workers, recipe, locks
        self._limits, self._listener, self._rows = limits, listener, rows
        self._pending: deque[_Job] = deque()
        self._queue: deque[_Step] = deque()
        self._running: dict[str, _Step] = {}
        self._count = 0
        self._over = False  # no further video is begun

    def run(self, jobs: Sequence[_Job]) -> None:
        """Do all jobs, begun in this order; with ``fail_fast`` up to the first that fails.

        Raises:
            OutputError: the disk is full.
            Vp3dError: workers cannot be started.
        """
        self._pending = deque(jobs)
        executor = self._workers.executor
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
        while len(self._running) < self._workers.capacity and (self._queue or self._pending):
            if not self._queue:
                self._begin(self._pending.popleft())
            step = self._queue.popleft()
            self._count += 1
            name = str(self._count)
            step.future = self._workers.executor.submit(name, step.function, *step.arguments)
            self._running[name] = step

    def _begin(self, job: _Job) -> None:
        for lock in self._locks:
            lock.check()
        for kind in job.needed:
            _check_room(job.item.roots[kind])
        job.attempts += 1
        job.chunks, job.failure = [], None
        self._listener.started(job.item)
        setup, video, keep = self._workers.setup, job.item.input.path, job.item.keep_file
        if setup.settings.chunk_minutes is not None and keep is not None and isinstance(video, Path):
            self._add(job, [_Step(job, tasks.plan_chunks, (setup, video.absolute(), keep))])
        else:
            self._add_video(job, 0.0)

    def _add(self, job: _Job, steps: Sequence[_Step]) -> None:
        job.left = len(steps)
        self._queue.extendleft(reversed(steps))

    def _add_video(self, job: _Job, spent_s: float) -> None:
        task = tasks.task_of(job.item, job.needed, self._workers.weights, spent_s)
        self._add(job, [_Step(job, tasks.make_results, (self._workers.setup, task))])

    def _hear(self) -> None:
        """Take note of what tasks report."""
        now = time.monotonic()
        for message in self._workers.executor.messages():
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
        """Take the outcome of a task; whether the executor is sound."""
        step = self._running.pop(name)
        try:
            outcome = step.future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001
            failure = self._workers.executor.explain(name, error)
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
                stderr = self._workers.executor.stop(name, step.future)
                self._take(self._running.pop(name), step.lost(reason, stderr))

    def _take(self, step: _Step, outcome: Outcome) -> None:
        """Go on with a video after one of its tasks has ended; a failure waits for the chunks that are at work."""
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
            setup, chunks = self._workers.setup, outcome.value
            job.chunks, job.frames = [0] * len(chunks), sum(chunk.frames for chunk in chunks)
            self._add(job, [_Step(job, tasks.detect_chunk, (setup, chunk), i) for i, chunk in enumerate(chunks)])
        else:
            self._add_video(job, job.seconds)

    def _failed(self, job: _Job, outcome: Outcome) -> None:
        if outcome.retry and job.attempts <= self._limits.retries and not self._limits.fail_fast:
            self._pending.append(job)
            self._listener.postponed(job.item, outcome.error)
            return
        if outcome.kind == NobodyFoundError.__name__ and outcome.input:
            write_nobody(job.item, self._recipe, outcome.error, outcome.input)
        self._settle(job, FAILED, outcome)

    def _settle(self, job: _Job, status: str, outcome: Outcome) -> None:
        item = job.item
        row = BatchRow(
            video=str(item.input.path),
            place=str(item.input.place),
            status=status,
            reason=outcome.error,
            seconds=job.seconds,
            frames=outcome.frames,
            frames_per_second=outcome.frames / outcome.seconds if outcome.frames and outcome.seconds else None,
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
    """Stop before work is done whose result could not be written. Stores elsewhere do not say how full they are.

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


@contextlib.contextmanager
def _scratch(roots: Sequence[Place]) -> Iterator[Path]:
    """A folder for temporary files of workers; before and after, what is unfinished is removed."""
    with tempfile.TemporaryDirectory(prefix="vp3d-batch-") as elsewhere:
        try:
            for root in roots:
                remove(root / STATE / "work")
            first = roots[0]
            scratch = (first / STATE / "work" / "tmp").absolute() if isinstance(first, Path) else Path(elsewhere)
            scratch.mkdir(parents=True, exist_ok=True)
            yield scratch
        finally:
            for root in roots:
                remove(root / STATE / "work")


def _settled(item: BatchItem, decision: Decision) -> BatchRow:
    """The row of a video that needs no work."""
    video, place = str(item.input.path), str(item.input.place)
    if decision.failure is None:
        return BatchRow(video, place, SKIPPED, results=tuple(map(str, item.targets.values())))
    code = NobodyFoundError.exit_code if decision.nobody else 1
    return BatchRow(video, place, FAILED, decision.failure, exit_code=code)


def _all_rows(items: Sequence[BatchItem], rows: Mapping[int, BatchRow]) -> list[BatchRow]:
    def left(item: BatchItem) -> BatchRow:
        return BatchRow(str(item.input.path), str(item.input.place), LEFT, "the batch ended before", exit_code=1)

    return [rows.get(i) or left(item) for i, item in enumerate(items)]


@contextlib.contextmanager
def _reporting(items: Sequence[BatchItem], rows: dict[int, BatchRow], out: Place) -> Iterator[None]:
    """Write the report when the batch ends, however it does."""
    try:
        yield
    finally:
        # An exception on its way, of a full disk perhaps, says more than that the report cannot be written, either.
        with contextlib.suppress(Vp3dError) if sys.exc_info()[0] else contextlib.nullcontext():
            write_report(_all_rows(items, rows), out)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and termination wait until all is tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
