"""The command line, by its exit status and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli

from vp3d_cli.cli.output_paths import VideoOutputs, plan_outputs
from vp3d_cli.cli.progress import StageProgress
from vp3d_cli.errors import ConfigError, NobodyFoundError, VideoError
from vp3d_cli.weights import DEFAULT_LIFTER, LIFTER_ALIASES

DEFAULT_WEIGHTS = LIFTER_ALIASES.get(DEFAULT_LIFTER, DEFAULT_LIFTER)


def test_help_names_every_command(run_cli: RunCli) -> None:
    outcome = run_cli("--help")
    assert outcome.code == 0
    for command in ("infer", "render", "info", "weights", "detectors", "doctor", "bench"):
        assert f"\n  {command} " in outcome.stdout


@pytest.mark.parametrize(
    "command", ["infer", "render", "info", "detectors", "doctor", "bench", "weights list", "weights add"]
)
def test_help_of_a_command_has_an_example(run_cli: RunCli, command: str) -> None:
    outcome = run_cli(*command.split(), "--help")
    assert outcome.code == 0
    assert f"\n  vp3d {command}" in outcome.stdout


def test_version(run_cli: RunCli) -> None:
    outcome = run_cli("--version")
    assert (outcome.code, outcome.stdout) == (0, "vp3d 0.1.0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["infer"],
        ["infer", "a.mp4", "--no-such-option"],
        ["infer", "a.mp4", "--max-people", "0"],
        ["infer", "a.mp4", "--start", "soon"],
        ["infer", "a.mp4", "--end", "-1"],
        ["infer", "a.mp4", "--start", "5", "--end", "2"],
        ["infer", "a.mp4", "--smooth", "much"],
        ["infer", "a.mp4", "--intrinsics", "1000,1000"],
        ["infer", "a.mp4", "--intrinsics", "a,b,c,d"],
        ["infer", "a.mp4", "--fov", "400"],
        ["infer", "a.mp4", "--fov", "60", "--intrinsics", "1000,1000,500,500"],
        ["infer", "a.mp4", "--height", "-1"],
        ["infer", "a.mp4", "--out", "pose.xyz"],
        ["infer", "a.mp4", "--render", "a.mp4"],
        ["infer", "a.mp4", "b.mp4", "--out", "pose.npz"],
        ["infer", "a.mp4", "b/a.mp4"],
        ["render", "pose.npz"],
        ["info"],
        ["weights", "add"],
    ],
)
def test_wrong_usage_is_2(
    run_cli: RunCli, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_cli(*arguments)
    assert outcome.code == 2, outcome
    assert "Usage: vp3d" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""
    assert list(tmp_path.iterdir()) == []


class FakePipeline:
    """Takes the place of infer() and render(): remembers what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from vp3d_cli.cli import infer
        from vp3d_cli.pipeline import api, drawing, summary

        self.calls: list[dict[str, Any]] = []
        self.rendered: list[Path] = []
        self.errors: dict[str, Exception] = {}
        for check in ("check_models", "check_video"):
            monkeypatch.setattr(infer, check, lambda *args, **options: None)
        monkeypatch.setattr(api, "infer_to_file", self._infer)
        monkeypatch.setattr(drawing, "render", self._render)
        monkeypatch.setattr(summary, "summarize", lambda pose: pose)
        monkeypatch.setattr("vp3d_cli.cli.progress.format_summary", lambda name, summary: f"summary of {name}")

    def _infer(self, video: Path, out: Path, settings: Any, run: Any, **options: Any) -> Any:
        self.calls.append({"video": video, "out": out, "settings": settings, "progress": run.report, **options})
        run.written.append(out)
        if video.name in self.errors:
            raise self.errors[video.name]

        class Pose:
            provenance: dict[str, Any] = {"warnings": ["half of it\nis missing"]}  # noqa: RUF012

        return Pose()

    def _render(self, pose: Any, video: Path, out: Path, **options: Any) -> Path:
        self.rendered.append(out)
        return out


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePipeline:
    monkeypatch.chdir(tmp_path)
    return FakePipeline(monkeypatch)


