"""What a batch remembers: a file of JSON lines that only ever grows, and survives a kill at any byte.

A line that was cut off by a kill, a full disk or a power cut is not JSON: it is ignored by readers, and closed by the
next writer, so that it costs nothing but itself.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vp3d_cli.batch.fingerprint import Fingerprint
from vp3d_cli.errors import OutputError

# What an entry that is read again must have.
_FACTS = {
    "started": ("video", "results"),
    "made": ("kind", "key", "recipe", "input", "output"),
    "nobody": ("input", "recipe", "message"),
}


class Journal:
    """A journal to add to; one process at a time (see :class:`vp3d_cli.batch.folder.BatchFolder`)."""

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
        line = json.dumps({"event": event, **facts}, ensure_ascii=True) + "\n"  # ASCII: a byte is a character
        left = memoryview((("\n" if self._torn else "") + line).encode())
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
    def read(cls, path: Path) -> History:
        """Read a journal; one that does not exist is empty.

        Raises:
            OutputError: it exists and cannot be read.
        """
        history = cls()
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return history
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror}); choose another folder") from error
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
