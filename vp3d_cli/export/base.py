"""What an export format is, and how every format writes its file: whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vp3d_cli.errors import OutputError
from vp3d_cli.types import Pose3D


@dataclass(frozen=True)
class Exporter:
    """One format that a pose can be written in.

    Attributes:
        name: how the command line calls it.
        suffix: the file name ending that stands for it, with the dot.
        summary: one line for people who choose a format.
        write: ``write(pose, path, overwrite)``.

    ``write`` raises :class:`OutputError` if the file exists and ``overwrite`` is not set, or cannot be written.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[Pose3D, Path, bool], None]


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
