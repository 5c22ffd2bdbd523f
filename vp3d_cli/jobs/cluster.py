"""Run tasks on a dask cluster, for ``vp3d batch --scheduler tcp://HOST:PORT``.

Each worker has one thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from vp3d_cli.errors import ConfigError, MissingDependencyError, StoppedError, Vp3dError
from vp3d_cli.jobs.executor import Failure, Reporter, Task, TaskExecutor

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_S = 5.0  # for one attempt
_POLL_S = 0.5
_LOOK_S = 1.0  # between two looks at who is there, and whether a task is still wanted
_REPORT_S = 1.0  # between two reports of progress: all pass through the scheduler
_STUCK_S = 30.0  # without progress after its task is not wanted any more a worker process ends itself
_AGAIN = "and run the same command again: what is done stays done"


class ClusterExecutor(TaskExecutor):
    """Runs tasks on a cluster, as many at a time as it has workers."""

    begins_at_once = False

    def __init__(self, address: str, timeout_s: float) -> None:
        """Connect.

        Args:
            address: of the scheduler.
            timeout_s: how long to wait for a scheduler, or for workers, that are away.

        Raises:
            MissingDependencyError: dask is not installed.
            ConfigError: this is no address, or workers have several threads.
            Vp3dError: there is no scheduler.
        """
        super().__init__()
        try:
            import distributed
        except ImportError as error:
            raise MissingDependencyError(
                "--scheduler needs dask; install it with: pip install 'vp3d[cluster]', here and on every worker"
            ) from error
        # It would log each attempt to reach a scheduler that is away; what matters is raised.
        for name in ("distributed.client", "distributed.core", "distributed.comm", "distributed.batched"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._distributed = distributed
        self._address, self._timeout_s = address, timeout_s
        self._topic = f"vp3d-{uuid.uuid4().hex}"
        self._submitted: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._looked = float("-inf")
        self._alone_since: float | None = None
        self._connect()
        self.check()

    def submit(self, task: str, function: Task, *arguments: Any) -> Future[Any]:
        """Submit the function to the cluster."""
        try:
            future: Future[Any] = self._executor.submit(_call, self._topic, task, function, arguments)
            self._submitted.add(future)
        except Exception:  # noqa: BLE001 (dask raises what it likes when its connection is gone)
            future = Future()
            future.set_exception(CancelledError())
        return future

    def explain(self, task: str, error: BaseException) -> Failure:
        """Return why a task failed; the task is the cause if its workers died.

        Raises:
            Vp3dError: workers cannot run vp3d at all.
        """
        if isinstance(error, CancelledError):
            return Failure(f"the scheduler at {self._address} went away", to_blame=False)
        if type(error).__name__ == "KilledWorker":
            return Failure("every worker of the cluster that had it died: it crashes, or memory ran out")
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise Vp3dError(f"a worker of the cluster cannot run vp3d ({said}); install the same vp3d[cluster] there")

    def recover(self) -> None:
        """Connect again, if the connection was lost. Raises Vp3dError if the scheduler stays away."""
        if self._client.status != "running":
            for future in self._submitted:
                future.cancel()  # of some dask would not say that they are lost
            self._submitted.clear()
            self.close()
            self._connect()

    def check(self) -> None:
        """Check whether there are workers.

        Raises:
            ConfigError: one has several threads.
            Vp3dError: there were none for too long.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        self.recover()
        workers: dict[str, int] = {}
        with contextlib.suppress(OSError, self._distributed.TimeoutError):  # seen when next we look
            workers = self._client.nthreads()
        self.capacity = max(1, len(workers))  # one even where there is none: a cluster may grow
        for worker, threads in workers.items():
            if threads > 1:
                raise ConfigError(
                    f"the worker {worker} has {threads} threads, and models serve one; start workers with: "
                    f"dask worker {self._address} --nthreads 1 --nworkers {threads}"
                )
        self._alone_since = None if workers else self._alone_since or now
        if self._alone_since is not None and now - self._alone_since >= self._timeout_s:
            start = f"dask worker {self._address} --nthreads 1"
            raise Vp3dError(f"the cluster at {self._address} has no workers; start some ({start}), {_AGAIN}")

    def close(self) -> None:
        """Disconnect from the cluster; results of running tasks are discarded."""
        with contextlib.suppress(Exception):  # a scheduler that is away sees for itself that nobody waits
            self._client.close(timeout=_POLL_S)

    def _connect(self) -> None:
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                self._client: Client = self._distributed.Client(self._address, timeout=_CONNECT_S, set_as_default=False)
                self._client.subscribe_topic(self._topic, lambda event: self.inbox.append(event[1]))
                self._executor = self._client.get_executor(pure=False)
                return
            except ValueError as error:
                raise ConfigError(
                    f"{self._address}: is no address of a scheduler ({error}); write it as in tcp://10.0.0.1:8786"
                ) from error
            except OSError as error:  # TimeoutError is one
                if time.monotonic() >= until:
                    start = "start it (dask scheduler, dask worker)"
                    raise Vp3dError(f"{self._address}: no scheduler answers there; {start}, {_AGAIN}") from error
            time.sleep(_POLL_S)


# On a worker of the cluster.

_ONE_AT_A_TIME = threading.Lock()  # models serve one task
_NOT_ENDED = ("executing", "long-running", "cancelled", "resumed")
# dask tells of each task that ends late, and of each connection that breaks; the batch says what matters.
logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)


def _call(topic: str, task: str, function: Task, arguments: Sequence[Any]) -> Any:
    with _ONE_AT_A_TIME:
        return function(*arguments, _ClusterReporter(topic, task))


class _ClusterReporter(Reporter):
    """Sends messages through the scheduler, and stops a task that has no client any more."""

    def __init__(self, topic: str, task: str) -> None:
        from distributed import get_worker

        worker = self._worker = get_worker()
        self._key = worker.get_current_task()
        super().__init__(lambda message: worker.log_event(topic, {"task": task, **message}), _REPORT_S)
        self._wanted, self._alive = True, time.monotonic()
        threading.Thread(target=self._watch, name="vp3d-watch", daemon=True).start()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self._alive = time.monotonic()
        if not self._wanted:
            raise StoppedError("the batch does not wait for this video any more")
        super().__call__(stage, done, total)

    def _watch(self) -> None:
        """Poll the scheduler for cancellation of the task, until it has ended."""
        while (task := self._worker.state.tasks.get(self._key)) is not None and task.state in _NOT_ENDED:
            self._wanted = task.state != "cancelled"
            if not self._wanted and time.monotonic() - self._alive > _STUCK_S:
                faulthandler.dump_traceback()
                os._exit(1)  # a nanny starts the worker anew
            time.sleep(_LOOK_S)
        self._wanted = task is not None
