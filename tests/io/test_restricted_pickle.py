"""Pickled archives: plain data comes back whole, and nothing that a hostile one asks for is run."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vp3d_cli.errors import InputError
from vp3d_cli.io.restricted_pickle import load_npz_objects, load_pickle, loads_pickle, npz_names, save_npz_objects

PLAIN: dict[str, Any] = {
    "S1": {"Walking 1": [np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.asfortranarray(np.eye(3))]},
    "numbers": [1, 2.5, True, None, 10**30, 1j, np.float64(3.0), np.int16(-2)],
    "text": ("é", b"bytes", bytearray(b"x")),
    "sets": [{1, 2}, frozenset({3})],
    "words": np.array(["a", "bc"]),
    "objects": np.array([None, {"a": np.ones(2)}, [1, [2]], "s"], dtype=object),
    "empty": np.zeros((0, 17, 2)),
    "ordered": collections.OrderedDict(b=1, a=2),
    "big-endian": np.arange(3, dtype=">i4"),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return a.shape == b.shape and all(same(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        return type(b) is np.ndarray and a.dtype.newbyteorder("=") == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_survives_every_protocol(protocol: int) -> None:
    assert same(PLAIN, load_pickle(io.BytesIO(pickle.dumps(PLAIN, protocol=protocol))))


def test_archive_of_numpy(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", positions_2d=PLAIN, plain=np.eye(2), several=PLAIN["objects"])
    values = load_npz_objects(tmp_path / "a.npz")
    assert npz_names(tmp_path / "a.npz") == ("positions_2d", "plain", "several")
    assert same(PLAIN, values["positions_2d"])
    assert same(np.eye(2), values["plain"])
    assert same(PLAIN["objects"], values["several"])


def test_written_archive_opens_in_numpy_and_names_no_module_that_old_numpy_lacks(tmp_path: Path) -> None:
    data = {key: PLAIN[key] for key in ("S1", "words", "objects", "sets")}
    for path in (tmp_path / "a.npz", tmp_path / "b.npz"):
        with open(path, "wb") as stream:
            save_npz_objects(stream, {"positions_2d": data})
    loaded = np.load(tmp_path / "a.npz", allow_pickle=True)["positions_2d"].item()
    assert same(data, loaded)
    assert loaded["S1"]["Walking 1"][0].flags.writeable
    assert same(data, load_npz_objects(tmp_path / "a.npz")["positions_2d"])
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert b"numpy._core" not in archive.read("positions_2d.npy")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


class Calls:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr, np.load, np.fromfile, open, print])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_calls_are_refused_and_not_made(function: Callable[..., Any], protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = pickle.dumps({"S1": [Calls(function, f"touch {mark}")]}, protocol=protocol)
    with pytest.raises(InputError, match=r"bad\.npz: x: refused, it asks for \S+: only numpy arrays"):
        loads_pickle(hostile, "bad.npz: x")
    assert not mark.exists()


def test_hostile_archive(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    np.savez(tmp_path / "bad.npz", positions_2d={"clip": Calls(os.system, f"touch {mark}")})
    with pytest.raises(InputError, match=r"bad\.npz: positions_2d: refused, it asks for \w+\.system") as caught:
        load_npz_objects(tmp_path / "bad.npz")
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def forged(dtype: str, state: tuple[Any, ...], shape: tuple[int, ...], data: Any) -> bytes:
    """An array pickled with a dtype whose state was tampered with."""

    class Dtype:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, (dtype, False, True), state

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            rebuild = np.zeros(0).__reduce__()
            assert isinstance(rebuild, tuple)
            return rebuild[0], rebuild[1], (1, shape, Dtype(), False, data)

    return pickle.dumps(Array(), protocol=2)


SIMPLE = (3, "<", None, None, None, -1, -1, 0)


@pytest.mark.parametrize(
    "hostile",
    [
        # References whose dtype claims to hold none: numpy itself would make pointers of these bytes.
        forged("O8", (3, "|", None, None, None, -1, -1, 0), (1,), struct.pack("<q", 0x4141414141414141)),
        forged("f8", SIMPLE, (1000,), b"\0" * 8),  # more elements than bytes
        forged("f8", SIMPLE, (-1,), b""),
        forged("f8", (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0), (1,), b"\0" * 8),  # hidden record
        forged("V8", SIMPLE, (1,), b"\0" * 8),
        forged("f8", SIMPLE, (2,), [1.0, 2.0]),
    ],
)
def test_forged_arrays_are_refused(hostile: bytes) -> None:
    with pytest.raises(InputError, match=r"refused, it holds"):
        loads_pickle(hostile, "bad.npz")


def test_memory_is_not_given_away() -> None:
    for ask in (Calls(bytearray, 10**12), Calls(bytes, 10**12)):
        with pytest.raises(InputError, match="it asks for memory"):
            loads_pickle(pickle.dumps(ask, protocol=2), "bad.npz")


def test_memo_of_the_unpickler_is_not_blown_up() -> None:
    assert loads_pickle(b"\x80\x02]r\x00\x00\x00\x70.", "odd.npz") == []  # an empty list, kept as number 0x70000000
    with pytest.raises(InputError):
        loads_pickle(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"x.", "bad.npz")  # a bytearray of 8 GB


def tuples(depth: int) -> bytes:
    """Opcodes of a tuple of twice the same tuple of twice the same tuple ..."""
    return b")q\0" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(depth))


@pytest.mark.parametrize(
    "hostile",
    [
        b"}" + tuples(58) + b"Ns.",  # SETITEM
        b"}(" + tuples(58) + b"Nu.",  # SETITEMS
        b"\x8f(" + tuples(58) + b"\x90.",  # ADDITEMS
        b"(" + tuples(58) + b"\x91.",  # FROZENSET
        b"cbuiltins\nset\n(](" + tuples(58) + b"etR.",
        b"cbuiltins\nfrozenset\n((" + tuples(58) + b"ttR.",
        b"cbuiltins\ndict\n((" + tuples(58) + b"N\x86ttR.",
        b"ccollections\nOrderedDict\n(](](" + tuples(58) + b"NeetR.",
    ],
)
def test_keys_that_take_for_ever_to_hash(hostile: bytes) -> None:
    with pytest.raises(InputError, match="a key of too many parts"):
        loads_pickle(b"\x80\x04" + hostile, "bad.npz")


def test_lists_that_share_their_parts_are_bounded() -> None:
    """Two lists of twice the same list, forty deep, are 80 pointers, but 10^12 values to whoever goes through them."""
    level: Any = [1]
    for _ in range(40):
        level = [level, level]
    for hostile in (level, {"a": level}, (level,)):
        with pytest.raises(InputError, match="more values than a data set has"):
            loads_pickle(pickle.dumps(hostile), "bad.npz")


def test_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        loads_pickle(b"(]" + b"2" * 100 + b"l.", "bad.npz")  # the same list a hundred times
    monkeypatch.setattr("vp3d_cli.io.unpickler._MAX_OPCODES", 50)
    assert loads_pickle(pickle.dumps(list(range(10))), "short") == list(range(10))
    with pytest.raises(InputError, match="more steps than a data set has"):
        loads_pickle(pickle.dumps(list(range(100))), "long.npz")


def test_arrays_without_bytes_are_refused() -> None:
    hostile = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1000000000000\nt"
        b"cnumpy\ndtype\n(VS0\ntRI00\nV\ntb."
    )
    with pytest.raises(InputError, match="values without bytes"):
        loads_pickle(hostile, "bad.npz")


@settings(max_examples=200)
@given(at=st.floats(0, 1), drop=st.integers(0, 8), junk=st.binary(max_size=8), protocol=st.integers(0, 5))
def test_damaged_pickles_are_read_or_refused(at: float, drop: int, junk: bytes, protocol: int) -> None:
    whole = pickle.dumps(PLAIN, protocol=protocol)
    cut = int(at * len(whole))
    with contextlib.suppress(InputError):
        loads_pickle(whole[:cut] + junk + whole[cut + drop :], "damaged")


def test_endless_nesting_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    for hostile in (circle, deep):
        with pytest.raises(InputError, match="nested without end"):
            loads_pickle(pickle.dumps(hostile), "bad.npz")


def test_shared_parts_do_not_multiply() -> None:
    """Ten lists of ten times the same list, six deep, are 60 pointers and not a million."""
    level: Any = [1]
    for _ in range(6):
        level = [level] * 10
    loaded = loads_pickle(pickle.dumps(level), "shared")
    assert loaded[0] is loaded[9]


def test_functions_admitted_cannot_be_altered() -> None:
    # BUILD (b) on the admitted _reconstruct, with a dict as its state.
    hostile = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(InputError, match="refused, it changes the function"):
        loads_pickle(hostile, "bad.npz")


@pytest.mark.parametrize("keep", [0, 20, 200, -30])
def test_damaged_archive(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, positions_2d=PLAIN)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.npz.*not a whole numpy archive"):
        load_npz_objects(path)


def test_damaged_pickle_and_missing_file(tmp_path: Path) -> None:
    whole = pickle.dumps(PLAIN)
    for cut in range(0, len(whole) - 1, 37):
        with pytest.raises(InputError):
            loads_pickle(whole[:cut], "cut")
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        load_npz_objects(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        npz_names(tmp_path / "none.npz")
