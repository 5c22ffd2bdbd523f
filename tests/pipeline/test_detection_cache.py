"""Interrupted runs: whatever ends a run in the middle of a video costs nothing that the detector had done."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import failing_detector
import numpy as np
import pytest
import running as pipeline
from batch_stub import options_of, plan_of
from conftest import RunCli
from failing_detector import FRAMES, write_clip, write_images

from vp3d_cli.errors import DetectorError, OutputError
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.run import run_batch
from vp3d_cli.pipeline import api, detection, detection_cache
from vp3d_cli.pipeline.run import Models
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.video import VideoReader

SETTINGS = InferSettings(detector=failing_detector.NAME, tta=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, ffmpeg)
    return path


@pytest.fixture(autouse=True)
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(DETECTORS._registered, failing_detector.NAME, None)  # taken out again after the test
    failing_detector.register()
    monkeypatch.setenv("FAILED", str(tmp_path / "failed"))
    monkeypatch.delenv("FAIL_AT", raising=False)
    monkeypatch.setattr(detection_cache, "WARM_UP_S", failing_detector.WARM_UP_S)
    return tmp_path / "failed"


def arrays(pose: Any) -> dict[str, Any]:
    return {
        field.name: value
        for field in dataclasses.fields(pose)
        if field.name != "provenance" and isinstance(value := getattr(pose, field.name), np.ndarray)
    }


def assert_equal(pose: Any, undisturbed: Any) -> None:
    for name, value in arrays(undisturbed).items():
        np.testing.assert_array_equal(arrays(pose)[name], value, name)


@pytest.mark.parametrize("at", ["50", "80", "2", "49,50,88"])
def test_the_next_run_goes_on_and_the_result_is_the_same(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    whole = pipeline.infer(clip, settings=SETTINGS)
    assert whole.num_frames == FRAMES
    out = tmp_path / "pose.npz"
    kept = tmp_path / "pose.npz.detections.npz"
    monkeypatch.setenv("FAIL_AT", at)
    for number in at.split(","):
        with pytest.raises(DetectorError, match=r"RuntimeError: CUDA out of memory") as raised:
            pipeline.infer(clip, out, settings=SETTINGS)
        had = None if "," in at else {"50": 48, "80": 79, "2": 0}[number]  # whole calls of three frames
        if had:
            assert f"failed at frame {had} " in str(raised.value)
            assert f"the {had} frames before are kept in {kept}: run the same command again" in str(raised.value)
        assert kept.exists() == (number != "2")
        assert not out.exists()
    models = Models(SETTINGS)
    pose = pipeline.infer(clip, out, settings=SETTINGS, models=models)
    assert_equal(pose, whole)
    assert_equal(read_npz(out), whole)
    assert not kept.exists()
    assert models.detector.seen <= FRAMES - int(at.split(",")[-1]) + failing_detector.MEMORY + 3  # type: ignore[attr-defined]
    assert any("had the first" in warning for warning in pose.provenance["warnings"]) == (at != "2")


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("at", ["49,50,60", "69,70,80"])
def test_a_detector_that_tells_its_memory_looks_at_nothing_twice(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, every: int
) -> None:
    made: list[failing_detector.Remembering] = []

    def make(device: str) -> failing_detector.Remembering:
        made.append(failing_detector.Remembering())
        return made[-1]

    name = failing_detector.NAME
    monkeypatch.setitem(DETECTORS._registered, name, dataclasses.replace(DETECTORS.get(name), loader=make))
    monkeypatch.setattr(detection_cache, "WARM_UP_S", 1.0)
    settings = dataclasses.replace(SETTINGS, detect_every=every)
    whole = pipeline.infer(clip, settings=settings)
    looks = made.pop().seen
    monkeypatch.setenv("FAIL_AT", ",".join(str(int(frame) // every) for frame in at.split(",")))
    for _ in range(20):
        try:
            pose = pipeline.infer(clip, tmp_path / "pose.npz", settings=settings)
            break
        except DetectorError:
            continue
    assert len(made) > 1
    assert_equal(pose, whole)
    assert sum(detector.seen for detector in made) == looks


class CtrlC:
    """Raises KeyboardInterrupt before the n-th line that is run of the file that detection is in."""

    def __init__(self, after: int) -> None:
        self.after, self.lines = after, 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != detection.__file__:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.after:
                raise KeyboardInterrupt
        return self

    def run(self, work: Callable[[], object]) -> None:
        before = sys.gettrace()
        sys.settrace(self)
        try:
            work()
        finally:
            sys.settrace(before)


@pytest.mark.parametrize("every", [1, 3])
def test_ctrl_c_loses_nothing_wherever_it_comes(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    made: list[failing_detector.Remembering] = []

    def make(device: str) -> failing_detector.Remembering:
        made.append(failing_detector.Remembering())
        return made[-1]

    out = tmp_path / "points.npz"
    failing = dataclasses.replace(DETECTORS.get(SETTINGS.detector), loader=make)
    monkeypatch.setitem(DETECTORS._registered, SETTINGS.detector, failing)
    monkeypatch.setattr(detection_cache, "_WORTH_KEEPING_S", 0.0)
    settings = dataclasses.replace(SETTINGS, detect_every=every)

    def find() -> None:
        pipeline.find_keypoints(clip, out, settings=settings, overwrite=True)

    (_, whole), counted = pipeline.detect_and_track(clip, settings), CtrlC(-1)
    looks = made.pop().seen
    counted.run(find)
    for after in np.random.default_rng(every).choice(counted.lines, 8, replace=False) + 1:
        made.clear()
        with contextlib.suppress(KeyboardInterrupt):
            CtrlC(int(after)).run(find)
            pytest.fail(f"line {after} was never reached")
        _, seen = pipeline.detect_and_track(clip, settings, cache=detection_cache.cache_path(out))
        for track, undisturbed in zip(seen, whole, strict=True):
            np.testing.assert_array_equal(track.keypoints, undisturbed.keypoints)
            assert track.frames == undisturbed.frames
        assert looks <= sum(detector.seen for detector in made) <= looks + 3  # those that the detector had at the time
        detection_cache.delete_cache(detection_cache.cache_path(out))


def test_ctrl_c_says_what_is_kept_and_keeps_nothing_of_a_moment(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    def stop(self: failing_detector.Forgetful, frames: object) -> None:
        if self._frame == 48:
            raise KeyboardInterrupt
        return real(self, frames)  # type: ignore[arg-type, return-value]

    real = failing_detector.Forgetful.detect
    monkeypatch.setattr(failing_detector.Forgetful, "detect", stop)
    monkeypatch.chdir(tmp_path)
    command = ("infer", clip, "--out", "pose.npz", "--detector", failing_detector.NAME, "--quiet")
    outcome = run_cli(*command)
    assert (outcome.code, outcome.error_lines) == (130, ["vp3d: error: stopped by Ctrl-C"])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(detection_cache, "_WORTH_KEEPING_S", 0.0)
    outcome = run_cli(*command)
    assert outcome.code == 130
    assert outcome.error_lines == [
        "vp3d: error: stopped by Ctrl-C; the 48 frames before are kept in pose.npz.detections.npz: run the "
        "same command again to go on from there, or remove that file to begin anew"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["pose.npz.detections.npz"]


def test_what_was_found_is_kept_until_the_result_is_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("pose.npz cannot be written: No space left on device")

    whole, out = pipeline.infer(clip, settings=SETTINGS), tmp_path / "pose.npz"
    with monkeypatch.context() as context:
        context.setattr(detection_cache, "_WORTH_KEEPING_S", 0.0)
        context.setattr(api, "export_pose", full)
        with pytest.raises(OutputError, match="No space"):
            pipeline.infer(clip, out, settings=SETTINGS)
    models = Models(SETTINGS)
    assert_equal(pipeline.infer(clip, out, settings=SETTINGS, models=models), whole)
    assert models.detector.seen <= failing_detector.MEMORY + 1  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["pose.npz"]


@pytest.mark.parametrize("at", ["10", "20"])
def test_frames_between_those_looked_at(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    settings = dataclasses.replace(SETTINGS, detect_every=3)
    monkeypatch.setattr(detection_cache, "WARM_UP_S", 100.0)
    whole = pipeline.infer(clip, settings=settings)
    monkeypatch.setenv("FAIL_AT", at)
    with pytest.raises(DetectorError):
        pipeline.infer(clip, tmp_path / "pose.npz", settings=settings)
    assert_equal(pipeline.infer(clip, tmp_path / "pose.npz", settings=settings), whole)


def test_what_was_kept_of_something_else_is_not_used(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: Path
) -> None:
    out, kept = tmp_path / "pose.npz", tmp_path / "pose.npz.detections.npz"
    monkeypatch.setenv("FAIL_AT", "50")

    def fail() -> None:
        failed.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)
        with pytest.raises(DetectorError):
            pipeline.infer(clip, out, settings=SETTINGS, overwrite=True)

    def seen(video: Path = clip, settings: InferSettings = SETTINGS) -> int:
        models = Models(settings)
        pipeline.infer(video, out, settings=settings, models=models, overwrite=True)
        assert not kept.exists()
        return int(models.detector.seen)  # type: ignore[attr-defined]

    fail()
    assert seen() < FRAMES
    fail()
    assert seen(settings=dataclasses.replace(SETTINGS, smooth=2.0)) < FRAMES  # does not matter to the detector
    fail()
    assert seen(settings=dataclasses.replace(SETTINGS, end_s=8.0)) == 80
    fail()
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes() + b"\0")
    assert seen(video=other) == FRAMES
    fail()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert seen() == FRAMES
    fail()
    monkeypatch.setattr(failing_detector.Forgetful, "sha256", "1" * 64)
    assert seen() == FRAMES


def test_the_command_says_so_on_one_line(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    monkeypatch.setenv("FAIL_AT", "50")
    monkeypatch.chdir(tmp_path)
    command = ("infer", clip, "--out", "pose.npz", "--detector", failing_detector.NAME, "--no-tta", "--quiet")
    outcome = run_cli(*command)
    assert outcome.code == 1
    assert outcome.error_lines == [
        "vp3d: error: the detector forgetful failed at frame 48 (RuntimeError: CUDA out of memory); the 48 frames "
        "before are kept in pose.npz.detections.npz: run the same command again to go on from there, or "
        "remove that file to begin anew"
    ]
    outcome = run_cli(*command[:-1])
    assert outcome.code == 0
    assert "vp3d: warning: pose.npz.detections.npz had the first 48 frames from a run that did not end" in (
        outcome.stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed", "pose.npz"]


def test_keypoints_alone_go_on_too(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "50")
    out = tmp_path / "points.npz"
    with pytest.raises(DetectorError, match="48 frames before are kept"):
        pipeline.find_keypoints(clip, out, settings=SETTINGS)
    (warning,) = pipeline.find_keypoints(clip, out, settings=SETTINGS)
    assert "had the first 48 frames" in warning
    assert not detection_cache.cache_path(out).exists()


def test_warnings_of_the_run_that_failed_are_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: Callable[..., None]
) -> None:
    images = tmp_path / "images"
    write_images(clip, images, ffmpeg, broken=(5, 80))
    monkeypatch.setattr(detection_cache, "WARM_UP_S", 0.1)
    monkeypatch.setenv("FAIL_AT", "45,60")
    for _ in range(2):
        with pytest.raises(DetectorError):
            pipeline.find_keypoints(images, tmp_path / "points.npz", settings=SETTINGS)
    warnings = pipeline.find_keypoints(images, tmp_path / "points.npz", settings=SETTINGS)
    left_out = [warning for warning in warnings if "cannot be read and were left out" in warning]
    assert [warning.rpartition("first ")[2] for warning in left_out] == [str(images / "05.png"), str(images / "80.png")]
    assert len(warnings) == len(set(warnings)) == 3


def test_times_out_of_order_in_the_run_that_failed_are_told(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader says so when it ends."""
    readers: list[VideoReader] = []

    def deliver(self: VideoReader) -> None:
        readers.append(self)
        real(self)
        self.warnings.extend(["of the first frames"] if self is readers[0] else [])

    real = VideoReader._deliver
    monkeypatch.setattr(VideoReader, "_deliver", deliver)
    monkeypatch.setattr(detection_cache, "WARM_UP_S", 0.1)
    monkeypatch.setenv("FAIL_AT", "50")
    with pytest.raises(DetectorError):
        pipeline.find_keypoints(clip, tmp_path / "points.npz", settings=SETTINGS)
    assert pipeline.find_keypoints(clip, tmp_path / "points.npz", settings=SETTINGS)[:-1] == ["of the first frames"]


