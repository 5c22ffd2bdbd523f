"""Motion recording with the skeleton of its file, and a line reader for text formats."""

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
    """Motion of one skeleton, with any joints, unit and up axis.

    Dimensions: F frames, N nodes (joints, and the ends of the outermost bones).

    Attributes:
        path: file that it was read from.
        fps: frames per second.
        names: N node names.
        parents: N indices, -1 for the root; a parent comes before its children.
        positions: (F, N, 3) in the unit and axes of the file.
        rotations: (F, N, 3, 3) axes of the node to axes of the file.
    """

    path: Path
    fps: float
    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: DoubleArray
    rotations: DoubleArray


class Lines:
    """Iterator over the numbered lines of a text file, without comments and blank lines.

    Args:
        path: text file.
        comment: prefix of comments, which end with the line; none if empty.

    Raises:
        InputError: the file cannot be read, or is not a text file.
    """

    def __init__(self, path: Path, comment: str = "") -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8", errors="strict")
        except UnicodeDecodeError:
            # Names in old files may be in any code page; numbers and keywords are ASCII.
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
        """Return the next line; ``wanted`` describes it in the error message if there is none."""
        if self._next >= len(self._lines):
            raise self.error(None, f"the file ends where {wanted} should be; is it cut off?")
        self._next += 1
        return self._lines[self._next - 1]

    def peek(self) -> str:
        """Return the next line without advancing; empty at the end of the file."""
        return self._lines[self._next][1] if self._next < len(self._lines) else ""

    def rest(self) -> list[tuple[int, str]]:
        """Return all remaining lines."""
        lines, self._next = self._lines[self._next :], len(self._lines)
        return lines

    def error(self, number: int | None, message: str) -> InputError:
        """Create an error with the line number; the last line if the number is None."""
        if number is None:
            number = self._lines[-1][0] if self._lines else 1
        return InputError(f"{self.path} line {number}: {message}")

    def numbers(self, number: int, words: Sequence[str], count: int, what: str) -> list[float]:
        """Parse exactly ``count`` finite numbers.

        Raises:
            InputError: there are more or fewer, or a word is not a finite number.
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
    """(F, 3, 3) rotations by (F,) radians about the axis ``x``, ``y`` or ``z``."""
    i = AXES.index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    c, s = np.cos(radians), np.sin(radians)
    out = np.zeros((len(radians), 3, 3))
    out[:, i, i] = 1.0
    out[:, j, j] = out[:, k, k] = c
    out[:, j, k], out[:, k, j] = -s, s
    return out
