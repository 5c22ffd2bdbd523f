"""A batch whose videos are done by the workers of a dask cluster: ``vp3d batch --scheduler tcp://HOST:PORT``.

To the batch a slot is a worker like any other. What it is given is submitted as a task of dask, which chooses the
machine, and hands the video to another one when that machine dies; ``cluster_task.py`` is what runs there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vp3d_cli.errors import ConfigError, MissingDependencyError, Vp3dError
from vp3d_cli.jobs import cluster_task
from vp3d_cli.jobs.cluster_parts import SharedVideo, can_be_shared
from vp3d_cli.jobs.cluster_slot import Receiver, Slot
from vp3d_cli.jobs.messages import JOIN, Failure, Order, Setup
from vp3d_cli.jobs.staff import error_of
from vp3d_cli.jobs.watch import Limits

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_S = 5.0  # for one attempt
_POLL_S = 0.5


class ClusterStaff:
    """Has a cluster do the work.

    Attributes:
        identity: what results depend on beside the settings: of the worker that was asked first.
    """

    check_every_s = 1.0
    keeps_time = True

    def __init__(self, address: str, setup: Setup, limits: Limits, patience_s: float) -> None:
        """Connect.

        Args:
            address: of the scheduler.
            setup: what workers are told.
            limits: of time for each video.
            patience_s: how long to wait for a scheduler, or for workers, that are away.

        Raises:
            MissingDependencyError: dask is not installed.
            ConfigError: this is no address.
            Vp3dError: there is no scheduler.
        """
        try:
            import distributed
        except ImportError as error:
            raise MissingDependencyError(
                "--scheduler needs dask; install it with: pip install 'vp3d[cluster]', here and on every worker"
            ) from error
        # It would log each attempt to reach a scheduler that is away; what matters is raised.
        for name in ("distributed.client", "distributed.core", "distributed.comm", "distributed.batched"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.identity: Mapping[str, str] = {}
        self._distributed = distributed
        self._address, self._setup, self._patience_s = address, setup, patience_s
        self._limits = {**asdict(limits), "retries": 0}
        self._batch = f"vp3d-{uuid.uuid4().hex}"
        self._lock = threading.RLock()  # held by who submits, or ends
        self._slots: dict[str, Receiver] = {}  # by the key of the task
        self._futures: dict[str, Future] = {}
        self._unfit: dict[str, dict[str, Any]] = {}  # workers that cannot do this batch, and what they said
        self._fatal: Vp3dError | None = None
        self._workers: dict[str, int] = {}  # address to threads
        self._looked = float("-inf")
        self._alone_since: float | None = None
        self._client = self._connect()

    @property
    def capacity(self) -> int:
        """Threads of all workers that can do this batch; at least one, so that a cluster may grow."""
        return max(1, sum(self._fit().values()))

    def load(self) -> None:
        """Have one worker load the models.

        Raises:
            Vp3dError: as loading them raises, or there are no workers.
        """
        future = self._client.submit(
            cluster_task.load_models, self._batch, self._setup.to_json(), key=f"{self._batch}-load", pure=False
        )
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        while not ended.wait(_POLL_S):
            self.check()
        if future.status == "cancelled":
            raise _gone(self._address, "it went away while a worker loaded the models")
        if future.status == "error":
            raise _cannot_run(future.exception())
        said = future.result()
        if said["event"] != "ready":
            raise error_of(said)
        self.identity = said["identity"]

    def size(self, videos: int, jobs: int | None, threads: int | None) -> tuple[int, int]:
        """As many videos at a time as the cluster has threads now, or ``jobs`` at most; one thread each."""
        self._setup = replace(self._setup, threads=threads or 1)
        return max(1, min(videos, jobs or videos)), threads or 1

    def hire(self, number: int) -> Slot:
        """Room for one more video."""
        return Slot(f"{os.getpid()}-{number}", self._take, {"event": "ready", "identity": dict(self.identity)})

    def welcome(self, worker: Slot, report: Mapping[str, Any]) -> None:
        """A slot is always ready."""
        worker.ready = True

    def check(self) -> None:
        """Reconnect where the connection has been lost, and see whether there are workers.

        Raises:
            Vp3dError: the scheduler, or all workers, are away for longer than one is to wait; or none can do this
                batch.
        """
        if self._fatal is not None:
            raise self._fatal
        if self._client.status != "running":
            self._abandon(f"the scheduler at {self._address} went away")
            self._close()
            self._client = self._connect()
        self._look()
        if self._workers and not self._fit():
            raise error_of(next(iter(self._unfit.values())))
        now = time.monotonic()
        self._alone_since = None if self._workers else self._alone_since or now
        if self._alone_since is not None and now - self._alone_since >= self._patience_s:
            raise Vp3dError(
                f"the cluster at {self._address} has no workers; start some (dask worker {self._address}), and run "
                "the same command again: what is done stays done"
            )

    def end(self, workers: Sequence[Slot], patience_s: float) -> None:
        """End the processes of this batch on all workers, and take back what was submitted."""
        with self._lock:
            for slot in workers:
                slot.ended = True  # no further part of its video is submitted
            futures = self._taken_back(workers)
        if self._client.status == "running":
            # A cluster that does not answer sees for itself that nobody waits any more.
            with contextlib.suppress(Exception):
                self._client.cancel(futures, force=True)
                self._client.sync(self._end_everywhere, callback_timeout=patience_s)
        for slot in workers:
            slot.end("the batch ended", blameless=True)

    def dismiss(self) -> None:
        """Let go of the cluster, and end idle processes there."""
        with contextlib.suppress(Exception):
            self._client.sync(self._end_everywhere, callback_timeout=_CONNECT_S)
        self._close()

    async def _end_everywhere(self) -> None:
        await self._client.run(cluster_task.end_batch, self._batch, on_error="ignore")

    # The connection.

    def _connect(self) -> Client:
        """A client, once the scheduler is there."""
        until = time.monotonic() + self._patience_s
        while True:
            try:
                client = self._distributed.Client(self._address, timeout=_CONNECT_S, set_as_default=False)
                client.subscribe_topic(self._batch, self._hear)
                return client
            except ValueError as error:
                raise ConfigError(
                    f"{self._address}: is no address of a scheduler ({error}); write it as in tcp://10.0.0.1:8786"
                ) from error
            except OSError as error:  # TimeoutError is one
                if time.monotonic() >= until:
                    raise _gone(self._address, "no scheduler answers there") from error
            time.sleep(_POLL_S)

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close(timeout=_POLL_S)

    def _look(self) -> None:
        """See who is there; not more often than it changes."""
        now = time.monotonic()
        if now - self._looked < self.check_every_s / 2:
            return
        self._looked = now
        try:
            self._workers = dict(self._client.nthreads())
        except (OSError, self._distributed.TimeoutError):
            self._workers = {}  # whether the scheduler has gone is seen next time

    def _fit(self) -> dict[str, int]:
        """Threads of each worker that can do this batch."""
        return {address: threads for address, threads in self._workers.items() if address not in self._unfit}

    # Videos.

    def _take(self, slot: Slot, order: Order) -> None:
        if not can_be_shared(self._setup.settings, order):
            self._submit(slot, order)
            return
        patient = not self._limits["fail_fast"]
        SharedVideo(slot, order, self._submit, self._withdraw, self._lock, patient).begin()

    def _submit(self, slot: Receiver, order: Order) -> None:
        with self._lock:
            if not slot.owner.ended:
                self._submit_now(slot, order)

    def _submit_now(self, slot: Receiver, order: Order) -> None:
        key = f"{self._batch}-{uuid.uuid4().hex}"
        self._slots[key] = slot
        joins = order.share is not None and order.share["do"] == JOIN  # before other videos' parts
        arguments = (self._batch, self._setup.to_json(), order.to_json(), self._limits, dict(self.identity))
        try:
            future = self._client.submit(
                cluster_task.do_video,
                *arguments,
                key=key,
                pure=False,
                workers=list(self._fit()) if self._unfit else None,
                priority=int(joins),
            )
        except Exception as error:  # noqa: BLE001 (dask raises what it likes when its connection is gone)
            self._slots.pop(key)
            slot.end(f"the scheduler at {self._address} did not take it ({error})", blameless=True)
            return
        self._futures[key] = future
        future.add_done_callback(self._done)

    def _done(self, future: Future) -> None:
        """A task has ended, for one reason or another; called in a thread of dask."""
        self._futures.pop(future.key, None)
        slot = self._slots.pop(future.key, None)
        if slot is None:
            return
        if future.status == "finished":
            try:
                reports = future.result(timeout=_CONNECT_S)
            except Exception as error:  # noqa: BLE001 (whatever kept it from us, the video is done again)
                slot.elsewhere(f"its result did not arrive ({error})")
                return
            last = reports[-1]
            if last["event"] == "unable" and not os.path.exists(last.get("unseen", os.sep)):
                slot.tell(_no_video(last["unseen"]))  # nor do we see it: the machine is as good as ours
            elif last["event"] == "unable":
                self._unfit[last["address"]] = {**last, "message": f"{last['address']}: {last['message']}"}
                slot.elsewhere(f"the worker {last['address']} cannot do it: {last['message']}")
            elif last["event"] == "unwanted":
                slot.elsewhere("its worker was cut off")
            else:
                slot.finish(reports)
        elif future.status == "cancelled":
            slot.end(f"the scheduler at {self._address} went away", blameless=True)
        else:
            raised = future.exception()
            if type(raised).__name__ == "KilledWorker":
                slot.end("every worker of the cluster that had it died, most likely because memory ran out")
            else:
                self._fatal = _cannot_run(raised)
                slot.end(str(self._fatal), blameless=True)

    def _hear(self, event: tuple[float, Any]) -> None:
        """Progress that a worker reports; called in a thread of dask."""
        report = event[1]
        slot = self._slots.get(report["key"])
        if slot is not None:
            slot.tell(report)

    def _taken_back(self, slots: Sequence[Slot]) -> list[Future]:
        """Hear no more of the tasks of these slots."""
        with self._lock:
            keys = [key for key, receiver in list(self._slots.items()) if receiver.owner in slots]
            for key in keys:
                self._slots.pop(key, None)
            return [future for key in keys if (future := self._futures.pop(key, None)) is not None]

    def _withdraw(self, slot: Slot) -> None:
        """Have nobody work for a slot any more."""
        futures = self._taken_back([slot])
        if futures and self._client.status == "running":
            with contextlib.suppress(Exception):  # a cluster that does not answer sees for itself
                self._client.cancel(futures, force=True)

    def _abandon(self, reason: str) -> None:
        """Nothing that was submitted will be heard of again."""
        self._futures.clear()
        for key in list(self._slots):
            slot = self._slots.pop(key, None)
            if slot is not None:
                slot.end(reason, blameless=True)


def _no_video(path: str) -> dict[str, Any]:
    """The report on a video that is not there any more."""
    message = f"no such video: {path}; it was removed, or its disk is away: run again when it is back"
    return {"event": "failed", **asdict(Failure("InputError", message))}


def _gone(address: str, what: str) -> Vp3dError:
    return Vp3dError(
        f"{address}: {what}; start it (dask scheduler, dask worker), and run the same command again: what is done "
        "stays done"
    )


def _cannot_run(error: BaseException | None) -> Vp3dError:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return Vp3dError(f"a worker of the cluster cannot run vp3d ({said}); install this version of vp3d[cluster] there")
