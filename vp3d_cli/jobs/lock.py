"""Lock of a results folder: one batch at a time writes into it.

A local folder is locked by the system, which frees it when the process ends. A store has no locks, and Windows not this
kind: there the batch writes who it is into the lock every ten seconds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.storage import Place, refresh, remove, write_bytes

_RENEW_S = 10.0
# After so long without a word the holder is taken for dead. Clocks of two machines may differ by the rest.
_STALE_S = 60.0
_SETTLE_S = 0.5  # for another one that took the folder at the same moment to show


def lock_folder(folder: Place) -> FolderLock:
    """Lock a results folder, creating it if necessary. Use it in a ``with`` statement.

    Raises:
        OutputError: another batch has it, or it cannot be written.
    """
    if isinstance(folder, Path) and sys.platform != "win32":
        return SystemLock(folder)
    return RenewedLock(folder)


class FolderLock(AbstractContextManager["FolderLock"]):
    """Exclusive lock of a results folder, held until the ``with`` statement ends."""

    def check(self) -> None:
        """Check that the lock is still held. Raises OutputError if another batch has taken it."""

    def release(self) -> None:
        """Release the lock."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SystemLock(FolderLock):
    """A file lock of Linux or macOS in a local folder."""

    def __init__(self, folder: Path) -> None:
        """Acquire the lock. Raises OutputError if another batch has it, or it cannot be written."""
        import fcntl

        try:
            (folder / STATE).mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder / STATE / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be used for results ({error.strerror}); choose another folder"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace")
            os.close(self._handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _taken(folder, holder) from error
            raise OutputError(f"{folder}: cannot be locked ({error.strerror}); choose a local folder") from error
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, _holder().encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        with contextlib.suppress(OSError):
            os.close(self._handle)


class RenewedLock(FolderLock):
    """A lock file that names its holder and is rewritten regularly while it is held."""

    def __init__(self, folder: Place) -> None:
        """Acquire the lock. Raises OutputError if another batch has it, or it cannot be written."""
        self._folder, self._file = folder, folder / STATE / "lock"
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        claim = self._claim()
        if claim and _is_alive(str(claim["holder"])) and time.time() - float(claim["time_s"]) < _STALE_S:
            raise _taken(folder, str(claim["holder"]))
        self._write()
        time.sleep(_SETTLE_S)
        claim = self._claim()
        if claim.get("token") != self._token:
            raise _taken(folder, str(claim.get("holder", "")))
        self._thread = threading.Thread(target=self._renew, name="vp3d-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that the lock is still held. Raises OutputError if another batch has taken it."""
        if self._over.is_set():
            raise _taken(self._folder, str(self._claim().get("holder", "")))

    def release(self) -> None:
        """Release the lock."""
        lost = self._over.is_set()
        self._over.set()
        self._thread.join()
        if not lost:
            remove(self._file)

    def _claim(self) -> dict[str, Any]:
        """Return the content of the lock file; empty if it is missing or incomplete."""
        try:
            claim = json.loads(refresh(self._file).read_bytes())
            return claim if {"holder", "token", "time_s"} <= claim.keys() else {}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}
        except OSError as error:
            raise OutputError(f"{self._folder}: cannot be read ({error}); choose another folder") from error

    def _write(self) -> None:
        claim = {"holder": _holder(), "token": self._token, "time_s": time.time()}
        write_bytes(self._file, json.dumps(claim).encode())

    def _renew(self) -> None:
        while not self._over.wait(_RENEW_S):
            try:
                if self._claim().get("token", self._token) != self._token:
                    self._over.set()  # we were silent for too long: a suspended machine, say
                else:
                    self._write()
            except Vp3dError:
                continue  # the store is away for a moment; if for longer, the next result says so


def _holder() -> str:
    return f"{os.getpid()} {socket.gethostname()}"


def _is_alive(holder: str) -> bool:
    """Whether the process that wrote ``number host`` into a lock may still run."""
    number, _, host = holder.partition(" ")
    if host != socket.gethostname() or not number.isdecimal() or sys.platform == "win32":
        return True  # nobody here can tell
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _taken(folder: Place, holder: str) -> OutputError:
    number, _, host = holder.partition(" ")
    return OutputError(
        f"{folder}: another vp3d batch (process {number or '?'} on {host or '?'}) writes here; wait for it, "
        "or choose another folder"
    )
