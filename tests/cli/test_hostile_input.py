"""Hostile input from end to end: one printable line, nothing read that was not given, no input destroyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEMO, RunCli
from poses import walking_pose

from vp3d_cli.cli.common import MAX_LINE, printable, shortened
from vp3d_cli.cli.main import describe
from vp3d_cli.io.poses.npz import write_npz

FORGED = "a\x1b]0;title\x07\x1b[2J\nvp3d: error: forged\u202e"


@pytest.fixture
def pose(tmp_path: Path) -> Path:
    write_npz(walking_pose(), tmp_path / "pose.npz")
    return tmp_path / "pose.npz"


def changed(pose: Path, name: str, **arrays: Any) -> Path:
    with np.load(pose, allow_pickle=False) as file:
        np.savez(pose.with_name(name), **{**dict(file), **arrays})
    return pose.with_name(name)


def test_control_characters_of_a_file_are_escaped(run_cli: RunCli, pose: Path) -> None:
    path = changed(pose, "forged.npz", provenance=np.array(json.dumps({"command": FORGED, FORGED: 1})))
    outcome = run_cli("info", path)
    assert outcome.code == 0
    assert "\x1b" not in outcome.stdout
    assert "\u202e" not in outcome.stdout
    assert not any(line.startswith("vp3d: error") for line in outcome.stdout.splitlines())
    assert r"a\x1b]0;title\x07\x1b[2J" in outcome.stdout


def test_control_characters_of_a_name_are_escaped(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("info", tmp_path / FORGED)
    assert outcome.code == 1
    assert len(outcome.error_lines) == 1
    assert outcome.stderr.strip("\n").isprintable()


def test_printable_and_short() -> None:
    assert printable("caf\udce9 é\x00") == r"caf\xe9 é\x00"
    assert shortened("x" * MAX_LINE) == "x" * MAX_LINE
    assert len(shortened("a" * 500 + "b" * 500)) < MAX_LINE
    assert shortened("a" * 500 + "b" * 500).endswith("b")


def test_an_error_line_is_short(run_cli: RunCli, pose: Path) -> None:
    path = changed(pose, "long.npz", schema=np.array("x" * 100_000))
    outcome = run_cli("info", path)
    assert outcome.code == 1
    assert len(outcome.stderr) < 500


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '{"a": ' + "9" * 100_000 + "}", "[1]"]
)
def test_deep_or_long_json_is_an_ordinary_error(run_cli: RunCli, pose: Path, text: str) -> None:
    outcome = run_cli("info", changed(pose, "deep.npz", provenance=np.array(text)))
    assert outcome.code == 1
    assert len(outcome.error_lines) == 1
    assert "provenance is not" in outcome.stderr


def test_json_has_no_nan(run_cli: RunCli, pose: Path) -> None:
    outcome = run_cli("info", changed(pose, "nan.npz", provenance=np.array('{"a": NaN, "b": [1e999, 2]}')), "--json")
    assert outcome.code == 0

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    facts = json.loads(outcome.stdout, parse_constant=refuse)
    assert facts["provenance"] == {"a": None, "b": [None, 2]}


def test_a_playlist_is_no_video(run_cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{DEMO}\n#EXT-X-ENDLIST\n")
    for command in (["info", path], ["infer", path, "--out", tmp_path / "p.npz"]):
        outcome = run_cli(*command)
        assert outcome.code == 1
        assert "cannot be read as a video" in outcome.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["list.mp4"]


def test_the_limit_on_pixels_is_an_option_of_every_command(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_MAX_MEGAPIXELS", "100")
    for arguments in (["--max-megapixels", "0.1", "info", DEMO], ["info", DEMO, "--max-megapixels=0.1"]):
        outcome = run_cli(*arguments)
        assert outcome.code == 1
        assert "--max-megapixels" in outcome.stderr
    assert run_cli("info", DEMO, "--max-megapixels", "100").code == 0
    assert run_cli("info", DEMO, "--max-megapixels", "many").code == 2


def test_no_command_destroys_its_own_input(run_cli: RunCli, pose: Path) -> None:
    before = pose.read_bytes()
    link = pose.with_name("link.npz")
    link.symlink_to(pose)
    scored = ["evaluate", "--truth", pose, "--pose", pose, "--quiet", "--overwrite"]
    commands = [
        [*scored, "--json", pose],
        [*scored, "--json", link],
        ["infer", DEMO, "--keypoints", pose, "--out", pose, "--overwrite"],
        ["infer", DEMO, "--keypoints", link, "--out", pose, "--overwrite"],
        ["infer", DEMO, "--keypoints", pose, "--out", pose.with_name("{stem}.npz"), "--render", pose, "--overwrite"],
    ]
    for command in commands:
        outcome = run_cli(*command)
        assert outcome.code in (1, 2), command
        assert len(outcome.error_lines) <= 4
    assert pose.read_bytes() == before
    assert sorted(entry.name for entry in pose.parent.iterdir()) == ["link.npz", "pose.npz"]


def test_a_template_that_names_an_input(run_cli: RunCli, pose: Path) -> None:
    video = pose.with_name("pose.mp4")
    video.symlink_to(DEMO)
    outcome = run_cli("infer", video, "--keypoints", pose, "--out", pose.with_name("{stem}.npz"), "--overwrite")
    assert outcome.code == 1
    assert "is read by this command" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (RecursionError("maximum"), "nested too deeply"),
        (OSError(36, "File name too long", "xyz"), "xyz: File name too long"),
        (OSError(36, "File name too long", b"xyz\xff"), "File name too long"),
        (RuntimeError("Could not determine home directory."), "set HOME"),
        (KeyError("x"), "unexpected KeyError"),
    ],
)
def test_errors_that_nobody_foresaw_are_sentences(error: Exception, words: str) -> None:
    assert words in describe(error)


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = script.replace("vp3d", f"'{sys.executable}' -m vp3d_cli")
    return subprocess.run(
        ["bash", "-c", command], env={**os.environ, **environment}, capture_output=True, check=False, timeout=120
    )


@pytest.mark.skipif(sys.platform != "linux", reason="written for bash and /dev/full")
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("vp3d info {demo} 0<&- 1>&- 2>&-", 0),
        ("vp3d info {demo} 2>&-", 0),
        ("vp3d info /nope 2>&-", 1),
        ("vp3d info /nope 2>/dev/full", 1),
        ("vp3d info {demo} >/dev/full", 1),
        ("vp3d infer {demo} --preview {out} --overwrite --end 0.1 2>/dev/full >/dev/null", 0),
        ("vp3d infer {demo} --preview {out} --overwrite --end 0.1 0<&- 1>&- 2>&-", 0),
    ],
)
def test_streams_that_are_closed_or_full(script: str, code: int, tmp_path: Path) -> None:
    ran = shell(script.format(demo=DEMO, out=tmp_path / "people.png"))
    assert ran.returncode == code
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr
    assert len(ran.stderr.splitlines()) == (1 if script.endswith(">/dev/full") and "nope" not in script else 0)


@pytest.mark.skipif(sys.platform != "linux", reason="written for bash")
def test_a_reader_that_leaves_ends_us_quietly() -> None:
    ran = shell(f"vp3d info {DEMO} | true; exit ${{PIPESTATUS[0]}}")
    assert ran.returncode in (0, 1, 141)
    assert ran.stderr == b""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {}])
def test_names_in_any_encoding_are_printed(environment: dict[str, str], tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    os.symlink(os.fsencode(DEMO), odd)
    accented = tmp_path / "\U0001f57aé.mp4"
    accented.symlink_to(DEMO)
    for name in (odd, os.fsencode(accented)):
        command = [os.fsencode(sys.executable), b"-m", b"vp3d_cli", b"info", name]
        ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False, timeout=120)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == b""
        assert b".mp4" in ran.stdout
