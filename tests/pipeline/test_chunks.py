"""One long video in parts: no frame lost or seen twice, and the same result as in one piece."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli

from tests.clips import FRAMES, VARIABLE_RATE, make_clip, make_codec_clip
from vp3d_cli.errors import ConfigError, InputError, Vp3dError
from vp3d_cli.io.detections import Detections, join_detections
from vp3d_cli.jobs.executor import detect_chunks
from vp3d_cli.jobs.plan import make_recipe
from vp3d_cli.pipeline import chunks as segments
from vp3d_cli.pipeline.api import infer
from vp3d_cli.pipeline.chunks import Chunk, detect_chunk, plan_chunks
from vp3d_cli.pipeline.detection import detect_frames
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader

Silent = Callable[[str, int, int | None], None]


def silent(stage: str, done: int, total: int | None) -> None:
    pass


class Remembering:
    """A detector whose answer tells the frame's picture, and how many frames of the video came before."""

    name, sha256, batch_size = "remembering", "abc", 3

    def __init__(self) -> None:
        self.number = 0

    def reset(self, frame: int = 0) -> None:
        self.number = frame

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        return [self._one(frame) for frame in frames]

    def _one(self, frame: FrameBGR) -> Keypoints2D:
        keypoints = np.full((1, 17, 2), float(frame.astype(np.float64).mean()), np.float32)
        keypoints[0, 0] = self.number
        self.number += 1
        box = np.array([[0, 0, 10, 10]], np.float32)
        return Keypoints2D(box, keypoints, np.ones((1, 17), np.float32), np.ones(1, np.float32))


def in_one_piece(video: Path, settings: InferSettings) -> Detections:
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        return detect_frames(reader, Remembering(), info=reader.info, every=settings.detect_every)


def in_parts(video: Path, settings: InferSettings) -> tuple[list[Chunk], Detections]:
    parts = plan_chunks(video, settings)
    return parts, join_detections([detect_chunk(part, detector=Remembering()) for part in parts])


def assert_same(first: Detections, second: Detections) -> None:
    np.testing.assert_allclose(first.frame_times_s, second.frame_times_s, rtol=0, atol=1e-9)
    assert len(first) == len(second) == len(first.frame_times_s)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert first.shot_starts == second.shot_starts


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments")


# Each kind of container; tests/video/test_reader.py has all codecs.
@pytest.mark.parametrize("name", ["h264.mp4", "h265.mov", "vp9.webm", "mpeg4_b_frames.avi", "h264.ts", "animation.gif"])
def test_no_frame_is_lost_or_seen_twice(name: str, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "WARM_UP_S", 0.13)
    video = make_codec_clip(clips, name)
    settings = InferSettings(chunk_minutes=0.2 / 60)
    parts, joined = in_parts(video, settings)
    assert len(parts) == 4
    assert len(joined) == FRAMES
    assert_same(in_one_piece(video, settings), joined)
    assert pickle.loads(pickle.dumps(parts)) == parts


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.33, 0.7])
def test_seams_fall_between_frames_of_a_varying_rate(
    seconds: float, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "WARM_UP_S", 0.2)
    video = clips / "varying.mp4"
    if not video.exists():
        make_clip(video, "-c:v", "libx264", "-pix_fmt", "yuv420p", filters=VARIABLE_RATE)
    settings = InferSettings(chunk_minutes=seconds / 60)
    parts, joined = in_parts(video, settings)
    assert len(parts) > 1
    assert all(part.end_s == after.start_s for part, after in pairwise(parts))
    assert_same(in_one_piece(video, settings), joined)


def test_a_part_of_a_video_in_parts(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "WARM_UP_S", 0.1)
    video = make_codec_clip(clips, "h264.mp4")
    settings = InferSettings(chunk_minutes=0.15 / 60, start_s=0.2, end_s=0.6)
    assert_same(in_one_piece(video, settings), in_parts(video, settings)[1])


def test_a_folder_of_images_in_parts(clips: Path) -> None:
    folder = clips / "images"
    folder.mkdir()
    make_clip(folder / "%03d.png", frames=9)
    settings = InferSettings(chunk_minutes=0.1 / 60)
    assert_same(in_one_piece(folder, settings), in_parts(folder, settings)[1])


@pytest.mark.parametrize("every", [2, 3, 7])
def test_every_nth_frame_is_the_same_one_in_parts(every: int, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "WARM_UP_S", 0.1)
    video = make_codec_clip(clips, "h264.mp4")
    settings = InferSettings(chunk_minutes=0.3 / 60, detect_every=every)
    whole = in_one_piece(video, settings)
    parts, joined = in_parts(video, settings)
    assert set(np.flatnonzero(whole.detected)) == {*range(0, FRAMES, every), FRAMES - 1}
    # A part looks at its own last frame, too.
    extra = {part.first + part.frames - 1 for part in parts}
    assert set(np.flatnonzero(joined.detected)) == set(np.flatnonzero(whole.detected)) | extra


def test_short_videos_stay_in_one_piece(clips: Path) -> None:
    video = make_codec_clip(clips, "h264.mp4")
    assert plan_chunks(video, InferSettings()) == []
    assert plan_chunks(video, InferSettings(chunk_minutes=1)) == []
    for options in ({"chunk_minutes": 1.0}, {"detect_every": 2}):
        with pytest.raises(ConfigError, match="leave them out with keypoints"):
            InferSettings(keypoints="k.npz", **options)
    for minutes in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="minutes"):
            InferSettings(chunk_minutes=minutes)


