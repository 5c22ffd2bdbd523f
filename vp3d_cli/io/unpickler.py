"""A restricted unpickler for plain data; it runs no other code.

Plain data are numpy arrays, scalars and dtypes in Python's own containers.

What a pickle makes is bounded as well: the parts of a key, which take for ever to hash if tuples share their parts, and
the number of values, which grows without end if lists do.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing only from Python 3.11

# Containers nested deeper are no data set but an attempt to exhaust the stack.
_MAX_DEPTH = 64
# Values, counted as often as they are referred to: Human3.6M's archives have thousands.
_MAX_VALUES = 20_000_000
_MAX_KEY_PARTS = 1000
# Detectron's keypoints of 100,000 frames take 6 million.
_MAX_OPCODES = 10_000_000
# Booleans, numbers, text and references, as numpy spells them in a pickle; no records, dates or subarrays.
_DTYPE_CODE = re.compile(r"[biufc]\d{1,2}|[SU]\d{0,9}|O8?|\?")


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that plain data never needs."""


class Guarded:
    """A function that a pickle may call but, having no attributes, not alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        """Refuse the state that a pickle would give the function."""
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
    """Replaces ``numpy.ndarray`` while a pickle loads; empty until its state is checked."""

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
        if size and not dtype.itemsize:
            raise Refused("it holds an array of values without bytes")
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


def _check_keys(keys: Iterable[object]) -> None:
    """Refuse keys that would take for ever to hash: tuples of tuples that share their parts."""
    for key in keys:
        left = [key]
        for _ in range(_MAX_KEY_PARTS):
            if not left:
                break
            part = left.pop()
            left.extend(part if isinstance(part, tuple | frozenset) else ())
        if left:
            raise Refused("it has a key of too many parts")


def _set(items: object = ()) -> set[Any]:
    return set(_listed(items))


def _frozenset(items: object = ()) -> frozenset[Any]:
    return frozenset(_listed(items))


def _listed(items: object) -> list[Any]:
    if not isinstance(items, list | tuple | set | frozenset):
        raise Refused("it holds a damaged set")
    _check_keys(items)
    return list(items)


def _dict(items: object = ()) -> dict[Any, Any]:
    if not isinstance(items, list | tuple | dict):
        raise Refused("it holds a damaged dict")
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(pair) for pair in items]
    _check_keys(pair[0] for pair in pairs if pair)
    return dict(pairs)


_NUMPY_CORE = ("numpy.core", "numpy._core")  # numpy 1 and 2
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): Guarded(_Dtype),
    ("_codecs", "encode"): Guarded(_encode),
    ("collections", "OrderedDict"): Guarded(_dict),
    ("builtins", "bytes"): Guarded(_bytes),
    ("builtins", "bytearray"): Guarded(lambda data=b"": bytearray(_bytes(data))),
    ("builtins", "set"): Guarded(_set),
    ("builtins", "frozenset"): Guarded(_frozenset),
    ("builtins", "dict"): Guarded(_dict),
    **{("builtins", kind.__name__): Guarded(kind) for kind in (list, tuple, complex)},
    **{(f"{core}.multiarray", "_reconstruct"): Guarded(_reconstruct) for core in _NUMPY_CORE},
    **{(f"{core}.multiarray", "scalar"): Guarded(_scalar) for core in _NUMPY_CORE},
    **{(f"{core}.numeric", "_frombuffer"): Guarded(_frombuffer) for core in _NUMPY_CORE},
}


class _Counted(dict[int, Any]):
    """Handlers of the opcodes; raises after more opcodes than any data set has."""

    def __init__(self, dispatch: dict[int, Any]) -> None:
        super().__init__(dispatch)
        self._left = _MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Refused("it has more steps than a data set has")
        return super().__getitem__(opcode)


# The unpickler in Python: slower, but signals are heard, and each step can be checked. (The type checker only knows the
# one in C.)
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[list[Any]]
    append: Callable[[object], None]
    read: Callable[[int], bytes]

    def __init__(self, data: bytes) -> None:
        # latin1 is what numpy asks for to read arrays that Python 2 pickled.
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.dispatch = _Counted(type(self).dispatch)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED["builtins" if module == "__builtin__" else module, name]  # as Python 2 calls it
        except KeyError:
            raise Refused(f"it asks for {module[:80]}.{name[:80]}") from None

    def persistent_load(self, pid: object) -> Any:
        raise Refused("it asks for an object outside itself")

    def _load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        self._check_is_dict(self.stack[-3])
        super().load_setitem()  # type: ignore[misc]

    def _load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        self._check_is_dict(self.metastack[-1][-1])
        super().load_setitems()  # type: ignore[misc]

    def _load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def _load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()  # type: ignore[misc]

    def _check_is_dict(self, value: object) -> None:
        if not isinstance(value, dict):
            raise Refused("it changes what is no dict")

    def _load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        # Theirs makes an array of that length before its content is read.
        self.append(bytearray(self.read(length)))

    dispatch[pickle.ADDITEMS[0]] = _load_additems
    dispatch[pickle.FROZENSET[0]] = _load_frozenset
    dispatch[pickle.SETITEM[0]] = _load_setitem
    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch.pop(pickle.DUP[0])  # nothing that is pickled needs it
    dispatch[pickle.BYTEARRAY8[0]] = _load_bytearray8


class _Plain:
    """Converts the unpickled objects to plain values.

    Stand-ins become arrays; any other object is an error.
    """

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int]] = {}  # shared parts stay shared; with the number of values in them
        self._open: set[int] = set()
        self._kept: list[Any] = []  # keeps ids valid while _done refers to them

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray | np.generic):
            return value
        if id(value) not in self._done:
            self._convert(value, depth)
        return self._done[id(value)][0]

    def _convert(self, value: Any, depth: int) -> None:
        if depth > _MAX_DEPTH or id(value) in self._open:
            raise Refused("it is nested without end")
        self._open.add(id(value))
        plain, count = self._container(value, depth + 1)
        if count > _MAX_VALUES:
            raise Refused("it holds more values than a data set has")
        self._open.remove(id(value))
        self._done[id(value)] = plain, count
        self._kept.append(value)

    def _container(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, np.ndarray):
            array = np.asarray(value)
            if array.dtype.hasobject:
                plain = np.empty(array.shape, object)
                slots = plain.reshape(-1)
                items, count = self._items(array.ravel().tolist(), depth)
                for i, item in enumerate(items):
                    slots[i] = item
                return plain, count
            return array, 1
        if isinstance(value, dict):
            keys, key_count = self._items(value.keys(), depth)
            items, count = self._items(value.values(), depth)
            return dict(zip(keys, items, strict=True)), key_count + count
        if isinstance(value, list | tuple | set | frozenset):
            kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
            items, count = self._items(value, depth)
            return kind(items), count
        raise Refused(f"it holds a {type(value).__name__}")

    def _items(self, values: Iterable[Any], depth: int) -> tuple[list[Any], int]:
        """Plain values, and how many there are with all that is in them."""
        items, count = [], 1
        for value in values:
            items.append(self(value, depth))
            count += self._done[id(value)][1] if id(value) in self._done else 1
        return items, count


def load_pickle(stream: IO[bytes]) -> Any:
    """Unpickle plain data: arrays, scalars, dtypes, and Python's containers, numbers and text.

    Raises:
        pickle.UnpicklingError: the pickle asks for anything else.
        Exception: the pickle is damaged; whatever :mod:`pickle` then raises.
    """
    data = stream.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # damaged text pickles have odd escapes
        return _Plain()(_Unpickler(data).load())
