"""Shared by the commands: option types, and printing of errors, warnings and tables.

Results (paths, tables, JSON) go to stdout; progress, summaries, warnings and errors to stderr.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors and results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
# Characters of an error or a warning: longer ones quote a file that nobody wants to read.
MAX_LINE = 460
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


# Options that had another name in earlier versions, which still works.
_RENAMED = {
    "--segment": "--chunk-minutes",
    "--patience": "--cluster-timeout",
    "--flip": "--tta",
    "--no-flip": "--no-tta",
}


def with_new_names(arguments: list[str]) -> list[str]:
    """The arguments of a command with old names of options replaced, each with a warning on stderr."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    renamed = list(arguments)
    for i, argument in enumerate(arguments[:end]):
        old, equals, value = argument.partition("=")
        if old in _RENAMED:
            renamed[i] = f"{_RENAMED[old]}{equals}{value}"
            print_warning(f"{old} is now called {_RENAMED[old]}")
    return renamed


def one_line(text: object) -> str:
    """Text with every run of white space, line breaks included, made one space."""
    return " ".join(str(text).split())


def printable(text: str) -> str:
    """One line that any terminal takes: control characters and bytes that are no text are written as escapes.

    A file's name or content could otherwise move the cursor, change colours or forge a line of ours.
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, length: int = MAX_LINE) -> str:
    """Text of at most ``length`` characters: what is too long loses its middle."""
    return text if len(text) <= length else f"{text[: length * 2 // 3]} ... {text[-length // 4 :]}"


def print_error(error: BaseException | str) -> None:
    """Print ``vp3d: error: ...`` to stderr, on one line; with ``--debug`` the traceback before it."""
    if isinstance(error, BaseException) and os.environ.get("VP3D_DEBUG"):
        traceback.print_exception(error)
    print(f"vp3d: error: {_message(error)}", file=sys.stderr)


def print_warning(message: str) -> None:
    """Print ``vp3d: warning: ...`` to stderr, on one line."""
    print(f"vp3d: warning: {_message(message)}", file=sys.stderr)


def _message(text: object) -> str:
    return shortened(printable(one_line(text)))


def format_table(rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """Rows as lines of aligned columns; the first row is the header, which a rule follows.

    Args:
        rows: cells, printed with ``str``; all rows are of one length.
        right: indices of the columns that are aligned to the right.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    cells.insert(1, ["-" * min(width, 40) for width in widths])
    lines = (
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
