"""Code in the documentation: examples marked to run are run, all others are checked against the code.

A block that follows the line ``<!-- run -->`` is run, in a folder that holds ``walk.mp4`` (the start of the example
clip) and ``pose.npz``. The blocks of a page share their folder and their variables.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from vp3d_cli.cli.common import with_new_names
from vp3d_cli.cli.main import app, main
from vp3d_cli.refine.rig import add_rigs
from vp3d_cli.testing import example_pose
from vp3d_cli.video import find_ffmpeg

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = "<!-- run -->"
CLIP_SECONDS = 0.7
CLIP_HEIGHT = 360
# A block of code between fences, and the line before it.
BLOCK = re.compile(r"^([^\n]*)\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code on a page."""

    language: str
    code: str
    run: bool


def blocks_of(page: Path) -> list[Block]:
    """All blocks of code on a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(language, code, before.strip() == RUN) for before, language, code in BLOCK.findall(text)]


def commands_in(code: str) -> Iterator[list[str]]:
    """The ``vp3d`` commands of a block of shell code, as lists of arguments."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["vp3d"]:
            yield words[1:]


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


EXECUTABLE = [page for page in PAGES if any(block.run for block in blocks_of(page))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples begin with."""
    folder = tmp_path_factory.mktemp("examples")
    cut = ["-v", "error", "-i", str(ROOT / "examples/demo.mp4"), "-t", str(CLIP_SECONDS)]
    small = ["-an", "-vf", f"scale=-2:{CLIP_HEIGHT}", str(folder / "walk.mp4")]
    subprocess.run([find_ffmpeg(), *cut, *small], check=True)
    add_rigs(example_pose()).save(folder / "pose.npz")
    return folder


@pytest.mark.parametrize("page", EXECUTABLE, ids=page_name)
def test_examples_run(page: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {"__name__": "example"}
    for block in blocks_of(page):
        if block.run and block.language == "python":
            exec(compile(block.code, page_name(page), "exec"), variables)
        elif block.run:
            before = set(tmp_path.iterdir())
            run_commands(block.code)
            assert set(tmp_path.iterdir()) - before or "--out" not in block.code, block.code


def run_commands(code: str) -> None:
    commands = list(commands_in(code))
    assert commands, f"a block that is to be run has no vp3d command:\n{code}"
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code in (0, None), f"vp3d {shlex.join(command)}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_exist(page: Path) -> None:
    shell = [block.code for block in blocks_of(page) if block.language in ("sh", "")]
    indented = re.findall(r"(?:^    .*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    for code in [*shell, *(textwrap.dedent(part) for part in indented if "    vp3d " in part)]:
        for command in commands_in(code.replace("$ vp3d", "vp3d")):
            check_command(command)


@cache
def commands() -> Any:
    return get_command(app)


def check_command(words: list[str]) -> None:
    """See that a command and its options exist; what they are given is not looked at."""
    command: Any = commands()
    arguments = with_new_names(words)
    assert arguments == words, f"vp3d {shlex.join(words)} uses an old name"
    while members := getattr(command, "commands", {}):
        known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
        arguments = [word for word in arguments if word not in known]
        if not arguments:
            return
        assert arguments[0] in members, f"vp3d {shlex.join(words)}: no such command"
        command, arguments = members[arguments[0]], arguments[1:]
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
    for word in arguments:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option):
            assert option in known, f"vp3d {shlex.join(words)}: no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_compiles_and_its_imports_exist(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.code, page_name(page))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vp3d_cli"):
                    module = importlib.import_module(node.module or "")
                    for alias in node.names:
                        assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
