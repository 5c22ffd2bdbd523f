"""vp3d_cli/jobs/cluster.py: a batch on a dask cluster of processes of this machine; the networks are stubs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from batch_stub import assert_same_results, options_of, plan_of, stamps_of, statuses, wait_for, write_video
from conftest import DEMO, RunCli

from vp3d_cli.errors import ConfigError, MissingDependencyError, Vp3dError
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.loop import Listener
from vp3d_cli.jobs.plan import BatchItem
from vp3d_cli.jobs.report import BatchRow
from vp3d_cli.jobs.run import BatchOptions, run_batch
from vp3d_cli.pipeline.settings import InferSettings

HERE = Path(__file__).resolve().parents[1]


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self._port)

    def start_worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """A worker; by default without a process that starts it anew when it dies."""
        given = options or ("--no-nanny", "--nthreads", "1")
        worker = self._start("worker", self.address, *given, "--local-directory", self._folder, **environment)
        self.workers.append(worker)
        return worker

    def _start(self, kind: str, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
        settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        program = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *map(str, arguments)]
        with open(self._folder / f"{kind}.log", "ab") as log:
            return subprocess.Popen(
                program,
                stdout=log,
                stderr=log,
                env={**os.environ, **settings, "PYTHONPATH": f"{HERE.parent}:{HERE}", **environment},
            )

    def wait_for_workers(self) -> None:
        log = self._folder / "worker.log"
        wait_for(lambda: log.read_text().count("Registered to") >= len(self.workers))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def close(self) -> None:
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            self.kill(process)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler and two workers of one thread each."""
    folder = tmp_path / "dask"
    folder.mkdir()
    started = Cluster(folder)
    try:
        started.start_scheduler()
        for _ in range(2):
            started.start_worker()
        started.wait_for_workers()
        yield started
    finally:
        started.close()


class Recorder(Listener):
    """Remembers what a batch does."""

    def __init__(self) -> None:
        self.started_places: list[str] = []
        self.reasons: list[str] = []
        self.progress_places: set[str] = set()

    def started(self, item: BatchItem) -> None:
        self.started_places.append(str(item.input.place))

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        self.progress_places.add(str(item.input.place))

    def postponed(self, item: BatchItem, reason: str) -> None:
        self.reasons.append(reason)


def on(cluster: Cluster, **changes: Any) -> BatchOptions:
    return options_of(**{"jobs": None, "scheduler": cluster.address, "cluster_timeout_s": 60.0, **changes})


def make_clips(folder: Path, count: int, step_s: float = 0.0) -> None:
    for i in range(count):
        write_video(folder / f"cam{i % 2}" / f"take{i}.mkv", step_s=step_s, note=str(i))


def leftovers(out: Path) -> list[Path]:
    work = out / STATE / "work"
    return [path for path in work.rglob("*") if path.is_file()] if work.exists() else []


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do something else in a thread while a batch runs; its exception is ours."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 (raised by who waits)
            raised.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if raised:
        raise raised[0]


IN_CHUNKS = InferSettings(chunk_minutes=1.0)


def test_the_same_results_as_here(tmp_path: Path, cluster: Cluster) -> None:
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    make_clips(clips, 5, 0.05)
    for name, does in (("b", "nobody"), ("c", "bug"), ("e", "print")):
        write_video(clips / f"{name}.mkv", does)
    local = run_batch(plan_of(clips, here, tmp_path / "drawn here"), here, options_of())
    recorder = Recorder()
    rows = run_batch(plan_of(clips, out, tmp_path / "drawn"), out, on(cluster), recorder)
    assert [(row.status, row.reason.replace(str(out), str(here))) for row in rows] == [
        (row.status, row.reason) for row in local
    ]
    assert_same_results(out, here)
    assert {row.place: row.frames for row in rows} == {row.place: row.frames for row in local}
    assert len(list((tmp_path / "drawn").rglob("*.mp4"))) == 6
    assert "ZeroDivisionError" in next(row for row in rows if row.place == "c.mkv").stderr
    assert {"cam0/take0.mkv", "cam1/take1.mkv"} <= recorder.progress_places
    assert leftovers(out) == []

    # What one has done the other one knows.
    again = Recorder()
    rows = run_batch(plan_of(clips, out, tmp_path / "drawn"), out, options_of(), again)
    assert sorted(again.started_places) == ["c.mkv"]
    again = Recorder()
    rows = run_batch(plan_of(clips, here, tmp_path / "drawn here"), here, on(cluster), again)
    assert sorted(again.started_places) == ["c.mkv"]
    assert statuses(rows)["b.mkv"] == "failed"


