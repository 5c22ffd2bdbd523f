"""The main commands need neither torch nor a network, and leave no files behind but their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Runs `vp3d` where torch cannot be imported; notes every use of the network from Python, and refuses it.
GUARDED = """
import os, sys

class WithoutTorch:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        absent = name.partition(".")[0] in ("torch", "torchvision")
        return None if absent else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            print(event, arguments, file=log)
        raise PermissionError("no network in this test")

sys.meta_path[:] = [WithoutTorch(finder) for finder in sys.meta_path]
sys.addaudithook(refuse)
from vp3d_cli.cli.main import main
try:
    main(sys.argv[1:])
finally:
    unwanted = [m for m in sys.modules if m.partition(".")[0] in ("torch", "openvino_telemetry") or m in
                ("scipy.signal", "scipy.stats", "openvino.tools.ovc")]
    print("LOADED", unwanted, file=sys.stderr)
"""


class Guarded:
    """Runs commands in an environment of empty folders."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "network.log"
        self.places = {name: folder / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "VP3D_HOME")}
        for place in self.places.values():
            place.mkdir()

    def __call__(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("VP3D", "ORT", "XDG"))}
        environment |= {name: str(place) for name, place in self.places.items()}
        environment |= {"NETWORK_LOG": str(self.log), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", GUARDED, *map(str, arguments)]
        return subprocess.run(
            command, env=environment | variables, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def left_behind(self) -> list[str]:
        """Files in the folders that are not the cache of compiled models."""
        files = (path for place in self.places.values() for path in place.rglob("*") if path.is_file())
        names = [str(path.relative_to(self.folder)) for path in files]
        return sorted(name for name in names if not name.startswith("XDG_CACHE_HOME/vp3d/compiled/"))


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_main_job(guarded: Guarded, short_clip: Path, tmp_path: Path, runtime: str) -> None:
    pose, drawing = tmp_path / "pose.npz", tmp_path / "side.mp4"
    done = guarded("infer", short_clip, "--out", pose, "--render", drawing, VP3D_RUNTIME=runtime)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stderr
    assert pose.stat().st_size > 0
    assert drawing.stat().st_size > 0
    assert not guarded.log.exists(), guarded.log.read_text()
    assert guarded.left_behind() == []


def test_the_other_commands(guarded: Guarded, short_clip: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.mp4").write_bytes(short_clip.read_bytes())
    batch = guarded("batch", clips, "--out", tmp_path / "poses", "--jobs", 1)
    assert batch.returncode == 0, batch.stderr
    pose = tmp_path / "poses" / "a.npz"
    for command in (
        ("info", pose),
        ("render", pose, "--video", short_clip, "--out", tmp_path / "a.mp4"),
        ("weights", "list"),
        ("weights", "verify"),
        ("detectors",),
        ("doctor", "--json"),
    ):
        done = guarded(*command)
        assert done.returncode == 0, (command, done.stderr)
        assert "LOADED []" in done.stderr, command
    assert not guarded.log.exists(), guarded.log.read_text()
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["torch"]["status"] == "note"
    assert 'pip install "vp3d[train]"' in rows["torch"]["detail"]
    assert rows["detection"]["detail"].startswith("openvino on CPU, ")
    assert rows["lifting"]["detail"].startswith("openvino on CPU, f32")


def test_what_needs_torch_says_so_on_one_line(guarded: Guarded, short_clip: Path, tmp_path: Path) -> None:
    from tests.lift.test_lifters import CASES, lifter_file

    dense = lifter_file(tmp_path, *next(case for case in CASES if case[0] == "dense"))
    for command in (
        ("train", "open-27", "--out", tmp_path / "run", "--motion", tmp_path / "none.npz"),
        ("bench", "--lifter-network", "--lifter", "open"),
        ("infer", short_clip, "--out", tmp_path / "a.npz", "--lifter", dense),
        ("infer", short_clip, "--out", tmp_path / "a.npz", "--detector", "cpn:weights=none.pth"),
    ):
        done = guarded(*command)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("LOADED")]
        assert done.returncode == 1, (command, done.stderr)
        assert len(lines) == 1, lines
        assert "torch" in lines[0]
        assert 'pip install "vp3d[train]"' in lines[0]
        assert not (tmp_path / "a.npz").exists()
