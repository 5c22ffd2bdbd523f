"""Bad input from end to end: the right exit status, one line on stderr, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome, RunCli

FFmpeg = Callable[..., None]


def assert_refused(outcome: Outcome, code: int, *words: str) -> None:
    """One line on stderr that has these words in it, and nothing on stdout."""
    assert outcome.code == code, outcome
    assert outcome.stdout == ""
    assert len(outcome.error_lines) == 1, outcome.stderr
    assert outcome.stderr.startswith("vp3d: error: ")
    for word in words:
        assert word in outcome.stderr


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for results, empty unless something is left behind."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def short_pose(short_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pose file of the short clip."""
    from vp3d_cli import infer

    path = tmp_path_factory.mktemp("poses") / "short.npz"
    infer(short_clip, path)
    return path


# Videos that cannot be used.


def _missing(folder: Path, ffmpeg: FFmpeg) -> Path:
    return folder / "missing.mp4"


def _folder_without_images(folder: Path, ffmpeg: FFmpeg) -> Path:
    path = folder / "notes"
    path.mkdir()
    (path / "readme.txt").write_text("no images here")
    return path


def _text_named_mp4(folder: Path, ffmpeg: FFmpeg) -> Path:
    path = folder / "text.mp4"
    path.write_text("This is not a video.\n" * 200)
    return path


def _zero_bytes(folder: Path, ffmpeg: FFmpeg) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def _audio_only(folder: Path, ffmpeg: FFmpeg) -> Path:
    path = folder / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", path)
    return path


def _header_only(folder: Path, ffmpeg: FFmpeg) -> Path:
    path = folder / "cut.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=320x240:rate=10:duration=1", "-pix_fmt", "yuv420p", path)
    path.write_bytes(path.read_bytes()[:200])  # the index of an mp4 is at its end
    return path


BAD_VIDEOS = [_missing, _folder_without_images, _text_named_mp4, _zero_bytes, _audio_only, _header_only]


@pytest.mark.parametrize("make", BAD_VIDEOS, ids=lambda make: make.__name__.strip("_"))
def test_unusable_video(
    run_cli: RunCli, make: Callable[[Path, FFmpeg], Path], tmp_path: Path, out: Path, ffmpeg: FFmpeg
) -> None:
    video = make(tmp_path, ffmpeg)
    assert_refused(run_cli("infer", video, "--out", out / "pose.npz", "--render", out / "side.mp4"), 1, str(video))
    assert list(out.iterdir()) == []
    assert_refused(run_cli("info", video), 1, str(video))


def test_truncated_video_gives_what_decodes_and_says_so(
    run_cli: RunCli, demo: Path, tmp_path: Path, out: Path, ffmpeg: FFmpeg
) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", demo, "-t", 1, "-an", "-c:v", "copy", "-movflags", "+faststart", whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: int(len(data) * 0.6)])
    outcome = run_cli("infer", cut, "--out", out / "pose.npz")
    assert outcome.code == 0, outcome
    warnings = [line for line in outcome.error_lines if line.startswith("vp3d: warning: ")]
    assert len(warnings) == 1
    assert "cut off" in warnings[0]
    with np.load(out / "pose.npz", allow_pickle=False) as pose:
        assert 1 <= len(pose["frame_times_s"]) < 30
    assert [path.name for path in out.iterdir()] == ["pose.npz"]


def test_one_frame(run_cli: RunCli, demo: Path, tmp_path: Path, out: Path, ffmpeg: FFmpeg) -> None:
    video = tmp_path / "one.mp4"
    ffmpeg("-i", demo, "-frames:v", 1, "-an", video)
    outcome = run_cli("infer", video, "--out", out / "pose.npz", "--render", out / "side.mp4", "--quiet")
    assert (outcome.code, outcome.stderr) == (0, ""), outcome
    with np.load(out / "pose.npz", allow_pickle=False) as pose:
        assert pose["joints_3d"].shape[1] == 1
        assert np.isfinite(pose["joints_3d"]).any()
    assert sorted(path.name for path in out.iterdir()) == ["pose.npz", "side.mp4"]