def test_parts_of_different_weights_are_not_joined(clips: Path) -> None:
    parts = [
        Detections([Keypoints2D.empty()], np.array([float(i)]), 30.0, (64, 48), source={"detector": i})
        for i in range(2)
    ]
    with pytest.raises(InputError, match="different weights"):
        join_detections(parts)


# Chunks in processes. In place of one they are given stand-ins, which do what their video is called.


@dataclass(frozen=True)
class StandIn:
    """A stand-in, done by :func:`do_chunk` in a worker process."""

    video: str
    frames: int = 5


def do_chunk(chunk: StandIn, report: Silent) -> str:
    report("detect", 1, 5)
    if chunk.video == "fail":
        raise ConfigError("no such detector")
    if chunk.video == "stumble":
        raise IndexError(7)
    if chunk.video == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if chunk.video.startswith("/"):
        Path(chunk.video).write_text(str(os.getpid()), encoding="ascii")
        time.sleep(60)
    return chunk.video


@pytest.fixture
def in_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(segments, "detect_chunk", do_chunk)

    def run(videos: list[str], report: Silent = silent) -> list[Any]:
        return detect_chunks([StandIn(video) for video in videos], report)  # type: ignore[misc]

    return run


def test_processes_answer_in_order_and_report(in_processes: Callable[..., list[Any]]) -> None:
    told: list[tuple[str, int, int | None]] = []
    assert in_processes(["a", "b", "c"], lambda *said: told.append(said)) == ["a", "b", "c"]
    assert all(stage == "detect" and done <= 15 and total == 15 for stage, done, total in told)
    assert told[-1] == ("detect", 15, 15)
    assert "PYTHONSAFEPATH" not in os.environ  # what was set for them is as it was


@pytest.mark.parametrize(
    ("does", "error", "words"),
    [("fail", ConfigError, "no such"), ("stumble", Vp3dError, "unexpected IndexError"), ("die", Vp3dError, "SIGKILL")],
)
def test_a_process_that_fails_ends_all(
    in_processes: Callable[..., list[Any]], does: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        in_processes([does])


def test_no_process_outlives_an_interruption(in_processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def interrupt() -> None:
        while not (note.exists() and note.read_text(encoding="ascii")):
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        in_processes([str(note)])
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text(encoding="ascii")), 0)


def test_results_know_how_they_were_looked_for() -> None:
    """A batch does again what was made with other settings."""
    recipes = [
        make_recipe(settings, "", {})
        for settings in (InferSettings(), InferSettings(detect_every=2), InferSettings(chunk_minutes=5))
    ]
    assert recipes[0]["settings"]["detect_every"] == 1
    assert all(one != other for i, one in enumerate(recipes) for other in recipes[:i])


def test_infer_does_parts_in_processes(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    files = [tmp_path / "whole.npz", tmp_path / "parts.npz"]
    for file, options in zip(files, [[], ["--chunk-minutes", "0.004"]], strict=True):
        outcome = run_cli("infer", short_clip, "--out", file, "--keypoints-only", "--quiet", *options)
        assert (outcome.code, outcome.stdout) == (0, f"{file}\n"), outcome
    whole, parts = (np.load(file, allow_pickle=False) for file in files)
    assert len(plan_chunks(short_clip, InferSettings(chunk_minutes=0.004))) == 2
    for name in ("frame_times_s", "person_ids", "counts", "keypoints"):
        np.testing.assert_array_equal(parts[name], whole[name])  # warming up began with the video: the same frames
    outcome = run_cli("infer", short_clip, "--out", tmp_path / "x.npz", "--chunk-minutes", "-1")
    assert outcome.code == 2
    assert "positive number of minutes" in outcome.stderr


@pytest.mark.slow
def test_a_long_video_in_parts_gives_the_same_motion(tmp_path: Path, demo: Path, ffmpeg: Callable[..., None]) -> None:
    """The example over and over: the same people, and joints within 1 mm away from the seams."""
    looped = tmp_path / "looped.mp4"
    ffmpeg("-stream_loop", 2, "-i", demo, "-an", "-vf", "scale=960:-2", "-r", 30, "-pix_fmt", "yuv420p", looped)
    whole = infer(looped)
    settings = InferSettings(chunk_minutes=8 / 60)
    parts = plan_chunks(looped, settings)
    pieces = infer(looped, chunk_minutes=8 / 60)
    assert len(parts) == 3
    assert pieces.person_ids == whole.person_ids
    np.testing.assert_array_equal(pieces.frame_times_s, whole.frame_times_s)
    away = np.ones(whole.num_frames, bool)
    for part in parts[1:]:
        away &= np.abs(whole.frame_times_s - part.start_s) > 1.0
    apart = np.linalg.norm(pieces.joints_3d - whole.joints_3d, axis=-1)[:, away]
    there = np.isfinite(whole.joints_3d[:, away]).all(axis=(2, 3))
    np.testing.assert_array_equal(np.isfinite(pieces.joints_3d[:, away]).all(axis=(2, 3)), there)
    assert apart[there].max() < 1e-3
