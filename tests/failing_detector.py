"""A detector that remembers the frames it saw, and fails when it is told to."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.detect.base import DetectorInfo
from vp3d_cli.jobs.task import Pipeline, Setup
from vp3d_cli.pipeline import detection_cache
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.types import Keypoints2D

NAME = "forgetful"
MEMORY = 40  # frames
RATE, FRAMES, CUT = 10, 90, 70  # of the clip
WARM_UP_S = MEMORY / RATE


def write_clip(path: Path, ffmpeg: Callable[..., None]) -> None:
    """Nine seconds that get brighter, with a camera cut at frame 70."""
    first = f"gradients=size=320x240:rate={RATE}:duration={CUT / RATE}:speed=0.02:seed=1"
    second = f"testsrc=size=320x240:rate={RATE}:duration={(FRAMES - CUT) / RATE}"
    joined = "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]concat=n=2:v=1"
    ffmpeg("-f", "lavfi", "-i", first, "-f", "lavfi", "-i", second, "-filter_complex", joined, "-g", 12, path)


def write_images(clip: Path, folder: Path, ffmpeg: Callable[..., None], broken: Sequence[int]) -> None:
    """The frames of a clip as images ``00.png`` and so on, of which some cannot be read."""
    folder.mkdir()
    ffmpeg("-i", clip, "-start_number", 0, folder / "%02d.png")
    for number in broken:
        (folder / f"{number:02}.png").write_bytes(b"no image")


class Forgetful:
    """Sees one person, whose place depends on the last frames; fails once, at the frames that FAIL_AT lists.

    The file that FAILED names has the frames at which it has failed; the one that LOOKED names gets those that it
    looked at.
    """

    name = NAME
    sha256 = "0" * 64
    batch_size = 3

    def __init__(self) -> None:
        self.seen = 0
        self.reset()

    def reset(self, frame: int = 0) -> None:
        self._frame = frame
        self._memory: deque[float] = deque(maxlen=MEMORY)

    def detect(self, frames: Sequence[NDArray[np.uint8]]) -> list[Keypoints2D]:
        failed = Path(os.environ["FAILED"])
        before = failed.read_text().split() if failed.exists() else []
        for at in os.environ.get("FAIL_AT", "").split(","):
            if at and at not in before and self._frame <= int(at) < self._frame + len(frames):
                failed.write_text(" ".join([*before, at]))
                raise RuntimeError("CUDA out of memory")
        if looked := os.environ.get("LOOKED"):
            with open(looked, "a", encoding="ascii") as file:
                file.write("".join(f"{self._frame + i} " for i in range(len(frames))))
        return [self._look(frame) for frame in frames]

    def _look(self, frame: NDArray[np.uint8]) -> Keypoints2D:
        self.seen += 1
        self._memory.append(float(frame.mean()))
        self._frame += 1
        x = 100 + 20 * float(np.mean(self._memory)) / 255 + self._frame % 8
        rng = np.random.default_rng(3)
        points = (np.array([x, 100.0]) + rng.uniform(-40, 40, (17, 2))).astype(np.float32)
        box = np.array([[*points.min(axis=0), *points.max(axis=0)]], np.float32)
        scores = np.full((1, 17), 0.9, np.float32)
        return Keypoints2D(box, points[None], scores, np.array([0.9], np.float32))


def register() -> None:
    """Make it known in this process."""
    DETECTORS.register(NAME, DetectorInfo(NAME, "for tests", "none", lambda device: Forgetful()))


def pipeline(setup: Setup) -> Pipeline:
    """The processor of ``vp3d batch``, which knows this detector."""
    import object_store  # noqa: F401 (its protocol is known where this module is)

    register()
    detection_cache.WARM_UP_S = WARM_UP_S
    return Pipeline(setup)


class Remembering(Forgetful):
    """One that tells what it remembers."""

    def state(self) -> dict[str, Any]:
        return {"frame": self._frame, "memory": list(self._memory)}

    def restore(self, memory: Mapping[str, Any]) -> None:
        self._frame = memory["frame"]
        self._memory = deque(memory["memory"], maxlen=MEMORY)


REMEMBERING = DetectorInfo("flaky", "for tests", "none", lambda device: Remembering())  # as a package has it


def install(folder: Path) -> None:
    """Make a package of it in a folder, as pip would, with an entry point."""
    info = folder / "flaky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vp3d.detectors]\nflaky = failing_detector:REMEMBERING\n")
