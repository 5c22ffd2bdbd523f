"""Safe standard streams: closed or full streams, any encoding, no output of libraries."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

_HANDLER = "vp3d-escape"


@contextlib.contextmanager
def console(*, debug: bool) -> Iterator[None]:
    """Make the standard streams safe while a command runs.

    A stream that is closed goes nowhere (else the next file that is opened would take its number, and get what was
    meant for the terminal); characters that the encoding lacks are escaped; progress that cannot be printed does not
    stop the work.

    What libraries print besides (libpng, oneMKL, ONNX Runtime, NumPy's warnings) is kept off our stderr.

    Args:
        debug: let them print.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed()
    codecs.register_error(_HANDLER, _escape)
    sys.stdin = before[0] or open(os.devnull)  # noqa: SIM115 (for as long as the process lives)
    sys.stdout = _safe(before[1])
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, *before)
        if debug:
            sys.stderr = _Unbreakable(_safe(before[2]))
        else:
            sys.stderr = _Unbreakable(_safe(stack.enter_context(_own_stderr(before[2]))))
            stack.enter_context(_no_warnings())
        yield


def _restore(stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
    _let_go(sys.stdout)
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Hide Python's warnings, unless they have been made errors, as in tests."""
    with warnings.catch_warnings():
        if not any(action == "error" for action, *_ in warnings.filters):
            warnings.simplefilter("ignore")
        yield


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


@contextlib.contextmanager
def _own_stderr(stream: TextIO | None) -> Iterator[TextIO | None]:
    """Provide a separate stderr while file descriptor 2, which libraries use, is discarded.

    A stream with another descriptor is returned as it is.
    """
    try:
        is_two = stream is not None and stream.fileno() == 2
    except (OSError, ValueError):
        is_two = False
    if not is_two or stream is None:
        yield stream
        return
    ours, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    own = open(ours, "w", buffering=1, encoding=stream.encoding, errors=_HANDLER)  # noqa: SIM115 (it may not close)
    try:
        yield own
    finally:
        os.dup2(ours, 2)
        with contextlib.suppress(OSError):  # full, or its reader has left
            own.close()


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Codec error handler: escape characters that the encoding lacks.

    Bytes of a file name that is not UTF-8 are written unchanged.
    """
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
