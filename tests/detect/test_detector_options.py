"""Detector options on the command line."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import RunCli

from vp3d_cli.detect.base import DetectorInfo, load_detector, parse_detector
from vp3d_cli.errors import ConfigError
from vp3d_cli.plugins import DETECTORS


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("movenet", "movenet", {}),
        ("cpn:weights=/a/b.pth,boxes=movenet", "cpn", {"weights": "/a/b.pth", "boxes": "movenet"}),
        ("cpn:weights=a,b.pth", "cpn", {"weights": "a,b.pth"}),
        ("cpn:weights=a=b.pth,flip=no", "cpn", {"weights": "a=b.pth", "flip": "no"}),
        (r"cpn:weights=C:\x.pth", "cpn", {"weights": r"C:\x.pth"}),
        ("cpn: weights=x", "cpn", {"weights": "x"}),
        ("cpn:weights=", "cpn", {"weights": ""}),
    ],
)
def test_parse(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_detector(text) == (name, options)


@pytest.mark.parametrize("text", ["cpn:", "cpn:x.pth", "cpn:=x", "cpn:weights=a,weights=b"])
def test_parse_rejects_invalid_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^detector 'cpn:") as caught:
        parse_detector(text)
    assert "\n" not in str(caught.value)


class _Loaded:
    """Detector that stores the options of its loader."""

    name, sha256, batch_size = "loaded", "", 1

    def __init__(self, **options: Any) -> None:
        self.options = options


def _load(
    device: str,
    *,
    path: str = "",
    count: int = 1,
    share: float = 0.5,
    flip: bool = True,
    limit: int | None = None,
    plain="x",  # type: ignore[no-untyped-def]
) -> Any:
    return _Loaded(path=path, count=count, share=share, flip=flip, limit=limit, plain=plain)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        DETECTORS._registered, "loaded", DetectorInfo("loaded", "x", "MIT", _load, options={"count": 2})
    )


@pytest.mark.usefixtures("_registered")
def test_text_is_converted_to_annotated_types() -> None:
    loaded: Any = load_detector("loaded:path=7,count=3,share=0.25,flip=false,limit=9,plain=5")
    assert loaded.options == {"path": "7", "count": 3, "share": 0.25, "flip": False, "limit": 9, "plain": "5"}
    loaded = load_detector("loaded:flip=YES", count=4, limit=None)
    assert loaded.options == {"path": "", "count": 4, "share": 0.5, "flip": True, "limit": None, "plain": "x"}
    loaded = load_detector("loaded:count=3", count=5)
    assert loaded.options["count"] == 5
    loaded = load_detector("loaded")
    assert loaded.options["count"] == 2


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loaded:count=1.5", "detector loaded: option count: invalid value '1.5'; use a whole number"),
        ("loaded:share=much", "detector loaded: option share: invalid value 'much'; use a number"),
        ("loaded:flip=maybe", "detector loaded: option flip: invalid value 'maybe'; use true or false"),
        ("loaded:speed=1", "detector loaded has no option speed; it has path, count, share, flip, limit, plain"),
    ],
)
def test_invalid_values_raise(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_detector(text)
    assert str(caught.value) == message


def test_detectors_command_shows_how_options_are_given(run_cli: RunCli) -> None:
    shown = run_cli("detectors")
    assert shown.code == 0
    assert "--detector cpn:weights=CPN50_384x288.pth.tar,boxes=movenet" in shown.stdout.splitlines()
    help_text = run_cli("detectors", "--help").stdout
    assert "NAME:KEY=VALUE,KEY=VALUE" in help_text


def test_infer_names_missing_requirements(run_cli: RunCli, demo: Any, tmp_path: Any) -> None:
    failed = run_cli("infer", demo, "--detector", "cpn", "--out", tmp_path / "x.npz", "--quiet")
    assert failed.code == 1
    [line] = failed.error_lines
    assert line.startswith("vp3d: error: no weights 'cpn': neither a file nor a name in vp3d weights list; give them: ")
