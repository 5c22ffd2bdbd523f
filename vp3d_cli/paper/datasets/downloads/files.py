"""Files of a download in a folder, in a zip or tar archive, or in archives within a folder.

Nothing is unpacked to disk; files are read as bytes.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vp3d_cli.errors import InputError

_TARS = (".tgz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
# Exceptions of damaged archives.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


@dataclass(frozen=True)
class SourceFile:
    """File of a download.

    Attributes:
        where: path and archive, for messages.
        path: path inside the download, including the name of the archive.
        data: content.
    """

    where: str
    path: PurePosixPath
    data: bytes


def read_files(source: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[SourceFile]:
    """Yield the files of a download whose path is ``wanted``, in the order of their names.

    Raises:
        InputError: the source does not exist, or an archive is damaged (the message names it).
    """
    if source.is_dir():
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            inside = PurePosixPath(file.relative_to(source).as_posix())
            if _is_archive(file):
                yield from _members(file, inside, wanted)
            elif wanted(inside):
                yield SourceFile(str(file), inside, _bytes(file))
    elif _is_archive(source):
        yield from _members(source, PurePosixPath(source.name), wanted)
    elif source.is_file():
        raise InputError(f"{source}: neither a folder nor a zip or tar archive; give its folder")
    else:
        raise InputError(f"no such file or folder: {source}")


def _is_archive(file: Path) -> bool:
    return file.name.lower().endswith((".zip", *_TARS))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error


def _members(file: Path, inside: PurePosixPath, wanted: Callable[[PurePosixPath], bool]) -> Iterator[SourceFile]:
    read = _zip_members if file.name.lower().endswith(".zip") else _tar_members
    try:
        for name, data in read(file, lambda member: wanted(inside / member)):
            yield SourceFile(f"{file}: {name}", inside / name, data)
    except _BROKEN as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{file}: damaged archive ({what}); download it again") from error


def _zip_members(file: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/") and wanted(PurePosixPath(name)):
                yield name, archive.read(name)


def _tar_members(file: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(file) as archive:
        for member in archive:
            stream = archive.extractfile(member) if wanted(PurePosixPath(member.name)) else None
            if stream is not None:
                yield member.name, stream.read()


def read_mat(file: SourceFile, *names: str) -> dict[str, Any]:
    """Read arrays of a MATLAB file by name; missing ones are left out.

    Raises:
        InputError: the file is damaged, or of MATLAB's version 7.3.
    """
    from scipy.io import loadmat

    stream: Any = io.BytesIO(file.data)
    try:
        values = loadmat(stream, variable_names=list(names))
    except NotImplementedError as error:
        raise InputError(f"{file.where}: saved by MATLAB as version 7.3; save it with -v7") from error
    except Exception as error:  # scipy raises any kind of error from a damaged file
        raise damaged(file, error) from error
    return {name: values[name] for name in names if name in values}


def damaged(file: SourceFile, error: Exception) -> InputError:
    """Create the error for a file that a library cannot read."""
    what = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{file.where}: damaged ({what}); make or download it again")
