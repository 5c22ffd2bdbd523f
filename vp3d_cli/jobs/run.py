"""Run a batch: find out what is missing, hand it to worker processes, and lose nothing whatever happens to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vp3d_cli.errors import InputError, NobodyFoundError, Vp3dError
from vp3d_cli.io.atomic import content_sha256
from vp3d_cli.jobs.fingerprint import glance
from vp3d_cli.jobs.folder import BatchFolder
from vp3d_cli.jobs.journal import History, read_history
from vp3d_cli.jobs.messages import Setup
from vp3d_cli.jobs.places import with_absolute_paths
from vp3d_cli.jobs.plan import BatchItem, Recipe, Verdict, judge
from vp3d_cli.jobs.remote import Place
from vp3d_cli.jobs.report import FAILED, LEFT, SKIPPED, BatchRow, write_report
from vp3d_cli.jobs.schedule import Listener, Schedule, Task
from vp3d_cli.jobs.staff import Crew, Staff
from vp3d_cli.jobs.watch import Limits
from vp3d_cli.pipeline.settings import InferSettings

PIPELINE = "vp3d_cli.jobs.work:Pipeline"
# Settings that do not decide what a result is: where it is computed, and paths whose content counts instead.
_NOT_IN_RECIPE = ("device", "keypoints", "joint_map")


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run.

    Attributes:
        settings: of every video; with ``keypoints``, those of each :class:`BatchItem` are taken.
        format: of the 2D keypoints to write; empty where poses are made.
        command: what the user typed, for the provenance of results.
        jobs: worker processes; None to choose from the machine.
        threads: of each worker; None to choose.
        limits: retries and time.
        overwrite: do everything, whether it is there or not.
        processor: ``module:function`` that does a video; see :class:`vp3d_cli.jobs.work.Processor`.
        scheduler: address of a dask cluster that does the work; None for this machine.
        patience_s: how long to wait for that cluster to come back, or to get workers.
    """

    settings: InferSettings = field(default_factory=InferSettings)
    format: str = ""
    command: str = ""
    jobs: int | None = None
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    overwrite: bool = False
    processor: str = PIPELINE
    scheduler: str | None = None
    patience_s: float = 300.0


