"""Numpy archives that hold pickled objects, read without running anything that they ask for.

VideoPose3D's archives (``positions_2d``, ``positions_3d``) are dicts pickled into object arrays, and a pickle may
call any function of any module. The unpickler here knows a handful of names: what numpy writes for arrays, scalars
and dtypes, and plain containers. None of them reaches numpy's own ``__setstate__`` unchecked, for a forged dtype
state there makes arrays of wild pointers; every other name refuses the file.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing only from Python 3.11

# Containers nested deeper are no data set but an attempt to exhaust the stack.
_MAX_DEPTH = 64
# Booleans, numbers, text and references, as numpy spells them in a pickle; no records, dates or subarrays.
_DTYPE_CODE = re.compile(r"[biufc]\d{1,2}|[SU]\d{0,9}|O8?|\?")
# What damaged and forged files raise in zipfile, numpy and pickle.
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, TypeError, KeyError,
    IndexError, AttributeError, ImportError, RuntimeError, MemoryError, OverflowError, AssertionError,
    NotImplementedError,
)  # fmt: skip


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that plain data never needs."""


class Guarded:
    """A function that a pickle may call but, having no attributes, not alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise Refused("it changes the function that it calls")


class _Dtype:
    """Stands in for ``numpy.dtype`` while a pickle loads: a code and a byte order, both checked."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object = None, *_: object) -> None:
        if not isinstance(code, str) or not _DTYPE_CODE.fullmatch(code):
            raise Refused(f"it holds an array of type {code!r}")
        self._code, self._order = code, "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise Refused("it holds an array of records")
        if state[1] not in ("<", ">", "=", "|"):
            raise Refused("it holds a damaged dtype")
        self._order = str(state[1])

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self._code if self._order == "|" else self._order + self._code)


class _Array(np.ndarray[Any, Any]):
    """Stands in for ``numpy.ndarray`` while a pickle loads; empty until its state has been checked."""

    def __new__(cls, *_: object) -> Self:
        empty: Self = super().__new__(cls, (0,), np.int8)
        return empty

    def __setstate__(self, state: object, /) -> None:
        match state:
            case (_, tuple(shape), _Dtype() as kind, bool(fortran), data):
                pass
            case _:
                raise Refused("it holds a damaged array")
        dtype = kind.resolve()
        size = _size(shape)
        if dtype.hasobject:
            fits = isinstance(data, list) and len(data) == size
        else:
            data = data.encode("latin1") if isinstance(data, str) else data  # written by Python 2
            fits = isinstance(data, bytes | bytearray) and len(data) == size * dtype.itemsize
        if not fits:
            raise Refused("it holds an array of the wrong size")
        checked: Any = (1, shape, dtype, fortran, data)
        super().__setstate__(checked)


def _size(shape: tuple[object, ...]) -> int:
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise Refused("it holds an array of impossible shape")
    return math.prod(n for n in shape if isinstance(n, int))


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: object, data: object = None) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.resolve().hasobject:
        raise Refused("it holds a damaged number")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != dtype.resolve().itemsize:
        raise Refused("it holds a damaged number")
    return np.frombuffer(raw, dtype.resolve())[0]


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    """How pickle protocol 5 stores an array."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not isinstance(data, bytes | bytearray):
        raise Refused("it holds a damaged array")
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """How pickle protocols below 3 store bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes text")
    return text.encode("latin1")


def _bytes(data: object = b"") -> bytes:
    if not isinstance(data, bytes):
        raise Refused("it asks for memory")  # bytes(10**12) would be given it
    return data


