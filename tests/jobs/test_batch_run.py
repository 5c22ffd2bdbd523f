"""vp3d_cli/jobs: what a batch does, and does again; the networks are stubs (batch_stub.py)."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from batch_stub import options_of, plan_of, statuses, use_stub, write, write_video
from conftest import RunCli
from poses import walking_pose
from rich.console import Console

from vp3d_cli.cli.batch_display import BatchDisplay
from vp3d_cli.errors import OutputError, Vp3dError, WeightsError
from vp3d_cli.io.poses.npz import read_npz, write_npz
from vp3d_cli.jobs.inputs import STATE, BatchInput, find_inputs
from vp3d_cli.jobs.loop import Listener
from vp3d_cli.jobs.plan import BatchItem, _difference, plan_items
from vp3d_cli.jobs.run import BatchOptions, check_batch, run_batch
from vp3d_cli.pipeline.settings import InferSettings, naming


@pytest.fixture(autouse=True)
def _stub_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_WEIGHTS", "1")


def is_running(pid: str) -> bool:
    """Whether a process still runs; one that has ended stays listed until its parent, or init, asks for it."""
    try:
        status = Path("/proc", pid, "status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status


class Recorder(Listener):
    """Remembers what a batch does."""

    def __init__(self) -> None:
        self.started_places: list[str] = []
        self.postponed_places: list[str] = []

    def started(self, item: BatchItem) -> None:
        self.started_places.append(str(item.input.place))

    def postponed(self, item: BatchItem, reason: str) -> None:
        self.postponed_places.append(str(item.input.place))


def run(folder: Path, out: Path, options: BatchOptions | None = None, render: Path | None = None) -> tuple[Any, Any]:
    """Rows, and the places of videos that a worker began with."""
    recorder = Recorder()
    rows = run_batch(plan_of(folder, out, render), out, options or options_of(), recorder)
    return rows, recorder.started_places


def test_what_can_happen_to_a_video_happens_to_it_alone(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    for name, does in (
        ("a", "pose"), ("b", "crash"), ("c", "nobody"), ("d", "out of memory"), ("e", "bug"), ("f", "exit"),
        ("g", "change"), ("h", "print"), ("z", "pose"),
    ):  # fmt: skip
        write_video(clips / f"{name}.mkv", does, note=name)
    write(clips / "y.mkv", b"rubbish")
    rows, _ = run(clips, out)
    told = {row.place[0]: row for row in rows}
    assert [row.place for row in rows] == sorted(f"{name}.mkv" for name in told)
    assert {name for name, row in told.items() if row.status == "done"} == {"a", "h", "z"}
    assert "SIGSEGV (a crash in native code) while finding people, frame" in told["b"].reason
    assert "about to crash" in told["b"].stderr
    assert "Segmentation fault" in told["b"].stderr  # and where in Python
    assert "batch_stub.py" in told["b"].stderr
    assert told["c"].exit_code == 3
    assert "nobody was found" in told["c"].reason
    assert "SIGKILL (most likely because memory ran out)" in told["d"].reason
    assert told["e"].reason == "unexpected ZeroDivisionError: by zero"
    assert "Traceback" in told["e"].stderr
    assert "status 7" in told["f"].reason
    assert "changed while it was read" in told["g"].reason
    assert "cannot be read as a video" in told["y"].reason
    assert sorted(path.name for path in out.iterdir()) == [STATE, "a.npz", "batch.csv", "h.npz", "z.npz"]
    assert sorted(path.name for path in (out / STATE).iterdir()) == ["lock", "nobody"]
    for name in ("a", "h", "z"):
        assert read_npz(out / f"{name}.npz").num_people == 1

    with (out / "batch.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(entry["status"], entry["reason"]) for entry in table] == [(row.status, row.reason) for row in rows]


def test_only_what_is_missing_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, out, drawn = tmp_path / "clips", tmp_path / "out", tmp_path / "drawn"
    for name in "abcdef":
        write_video(clips / "sub" / f"{name}.mkv", note=name)

    def again(**changes: Any) -> list[str]:
        rows, started = run(clips, out, options_of(jobs=1, **changes), drawn)
        assert {row.status for row in rows} <= {"done", "skipped"}
        assert all((out / "sub" / f"{name}.npz").exists() for name in "abcdef")
        assert not list(out.rglob("*.partial"))
        return [place.removeprefix("sub/")[0] for place in started]

    assert again() == list("abcdef")
    assert again() == []
    (out / "sub" / "a.npz").unlink()
    (drawn / "sub" / "b.mp4").unlink()
    (out / "sub" / "c.npz").write_bytes((out / "sub" / "c.npz").read_bytes()[:-7])
    write_video(clips / "sub" / "d.mkv", note="D")  # the same size
    os.utime(clips / "sub" / "e.mkv", ns=(5, 5))  # the same content
    poses = {name: (out / "sub" / f"{name}.npz").stat().st_mtime_ns for name in "bef"}
    assert again() == list("abcd")
    assert poses == {name: (out / "sub" / f"{name}.npz").stat().st_mtime_ns for name in "bef"}
    assert again() == []
    monkeypatch.setenv("STUB_WEIGHTS", "2")
    assert again() == list("abcdef")
    assert again() == []
    assert again(settings=InferSettings(smooth=2.0)) == list("abcdef")
    assert again(settings=InferSettings(smooth=2.0, device="cpu")) == []
    assert again(settings=InferSettings(smooth=2.0), overwrite=True) == list("abcdef")

    # The whole may move elsewhere.
    shutil.move(out, tmp_path / "moved")
    shutil.copytree(clips, tmp_path / "copied")
    roots = {"pose": tmp_path / "moved"}
    items = plan_items(find_inputs([tmp_path / "copied"]), roots=roots, suffixes={"pose": ".npz"})
    decisions = check_batch(items, tmp_path / "moved", options_of(settings=InferSettings(smooth=2.0)))
    assert [decision.needed for decision in decisions] == [()] * 6


def test_a_dry_run_says_why_and_writes_nothing(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    assert [decision.why for decision in check_batch(plan_of(clips, out), out, options_of())] == ["new"]
    assert not out.exists()
    run(clips, out)
    write_video(clips / "b.mkv", "nobody")
    run(clips, out)
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    fast = options_of(settings=InferSettings(smooth=3.0, tta=False))
    told = [decision.because() for decision in check_batch(plan_of(clips, out), out, fast)]
    assert told == ["smooth, tta changed", "new"]
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_what_changed_is_told_once_and_as_the_user_knows_it() -> None:
    weights = {"lifter": "1", "detector": "d 1"}

    def told(**now: Any) -> str:
        before = {"settings": {"detector": "a", "fov_deg": 60}, "weights": weights, "version": "1"}
        return naming(_difference(before, {**before, **now}), lambda field: f"--{field}")

    assert told(settings={"detector": "b", "fov_deg": 70}, weights={**weights, "detector": "e"}) == (
        "--detector, --fov_deg changed"
    )
    assert told(weights={**weights, "lifter": "2"}) == "the weights of the lifter changed"
    assert told(version="2", weights={"lifter": "1"}, keypoints="9") == "the keypoints, vp3d itself changed"
    assert told(settings={"detector": "a", "fov_deg": 60, "flip": True}) == "--flip changed"


def test_poses_of_one_folder_do_not_replace_those_of_another(tmp_path: Path) -> None:
    one, two, out = tmp_path / "one", tmp_path / "two", tmp_path / "out"
    write_video(one / "a.mkv", note="1")
    write_video(two / "a.mkv", note="2")
    write_video(two / "b.mkv", note="3")
    run(one, out)
    pose = (out / "a.npz").read_bytes()
    for settings in (InferSettings(), InferSettings(smooth=3.0)):
        (row, other), started = run(two, out, options_of(settings=settings))
        assert (row.status, other.status, started.count("a.mkv")) == ("failed", "done", 0)
        assert row.reason == f"{out}/a.npz was made from {one}/a.mkv; choose another --out, or pass --overwrite"
        assert (out / "a.npz").read_bytes() == pose
    # Another name for the same folder, and the same video elsewhere, are no other video.
    (tmp_path / "link").symlink_to(one)
    write_video(one / "a.mkv", note="4")
    assert statuses(run(tmp_path / "link", out)[0]) == {"a.mkv": "done"}
    shutil.copytree(one, tmp_path / "copy")
    assert statuses(run(tmp_path / "copy", out)[0]) == {"a.mkv": "skipped"}
    # One that has gone can be replaced, and so can any with --overwrite.
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "link").unlink()
    assert statuses(run(two, out)[0]) == {"a.mkv": "done", "b.mkv": "done"}
    assert statuses(run(one, out, options_of(overwrite=True))[0]) == {"a.mkv": "done"}


def test_a_link_that_leads_nowhere_fails(tmp_path: Path) -> None:
    write_video(tmp_path / "clips" / "a.mkv")
    (tmp_path / "clips" / "b.mkv").symlink_to(tmp_path / "nowhere.mkv")
    rows, _ = run(tmp_path / "clips", tmp_path / "out")
    assert statuses(rows) == {"a.mkv": "done", "b.mkv": "failed"}


def test_results_are_known_however_their_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("clips/a.mkv"))
    run(Path("clips"), Path("out"), render=Path("drawn"))
    rows, started = run(tmp_path / "clips", tmp_path / "out", render=tmp_path / "drawn")
    assert (statuses(rows), started) == ({"a.mkv": "skipped"}, [])


def test_a_folder_of_an_older_version_is_made_anew_and_nothing_else_replaced(tmp_path: Path) -> None:
    """Its poses say nothing of the video's content, its drawings nothing at all; a journal lists them."""
    clips, out, drawn = tmp_path / "clips", tmp_path / "out", tmp_path / "drawn"
    for name in "abc":
        write_video(clips / f"{name}.mkv", note=name)
    old = walking_pose(1, 3)
    out.mkdir()
    provenance = {"version": "0.1.0", "video": str(clips / "a.mkv"), "settings": {}}
    write_npz(replace(old, provenance=provenance), out / "a.npz")
    old_bytes = (out / "a.npz").read_bytes()
    for name in "abc":
        write(drawn / f"{name}.mp4", b"an old drawing")
    mine = write(out / "c.npz", b"precious")
    entries = [
        {"event": "started", "video": str(clips / "a.mkv"), "results": ["pose a.npz", "render ../drawn/a.mp4"]},
        {"event": "made", "kind": "pose", "key": "a.npz"},
        {"event": "started", "video": str(clips / "b.mkv"), "results": ["pose b.npz", "render ../drawn/b.mp4"]},
    ]
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    journal = write(out / STATE / "journal.jsonl", f'{lines}{{"event": "ma'.encode())
    before = journal.read_bytes()
    decisions = check_batch(plan_of(clips, out, drawn), out, options_of())
    assert [decision.because() for decision in decisions[:2]] == ["it was made by an older version", "new"]
    assert (out / "a.npz").read_bytes() == old_bytes
    write_video(clips / "a.mkv", "crash", note="a")
    run(clips, out, render=drawn)
    assert (out / "a.npz").read_bytes() == old_bytes  # it stays until the new one is whole
    write_video(clips / "a.mkv", note="a")
    rows, _ = run(clips, out, render=drawn)
    assert statuses(rows) == {"a.mkv": "done", "b.mkv": "skipped", "c.mkv": "failed"}
    assert "not of this batch" in rows[2].reason
    assert (mine.read_bytes(), (drawn / "c.mp4").read_bytes()) == (b"precious", b"an old drawing")
    assert journal.read_bytes() == before


