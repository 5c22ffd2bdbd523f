"""The rules that keep the map of the project true: who may import whom, and what is loaded when."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vp3d_cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vp3d_cli"
# What every stage may import. io.atomic, io.npz_rows and io.restricted_pickle are how any part reads and writes files.
FOUNDATION = {"types", "skeletons", "camera", "kinematics", "errors", "weights", "plugins", "runtime"}
SHARED_FILES = {"io.atomic", "io.npz_rows", "io.restricted_pickle"}
STAGES = {"video", "detect", "track", "preprocess", "lift", "refine", "render", "io"}
HEAVY = ("torch", "cv2", "onnxruntime", "matplotlib", "scipy", "numpy", "rich")


def modules(top: str) -> Iterator[Path]:
    """The files of ``vp3d_cli.<top>``, a module or a package."""
    single = PACKAGE / f"{top}.py"
    yield from [single] if single.exists() else sorted((PACKAGE / top).rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """First-level names under ``vp3d_cli`` that a file imports anywhere, ``""`` for the package itself."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "vp3d_cli":
                top = rest.partition(".")[0]
                parts.add(top if (PACKAGE / top).is_dir() or (PACKAGE / f"{top}.py").exists() else "")
    return parts


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_imports_no_other_stage(stage: str) -> None:
    for path in modules(stage):
        foreign = imported_parts(path) - FOUNDATION - {stage, ""}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_every_stage_is_there() -> None:
    missing = [stage for stage in sorted(STAGES - {"keypoint_files"}) if not list(modules(stage))]
    assert not missing


def test_foundation_imports_only_itself() -> None:
    for name in sorted(FOUNDATION):
        for path in modules(name):
            foreign = imported_parts(path) - FOUNDATION - {""}
            assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_what_a_batch_uses_does_not_import_the_batch() -> None:
    users = {"batch", "bench", "commands"}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in users:
            assert "batch" not in imported_parts(path), f"{path.relative_to(ROOT)} imports batch"


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    front = {"cli", "commands", "progress", "__main__"}
    for path in sorted(PACKAGE.rglob("*.py")):
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if top not in front:
            back = imported_parts(path) & front
            assert not back, f"{path.relative_to(ROOT)} imports {sorted(back)}"


def loaded_after(code: str) -> set[str]:
    """Which heavy libraries a new Python has loaded after ``code``."""
    show = f"import sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["vp3d_cli", "vp3d_cli.cli.main"])
def test_import_is_light(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_help_is_light() -> None:
    code = """
import contextlib, io
from vp3d_cli.cli.main import main
for arguments in (["--help"], ["infer", "--help"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
"""
    assert loaded_after(code) == set()


def test_public_names_load_on_first_use() -> None:
    assert loaded_after("from vp3d_cli import Vp3dError") == set()
    for name in vp3d_cli.__all__:
        assert getattr(vp3d_cli, name) is not None
    assert dir(vp3d_cli) == sorted(vp3d_cli.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = vp3d_cli.no_such_name


def test_version_is_that_of_the_project_file() -> None:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    assert vp3d_cli.__version__ == found[1]
