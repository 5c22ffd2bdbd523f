"""vp3d_cli/commands/options.py: options that are declared once, for every command that turns video into motion."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

from vp3d_cli.commands import batch, infer, options


@pytest.mark.parametrize("command", [infer.infer, batch.batch])
def test_commands_have_every_option_of_the_settings(command: Any) -> None:
    parameters = inspect.signature(command).parameters
    shared = inspect.signature(options.make_settings).parameters
    assert [name for name in parameters if name in shared] == list(shared)  # together, in their order
    assert {name: parameters[name].default for name in shared} == {name: p.default for name, p in shared.items()}
    assert "settings" not in parameters


def test_a_command_gets_settings_and_what_it_declares_itself() -> None:
    got: dict[str, Any] = {}

    @options.with_settings
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
