"""Writing files: checked before the work starts, written under another name, renamed when whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vp3d_cli.errors import OutputError


def check_target(path: Path, overwrite: bool) -> None:
    """Find out before hours of work whether a file could be written.

    Raises:
        OutputError: its folder is missing or not writable, it is a folder itself, or it exists and ``overwrite``
            is not set.
    """
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it or choose another")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name inside it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable; choose another")


def make_folder(folder: Path) -> None:
    """Make the folder of results, if its parent is there.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder ({error.strerror or error}); choose another") from error


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file under a temporary name beside ``path``; rename it to ``path`` once the block has ended well.

    If the block raises, whatever it raises, nothing is left behind and an older file at ``path`` stays as it was.

    Raises:
        OutputError: as :func:`check_target`, or the disk is full.
    """
    check_target(path, overwrite)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a full network disk may say so only now
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: {_reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "not writable; choose another folder"
    return f"cannot be written ({error.strerror or error}); choose another folder"
