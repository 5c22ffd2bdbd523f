"""The other end of :mod:`vp3d_cli.jobs.pool`: a process that loads the models once and then does videos to order.

It lives no longer than the batch: Linux kills it with its parent, elsewhere it sees that nobody holds the other end
of its standard input. Reports go out where standard output was; what libraries print goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from vp3d_cli.errors import DetectorError, Vp3dError
from vp3d_cli.jobs.messages import JOIN, Failure, Order, Setup
from vp3d_cli.jobs.work import Processor, carry_out

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Of two processes to kill when memory runs out, the kernel should take the worker: it is replaced, the batch is not.
_OOM_SCORE = 500
_PROGRESS_EVERY_S = 0.2
_UNWIND_S = 1.5  # after the batch has gone, to remove what is unfinished
_READ_BYTES = 1 << 16
EXIT_TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the worker: its one argument is its :class:`Setup`."""
    status = 1
    try:
        setup = Setup.from_json(arguments[0])
        reports = _Reports(_take_stdout())
        _live_no_longer_than(setup.parent)
        _expect_trouble()
        orders = _Orders()
        processor = _load(setup, reports)
        if processor is not None:
            reports.send("ready", identity=dict(processor.identity), gpus=processor.gpus)
            while (order := orders.get()) is not None:
                with orders.busy:
                    _serve(processor, order, reports)
            status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        status = EXIT_TERMINATED  # nobody listens any more
    except BaseException:  # noqa: BLE001 (the last thing that this process says)
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)  # at once: threads of libraries may take their time to end


def _load(setup: Setup, reports: _Reports) -> Processor | None:
    module, _, name = setup.processor.partition(":")
    try:
        processor: Processor = getattr(importlib.import_module(module), name)(setup)
    except Vp3dError as error:
        reports.send("failed", **dataclasses.asdict(_failure(error)))
        return None
    return processor


def _serve(processor: Processor, order: Order, reports: _Reports) -> None:
    try:
        if order.share is not None and order.share["do"] != JOIN:
            reports.send(**processor.share(order, reports.progress))
        else:
            for facts in carry_out(processor, order, reports.progress):
                reports.send("made", **facts)
    except Exception as error:  # noqa: BLE001 (goes to the batch, which tells the user)
        if not isinstance(error, Vp3dError) or isinstance(error, DetectorError):
            traceback.print_exc()
        reports.send("failed", **dataclasses.asdict(_failure(error)))
    else:
        reports.send("finished")


def _failure(error: Exception) -> Failure:
    message = " ".join(str(error).split())
    if isinstance(error, Vp3dError):
        # A detector that failed may succeed another time: out of GPU memory, say.
        return Failure(type(error).__name__, message, error.exit_code, expected=not isinstance(error, DetectorError))
    if isinstance(error, MemoryError):
        return Failure("MemoryError", "out of memory; try fewer --jobs", expected=False)
    return Failure(type(error).__name__, f"unexpected {type(error).__name__}: {message}", expected=False)


class _Reports:
    """Lines to the batch."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._stage = ""
        self._sent = 0.0

    def send(self, event: str, **facts: Any) -> None:

        left = memoryview((json.dumps({"event": event, **facts}) + "\n").encode())
        while left:
            left = left[os.write(self._handle, left) :]

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Report a stage; a few times a second are enough."""
        now = time.monotonic()
        if stage != self._stage or now - self._sent >= _PROGRESS_EVERY_S:
            self._stage, self._sent = stage, now
            self.send("progress", stage=stage, done=done, total=total)


class _Orders:
    """Lines from the batch, read in a thread: so that its end is noticed in the middle of a video, too."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self.busy = threading.Lock()
        threading.Thread(target=self._listen, name="vp3d-orders", daemon=True).start()

    def get(self) -> Order | None:
        """The next order; None when there will be none."""
        return self._orders.get()

    def _listen(self) -> None:
        buffer = b""
        while data := os.read(0, _READ_BYTES):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._orders.put(Order.from_json(line))
        self._orders.put(None)
        if self.busy.locked():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_UNWIND_S)
            os._exit(EXIT_TERMINATED)


def _take_stdout() -> int:
    """Keep standard output for reports, and send what others print to standard error."""
    handle = os.dup(1)  # not inherited by programs that this one starts
    os.dup2(2, 1)
    return handle


def _live_no_longer_than(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(_OOM_SCORE))
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(EXIT_TERMINATED)


def _expect_trouble() -> None:
    """Leave a traceback when native code crashes, or when the batch asks where this process hangs."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    # Unwinds the stack: children are stopped and unfinished files removed on the way out.
    raise SystemExit(EXIT_TERMINATED)