def test_a_video_that_crashes_fails_alone(tmp_path: Path) -> None:
    """A nanny, which dask workers have by default, starts them anew."""
    (tmp_path / "dask").mkdir()
    cluster = Cluster(tmp_path / "dask")
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "crash")
    make_clips(clips, 3)
    try:
        cluster.start_scheduler()
        cluster.start_worker("--nthreads", "1", "--nworkers", "2")
        rows = run_batch(plan_of(clips, out), out, on(cluster))
    finally:
        cluster.close()
    assert statuses(rows)["a.mkv"] == "failed"
    assert rows[0].reason.startswith("every worker of the cluster that had it died")
    assert [row.status for row in rows[1:]] == ["done"] * 3


def test_a_worker_that_dies_is_replaced_and_its_video_redone(tmp_path: Path, cluster: Cluster) -> None:
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    make_clips(clips, 4, 0.6)
    run_batch(plan_of(clips, here), here, options_of(jobs=4))

    def kill() -> None:
        wait_for(lambda: begun(out) >= 2)
        cluster.kill(cluster.workers.pop(0))
        cluster.start_worker()

    with meanwhile(kill):
        rows = run_batch(plan_of(clips, out), out, on(cluster))
    assert set(statuses(rows).values()) == {"done"}
    assert_same_results(out, here)
    assert leftovers(out) == []


def begun(out: Path) -> int:
    """How many videos have unfinished results now."""
    return sum(len(folder.name) == 32 for folder in (out / STATE / "work").glob("*"))


def done(out: Path) -> int:
    return len([path for path in out.rglob("*.npz") if STATE not in path.parts])


def test_a_scheduler_that_is_restarted_costs_what_was_running(tmp_path: Path, cluster: Cluster) -> None:
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    make_clips(clips, 6, 0.3)
    run_batch(plan_of(clips, here), here, options_of(jobs=4))

    def restart() -> None:
        wait_for(lambda: done(out) >= 2)
        assert cluster.scheduler is not None
        cluster.kill(cluster.scheduler)
        time.sleep(1.0)
        for worker in cluster.workers:  # they end with their scheduler, if not at once
            cluster.kill(worker)
        cluster.workers.clear()
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker()

    recorder = Recorder()
    with meanwhile(restart):
        rows = run_batch(plan_of(clips, out), out, on(cluster), recorder)
    assert set(statuses(rows).values()) == {"done"}
    assert recorder.reasons
    assert all("went away" in reason for reason in recorder.reasons)
    assert [row.attempts for row in rows] == [1] * 6  # it was not the fault of any video
    assert_same_results(out, here)
    assert leftovers(out) == []


def test_a_scheduler_that_stays_away_ends_the_batch_and_costs_nothing(tmp_path: Path, cluster: Cluster) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    make_clips(clips, 4, 0.3)

    def kill() -> None:
        wait_for(lambda: done(out) >= 1)
        assert cluster.scheduler is not None
        cluster.kill(cluster.scheduler)

    with meanwhile(kill), pytest.raises(Vp3dError, match="what is done stays done"):
        run_batch(plan_of(clips, out), out, on(cluster, cluster_timeout_s=3.0))
    before = done(out)
    assert 1 <= before < 4
    recorder = Recorder()
    rows = run_batch(plan_of(clips, out), out, options_of(), recorder)
    assert len(recorder.started_places) <= 4 - before  # a worker may have finished its video meanwhile
    assert {row.status for row in rows} == {"done", "skipped"}


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_batch_that_is_ended_leaves_no_work_behind(tmp_path: Path, cluster: Cluster, number: signal.Signals) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    for name in "bc":
        write_video(clips / f"{name}.mkv", step_s=4.0)
    command = [sys.executable, HERE / "batch_stub.py", "batch", clips, "--out", out, "--scheduler", cluster.address]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(HERE.parent)}
    )
    wait_for(lambda: done(out) == 1 and begun(out) >= 2)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1].decode()
    assert "Traceback" not in stderr
    if number == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "1 of 3 videos done, 0 failed; run the same command again to go on" in stderr
    wait_for(lambda: not (out / STATE / "work").exists() or not begun(out))  # the workers have given up
    assert done(out) == 1
    for name in "bc":
        write_video(clips / f"{name}.mkv")
    recorder = Recorder()
    rows = run_batch(plan_of(clips, out), out, on(cluster), recorder)
    assert sorted(recorder.started_places) == ["b.mkv", "c.mkv"]
    assert {row.status for row in rows} == {"done", "skipped"}
    assert leftovers(out) == []


