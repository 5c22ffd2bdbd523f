"""Standard input, output and error made safe: closed, full, in any encoding, and ours alone."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_HANDLER = "vp3d-escape"


@contextlib.contextmanager
def console(*, quiet_libraries: bool) -> Iterator[None]:
    """Make the standard streams safe while a command runs.

    A stream that is closed goes nowhere (else the next file that is opened would take its number, and get what was
    meant for the terminal); characters that the encoding lacks are escaped; progress that cannot be printed does not
    stop the work.

    Args:
        quiet_libraries: keep what libraries written in C print (libpng, oneMKL, ONNX Runtime) off our stderr.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed()
    codecs.register_error(_HANDLER, _escape)
    sys.stdin = before[0] or open(os.devnull)  # noqa: SIM115 (for as long as the process lives)
    sys.stdout = _safe(before[1])
    errors = _safe(_own_stderr() if quiet_libraries and before[2] is not None else before[2])
    sys.stderr = _Unbreakable(errors)
    try:
        yield
    finally:
        _let_go(sys.stdout)
        sys.stdin, sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open the null device in place of the first three descriptors where they are closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _safe(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)
    return stream


def _own_stderr() -> TextIO:
    """A stderr of our own, after which the descriptor 2 of everyone else leads nowhere."""
    ours = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return open(ours, "w", buffering=1, encoding=encoding, errors=_HANDLER)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of a name that is not UTF-8 as they are, and other characters that the encoding lacks escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in part):
        return bytes(ord(character) - 0xDC00 for character in part), error.end
    return part.encode("ascii", "backslashreplace"), error.end


def _let_go(stream: TextIO) -> None:
    """Let nothing be written as Python ends: the reader may have left, and it would complain."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())


class _Unbreakable:
    """A stderr that drops what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
