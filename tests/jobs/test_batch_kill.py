"""A batch that is interrupted, terminated or killed at any moment loses nothing, and leaves nothing half-made."""

from __future__ import annotations

import csv
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_stub import assert_same_results, wait_for, write_video
from clips import CODECS, VARIABLE_RATE, run_ffmpeg
from conftest import DEMO

from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.jobs.inputs import STATE

HERE = Path(__file__).resolve().parents[1]


def start(*arguments: object, real: bool = False) -> subprocess.Popen[bytes]:
    """``vp3d`` with these arguments, working with stub videos unless ``real``."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    program = ["-m", "vp3d_cli"] if real else [str(HERE / "batch_stub.py")]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def children_of(process: subprocess.Popen[bytes], deep: bool = True) -> list[str]:
    """Numbers of the processes that a batch has started, and of theirs."""
    found, left = list[str](), [str(process.pid)]
    while left:
        for listing in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            children = listing.read_text(encoding="ascii").split()
            found += children
            left += children if deep else []
    return found


def alive(numbers: list[str]) -> list[str]:
    """Those processes that still run; one that has ended stays listed until its parent, or init, asks for it."""
    statuses = {number: Path("/proc", number, "status") for number in numbers}
    return [number for number, path in statuses.items() if path.exists() and "State:\tZ" not in path.read_text()]


def begun(out: Path) -> int:
    """How many videos have unfinished results now."""
    return sum(len(folder.name) == 32 for folder in (out / STATE / "work").glob("*"))


def leftovers(out: Path) -> list[str]:
    """What is below a folder for results and is no result, report, note or lock."""
    kept = {"lock", "batch.csv"}
    return [
        str(path.relative_to(out))
        for path in out.rglob("*")
        if path.is_file() and path.suffix != ".npz" and path.name not in kept and path.parts[-2] != "nobody"
    ] + [str(path) for path in out.rglob("*.npz") if STATE in path.parts]


def kill_often(
    command: list[object], out: Path, times: int, chance: random.Random, *, within_s: float = 0.5, real: bool = False
) -> None:
    """Run a batch and kill it at a random moment, so many times."""
    killed = 0
    while killed < times:
        process = start(*command, real=real)
        if chance.random() < 0.8:  # while it works, and else while it starts
            wait_for(lambda process=process: begun(out) or process.poll() is not None)  # type: ignore[misc]
        time.sleep(chance.uniform(0.0, within_s))
        killed += process.poll() is None
        children = children_of(process)
        process.kill()
        process.communicate()
        wait_for(lambda children=children: not alive(children), 10.0)  # type: ignore[misc]
        assert_whole(out)


def assert_whole(out: Path) -> None:
    """Every result under its name can be read."""
    for path in out.rglob("*.npz"):
        if STATE not in path.parts:
            read_npz(path)


def test_killed_again_and_again_it_ends_as_if_undisturbed(tmp_path: Path) -> None:
    clips, calm, out = tmp_path / "clips", tmp_path / "calm", tmp_path / "out"
    for i in range(6):
        write_video(clips / f"cam{i % 2}" / f"take{i}.mkv", step_s=0.04, note=str(i))
    for name, does in (("nobody", "nobody"), ("crash", "crash")):
        write_video(clips / f"{name}.mkv", does, step_s=0.02)
    (clips / "rubbish.mkv").write_bytes(b"rubbish")
    undisturbed = start("batch", clips, "--out", calm, "--jobs", 2, "--retries", 0)
    undisturbed.communicate()

    command: list[object] = ["batch", clips, "--out", out, "--jobs", 2, "--retries", 0]
    kill_often(command, out, 6, random.Random(5))
    last = start(*command)
    last.communicate()
    assert (undisturbed.returncode, last.returncode) == (1, 1)
    assert_same_results(out, calm)
    assert len(list(out.rglob("take*.npz"))) == 6
    failed = [Path(row["video"]).name for row in report(out) if row["status"] == "failed"]
    assert failed == ["crash.mkv", "nobody.mkv", "rubbish.mkv"]
    assert leftovers(out) == []


def report(out: Path) -> list[dict[str, str]]:
    with (out / "batch.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_tidies_up_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv")
    write_video(clips / "b.mkv", "hang")  # does not listen
    write_video(clips / "c.mkv", step_s=50)
    process = start("batch", clips, "--out", out, "--jobs", 2)
    wait_for(lambda: (out / "a.npz").exists() and begun(out) == 2)
    children = children_of(process)
    assert len(children) >= 2
    time.sleep(0.2)
    process.send_signal(number)
    process.send_signal(number)  # someone who cannot wait
    stderr = process.communicate()[1].decode()
    assert process.returncode == code, stderr
    assert "1 of 3 videos done, 0 failed; run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: not alive(children), 5.0)  # what Python itself starts beside workers ends a moment later
    assert leftovers(out) == []
    assert not (out / STATE / "work").exists()
    assert [path.name for path in out.glob("*.npz")] == ["a.npz"]
    assert [row["status"] for row in report(out)] == ["done", "not done", "not done"]


def test_workers_die_with_the_batch(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", "hang")
    write_video(clips / "b.mkv", "hang in native code")
    process = start("batch", clips, "--out", out, "--jobs", 2)
    wait_for(lambda: begun(out) == 2)
    children = children_of(process, deep=False)
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(children), 10.0)
    for path in clips.iterdir():
        write_video(path)
    again = start("batch", clips, "--out", out, "--quiet")
    again.communicate()
    assert again.returncode == 0


def test_a_second_batch_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    write_video(clips / "a.mkv", step_s=50)
    first = start("batch", clips, "--out", out)
    wait_for(lambda: begun(out) == 1)
    second = start("batch", clips, "--out", out, "--render", tmp_path / "drawn")
    stderr = second.communicate()[1].decode()
    assert second.returncode == 1
    assert f"another vp3d batch (process {first.pid} on {socket.gethostname()}) writes here" in stderr
    assert len(stderr.splitlines()) == 1
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == 143


# The whole thing, with real videos and networks.

_PEOPLE_S = 2.8  # of the example clip: two people are in view
_SMALL = "scale=480:270"


def _people(path: Path, *options: str, filters: str = _SMALL) -> None:
    """Four frames of the example clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg("-ss", str(_PEOPLE_S), "-i", DEMO, "-vf", filters, "-frames:v", "4", *options, path)


