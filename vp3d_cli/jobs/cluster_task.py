"""What a dask worker does for a batch: it starts worker processes of its own, and hands videos to them.

So a video that crashes takes down a process and not the dask worker. Idle processes are kept for the next video of the
same batch, as their models are loaded; they end with the batch, with the dask worker, and after a while of idleness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vp3d_cli.jobs.messages import Order, Setup
from vp3d_cli.jobs.pool import Worker, end_all
from vp3d_cli.jobs.remote import Url, to_place
from vp3d_cli.jobs.staff import LOADING_S
from vp3d_cli.jobs.watch import Limits, Watch
from vp3d_cli.runtime.processes import cause_of_death

_LOOK_S = 0.5  # between two looks whether the batch still wants this video
_RELAY_S = 1.0  # between two reports of progress: all pass through the scheduler
_END_S = 1.2
_IDLE_S = 15.0  # a process without work ends: its batch may have died

Reports = list[dict[str, Any]]


class _Processes:
    """The worker processes of this dask worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[Worker, Mapping[str, Any]]]] = {}  # by batch
        self._busy: dict[str, list[Worker]] = {}
        # Linux ends a process when the thread that started it ends: this thread does not.
        self._starter = ThreadPoolExecutor(1, "vp3d-starter")
        self._reaper: threading.Timer | None = None

    def take(self, batch: str, setup: Setup, folder: str) -> tuple[Worker, Mapping[str, Any]]:
        """A process that has loaded its models, and what it said then.

        Raises:
            _Unable: it cannot load them.
        """
        with self._lock:
            idle = self._idle.get(batch, [])
            if idle:
                worker, said = idle.pop()
                self._busy.setdefault(batch, []).append(worker)
                return worker, said
        setup = dataclasses.replace(setup, parent=os.getpid())
        worker = self._starter.submit(Worker, uuid.uuid4().hex, setup, (), {"TMPDIR": folder}).result()
        with self._lock:
            self._busy.setdefault(batch, []).append(worker)
        try:
            return worker, _wait_until_ready(worker)
        except BaseException:
            self.drop(batch, worker)
            raise

    def give_back(self, batch: str, worker: Worker, said: Mapping[str, Any]) -> None:
        """Keep a process for the next video."""
        with self._lock:
            self._busy[batch].remove(worker)
            self._idle.setdefault(batch, []).append((worker, said))
            if self._reaper is not None:
                self._reaper.cancel()
            self._reaper = threading.Timer(_IDLE_S, self._end_idle)
            self._reaper.daemon = True
            self._reaper.start()

    def drop(self, batch: str, worker: Worker) -> None:
        """End a process."""
        worker.kill()
        worker.close()
        with self._lock, contextlib.suppress(KeyError, ValueError):
            self._busy[batch].remove(worker)

    def end(self, batch: str) -> None:
        """End all processes of a batch; who waits for one sees it end."""
        with self._lock:
            idle = [worker for worker, _ in self._idle.pop(batch, [])]
            busy = list(self._busy.get(batch, []))
        for worker in (*idle, *busy):
            worker.kill()
        for worker in idle:
            worker.close()

    def _end_idle(self) -> None:
        with self._lock:
            idle = [worker for kept in self._idle.values() for worker, _ in kept]
            self._idle = {}
        end_all(idle, _END_S)
        for worker in idle:
            worker.close()


_PROCESSES = _Processes()


