"""Numpy archives (``.npz``) written and read row by row: an array never has to be in memory whole."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# One date for all, the earliest that a zip file can have: the same arrays give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


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


def read_rows(file: IO[bytes]) -> Rows:
    """Open an array of an archive (``archive.open("name.npy")``) whose rows are read as they are asked for, once.

    Raises:
        ValueError: not an array in numpy's format, one of Python objects, or (while reading) cut short.
    """
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = npy.read_array_header_2_0(file)
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