def run_batch(
    items: Sequence[BatchItem], out: Place, options: BatchOptions, listener: Listener | None = None
) -> list[BatchRow]:
    """Do every video that is not done, and report in ``batch.jsonl`` and ``batch.csv``.

    Results appear under their names when whole; the journal in ``out`` knows what they were made from and with, and
    the next batch does only what is missing. Ended by an exception, Ctrl-C included, workers are ended and unfinished
    files removed before it is raised again. Call it in the main thread.

    Args:
        items: from :func:`vp3d_cli.jobs.plan.plan_items`.
        out: folder of the batch.
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
    roots = tuple(dict.fromkeys(root for item in items for root in item.roots.values()))
    with BatchFolder(out, roots) as folder:
        # Threads are chosen before it is known what is to be done: for that, the models must be loaded.
        unknown = sum(not _is_known(item, folder.history, all) for item in items)
        staff = _staff(options, folder.lock_handles)
        try:
            staff.size(max(1, unknown), options.jobs, options.threads)
            listener.loading()
            staff.load()
            tasks, rows = _sort_out(items, folder, {**_recipe(options), **staff.identity}, options.overwrite)
            jobs, threads = staff.size(max(1, len(tasks)), options.jobs, options.threads)
            staff.check()  # the room on a cluster is what it is now
            todo = [task.item for task in tasks]
            listener.planned(todo, list(rows.values()), min(jobs, staff.capacity), threads)
            schedule = Schedule(folder, options.limits, listener, staff, jobs, rows)
            with _reporting(items, rows, out):
                schedule.run(tasks)
        finally:
            staff.dismiss()
        return _all_rows(items, rows)


def judge_batch(items: Sequence[BatchItem], out: Place, options: BatchOptions) -> list[Verdict]:
    """What :func:`run_batch` would do; nothing is written.

    Raises:
        OutputError: the journal in ``out`` cannot be read.
        WeightsError, MissingDependencyError, ConfigError: the models cannot be loaded.
    """
    history = read_history(out)
    recipe = _recipe(options)
    if any(_is_known(item, history, any) for item in items):
        staff = _staff(options)
        try:
            staff.load()
            recipe |= staff.identity
        finally:
            staff.dismiss()
    return [judge(item, history, recipe, overwrite=options.overwrite) for item in items]


def _sort_out(
    items: Sequence[BatchItem], folder: BatchFolder, recipe: Recipe, overwrite: bool
) -> tuple[list[Task], dict[int, BatchRow]]:
    """What is to be done, in order; and rows for what is not, by number."""
    tasks: list[Task] = []
    rows: dict[int, BatchRow] = {}
    for i, item in enumerate(items):
        verdict = judge(item, folder.history, recipe, overwrite=overwrite)
        if verdict.failure is None and verdict.needed:
            tasks.append(Task(i, item, verdict.needed, verdict.recipe))
            continue
        rows[i] = _settled(item, verdict)
        if rows[i].status == SKIPPED:
            _note_new_glance(item, folder)
    # What has failed, or was killed, goes last: it must not keep a batch that is killed often from getting on.
    tasks.sort(key=lambda task: folder.history.attempts[str(task.item.input.path)])
    return tasks, rows


def _staff(options: BatchOptions, lock_handles: Sequence[int] = ()) -> Crew[Any]:
    """Who does the work.

    Raises:
        Vp3dError: it is a cluster that cannot be reached.
    """
    threads = options.threads or 1
    settings = with_absolute_paths(options.settings)
    setup = Setup(settings, options.format, options.command, threads, os.getpid(), options.processor)
    if options.scheduler is None:
        return Staff(setup, lock_handles)
    from vp3d_cli.jobs.cluster import ClusterStaff

    return ClusterStaff(options.scheduler, setup, options.limits, options.patience_s)


def _recipe(options: BatchOptions) -> dict[str, Any]:
    """What results depend on, as JSON holds it; what the models are comes from a worker.

    Raises:
        InputError: the joint map cannot be read.
    """
    settings = dataclasses.asdict(options.settings)
    recipe: dict[str, Any] = {name: value for name, value in settings.items() if name not in _NOT_IN_RECIPE}
    joint_map = options.settings.joint_map
    if joint_map is not None:
        try:
            recipe["joint_map"] = content_sha256(Path(joint_map))
        except OSError as error:
            raise InputError(f"{joint_map}: cannot be read ({error.strerror}); check --joint-map") from error
    plain: dict[str, Any] = json.loads(json.dumps({"settings": recipe, "format": options.format}))
    return plain


def _is_known(item: BatchItem, history: History, which: Callable[[Iterable[bool]], bool]) -> bool:
    """Whether any or all results of a video may be good; to be sure, the models must be known."""
    return str(item.input.path) in history.nobody or which(key in history.made for key in item.keys.values())


def _settled(item: BatchItem, verdict: Verdict) -> BatchRow:
    """The row of a video that needs no work."""
    video, place = str(item.input.path), str(item.input.place)
    if verdict.failure is None:
        return BatchRow(video, place, SKIPPED, results=tuple(map(str, item.targets.values())))
    code = NobodyFoundError.exit_code if verdict.nobody else 1
    return BatchRow(video, place, FAILED, verdict.failure, exit_code=code)


def _note_new_glance(item: BatchItem, folder: BatchFolder) -> None:
    """Where a video that was copied, say, is known by its content only: spare the next batch to read it."""
    with contextlib.suppress(OSError):  # it is good as it is
        now = dataclasses.asdict(glance(item.input.path))
        for key in item.keys.values():
            entry = dict(folder.history.made[key])
            if any(entry["input"][name] != value for name, value in now.items()):
                folder.journal.append(entry.pop("event"), **{**entry, "input": {**entry["input"], **now}})


def _all_rows(items: Sequence[BatchItem], rows: dict[int, BatchRow]) -> list[BatchRow]:
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