def test_a_hang_ends_its_video_and_not_the_batch(tmp_path: Path, cluster: Cluster) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "hang in native code")
    write_video(clips / "b.mkv")
    rows = run_batch(plan_of(clips, out), out, on(cluster, stall_s=3.0))
    assert statuses(rows) == {"a.mkv": "failed", "b.mkv": "done"}
    assert rows[0].reason.startswith("hung: no progress for 3 s (--stall) while ")


def test_workers_need_not_have_the_working_folder_of_the_batch(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the cluster was started elsewhere
    make_clips(Path("clips"), 3)
    planned = Planned("clips/cam0/take2.mkv")
    rows = run_batch(plan_of(Path("clips"), Path("out"), Path("drawn")), Path("out"), on(cluster), planned)
    assert statuses(rows) == {"cam0/take0.mkv": "done", "cam0/take2.mkv": "failed", "cam1/take1.mkv": "done"}
    assert "no such video" in rows[1].reason  # one that vanishes costs not the others
    assert planned.jobs == 2
    assert sorted(str(path) for path in Path("drawn").rglob("*.mp4")) == [
        "drawn/cam0/take0.mp4",
        "drawn/cam1/take1.mp4",
    ]


class Planned(Recorder):
    """Takes a video away when all is planned."""

    def __init__(self, video: str) -> None:
        super().__init__()
        self._video = Path(video)
        self.jobs = 0

    def planned(self, todo: Sequence[BatchItem], settled: Sequence[BatchRow], jobs: int, threads: int) -> None:
        self._video.unlink()
        self.jobs = jobs


def test_chunks_are_done_by_several_workers_at_once(tmp_path: Path, cluster: Cluster) -> None:
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    write_video(clips / "long.mkv", step_s=0.2, parts=6)
    write_video(clips / "other.mkv", parts=2)
    write_video(clips / "short.mkv")
    run_batch(plan_of(clips, here), here, options_of())
    rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_CHUNKS))
    assert set(statuses(rows).values()) == {"done"}
    assert_same_results(out, here)
    stamps = stamps_of(clips / "long.mkv")
    assert [stamp["part"] for stamp in stamps] == [0, 1, 2, 3, 4, 5]
    assert {stamp["worker"] for stamp in stamps} == {worker.pid for worker in cluster.workers}
    assert [stamp["part"] for stamp in stamps_of(clips / "other.mkv")] == [0, 1]
    assert stamps_of(clips / "short.mkv") == []


def test_no_workers_no_scheduler_no_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    folder = tmp_path / "dask"
    folder.mkdir()
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    cluster = Cluster(folder)
    with pytest.raises(Vp3dError, match="no scheduler answers there"):
        run_batch(plan_of(clips, out), out, on(cluster, cluster_timeout_s=0.0))
    with pytest.raises(ConfigError, match="is no address of a scheduler"):
        run_batch(plan_of(clips, out), out, options_of(scheduler="carrier-pigeon://there", cluster_timeout_s=0.0))
    try:
        cluster.start_scheduler()
        wait_for(lambda: "Scheduler at:" in (folder / "scheduler.log").read_text())
        with pytest.raises(Vp3dError, match="has no workers; start some"):
            run_batch(plan_of(clips, out), out, on(cluster, cluster_timeout_s=3.0))
        cluster.start_worker("--no-nanny", "--nthreads", "2")
        cluster.wait_for_workers()
        with pytest.raises(ConfigError, match="has 2 threads, and models serve one; start workers with: dask worker"):
            run_batch(plan_of(clips, out), out, on(cluster))
    finally:
        cluster.close()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"vp3d\[cluster\]"):
        run_batch(plan_of(clips, out), out, on(cluster))
    outcome = run_cli("batch", clips, "--out", out, "--scheduler", cluster.address)
    assert outcome.code == 1
    assert outcome.error_lines[-1].startswith("vp3d: error: --scheduler needs dask; install it with")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_videos_on_a_cluster(tmp_path: Path, cluster: Cluster, ffmpeg: Callable[..., None]) -> None:
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    clips.mkdir()
    for i in range(3):
        ffmpeg("-ss", i, "-i", DEMO, "-frames:v", 12, "-vf", "scale=480:270", "-an", clips / f"{i}.mp4")
    ffmpeg("-i", DEMO, "-frames:v", 120, "-vf", "scale=480:270", "-an", clips / "long.mp4")
    real = {"processor": BatchOptions.processor, "threads": 1}
    run_batch(plan_of(clips, here), here, options_of(**real))
    rows = run_batch(plan_of(clips, out), out, on(cluster, **real, settings=InferSettings(chunk_minutes=0.025)))
    assert set(statuses(rows).values()) == {"done"}, rows
    assert_same_results(out, here)
