"""Run a batch: find missing results and make them with an executor.

No finished result is lost if workers fail.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp3d_cli import errors
from vp3d_cli.errors import NobodyFoundError, Vp3dError
from vp3d_cli.jobs import task as tasks
from vp3d_cli.jobs.executor import POLL_S, InlineExecutor, LocalExecutor, TaskExecutor, choose_jobs, free_bytes
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.lock import lock_folder
from vp3d_cli.jobs.loop import Job, Limits, Listener, Loop
from vp3d_cli.jobs.plan import BatchItem, Decision, Recipe, decide, make_recipe, results_of_older_versions
from vp3d_cli.jobs.report import FAILED, LEFT, SKIPPED, BatchRow, Outcome, failed_before, write_report
from vp3d_cli.jobs.storage import Place, is_shared, remove
from vp3d_cli.jobs.task import Setup
from vp3d_cli.pipeline.settings import InferSettings, with_absolute_paths
from vp3d_cli.runtime.processes import usable_cores


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch run.

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


def run_batch(
    items: Sequence[BatchItem], out: Place, options: BatchOptions, listener: Listener | None = None
) -> list[BatchRow]:
    """Process every unfinished video, and write the report ``batch.csv``.

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
        jobs: list[Job] = []
        older = results_of_older_versions(out)
        for i, item in enumerate(items):
            decision = decide(item, recipe, older, overwrite=options.overwrite)
            if decision.failure is None and decision.needed:
                jobs.append(Job(i, item, decision.needed))
            else:
                rows[i] = _settled(item, decision)
        before = failed_before(out)
        jobs.sort(key=lambda job: str(job.item.input.path) in before)  # lest they keep the others waiting
        workers.resize(len(jobs))
        executor = workers.executor
        at_once = min(executor.capacity, options.jobs or sys.maxsize)
        listener.planned([job.item for job in jobs], list(rows.values()), at_once, executor.threads)
        with _reporting(items, rows, out):
            Loop(executor, options.jobs, workers.setup, recipe, locks, options.limits, listener, rows).run(jobs)
        return _all_rows(items, rows)


def check_batch(items: Sequence[BatchItem], out: Place, options: BatchOptions) -> list[Decision]:
    """Return the plan of :func:`run_batch`; nothing is written.

    Raises:
        WeightsError, MissingDependencyError, ConfigError: the models cannot be loaded.
    """
    with contextlib.closing(_Workers(options, items, 1, None)) as workers:
        if any(place.exists() for item in items for place in (*item.targets.values(), item.nobody_file)):
            workers.load()
        recipe, older = workers.recipe(), results_of_older_versions(out)
        return [decide(item, recipe, older, overwrite=options.overwrite) for item in items]


class _Workers:
    """The executor of a batch, and the setup of its workers.

    There are no more local workers than tasks.

    Attributes:
        setup: what workers are told.
        weights: of the models, once they are loaded.
    """

    def __init__(self, options: BatchOptions, items: Sequence[BatchItem], count: int, scratch: Path | None) -> None:
        self._options, self._scratch, self._gpus, self._count = options, scratch, 0, count
        settings = with_absolute_paths(options.settings)
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

    def resize(self, count: int) -> None:
        """Adapt the local workers to a number of videos."""
        if isinstance(self._made, LocalExecutor) and self._size(count) != (self._made.capacity, self._made.threads):
            self._made.close()
            self._made = self._local(count)

    def load(self) -> None:
        """Load the models in a worker.

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
        """Return the recipe of the results."""
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
    """Write the report when the batch ends, also after an error."""
    try:
        yield
    finally:
        # An exception on its way, of a full disk perhaps, says more than that the report cannot be written, either.
        with contextlib.suppress(Vp3dError) if sys.exc_info()[0] else contextlib.nullcontext():
            write_report(_all_rows(items, rows), out)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and termination until cleanup is complete."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