def test_options_of_infer_reach_the_pipeline(run_cli: RunCli, fake: FakePipeline) -> None:
    from vp3d_cli.pipeline.settings import InferSettings

    outcome = run_cli(
        "infer", "a.mp4", "--out", "p.npz", "--render", "s.gif", "--detector", "movenet-fast", "--lifter", "mine",
        "--max-people", 2, "--start", "1:05", "--end", "90.5", "--intrinsics", "1500,1501,960,540",
        "--smooth", "off", "--device", "cpu", "--overwrite", "--height", 1.8, "--no-tta",
    )  # fmt: skip
    assert outcome.code == 0, outcome
    assert outcome.stdout.splitlines() == ["p.npz", "s.gif"]
    (call,) = fake.calls
    assert call["settings"] == InferSettings(
        detector="movenet-fast",
        lifter="mine",
        max_people=2,
        start_s=65.0,
        end_s=90.5,
        intrinsics=(1500.0, 1501.0, 960.0, 540.0),
        smooth=0.0,
        device="cpu",
        tta=False,
        height_m=1.8,
    )
    assert call["overwrite"] is True
    assert isinstance(call["progress"], StageProgress)
    assert fake.rendered == [Path("s.gif")]


def test_former_names_of_options_still_work(run_cli: RunCli, fake: FakePipeline) -> None:
    outcome = run_cli("infer", "a.mp4", "--segment", 5, "--no-flip", "--quiet")
    assert (outcome.code, outcome.stdout) == (0, "a.npz\n")
    (call,) = fake.calls
    assert (call["settings"].chunk_minutes, call["settings"].tta) == (5.0, False)
    assert outcome.error_lines == [
        "vp3d: warning: --segment is now called --chunk-minutes",
        "vp3d: warning: --no-flip is now called --no-tta",
    ]
    shown = run_cli("infer", "--help").stdout
    assert "--chunk-minutes" in shown
    assert "--segment" not in shown
    assert "--flip" not in shown


def test_defaults_of_infer_are_those_of_the_library(run_cli: RunCli, fake: FakePipeline) -> None:
    from vp3d_cli.pipeline.settings import InferSettings

    assert run_cli("infer", "clips/a.b.mp4").code == 0
    (call,) = fake.calls
    assert call["settings"] == InferSettings()
    assert call["out"] == Path("a.b.npz")
    assert call["overwrite"] is False
    assert fake.rendered == []


def test_warnings_and_summary_go_to_stderr_on_lines_of_their_own(run_cli: RunCli, fake: FakePipeline) -> None:
    outcome = run_cli("infer", "a.mp4")
    assert outcome.stdout == "a.npz\n"
    assert outcome.stderr == "vp3d: warning: half of it is missing\nsummary of a.mp4\n"


def test_quiet_prints_results_only(run_cli: RunCli, fake: FakePipeline) -> None:
    outcome = run_cli("infer", "a.mp4", "b.mp4", "--quiet", "--out", "{stem}")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "a.npz\nb.npz\n", "")


def test_a_failed_video_does_not_stop_the_others(run_cli: RunCli, fake: FakePipeline) -> None:
    fake.errors["b.mp4"] = VideoError("b.mp4: broken")
    outcome = run_cli("infer", "a.mp4", "b.mp4", "c.mp4", "--out", ".")
    assert outcome.code == 1
    assert [call["video"].name for call in fake.calls] == ["a.mp4", "b.mp4", "c.mp4"]
    assert outcome.stdout.splitlines() == ["a.npz", "c.npz"]
    assert outcome.stderr.splitlines()[-1] == "vp3d: error: b.mp4: broken"


def test_exit_status_of_several_failures(run_cli: RunCli, fake: FakePipeline) -> None:
    fake.errors = {"a.mp4": NobodyFoundError("nobody in a.mp4"), "b.mp4": NobodyFoundError("nobody in b.mp4")}
    outcome = run_cli("infer", "a.mp4", "b.mp4", "--quiet", "--out", ".")
    assert outcome.code == 3
    assert len(outcome.stderr.splitlines()) == 2
    fake.errors["b.mp4"] = VideoError("b.mp4: broken")
    assert run_cli("infer", "a.mp4", "b.mp4", "--quiet", "--out", ".").code == 1


