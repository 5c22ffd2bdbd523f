"""What people read while vp3d works and when it is done: tables, facts, progress."""

from __future__ import annotations

import pytest

from vp3d_cli.cli.common import clock, format_table
from vp3d_cli.cli.progress import StageProgress, format_summary
from vp3d_cli.pipeline.summary import PersonSummary, Summary


def test_format_table() -> None:
    table = format_table([("name", "MB"), ("a", 10), ("long name", 2.5)], right=(1,))
    assert table.splitlines() == ["name        MB", "---------  ---", "a           10", "long name  2.5"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_progress_without_a_terminal_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress() as progress:
        for done in range(101):
            progress("detect", done, 100)
        progress("detect", 100, 100)
        progress("lift", 5, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "finding people ..."
    assert lines[1].startswith("finding people: 100/100 frames")
    assert lines[2:] == ["lifting to 3D ..."]


def test_progress_on_a_terminal_has_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "100")
    with StageProgress() as progress:
        progress("detect", 10, None)
        progress("detect", 40, 40)
    text = capsys.readouterr().err
    assert "finding people" in text
    assert "40/40" in text
    with StageProgress(quiet=True) as progress:
        progress("detect", 1, 1)
    assert capsys.readouterr().err == ""


def test_summary_fits_on_a_screen() -> None:
    people = (PersonSummary(1, 7.55, 3, 0.713), PersonSummary(4, 0.5, 0, 0.4))
    assert format_summary("walk.mp4", Summary(230, people, 5.0, 46.0)).splitlines() == [
        "walk.mp4: 2 people in 230 frames, 5.0 s of work, 46.0 frames/s",
        "person   seen  frames filled in  mean confidence",
        "------  -----  ----------------  ---------------",
        "     1  7.5 s                 3             0.71",
        "     4  0.5 s                 0             0.40",
    ]
    assert format_summary("a.mp4", Summary(1, people[:1], None, None)).startswith("a.mp4: 1 person in 1 frame\n")