_NUMPY_CORE = ("numpy.core", "numpy._core")  # numpy 1 and 2
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): Guarded(_Dtype),
    ("_codecs", "encode"): Guarded(_encode),
    ("collections", "OrderedDict"): Guarded(collections.OrderedDict),
    ("builtins", "bytes"): Guarded(_bytes),
    ("builtins", "bytearray"): Guarded(lambda data=b"": bytearray(_bytes(data))),
    **{("builtins", kind.__name__): Guarded(kind) for kind in (set, frozenset, list, dict, tuple, complex)},
    **{(f"{core}.multiarray", "_reconstruct"): Guarded(_reconstruct) for core in _NUMPY_CORE},
    **{(f"{core}.multiarray", "scalar"): Guarded(_scalar) for core in _NUMPY_CORE},
    **{(f"{core}.numeric", "_frombuffer"): Guarded(_frombuffer) for core in _NUMPY_CORE},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED["builtins" if module == "__builtin__" else module, name]  # as Python 2 calls it
        except KeyError:
            raise Refused(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: object) -> Any:
        raise Refused("it asks for an object outside itself")


class _Plain:
    """Turns what the unpickler made into plain values: stand-ins become arrays, and nothing else may be left."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}  # shared parts stay shared
        self._open: set[int] = set()
        self._kept: list[Any] = []  # keeps ids valid while _done refers to them

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray | np.generic):
            return value
        if id(value) in self._done:
            return self._done[id(value)]
        if depth > _MAX_DEPTH or id(value) in self._open:
            raise Refused("it is nested without end")
        self._open.add(id(value))
        plain = self._container(value, depth + 1)
        self._open.remove(id(value))
        self._done[id(value)] = plain
        self._kept.append(value)
        return plain

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.ndarray):
            array = np.asarray(value)
            if array.dtype.hasobject:
                plain = np.empty(array.shape, object)
                slots = plain.reshape(-1)
                for i, item in enumerate(array.ravel().tolist()):
                    slots[i] = self(item, depth)
                return plain
            return array
        if isinstance(value, dict):
            return {self(key, depth): self(item, depth) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
            return kind([self(item, depth) for item in value])
        raise Refused(f"it holds a {type(value).__name__}")


def load_pickle(stream: IO[bytes]) -> Any:
    """Unpickle plain data: numpy arrays, scalars and dtypes, and Python's own containers, numbers and text.

    Raises:
        pickle.UnpicklingError: the pickle asks for anything else.
        Exception: the pickle is damaged; whatever :mod:`pickle` then raises.
    """
    data = stream.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # damaged text pickles have odd escapes
        _check_memo(data)
        # latin1 is what numpy asks for to read arrays that Python 2 pickled.
        return _Plain()(_Unpickler(io.BytesIO(data), encoding="latin1").load())


def _check_memo(data: bytes) -> None:
    """Refuse a number in the unpickler's memory that is larger than the count of objects: it allocates all below."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > count:
            raise Refused("it asks for memory")


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
        raise InputError(_complaint(where, error)) from error


def npz_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays in a ``.npz`` archive, without reading them.

    Raises:
        InputError: missing, or no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
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
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                where = f"{path}: {name}"
                values[name] = _read_member(archive, member)
    except _BROKEN as error:
        raise InputError(_complaint(where, error)) from error
    return values


def _read_member(archive: zipfile.ZipFile, member: str) -> Any:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version in header:
            shape, _, dtype = header[version](stream)
            if dtype.hasobject:
                if dtype != np.dtype(object):
                    raise Refused("it holds an array of records")
                array = np.asarray(load_pickle(stream)).reshape(shape)
                return array.item() if shape == () else array
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _complaint(where: str, error: BaseException) -> str:
    if isinstance(error, Refused):
        return (
            f"{where}: refused, {error}: only numpy arrays in plain lists and dicts are read from pickles; "
            "do not open this file with other tools unless you trust who made it"
        )
    if isinstance(error, FileNotFoundError):
        return f"{where}: no such file; check the path"
    what = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: not a whole numpy archive ({what}); copy or make the file again"


class _PortablePickler(pickle.Pickler):
    """Pickles arrays by names that every numpy knows: numpy 2 writes ``numpy._core``, which numpy 1.2x lacks."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            reduced: Any = obj.__reduce__()
            return np.ndarray, ((0,), "b"), reduced[2]
        return NotImplemented


def save_npz_objects(stream: IO[bytes], values: Mapping[str, Mapping[str, Any]]) -> None:
    """Write objects as ``np.savez_compressed(stream, **values)`` does, readable by old numpy and Python 3.

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
