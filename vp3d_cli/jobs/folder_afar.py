"""A folder for results in a store elsewhere, where there are no locks: who has it says so, again and again."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass

from vp3d_cli.errors import OutputError, Vp3dError
from vp3d_cli.jobs.remote import Url, read, remove, write

_BEAT_S = 10.0
# After so long without a word the holder is taken for dead. Clocks of two machines may differ by the rest.
_STALE_S = 60.0
_SETTLE_S = 0.5  # for another one that took the folder at the same moment to show


@dataclass(frozen=True)
class _Claim:
    """What the lock says: who has the folder, and when they said so."""

    holder: str
    token: str
    time_s: float


class HoldAfar:
    """A folder of a store, taken by writing who has it, which is repeated as long as this lives."""

    def __init__(self, state: Url) -> None:
        """Take it.

        Args:
            state: folder for the lock and for unfinished files.

        Raises:
            OutputError: another batch has it, or it cannot be written.
        """
        self._state = state
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        claim = self._claim()
        if claim is not None and _is_held(claim):
            raise _taken(state, claim)
        self._say()
        time.sleep(_SETTLE_S)
        claim = self._claim()
        if claim is None or claim.token != self._token:
            raise _taken(state, claim)
        self._thread = threading.Thread(target=self._beat, name="vp3d-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Make sure that it still is ours.

        Raises:
            OutputError: another batch has taken it.
        """
        if self._over.is_set():
            raise _taken(self._state, self._claim())

    def staging(self, name: str) -> Url:
        """A place for unfinished files; stores without folders need none made."""
        self.discard(name)
        return self._state / "work" / name

    def discard(self, name: str) -> None:
        """Remove the unfinished files of this name, or all where it is empty."""
        remove(self._state / "work" / name if name else self._state / "work")

    def release(self) -> None:
        """Let others have the folder."""
        lost = self._over.is_set()
        self._over.set()
        self._thread.join()
        if not lost:
            remove(self._state / "lock")

    def _claim(self) -> _Claim | None:
        try:
            stored = json.loads(read(self._state / "lock"))
            return _Claim(str(stored["holder"]), str(stored["token"]), float(stored["time_s"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{self._state}: cannot be read ({error}); choose another folder") from error
        except (ValueError, KeyError, TypeError):
            return None  # not written by us, or by half

    def _say(self) -> None:
        said = {"holder": holder_name(), "token": self._token, "time_s": time.time()}
        write(self._state / "lock", json.dumps(said).encode())

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            try:
                claim = self._claim()
                if claim is not None and claim.token != self._token:
                    self._over.set()  # we were silent for too long: a suspended machine, say
                else:
                    self._say()
            except Vp3dError:
                continue  # the store is away for a moment; if for longer, what is done next says so


def holder_name() -> str:
    """This process as a lock names it."""
    return f"{os.getpid()} {socket.gethostname()}"


def is_alive(holder: str) -> bool:
    """Whether the process that wrote ``number host`` into a lock may still run."""
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


def _is_held(claim: _Claim) -> bool:
    return is_alive(claim.holder) and time.time() - claim.time_s < _STALE_S


def _taken(state: Url, claim: _Claim | None) -> OutputError:
    number, _, host = ("?", "", "") if claim is None else claim.holder.partition(" ")
    return OutputError(
        f"{state.parent}: another vp3d batch (process {number} on {host or '?'}) writes here; wait for it "
        f"(if it has died, for {_STALE_S:g} s), or choose another folder"
    )
