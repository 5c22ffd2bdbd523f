"""The folder that a batch writes into: its lock, its journal, and the place where unfinished files lie.

Beside the results there is a folder ``.vp3d-batch`` with the lock, the journal and, while a batch runs, ``work``.
Workers write there and rename into place, so that cleaning up after one that died is to remove its folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from vp3d_cli.batch.journal import History, Journal
from vp3d_cli.errors import MissingDependencyError, OutputError

STATE = ".vp3d-batch"
# Workers of a batch that was killed hold its lock until they have died, which takes them a moment.
_ORPHANS_S = 10.0
_POLL_S = 0.1


def read_history(out: Path) -> History:
    """What earlier batches into a folder have done; the folder need not exist.

    Raises:
        OutputError: the journal cannot be read.
    """
    return History.read(out / STATE / "journal.jsonl")


class BatchFolder:
    """A folder for results, held by this batch alone as long as the ``with`` statement lasts.

    Attributes:
        out: the folder.
        journal: to add to.
        history: what the journal said when the folder was opened.
        lock_handles: keep them open in workers: the folder is free when all are closed.
    """

    def __init__(self, out: Path, others: tuple[Path, ...] = ()) -> None:
        """Take the folder, make it if need be, and remove what a batch that was killed has left unfinished.

        Args:
            out: for results and the journal.
            others: further folders that results go to.

        Raises:
            OutputError: another batch has one of them, or one cannot be written.
            MissingDependencyError: this system has no locks as Linux and macOS have them.
        """
        self.out = out
        self.lock_handles: list[int] = []
        self._states: list[Path] = []
        try:
            for folder in dict.fromkeys((out, *others)):
                self._take(folder)
            self.history = read_history(out)
            self.journal = Journal(out / STATE / "journal.jsonl")
        except BaseException:
            self._let_go()
            raise

    def staging(self, folder: Path, name: str) -> Path:
        """A new empty folder for unfinished files of ``folder``, on the same disk.

        Raises:
            OutputError: it cannot be made.
        """
        path = folder / STATE / "work" / name
        shutil.rmtree(path, ignore_errors=True)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise _unusable(folder, error) from error
        return path

    def discard(self, name: str) -> None:
        """Remove the unfinished files that were staged under a name."""
        for state in self._states:
            shutil.rmtree(state / "work" / name, ignore_errors=True)

    def __enter__(self) -> BatchFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for state in self._states:
            shutil.rmtree(state / "work", ignore_errors=True)
        self.journal.close()
        self._let_go()

    def _take(self, folder: Path) -> None:
        state = folder / STATE
        try:
            state.mkdir(parents=True, exist_ok=True)
            handle = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(folder, error) from error
        self.lock_handles.append(handle)
        _lock(handle, folder)
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} {socket.gethostname()}".encode(), 0)
        self._states.append(state)
        shutil.rmtree(state / "work", ignore_errors=True)

    def _let_go(self) -> None:
        for handle in self.lock_handles:
            with contextlib.suppress(OSError):
                os.close(handle)
        self.lock_handles = []


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
        if _is_alive(holder) or time.monotonic() > until:
            number = holder.partition(" ")[0] or "?"
            raise OutputError(
                f"{folder}: another vp3d batch (process {number}) writes here; wait for it, or choose another folder"
            )
        time.sleep(_POLL_S)


def _is_alive(holder: str) -> bool:
    """Whether the process that wrote ``number host`` into the lock may still run."""
    number, _, host = holder.partition(" ")
    if host != socket.gethostname() or not number.isdecimal():
        return True  # nobody here can tell
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _unusable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot be used for results ({error.strerror}); choose another folder")
