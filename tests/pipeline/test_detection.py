"""Looking at every Nth frame: which ones, who is tracked, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from running import infer

from vp3d_cli.errors import ConfigError
from vp3d_cli.pipeline.detection import detect_frames, tracks_of
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.preprocess import fill_gaps
from vp3d_cli.types import Frame, FrameBGR, Keypoints2D, VideoInfo

INFO = VideoInfo(Path("walker.mp4"), 256, 144, 30.0, None, None)
SHOTS = (0, 11, 25)  # frames that begin a shot, and the end


def frames_of(shots: Sequence[int] = SHOTS) -> list[Frame]:
    """Pictures of shots that have nothing in common; the first pixel tells the frame's number."""
    frames = []
    for shot in range(len(shots) - 1):
        scene = np.random.default_rng(shot).integers(0, 255, (36, 64, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        for number in range(shots[shot], shots[shot + 1]):
            image = scene.copy()
            image[0, 0] = number
            frames.append(Frame(number, number / 30, image))
    return frames


class Walker:
    """Sees one person, who walks 2 pixels to the right from frame to frame; remembers what it was asked."""

    name, sha256 = "walker", "abc"

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self.asked: list[int] = []
        self.calls: list[int] = []
        self.resets: list[int] = []

    def reset(self, frame: int = 0) -> None:
        self.resets.append(frame)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        self.calls.append(len(frames))
        return [self._one(int(frame[0, 0, 0])) for frame in frames]

    def _one(self, number: int) -> Keypoints2D:
        self.asked.append(number)
        points = np.stack([50 + np.arange(17) % 3 * 10 + 2 * number, 20 + 5 * np.arange(17)], axis=1)
        box = np.array([[points[:, 0].min(), 20, points[:, 0].max(), 100]])
        scores = np.full((1, 17), 0.9)
        return Keypoints2D(
            box.astype(np.float32),
            points[None].astype(np.float32),
            scores.astype(np.float32),
            np.array([0.9], np.float32),
        )


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("every", [1, 2, 4, 30])
def test_which_frames_are_looked_at(every: int, batch_size: int) -> None:
    detector = Walker(batch_size)
    seen = detect_frames(frames_of(), detector, every=every)
    expected = {n for n in range(25) if n % every == 0} | {0, 10, 11, 24}
    assert detector.asked == (list(range(25)) if every == 1 else sorted(expected))
    assert max(detector.calls) <= batch_size
    assert seen.shot_starts == (11,)
    assert len(seen) == len(seen.frame_times_s) == 25
    assert [len(people) for people in seen] == [int(n in detector.asked) for n in range(25)]
    assert detector.resets == [0, 11 // every]


def test_who_is_seen_now_and_then_is_one_person() -> None:
    frames = frames_of((0, 61))
    seen = detect_frames(frames, Walker(), info=INFO, every=5)
    [track] = tracks_of(seen)
    assert len(track) == 61
    assert np.flatnonzero(track.present).tolist() == list(range(0, 61, 5))
    filled = fill_gaps(track, seen.frame_times_s)
    assert not filled.observed[1].any()
    truth = tracks_of(detect_frames(frames, Walker(), info=INFO))[0].keypoints
    np.testing.assert_allclose(filled.keypoints, truth, atol=0.5)


def test_nobody_is_followed_across_a_cut() -> None:
    seen = detect_frames(frames_of((0, 40, 80)), Walker(), info=INFO, every=4)
    tracks = tracks_of(seen)
    assert sorted((track.frames.start, track.frames.stop) for track in tracks) == [(0, 40), (40, 80)]


def test_the_progress_counts_all_frames() -> None:
    told: list[tuple[str, int, int | None]] = []
    detect_frames(frames_of(), Walker(4), lambda *said: told.append(said), total=20, every=3)
    assert told[0] == ("detect", 0, 20)
    assert told[-1] == ("detect", 25, 25)
    assert all(before[1] <= after[1] for before, after in pairwise(told))


def test_an_empty_part_has_seen_nothing() -> None:
    seen = detect_frames([], Walker(), every=3)
    assert len(seen.frame_times_s) == 0
    assert tracks_of(seen) == []


def test_every_second_frame_of_a_video(short_clip: Path) -> None:
    pose = infer(short_clip, settings=InferSettings(detect_every=2))
    looked = pose.observed[0].any(axis=1)
    assert looked[[0, 2, 4, 11]].all()
    assert not looked[[1, 3, 5]].any()
    assert np.isfinite(pose.joints_3d[0]).all()
    with pytest.raises(ConfigError, match="detect_every"):
        InferSettings(detect_every=0)
