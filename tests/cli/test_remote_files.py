"""vp3d_cli/cli/remote_files.py: ``vp3d infer`` on videos at URLs, with results at URLs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import failing_detector
import numpy as np
import pytest
from conftest import RunCli

from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.jobs.storage import remove, to_place, write_bytes
from vp3d_cli.plugins import DETECTORS

LAB = to_place("memory://lab")


@pytest.fixture(autouse=True)
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ffmpeg: Callable[..., None]) -> Iterator[None]:
    """A clip in a store, a detector without networks, and no other temporary files."""
    monkeypatch.setitem(DETECTORS._registered, failing_detector.NAME, None)
    failing_detector.register()
    monkeypatch.setenv("FAILED", str(tmp_path / "failed"))
    monkeypatch.delenv("FAIL_AT", raising=False)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "here")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=160x120:rate=10:duration=3", "-pix_fmt", "yuv420p", "walk.mp4")
    write_bytes(LAB / "clips/walk.mp4", Path("walk.mp4").read_bytes())
    yield
    assert list((tmp_path / "tmp").iterdir()) == []
    remove(LAB)


OPTIONS = ("--detector", failing_detector.NAME, "--no-tta")


def test_from_a_url_to_a_url(run_cli: RunCli) -> None:
    outcome = run_cli("infer", "memory://lab/clips/walk.mp4", "--out", "memory://lab/poses/", *OPTIONS)
    assert (outcome.code, outcome.stdout) == (0, "memory://lab/poses/walk.npz\n"), outcome
    Path("copy.npz").write_bytes((LAB / "poses/walk.npz").read_bytes())
    ours = read_npz("copy.npz")
    assert ours.provenance["video"] == "memory://lab/clips/walk.mp4"
    assert run_cli("infer", "walk.mp4", "--out", "walk.npz", *OPTIONS).code == 0
    np.testing.assert_array_equal(ours.joints_3d, read_npz("walk.npz").joints_3d)

    outcome = run_cli("infer", "memory://lab/clips/walk.mp4", "--out", "memory://lab/poses/{stem}.npz", *OPTIONS)
    assert outcome.code == 1
    assert "memory://lab/poses/walk.npz: exists already" in outcome.error_lines[-1]
    outcome = run_cli(
        "infer", "memory://lab/clips/walk.mp4", "--out", "p.npz", "--render", "memory://lab/side.mp4", *OPTIONS
    )
    assert (outcome.code, outcome.stdout) == (0, "p.npz\nmemory://lab/side.mp4\n"), outcome
    assert (LAB / "side.mp4").read_bytes()[4:8] == b"ftyp"
    outcome = run_cli(
        "infer", "walk.mp4", "--out", "memory://lab/w.json", "--keypoints-only", "--format", "coco", *OPTIONS
    )
    assert (outcome.code, outcome.stdout) == (0, "memory://lab/w.json\n"), outcome
    outcome = run_cli("infer", "memory://lab/clips/walk.mp4", "--preview", "memory://lab/people.png", *OPTIONS)
    assert (outcome.code, outcome.stdout) == (0, "memory://lab/people.png\n"), outcome


def test_errors_name_what_was_asked_for(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(LAB / "clips/text.mp4", b"no video\n" * 100)
    outcome = run_cli("infer", "memory://lab/clips/text.mp4", "--out", "a.npz", *OPTIONS)
    assert outcome.code == 1
    assert "memory://lab/clips/text.mp4" in outcome.error_lines[-1]
    outcome = run_cli("infer", "memory://lab/clips/missing.mp4", "--out", "a.npz", *OPTIONS)
    assert outcome.error_lines == ["vp3d: error: no such file or folder: memory://lab/clips/missing.mp4"]
    outcome = run_cli("infer", "memory://lab/clips/walk.mp4", "--out", "memory://lab/clips/walk.mp4", *OPTIONS)
    assert outcome.code == 2
    monkeypatch.setenv("FAIL_AT", "20")
    command = ("infer", "memory://lab/clips/walk.mp4", "--out", "memory://lab/walk.npz", *OPTIONS)
    outcome = run_cli(*command)
    assert "the 18 frames before are kept in walk.npz.detections.npz" in outcome.error_lines[-1]
    outcome = run_cli(*command)
    assert outcome.code == 0
    assert "had the first 18 frames" in outcome.stderr
    assert not Path("walk.npz.detections.npz").exists()