def test_what_infer_made_is_used_if_it_is_the_same_and_else_left_alone(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    run(clips, out)
    pose = read_npz(out / "a.npz")
    write_npz(replace(pose, provenance={**pose.provenance, "command": "vp3d infer a.mkv"}), out / "a.npz", True)
    assert statuses(run(clips, out)[0]) == {"a.mkv": "skipped"}
    rows, started = run(clips, out, options_of(settings=InferSettings(smooth=3.0)))
    assert started == []
    assert rows[0].reason == f"{out}/a.npz was made by vp3d infer (<smooth> changed); move it away, or pass --overwrite"


def test_nobody_is_not_looked_for_twice(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "nobody")
    assert run(clips, out)[1] == ["a.mkv"]
    rows, started = run(clips, out)
    assert started == []
    assert (rows[0].status, rows[0].exit_code) == ("failed", 3)
    assert "known from an earlier run" in rows[0].reason
    write_video(clips / "a.mkv", "pose")
    assert statuses(run(clips, out)[0]) == {"a.mkv": "done"}


def test_a_file_of_someone_else_is_not_replaced(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    mine = write(out / "a.npz", b"precious")
    rows, started = run(clips, out)
    assert started == []
    assert "not of this batch" in rows[0].reason
    assert mine.read_bytes() == b"precious"
    assert statuses(run(clips, out, options_of(overwrite=True))[0]) == {"a.mkv": "done"}


def test_what_was_made_before_a_crash_is_kept(tmp_path: Path) -> None:
    clips, out, drawn = tmp_path / "clips", tmp_path / "out", tmp_path / "drawn"
    write_video(clips / "a.mkv", "crash while drawing")
    rows, _ = run(clips, out, render=drawn)
    assert rows[0].status == "failed"
    assert rows[0].results == (str(out / "a.npz"),)
    (decision,) = check_batch(plan_of(clips, out, drawn), out, options_of())
    assert decision.needed == ("render",)
    assert not list(drawn.rglob("*.mp4"))


def test_another_attempt_is_made_after_the_other_videos(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "crash once")
    write_video(clips / "b.mkv", "crash")
    write_video(clips / "c.mkv")
    rows, started = run(clips, out, options_of(jobs=1, retries=1))
    assert started == [f"{name}.mkv" for name in "abcab"]
    assert statuses(rows) == {"a.mkv": "done", "b.mkv": "failed", "c.mkv": "done"}
    assert [row.attempts for row in rows] == [2, 2, 1]


def test_what_failed_before_goes_last(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "exit")
    run(clips, out)
    for name in "bc":
        write_video(clips / f"{name}.mkv")
    assert run(clips, out, options_of(jobs=1))[1] == ["b.mkv", "c.mkv", "a.mkv"]


def test_a_hang_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "hang")
    write_video(clips / "b.mkv", "hang in native code")
    write_video(clips / "c.mkv")
    rows, _ = run(clips, out, options_of(stall_s=1.5))
    assert statuses(rows) == {"a.mkv": "failed", "b.mkv": "failed", "c.mkv": "done"}
    for row in rows[:2]:
        assert row.reason.startswith("hung: no progress for 1.5 s")
        assert "batch_stub.py" in row.stderr  # where
    assert not is_running((clips / "a.helper").read_text())


def test_a_video_may_not_take_longer_than_it_may(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", step_s=50)
    rows, _ = run(clips, out, options_of(timeout_s=0.5))
    assert rows[0].reason.startswith("took longer than 0.5 s (--timeout) while finding people, frame 0")


def test_a_video_whose_worker_cannot_load_the_models_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    for name in "abcd":
        write_video(clips / f"{name}.mkv", step_s=0.3)
    monkeypatch.setenv("STUB_ONLY_ONCE", str(tmp_path / "loaded"))
    rows, _ = run(clips, out, options_of(jobs=2, retries=0))
    failed = [row for row in rows if row.status == "failed"]
    assert len(failed) < 4
    assert all("FileExistsError" in row.reason for row in failed)
    monkeypatch.delenv("STUB_ONLY_ONCE")
    assert {row.status for row in run(clips, out, options_of(jobs=1))[0]} <= {"done", "skipped"}


def test_weights_that_change_meanwhile_make_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "crash once", step_s=0.3)

    class Changer(Recorder):
        def progress(self, item: BatchItem, stage: str, done: int, total: int | None) -> None:
            monkeypatch.setenv("STUB_WEIGHTS", "2")

    (row,) = run_batch(plan_of(clips, out), out, options_of(jobs=1, retries=1), Changer())
    assert (row.status, row.attempts) == ("failed", 2)
    assert row.reason.startswith("the weights are others than when the batch began")
    assert not (out / "a.npz").exists()


def test_fail_fast_begins_nothing_more(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "crash")
    for name in "bc":
        write_video(clips / f"{name}.mkv")
    rows, started = run(clips, out, options_of(jobs=1, fail_fast=True, retries=3))
    assert started == ["a.mkv"]
    assert [row.status for row in rows] == ["failed", "not done", "not done"]


def test_models_that_cannot_be_loaded_end_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    monkeypatch.setenv("STUB_WEIGHTS", "broken")
    with pytest.raises(WeightsError, match="stub weights are broken"):
        run(clips, out)
    monkeypatch.setenv("STUB_WEIGHTS", "die")
    with pytest.raises(Vp3dError, match="no worker could load the models: its worker was ended by SIGABRT"):
        run(clips, out)
    monkeypatch.setenv("STUB_WEIGHTS", "1")
    assert statuses(run(clips, out)[0]) == {"a.mkv": "done"}


def test_a_full_disk_ends_the_batch_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    for name in "ab":
        write_video(clips / f"{name}.mkv", note=name)
    real, asked = shutil.disk_usage, []

    def disk_usage(path: Any) -> Any:
        asked.append(path)
        return real(path) if len(asked) == 1 else SimpleNamespace(free=0)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", disk_usage)
        with pytest.raises(OutputError, match="its disk is full"):
            run(clips, out, options_of(jobs=1))
    assert (out / "a.npz").exists()
    rows, started = run(clips, out)
    assert statuses(rows) == {"a.mkv": "skipped", "b.mkv": "done"}
    assert started == ["b.mkv"]


def test_workers_do_not_import_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "numpy.py", "queue.py"):
        write(tmp_path / "clips" / name, b"raise SystemExit('hijacked')")
    write_video(tmp_path / "clips" / "a.mkv")
    monkeypatch.chdir(tmp_path / "clips")
    assert statuses(run(Path("."), Path("../out"))[0]) == {"a.mkv": "done"}


