"""Run a batch: find out what is missing, hand it to an executor, and lose nothing whatever happens to its workers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp3d_cli import errors
from vp3d_cli.detect.base import parse_detector
from vp3d_cli.errors import NobodyFoundError, OutputError, Vp3dError
from vp3d_cli.jobs import task as tasks
from vp3d_cli.jobs.executor import (
    POLL_S,
    InlineExecutor,
    LocalExecutor,
    TaskExecutor,
    choose_jobs,
    free_bytes,
)
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.lock import FolderLock, lock_folder
from vp3d_cli.jobs.plan import BatchItem, Decision, Recipe, decide, make_recipe, note_nobody, results_of_older_versions
from vp3d_cli.jobs.report import DONE, FAILED, LEFT, SKIPPED, BatchRow, failed_before, write_report
from vp3d_cli.jobs.storage import Place, absolute, is_shared, remove, to_place, write_bytes
from vp3d_cli.jobs.task import Outcome, Setup, VideoTask
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.runtime.processes import usable_cores

# With less free than this no video is begun: a pose of an hour with a few people takes some ten MB.
LEAST_FREE_BYTES = 16 << 20
_LOADING_S = 600.0  # importing torch and reading weights from a slow network disk
_STAGES = {
    "detect": "finding people",
    "lift": "lifting to 3D",
    "render": "drawing",
    tasks.LOADING: "loading the models",
    tasks.READING: "reading the video",
    tasks.FETCHING: "fetching the video",
    tasks.SENDING: "sending the result",
}


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
        scratch = _scratch(out)
        _clean(roots, scratch)
        stack.callback(_clean, roots, scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        workers = stack.enter_context(_Workers(options, items, scratch))
        listener.loading()
        workers.load(sum(not all(target.exists() for target in item.targets.values()) for item in items))
        recipe = make_recipe(workers.setup.settings, options.format, workers.weights)
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
        jobs.sort(key=lambda job: str(job.item.input.path) in before)
        workers.resize(len(jobs))
        listener.planned([job.item for job in jobs], list(rows.values()), workers.capacity, workers.setup.threads)
        with _reporting(items, rows, out):
            _Loop(workers, recipe, locks, options.limits, listener, rows).run(jobs)
        return _all_rows(items, rows)


def check_batch(items: Sequence[BatchItem], out: Place, options: BatchOptions) -> list[Decision]:
    """What :func:`run_batch` would do; nothing is written.

    Raises:
        WeightsError, MissingDependencyError, ConfigError: the models cannot be loaded.
    """
    with _Workers(options, items, None) as workers:
        if any(place.exists() for item in items for place in (*item.targets.values(), item.nobody_file)):
            workers.load(1)
        recipe = make_recipe(workers.setup.settings, options.format, workers.weights)
        older = results_of_older_versions(out)
        return [decide(item, recipe, older, overwrite=options.overwrite) for item in items]


class _Workers:
    """The executor of a batch, made when it is known how many tasks there are. A context manager.

    Attributes:
        setup: what workers are told.
        weights: of the models, once they are loaded.
    """

    def __init__(self, options: BatchOptions, items: Sequence[BatchItem], scratch: Path | None) -> None:
        self._options, self._scratch = options, scratch
        settings = with_absolute_paths(options.settings)
        self.setup = Setup(settings, options.format, options.command, options.threads or 1, options.processor)
        self.weights: Mapping[str, str] = {}
        self._gpus = 0
        self._size = (0, 0)
        self._executor: TaskExecutor | None = None
        self._shared = all(is_shared(place) for item in items for place in (item.input.path, *item.targets.values()))

    @property
    def executor(self) -> TaskExecutor:
        assert self._executor is not None
        return self._executor

    @property
    def capacity(self) -> int:
        """Tasks at a time."""
        return min(self.executor.capacity, self._options.jobs or sys.maxsize)

    def resize(self, count: int) -> None:
        """Have workers for so many videos."""
        options = self._options
        if options.scheduler is not None or not self._shared:
            if self._executor is None:
                self._executor = InlineExecutor() if options.scheduler is None else self._connect(options.scheduler)
                self.executor.check()
            return
        least = sys.maxsize if options.settings.chunk_minutes is not None else 1  # chunks are tasks, too
        size = choose_jobs(
            max(count, least), cores=usable_cores(), free=free_bytes(), gpus=self._gpus, jobs=options.jobs,
            threads=options.threads,
        )  # fmt: skip
        if size != self._size:
            self._close()
            self._size = size
            self.setup = dataclasses.replace(self.setup, threads=size[1])
            self._executor = LocalExecutor(*size, self._gpus, self._scratch)

    def load(self, count: int) -> None:
        """Have a worker load the models, with room for so many videos.

        Raises:
            Vp3dError: as loading them raises, or the worker died.
        """
        self.resize(count)
        executor, began = self.executor, time.monotonic()
        future = executor.submit("load", tasks.load_models, self.setup)
        while not wait([future], POLL_S).done:
            executor.check()
            if self._options.scheduler is None and time.monotonic() - began > _LOADING_S:
                raise Vp3dError(f"the models are not loaded after {_LOADING_S:g} s; try again, or fewer --jobs")
        try:
            outcome: Outcome = future.result()
        except (Exception, CancelledError) as error:
            reason, words, _ = executor.explain("load", error)
            last = words.splitlines()[-1] if words else "it wrote nothing to stderr"
            raise Vp3dError(f"no worker could load the models: {reason}; {last}") from error
        if outcome.error:
            kind = getattr(errors, outcome.kind, Vp3dError)
            raise (kind if issubclass(kind, Vp3dError) else Vp3dError)(outcome.error)
        self.weights, self._gpus = outcome.value

    def _connect(self, scheduler: str) -> TaskExecutor:
        from vp3d_cli.jobs.cluster import ClusterExecutor

        return ClusterExecutor(scheduler, self._options.cluster_timeout_s)

    def _close(self) -> None:
        if self._executor is not None:
            self._executor.close()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        with _undisturbed():
            self._close()


@dataclass
class _Job:
    """A video to do: its place in the batch, what is still to be made, and how far it is.

    Attributes:
        chunks: frames that are through, for each chunk; empty for a video in one piece.
        left: tasks of it that are not done.
        failure: why the attempt has failed: what a task gave, and the end of what it wrote.
    """

    number: int
    item: BatchItem
    needed: tuple[str, ...]
    attempts: int = 0
    seconds: float = 0.0
    chunks: list[int] = field(default_factory=list)
    total: int = 0
    left: int = 0
    spent_s: float = 0.0
    failure: Outcome | None = None


@dataclass
class _Step:
    """A task of a job: a video, or a chunk of one; ``began`` and ``alive`` are None until a worker has it."""

    job: _Job
    function: Any
    arguments: tuple[Any, ...]
    chunk: int | None = None
    future: Future[Outcome] = field(default_factory=Future)
    began: float | None = None
    alive: float = 0.0
    doing: str = ""
    loading: bool = True

    def too_late(self, limits: Limits, now: float) -> str:
        """Why it has to be ended now; empty if it need not."""
        if self.began is None:
            return ""
        if self.loading:
            return "it did not finish loading" if now - self.began > _LOADING_S else ""
        if limits.timeout_s is not None and now - self.began >= limits.timeout_s:
            return f"took longer than {limits.timeout_s:g} s (--timeout)"
        if limits.stall_s is not None and now - self.alive >= limits.stall_s:
            return f"hung: no progress for {limits.stall_s:g} s (--stall)"
        return ""


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
            broken = [not self._collect(name) for name in ended]
            if any(broken):
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
            check_room(job.item.roots[kind], LEAST_FREE_BYTES)
        job.attempts += 1
        job.chunks, job.spent_s, job.failure = [], 0.0, None
        self._listener.started(job.item)
        video, keep = job.item.input.path, _keep_file(job.item)
        setup = self._workers.setup
        if setup.settings.chunk_minutes is not None and keep is not None and isinstance(video, Path):
            self._add(job, [_Step(job, tasks.plan_chunks, (setup, video, keep))])
        else:
            self._add_video(job)

    def _add(self, job: _Job, steps: Sequence[_Step]) -> None:
        job.left = len(steps)
        self._queue.extendleft(reversed(steps))

    def _add_video(self, job: _Job) -> None:
        item = job.item
        task = VideoTask(
            video=absolute(item.input.path),
            source=str(item.input.path),
            keypoints=None if item.keypoints is None else absolute(item.keypoints),
            needed=job.needed,
            targets={kind: absolute(target) for kind, target in item.targets.items()},
            roots={kind: absolute(root) for kind, root in item.roots.items()},
            provenance_files={kind: absolute(item.provenance_file(kind)) for kind in item.targets},
            keep=_keep_file(item),
            weights=self._workers.weights,
            spent_s=job.spent_s,
        )
        self._add(job, [_Step(job, tasks.make_results, (self._workers.setup, task))])

    # What tasks report, and what comes of them.

    def _hear(self) -> None:
        now = time.monotonic()
        for message in self._workers.executor.messages():
            step = self._running.get(message["task"])
            if step is None:
                continue
            job, event = step.job, message["event"]
            step.began, step.alive = step.began or now, now
            if event == "started":
                step.began, step.loading = now, False
            elif event == "made":
                job.needed = tuple(kind for kind in job.needed if kind != message["kind"])
            elif event == "progress":
                stage, done, total = message["stage"], message["done"], message["total"]
                step.doing = f" while {_STAGES.get(stage, stage)}, frame {done}"
                if step.chunk is not None:
                    job.chunks[step.chunk] = done
                    done, total = min(sum(job.chunks), job.total), job.total
                self._listener.progress(job.item, stage, done, total)

    def _collect(self, name: str) -> bool:
        """Take the outcome of a task; whether the executor is sound."""
        step = self._running.pop(name)
        job = step.job
        try:
            outcome = step.future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001
            reason, words, to_blame = self._workers.executor.explain(name, error)
            if not to_blame:
                step.began, step.loading = None, True
                self._queue.appendleft(step)
                self._listener.postponed(job.item, reason)
                return False
            seconds = 0.0 if step.began is None else time.monotonic() - step.began
            outcome = Outcome(error=reason + step.doing, exit_code=1, retry=True, traceback=words, seconds=seconds)
        self._take(step, outcome)
        return True

    def _take(self, step: _Step, outcome: Outcome) -> None:
        job = step.job
        job.left -= 1
        job.seconds += outcome.seconds
        if outcome.error:
            if step.chunk is not None:
                message = f"chunk {step.chunk + 1} of {len(job.chunks)}: {outcome.error}"
                outcome = dataclasses.replace(outcome, error=message)
            job.failure = job.failure or outcome
            waiting = [other for other in self._queue if other.job is job]
            job.left -= len(waiting)
            self._queue = deque(other for other in self._queue if other.job is not job)
        if job.left:
            return
        if job.failure is not None:
            self._failed(job, job.failure)
        elif step.function is tasks.make_results:
            job.needed = ()
            self._settle(job, DONE, outcome)
        elif step.function is tasks.plan_chunks and outcome.value:
            self._add_chunks(job, outcome.value)
        else:
            job.spent_s = job.seconds
            self._add_video(job)

    def _add_chunks(self, job: _Job, chunks: Sequence[Any]) -> None:
        job.chunks, job.total = [0] * len(chunks), sum(chunk.frames for chunk in chunks)
        setup = self._workers.setup
        steps = [_Step(job, tasks.detect_chunk, (setup, chunk), chunk=i) for i, chunk in enumerate(chunks)]
        self._add(job, steps)

    def _failed(self, job: _Job, outcome: Outcome) -> None:
        if outcome.retry and job.attempts <= self._limits.retries and not self._limits.fail_fast:
            self._pending.append(job)
            self._listener.postponed(job.item, outcome.error)
            return
        if outcome.kind == NobodyFoundError.__name__ and outcome.input:
            write_bytes(*note_nobody(job.item, self._recipe, outcome.error, outcome.input))
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
            stderr=outcome.traceback,
            exit_code=outcome.exit_code,
        )
        self._rows[job.number] = row
        self._over = status == FAILED and self._limits.fail_fast
        self._listener.ended(item, row)

    def _end_late(self) -> None:
        now = time.monotonic()
        for name, step in list(self._running.items()):
            reason = step.too_late(self._limits, now)
            if reason and not step.future.done():
                words = self._workers.executor.stop(name, step.future)
                del self._running[name]
                seconds = now - (step.began or now)
                failure = Outcome(error=reason + step.doing, exit_code=1, retry=True, traceback=words, seconds=seconds)
                self._take(step, failure)


def check_room(folder: Place, least_bytes: int) -> None:
    """Stop before work is done whose result could not be written. Stores elsewhere do not say how full they are.

    Raises:
        OutputError: the disk is full.
    """
    if not isinstance(folder, Path):
        return
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"{folder}: has gone ({error.strerror}); run again when it is back") from error
    if free < least_bytes:
        raise OutputError(
            f"{folder}: its disk is full; make room, and run the same command again: what is done stays done"
        )


def with_absolute_paths(settings: InferSettings) -> InferSettings:
    """The same settings for a process with another working folder.

    Lifters, and the options of a detector, may be names: these are paths where there is such a file.

    Raises:
        ConfigError: the options of the detector are none.
    """

    def whole(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).is_file() else name

    changes: dict[str, Any] = {
        name: whole(value) for name in ("lifter", "trajectory") if (value := getattr(settings, name)) is not None
    }
    for name in ("keypoints", "joint_map"):
        if (path := getattr(settings, name)) is not None:
            changes[name] = str(absolute(to_place(path)))
    detector, options = parse_detector(settings.detector)
    if options:
        changes["detector"] = f"{detector}:{','.join(f'{key}={whole(value)}' for key, value in options.items())}"
    return dataclasses.replace(settings, **changes)


def _keep_file(item: BatchItem) -> Path | None:
    """For detections of a video whose detector failed, for the next attempt; None where results are at a URL."""
    kind = next(iter(item.targets))
    root, target = item.roots[kind], item.targets[kind]
    if not isinstance(root, Path):
        return None
    name = hashlib.sha256(os.fsencode(os.path.relpath(str(target), root))).hexdigest()
    return (root / STATE / "kept" / f"{name}.npz").absolute()


def _scratch(out: Place) -> Path:
    """For temporary files of workers: beside the results, or for results elsewhere by their address."""
    if isinstance(out, Path):
        return (out / STATE / "work" / "tmp").absolute()
    return Path(tempfile.gettempdir()) / f"vp3d-batch-{hashlib.sha256(str(out).encode()).hexdigest()[:16]}"


def _clean(roots: Sequence[Place], scratch: Path) -> None:
    """Remove what this batch, or one that was killed, has left unfinished."""
    for root in roots:
        remove(root / STATE / "work")
    remove(scratch)


def _settled(item: BatchItem, decision: Decision) -> BatchRow:
    """The row of a video that needs no work."""
    video, place = str(item.input.path), str(item.input.place)
    if decision.failure is None:
        return BatchRow(video, place, SKIPPED, results=tuple(map(str, item.targets.values())))
    code = NobodyFoundError.exit_code if decision.nobody else 1
    return BatchRow(video, place, FAILED, decision.failure, exit_code=code)


def _all_rows(items: Sequence[BatchItem], rows: Mapping[int, BatchRow]) -> list[BatchRow]:
    return [
        rows.get(i)
        or BatchRow(str(item.input.path), str(item.input.place), LEFT, "the batch ended before", exit_code=1)
        for i, item in enumerate(items)
    ]


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