def test_an_error_is_one_line_and_debug_shows_where(run_cli: RunCli, fake: FakePipeline) -> None:
    fake.errors["a.mp4"] = VideoError("a.mp4: broken,\n  entirely")
    outcome = run_cli("infer", "a.mp4")
    assert (outcome.code, outcome.stderr) == (1, "vp3d: error: a.mp4: broken, entirely\n")
    for arguments in (["--debug", "infer", "a.mp4"], ["infer", "a.mp4", "--debug"]):
        outcome = run_cli(*arguments)
        assert outcome.code == 1
        assert outcome.stderr.startswith("Traceback")
        assert outcome.stderr.endswith("vp3d: error: a.mp4: broken, entirely\n")


def test_an_unexpected_error_is_one_line_too(run_cli: RunCli, fake: FakePipeline) -> None:
    fake.errors["a.mp4"] = ZeroDivisionError("by zero")
    outcome = run_cli("infer", "a.mp4")
    assert outcome.code == 1
    assert outcome.stderr == "vp3d: error: unexpected ZeroDivisionError: by zero; add --debug to see where\n"
    assert "Traceback" in run_cli("infer", "a.mp4", "--debug").stderr


def test_ctrl_c_is_130_and_stops_all_videos(run_cli: RunCli, fake: FakePipeline) -> None:
    fake.errors["a.mp4"] = KeyboardInterrupt()  # type: ignore[assignment]
    outcome = run_cli("infer", "a.mp4", "b.mp4", "--quiet", "--out", ".")
    assert (outcome.code, outcome.stderr) == (130, "vp3d: error: stopped by Ctrl-C\n")
    assert len(fake.calls) == 1


def test_existing_render_is_found_before_the_work(run_cli: RunCli, fake: FakePipeline) -> None:
    Path("side.mp4").write_bytes(b"keep")
    outcome = run_cli("infer", "a.mp4", "--out", "p.npz", "--render", "side.mp4")
    assert outcome.code == 1
    assert "side.mp4" in outcome.stderr
    assert fake.calls == []
    assert Path("side.mp4").read_bytes() == b"keep"


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "vp3d_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "vp3d 0.1.0\n"


# Where outputs go.


def test_the_end_is_not_held_up_by_a_search_for_garbage() -> None:
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # runs after what is registered later
from vp3d_cli.cli.main import main
main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "True"


@pytest.mark.parametrize(
    ("video", "out", "expected"),
    [
        ("clips/walk.mp4", "pose.npz", "pose.npz"),
        ("clips/walk.mp4", "poses/", "poses/walk.npz"),
        ("clips/walk.mp4", "poses", "poses/walk.npz"),
        ("clips/walk.v2.mp4", "{stem}.npz", "walk.v2.npz"),
        ("clips/walk.v2.mp4", "out/{stem}", "out/walk.v2.npz"),
        ("clips/walk.mp4", "out/{stem}/pose.npz", "out/walk/pose.npz"),
        ("frames/", "{stem}.npz", "frames.npz"),
    ],
)
def test_place_of_a_pose_file(video: str, out: str, expected: str) -> None:
    assert plan_outputs([Path(video)], out, None) == [VideoOutputs(Path(video), Path(expected), None)]


def test_a_folder_that_exists_is_a_folder_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "v1.npz").mkdir()
    (job,) = plan_outputs([Path("a.mp4")], str(tmp_path / "v1.npz"), str(tmp_path))
    assert job == VideoOutputs(Path("a.mp4"), tmp_path / "v1.npz" / "a.npz", tmp_path / "a.mp4")


def test_a_folder_of_images_gives_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shot.1").mkdir()
    monkeypatch.chdir(tmp_path / "shot.1")
    assert plan_outputs([Path(".")], "{stem}.npz", None)[0].out == Path("shot.1.npz")


def test_no_two_results_share_a_file_and_none_replaces_a_video() -> None:
    with pytest.raises(ConfigError, match="2 results"):
        plan_outputs([Path("x/a.mp4"), Path("y/a.mp4")], "out/", None)
    with pytest.raises(ConfigError, match="one of the videos"):
        plan_outputs([Path("x/a.mp4"), Path("b.mp4")], "out/", "x/{stem}.mp4")
    with pytest.raises(ConfigError, match=r"\.npz"):
        plan_outputs([Path("a.mp4")], "pose.csv", None)


# Commands on real files.


