"""A keypoint file or folder: its kind by content, and its content, read once."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import open_regular
from vp3d_cli.io.restricted_pickle import npz_names

_ZIP, _HDF5, _NPY = b"PK", b"\x89HDF", b"\x93NUMPY"
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


class Source:
    """A keypoint file or folder; its content is read on first use, and only once.

    Attributes:
        path: file or folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise InputError(f"{self.path}: no such file or folder; check the path")
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise InputError(f"{self.path}: is empty; write the file again")

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def kind(self) -> str:
        """``folder``, ``npz``, ``npy``, ``pickle``, ``hdf5``, ``json``, ``trc`` or ``csv``: by content, not by name."""
        if self.path.is_dir():
            return "folder"
        with _opened(self.path) as file:
            head = file.read(1024)
        if head.startswith(_ZIP):
            return "npz"
        if head.startswith(_HDF5):
            return "hdf5"
        if head.startswith(_NPY):
            return "npy"
        if head.startswith(_PICKLE):
            return "pickle"
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text[:1] in (b"{", b"["):
            return "json"
        return "trc" if text.startswith(b"PathFileType") else "csv"

    @cached_property
    def document(self) -> Any:
        """The JSON document; None for other kinds."""
        return read_json(self.path) if self.kind == "json" else None

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of the arrays of an npz archive; empty for other kinds."""
        return npz_names(self.path) if self.kind == "npz" else ()

    @cached_property
    def rows(self) -> list[list[str]]:
        """Rows of a CSV file, blank ones left out; empty for other kinds."""
        if self.kind != "csv":
            return []
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                first = file.readline()
                file.seek(0)
                delimiter = max(",;\t", key=first.count)
                return [row for row in csv.reader(file, delimiter=delimiter) if any(cell.strip() for cell in row)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path}: cannot be read as text ({error}); give a file of keypoints") from error

    @cached_property
    def files(self) -> list[Path]:
        """Files directly in a folder, sorted by name; empty for other kinds."""
        return sorted(p for p in self.path.iterdir() if p.is_file()) if self.kind == "folder" else []


def read_json(path: Path) -> Any:
    """A JSON document; NaN and Infinity are taken, as Python's tools write them.

    Raises:
        InputError: it is missing, not JSON, or cut short.
    """
    try:
        with _opened(path) as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: not a whole JSON file ({error}); was it cut short? write it again") from error


def _opened(path: Path) -> Any:
    try:
        return open_regular(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def float_or_nan(text: str) -> float:
    """A cell of a table: a number; NaN where it is blank.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    return float(text) if text else float("nan")
