"""What a batch remembers: a file of JSON lines that only ever grows, and survives a kill at any byte.

A line that was cut off by a kill, a full disk or a power cut is not JSON: it is ignored by readers, and closed by the
next writer, so that it costs nothing but itself.

Stores elsewhere cannot add to a file. There each line is a file of its own, numbered, written in one piece; a batch
that ends joins them: the last number gets all lines, and then the others go. A kill between the two leaves lines that
are read twice, which changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.jobs.fingerprint import Fingerprint
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.remote import Place, Url, remove, write

_SUFFIX = ".jsonl"

# What an entry that is read again must have.
_FACTS = {
    "started": ("video", "results"),
    "made": ("kind", "key", "recipe", "input", "output"),
    "nobody": ("input", "recipe", "message"),
}


class Journal:
    """A journal to add to; one process at a time (see :class:`vp3d_cli.jobs.folder.BatchFolder`)."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or begin one.

        Raises:
            OutputError: it cannot be opened for writing.
        """
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
            self._torn = _ends_within_a_line(self._handle)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def append(self, event: str, **facts: Any) -> None:
        """Add a line; it is on the disk when this returns.

        Raises:
            OutputError: it cannot be written, most likely because the disk is full.
        """
        left = memoryview((b"\n" if self._torn else b"") + _line(event, facts))
        try:
            while left:
                self._torn = True
                left = left[os.write(self._handle, left) :]
            self._torn = False
            os.fsync(self._handle)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JournalAfar:
    """A journal in a store, to add to; one process at a time."""

    def __init__(self, folder: Url) -> None:
        """Find out what the next line is called.

        Raises:
            OutputError: the store cannot be reached.
        """
        self._folder = folder
        try:
            names = _names_afar(folder)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be read ({error}); choose another folder") from error
        self._next = 1 + (int(names[-1].partition(".")[0]) if names else 0)

    def append(self, event: str, **facts: Any) -> None:
        """Add a line; it is in the store when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        write(self._folder / _name_afar(self._next), _line(event, facts))
        self._next += 1

    def close(self) -> None:
        """Join the lines. Should the store not let us, they are read as they are."""
        with contextlib.suppress(OSError, Vp3dError):
            names = _names_afar(self._folder)
            if len(names) > 1:
                write(self._folder / names[-1], _lines_afar(self._folder))
                for name in names[:-1]:
                    remove(self._folder / name)


def open_journal(out: Place) -> Journal | JournalAfar:
    """The journal of a folder for results, to add to.

    Raises:
        OutputError: it cannot be written.
    """
    return JournalAfar(out / STATE / "journal") if isinstance(out, Url) else Journal(out / STATE / "journal.jsonl")


def read_history(out: Place) -> History:
    """What earlier batches into a folder have done; the folder need not exist.

    Raises:
        OutputError: the journal cannot be read.
    """
    return History.read(out / STATE / ("journal" if isinstance(out, Url) else "journal.jsonl"))


class History:
    """What a journal says, put in order.

    Attributes:
        made: output, by its key, to the last entry that says how it was made.
        nobody: input path to the last entry that says that nobody is in it.
        started: kinds and keys of outputs that some batch began to make: a file there is ours.
        attempts: input path to how often a worker began with it since it last made something of it.
        damaged: lines that could not be read.
    """

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.nobody: dict[str, dict[str, Any]] = {}
        self.started: set[str] = set()
        self.attempts: Counter[str] = Counter()
        self.damaged = 0

    @classmethod
    def read(cls, path: Place) -> History:
        """Read a journal; one that does not exist is empty.

        Raises:
            OutputError: it exists and cannot be read.
        """
        history = cls()
        try:
            content = _lines_afar(path) if isinstance(path, Url) else path.read_bytes()
        except FileNotFoundError:
            return history
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error}); choose another folder") from error
        for line in content.split(b"\n"):
            if line.strip():
                history._take(line)
        return history

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self.add(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.damaged += 1

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take one entry into account; later ones win over earlier ones.

        Raises:
            KeyError, TypeError: it is not as vp3d writes them.
        """
        event = entry["event"]
        facts = {name: entry[name] for name in _FACTS.get(event, ())}
        if event == "started":
            self.started.update(facts["results"])
            self.attempts[facts["video"]] += 1
        if event in ("made", "nobody"):
            video = Fingerprint.from_json(facts["input"]).glance.path
        if event == "made":
            Fingerprint.from_json(facts["output"])
            self.made[facts["key"]] = dict(entry)
            self.attempts.pop(video, None)
        elif event == "nobody":
            self.nobody[video] = dict(entry)


def _line(event: str, facts: Mapping[str, Any]) -> bytes:
    return json.dumps({"event": event, **facts}).encode("ascii") + b"\n"


def _name_afar(number: int) -> str:
    return f"{number:012d}{_SUFFIX}"


def _names_afar(folder: Url) -> list[str]:
    """The files of a journal, in order."""
    folder.store.invalidate_cache()
    try:
        names = [PurePosixPath(info["name"]).name for info in folder.entries()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name.endswith(_SUFFIX) and name[: -len(_SUFFIX)].isdecimal())


def _lines_afar(folder: Url) -> bytes:
    """All lines of a journal; stores that can fetch several files at a time do."""
    names = _names_afar(folder)
    if not names:
        return b""
    contents = folder.store.cat([(folder / name).path for name in names])
    return b"".join(contents[(folder / name).path] for name in names)


def _ends_within_a_line(handle: int) -> bool:
    size = os.lseek(handle, 0, os.SEEK_END)
    if size == 0:
        return False
    os.lseek(handle, size - 1, os.SEEK_SET)
    return os.read(handle, 1) != b"\n"


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: the journal cannot be written ({error.strerror}); make room or choose another folder, and run again"
    )
