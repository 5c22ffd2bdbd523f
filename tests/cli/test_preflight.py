"""vp3d_cli/cli/preflight.py: what can be seen at once is told before the libraries that take seconds are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunCli

# Runs commands one after the other; prints for each its exit status, its errors and whether torch was loaded.
RUN = """
import contextlib, io, json, sys
from vp3d_cli.cli.main import main
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main(command)
    except SystemExit as ended:
        code = ended.code
    print(json.dumps([code, said.getvalue(), "torch" in sys.modules]))
"""
UNKNOWN = "vp3d: error: no weights named 'foo'; known: "


def test_what_is_missing_is_told_before_torch_is_loaded(short_clip: Path, tmp_path: Path) -> None:
    clip, missing, text = str(short_clip), str(tmp_path / "missing.mp4"), str(tmp_path / "text.mp4")
    Path(text).write_text("no video\n" * 100, encoding="ascii")
    out = ["--out", str(tmp_path / "out.npz")]
    said = {
        ("infer", missing, *out, "--lifter", "foo"): UNKNOWN,
        ("infer", clip, *out, "--lifter", "foo"): UNKNOWN,
        ("infer", clip, missing, "--out", "{stem}", "--trajectory", "foo"): UNKNOWN,  # said once
        ("infer", missing, *out): f"vp3d: error: no such video: {missing}",
        ("infer", missing, *out, "--keypoints-only", "--lifter", "foo"): f"vp3d: error: no such video: {missing}",
        ("infer", missing, "--preview", str(tmp_path / "p.png")): f"vp3d: error: no such video: {missing}",
        ("infer", text, *out): f"vp3d: error: {text} cannot be read as a video",
        ("infer", clip, *out, "--start", "100"): f"vp3d: error: {clip} has no frame at or after 100 s",
        ("infer", clip, *out, "--detector", "foo"): "vp3d: error: unknown detector 'foo'; known: ",
        ("batch", str(tmp_path), "--out", str(tmp_path / "o"), "--lifter", "foo"): UNKNOWN,
        ("bench", clip, "--lifter", "foo"): UNKNOWN,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(list(said))], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for line, (command, words) in zip(done.stdout.splitlines(), said.items(), strict=True):
        code, errors, loaded = json.loads(line)
        assert (code, loaded) == (1, False), command
        assert errors.startswith(words), command
        assert len(errors.splitlines()) == 1, command
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_a_lifter_that_is_not_needed_is_not_looked_for(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    command = ("infer", short_clip, "--out", tmp_path / "k.npz", "--keypoints-only", "--lifter", "foo", "--quiet")
    assert run_cli(*command).code == 0


@pytest.mark.parametrize("missing", ["mask-rcnn", "mask-rcnn-torchvision"])
def test_a_detector_that_is_not_installed(
    run_cli: RunCli, short_clip: Path, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vp3d_cli.detect.base import DetectorInfo

    monkeypatch.setattr(DetectorInfo, "available", lambda self: f"{self.name} is gone")
    outcome = run_cli("infer", short_clip, "--out", tmp_path / "p.npz", "--detector", missing)
    assert (outcome.code, outcome.error_lines) == (1, [f"vp3d: error: detector {missing}: {missing} is gone"])
