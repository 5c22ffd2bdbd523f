"""vp3d_cli/jobs/cluster_parts.py: the parts of a long video, done by several machines of a dask cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from batch_stub import STEPS, assert_same_results, options_of, plan_of, stamps_of, statuses, wait_for, write_video
from conftest import DEMO
from test_batch_cluster import HERE, Cluster, assert_made_once, journal, leftovers, meanwhile, on, workers_of

from vp3d_cli.jobs.cluster_parts import SharedVideo, can_be_shared
from vp3d_cli.jobs.cluster_slot import Receiver, Slot
from vp3d_cli.jobs.folder import STATE
from vp3d_cli.jobs.messages import Order
from vp3d_cli.jobs.plan import BatchItem
from vp3d_cli.jobs.run import BatchOptions, run_batch
from vp3d_cli.jobs.schedule import Listener
from vp3d_cli.pipeline.settings import InferSettings

IN_PARTS = InferSettings(segment_min=1.0)
FINISHED = {"event": "finished"}
ORDER = Order("/v/a.mkv", None, ("pose",), {"pose": "/o/a.npz"}, {"pose": "/o/s.npz"}, "/tmp", keep="/o/k.npz")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Starts a scheduler and so many workers of one thread each."""
    started: list[Cluster] = []

    def start(workers: int) -> Cluster:
        folder = tmp_path / "dask"
        folder.mkdir()
        cluster = Cluster(folder)
        started.append(cluster)
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker()
        cluster.wait_for_workers()
        return cluster

    try:
        yield start
    finally:
        for cluster in started:
            cluster.close()


