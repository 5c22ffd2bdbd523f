"""vp3d_cli/io/npz_rows.py: numpy archives written and read row by row."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vp3d_cli.io.npz_rows import Rows, open_arrays, read_rows, write_archive


def written(**arrays: Any) -> io.BytesIO:
    stream = io.BytesIO()
    write_archive(stream, arrays)
    stream.seek(0)
    return stream


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3), st.sampled_from(["<f4", "<f8", "|b1", "<i4"]), st.booleans()
)
def test_numpy_reads_what_was_written_row_by_row(shape: list[int], dtype: str, by_rows: bool) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    given_as = Rows(values.shape, values.dtype, iter(values)) if by_rows else values
    with np.load(written(a=given_as, text=np.asarray("Gehen")), allow_pickle=False) as archive:
        assert archive.files == ["a", "text"]
        np.testing.assert_array_equal(archive["a"], values)
        assert archive["a"].dtype == values.dtype
        assert str(archive["text"]) == "Gehen"


def test_rows_of_whatever_layout_are_read() -> None:
    values = np.arange(24.0).reshape(4, 3, 2)
    stream = io.BytesIO()
    np.savez_compressed(stream, plain=values, fortran=np.asfortranarray(values), flat=values.ravel())
    with zipfile.ZipFile(stream) as archive:
        for name, expected in (("plain", values), ("fortran", values), ("flat", values.ravel())):
            with archive.open(f"{name}.npy") as file:
                rows = read_rows(file)
                assert (rows.shape, rows.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_array_equal(np.stack(list(rows.rows)), expected)


def test_rows_are_asked_for_one_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written_before: list[int] = []  # bytes of the file when a row is asked for
    size = 1 << 20

    with open(tmp_path / "a.npz", "wb") as file:

        def rows() -> Iterator[NDArray[np.uint8]]:
            for _ in range(3):
                written_before.append(file.tell())
                yield rng.integers(0, 256, size, np.uint8)  # noise, which cannot be compressed

        write_archive(file, {"a": Rows((3, size), np.dtype(np.uint8), rows())})
    assert len(written_before) == 3
    assert all(later - sooner > 0.9 * size for sooner, later in pairwise(written_before))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, archive.open("a.npy") as member:
        next(iter(read_rows(member).rows))
        assert member.tell() < 1.1 * size  # the others were not read for it


@pytest.mark.parametrize("shape", [(2, 3), (4, 3), (3, 2)])
def test_other_rows_than_were_announced(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"a: .* expected"):
        written(a=Rows((3, 3), np.dtype(np.float32), np.zeros(shape, np.float32)))


def test_objects_and_cut_arrays_are_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    stream.seek(0)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_rows(stream)
    stream = io.BytesIO()
    np.save(stream, np.zeros((5, 5)))
    stream = io.BytesIO(stream.getvalue()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        list(read_rows(stream).rows)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def member(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue() + data


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("<f8", (10**12,)), "cut short"),
        (member("<f8", (2**62, 2**62)), "cut short"),
        (member("<f8", (-1,), bytes(8)), "impossible shape"),
        (member("<U0", (10**12,)), "impossible shape"),
        (member("|V0", (10**15,)), "impossible shape"),
        (member("<U100000000", ()), "cut short"),
        (b"hello", "magic string"),
        (b"", "magic string"),
        (b"\x93NUMPY\2\0" + b"\xff" * 4 + bytes(100), "not an array in numpy's format"),
        (b"\x93NUMPY\x09\0" + bytes(100), "not an array in numpy's format"),
        (b"\x93NUMPY\1\0" + struct.pack("<H", 18000) + b"(" * 9000 + b")" * 9000, "bad"),
    ],
)
def test_headers_that_ask_for_more_than_there_is(bad: bytes, words: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.npz", {"good": member("<f8", (), bytes(8)), "bad": bad})
    with pytest.raises(ValueError, match=words) as refused, open_arrays(path):
        pass
    assert "bad" in str(refused.value)


def test_a_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("zeros.npy", "w") as stream:
        stream.write(member("<f8", (50_000_000,)))
        for _ in range(400):
            stream.write(bytes(1_000_000))
    with pytest.raises(ValueError, match=r"0\.4 GB packed into 0\.4 MB"), open_arrays(path):
        pass


def test_archives_of_too_many_or_twice_the_same(tmp_path: Path) -> None:
    many = archive(tmp_path / "many.npz", {f"a{i}": b"" for i in range(10_001)})
    with pytest.raises(ValueError, match="10001 arrays"), open_arrays(many):
        pass
    twice = tmp_path / "twice.npz"
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("fps.npy", member("<f8", (), bytes(8)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("fps.npy", member("<f8", (), bytes(8)))
    with pytest.raises(ValueError, match="two arrays have one name"), open_arrays(twice):
        pass


def test_what_numpy_writes_is_opened(tmp_path: Path) -> None:
    arrays = {"empty": np.zeros((0, 17, 2)), "text": np.array(["a", "bc"]), "one": np.array(3.0), "none": np.array("")}
    np.savez_compressed(tmp_path / "fine.npz", **arrays)  # type: ignore[arg-type]
    with open_arrays(tmp_path / "fine.npz") as opened:
        for name, array in arrays.items():
            np.testing.assert_array_equal(opened[name], array)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("no named pipes in folders")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(OSError, match="a pipe, a device or a socket"), open_arrays(tmp_path / "pipe.npz"):
        pass
