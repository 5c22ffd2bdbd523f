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
from pathlib import Path
from typing import Any

import numpy as np
import object_store  # noqa: F401 (its protocol is known where this module is)
from poses import walking_pose

from vp3d_cli.errors import NobodyFoundError, VideoError
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.jobs import BatchItem, BatchOptions, BatchRow, Limits, plan_items
from vp3d_cli.jobs.inputs import find_inputs
from vp3d_cli.jobs.messages import Order, Setup
from vp3d_cli.jobs.work import Made, Progress

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
    return plan_items(find_inputs([folder]), out, roots=roots, suffixes={"pose": ".npz", "render": ".mp4"})


def options_of(**changes: Any) -> BatchOptions:
    """Two workers, no second attempts."""
    limits = {name: changes.pop(name) for name in ("retries", "timeout_s", "stall_s", "fail_fast") if name in changes}
    chosen: dict[str, Any] = {"jobs": 2, "threads": 1, "processor": PROCESSOR, **changes}
    return BatchOptions(limits=Limits(**{"retries": 0, **limits}), **chosen)


class StubProcessor:
    """Does as the file says; the hash of its "weights" comes from the environment."""

    gpus = 0

    def __init__(self, setup: Setup) -> None:
        weights = os.environ.get("STUB_WEIGHTS", "1")
        if weights == "die":
            print("no such weights", file=sys.stderr, flush=True)
            os.abort()
        if weights == "broken":
            from vp3d_cli.errors import WeightsError

            raise WeightsError("stub weights are broken")
        if once := os.environ.get("STUB_ONLY_ONCE"):
            with open(once, "x"):  # fails in the second worker
                pass
        self.identity = {"detector": weights, "lifter": os.environ["OMP_NUM_THREADS"] and "lifter"}

    def process(self, order: Order, progress: Progress) -> Iterator[Made]:
        """A pose that depends on the content alone; a drawing that depends on the pose."""
        content = Path(order.video).read_bytes()
        try:
            told = json.loads(content.removeprefix(_MAGIC))
        except ValueError:
            raise VideoError(f"{order.video} cannot be read as a video") from None
        if order.share is None:
            for i in range(STEPS):
                progress("detect", i, STEPS)
                time.sleep(told["step_s"])
            self._happen(told["does"], order)
        else:
            assert len(list(_kept(order).iterdir())) == told["parts"]
            shutil.rmtree(_kept(order))
        half = b""
        for kind in order.needed:
            if kind == "pose":
                pose = walking_pose(1, 2 + hashlib.sha256(content).digest()[0] % 5)
                write_npz(pose, order.staged[kind])
                half = Path(order.staged[kind]).read_bytes()[:100]
            else:
                half = half or Path(order.targets["pose"]).read_bytes()[:100]
                with Path(order.staged[kind]).open("wb") as file:
                    file.write(half)
                    file.flush()
                    time.sleep(told["step_s"])
                    file.write(half)
                if told["does"] == "crash while drawing":
                    os.kill(os.getpid(), signal.SIGSEGV)
            yield Made(kind, 4, 1, [told["note"]] if told["note"].startswith("warn") else [])

    def share(self, order: Order, progress: Progress) -> dict[str, Any]:
        """Parts of as many frames each as a video has in one piece; who does one leaves a stamp beside the video."""
        told = json.loads(Path(order.video).read_bytes().removeprefix(_MAGIC))
        assert order.share is not None
        if order.share["do"] == "plan":
            return {"event": "planned", "parts": [{"frames": STEPS, "number": i} for i in range(told.get("parts", 0))]}
        number, began = order.share["part"]["number"], time.time()
        if (_kept(order) / str(number)).exists():
            return {"event": "part", "kept": True}
        for i in range(STEPS):
            progress("detect", i, STEPS)
            time.sleep(told["step_s"])
        if number == told["in_part"]:
            self._happen(told["does"], order)
        write(_kept(order) / str(number))
        stamp = {"part": number, "machine": os.getppid(), "began": began, "ended": time.time()}
        write(Path(order.video).with_suffix(".stamps") / f"{uuid.uuid4().hex}.json", json.dumps(stamp).encode())
        return {"event": "part", "kept": False}

    def _happen(self, does: str, order: Order) -> None:
        flag = Path(order.video).with_suffix(".flag")
        if does == "nobody":
            raise NobodyFoundError(f"{order.video}: nobody was found in 4 frames")
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
            Path(order.video).with_suffix(".helper").write_text(str(helper.pid))
            time.sleep(1000)
        if does == "hang in native code":
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):  # a deadlock, with the interpreter's lock held
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        if does == "change":
            with open(order.video, "ab") as file:
                file.write(b" ")
        if does == "print":
            print("{this is no report")


def _kept(order: Order) -> Path:
    return Path(str(order.keep)).with_suffix("")


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
    import vp3d_cli.jobs

    vp3d_cli.jobs.BatchOptions = functools.partial(BatchOptions, processor=PROCESSOR)  # type: ignore[misc, assignment]


if __name__ == "__main__":
    from vp3d_cli.cli.main import main

    use_stub()
    main(sys.argv[1:])