class Frames(Listener):
    """Remembers how far each video was."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int | None]] = []

    def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
        self.seen.append((str(item.input.place), stage, done, total))


def kept(out: Path) -> list[Path]:
    return [path for path in (out / STATE / "kept").rglob("*") if path.is_file()]


def overlap(stamps: list[dict[str, Any]]) -> bool:
    """Whether two machines were at work at the same moment."""
    return any(
        a["machine"] != b["machine"] and a["began"] < b["ended"] and b["began"] < a["ended"]
        for a, b in combinations(stamps, 2)
    )


def test_parts_are_done_on_several_machines_at_once(tmp_path: Path, machines: Callable[[int], Cluster]) -> None:
    cluster = machines(2)
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    write_video(clips / "long.mkv", step_s=0.2, parts=6)
    write_video(clips / "other.mkv", parts=2)  # as many videos in parts as threads
    write_video(clips / "short.mkv")
    run_batch(plan_of(clips, here), here, options_of())
    frames = Frames()
    rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS), frames)
    assert set(statuses(rows).values()) == {"done"}
    assert_same_results(out, here)
    assert_made_once(out, 3)
    assert kept(out) == []
    stamps = stamps_of(clips / "long.mkv")
    assert [stamp["part"] for stamp in stamps] == [0, 1, 2, 3, 4, 5]
    assert {stamp["machine"] for stamp in stamps} == {worker.pid for worker in cluster.workers}
    assert overlap(stamps)
    assert [stamp["part"] for stamp in stamps_of(clips / "other.mkv")] == [0, 1]
    assert stamps_of(clips / "short.mkv") == []
    assert ("long.mkv", "detect", 6 * STEPS, 6 * STEPS) in frames.seen
    long = next(row for row in rows if row.place == "long.mkv")
    assert long.frames_per_second is not None
    worked = max(stamp["ended"] for stamp in stamps) - min(stamp["began"] for stamp in stamps)
    assert long.frames_per_second <= 1.05 * STEPS / worked  # counted from when the parts were begun


def test_a_part_that_fails_fails_its_video_alone_and_the_others_are_kept(
    tmp_path: Path, machines: Callable[[int], Cluster]
) -> None:
    cluster = machines(1)  # one thread for two videos in parts
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "crash once", parts=3, in_part=1)
    write_video(clips / "b.mkv", parts=2)
    write_video(clips / "c.mkv", "nobody", parts=2, in_part=0)
    rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS, jobs=2))
    assert statuses(rows) == {"a.mkv": "failed", "b.mkv": "done", "c.mkv": "failed"}
    assert rows[0].reason.startswith("part 2 of 3: its worker was ended by SIGSEGV (a crash in native code)")
    assert "about to crash" in rows[0].stderr
    assert rows[2].reason.endswith("nobody was found in 4 frames")
    assert all(worker.poll() is None for worker in cluster.workers)
    assert [stamp["part"] for stamp in stamps_of(clips / "a.mkv")] == [0, 2]
    assert leftovers(out) == []

    rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS))
    assert statuses(rows) == {"a.mkv": "done", "b.mkv": "skipped", "c.mkv": "failed"}
    assert [stamp["part"] for stamp in stamps_of(clips / "a.mkv")] == [0, 1, 2]  # none twice
    wait_for(lambda: not workers_of(cluster))


@pytest.mark.slow
def test_a_machine_that_dies_in_the_middle_of_a_part(tmp_path: Path, machines: Callable[[int], Cluster]) -> None:
    cluster = machines(2)
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    long = write_video(clips / "long.mkv", step_s=0.5, parts=6)
    run_batch(plan_of(clips, here), here, options_of())

    def kill() -> None:
        wait_for(lambda: len({stamp["machine"] for stamp in stamps_of(long)}) == 2)
        cluster.kill(cluster.workers.pop(0))
        cluster.start_worker()

    with meanwhile(kill):
        rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS))
    assert [(row.status, row.attempts) for row in rows] == [("done", 1)]
    assert_same_results(out, here)
    assert_made_once(out, 1)
    assert {stamp["part"] for stamp in stamps_of(long)} == set(range(6))
    assert len(stamps_of(long)) == 6  # what was done was not done again
    assert kept(out) == []


@pytest.mark.slow
def test_a_scheduler_that_is_restarted_costs_the_parts_at_work(
    tmp_path: Path, machines: Callable[[int], Cluster]
) -> None:
    cluster = machines(2)
    clips, out = tmp_path / "clips", tmp_path / "out"
    long = write_video(clips / "long.mkv", step_s=0.5, parts=6)

    def restart() -> None:
        wait_for(lambda: len(stamps_of(long)) >= 2)
        assert cluster.scheduler is not None
        for process in (cluster.scheduler, *cluster.workers):
            cluster.kill(process)
        cluster.workers.clear()
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker()

    with meanwhile(restart):
        rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS))
    assert [(row.status, row.attempts) for row in rows] == [("done", 1)]
    assert [stamp["part"] for stamp in stamps_of(long)] == list(range(6))
    assert_made_once(out, 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_batch_that_is_ended_leaves_no_part_running(
    tmp_path: Path, machines: Callable[[int], Cluster], number: signal.Signals
) -> None:
    cluster = machines(2)
    clips, out = tmp_path / "clips", tmp_path / "out"
    long = write_video(clips / "long.mkv", step_s=0.5, parts=8)
    command = [sys.executable, HERE / "batch_stub.py", "batch", clips, "--out", out, "--segment", "1"]
    process = subprocess.Popen(
        [*command, "--scheduler", cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    wait_for(lambda: len(stamps_of(long)) >= 2 and len(workers_of(cluster)) == 2)
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1].decode()
    assert "Traceback" not in stderr
    wait_for(lambda: not workers_of(cluster))
    before = len(stamps_of(long))
    assert before < 8
    if number == signal.SIGINT:
        assert process.returncode == 130, stderr
    rows = run_batch(plan_of(clips, out), out, on(cluster, settings=IN_PARTS))
    assert statuses(rows) == {"long.mkv": "done"}
    assert [stamp["part"] for stamp in stamps_of(long)] == list(range(8))
    assert len(journal(out).made) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_video_in_parts_equals_one_piece(
    tmp_path: Path, machines: Callable[[int], Cluster], ffmpeg: Callable[..., None]
) -> None:
    cluster = machines(2)
    clips, here, out = tmp_path / "clips", tmp_path / "here", tmp_path / "out"
    clips.mkdir()
    ffmpeg("-i", DEMO, "-frames:v", 120, "-vf", "scale=480:270", "-an", clips / "a.mp4")
    real = {"processor": BatchOptions.processor, "threads": 1}
    run_batch(plan_of(clips, here), here, options_of(**real))
    rows = run_batch(plan_of(clips, out), out, on(cluster, **real, settings=InferSettings(segment_min=0.025)))
    assert statuses(rows) == {"a.mp4": "done"}, rows
    assert rows[0].warnings == ()
    assert_same_results(out, here)
    assert kept(out) == []


# Without a cluster: what is submitted, and what comes of it.


class Desk:
    """A slot, and all that is submitted for it."""

    def __init__(self, patient: bool = True) -> None:
        self.submitted: list[tuple[Receiver, Order]] = []
        self.withdrawn = 0
        self.slot = Slot("1", lambda slot, order: None, {"event": "ready"})
        self.slot.read()
        video = SharedVideo(self.slot, ORDER, self._submit, self._withdraw, threading.RLock(), patient)
        video.begin()

    def _submit(self, receiver: Receiver, order: Order) -> None:
        self.submitted.append((receiver, order))

    def _withdraw(self, slot: Slot) -> None:
        self.withdrawn += 1

    def take(self) -> list[tuple[Receiver, Order]]:
        """What was submitted since the last time."""
        taken, self.submitted = self.submitted, []
        return taken

    def plan(self, parts: int) -> list[Receiver]:
        """Answer the plan; who hears of the parts."""
        ((receiver, order),) = self.take()
        assert order.share == {"do": "plan"}
        planned = {"event": "planned", "parts": [{"frames": 10, "number": i} for i in range(parts)]}
        receiver.finish([planned, FINISHED])
        return [receiver for receiver, _ in self.submitted]

    def close(self) -> None:
        self.slot.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def done(kept: bool = False) -> list[dict[str, Any]]:
    return [{"event": "part", "kept": kept}, FINISHED]


def failure(expected: bool, message: str = "bad") -> list[dict[str, Any]]:
    return [{"event": "failed", "error": "VideoError", "message": message, "exit_code": 1, "expected": expected}]


def share_of(order: Order) -> dict[str, Any]:
    assert order.share is not None
    return dict(order.share)


def test_parts_then_their_joining(desk: Desk) -> None:
    parts = desk.plan(2)
    assert [share_of(order)["part"]["number"] for _, order in desk.take()] == [0, 1]
    parts[0].tell({"event": "progress", "stage": "detect", "done": 4, "total": 10})
    parts[1].tell({"event": "progress", "stage": "detect", "done": 3, "total": 10})
    parts[1].finish(done())
    assert desk.take() == []
    parts[0].finish(done(kept=True))
    ((receiver, order),) = desk.take()
    assert receiver is desk.slot
    share = share_of(order)
    assert (share["do"], share["resumed"]) == ("join", True)
    assert share["spent_s"] >= 0
    assert replace(order, share=None) == ORDER
    reports, last = desk.slot.read()
    assert [(report["done"], report["total"]) for report in reports] == [(4, 20), (7, 20), (14, 20), (20, 20)]
    assert not last


def test_one_piece_where_there_are_no_parts(desk: Desk) -> None:
    assert desk.plan(0) == [desk.slot]
    assert desk.take() == [(desk.slot, ORDER)]


def test_a_machine_that_cannot_do_a_part_is_replaced(desk: Desk) -> None:
    parts = desk.plan(2)
    first = desk.take()[0][1]
    parts[0].elsewhere("it has other weights")
    ((again, order),) = desk.take()
    assert order == first
    parts[1].finish(done())
    again.finish(done())
    assert share_of(desk.take()[0][1])["do"] == "join"


def test_a_failure_that_may_pass_waits_for_what_the_others_find(desk: Desk) -> None:
    parts = desk.plan(3)
    desk.take()
    parts[1].finish([{"event": "lost", "reason": "its worker was ended by SIGSEGV", "words": "what it said"}])
    parts[0].finish(done())
    assert desk.slot.read() == ([{"event": "progress", "stage": "detect", "done": 10, "total": 30}], False)
    parts[2].finish(failure(False))
    assert desk.slot.read() == ([], True)
    assert desk.slot.how_it_ended() == "part 2 of 3: its worker was ended by SIGSEGV"
    assert desk.slot.words() == "what it said"
    assert not desk.slot.blameless
    assert desk.take() == []


@pytest.mark.parametrize(("patient", "expected"), [(True, True), (False, False)])
def test_a_failure_that_stays_ends_the_others(patient: bool, expected: bool) -> None:
    desk = Desk(patient)
    parts = desk.plan(3)
    desk.take()
    parts[1].finish(failure(expected))
    assert desk.withdrawn == 1
    reports, last = desk.slot.read()
    assert [report["event"] for report in reports] == ["failed"]
    assert not last
    parts[0].finish(done())  # it had ended before it could be withdrawn
    parts[2].elsewhere("cut off")
    assert desk.take() == []
    desk.slot.end("the end")  # reading waits for something to be said
    assert desk.slot.read() == ([], True)
    desk.close()


def test_a_cluster_that_goes_away_is_no_fault_of_the_video(desk: Desk) -> None:
    parts = desk.plan(2)
    desk.take()
    for part in parts:
        part.end("the scheduler went away", blameless=True)
    assert desk.slot.read() == ([], True)
    assert desk.slot.blameless
    assert desk.slot.how_it_ended() == "the scheduler went away"


def test_a_file_that_is_gone_fails_the_video(desk: Desk) -> None:
    ((plan, _),) = desk.take()
    plan.tell(failure(True, "a.mkv is gone")[0])
    assert [report["message"] for report in desk.slot.read()[0]] == ["a.mkv is gone"]


def test_what_is_shared() -> None:
    assert can_be_shared(IN_PARTS, ORDER)
    assert not can_be_shared(InferSettings(), ORDER)
    assert not can_be_shared(IN_PARTS, replace(ORDER, needed=("render",)))
    assert not can_be_shared(IN_PARTS, replace(ORDER, keep=None))
    assert not can_be_shared(IN_PARTS, replace(ORDER, keep="s3://lab/k.npz"))
    assert not can_be_shared(IN_PARTS, replace(ORDER, video="s3://lab/a.mkv"))
