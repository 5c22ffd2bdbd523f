"""Configuration keys with a new name: files with the old one still work."""

from __future__ import annotations

from pathlib import Path

import pytest

from vp3d_cli.errors import ConfigError
from vp3d_cli.train.config import parse_config, read_config

OLD = '[data]\nmotion = ["m.npz"]\nhold_out = ["a"]\n[semi]\nfootage = ["old.npz"]\n'


def test_the_old_name_of_a_key_still_works_and_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OLD)
    notes: list[str] = []
    config = read_config(file, on_note=notes.append)
    assert config.semi.unlabelled == ("old.npz",)
    assert notes == [f"{file}: [semi] footage is now called unlabelled"]
    assert read_config(file) == config


def test_an_override_with_the_new_name_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OLD)
    assert read_config(file, {"semi": {"unlabelled": ["new.npz"]}}).semi.unlabelled == ("new.npz",)


def test_configurations_in_older_checkpoints_are_read() -> None:
    values = {"data": {"motion": ["m.npz"]}, "semi": {"footage": ["old.npz"]}}
    config = parse_config(values, "state.pt")
    assert config.semi.unlabelled == ("old.npz",)
    assert "footage" not in config.as_dict()["semi"]


def test_both_names_of_a_key_are_an_error() -> None:
    values = {"data": {"motion": ["m.npz"]}, "semi": {"footage": ["a"], "unlabelled": ["b"]}}
    with pytest.raises(ConfigError, match=r"\[semi\] footage is the old name of unlabelled; give unlabelled only"):
        parse_config(values, "mine.toml")
