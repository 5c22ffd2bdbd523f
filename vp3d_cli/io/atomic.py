"""Safe file operations: atomic writes, overwrite checks, modification marks, content hashes.

A file is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from vp3d_cli.errors import OutputError

# The images that a folder of images, which counts as one video, may consist of.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_CHUNK = 1 << 20


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key for natural order: ``img2`` comes before ``img10``."""
    # re.split puts digits at the odd places, so numbers are only ever compared with numbers.
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def is_image(name: str) -> bool:
    """Whether a file in a folder of images is one of them, by its name.

    Hidden ones are not: macOS puts a ``._name.jpg`` that is no image beside every image on foreign disks.
    """
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Other kinds are refused: reading a named pipe would block, and a device may have no end.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    check_regular(path)
    return open(path, "rb")


def check_regular(path: Path) -> None:
    """Check that a path names a regular file, before it is opened.

    Raises:
        OSError: there is nothing, or a pipe, a device, a socket or a folder.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.ENODEV, "it is a pipe, a device or a socket, not a file", str(path))


def list_content(folder: Path) -> list[Path]:
    """List the images of a folder by name; all files if it has no images (2D keypoints).

    Raises:
        OSError: the folder cannot be read.
    """
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if entry.is_file()]
    return [entry for entry in files if is_image(entry.name)] or files


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
        with open_regular(file) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                beat()
    return digest.hexdigest()


def modification_of(path: Path) -> dict[str, Any]:
    """Return ``size`` (bytes) and ``mtime`` of a file, or of the images in a folder.

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
    """Fingerprint of a file or folder: ``size``, ``mtime`` and ``sha256``; reads all content.

    Args:
        path: file or folder.
        beat: see :func:`content_sha256`.

    Raises:
        OSError: it cannot be read.
    """
    return {**modification_of(path), "sha256": content_sha256(path, beat)}


def protect(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Make :func:`check_target` and :func:`replacing` refuse to replace these files.

    A file is recognised under any path that leads to it.

    The command line names what a command reads, so that none destroys its own input; what was named before is
    forgotten.
    """
    _protected.clear()
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                _protected.add((status.st_dev, status.st_ino))


_protected: set[tuple[int, int]] = set()


def check_target(path: Path, overwrite: bool) -> None:
    """Check that :func:`replacing` could write a file, before hours of work.

    Raises:
        OutputError: its folder is missing or not writable, it is a folder itself or no file, it is read by this
            command, or it exists and ``overwrite`` is not set.
    """
    with _told_of(path):
        _check_place(path, overwrite)
        # To try is the only way to know: permissions mean nothing to root, nor to many a network disk.
        file, partial = _open_partial(path)
        file.close()
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
    """Open a temporary file beside ``path``, and rename it to ``path`` when the block succeeds.

    If the block raises, whatever it raises, nothing is left behind and an older file at ``path`` stays as it was.

    Raises:
        OutputError: as :func:`check_target`, or the disk is full.
    """
    with _told_of(path):
        _check_place(path, overwrite)
        file, partial = _open_partial(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a full network disk may say so only now
            _check_place(path, overwrite)  # someone else may have written it meanwhile
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def temporary_name(folder: Path) -> Path:
    """Return a new temporary name beside a result.

    The name holds the process that made it, so that :func:`remove_leftovers` can remove it after a crash.
    """
    return folder / f"{_PREFIX}{_machine()}-{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}"


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders left by killed processes of this machine.

    Each folder is searched once per process.
    """
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            owner = _LEFTOVER.fullmatch(entry.name)
            if owner and owner[1] == _machine() and not _is_alive(int(owner[2])):
                _remove(Path(entry.path), entry.is_dir(follow_symlinks=False))


_PREFIX, _SUFFIX = ".vp3d-", ".part"
_LEFTOVER = re.compile(rf"{re.escape(_PREFIX)}([0-9a-f]{{8}})-(\d{{1,10}})-[0-9a-f]{{12}}{re.escape(_SUFFIX)}")
_cleaned: set[Path] = set()


@functools.cache
def _machine() -> str:
    """Eight digits for this machine: a disk may be shared, process numbers are not."""
    return hashlib.sha256(socket.gethostname().encode("utf-8", "replace")).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # there, the signal 0 ends a process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


def _remove(path: Path, is_folder: bool) -> None:
    if is_folder:
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _open_partial(path: Path) -> tuple[BinaryIO, Path]:
    remove_leftovers(path.parent)
    partial = temporary_name(path.parent)
    # "x" creates it: a link that someone laid there is not followed.
    return open(partial, "xb"), partial


def _check_place(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it or choose another")
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{path}: is a folder; give a file name inside it")
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{path}: is a device, a pipe or a socket, not a file; give another name")
    if (status.st_dev, status.st_ino) in _protected:
        raise OutputError(f"{path}: is read by this command; give the result another name")
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or pass --overwrite")


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Convert an :class:`OSError` about a file to an :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: {_reason(error)}") from error
    except ValueError as error:
        if "null" not in str(error):
            raise
        raise OutputError(f"{path}: is no file name; choose another") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "not writable; choose another folder"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; choose a shorter one"
    return f"cannot be written ({error.strerror or error}); choose another folder"
