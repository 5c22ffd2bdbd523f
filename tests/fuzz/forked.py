"""The command line run in a child of this process: what it prints, how it ends, what it takes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIME_S = 60.0
DATA_BYTES = 3 << 30


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status (negative for a signal), and what it printed."""

    code: int
    stdout: str
    stderr: str


def run(arguments: Sequence[object], folder: Path) -> Ended:
    """Run ``vp3d`` with these arguments in a folder; modules that are loaded here need not be loaded again.

    It may take a minute and 3 GB.
    """
    said, words = folder.parent / "stdout", folder.parent / "stderr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's threads do nothing here
        child = os.fork()
    if child == 0:
        _become_vp3d([str(argument) for argument in arguments], folder, said, words)
    status = _wait(child)
    return Ended(status, said.read_text("utf-8", "replace"), words.read_text("utf-8", "replace"))


def _wait(child: int) -> int:
    deadline = time.monotonic() + TIME_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.01)


def _become_vp3d(arguments: list[str], folder: Path, said: Path, words: Path) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
        os.chdir(folder)
        for number, path in ((1, said), (2, words)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        import sys

        from vp3d_cli.cli.main import main

        sys.stdout, sys.stderr = open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8")  # noqa: SIM115
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 (the test has to see it)
        traceback.print_exc()
    finally:
        os._exit(code)
