"""vp3d_cli/jobs/storage.py and lock.py, and batches from and to stores elsewhere; the networks are stubs."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import object_store
import pytest
from batch_stub import assert_same_results, options_of, plan_of, use_stub, wait_for, write_video
from conftest import RunCli
from upath import UPath

from vp3d_cli.errors import InputError, MissingDependencyError, OutputError
from vp3d_cli.jobs import lock as locks
from vp3d_cli.jobs import storage
from vp3d_cli.jobs.inputs import STATE, find_inputs
from vp3d_cli.jobs.lock import lock_folder
from vp3d_cli.jobs.loop import Listener
from vp3d_cli.jobs.plan import BatchItem, plan_items
from vp3d_cli.jobs.report import BatchRow
from vp3d_cli.jobs.run import BatchOptions, check_batch, run_batch
from vp3d_cli.jobs.storage import is_unchanged, modification, sha256_of, to_place

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_WEIGHTS", "1")
    monkeypatch.setattr(locks, "_SETTLE_S", 0.0)


@pytest.fixture(params=["memory", "shelf"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UPath]:
    """An empty folder in a store."""
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("SHELF", str(tmp_path / "shelf"))
    object_store.ObjectStore.clear_instance_cache()
    url = to_place(f"{request.param}://lab/folder")
    assert isinstance(url, UPath)
    yield url
    storage.remove(to_place(f"{request.param}://lab"))


class Recorder(Listener):
    def __init__(self) -> None:
        self.started_places: list[str] = []

    def started(self, item: BatchItem) -> None:
        self.started_places.append(str(item.input.place))


def put(url: UPath, content: bytes = b"x") -> UPath:
    storage.write_bytes(url, content)
    return url


def put_video(url: UPath, tmp_path: Path, does: str = "pose", step_s: float = 0.0, note: str = "") -> UPath:
    return put(url, write_video(tmp_path / "made" / "a.mkv", does, step_s, note).read_bytes())


def brought(out: UPath, folder: Path) -> Path:
    """A local copy of all results."""
    for name in out.fs.find(out.path):
        inside = PurePosixPath(name.lstrip("/")).relative_to(out.path.lstrip("/"))
        if STATE not in inside.parts:
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            out.fs.get_file(name, str(folder / inside))
    return folder


def leftovers(out: UPath) -> list[str]:
    out.fs.invalidate_cache()
    return [name for name in out.fs.find(out.path) if "/work/" in name or name.endswith((".partial", "/lock"))]


# Addresses.


def test_addresses_and_paths() -> None:
    assert to_place("clips/a.mp4") == Path("clips/a.mp4")
    assert to_place("C:/clips") == Path("C:/clips")
    assert to_place("file:///clips/a.mp4") == Path("/clips/a.mp4")
    assert str(to_place("memory://lab/clips/")) == "memory://lab/clips"
    url = to_place("memory://lab/clips/walk.v2.mp4")
    assert (url.name, url.stem, url.suffix) == ("walk.v2.mp4", "walk.v2", ".mp4")
    assert str(url.parent / "cam/b.mp4") == "memory://lab/clips/cam/b.mp4"


def test_stores_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"carrier-pigeon://loft/a: cannot be reached"):
        to_place("carrier-pigeon://loft/a")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match="s3fs"):
        to_place("s3://lab/a")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(MissingDependencyError, match=r"vp3d\[cluster\]"):
        to_place("s3://lab/b")


def test_files_are_fetched_whole_under_their_own_names(store: UPath, tmp_path: Path) -> None:
    put(store / "a.mp4", b"12345")
    copy = storage.fetch(store / "a.mp4", tmp_path)
    assert (copy.name, copy.read_bytes()) == ("a.mp4", b"12345")
    put(store / "frames/1.png", b"1")
    put(store / "frames/2.png", b"2")
    copy = storage.fetch(store / "frames", tmp_path)
    assert sorted(path.name for path in copy.iterdir()) == ["1.png", "2.png"]
    with pytest.raises(InputError, match=r"no such file or folder: \w+://lab/folder/missing"):
        storage.fetch(store / "missing", tmp_path)


def test_a_file_that_cannot_be_sent_leaves_nothing(
    store: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store / "a.npz", b"old")
    (tmp_path / "new").write_bytes(b"new")
    temporary = store / STATE / "work" / "1"

    def torn(source: str, target: str, **_: Any) -> None:
        store.fs.pipe_file(target, b"ne")
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patched:
        patched.setattr(store.fs, "put_file", torn, raising=False)
        with pytest.raises(OutputError, match="the line went dead"):
            storage.publish(tmp_path / "new", store / "a.npz", temporary)
    assert (store / "a.npz").read_bytes() == b"old"
    assert leftovers(store) == []
    storage.publish(tmp_path / "new", store / "a.npz", temporary)
    assert (store / "a.npz").read_bytes() == b"new"


# What is found.


def test_videos_are_found_as_they_are_here(store: UPath, tmp_path: Path) -> None:
    names = ("take10.mkv", "take2.mkv", "cam/b", "Take1.MKV", "deep/er/x.webm", ".hidden/a.mkv", "notes.txt", "s.m4a")
    for name in names:
        write_video(tmp_path / "clips" / name) if name != "notes.txt" else None
        put_video(store / name, tmp_path) if name != "notes.txt" else put(store / name, b"notes" * 100)
    for i in range(3):
        put(store / f"frames/{i}.jpg", b"\xff\xd8\xff\xe0")
    put_video(store / "out" / "drawn.mkv", tmp_path)
    found = find_inputs([store], exclude=[store / "out"])
    places = ["cam/b", "deep/er/x.webm", "frames", "Take1.MKV", "take2.mkv", "take10.mkv"]
    assert [str(item.place) for item in found] == places
    assert [str(item.place) for item in find_inputs([tmp_path / "clips"])] == [p for p in places if p != "frames"]
    assert all(str(item.path) == f"{store}/{item.place}" for item in found)
    assert [item.size for item in found][2] == 12
    assert [str(item.place) for item in find_inputs([store], globs=["cam/*"])] == ["cam/b"]
    assert [str(item.place) for item in find_inputs([store / "take2.mkv", store / "cam"])] == ["cam/b", "take2.mkv"]
    with pytest.raises(InputError, match="no such file"):
        find_inputs([store / "missing"])
    with pytest.raises(InputError, match="have no common tree"):
        find_inputs([store, tmp_path])


def fingerprint(place: UPath) -> dict[str, Any]:
    return {**modification(place), "sha256": sha256_of(place)}


def test_fingerprints_are_those_of_copies(store: UPath, tmp_path: Path) -> None:
    file = put(store / "a.mp4", b"12345")
    before = fingerprint(file)
    assert is_unchanged(file, before)
    assert is_unchanged(file, {**before, "mtime": "another"})  # by its content
    assert before["sha256"] == sha256_of(storage.fetch(file, tmp_path))
    put(file, b"12346")
    assert not is_unchanged(file, before)
    for i in range(2):
        put(store / f"frames/{i}.png", bytes([i]))
    before = fingerprint(store / "frames")
    assert sha256_of(storage.fetch(store / "frames", tmp_path)) == before["sha256"]
    assert is_unchanged(store / "frames", before)
    put(store / "frames/1.png", b"9")
    assert not is_unchanged(store / "frames", before)
    with pytest.raises(OSError, match="missing"):
        modification(store / "missing")


# The lock.


def test_one_batch_at_a_time_in_a_folder(store: UPath) -> None:
    with lock_folder(store):
        assert leftovers(store) == [(store / STATE / "lock").path]
        with pytest.raises(OutputError, match=f"another vp3d batch .process {os.getpid()} on .* writes here"):
            lock_folder(store)
    assert leftovers(store) == []
    lock = store / STATE / "lock"
    claim = {"token": "1", "time_s": time.time()}
    put(lock, json.dumps({**claim, "holder": "7 elsewhere"}).encode())
    with pytest.raises(OutputError, match="process 7 on elsewhere"):
        lock_folder(store)
    put(lock, json.dumps({**claim, "holder": "7 elsewhere", "time_s": time.time() - 100}).encode())
    lock_folder(store).release()  # silent for too long
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    put(lock, json.dumps({**claim, "holder": f"{dead.pid} {socket.gethostname()}"}).encode())
    lock_folder(store).release()  # has died, on this machine
    put(lock, b"{torn")
    lock_folder(store).release()


def test_a_batch_that_has_lost_its_folder_begins_nothing_more(store: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_RENEW_S", 0.05)
    with lock_folder(store) as lock:
        other = json.dumps({"holder": "7 elsewhere", "token": "1", "time_s": time.time()}).encode()
        put(store / STATE / "lock", other)
        until = time.monotonic() + 20
        with pytest.raises(OutputError, match="process 7 on elsewhere"):  # noqa: PT012
            while time.monotonic() < until:
                lock.check()
                time.sleep(0.05)
    assert (store / STATE / "lock").read_bytes() == other  # which is left to them


# Batches.


def plan(clips: Any, out: Any, drawn: Any = None) -> list[BatchItem]:
    roots = {"pose": out} | ({} if drawn is None else {"render": drawn})
    return plan_items(
        find_inputs([clips], exclude=list(roots.values())),
        roots=roots,
        suffixes={"pose": ".npz", "render": ".mp4"},
    )


def run(clips: Any, out: Any, drawn: Any = None, **changes: Any) -> tuple[list[BatchRow], list[str]]:
    recorder = Recorder()
    rows = run_batch(plan(clips, out, drawn), out, options_of(**changes), recorder)
    return rows, recorder.started_places


def test_a_batch_from_store_to_store(store: UPath, tmp_path: Path) -> None:
    clips, out, drawn = store / "clips", store / "poses", store / "drawn"
    crash = "crash" if storage.is_shared(store) else "bug"  # else it would be this process that crashes
    for name, does in (("cam1/a", "pose"), ("cam2/a", "pose"), ("b", "nobody"), ("c", crash)):
        put_video(clips / f"{name}.mkv", tmp_path, does, note=name)
        write_video(tmp_path / "clips" / f"{name}.mkv", does, note=name)
    put(clips / "e.mkv", b"rubbish")
    rows, started = run(clips, out, drawn)
    assert len(started) == 5
    told = {row.place: row for row in rows}
    assert {place for place, row in told.items() if row.status == "done"} >= {"cam1/a.mkv", "cam2/a.mkv"}
    assert told["e.mkv"].reason == f"{clips}/e.mkv cannot be read as a video"  # not where its copy was
    assert told["b.mkv"].exit_code == 3
    assert ("SIGSEGV" if crash == "crash" else "ZeroDivisionError") in told["c.mkv"].reason
    assert told["cam1/a.mkv"].results == (f"{out}/cam1/a.npz", f"{drawn}/cam1/a.mp4")
    assert leftovers(store) == []
    run_batch(plan_of(tmp_path / "clips", tmp_path / "here"), tmp_path / "here", options_of())
    copies = brought(out, tmp_path / "copies")
    assert_same_results(copies, tmp_path / "here")
    with (copies / "batch.csv").open() as file:
        assert len(file.readlines()) == 6

    # Again: only what is missing, or no longer good.
    store.fs.rm_file((out / "cam1/a.npz").path)
    store.fs.rm_file((drawn / "cam2/a.mp4").path)
    decisions = check_batch(plan(clips, out, drawn), out, options_of())
    assert [decision.why for decision in decisions] == ["", "new", "new", "new", "new"]
    assert [decision.needed for decision in decisions[2:4]] == [("pose", "render"), ("render",)]
    rows, started = run(clips, out, drawn)
    assert sorted(started) == ["c.mkv", "cam1/a.mkv", "cam2/a.mkv", "e.mkv"]
    put_video(clips / "cam1/a.mkv", tmp_path, note="CAM1/A")
    rows, started = run(clips, out, drawn)
    assert sorted(started) == ["c.mkv", "cam1/a.mkv", "e.mkv"]
    put(drawn / "cam2/a.mp4", b"damaged")
    assert "cam2/a.mkv" in run(clips, out, drawn)[1]
    put(out / "cam2/a.npz", b"not ours")
    rows, started = run(clips, out, drawn)
    assert "cam2/a.mkv" not in started


def test_from_here_to_a_store_and_back(store: UPath, tmp_path: Path) -> None:
    for name in ("a", "cam/b"):
        write_video(tmp_path / "clips" / f"{name}.mkv", note=name)
        put_video(store / "clips" / f"{name}.mkv", tmp_path, note=name)
    assert {row.status for row in run(tmp_path / "clips", store / "out", tmp_path / "drawn")[0]} == {"done"}
    assert {row.status for row in run(store / "clips", tmp_path / "out", store / "drawn")[0]} == {"done"}
    assert_same_results(brought(store / "out", tmp_path / "copies"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "drawn").rglob("*.mp4")) == ["a.mp4", "b.mp4"]
    for clips, out in ((tmp_path / "clips", store / "out"), (store / "clips", tmp_path / "out")):
        assert run(clips, out)[1] == []
    assert not list((tmp_path / "out" / STATE).rglob("scratch"))


def test_a_store_that_refuses_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("SHELF", str(tmp_path / "shelf"))
    store = to_place("shelf://lab/refusing")
    assert isinstance(store, UPath)
    put_video(store / "clips" / "a.mkv", tmp_path)
    (tmp_path / "shelf" / "full").touch()
    with pytest.raises(OutputError, match=r"refusing/poses/.*AccessDenied: this is not your bucket.*check the address"):
        run(store / "clips", store / "poses")


def test_killed_again_and_again_it_ends_as_if_undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("SHELF", str(tmp_path / "shelf"))
    store, chance = to_place("shelf://lab/killed"), random.Random(3)
    assert isinstance(store, UPath)
    for i in range(5):
        put_video(store / f"clips/cam{i % 2}/take{i}.mkv", tmp_path, step_s=0.04, note=str(i))
        write_video(tmp_path / "clips" / f"cam{i % 2}/take{i}.mkv", step_s=0.04, note=str(i))
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / "batch_stub.py"), "batch", f"{store}/clips", "--out", f"{store}/poses"]
    for _ in range(3):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        before = len(list((tmp_path / "shelf").glob("*.npz")))
        wait_for(lambda: len(list((tmp_path / "shelf").glob("*.npz"))) > before or process.poll() is not None)  # noqa: B023
        time.sleep(chance.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last
    run_batch(plan_of(tmp_path / "clips", tmp_path / "here"), tmp_path / "here", options_of())
    object_store.ObjectStore.clear_instance_cache()
    assert_same_results(brought(store / "poses", tmp_path / "copies"), tmp_path / "here")
    assert leftovers(store) == []


def test_the_command(store: UPath, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    import vp3d_cli.jobs.run

    monkeypatch.setattr(vp3d_cli.jobs.run, "BatchOptions", BatchOptions)
    use_stub()
    put_video(store / "clips/a.mkv", tmp_path)
    outcome = run_cli("batch", f"{store}/clips/", "--out", f"{store}/poses", "--dry-run")
    assert (outcome.code, outcome.stdout.split()[-1]) == (0, f"{store}/poses/a.npz")
    outcome = run_cli("batch", f"{store}/clips/", "--out", f"{store}/poses", "--render", f"file://{tmp_path}/drawn")
    assert outcome.code == 0, outcome
    assert outcome.error_lines[-1] == f"1 done; see {store}/poses/batch.csv"
    assert (tmp_path / "drawn" / "a.mp4").exists()
    with fsspec.open(f"{store}/poses/a.npz") as file, np.load(file, allow_pickle=False) as arrays:
        assert "joints_3d" in arrays.files
    outcome = run_cli("batch", f"{store}/clips", "--out", f"{store}/poses", "--render", f"{store}/clips")
    assert outcome.code == 2
    outcome = run_cli("batch", "carrier-pigeon://loft", "--out", tmp_path / "out")
    assert (outcome.code, len(outcome.error_lines)) == (1, 1)
