"""Benchmark of a batch by workers and threads, compared to ``vp3d infer`` on each video.

Results are in frames per second.

All videos are done from the start each time, as a user would: programs and models are loaded within the time.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vp3d_cli.cli.benchmark.stages import example_clip
from vp3d_cli.errors import InputError, Vp3dError
from vp3d_cli.jobs.inputs import find_inputs
from vp3d_cli.jobs.plan import POSE, plan_items
from vp3d_cli.jobs.run import BatchOptions, run_batch
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.runtime.processes import command_line, usable_cores
from vp3d_cli.video import find_ffmpeg

IN_TURN = "infer in turn"
_COPIES = 8

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class BatchSpeed:
    """Speed of one configuration: median seconds, frames per second, and speedup.

    The speedup is relative to processing one video after another.
    """

    way: str
    jobs: int
    threads: int
    seconds: float
    frames_per_second: float
    times_in_turn: float


@dataclass(frozen=True)
class BatchBench:
    """Benchmark of a batch: ``videos`` with ``frames`` in all, in several configurations.

    Each is repeated ``repeats`` times.
    """

    videos: int
    frames: int
    cores: int
    repeats: int
    ways: tuple[BatchSpeed, ...]


def bench_batch(
    folder: Path | None,
    settings: InferSettings,
    *,
    max_frames: int = 300,
    repeats: int = 1,
    report: Report = lambda stage, done, total: None,
) -> BatchBench:
    """Time a batch of a folder.

    Args:
        folder: with videos; None takes eight copies of the first ``max_frames`` frames of the example.
        settings: of all videos.
        max_frames: length of those copies.
        repeats: how often each way is timed, the ways by turns.
        report: called with ("bench", done, total).

    Raises:
        InputError: no videos in the folder.
        Vp3dError: one of them cannot be done.
    """
    with tempfile.TemporaryDirectory(prefix="vp3d-bench-") as place:
        scratch = Path(place)
        folder = folder or _copies(scratch / "clips", max_frames)
        videos = [Path(str(item.path)) for item in find_inputs([folder])]
        if not videos:
            raise InputError(f"no videos in {folder}")
        cores = usable_cores()
        ways = list(dict.fromkeys([(1, cores), (cores, 1), (cores, cores), (2 * cores, 1)]))
        frames = 0
        seconds: dict[tuple[int, int] | None, list[float]] = {None: []} | {way: [] for way in ways}
        total = repeats * len(seconds)
        for number in range(total):
            report("bench", number, total)
            way = list(seconds)[number % len(seconds)]
            out = scratch / "out"
            started = time.perf_counter()
            if way is None:
                _in_turn(videos, out, settings)
            else:
                frames = _batch(folder, out, settings, *way)
            seconds[way].append(time.perf_counter() - started)
            shutil.rmtree(out)
        report("bench", total, total)
    took = {way: median(values) for way, values in seconds.items()}
    rows = [BatchSpeed(IN_TURN, 1, cores, took[None], frames / took[None], 1.0)]
    rows += [BatchSpeed("batch", *way, took[way], frames / took[way], took[None] / took[way]) for way in ways]
    return BatchBench(len(videos), frames, cores, repeats, tuple(rows))


def _copies(folder: Path, frames: int) -> Path:
    """Eight copies of the beginning of the example."""
    folder.mkdir()
    first = folder / "0.mp4"
    cut = [find_ffmpeg(), "-v", "error", "-i", str(example_clip()), "-frames:v", str(frames), "-c", "copy", str(first)]
    ran = subprocess.run(cut, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode:
        raise InputError(f"the example cannot be cut ({ran.stderr.decode(errors='replace').strip()}); give a folder")
    for number in range(1, _COPIES):
        shutil.copyfile(first, folder / f"{number}.mp4")
    return folder


def _in_turn(videos: Sequence[Path], out: Path, settings: InferSettings) -> None:
    """``vp3d infer`` on one video after another, as a shell's loop does it."""
    out.mkdir()
    options = ["--detector", settings.detector, "--lifter", settings.lifter, "--device", settings.device, "--quiet"]
    if settings.max_people is not None:
        options += ["--max-people", str(settings.max_people)]
    for number, video in enumerate(videos):
        command = ["infer", str(video), "--out", str(out / f"{number}.npz"), *options]
        ran = subprocess.run(command_line("vp3d_cli.cli.main", command), capture_output=True, check=False)
        if ran.returncode:
            raise Vp3dError(f"{video}: {ran.stderr.decode(errors='replace').strip()}")


def _batch(folder: Path, out: Path, settings: InferSettings, jobs: int, threads: int) -> int:
    """Process the folder with a batch, and return the number of frames."""
    out.mkdir()
    items = plan_items(find_inputs([folder]), roots={POSE: out}, suffixes={POSE: ".npz"})
    rows = run_batch(items, out, BatchOptions(settings=settings, jobs=jobs, threads=threads))
    for row in rows:
        if row.frames is None:
            raise Vp3dError(f"{row.video}: {row.reason}")
    return sum(row.frames or 0 for row in rows)
