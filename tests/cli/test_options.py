"""vp3d_cli/cli/options.py: options that are declared once, for every command that turns video into motion."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import RunCli

from vp3d_cli.cli import batch, infer, options
from vp3d_cli.errors import ConfigError
from vp3d_cli.pipeline.settings import InferSettings


@pytest.mark.parametrize("command", [infer.infer, batch.batch])
def test_commands_have_every_option_of_the_settings(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    shared = inspect.signature(options.make_settings).parameters
    assert [name for name in parameters if name in shared] == list(shared)  # together, in their order
    assert {name: parameters[name].default for name in shared} == {name: p.default for name, p in shared.items()}
    assert "settings" not in parameters


def test_a_command_gets_settings_and_what_it_declares_itself() -> None:
    got: dict[str, Any] = {}

    @options.with_settings()
    def command(
        video: str, *, loud: bool = False, settings: options.Settings, keypoints: str = "mine", last: int = 1
    ) -> None:
        got.update(video=video, loud=loud, settings=settings, keypoints=keypoints, last=last)

    parameters = inspect.signature(command).parameters
    assert list(parameters)[:3] == ["video", "loud", "detector"]
    assert list(parameters)[-4:] == ["keypoints", "layout", "joint_map", "last"]
    assert (parameters["keypoints"].annotation, parameters["keypoints"].default) == (str, "mine")

    given = {name: parameter.default for name, parameter in parameters.items()}
    command(**{**given, "video": "a.mp4", "start": "1:30", "smooth": "off", "keypoints": "theirs"})
    settings = got.pop("settings")
    assert (settings.start_s, settings.smooth, settings.keypoints) == (90.0, 0.0, "theirs")
    assert got == {"video": "a.mp4", "loud": False, "keypoints": "theirs", "last": 1}

    with pytest.raises(typer.BadParameter, match="must be later than --start"):
        command(**{**given, "start": "5", "end": "4"})


def test_every_setting_has_an_option() -> None:
    fields = [field.name for field in dataclasses.fields(InferSettings)]
    flags = {options.flag_of(field) for field in fields}
    assert len(flags) == len(fields)
    names = inspect.signature(options.make_settings).parameters
    assert flags == {f"--{name.replace('_', '-')}" for name in names}


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [  # settings, the same as options, what is said of them
    ({"height_m": 9.0}, {"height": "9.0"}, "{height_m} must be between 0.3 and 3 metres, got 9.0"),
    ({"max_people": 0}, {"max_people": 0}, "{max_people} must be at least 1, got 0"),
    ({"detect_every": 0}, {"detect_every": 0}, "{detect_every} must be at least 1, got 0"),
    (
        {"chunk_minutes": -1.0},
        {"chunk_minutes": -1.0},
        "{chunk_minutes} must be a positive number of minutes, got -1.0",
    ),
    ({"fov_deg": 300.0}, {"fov": 300.0}, "{fov_deg}: field of view must be between 1 and 179 degrees, got 300.0"),
    (
        {"intrinsics": (1.0, -1.0, 2.0, 3.0)},
        {"intrinsics": "1,-1,2,3"},
        "{intrinsics}: intrinsics must be finite with fx, fy > 0, got (1.0, -1.0, 2.0, 3.0)",
    ),
    (
        {"intrinsics": (1.0, 1.0, 2.0, 3.0), "fov_deg": 60.0},
        {"intrinsics": "1,1,2,3", "fov": 60.0},
        "give {intrinsics} or {fov_deg}, not both",
    ),
    (
        {"joint_map": "map.toml"},
        {"joint_map": Path("map.toml")},
        "{layout} and {joint_map} describe a keypoint file; give one with {keypoints}",
    ),
    (
        {"keypoints": "k.npz", "chunk_minutes": 1.0},
        {"keypoints": Path("k.npz"), "chunk_minutes": 1.0},
        "{detect_every} and {chunk_minutes} are for a detector; leave them out with {keypoints}",
    ),
]


@pytest.mark.parametrize(("settings", "typed", "says"), WRONG)
def test_a_wrong_setting_is_named_as_its_user_knows_it(
    settings: dict[str, Any], typed: dict[str, Any], says: str
) -> None:
    names = {field.name: field.name for field in dataclasses.fields(InferSettings)}
    with pytest.raises(ConfigError) as of_python:
        InferSettings(**settings)
    assert str(of_python.value) == says.format(**names)
    assert str(pickle.loads(pickle.dumps(of_python.value))) == says.format(**names)
    with pytest.raises(typer.BadParameter) as of_command:
        options.make_settings(**typed)
    assert of_command.value.message == says.format(**{name: options.flag_of(name) for name in names})


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["infer", "a.mp4", "--height", "9"], "--height must be between"),
        (
            ["batch", "clips", "--out", "poses", "--chunk-minutes", "-1"],
            "--chunk-minutes must be a positive number of minutes",
        ),
        (["evaluate", "--truth", "t.npz", "--pose", "p.npz", "--fov", "300"], "--fov: field of view must be between"),
        (["bench", "--device", "abacus"], "unknown device 'abacus'"),
    ],
)
def test_commands_name_the_flag(run_cli: RunCli, command: list[str], says: str) -> None:
    outcome = run_cli(*command)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert f"Invalid value: {says}" in outcome.error_lines[-1]


@pytest.mark.parametrize(
    ("old", "new"),
    [("--segment", "--chunk-minutes"), ("--patience", "--cluster-timeout"), ("--segment=-1", "--chunk-minutes")],
)
def test_old_names_of_options_work_with_a_warning(run_cli: RunCli, old: str, new: str) -> None:
    value = [] if "=" in old else ["-1"]
    outcome = run_cli("batch", "clips", "--out", "poses", old, *value)
    assert outcome.code == 2
    assert outcome.error_lines[0] == f"vp3d: warning: {old.partition('=')[0]} is now called {new}"
    assert new in outcome.stderr.split("\n", 1)[1]
    assert old.partition("=")[0] not in run_cli("batch", "--help").stdout


def test_heights_of_one_or_several_people() -> None:
    assert options.make_settings(height="1.82").height_m == 1.82
    several = options.make_settings(height="1=1.82,2=1.45")
    assert several.height_of(2) == (1.45, True)
    assert several.height_of(3) == (1.7, False)
    assert options.make_settings(height="1.82").height_of(1, main=1) == (1.82, True)
    assert options.make_settings(height="1.82").height_of(2, main=1) == (1.82, False)
    for wrong in ("tall", "1=", "1=tall", "a=1.7"):
        with pytest.raises(typer.BadParameter, match="invalid height"):
            options.make_settings(height=wrong)
    with pytest.raises(typer.BadParameter, match="must be between"):
        options.make_settings(height="2=9")


@pytest.mark.parametrize(
    ("command", "option"), [("lift", "--start"), ("lift", "--detector"), ("detect", "--smooth"), ("detect", "--person")]
)
def test_an_option_of_the_other_half_is_refused_not_ignored(run_cli: RunCli, command: str, option: str) -> None:
    outcome = run_cli(command, "file.npz", option, "1")
    assert outcome.code == 2
    assert f"No such option: {option}" in outcome.stderr


def test_every_setting_belongs_to_detection_or_lifting() -> None:
    names = [*options.DETECTION_OPTIONS, *options.LIFTING_OPTIONS]
    assert set(names) == set(inspect.signature(options.make_settings).parameters)
    assert [name for name in set(names) if names.count(name) > 1] == ["device"]