def test_info_of_a_video(run_cli: RunCli, demo: Path) -> None:
    outcome = run_cli("info", demo, "--json")
    facts = json.loads(outcome.stdout)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert facts["frames"] == 230
    assert facts["frames_per_second"] == pytest.approx(30, abs=0.1)
    assert facts["sound"] is True


def test_weights_list_and_verify(run_cli: RunCli) -> None:
    names = {entry["name"] for entry in json.loads(run_cli("weights", "list", "--json").stdout)}
    assert {"movenet-thunder", "movenet-multipose", DEFAULT_WEIGHTS} <= names
    assert "movenet-thunder" in run_cli("weights", "list").stdout
    outcome = run_cli("weights", "verify")
    assert outcome.code == 0
    assert {line.split()[-1] for line in outcome.stdout.splitlines()} == names


def test_weights_add_then_verify_finds_a_changed_file(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"weights")
    outcome = run_cli("weights", "add", file, "--name", "mine", "--kind", "detector", "--licence", "MIT")
    assert outcome.code == 0
    added = Path(outcome.stdout.strip())
    assert added.read_bytes() == b"weights"
    assert "mine" in run_cli("weights", "list").stdout
    added.write_bytes(b"changed")
    outcome = run_cli("weights", "verify")
    assert outcome.code == 1
    assert len(outcome.stderr.splitlines()) == 1
    assert "mine" in outcome.stderr


def test_detectors(run_cli: RunCli) -> None:
    assert "movenet" in run_cli("detectors").stdout
    entries = {entry["name"]: entry for entry in json.loads(run_cli("detectors", "--json").stdout)}
    assert entries["movenet"]["problem"] is None
    assert entries["movenet"]["licence"] == "Apache-2.0"


def test_doctor_finds_this_machine_healthy(run_cli: RunCli) -> None:
    outcome = run_cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(outcome.stdout)}
    failed = [check for check in checks.values() if check["status"] == "FAIL"]
    assert (outcome.code, failed) == (0, [])
    assert {"vp3d", "python", "torch", "ffmpeg", "weights movenet-thunder", "detector movenet"} <= set(checks)


def test_doctor_fails_where_weights_are_damaged(run_cli: RunCli) -> None:
    folder = Path(os.environ["VP3D_HOME"]) / "weights"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{broken")
    outcome = run_cli("doctor")
    assert outcome.code == 1
    assert "FAIL" in outcome.stdout
    assert "manifest" in outcome.stdout


def test_infer_render_and_info_on_a_real_clip(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    pose, side = tmp_path / "p.npz", tmp_path / "side.mp4"
    outcome = run_cli("infer", short_clip, "--out", pose, "--render", side)
    assert outcome.code == 0, outcome
    assert outcome.stdout.splitlines() == [str(pose), str(side)]
    assert "frames/s" in outcome.stderr
    assert "mean confidence" in outcome.stderr
    with np.load(pose, allow_pickle=False) as file:
        assert file["joints_3d"].shape[1:] == (12, 17, 3)
    assert json.loads(run_cli("info", side, "--json").stdout)["frames"] == 12

    facts = json.loads(run_cli("info", pose, "--json").stdout)
    assert facts["frames"] == 12
    assert facts["people"] == len(facts["persons"]) >= 1
    assert facts["provenance"]["command"].startswith("vp3d infer ")

    again = tmp_path / "again.mp4"
    outcome = run_cli("render", pose, "--video", short_clip, "--out", again, "--height", 240, "--quiet")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"{again}\n", "")
    assert json.loads(run_cli("info", again, "--json").stdout)["size_wh"][1] == 240
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.mp4", "p.npz", "side.mp4"]


def test_bench_prints_every_stage(run_cli: RunCli, short_clip: Path) -> None:
    outcome = run_cli("bench", short_clip, "--repeats", 1, "--json", "--quiet")
    assert outcome.code == 0, outcome
    result = json.loads(outcome.stdout)
    stages = {row["stage"]: row["frames_per_second"] for row in result["stages"]}
    assert set(stages) == {"decode", "detect", "track and preprocess", "lift", "world", "draw", "encode", "end to end"}
    assert all(rate > 0 for rate in stages.values())
    assert result["ratio_to_detector"] == pytest.approx(stages["end to end"] / stages["detect"], rel=1e-6)
