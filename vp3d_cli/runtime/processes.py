"""Python child processes: how many fit, how they are started, and how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DEATHS = {
    "SIGSEGV": "a crash in native code",
    "SIGBUS": "a crash in native code",
    "SIGABRT": "a fatal error in native code",
    "SIGILL": "an instruction that this CPU does not have",
    "SIGFPE": "an arithmetic error in native code",
    "SIGKILL": "most likely because memory ran out",
}


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the share that its container grants it."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no control group, or none that limits us
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


def granted_threads() -> int:
    """Return the number of threads in ``OMP_NUM_THREADS``, or 0 if it is not set."""
    first = os.environ.get(_THREAD_VARIABLES[0], "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that limit numerical libraries to ``threads`` threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def command_line(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs ``main(arguments)`` of a module in a new Python.

    It finds modules in the same places as this process.

    Not ``python -m``: that would look for modules in the current folder first, which may hold anything.
    """
    code = f"import sys; sys.path[:] = sys.argv[1].split('\\n'); from {module} import main; main(sys.argv[2:])"
    return [sys.executable, "-c", code, "\n".join(sys.path), *arguments]


def cause_of_death(returncode: int) -> str:
    """Describe how a worker ended."""
    if returncode >= 0:
        return f"its worker ended with status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    meaning = _DEATHS.get(name)
    return f"its worker was ended by {name}" + (f" ({meaning})" if meaning else "")
