"""How many workers, with how many threads each."""

from __future__ import annotations

import contextlib
from pathlib import Path

# What a worker takes at 1080p, with some air.
WORKER_BYTES = 1 << 30


def free_bytes() -> int | None:
    """Memory that can be had now without swapping; None where the system does not say."""
    free: int | None = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        left = limit - int((group / "memory.current").read_text(encoding="ascii"))
        free = left if free is None else min(free, left)
    return free


def choose_jobs(
    videos: int, *, cores: int, free: int | None, gpus: int = 0, jobs: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """Workers, and threads of each.

    One thread each and as many workers as cores does the most: decoding, drawing and lifting of one video do not keep
    several cores busy. Fewer workers where there are fewer videos or too little memory, with more threads each.
    Networks that run on GPUs get one worker per GPU.

    Args:
        videos: to do.
        cores, free: what the machine has; see :func:`vp3d_cli.runtime.processes.usable_cores` and :func:`free_bytes`.
        gpus: on which all networks run; 0 where one runs on the CPU.
        jobs, threads: as the user wants it; None to choose.
    """
    if jobs is None:
        room = cores if free is None else max(1, free // WORKER_BYTES)
        jobs = gpus or min(cores // (threads or 1), room)
    jobs = max(1, min(jobs, videos))
    return jobs, threads or max(1, cores // jobs)
