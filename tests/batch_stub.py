"""A processor that does as the "video" says, in place of the networks: what a batch does about it is under test.

A stub video is a file with the first bytes of a Matroska file, a name, what happens, and how long each step takes.
Run as a program it is ``vp3d`` with this processor: ``python batch_stub.py batch FOLDER --out OUT``.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import object_store  # noqa: F401 (its protocol is known where this module is)
from poses import walking_pose

from vp3d_cli import __version__
from vp3d_cli.errors import NobodyFoundError, VideoError, WeightsError
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.jobs.inputs import find_inputs
from vp3d_cli.jobs.loop import Limits
from vp3d_cli.jobs.plan import BatchItem, plan_items
from vp3d_cli.jobs.report import BatchRow
from vp3d_cli.jobs.run import BatchOptions
from vp3d_cli.jobs.task import LocalVideo, Made, Setup
from vp3d_cli.pipeline.detection import Progress

PROCESSOR = "batch_stub:StubProcessor"
STEPS = 4
_POLL_S = 0.02
_MAGIC = b"\x1a\x45\xdf\xa3"


def statuses(rows: list[BatchRow]) -> dict[str, str]:
    """What became of each video."""
    return {row.place: row.status for row in rows}


def write(path: Path, content: bytes = b"x") -> Path:
    """A file of any content, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(_POLL_S)


