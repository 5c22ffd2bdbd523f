"""Files appear under their name when they are whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vp3d_cli.errors import OutputError


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` and rename it to ``path`` once the block has ended well.

    Raises:
        OutputError: the folder is missing or not writable, the file exists and ``overwrite`` is not set, or the disk
            is full.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it or choose another")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name inside it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error
    finally:
        partial.unlink(missing_ok=True)
