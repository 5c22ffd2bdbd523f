"""A motion as a skeleton file has it: any joints, any unit, any axis up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.types import DoubleArray

AXES = "xyz"


@dataclass(frozen=True)
class Recording:
    """One motion of one skeleton; F frames, N nodes (joints, and the ends of the outermost bones).

    Attributes:
        path: where it was read.
        fps: frames per second.
        names: N names.
        parents: N indices, -1 for the root; a parent comes before its children.
        positions: (F, N, 3) in the file's unit and axes.
        rotations: (F, N, 3, 3) of each node's own axes to the file's.
    """

    path: Path
    fps: float
    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: DoubleArray
    rotations: DoubleArray


class Lines:
    """The lines of a text file, with their numbers, without comments and blank lines.

    Args:
        path: the file.
        comment: what begins a comment, which reaches to the end of the line; none if empty.

    Raises:
        InputError: the file cannot be read, or is not text.
    """

    def __init__(self, path: Path, comment: str = "") -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8", errors="strict")
        except UnicodeDecodeError:
            # Names in old files are in whatever code page the program ran in; numbers and keywords are ASCII.
            text = path.read_bytes().decode("latin-1")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        if "\0" in text:
            raise InputError(f"{path} is not a text file")
        self._lines: list[tuple[int, str]] = []
        for number, line in enumerate(text.splitlines(), start=1):
            content = line.split(comment, 1)[0].strip() if comment else line.strip()
            if content:
                self._lines.append((number, content))
        self._next = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while self._next < len(self._lines):
            self._next += 1
            yield self._lines[self._next - 1]

    def next(self, wanted: str) -> tuple[int, str]:
        """The next line; ``wanted`` says what should be there, for the message if there is none."""
        if self._next >= len(self._lines):
            raise self.error(None, f"the file ends where {wanted} should be; is it cut off?")
        self._next += 1
        return self._lines[self._next - 1]

    def peek(self) -> str:
        """The next line without taking it; empty at the end."""
        return self._lines[self._next][1] if self._next < len(self._lines) else ""

    def rest(self) -> list[tuple[int, str]]:
        """All lines that are left."""
        lines, self._next = self._lines[self._next :], len(self._lines)
        return lines

    def error(self, number: int | None, message: str) -> InputError:
        """An error that says where: the line's number, or the end of the file."""
        if number is None:
            number = self._lines[-1][0] if self._lines else 1
        return InputError(f"{self.path} line {number}: {message}")

    def numbers(self, number: int, words: Sequence[str], count: int, what: str) -> list[float]:
        """Exactly ``count`` finite numbers.

        Raises:
            InputError: there are more or fewer, or something else.
        """
        if len(words) != count:
            raise self.error(number, f"{what} must be {count} numbers, found {len(words)}")
        try:
            values = [float(word) for word in words]
        except ValueError:
            bad = next(word for word in words if not _is_number(word))
            raise self.error(number, f"{what}: {bad[:30]!r} is not a number") from None
        if not np.isfinite(values).all():
            raise self.error(number, f"{what}: a value is not finite; cut or repair the motion")
        return values


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def axis_rotation(axis: str, radians: DoubleArray) -> DoubleArray:
    """(F, 3, 3) rotations by (F,) angles about ``x``, ``y`` or ``z``."""
    i = AXES.index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    c, s = np.cos(radians), np.sin(radians)
    out = np.zeros((len(radians), 3, 3))
    out[:, i, i] = 1.0
    out[:, j, j] = out[:, k, k] = c
    out[:, j, k], out[:, k, j] = -s, s
    return out
