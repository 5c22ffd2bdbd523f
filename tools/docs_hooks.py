"""Hooks of mkdocs: writes the command line reference from the commands, and cleans roles in docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

PLACE = "<!-- commands -->"
WIDTH = 100
# Docstrings name code as Sphinx does: :class:`~package.module.Name`.
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>(~?)([\w.]+)</code>")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of every command where a page has ``<!-- commands -->``."""
    return markdown.replace(PLACE, "\n".join(command_reference())) if PLACE in markdown else markdown


def on_page_content(html: str, **_: Any) -> str:
    """Drop Sphinx's roles, which Markdown does not know; ``~`` leaves the last part of a name."""
    return ROLE.sub(lambda role: f"<code>{role[2].rpartition('.')[2] if role[1] else role[2]}</code>", html)


def command_reference() -> Iterator[str]:
    """Markdown: a heading and the help text of each command."""
    from typer.main import get_command

    from vp3d_cli.cli.main import app

    yield from _reference(get_command(app), "vp3d", None)


def _reference(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.make_context(name.split()[-1], [], parent=parent, resilient_parsing=True, max_content_width=WIDTH)
    context.terminal_width = WIDTH
    members = getattr(command, "commands", {})
    if not members:
        yield from (f"## {name}", "", "```text", command.get_help(context).replace("`", "'"), "```", "")
    for member, inner in members.items():
        if not inner.hidden:
            yield from _reference(inner, f"{name} {member}", context)