def test_the_module_of_batches_is_light() -> None:
    heavy = ("torch", "cv2", "onnxruntime", "rich")
    code = f"import sys, vp3d_cli.jobs.run; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# The command.


@pytest.fixture
def vp3d(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunCli:
    """The command line in an empty folder, with the stub."""
    import vp3d_cli.jobs.run

    monkeypatch.setattr(vp3d_cli.jobs.run, "BatchOptions", BatchOptions)
    use_stub()
    monkeypatch.chdir(tmp_path)
    return run_cli


def test_batch_prints_a_table_and_ends_with_0_if_all_is_done(vp3d: RunCli) -> None:
    for name in ("a.mkv", "cam/b.mkv"):
        write_video(Path("clips") / name, note=f"warning of {name}")
    outcome = vp3d("batch", "clips", "--out", "poses", "--render", "drawn", "--jobs", 2)
    assert outcome.code == 0, outcome
    assert [line.split()[:3] for line in outcome.stdout.splitlines()[2:]] == [
        ["a.mkv", "done", "4"], ["cam/b.mkv", "done", "4"],
    ]  # fmt: skip
    lines = outcome.stderr.splitlines()
    assert lines[0] == "loading models ..."
    assert lines[1] == "2 videos to do, 2 at a time, 1 thread each; 0 done before"
    assert lines[2].startswith("[1/2] ")
    assert "time left" not in lines[3]
    assert "vp3d: warning: warning of cam/b.mkv" in lines
    assert lines[-1] == "2 done; see poses/batch.csv"
    assert sorted(str(path) for path in Path("drawn").rglob("*.mp4")) == ["drawn/a.mp4", "drawn/cam/b.mp4"]

    outcome = vp3d("batch", "clips", "--out", "poses", "--render", "drawn", "--quiet")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert [line.split()[1] for line in outcome.stdout.splitlines()[2:]] == ["skipped", "skipped"]
    outcome = vp3d("batch", "clips", "--out", "poses", "--smooth", "2", "--dry-run")
    assert outcome.code == 0
    assert "--smooth changed" in outcome.stdout
    outcome = vp3d("batch", ".", "--out", "more", "--dry-run")
    assert [line.split()[0] for line in outcome.stdout.splitlines()[2:]] == ["clips/a.mkv", "clips/cam/b.mkv"]


def test_exit_status_of_failures(vp3d: RunCli) -> None:
    write_video(Path("clips/a.mkv"))
    write_video(Path("clips/b.mkv"), "nobody")
    outcome = vp3d("batch", "clips", "--out", "poses")
    assert outcome.code == 3
    assert outcome.stderr.splitlines()[-1] == "vp3d: error: 1 of 2 videos are not done; the table says why"
    write_video(Path("clips/c.mkv"), "crash")
    outcome = vp3d("batch", "clips", "--out", "poses", "--retries", 0)
    assert outcome.code == 1
    assert "about to crash" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["batch"], 2),
        (["batch", "clips"], 2),
        (["batch", "clips", "--out", "poses", "--jobs", "0"], 2),
        (["batch", "clips", "--out", "poses", "--smooth", "much"], 2),
        (["batch", "clips", "--out", "poses", "--render", "clips"], 2),
        (["batch", "clips", "--out", "clips/a.mkv"], 2),
        (["batch", "clips", "--out", "poses", "--keypoints", "missing"], 2),
        (["batch", "clips", "--out", "poses", "--keypoints-only", "--format", "csv"], 2),
        (["batch", "clips", "--out", "poses", "--keypoints-only", "--render", "drawn"], 2),
        (["batch", "missing", "--out", "poses"], 1),
        (["batch", "clips", "--out", "poses", "--glob", "*.mov"], 1),
        (["batch", "empty", "--out", "poses"], 1),
    ],
)
def test_wrong_usage_of_batch(vp3d: RunCli, arguments: list[str], code: int) -> None:
    write_video(Path("clips/a.mkv"))
    Path("empty").mkdir()
    outcome = vp3d(*arguments)
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert not Path("poses").exists()


