"""A long video in parts, one of which fails: what the others have found is kept, and only the rest is done again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import failing_detector
import numpy as np
import pytest
from batch_stub import options_of
from conftest import RunCli
from failing_detector import FRAMES, write_clip, write_images

from vp3d_cli.errors import ConfigError, DetectorError, NobodyFoundError, StoppedError, Vp3dError
from vp3d_cli.io.detections import Detections
from vp3d_cli.jobs import executor
from vp3d_cli.jobs.inputs import STATE, find_inputs
from vp3d_cli.jobs.plan import BatchItem, plan_items
from vp3d_cli.jobs.run import run_batch
from vp3d_cli.jobs.task import Setup
from vp3d_cli.pipeline import api
from vp3d_cli.pipeline import chunks as segments
from vp3d_cli.pipeline import detection_cache as resumable
from vp3d_cli.pipeline import infer as pipeline
from vp3d_cli.pipeline.chunks import Chunk, MapChunks, detect_chunk
from vp3d_cli.pipeline.detection import Progress
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.types import Keypoints2D

SETTINGS = InferSettings(detector="flaky", tta=False, chunk_minutes=3 / 60)  # three parts


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, ffmpeg)
    return path


@pytest.fixture(autouse=True)
def looked(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The detector is installed; the file has the frames that it looked at."""
    folder = tmp_path_factory.mktemp("packages")
    failing_detector.install(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(vars(DETECTORS), "_from_packages", raising=False)  # looks for packages again
    monkeypatch.setenv("FAILED", str(folder / "failed"))
    monkeypatch.setenv("LOOKED", str(folder / "looked"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # one part after the other
    monkeypatch.delenv("FAIL_AT", raising=False)
    yield folder / "looked"
    vars(DETECTORS).pop("_from_packages", None)


def frames_in(looked: Path) -> list[int]:
    """The frames looked at since the last time."""
    frames = [int(frame) for frame in looked.read_text(encoding="ascii").split()] if looked.exists() else []
    looked.unlink(missing_ok=True)
    return frames


def one_by_one(parts: Sequence[Chunk], report: Progress) -> list[Detections]:
    return [detect_chunk(part, report) for part in parts]


def find(clip: Path, out: Path, **changes: Any) -> list[str]:
    """2D keypoints of a clip, one part after the other in this process; gives the warnings."""
    settings = dataclasses.replace(SETTINGS, **changes)
    return api.detect_to_file(clip, out, settings, run_for(settings, out), overwrite=True)


def run_for(settings: InferSettings, out: Path, map_chunks: MapChunks = one_by_one) -> Run:
    return Run(Models(settings), cache=resumable.cache_path(out), map_chunks=map_chunks)


def assert_equal(ours: Path, undisturbed: Path) -> None:
    with np.load(ours, allow_pickle=False) as one, np.load(undisturbed, allow_pickle=False) as other:
        assert one.files == other.files
        for name in set(one.files) - {"provenance"}:
            np.testing.assert_array_equal(one[name], other[name], name)


def test_the_command_goes_on_with_the_parts_that_are_missing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, looked: Path
) -> None:
    """In processes of their own, with a detector out of a package."""
    monkeypatch.chdir(tmp_path)
    minutes = ("--chunk-minutes", SETTINGS.chunk_minutes)
    command = ("infer", clip, "--keypoints-only", "--detector", "flaky", *minutes, "--out")
    assert run_cli(*command, "whole.npz").code == 0
    assert frames_in(looked) == [*range(30), *range(60), *range(30, 90)]  # three seconds before each part, too
    monkeypatch.setenv("FAIL_AT", "50")
    outcome = run_cli(*command, "pose.npz", "--quiet")
    kept = tmp_path / "pose.npz.detections"
    assert outcome.code == 1
    (error,) = outcome.error_lines
    assert error.startswith(
        "vp3d: error: the detector forgetful failed at frame 48 (RuntimeError: CUDA out of memory); "
    )
    assert "kept in pose.npz.detections" in error
    assert "run the same command again to go on from there" in error
    assert frames_in(looked)[:78] == [
        *range(30),
        *range(48),
    ]  # then it goes on until it is ended
    assert {"chunk-1.npz", "chunk-2.npz"} <= {path.name for path in kept.iterdir()}
    for path in kept.glob("chunk-3*"):  # another process may have begun it, or even ended
        path.unlink()
    outcome = run_cli(*command, "pose.npz")
    assert outcome.code == 0
    assert (
        "warning: pose.npz.detections/chunk-2.npz had the first 48 frames from a run that did not end" in outcome.stderr
    )
    assert frames_in(looked) == [*range(48, 60), *range(30, 90)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.npz", "whole.npz"]
    assert_equal(tmp_path / "pose.npz", tmp_path / "whole.npz")


def interrupt_when(file: Path, has: int = 0) -> None:
    """Press Ctrl-C as soon as there is a file with so many bytes."""

    def wait() -> None:
        while not file.exists() or file.stat().st_size < has:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_ctrl_c_says_what_is_kept(clip: Path, tmp_path: Path, run_cli: RunCli, looked: Path) -> None:
    out = tmp_path / "pose.npz"
    kept = tmp_path / "pose.npz.detections"
    two_chunks = ("--chunk-minutes", 5 / 60)
    command = ("infer", clip, "--keypoints-only", "--detector", "flaky", *two_chunks, "--out")
    interrupt_when(looked, has=3 * 46)  # at the second one
    outcome = run_cli(*command, out, "--quiet")
    assert outcome.code == 130
    assert outcome.error_lines == [
        f"vp3d: error: stopped by Ctrl-C; what was found so far is kept in {kept}: run the same command again to go on "
        "from there, or remove that folder to begin anew"
    ]
    frames_in(looked)
    assert run_cli(*command, out).code == 0
    assert set(frames_in(looked)).isdisjoint(range(15))  # the chunk that is whole is not done again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.npz"]


def test_ctrl_c_while_lifting_says_what_is_kept(
    clip: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lift(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "lift_person", lift)
    monkeypatch.setattr(executor, "detect_chunks", one_by_one)
    command = ("infer", clip, "--detector", "flaky", "--out", tmp_path / "pose.npz", "--quiet")
    outcome = run_cli(*command, "--chunk-minutes", SETTINGS.chunk_minutes)
    assert outcome.code == 130
    assert "stopped by Ctrl-C; what was found so far is kept in" in outcome.stderr
    outcome = run_cli(*command)  # in one piece nothing is kept
    assert outcome.error_lines == ["vp3d: error: stopped by Ctrl-C"]


OTHERS: list[dict[str, Any]] = [
    {"chunk_minutes": 5 / 60},
    {"detect_every": 2},
    {"end_s": 8.0},
]


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: next(iter(changes)))
def test_what_is_kept_of_other_settings_is_not_spoken_of(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setitem(DETECTORS._registered, failing_detector.NAME, None)  # taken out again after the test
    failing_detector.register()
    monkeypatch.setenv("FAIL_AT", "80")
    with pytest.raises(DetectorError, match="what was found so far is kept in"):
        find(clip, tmp_path / "pose.npz")
    monkeypatch.setenv("FAIL_AT", "0")
    with pytest.raises(DetectorError, match=r"failed at frame 0 \(RuntimeError: CUDA out of memory\)$"):
        find(clip, tmp_path / "pose.npz", **changes)
    settings = dataclasses.replace(SETTINGS, **changes)
    keep = resumable.cache_path(tmp_path / "pose.npz")
    assert resumable.cache_files(keep)
    assert segments.kept_note(segments.plan_chunks(clip, settings, keep)) == ""
    assert "is kept in" in segments.kept_note(segments.plan_chunks(clip, SETTINGS, keep))


def test_warnings_of_the_run_that_failed_are_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: Callable[..., None]
) -> None:
    images = tmp_path / "images"
    write_images(clip, images, ffmpeg, broken=(5, 80))
    out, settings = tmp_path / "pose.npz", {"chunk_minutes": 1 / 60}
    monkeypatch.setattr(segments, "WARM_UP_S", 0.1)
    monkeypatch.setattr(resumable, "WARM_UP_S", 0.1)
    undisturbed = find(images, tmp_path / "whole.npz", **settings)
    assert [warning for warning in undisturbed if "images cannot be read" in warning] == [
        f"1 of 90 images cannot be read and were left out, first {images / f'{number:02}.png'}" for number in (5, 80)
    ]
    monkeypatch.setenv("FAIL_AT", "20,50")  # with the first bad image behind it; and in a part that has none
    for _ in range(2):
        with pytest.raises(DetectorError):
            find(images, out, **settings)
    assert [warning for warning in find(images, out, **settings) if "from a run" not in warning] == undisturbed


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", ["forgetful", "flaky"])
def test_failures_in_any_part(
    clip: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    looked: Path,
    name: str,
    every: int,
) -> None:
    monkeypatch.setitem(DETECTORS._registered, failing_detector.NAME, None)  # taken out again after the test
    failing_detector.register()
    monkeypatch.setattr(resumable, "WARM_UP_S", every * failing_detector.WARM_UP_S)  # forty of the frames looked at
    changes: dict[str, Any] = {"detector": name, "detect_every": every}
    whole = tmp_path_factory.mktemp("whole") / "whole.npz"
    find(clip, whole, **changes)
    looks = len(frames_in(looked))
    monkeypatch.setenv("FAIL_AT", ",".join(str(frame // every) for frame in (0, 12, 45, 46, 69, 72, 88)))
    out, failures = tmp_path / "pose.npz", list[str]()
    while not out.exists():
        try:
            find(clip, out, **changes)
        except DetectorError as error:
            failures.append(str(error))
    assert len(failures) >= 5
    assert ["is kept in" in said for said in failures] == [False] + [True] * (len(failures) - 1)  # no frame, at first
    assert_equal(out, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.npz"]
    if name == "flaky":
        assert len(frames_in(looked)) == looks


@pytest.mark.parametrize("every", [1, 4])
def test_stopped_at_any_frame(clip: Path, tmp_path: Path, looked: Path, every: int) -> None:
    settings = dataclasses.replace(SETTINGS, detect_every=every)
    undisturbed = [segments.detect_chunk(part) for part in segments.plan_chunks(clip, settings, None)]
    looks = len(frames_in(looked))
    parts = segments.plan_chunks(clip, settings, tmp_path / "pose.npz.detections.npz")
    found: list[Detections] = []
    for number, part in enumerate(parts):
        stops = sorted({0, 5, 23, min(40, part.frames), min(41, part.frames), part.frames - 1, part.frames})

        def report(stage: str, done: int, total: int | None, stops: list[int] = stops) -> None:
            if stops and done >= stops[0]:
                del stops[0]
                raise StoppedError("enough")

        while len(found) <= number:
            with contextlib.suppress(StoppedError):
                found.append(detect_chunk(part, report))
        assert not stops
    for ours, theirs in zip(found, undisturbed, strict=True):
        np.testing.assert_array_equal(ours.frame_times_s, theirs.frame_times_s)
        assert ours.shot_starts == theirs.shot_starts
        for one, other in zip(ours.frames, theirs.frames, strict=True):
            np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert len(frames_in(looked)) == looks


def test_what_was_kept_of_something_else_is_not_used(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: Path
) -> None:
    out, kept = tmp_path / "pose.npz", tmp_path / "pose.npz.detections"

    def fail() -> None:
        (looked.parent / "failed").unlink(missing_ok=True)
        monkeypatch.setenv("FAIL_AT", "80")
        with pytest.raises(DetectorError):
            find(clip, out)
        assert (kept / "chunk-2.npz").exists()
        (kept / ".vp3d-1.part").touch()  # of a process that was killed as it wrote
        frames_in(looked)

    def looks(**changes: Any) -> int:
        find(clip, out, **changes)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.npz"]
        return len(frames_in(looked))

    fail()
    assert looks(smooth=2.0) == 11  # does not matter to the detector: frames 79 to 89
    fail()
    assert looks(chunk_minutes=None) == FRAMES
    fail()
    assert looks(chunk_minutes=5 / 60) == 45 + 15 + 60
    fail()
    (kept / "chunk-1.npz").write_bytes(b"PK torn")
    assert looks() == 30 + 11
    fail()
    monkeypatch.setattr(failing_detector.Forgetful, "sha256", "1" * 64)
    assert looks() == 150


def test_nothing_is_left_where_nobody_is(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing_detector.Forgetful, "_look", lambda self, frame: Keypoints2D.empty())
    with pytest.raises(NobodyFoundError):
        find(clip, tmp_path / "pose.npz")
    assert not list(tmp_path.iterdir())


def test_a_wrong_choice_costs_nothing(clip: Path, tmp_path: Path, looked: Path) -> None:
    """All parts are done when it is known that there is no such person: they are kept."""
    with pytest.raises(ConfigError, match="no person 7"):
        find(clip, tmp_path / "pose.npz", person="7")
    frames_in(looked)
    find(clip, tmp_path / "pose.npz")
    assert frames_in(looked) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.npz"]


def test_a_full_disk_is_no_further_trouble(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resumable.DetectionCache, "save", full)
    find(clip, tmp_path / "pose.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["pose.npz"]


def test_other_failures_say_what_is_kept_too(clip: Path, tmp_path: Path) -> None:
    def killed(parts: Sequence[Chunk], report: Progress) -> list[Detections]:
        detect_chunk(parts[0], report)
        raise Vp3dError("part 2 of the video: its worker was ended by SIGKILL; run again")

    with pytest.raises(Vp3dError, match=r"SIGKILL; run again; what was found so far is kept in .*pose.npz.detections"):
        api.detect_to_file(clip, tmp_path / "pose.npz", SETTINGS, run_for(SETTINGS, tmp_path / "pose.npz", killed))


# Batches.


def plan_of_keypoints(clips: Path, out: Path) -> list[BatchItem]:
    return plan_items(find_inputs([clips]), roots={"keypoints": out}, suffixes={"keypoints": ".npz"})


@pytest.mark.slow
def test_the_next_attempt_of_a_batch_goes_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: Path
) -> None:
    find(clip, tmp_path / "whole.npz")
    frames_in(looked)
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    (clips / "clip.mp4").write_bytes(clip.read_bytes())
    monkeypatch.setenv("FAIL_AT", "50")
    options = options_of(settings=SETTINGS, format="vp3d", processor=Setup.processor, retries=1, jobs=1)
    (row,) = run_batch(plan_of_keypoints(clips, out), out, options)
    assert (row.status, row.attempts) == ("done", 2)
    # The chunks that were done are not done again; the last one was at work when the second failed.
    assert frames_in(looked) == [*range(30), *range(48), *range(30, 90), *range(48, 60)]
    assert_equal(out / "clip.npz", tmp_path / "whole.npz")
    assert not list((out / STATE / "kept").rglob("*.npz"))
