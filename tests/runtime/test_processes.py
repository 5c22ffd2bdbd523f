"""vp3d_cli/runtime/processes.py: processes beside this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vp3d_cli.runtime.processes import cause_of_death, command_line, granted_threads, thread_environment, usable_cores


def test_cores() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("said", "threads"), [("3", 3), (" 2,1", 2), ("", 0), ("many", 0), ("-1", 0), ("0", 0)])
def test_threads_that_the_environment_grants(monkeypatch: pytest.MonkeyPatch, said: str, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert granted_threads() == threads


def test_threads_are_granted_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in thread_environment(5).items():
        monkeypatch.setenv(name, value)
    assert granted_threads() == 5


def test_a_process_finds_modules_where_this_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "of the user's"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('the current folder was searched')")
    (tmp_path / "greeting.py").write_text("import json\ndef main(arguments): print(json.dumps(arguments))")
    monkeypatch.setattr(sys, "path", [*(path for path in sys.path if path), str(tmp_path)])
    command = command_line("greeting", ["good", "day's\n"])
    done = subprocess.run(command, cwd=elsewhere, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["good", "day's\n"]


def test_how_a_process_ended_is_told_in_words() -> None:
    assert cause_of_death(-11) == "its worker was ended by SIGSEGV (a crash in native code)"
    assert "SIGKILL (most likely because memory ran out)" in cause_of_death(-9)
    assert cause_of_death(-15) == "its worker was ended by SIGTERM"
    assert cause_of_death(-200) == "its worker was ended by signal 200"
    assert cause_of_death(3) == "its worker ended with status 3"
