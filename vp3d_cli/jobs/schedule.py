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
from pathlib import Path
from typing import Any

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.jobs.fingerprint import Fingerprint, Glance, glance
from vp3d_cli.jobs.folder import BatchFolder
from vp3d_cli.jobs.messages import Order
from vp3d_cli.jobs.places import absolute, move
from vp3d_cli.jobs.plan import BatchItem, Recipe, check_room, started_name
from vp3d_cli.jobs.remote import Place, Url, fetch
from vp3d_cli.jobs.report import DONE, FAILED, BatchRow
from vp3d_cli.jobs.staff import LOADING_S, Crew, Hand, error_of, workers_die
from vp3d_cli.jobs.watch import Limits, Watch
from vp3d_cli.jobs.work import is_read

# With less free than this no video is begun: a pose of an hour with a few people takes some ten MB.
LEAST_FREE_BYTES = 16 << 20
_DEATHS_IN_A_ROW = 3  # of workers that load: the next one would die, too
_END_S = 1.2


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
        problem: why a result that was made is not in its place; empty where nothing is wrong.
    """

    number: int
    item: BatchItem
    needed: tuple[str, ...]
    recipe: Recipe
    attempts: int = 0
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class _Desk:
    """A worker and what it is at."""

    worker: Hand
    watch: Watch  # of the task, or of loading
    task: Task | None = None
    glance: Glance | None = None


class Schedule:
    """Does tasks with a number of workers."""

    def __init__(
        self,
        folder: BatchFolder,
        limits: Limits,
        listener: Listener,
        staff: Crew[Any],
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
                self._staff.check()
                self._assign()
                for desk in self._wait():
                    self._hear(desk)
                self._look_at_clocks()
        finally:
            self._end()

    # Videos to workers.

    def _assign(self) -> None:
        loading = sum(not desk.worker.ready for desk in self._desks)
        while len(self._desks) < min(self._jobs, self._staff.capacity) and loading < len(self._pending):
            now = time.monotonic()
            self._desks.append(_Desk(self._staff.hire(self._hired), Watch(now, now)))
            self._hired += 1
            loading += 1
        for desk in self._desks:
            if desk.worker.ready and desk.task is None and self._pending:
                self._begin(desk, self._pending.popleft())

    def _begin(self, desk: _Desk, task: Task) -> None:
        item = task.item
        staged: dict[str, str] = {}
        for kind in task.needed:
            root = item.roots[kind]
            check_room(root, LEAST_FREE_BYTES)
            place = self._folder.staging(root, f"{desk.worker.name}/{kind}")
            staged[kind] = str(absolute(place / f"{kind}{item.targets[kind].suffix}"))
        scratch = self._folder.scratch(desk.worker.name).absolute()
        self._folder.journal.append(
            "started", video=str(item.input.path), results=[started_name(kind, item.keys[kind]) for kind in task.needed]
        )
        task.attempts += 1
        now = time.monotonic()
        desk.task, desk.watch = task, Watch(now, now)
        with contextlib.suppress(OSError):
            desk.glance = glance(item.input.path)
        keep = self._folder.keep(item.keys[task.needed[0]])
        desk.worker.give(_order(task, staged, scratch, keep))
        self._listener.started(item)

    # Reports of workers.

    def _wait(self) -> list[_Desk]:
        """Desks whose worker has something to say, or has died; none when a clock has run out before."""
        with selectors.DefaultSelector() as selector:
            for desk in self._desks:
                selector.register(desk.worker, selectors.EVENT_READ, desk)
            deadlines = [deadline for desk in self._desks if (deadline := self._deadline(desk)[0]) is not None]
            deadlines += [] if self._staff.check_every_s is None else [time.monotonic() + self._staff.check_every_s]
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            return [key.data for key, _ in selector.select(timeout)]

    def _hear(self, desk: _Desk) -> None:
        reports, last = desk.worker.read()
        desk.watch.sign_of_life = time.monotonic()
        for report in reports:
            desk.watch.hear(report, time.monotonic())
            self._take(desk, report)
        if last:
            self._desks.remove(desk)
            self._bury(desk, desk.worker.how_it_ended() + desk.watch.doing)

    def _take(self, desk: _Desk, report: Mapping[str, Any]) -> None:
        event, task = report["event"], desk.task
        if event == "ready":
            self._staff.welcome(desk.worker, report)
            self._deaths = 0
        elif task is None:
            if not self._others_are_ready():
                raise error_of(report)  # of loading: the next one would fail as well
        elif event == "progress":
            self._listener.progress(task.item, report["stage"], report["done"], report["total"])
        elif event == "made":
            self._made(desk, task, report)
        elif event == "finished":
            self._leave(desk)
            self._settle(task, FAILED if task.problem else DONE, task.problem)
        elif event == "failed":
            self._leave(desk)
            self._failed(desk, task, report)

    def _made(self, desk: _Desk, task: Task, report: Mapping[str, Any]) -> None:
        kind = report["kind"]
        facts = {name: report[name] for name in ("input", "frames", "people", "seconds")}
        if desk.glance is not None and facts["input"]["path"] != desk.glance.path:  # a copy was read
            facts["input"] = Fingerprint(desk.glance, facts["input"]["sha256"]).as_json()
        try:
            facts["output"] = move(report["staged"], task.item.targets[kind], report["sha256"]).as_json()
        except OutputError as error:
            task.problem = str(error)
            return
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
            desk.task.seconds += time.monotonic() - desk.watch.since
            if desk.worker.blameless:
                desk.task.attempts -= 1
                self._pending.appendleft(desk.task)
                self._listener.postponed(desk.task.item, reason)
            else:
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
            desk.task.seconds += time.monotonic() - desk.watch.since
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
        if desk.task is not None:
            return (None, "") if self._staff.keeps_time else desk.watch.deadline(self._limits)
        return (None, "") if desk.worker.ready else (desk.watch.since + LOADING_S, "it did not finish loading")

    def _look_at_clocks(self) -> None:
        for desk in list(self._desks):
            end, reason = self._deadline(desk)
            if end is not None and time.monotonic() >= end:
                self._desks.remove(desk)
                desk.worker.show_where_it_hangs()
                self._staff.end([desk.worker], _END_S)
                self._drain(desk)
                self._bury(desk, f"{reason}{desk.watch.doing}")

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
            self._staff.end([desk.worker for desk in self._desks], _END_S)
            for desk in self._desks:
                # A full disk has been reported already, or will be by the next batch.
                with contextlib.suppress(Vp3dError):
                    self._drain(desk)
                desk.worker.close()
                self._folder.discard(desk.worker.name)
            self._desks = []


def _order(task: Task, staged: Mapping[str, str], scratch: Path, keep: Place | None) -> Order:
    """What a worker is told: paths from the root, as its working folder may be another one.

    What only this process can see is copied for it.
    """
    copies: dict[str, str] = {}

    def visible(place: Place, name: str) -> str:
        if not isinstance(place, Url) or place.shared:
            return str(absolute(place))
        folder = scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        copy = str(fetch(place, folder))
        copies[copy] = str(place)
        return copy

    item = task.item
    targets = {
        kind: visible(target, kind) if is_read(kind, task.needed) else str(absolute(target))
        for kind, target in item.targets.items()
    }
    keypoints = None if item.keypoints is None else visible(item.keypoints, "keypoints")
    video = visible(item.input.path, "video")
    kept = None if keep is None else str(absolute(keep))
    return Order(video, keypoints, task.needed, targets, staged, str(scratch), copies, kept)


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
