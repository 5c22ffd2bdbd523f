"""vp3d_cli/io/npz_rows.py: numpy archives written and read row by row."""

from __future__ import annotations

import io
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

from vp3d_cli.io.npz_rows import Rows, read_rows, write_archive


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
