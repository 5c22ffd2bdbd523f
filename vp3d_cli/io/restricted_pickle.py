"""Numpy archives that hold pickled objects, read without running anything that they ask for.

VideoPose3D's archives (``positions_2d``, ``positions_3d``) are dicts pickled into object arrays, and a pickle may
call any function of any module. The unpickler here knows a handful of names: what numpy writes for arrays, scalars
and dtypes, and plain containers. None of them reaches numpy's own ``__setstate__`` unchecked, for a forged dtype
state there makes arrays of wild pointers; every other name refuses the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.npz_rows import open_zip, read_header
from vp3d_cli.io.unpickler import Guarded, Refused, load_pickle

__all__ = [
    "Guarded",
    "Refused",
    "load_npy",
    "load_npz_objects",
    "load_pickle",
    "loads_pickle",
    "npz_names",
    "save_npz_objects",
]

# What damaged and forged files raise in zipfile, numpy and pickle.
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, KeyError,
    IndexError, AttributeError, ImportError, RuntimeError, MemoryError, OverflowError, AssertionError,
    NotImplementedError, struct.error, RecursionError,
)  # fmt: skip


def loads_pickle(data: bytes, where: str) -> Any:
    """:func:`load_pickle` for bytes.

    Args:
        data: the pickle.
        where: file and place, for messages.

    Raises:
        InputError: the pickle is damaged or asks for more than plain data.
    """
    try:
        return load_pickle(io.BytesIO(data))
    except _BROKEN as error:
        raise InputError(_complaint(where, error, "pickle of plain data")) from error


def npz_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays in a ``.npz`` archive, without reading them.

    Raises:
        InputError: missing, or no such archive.
    """
    try:
        with open_zip(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except _BROKEN as error:
        raise InputError(_complaint(str(path), error)) from error


def load_npz_objects(path: str | Path) -> dict[str, Any]:
    """Read every array of a ``.npz`` archive, object arrays included, safely.

    Args:
        path: the archive.

    Returns:
        name -> array. An object array without dimensions, as ``np.savez(file, name={...})`` makes one, gives the
        object itself.

    Raises:
        InputError: the file is missing or damaged, or one of its pickles holds anything but numpy arrays, scalars
            and dtypes in plain containers. Nothing that the file asks for is run.
    """
    path = Path(path)
    values: dict[str, Any] = {}
    where = str(path)
    try:
        with open_zip(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                where = f"{path}: {name}"
                values[name] = _read_member(archive, member)
    except _BROKEN as error:
        raise InputError(_complaint(where, error)) from error
    return values


def load_npy(path: str | Path) -> Any:
    """Read a ``.npy`` array, an object array included, safely.

    Returns:
        The array; the object itself where an object array has no dimensions.

    Raises:
        InputError: as :func:`load_npz_objects`.
    """
    path = Path(path)
    try:
        return _read_array(lambda: path.open("rb"), path.stat().st_size)
    except _BROKEN as error:
        raise InputError(_complaint(str(path), error, "numpy array")) from error


def _read_member(archive: zipfile.ZipFile, member: str) -> Any:
    return _read_array(lambda: archive.open(member), archive.getinfo(member).file_size)


def _read_array(opened: Callable[[], IO[bytes]], size: int) -> Any:
    with opened() as stream:
        shape, _, dtype = read_header(stream, size)
        if dtype.hasobject:
            if dtype != np.dtype(object):
                raise Refused("it holds an array of records")
            array = np.asarray(load_pickle(stream)).reshape(shape)
            return array.item() if shape == () else array
    with opened() as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _complaint(where: str, error: BaseException, kind: str = "numpy archive") -> str:
    if isinstance(error, Refused):
        return (
            f"{where}: refused, {error}: only numpy arrays in plain lists and dicts are read from pickles; "
            "do not open this file with other tools unless you trust who made it"
        )
    if isinstance(error, FileNotFoundError):
        return f"{where}: no such file; check the path"
    what = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: not a whole {kind} ({what}); copy or make the file again"


class _PortablePickler(pickle.Pickler):
    """A pickler that names numpy's functions as every numpy version knows them.

    numpy 2 writes ``numpy._core``, which numpy 1.2x lacks.
    """

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            reduced: Any = obj.__reduce__()
            return np.ndarray, ((0,), "b"), reduced[2]
        return NotImplemented


def save_npz_objects(stream: IO[bytes], values: Mapping[str, Mapping[str, Any]]) -> None:
    """Write objects as ``np.savez_compressed(stream, **values)`` does.

    Old versions of numpy and Python 3 can read the file.

    Args:
        stream: where to.
        values: name -> dict of plain containers, numpy arrays, and Python's own numbers and text.
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in values.items():
            wrapped = np.empty((), object)
            wrapped[()] = value
            member = io.BytesIO()
            header = {"descr": "|O", "fortran_order": False, "shape": ()}
            np.lib.format.write_array_header_1_0(member, header)
            _PortablePickler(member, protocol=3).dump(wrapped)
            # A fixed date, the earliest that zip can hold: the same values give the same bytes.
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            # Noisy coordinates hardly shrink further at the higher levels, which take three times as long.
            archive.writestr(info, member.getvalue(), compresslevel=1)
