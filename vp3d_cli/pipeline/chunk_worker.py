"""The worker side of :mod:`vp3d_cli.pipeline.chunk_processes`: does one call and ends; ends when its parent ends."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn

from vp3d_cli.errors import StoppedError, Vp3dError

_PROGRESS_EVERY_S = 0.2
_TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the worker: the call comes on standard input; the arguments say where answers go, and how many threads."""
    handle, threads = map(int, arguments)
    signal.signal(signal.SIGTERM, _terminate)
    answers = Connection(handle)
    status = 0
    try:
        answer = _answer(answers, threads)
        # Nothing is left to unwind: the parent, which has all it wants, may end us at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        answers.send(answer)
    except BrokenPipeError:
        status = _TERMINATED  # nobody listens any more
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    sys.stderr.flush()
    os._exit(status)  # at once: threads of libraries may take their time to end


def _answer(answers: Connection, threads: int) -> tuple[str, Any]:
    """Do the call: what it gives, or why it failed."""
    try:
        _limit_threads(threads)
        function, task = pickle.load(sys.stdin.buffer)
        progress = _Progress(answers)
        threading.Thread(target=_listen, args=(progress,), name="vp3d-parent", daemon=True).start()
        return "result", function(task, progress)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 (raised again by the parent)
        if isinstance(error, Vp3dError):
            return "failed", error
        traceback.print_exc()
        return "failed", Vp3dError(f"unexpected {type(error).__name__} in a part of the video: {error}")


class _Progress:
    """Tells the parent how far it is; a few times a second are enough.

    Attributes:
        begun: there was something to tell.
        stop: the next call raises StoppedError.
    """

    def __init__(self, answers: Connection) -> None:
        self.begun = self.stop = False
        self._answers = answers
        self._sent = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.begun = True
        if self.stop:
            raise StoppedError("the other parts of the video were given up")
        if time.monotonic() - self._sent >= _PROGRESS_EVERY_S:
            self._sent = time.monotonic()
            self._answers.send(("progress", (stage, done)))


def _limit_threads(threads: int) -> None:
    """OpenCV's threads; the other libraries have theirs from the environment."""
    import cv2

    cv2.setNumThreads(threads)


def _listen(progress: _Progress) -> None:
    """Standard input has one byte when this process is to stop, and ends when the parent does."""
    if sys.stdin.buffer.read(1):
        progress.stop = True
        if progress.begun:
            sys.stdin.buffer.read()
    os._exit(_TERMINATED)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    # Unwinds the stack: an ffmpeg is stopped on the way out.
    raise SystemExit(_TERMINATED)
