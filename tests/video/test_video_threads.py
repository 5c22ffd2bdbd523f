"""Threads that hand things over: in order, bounded, and never blocked when the other side fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import infer

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.pipeline import drawing as pictures
from vp3d_cli.pipeline.detection import detect_frames
from vp3d_cli.pipeline.drawing import render
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader, VideoWriter
from vp3d_cli.video.threads import BackgroundWorker, BoundedQueue

NAMES = ("vp3d-decode", "vp3d-background", "vp3d-ffmpeg-times")


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in NAMES]


def test_all_is_done_in_order_when_the_block_ends() -> None:
    done: list[int] = []

    def slowly(item: int) -> None:
        time.sleep(0.001)
        done.append(item)

    with BackgroundWorker(slowly, ahead=2) as background:
        for item in range(1, 30):
            background.put(item)
            assert len(done) >= item - 4  # one at work, two waiting, one just put
    assert done == list(range(1, 30))
    assert threads_left() == []


def test_what_the_consumer_raises_reaches_the_producer() -> None:
    def refuse(item: int) -> None:
        if item == 3:
            raise OutputError("the disk is full")

    put: list[int] = []

    def produce() -> None:
        with BackgroundWorker(refuse, ahead=1) as background:
            for item in range(1, 1000):
                background.put(item)
                put.append(item)

    with pytest.raises(OutputError, match="disk is full"):
        produce()
    assert len(put) < 10
    assert threads_left() == []


def test_an_error_at_the_last_item_is_not_lost() -> None:
    def refuse(item: int) -> None:
        time.sleep(0.01)
        raise OutputError("no")

    with pytest.raises(OutputError), BackgroundWorker(refuse, ahead=5) as background:
        background.put(1)


def test_a_producer_that_raises_leaves_no_thread_and_no_more_work() -> None:
    begun = threading.Event()
    done: list[int] = []

    def wait_a_little(item: int) -> None:
        begun.set()
        time.sleep(0.02)
        done.append(item)

    def produce() -> None:
        with BackgroundWorker(wait_a_little, ahead=10) as background:
            for item in range(1, 11):
                background.put(item)
            begun.wait()
            raise KeyError

    with pytest.raises(KeyError):
        produce()
    assert len(done) <= 2
    assert threads_left() == []


def test_a_queue_is_bounded_and_can_be_cancelled() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    producer = threading.Thread(target=lambda: [queue.put(i) for i in range(5)])
    producer.start()
    assert queue.get() == 0
    queue.cancel()
    producer.join(5)
    assert not producer.is_alive()
    assert queue.peak <= 2


class Failing:
    """A detector that breaks in the fourth frame."""

    name, sha256, batch_size = "failing", "", 1
    count = 0

    def reset(self, frame: int = 0) -> None:
        pass

    def detect(self, frames: list[FrameBGR]) -> list[Keypoints2D]:
        self.count += 1
        if self.count == 4:
            raise RuntimeError("out of memory")
        return [Keypoints2D.empty()]


def test_a_detector_that_raises_leaves_no_decoding_thread(demo: Path) -> None:
    with pytest.raises(Vp3dError, match="out of memory"), VideoReader(demo) as reader:
        detect_frames(reader, Failing())  # type: ignore[arg-type]
    assert threads_left() == []


@pytest.mark.parametrize("broken", ["draw", "encode"])
def test_drawing_that_fails_leaves_no_thread_and_no_file(
    broken: str, short_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "pose.npz"
    infer(short_clip, out)
    pose = read_npz(out)
    draw, calls = pictures.FrameRenderer.draw_index, []

    def fail(*arguments: object) -> FrameBGR:
        calls.append(arguments)
        if len(calls) == 5:
            raise OutputError("cannot go on")
        return draw(*arguments) if broken == "draw" else np.zeros(0, np.uint8)  # type: ignore[arg-type]

    target: type = pictures.FrameRenderer if broken == "draw" else VideoWriter
    method: Callable[..., object] = fail
    monkeypatch.setattr(target, "draw_index" if broken == "draw" else "write", method)
    with pytest.raises(OutputError, match="cannot go on"):
        render(pose, short_clip, tmp_path / "side.mp4", height=120)
    assert threads_left() == []
    assert [path.name for path in tmp_path.iterdir()] == ["pose.npz"]
