"""Numpy archives (``.npz``): opened with bounds on what they may hold, written and read row by row.

A zip member of a kilobyte can hold a gigabyte, and an array's header can claim any shape. All is compared with the size
of the file before memory is allocated for it.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from vp3d_cli.io.atomic import open_regular

# One date for all, the earliest that a zip file can have: the same arrays give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


# What numpy and zipfile raise on archives that are cut short, damaged, encrypted, or ask for more memory than there is.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError, KeyError, IndexError, OSError, RuntimeError,
    MemoryError, OverflowError,
)  # fmt: skip
# All members together have at most so many times the bytes of the archive: rows of NaN shrink to a hundredth, zeros to
# a thousandth.
_MOST_COMPRESSED = 100
# Below this, any ratio will do.
_SMALL_BYTES = 256 << 20
_MAX_MEMBERS = 10_000
# numpy refuses longer headers only after it has read them.
_MAX_HEADER_BYTES = 1 << 16


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose members are few enough and small enough to be read.

    Raises:
        ValueError: they are not, or two have one name.
        zipfile.BadZipFile: not an archive.
        OSError: it cannot be opened, or is not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            _check_members(archive.infolist(), size)
            yield archive


@contextmanager
def open_arrays(path: Path) -> Iterator[NpzFile]:
    """Open an archive of arrays, as ``numpy.load`` does without pickle; each array's header is checked first.

    Raises:
        ValueError: an array's shape does not fit its bytes, or see :func:`open_zip`.
        zipfile.BadZipFile, OSError: see :func:`open_zip`.
    """
    with open_zip(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                _check_member(archive, member)
    with np.load(path, allow_pickle=False) as arrays:
        if not isinstance(arrays, NpzFile):
            raise ValueError("not an archive of arrays")
        yield arrays


def _check_members(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    if len(members) > _MAX_MEMBERS:
        raise ValueError(f"{len(members)} arrays, more than any file of vp3d has")
    if len({member.filename for member in members}) != len(members):
        raise ValueError("two arrays have one name")
    total = sum(member.file_size for member in members)
    if total > _SMALL_BYTES + _MOST_COMPRESSED * size:
        raise ValueError(f"{total / 1e9:.1f} GB packed into {size / 1e6:.1f} MB")


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        try:
            read_header(file, member.file_size)
        except ValueError as error:
            raise ValueError(f"{member.filename[:80].removesuffix('.npy')}: {error}") from error


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in numpy's format: shape, whether in Fortran's order, and type.

    Args:
        file: at its start.
        size: bytes of the array with its header.

    Raises:
        ValueError: not in that format, or the values do not fit into so many bytes.
    """
    version = npy.read_magic(file)
    start = file.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(start, "little")
    if version not in ((1, 0), (2, 0), (3, 0)) or length > _MAX_HEADER_BYTES:
        raise ValueError("not an array in numpy's format")
    header = io.BytesIO(start + file.read(length))
    try:
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(header)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError, IndexError, OverflowError):
        raise ValueError("a header that is not numpy's") from None
    count = math.prod(shape)
    if min(shape, default=0) < 0 or (count and not dtype.itemsize and count > 1):
        raise ValueError(f"impossible shape {str(shape)[:80]} of {dtype}")
    taken = 6 + 2 + len(start) + length + count * dtype.itemsize
    if not dtype.hasobject and taken > size:
        raise ValueError(f"cut short: {size} bytes where {taken} were expected")
    return shape, fortran, dtype


@dataclass(frozen=True)
class Rows:
    """An array that comes row by row.

    Attributes:
        shape: of the whole, the rows first.
        dtype: of its values.
        rows: ``shape[0]`` arrays of shape ``shape[1:]``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Iterable[NDArray[Any]]


def write_archive(stream: IO[bytes], arrays: Mapping[str, NDArray[Any] | Rows]) -> None:
    """Write a compressed archive that ``numpy.load`` reads without pickle.

    Raises:
        ValueError: rows of another shape or number than was said.
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            whole = values if isinstance(values, Rows) else Rows((1, *values.shape), values.dtype, [values])
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                shape = values.shape
                header = {"descr": npy.dtype_to_descr(whole.dtype), "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(file, header)
                _write_rows(file, name, whole)


def _write_rows(file: IO[bytes], name: str, whole: Rows) -> None:
    written = 0
    for row in whole.rows:
        if row.shape != whole.shape[1:]:
            raise ValueError(f"{name}: a row of shape {row.shape}, expected {whole.shape[1:]}")
        file.write(np.ascontiguousarray(row, whole.dtype).data.cast("B") if row.size else b"")
        written += 1
    if written != whole.shape[0]:
        raise ValueError(f"{name}: {written} rows, expected {whole.shape[0]}")


def read_rows(file: IO[bytes], size: int | None = None) -> Rows:
    """Open an array of an archive (``archive.open("name.npy")``) whose rows are read as they are asked for, once.

    Args:
        file: at the start of the array.
        size: its bytes with its header, where they are known.

    Raises:
        ValueError: not an array in numpy's format, one of Python objects, or (while reading) cut short.
    """
    shape, fortran, dtype = read_header(file, sys.maxsize if size is None else size)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are never loaded (allow_pickle is off)")
    if fortran and len(shape) > 1:
        return Rows(shape, dtype, np.frombuffer(file.read(), dtype).reshape(shape[::-1]).T)
    return Rows(shape, dtype, _each_row(file, shape, dtype))


def _each_row(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for _ in range(shape[0]):
        data = file.read(size)
        if len(data) != size:
            raise ValueError(f"cut short: {len(data)} bytes where {size} were expected")
        yield np.frombuffer(data, dtype).reshape(shape[1:])
