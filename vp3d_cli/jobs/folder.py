"""The folder that a batch writes into: its lock, its journal, and the place where unfinished files lie.

Beside the results there is a folder ``.vp3d-batch`` with the lock, the journal and, while a batch runs, ``work``.
Workers write there and the batch renames into place, so that cleaning up after one that died is to remove its folder.
Folders elsewhere are those of ``folder_afar.py``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vp3d_cli.errors import MissingDependencyError, OutputError
from vp3d_cli.jobs.folder_afar import HoldAfar, holder_name, is_alive
from vp3d_cli.jobs.inputs import STATE
from vp3d_cli.jobs.journal import open_journal, read_history
from vp3d_cli.jobs.remote import Place, Url

# Workers of a batch that was killed hold its lock until they have died, which takes them a moment.
_ORPHANS_S = 10.0
_POLL_S = 0.1


class Hold(Protocol):
    """A folder for results that this batch alone has."""

    def check(self) -> None:
        """Make sure that it still is. Raises OutputError if it is not."""
        ...

    def staging(self, name: str) -> Place:
        """A new empty folder for unfinished files, in the same store."""
        ...

    def discard(self, name: str) -> None:
        """Remove the unfinished files of this name, or all where it is empty; no matter if there are none."""
        ...

    def release(self) -> None:
        """Let others have the folder."""
        ...


class BatchFolder:
    """A folder for results, held by this batch alone as long as the ``with`` statement lasts.

    Attributes:
        out: the folder.
        journal: to add to.
        history: what the journal said when the folder was opened.
        lock_handles: keep them open in workers: the folder is free when all are closed.
    """

    def __init__(self, out: Place, others: tuple[Place, ...] = ()) -> None:
        """Take the folder, make it if need be, and remove what a batch that was killed has left unfinished.

        Args:
            out: for results and the journal.
            others: further folders that results go to.

        Raises:
            OutputError: another batch has one of them, or one cannot be written.
            MissingDependencyError: this system has no locks as Linux and macOS have them, or a store is unknown.
        """
        self.out = out
        self.lock_handles: list[int] = []
        self._holds: dict[Place, Hold] = {}
        self._scratch = _scratch_of(out)
        try:
            for folder in dict.fromkeys((out, *others)):
                hold: Hold
                if isinstance(folder, Url):
                    hold = HoldAfar(folder / STATE)
                else:
                    hold = _HoldHere(folder)
                    self.lock_handles.append(hold.handle)
                self._holds[folder] = hold
                hold.discard("")
            shutil.rmtree(self._scratch, ignore_errors=True)
            self.history = read_history(out)
            self.journal = open_journal(out)
        except BaseException:
            self._let_go()
            raise

    def staging(self, folder: Place, name: str) -> Place:
        """A new empty folder for unfinished files of ``folder``: on the same disk, or in the same store.

        Raises:
            OutputError: it cannot be made, or the folder is no longer ours.
        """
        self._holds[folder].check()
        if isinstance(folder, Url) and not folder.shared:  # workers would not see it
            return _new(self.scratch(name.partition("/")[0]) / "made" / name, folder)
        return self._holds[folder].staging(name)

    def scratch(self, name: str) -> Path:
        """A folder of this machine for copies of what is elsewhere; removed with what is staged under this name.

        Raises:
            OutputError: it cannot be made.
        """
        path = self._scratch / name / "scratch"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self._scratch, error) from error
        return path

    def keep(self, key: str) -> Place | None:
        """A file for what was found of a video, should the detector fail; outlives the batch. None if it cannot.

        Args:
            key: what the journal calls the result.
        """
        if isinstance(self.out, Url) and not self.out.shared:
            return None
        return self.out / STATE / "kept" / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()}.npz"

    def discard(self, name: str) -> None:
        """Remove the unfinished files that were staged under a name, and copies."""
        for hold in self._holds.values():
            hold.discard(name)
        shutil.rmtree(self._scratch / name, ignore_errors=True)

    def __enter__(self) -> BatchFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hold in self._holds.values():
            hold.discard("")
        shutil.rmtree(self._scratch, ignore_errors=True)
        self.journal.close()
        self._let_go()

    def _let_go(self) -> None:
        for hold in self._holds.values():
            hold.release()
        self._holds, self.lock_handles = {}, []


class _HoldHere:
    """A local folder, locked."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._work = folder, folder / STATE / "work"
        try:
            (folder / STATE).mkdir(parents=True, exist_ok=True)
            self.handle = os.open(folder / STATE / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            _lock(self.handle, folder)
        except BaseException:
            os.close(self.handle)
            raise
        os.truncate(self.handle, 0)
        os.pwrite(self.handle, holder_name().encode(), 0)

    def check(self) -> None:
        pass  # the system keeps the lock

    def staging(self, name: str) -> Path:
        return _new(self._work / name, self._folder)

    def discard(self, name: str) -> None:
        shutil.rmtree(self._work / name if name else self._work, ignore_errors=True)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.handle)


def _scratch_of(out: Place) -> Path:
    """Where copies lie: beside the results, or for results elsewhere where temporary files go, by their address."""
    if isinstance(out, Path):
        return out / STATE / "work"
    name = hashlib.sha256(str(out).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"vp3d-batch-{os.getuid()}-{name}"


def _new(path: Path, folder: Place) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    return path


def _lock(handle: int, folder: Path) -> None:
    if sys.platform == "win32":
        raise MissingDependencyError("vp3d batch needs Linux or macOS; on Windows run it in WSL")
    import fcntl

    until = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError(f"{folder}: cannot be locked ({error.strerror}); choose a local folder") from error
        holder = os.pread(handle, 200, 0).decode(errors="replace")
        if is_alive(holder) or time.monotonic() > until:
            number = holder.partition(" ")[0] or "?"
            raise OutputError(
                f"{folder}: another vp3d batch (process {number}) writes here; wait for it, or choose another folder"
            )
        time.sleep(_POLL_S)


def _unusable(folder: Place, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot be used for results ({error.strerror}); choose another folder")
