"""Files: what a folder holds, whether two have the same content; written under another name, renamed when whole."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vp3d_cli.errors import OutputError

# The images that a folder of images, which counts as one video, may consist of.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_CHUNK = 1 << 20


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """What to sort names by, so that ``img2`` comes before ``img10``."""
    # re.split puts digits at the odd places, so numbers are only ever compared with numbers.
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def is_image(name: str) -> bool:
    """Whether a file in a folder of images is one of them, by its name.

    Hidden ones are not: macOS puts a ``._name.jpg`` that is no image beside every image on foreign disks.
    """
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def list_content(folder: Path) -> list[Path]:
    """The images of a folder, by name; of one without images (2D keypoints, say) all files.

    Raises:
        OSError: the folder cannot be read.
    """
    entries = sorted(folder.iterdir())
    return [entry for entry in entries if is_image(entry.name)] or [entry for entry in entries if entry.is_file()]


def content_sha256(path: Path, beat: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file; of a folder, that of the names and contents of its files.

    Args:
        path: file or folder.
        beat: called after every MB: a big file on a slow disk takes its time.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    is_folder = path.is_dir()
    for file in list_content(path) if is_folder else [path]:
        if is_folder:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                beat()
    return digest.hexdigest()


def modification_of(path: Path) -> dict[str, Any]:
    """Size in bytes and time of modification of a file, or of the images in a folder: ``size``, ``mtime``.

    Raises:
        OSError: it is not there.
    """
    if not path.is_dir():
        status = path.stat()
        return {"size": status.st_size, "mtime": str(status.st_mtime_ns)}
    size, digest = 0, hashlib.sha256()
    for file in list_content(path):
        status = file.stat()
        size += status.st_size
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return {"size": size, "mtime": digest.hexdigest()}


def fingerprint(path: Path, beat: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """What a file or folder is known by later: ``size``, ``mtime`` and ``sha256``; reads it all.

    Args:
        path: file or folder.
        beat: see :func:`content_sha256`.

    Raises:
        OSError: it cannot be read.
    """
    return {**modification_of(path), "sha256": content_sha256(path, beat)}


def check_target(path: Path, overwrite: bool) -> None:
    """Find out before hours of work whether a file could be written: :func:`replacing` could begin.

    Raises:
        OutputError: its folder is missing or not writable, it is a folder itself, or it exists and ``overwrite``
            is not set.
    """
    with _told_of(path):
        _check_place(path, overwrite)
        # To try is the only way to know: permissions mean nothing to root, nor to many a network disk.
        partial = _partial_of(path)
        partial.touch()
        partial.unlink()


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
    with _told_of(path):
        _check_place(path, overwrite)
        partial = _partial_of(path)
        try:
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a full network disk may say so only now
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _check_place(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it or choose another")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name inside it")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn whatever the system says of a file into an :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "not writable; choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; choose a shorter one"
    return f"cannot be written ({error.strerror or error}); choose another folder"
