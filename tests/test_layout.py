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
# What every part may import: these modules, and the files of io that any part reads and writes files with.
FOUNDATION = {
    "metrics",
    "kinematics",
    "pose",
    "types",
    "skeletons",
    "camera",
    "errors",
    "weights",
    "plugins",
    "runtime",
}
SHARED_FILES = {"io.atomic", "io.json_text", "io.npz_rows", "io.restricted_pickle", "io.unpickler"}
STAGES = {"video", "detect", "track", "preprocess", "lift", "refine", "render", "io"}
FRONTS = {"cli", "__main__"}
MAX_FILES = 10
# Folders that hold one file per detector, format, command, recipe or data set.
ONE_FILE_EACH = {"detect", "cli", "io/keypoints", "io/poses", "paper/datasets"}
HEAVY = ("torch", "cv2", "openvino", "onnxruntime", "matplotlib", "scipy", "numpy", "rich")


def modules(top: str) -> Iterator[Path]:
    """The files of ``vp3d_cli.<top>``, a module or a package."""
    single = PACKAGE / f"{top}.py"
    yield from [single] if single.exists() else sorted((PACKAGE / top).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Modules of vp3d that a file imports anywhere, such as ``io.atomic``; ``""`` for the package itself."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {
            _module_of(name.removeprefix("vp3d_cli").lstrip(".")) for name in names if name.startswith("vp3d_cli")
        }
    return found


def _module_of(name: str) -> str:
    parts = name.split(".")
    while parts and not (PACKAGE.joinpath(*parts).is_dir() or PACKAGE.joinpath(*parts).with_suffix(".py").exists()):
        parts.pop()
    return ".".join(parts)


def imported_parts(path: Path) -> set[str]:
    """First-level names under ``vp3d_cli`` that a file imports anywhere, files that all parts share left out."""
    return {module.partition(".")[0] for module in imported_modules(path) - SHARED_FILES}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_imports_no_other_stage(stage: str) -> None:
    assert list(modules(stage))
    for path in modules(stage):
        foreign = imported_parts(path) - FOUNDATION - {stage, ""}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


def test_foundation_imports_only_itself() -> None:
    for name in sorted(FOUNDATION):
        for path in modules(name):
            foreign = imported_parts(path) - FOUNDATION - {""}
            assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"
    for name in sorted(SHARED_FILES):
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        assert imported_modules(path) <= {"errors", *SHARED_FILES}, f"{path.relative_to(ROOT)} imports more than errors"


@pytest.mark.parametrize(("part", "users"), [("jobs", FRONTS), ("paper", FRONTS), ("cli", FRONTS)])
def test_only_the_front_imports(part: str, users: set[str]) -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if top not in {part, *users}:
            assert part not in imported_parts(path), f"{path.relative_to(ROOT)} imports {part}"


def test_packages_import_each_other_one_way() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    imports = {top: set().union(*map(imported_parts, modules(top))) - {top, ""} for top in tops}
    while ready := [top for top, needed in imports.items() if not needed & set(imports)]:
        for top in ready:
            del imports[top]
    assert not imports, f"import each other in a circle: {imports}"


def test_packages_are_small() -> None:
    for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        name = folder.relative_to(PACKAGE).as_posix()
        files = [path for path in folder.glob("*.py") if not path.name.startswith("__")]
        if name not in ONE_FILE_EACH:
            assert len(files) <= MAX_FILES, f"{folder.relative_to(ROOT)} has {len(files)} files; {MAX_FILES} at most"


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


def test_version_is_in_one_place() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\n[tool.")[0]
    assert 'dynamic = ["version"]' in project
    assert re.search(r"^version\b", project, re.MULTILINE) is None
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {vp3d_cli.__version__}\n" in citation