def write_video(
    path: Path, does: str = "pose", step_s: float = 0.0, note: str = "", parts: int = 0, in_part: int = -1
) -> Path:
    """A stub video; ``note`` makes its content another. In parts, it does what it does in part ``in_part``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"does": does, "step_s": step_s, "note": note} | ({"parts": parts, "in_part": in_part} if parts else {})
    path.write_bytes(_MAGIC + json.dumps(told).encode())
    return path


def stamps_of(video: Path) -> list[dict[str, Any]]:
    """For each part of a video that was done: its number, on which machine, and from when to when."""
    files = video.with_suffix(".stamps").glob("*.json")
    return sorted((json.loads(file.read_text()) for file in files), key=lambda stamp: stamp["part"])


def plan_of(folder: Path, out: Path, render: Path | None = None) -> list[BatchItem]:
    """The videos below a folder."""
    roots = {"pose": out} | ({} if render is None else {"render": render})
    return plan_items(find_inputs([folder]), roots=roots, suffixes={"pose": ".npz", "render": ".mp4"})


def options_of(**changes: Any) -> BatchOptions:
    """Two workers, no second attempts."""
    limits = {name: changes.pop(name) for name in ("retries", "timeout_s", "stall_s", "fail_fast") if name in changes}
    chosen: dict[str, Any] = {"jobs": 2, "threads": 1, "processor": PROCESSOR, **changes}
    return BatchOptions(limits=Limits(**{"retries": 0, **limits}), **chosen)


@dataclass(frozen=True)
class Chunk:
    """A chunk of a stub video."""

    video: Path
    keep: Path
    number: int
    frames: int = STEPS


class StubProcessor:
    """Does as the file says; the hash of its "weights" comes from the environment."""

    gpus = 0

    def __init__(self, setup: Setup) -> None:
        weights = os.environ.get("STUB_WEIGHTS", "1")
        if weights == "die":
            print("no such weights", file=sys.stderr, flush=True)
            os.abort()
        if weights == "broken":
            raise WeightsError("stub weights are broken")
        if once := os.environ.get("STUB_ONLY_ONCE"):
            with open(once, "x"):  # fails in the second worker
                pass
        self.weights = {"detector": weights, "lifter": os.environ["OMP_NUM_THREADS"] and "lifter"}
        self._setup = setup

    def make(self, video: LocalVideo, progress: Progress) -> Iterator[Made]:
        """A pose that depends on the content alone; a drawing that depends on the pose."""
        content = video.path.read_bytes()
        try:
            told = json.loads(content.removeprefix(_MAGIC))
        except ValueError:
            raise VideoError(f"{video.path} cannot be read as a video") from None
        if not self._setup.settings.chunk_minutes or not told.get("parts"):
            for i in range(STEPS):
                progress("detect", i, STEPS)
                time.sleep(told["step_s"])
            self._happen(told["does"], str(video.path))
        else:
            assert len(list(_kept(video.keep).iterdir())) == told["parts"]
            shutil.rmtree(_kept(video.keep))
        half = b""
        for kind in video.needed:
            file = video.files[kind]
            if kind == "pose":
                pose = walking_pose(1, 2 + hashlib.sha256(content).digest()[0] % 5)
                write_npz(replace(pose, provenance=self._provenance(video)), file)
                half = file.read_bytes()[:100]
            else:
                half = half or video.files["pose"].read_bytes()[:100]
                with file.open("wb") as stream:
                    stream.write(half)
                    stream.flush()
                    time.sleep(told["step_s"])
                    stream.write(half)
                if told["does"] == "crash while drawing":
                    os.kill(os.getpid(), signal.SIGSEGV)
            yield Made(kind, 4, 1, [told["note"]] if told["note"].startswith("warn") else [])

    def _provenance(self, video: LocalVideo) -> dict[str, Any]:
        return {
            "version": __version__,
            "command": self._setup.command,
            "video": video.source,
            "input": dict(video.input),
            "settings": asdict(self._setup.settings),
            **{role: {"name": "stub", "sha256": sha256} for role, sha256 in self.weights.items()},
        }

    def plan_chunks(self, video: Path, keep: Path) -> list[Chunk]:
        """As many chunks as the video says."""
        told = json.loads(video.read_bytes().removeprefix(_MAGIC))
        return [Chunk(video, keep, i) for i in range(told.get("parts", 0))]

    def detect_chunk(self, chunk: Chunk, progress: Progress) -> None:
        """As many frames as a video has in one piece; who does one leaves a stamp beside the video."""
        told = json.loads(chunk.video.read_bytes().removeprefix(_MAGIC))
        began = time.time()
        if (_kept(chunk.keep) / str(chunk.number)).exists():
            return
        for i in range(STEPS):
            progress("detect", i, STEPS)
            time.sleep(told["step_s"])
        if chunk.number == told["in_part"]:
            self._happen(told["does"], str(chunk.video))
        write(_kept(chunk.keep) / str(chunk.number))
        stamp = {"part": chunk.number, "worker": os.getpid(), "began": began, "ended": time.time()}
        write(chunk.video.with_suffix(".stamps") / f"{uuid.uuid4().hex}.json", json.dumps(stamp).encode())

    def _happen(self, does: str, video: str) -> None:
        flag = Path(video).with_suffix(".flag")
        if does == "nobody":
            raise NobodyFoundError(f"{video}: nobody was found in 4 frames")
        if does == "bug":
            raise ZeroDivisionError("by zero")
        if does == "crash" or (does == "crash once" and not flag.exists()):
            flag.touch()
            print("about to crash", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if does == "out of memory":
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "exit":
            os._exit(7)
        if does == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            helper = subprocess.Popen(["sleep", "60"])
            Path(video).with_suffix(".helper").write_text(str(helper.pid))
            time.sleep(1000)
        if does == "hang in native code":
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # a deadlock, with the interpreter's lock held
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        if does == "change":
            with open(video, "ab") as file:
                file.write(b" ")
        if does == "print":
            print("{this is no report")


def _kept(keep: Path | None) -> Path:
    return Path(str(keep)).with_suffix("")


def arrays_of(out: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """All pose files below a folder by their place, without what says when and how they were made."""
    found = {}
    for path in sorted(out.rglob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            found[path.relative_to(out).as_posix()] = {key: file[key] for key in file.files if key != "provenance"}
    return found


def assert_same_results(ours: Path, theirs: Path) -> None:
    """The same pose files with the same content."""
    a, b = arrays_of(ours), arrays_of(theirs)
    assert a.keys() == b.keys()
    for name, arrays in a.items():
        assert arrays.keys() == b[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, b[name][key], f"{name}: {key}")


def use_stub() -> None:
    """Have ``vp3d batch`` of this process work with stub videos."""
    import vp3d_cli.jobs.run

    vp3d_cli.jobs.run.BatchOptions = functools.partial(BatchOptions, processor=PROCESSOR)  # type: ignore[misc, assignment]


if __name__ == "__main__":
    from vp3d_cli.cli.main import main

    use_stub()
    main(sys.argv[1:])
