"""The other end of :mod:`vp3d_cli.segments.processes`: does one call and ends; ends at once when its parent has."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from types import FrameType
from typing import NoReturn

from vp3d_cli.errors import Vp3dError

_PROGRESS_EVERY_S = 0.2
_TERMINATED = 128 + signal.SIGTERM


def main(handle: int, threads: int) -> NoReturn:
    """Run the worker: the call comes on standard input, progress and result go to ``handle``."""
    signal.signal(signal.SIGTERM, _terminate)
    answers = Connection(handle)
    status = 0
    try:
        _limit_threads(threads)
        function, task = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_die_with_parent, name="vp3d-parent", daemon=True).start()
        answers.send(("result", function(task, _Progress(answers))))
    except BrokenPipeError:
        status = _TERMINATED  # nobody listens any more
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except Exception as error:  # noqa: BLE001 (raised again by the parent)
        if not isinstance(error, Vp3dError):
            traceback.print_exc()
            error = Vp3dError(f"unexpected {type(error).__name__} in a part of the video: {error}")
        answers.send(("failed", error))
    sys.stderr.flush()
    os._exit(status)  # at once: threads of libraries may take their time to end


class _Progress:
    """Tells the parent how far it is; a few times a second are enough."""

    def __init__(self, answers: Connection) -> None:
        self._answers = answers
        self._sent = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if time.monotonic() - self._sent >= _PROGRESS_EVERY_S:
            self._sent = time.monotonic()
            self._answers.send(("progress", (stage, done)))


def _limit_threads(threads: int) -> None:
    """OpenCV's threads; the other libraries have theirs from the environment."""
    import cv2

    cv2.setNumThreads(threads)


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(_TERMINATED)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    # Unwinds the stack: an ffmpeg is stopped on the way out.
    raise SystemExit(_TERMINATED)