class _Unable(Exception):
    """This machine cannot do this batch; another one may."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(report["message"])
        self.report = dict(report)


def load_models(batch: str, setup: str) -> dict[str, Any]:
    """Load the models in a process that is then kept: a ``ready`` report, or ``unable`` and why."""
    try:
        worker, said = _PROCESSES.take(batch, Setup.from_json(setup), _own_folder())
    except _Unable as unable:
        return unable.report
    _PROCESSES.give_back(batch, worker, said)
    return dict(said)


def do_video(batch: str, setup: str, order: str, limits: Mapping[str, Any], identity: Mapping[str, str]) -> Reports:
    """Do a video in a process of its own.

    Args:
        batch: its name, which is the topic that progress is reported under, too.
        setup, order: as JSON.
        limits: of time, the fields of :class:`vp3d_cli.jobs.watch.Limits`.
        identity: what models the others have loaded.

    Returns:
        Reports, as the process gave them but for progress, of which the last one is kept. The last is ``finished``,
        ``failed``, ``unable`` (this machine cannot; ``address`` says which it is), ``lost`` (the process died or was
        ended: ``reason`` and ``words``) or ``unwanted``.
    """
    given = Order.from_json(order.encode())
    relay = _Relay(batch, given)
    folder = tempfile.mkdtemp(dir=_own_folder())
    try:
        given = _own_places(given, folder)
        worker, said = _PROCESSES.take(batch, Setup.from_json(setup), _own_folder())
        if said["identity"] != identity:
            _PROCESSES.drop(batch, worker)
            raise _Unable(_unable("has other weights, or another vp3d, than the worker that was asked first"))
        reports = _follow(worker, given, Limits(**limits), relay)
        if reports[-1]["event"] in ("finished", "failed"):
            _PROCESSES.give_back(batch, worker, said)
        else:
            _PROCESSES.drop(batch, worker)
        return reports
    except _Unable as unable:
        return [{**unable.report, "address": relay.address}]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_batch(batch: str) -> None:
    """End the processes that this dask worker has for a batch."""
    _PROCESSES.end(batch)


class _Relay:
    """Sends progress to the batch, by way of the scheduler, and knows whether the batch is still there."""

    def __init__(self, batch: str, order: Order) -> None:
        from distributed import get_worker

        self._worker = get_worker()
        self._key = self._worker.get_current_task()
        self._batch, self._staged = batch, next(iter(order.staged.values()), "")
        self._sent = 0.0
        self._stage = ""
        self.address = str(self._worker.address)

    def progress(self, report: Mapping[str, Any]) -> None:
        """Report a stage; once in a while is enough."""
        now = time.monotonic()
        if report["stage"] != self._stage or now - self._sent >= _RELAY_S:
            self._stage, self._sent = report["stage"], now
            self._worker.log_event(self._batch, {**report, "key": self._key})

    def is_wanted(self) -> bool:
        """Whether the scheduler still waits for this video: not if the batch has ended, or been killed."""
        task = self._worker.state.tasks.get(self._key)
        closing = self._worker.status.name in ("closing", "closed", "failed", "closing_gracefully")
        return not closing and task is not None and task.state != "cancelled"


def _follow(worker: Worker, order: Order, limits: Limits, relay: _Relay) -> Reports:
    """Give a process its video, pass on what it says, and end it when it hangs or nobody waits for it any more."""
    now = time.monotonic()
    watch = Watch(now, now)
    kept: Reports = []
    progress: dict[str, Any] | None = None
    worker.give(order)
    while True:
        now = time.monotonic()
        end, reason = watch.deadline(limits)
        if end is not None and now >= end:
            worker.show_where_it_hangs()
            end_all([worker], _END_S)
            kept += [report for report in _rest(worker) if report["event"] == "made"]
            return [*_listed(progress), *kept, _lost(worker, reason)]
        if not relay.is_wanted():
            return [{"event": "unwanted"}]
        wait = _LOOK_S if end is None else min(_LOOK_S, end - now)
        if not select.select([worker], [], [], max(0.0, wait))[0]:
            continue
        reports, last = worker.read()
        for report in reports:
            watch.hear(report, time.monotonic())
            if report["event"] == "progress":
                progress = report
                relay.progress(report)
                continue
            kept.append(report)
            if report["event"] == "failed" and not report["expected"]:
                report["words"] = worker.words()
            if report["event"] in ("finished", "failed"):
                return [*_listed(progress), *kept]
        if last:
            return [*_listed(progress), *kept, _lost(worker, cause_of_death(worker.process.wait()))]


def _listed(progress: dict[str, Any] | None) -> Reports:
    return [] if progress is None else [progress]


def _rest(worker: Worker) -> Iterator[dict[str, Any]]:
    """What a process that has ended had still to say."""
    last = False
    while not last:
        reports, last = worker.read()
        yield from reports


def _lost(worker: Worker, reason: str) -> dict[str, Any]:
    return {"event": "lost", "reason": reason, "words": worker.words()}


def _wait_until_ready(worker: Worker) -> Mapping[str, Any]:
    until = time.monotonic() + LOADING_S
    while select.select([worker], [], [], max(0.0, until - time.monotonic()))[0]:
        reports, last = worker.read()
        for report in reports:
            if report["event"] == "ready":
                return report
            raise _Unable({**report, "event": "unable"})
        if last:
            words = worker.words()
            told = words.splitlines()[-1] if words else "it wrote nothing to stderr"
            raise _Unable(_unable(f"could not load the models: {cause_of_death(worker.process.wait())}; {told}"))
    raise _Unable(_unable(f"did not finish loading in {LOADING_S:g} s"))


def _unable(message: str) -> dict[str, Any]:
    return {"event": "unable", "error": "Vp3dError", "message": message}


def _own_folder() -> str:
    """A folder of this dask worker, which dask removes after it, even if it was killed."""
    from distributed import get_worker

    folder = Path(get_worker().local_directory) / "vp3d"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _own_places(order: Order, folder: str) -> Order:
    """The order with places for unfinished files that nobody else has.

    A dask worker that was cut off and taken for dead may still work at this video while we do; only who is heard by the
    batch has their result moved into place.

    Raises:
        _Unable: files of the batch are not to be seen from this machine; ``unseen`` is the video, if it is that.
    """
    own = uuid.uuid4().hex
    staged: dict[str, str] = {}
    for kind, text in order.staged.items():
        place = to_place(text)
        if isinstance(place, Url):
            staged[kind] = str(place.parent / own / place.name)
            continue
        try:
            (place.parent / own).mkdir()
        except OSError as error:
            raise _Unable(_unable(_not_seen(place.parent, error))) from error
        staged[kind] = str(place.parent / own / place.name)
    video = to_place(order.video)
    if isinstance(video, Path) and not video.exists():
        message = _not_seen(video, FileNotFoundError(2, "No such file or directory"))
        raise _Unable({**_unable(message), "unseen": str(video)})
    return dataclasses.replace(order, staged=staged, scratch=folder)


def _not_seen(path: Path, error: OSError) -> str:
    return (
        f"cannot use {path} ({error.strerror}): all machines of a cluster must see videos and results under the same "
        "path; put them on a shared disk, or give URLs such as s3://..."
    )


# dask tells of each task that ends late, and of each connection that breaks; the batch says what matters.
logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
