"""What all tests share: the example clip, made-up clips, and the command line run in this process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Before torch and numpy are imported: the tests already run in parallel, one process for each core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import settings

settings.register_profile("vp3d", deadline=None)  # a busy machine is no failure
settings.load_profile("vp3d")

# A shell ignores Ctrl-C for what it starts in the background, and children would inherit that: the tests that send it
# to a child need it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo.mp4"


@dataclass(frozen=True)
class Outcome:
    """How a run of the command line ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def error_lines(self) -> list[str]:
        return self.stderr.splitlines()


RunCli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that the user of this machine added must not change what a test sees."""
    monkeypatch.setenv("VP3D_HOME", str(tmp_path_factory.mktemp("home")))
    # Compiled models are shared by the tests of a run: compiling them takes half a second each.
    monkeypatch.setenv("VP3D_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[RunCli]:
    """``run_cli("info", path)`` runs ``vp3d info path`` in this process; output is caught below Python too."""
    from vp3d_cli.cli.main import main

    for name in ("VP3D_DEBUG", "OPENCV_LOG_LEVEL", "OPENCV_FFMPEG_LOGLEVEL"):
        monkeypatch.setenv(name, "")  # so that what main() sets is undone after the test
        monkeypatch.delenv(name)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def demo() -> Path:
    """The example clip: two people, 230 frames at 30 per second."""
    return DEMO


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """``ffmpeg(*arguments)`` runs ffmpeg, quietly, overwriting."""
    from vp3d_cli.video import find_ffmpeg

    def run(*arguments: object) -> None:
        command = [find_ffmpeg(), "-v", "error", "-y", *map(str, arguments)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)

    return run


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """The first 12 frames of the example, small, without sound."""
    path = tmp_path_factory.mktemp("clips") / "short.mp4"
    ffmpeg("-i", DEMO, "-frames:v", 12, "-an", "-pix_fmt", "yuv420p", path)
    return path


@pytest.fixture(scope="session")
def empty_clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., None]) -> Path:
    """One second of grey: nobody in it."""
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=gray:size=320x240:rate=10:duration=1", "-pix_fmt", "yuv420p", path)
    return path