def test_nobody_in_view_is_3(run_cli: RunCli, empty_clip: Path, out: Path) -> None:
    outcome = run_cli("infer", empty_clip, "--out", out / "pose.npz", "--render", out / "side.mp4", "--quiet")
    assert_refused(outcome, 3, str(empty_clip))
    assert list(out.iterdir()) == []


def test_empty_stretch_of_time(run_cli: RunCli, short_clip: Path, out: Path) -> None:
    assert_refused(run_cli("infer", short_clip, "--out", out / "p.npz", "--start", 100, "--quiet"), 1)
    assert list(out.iterdir()) == []


# Outputs that cannot be written.


def test_output_folder_is_missing(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    for arguments in (["--out", folder / "p.npz"], ["--out", tmp_path / "p.npz", "--render", folder / "s.mp4"]):
        assert_refused(run_cli("infer", short_clip, *arguments), 1, str(folder))
    assert list(tmp_path.iterdir()) == []


def test_output_folder_is_not_writable(run_cli: RunCli, short_clip: Path, short_pose: Path, out: Path) -> None:
    out.chmod(0o555)
    # Root may write in any folder of ours; in /proc nobody may.
    folder = out if not os.access(out, os.W_OK) else Path("/proc")
    assert_refused(run_cli("infer", short_clip, "--out", folder / "p.npz", "--quiet"), 1, str(folder))
    command = ("render", short_pose, "--video", short_clip, "--out", folder / "s.mp4", "--quiet")
    assert_refused(run_cli(*command), 1, str(folder))
    assert list(out.iterdir()) == []


def test_existing_output_is_kept_without_overwrite(
    run_cli: RunCli, short_clip: Path, short_pose: Path, out: Path
) -> None:
    pose, side = out / "p.npz", out / "s.mp4"
    for path in (pose, side):
        path.write_bytes(b"precious")
    assert_refused(run_cli("infer", short_clip, "--out", pose), 1, str(pose), "--overwrite")
    assert_refused(run_cli("infer", short_clip, "--out", out / "q.npz", "--render", side), 1, str(side))
    assert_refused(run_cli("render", short_pose, "--video", short_clip, "--out", side), 1, str(side))
    assert pose.read_bytes() == side.read_bytes() == b"precious"
    assert len(list(out.iterdir())) == 2
    assert run_cli("infer", short_clip, "--out", pose, "--overwrite", "--quiet").code == 0
    assert zipfile.is_zipfile(pose)


def test_a_failure_keeps_the_file_that_it_was_to_replace(run_cli: RunCli, empty_clip: Path, out: Path) -> None:
    pose = out / "p.npz"
    pose.write_bytes(b"precious")
    assert run_cli("infer", empty_clip, "--out", pose, "--overwrite", "--quiet").code == 3
    assert pose.read_bytes() == b"precious"
    assert len(list(out.iterdir())) == 1


def test_disk_is_full_when_the_pose_is_written(
    run_cli: RunCli, short_clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert_refused(run_cli("infer", short_clip, "--out", out / "p.npz", "--quiet"), 1, "full", "p.npz")
    assert list(out.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 kB, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(run_cli: RunCli, short_clip: Path, short_pose: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 12_000)
    assert_refused(run_cli("infer", short_clip, "--out", small_disk / "p.npz", "--quiet"), 1, "full", "p.npz")
    command = ("render", short_pose, "--video", short_clip, "--out", small_disk / "s.mp4", "--quiet")
    assert_refused(run_cli(*command), 1, "s.mp4")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


# Pose files and weights that cannot be used.


def _garbage(path: Path, good: Path) -> None:
    path.write_bytes(b"not a zip file at all")


def _cut_short(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-500])


def _empty(path: Path, good: Path) -> None:
    path.touch()


def _foreign(path: Path, good: Path) -> None:
    np.savez(path, positions_3d=np.zeros((3, 17, 3)))


def _pickled(path: Path, good: Path) -> None:
    with np.load(good, allow_pickle=False) as file:
        arrays: dict[str, Any] = dict(file)
    arrays["joints_3d"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **arrays)


def _wrong_shape(path: Path, good: Path) -> None:
    with np.load(good, allow_pickle=False) as file:
        arrays: dict[str, Any] = dict(file)
    arrays["trajectory"] = arrays["trajectory"][:, :-1]
    np.savez(path, **arrays)


BAD_POSES = [_garbage, _cut_short, _empty, _foreign, _pickled, _wrong_shape]


@pytest.mark.parametrize("spoil", BAD_POSES, ids=lambda spoil: spoil.__name__.strip("_"))
def test_broken_or_foreign_pose_file(
    run_cli: RunCli, spoil: Callable[[Path, Path], None], short_clip: Path, short_pose: Path, tmp_path: Path, out: Path
) -> None:
    bad = tmp_path / "bad.npz"
    spoil(bad, short_pose)
    assert_refused(run_cli("render", bad, "--video", short_clip, "--out", out / "s.mp4"), 1, str(bad))
    assert_refused(run_cli("info", bad), 1, str(bad))
    assert list(out.iterdir()) == []


def test_pose_file_is_missing(run_cli: RunCli, short_clip: Path, out: Path) -> None:
    outcome = run_cli("render", out / "no.npz", "--video", short_clip, "--out", out / "s.mp4")
    assert_refused(outcome, 1, "no.npz")
    assert list(out.iterdir()) == []


def test_pose_file_of_another_video(run_cli: RunCli, empty_clip: Path, short_pose: Path, out: Path) -> None:
    outcome = run_cli("render", short_pose, "--video", empty_clip, "--out", out / "s.mp4", "--quiet")
    assert_refused(outcome, 1, "give the video it was made from")
    assert list(out.iterdir()) == []


def test_weights_with_a_wrong_hash(run_cli: RunCli, short_clip: Path, tmp_path: Path, out: Path) -> None:
    from vp3d_cli.weights import DEFAULT_LIFTER, LIFTER_ALIASES, find_weights

    for name, kind in ((LIFTER_ALIASES.get(DEFAULT_LIFTER, DEFAULT_LIFTER), "pose"), ("movenet-thunder", "detector")):
        original = find_weights(name).path
        added = Path(run_cli("weights", "add", original, "--name", name, "--kind", kind).stdout.strip())
        data = bytearray(added.read_bytes())
        data[len(data) // 2] ^= 1
        added.write_bytes(data)
        assert_refused(run_cli("infer", short_clip, "--out", out / "p.npz", "--quiet"), 1, name, "sha256")
        shutil.rmtree(added.parent)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"), [("--lifter", "nothing"), ("--detector", "nothing"), ("--device", "abacus")]
)
def test_unknown_model_or_device(run_cli: RunCli, short_clip: Path, out: Path, option: str, value: str) -> None:
    outcome = run_cli("infer", short_clip, "--out", out / "p.npz", option, value, "--quiet")
    assert outcome.code in (1, 2)
    assert value in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert list(out.iterdir()) == []


def test_cuda_without_a_gpu_is_an_error(run_cli: RunCli, short_clip: Path, out: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    outcome = run_cli("infer", short_clip, "--out", out / "p.npz", "--device", "cuda", "--quiet")
    assert_refused(outcome, 1, "cuda")


# Being stopped.


def processes_of_session(session: int) -> list[int]:
    """Processes that belong to a session, from /proc; those that have ended but were not waited for do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()  # state, parent, group, session, ...
        except OSError:
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [
        ("finding people ...", signal.SIGINT, 130),
        ("finding people ...", signal.SIGTERM, 143),
        ("finding people ...", signal.SIGHUP, 129),
        ("drawing ...", signal.SIGINT, 130),
    ],
)
def test_stopped_by_a_signal(demo: Path, out: Path, stage: str, number: int, code: int) -> None:
    command = ["-m", "vp3d_cli", "infer", demo, "--end", "1", "--out", out / "p.npz", "--render", out / "s.mp4"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(stage):
                break
        else:
            pytest.fail(f"never came to {stage!r}: {lines}")
        time.sleep(0.05)  # somewhere within the stage
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == code, [*lines, rest]
    assert "Traceback" not in rest
    deadline = time.monotonic() + 10
    while processes_of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of_session(process.pid) == []
    left = {path.name for path in out.iterdir()}
    assert left == ({"p.npz"} if stage.startswith("drawing") else set())