@pytest.mark.parametrize("name", ["walk.npz.detections.npz", "walk", ".walk", "walk.2"])
def test_the_folder_for_chunks_is_no_file_of_the_whole(tmp_path: Path, name: str) -> None:
    cache = tmp_path / name
    folder = detection_cache.chunk_folder(cache)
    assert folder != cache
    assert folder.parent == cache.parent
    folder.mkdir()
    (folder / "chunk-1.npz").touch()
    cache.touch()
    assert detection_cache.cache_files(cache) == [cache, folder / "chunk-1.npz"]
    detection_cache.delete_cache(cache)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_further_trouble(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("FAIL_AT", "50")
    monkeypatch.setattr(detection_cache, "write_detections", full)
    with pytest.raises(DetectorError, match=r"out of memory\); what was found before could not be kept .*No space"):
        pipeline.infer(clip, tmp_path / "pose.npz", settings=SETTINGS)


def test_the_next_attempt_of_a_batch_goes_on(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipeline.infer(clip, settings=SETTINGS)
    clips, out = tmp_path / "clips", tmp_path / "out"
    (clips / "cam1").mkdir(parents=True)
    (clips / "cam1" / "clip.mp4").write_bytes(clip.read_bytes())
    monkeypatch.setenv("FAIL_AT", "50,80")
    options = options_of(settings=SETTINGS, processor="failing_detector:pipeline", retries=1, jobs=1)
    (row,) = run_batch(plan_of(clips, out), out, options)
    assert (row.status, row.attempts) == ("failed", 2)
    assert "failed at frame 79" in row.reason
    assert "Traceback" in row.stderr
    assert len(list((out / STATE / "kept").rglob("*.npz"))) == 1
    (row,) = run_batch(plan_of(clips, out), out, options)
    assert (row.status, row.attempts) == ("done", 1)
    assert any("had the first" in warning for warning in row.warnings)
    assert_equal(read_npz(out / "cam1" / "clip.npz"), whole)
    assert not [file for file in (out / STATE / "kept").rglob("*") if file.is_file()]


@pytest.mark.slow
def test_the_embedded_detector_knows_again_whom_it_followed(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = InferSettings(detector="movenet-fast", start_s=2.0, end_s=5.0, tta=False)
    models = Models(settings)
    _, whole = pipeline.detect_and_track(demo, settings, models)
    real, calls = models.detector.detect, []
    keep = tmp_path / "kept.npz"

    def detect(frames: Any) -> Any:
        calls.append(len(frames))
        if sum(calls) > 60:
            raise RuntimeError("unplugged")
        return real(frames)

    with monkeypatch.context() as patched:
        patched.setattr(models.detector, "detect", detect)
        with pytest.raises(DetectorError, match="unplugged"):
            pipeline.detect_and_track(demo, settings, models, keep)
    _, again = pipeline.detect_and_track(demo, settings, Models(settings), keep)
    assert len(again) == len(whole)
    for ours, theirs in zip(again, whole, strict=True):
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
