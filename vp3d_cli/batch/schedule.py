"""The loop of a batch: workers get videos, are listened to, watched, and replaced when they die."""

from __future__ import annotations

import contextlib
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vp3d_cli.batch.fingerprint import Fingerprint, Glance, glance
from vp3d_cli.batch.folder import BatchFolder
from vp3d_cli.batch.messages import Order
from vp3d_cli.batch.plan import BatchItem, Recipe, check_room, started_name
from vp3d_cli.batch.pool import Worker, cause_of_death, end_all
from vp3d_cli.batch.report import DONE, FAILED, BatchRow
from vp3d_cli.batch.staff import LOADING_S, Staff, error_of, workers_die
from vp3d_cli.batch.work import HASHING
from vp3d_cli.errors import Vp3dError

# With less free than this no video is begun: a pose of an hour with a few people takes some ten MB.
LEAST_FREE_BYTES = 16 << 20
_DEATHS_IN_A_ROW = 3  # of workers that load: the next one would die, too
_END_S = 1.2
_STAGES = {"detect": "finding people", "lift": "lifting to 3D", "render": "drawing", HASHING: "reading the video"}


@dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        retries: further attempts at a video whose worker died, hung or met with an error that vp3d did not expect.
        timeout_s: that one video may take; None for no limit.
        stall_s: without progress before a worker counts as hanging; None for no limit.
        fail_fast: end the batch at the first failure.
    """

    retries: int = 1
    timeout_s: float | None = None
    stall_s: float | None = 900.0
    fail_fast: bool = False


class Listener:
    """Is told what happens in a batch; this one does not mind."""

    def loading(self) -> None:
        """The models are being loaded for the first time."""

    def planned(self, todo: Sequence[BatchItem], settled: Sequence[BatchRow], jobs: int, threads: int) -> None:
        """What is to be done is known, and what is not: done before, or known to fail."""

    def started(self, item: BatchItem) -> None:
        """A worker has begun with a video."""

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        """So many frames are through a stage."""

    def postponed(self, item: BatchItem, reason: str) -> None:
        """An attempt has failed; another will be made when the other videos are done."""

    def ended(self, item: BatchItem, row: BatchRow) -> None:
        """A video is done or has failed."""


@dataclass
class Task:
    """A video to do, and how far it is.

    Attributes:
        number: its place in the batch.
        item: the video.
        needed: kinds of result still to make.
        recipe: what they are made with.
        attempts: begun so far.
        seconds: spent in attempts that have ended.
        facts: of what was made, from the worker.
        warnings: likewise.
    """

    number: int
    item: BatchItem
    needed: tuple[str, ...]
    recipe: Recipe
    attempts: int = 0
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class _Desk:
    """A worker and what it is at; times are of the monotonic clock."""

    worker: Worker
    since: float  # when the task, or loading, began
    sign_of_life: float
    task: Task | None = None
    glance: Glance | None = None
    doing: str = ""


class Schedule:
    """Does tasks with a number of workers."""

    def __init__(
        self,
        folder: BatchFolder,
        limits: Limits,
        listener: Listener,
        staff: Staff,
        jobs: int,
        rows: dict[int, BatchRow],
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: where results go.
            limits: when to give up.
            listener: told what happens.
            staff: starts workers.
            jobs: workers at a time.
            rows: filled with what comes of each task, by its number.
        """
        self._folder, self._limits, self._listener = folder, limits, listener
        self._staff, self._jobs, self._rows = staff, jobs, rows
        self._desks: list[_Desk] = []
        self._pending: deque[Task] = deque()
        self._hired = 0
        self._deaths = 0
        self._over = False  # no further video is begun

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all tasks, begun in this order; with ``fail_fast`` up to the first that fails.

        Raises:
            OutputError: the disk is full.
            Vp3dError: workers cannot be started.
        """
        self._pending = deque(tasks)
        try:
            while not self._over and (self._pending or any(desk.task for desk in self._desks)):
                self._assign()
                for desk in self._wait():
                    self._hear(desk)
                self._look_at_clocks()
        finally:
            self._end()

    # Videos to workers.

    def _assign(self) -> None:
        loading = sum(not desk.worker.ready for desk in self._desks)
        while len(self._desks) < self._jobs and loading < len(self._pending):
            now = time.monotonic()
            self._desks.append(_Desk(self._staff.hire(self._hired), now, now))
            self._hired += 1
            loading += 1
        for desk in self._desks:
            if desk.worker.ready and desk.task is None and self._pending:
                self._begin(desk, self._pending.popleft())

    def _begin(self, desk: _Desk, task: Task) -> None:
        item = task.item
        targets = {kind: str(target) for kind, target in item.targets.items()}
        staged: dict[str, str] = {}
        for kind in task.needed:
            root = item.roots[kind]
            check_room(root, LEAST_FREE_BYTES)
            place = self._folder.staging(root, f"{desk.worker.name}/{kind}")
            staged[kind] = str(place / f"{kind}{item.targets[kind].suffix}")
        self._folder.journal.append(
            "started", video=str(item.input.path), results=[started_name(kind, item.keys[kind]) for kind in task.needed]
        )
        task.attempts += 1
        desk.task, desk.doing = task, ""
        desk.since = desk.sign_of_life = time.monotonic()
        with contextlib.suppress(OSError):
            desk.glance = glance(item.input.path)
        keypoints = None if item.keypoints is None else str(item.keypoints)
        desk.worker.give(Order(str(item.input.path), keypoints, task.needed, targets, staged))
        self._listener.started(item)

    # Reports of workers.

    def _wait(self) -> list[_Desk]:
        """Desks whose worker has something to say, or has died; none when a clock has run out before."""
        with selectors.DefaultSelector() as selector:
            for desk in self._desks:
                selector.register(desk.worker, selectors.EVENT_READ, desk)
            deadlines = [deadline for desk in self._desks if (deadline := self._deadline(desk)[0]) is not None]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            return [key.data for key, _ in selector.select(timeout)]

    def _hear(self, desk: _Desk) -> None:
        reports, last = desk.worker.read()
        desk.sign_of_life = time.monotonic()
        for report in reports:
            self._take(desk, report)
        if last:
            self._desks.remove(desk)
            self._bury(desk, f"{cause_of_death(desk.worker.process.wait())}{desk.doing}")

    def _take(self, desk: _Desk, report: Mapping[str, Any]) -> None:
        event, task = report["event"], desk.task
        if event == "ready":
            self._staff.welcome(desk.worker, report)
            self._deaths = 0
        elif task is None:
            if not self._others_are_ready():
                raise error_of(report)  # of loading: the next one would fail as well
        elif event == "progress":
            done, total = report["done"], report["total"]
            desk.doing = f" while {_STAGES.get(report['stage'], report['stage'])}, frame {done}"
            self._listener.progress(task.item, report["stage"], done, total)
        elif event == "made":
            self._made(task, report)
        elif event == "finished":
            self._leave(desk)
            self._settle(task, DONE)
        elif event == "failed":
            self._leave(desk)
            self._failed(desk, task, report)

    def _made(self, task: Task, report: Mapping[str, Any]) -> None:
        kind = report["kind"]
        facts = {name: report[name] for name in ("input", "output", "frames", "people", "seconds")}
        self._folder.journal.append("made", kind=kind, key=task.item.keys[kind], recipe=task.recipe, **facts)
        task.needed = tuple(other for other in task.needed if other != kind)
        task.facts = facts
        task.warnings += report["warnings"]

    def _failed(self, desk: _Desk, task: Task, report: Mapping[str, Any]) -> None:
        if not report["expected"]:
            self._lost(task, report["message"], desk.worker.words())
            return
        if report["error"] == "NobodyFoundError" and desk.glance is not None:
            self._folder.journal.append(
                "nobody",
                input=Fingerprint(desk.glance, "").as_json(),
                recipe=task.recipe,
                message=report["message"],
            )
        self._settle(task, FAILED, report["message"], code=report["exit_code"])

    def _bury(self, desk: _Desk, reason: str) -> None:
        """Say what became of the video of a worker that has ended; another worker will be hired."""
        words = desk.worker.words()
        desk.worker.close()
        self._folder.discard(desk.worker.name)
        if desk.task is not None:
            desk.task.seconds += time.monotonic() - desk.since
            self._lost(desk.task, reason, words)
        elif not desk.worker.ready:
            self._deaths += 1
            if self._others_are_ready():
                self._jobs = len(self._desks)  # there is not enough of something, memory perhaps: go on with fewer
            elif self._deaths >= _DEATHS_IN_A_ROW:
                raise workers_die(reason, words)

    def _others_are_ready(self) -> bool:
        return any(desk.worker.ready for desk in self._desks)

    # What became of a video.

    def _leave(self, desk: _Desk) -> None:
        """The worker is free again."""
        if desk.task is not None:
            desk.task.seconds += time.monotonic() - desk.since
        desk.task = None
        self._folder.discard(desk.worker.name)

    def _lost(self, task: Task, reason: str, words: str) -> None:
        """An attempt failed for a reason that may not hold another time."""
        self._folder.journal.append("lost", video=str(task.item.input.path), reason=reason, attempt=task.attempts)
        if task.attempts <= self._limits.retries and not self._limits.fail_fast:
            self._pending.append(task)
            self._listener.postponed(task.item, reason)
        else:
            self._settle(task, FAILED, reason, words)

    def _settle(self, task: Task, status: str, reason: str = "", words: str = "", code: int = 1) -> None:
        frames, worked = task.facts.get("frames"), task.facts.get("seconds")
        done = [kind for kind in task.item.targets if kind not in task.needed]
        row = BatchRow(
            video=str(task.item.input.path),
            place=str(task.item.input.place),
            status=status,
            reason=reason,
            seconds=task.seconds,
            frames=frames,
            frames_per_second=frames / worked if frames and worked else None,
            people=task.facts.get("people"),
            attempts=task.attempts,
            results=tuple(str(task.item.targets[kind]) for kind in done),
            warnings=tuple(task.warnings),
            stderr=words,
            exit_code=0 if status == DONE else code,
        )
        self._rows[task.number] = row
        if status == FAILED:
            self._folder.journal.append("failed", video=row.video, reason=reason)
            self._over = self._limits.fail_fast
        self._listener.ended(task.item, row)

    # Time.

    def _deadline(self, desk: _Desk) -> tuple[float | None, str]:
        """When a worker has to be ended, and why then."""
        limits = self._limits
        if desk.task is None:
            return (None, "") if desk.worker.ready else (desk.since + LOADING_S, "it did not finish loading")
        ends: list[tuple[float, str]] = []
        if limits.timeout_s is not None:
            ends.append((desk.since + limits.timeout_s, f"took longer than {limits.timeout_s:g} s (--timeout)"))
        if limits.stall_s is not None:
            ends.append((desk.sign_of_life + limits.stall_s, f"hung: no progress for {limits.stall_s:g} s (--stall)"))
        return min(ends) if ends else (None, "")

    def _look_at_clocks(self) -> None:
        for desk in list(self._desks):
            end, reason = self._deadline(desk)
            if end is not None and time.monotonic() >= end:
                self._desks.remove(desk)
                desk.worker.show_where_it_hangs()
                end_all([desk.worker], _END_S)
                self._drain(desk)
                self._bury(desk, f"{reason}{desk.doing}")

    def _drain(self, desk: _Desk) -> None:
        """Take what a worker that has ended had still to say: it may have made something."""
        last = False
        while not last:
            reports, last = desk.worker.read()
            for report in reports:
                if desk.task is not None and report["event"] in ("made", "finished"):
                    self._take(desk, report)

    def _end(self) -> None:
        """End all workers, whatever they are at, and remove what is unfinished."""
        with _undisturbed():
            self._over = True
            end_all([desk.worker for desk in self._desks], _END_S)
            for desk in self._desks:
                # A full disk has been reported already, or will be by the next batch.
                with contextlib.suppress(Vp3dError):
                    self._drain(desk)
                desk.worker.close()
                self._folder.discard(desk.worker.name)
            self._desks = []


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let no second Ctrl-C interrupt the tidying up after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