def make_good_videos(folder: Path) -> int:
    """Twenty videos of people: codecs, containers, rotations, sizes."""
    for name, options in CODECS.items():
        _people(folder / "codecs" / name, "-an", *options)
    plain = ("-an", "-c:v", "libx264", "-pix_fmt", "yuv420p")
    for angle, turn in ((90, "transpose=1"), (180, "hflip,vflip"), (270, "transpose=2")):
        stored = folder / "stored.mp4"
        _people(stored, *plain, filters=f"{_SMALL},{turn}")
        turned = folder / "phone" / f"turned {angle}.mp4"
        turned.parent.mkdir(exist_ok=True)
        run_ffmpeg("-display_rotation:v", str(angle), "-i", stored, "-c", "copy", turned)
        stored.unlink()
    _people(folder / "sizes" / "odd.mkv", "-an", "-c:v", "ffv1", filters="scale=427:241")
    _people(folder / "sizes" / "varying rate.mkv", *plain, filters=f"{_SMALL},{VARIABLE_RATE}")
    _people(folder / "sizes" / "with sound.mp4", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest")
    _people(folder / "no suffix", *plain, "-f", "mp4")
    (folder / "frames").mkdir()
    _people(folder / "frames" / "%02d.png", "-an")
    return len(CODECS) + 8


def make_bad_videos(folder: Path) -> int:
    """Ten that nothing can be made of, each in a way of its own."""
    folder.mkdir(exist_ok=True)
    pattern = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=1", "-pix_fmt", "yuv420p")
    (folder / "zero bytes.mp4").touch()
    (folder / "text.mov").write_text("This is not a video.\n" * 200)
    (folder / "noise.avi").write_bytes(random.Random(1).randbytes(5000))
    run_ffmpeg(*pattern, folder / "no index.mp4")
    (folder / "no index.mp4").write_bytes((folder / "no index.mp4").read_bytes()[:900])
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", folder / "sound only.mp4")
    run_ffmpeg("-f", "lavfi", "-i", "color=gray:size=160x120:rate=10:duration=1", folder / "nobody.mp4")
    run_ffmpeg(*pattern, folder / "header only.webm")
    (folder / "header only.webm").write_bytes((folder / "header only.webm").read_bytes()[:300])
    (folder / "gif").write_bytes(b"GIF89a\x10\x00\x10\x00")
    for name, sizes in (("two sizes", ("64x48", "32x48")), ("no images", ("64x48", "64x48"))):
        (folder / name).mkdir()
        for i, size in enumerate(sizes):
            run_ffmpeg("-f", "lavfi", "-i", f"testsrc=size={size}", "-frames:v", "1", folder / name / f"{i}.png")
    for path in (folder / "no images").iterdir():
        path.write_bytes(b"no image")
    return 10


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thirty_files_killed_twenty_times(tmp_path: Path) -> None:
    clips, calm, out = tmp_path / "clips", tmp_path / "calm", tmp_path / "out"
    assert make_good_videos(clips) == 20
    assert make_bad_videos(clips / "bad") == 10
    common: list[object] = ["batch", clips, "--detector", "movenet-fast", "--jobs", 2, "--threads", 1]
    undisturbed = start(*common, "--out", calm, real=True)
    table, told = undisturbed.communicate()
    assert undisturbed.returncode == 1, told.decode()
    assert len(list(calm.rglob("*.npz"))) == 20, table.decode()

    command = [*common, "--out", out]
    kill_often(command, out, 20, random.Random(7), within_s=4.0, real=True)
    last = start(*command, real=True)
    last.communicate()
    assert last.returncode == 1
    assert_same_results(out, calm)
    assert len(list(out.rglob("*.npz"))) == 20
    failed = {row["video"]: row["reason"] for row in report(out) if row["status"] == "failed"}
    assert sorted(failed) == sorted(str(path) for path in (clips / "bad").iterdir())
    assert all(reason for reason in failed.values())
    assert leftovers(out) == []