def test_bars_on_a_terminal(vp3d: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "140")
    for name in ("a.mkv", "b.mkv"):
        write_video(Path("clips") / name, step_s=0.15)
    write_video(Path("clips/c.mkv"), "nobody")
    outcome = vp3d("batch", "clips", "--out", "poses")
    assert "finding people" in outcome.stderr
    assert "3/3 videos, 1 failed" in outcome.stderr


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_bars_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    videos = [BatchInput(Path(f"/{name}"), PurePosixPath(name * 50), 9) for name in "ab"]
    items = plan_items(videos, roots={"pose": Path("out")}, suffixes={"pose": ".npz"})
    display = BatchDisplay(quiet=False)
    bars = display._progress
    assert bars is not None
    display.planned(items, [], 2, 1)
    for item in items:
        display.started(item)
        display.progress(item, "detect", 1234, 5678)
    text = Console(width=columns, file=io.StringIO()).render_lines(bars.get_renderable())
    lines = ["".join(segment.text for segment in line).rstrip() for line in text]
    assert len(lines) == 3
    whole, *each = lines
    assert "0/2 videos" in whole
    assert "0:00:00" in whole  # since when
    for line in each:
        assert "finding people 1234/5678" in line
        assert line.count(":") == 2  # one time, whole: what is left
        assert len(re.findall("[━╸╺]", line)) == min(24, max(6, (columns - 44) // 3))
        assert len(line) <= columns


def test_batch_has_the_options_of_infer(run_cli: RunCli) -> None:
    def options(command: str) -> set[str]:
        return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", run_cli(command, "--help").stdout, re.MULTILINE))

    assert {"--detector", "--roi", "--quiet"} <= options("infer")
    assert options("infer") - options("batch") == {"--preview"}
    outcome = run_cli("batch", "--help")
    assert "\n  vp3d batch clips/ --out poses/" in outcome.stdout


def test_names_that_are_no_text(vp3d: RunCli) -> None:
    write_video(Path("clips") / os.fsdecode(b"caf\xe9.mkv"))
    write_video(Path("clips") / "two\nlines.mkv")
    for jobs in (1, 2):
        outcome = vp3d("batch", "clips", "--out", "poses", "--jobs", jobs)
        assert outcome.code == 0, outcome
        assert len(outcome.stdout.splitlines()) == 4
    assert vp3d("batch", "clips", "--out", "poses", "--dry-run").stdout.count("skip") == 2
    assert len(list(csv.DictReader(io.StringIO(Path("poses/batch.csv").read_bytes().decode("utf-8", "replace"))))) == 2
