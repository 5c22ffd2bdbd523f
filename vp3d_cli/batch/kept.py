"""What was found before a detector failed, where results go to a store: brought here for the next run, sent back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vp3d_cli.errors import InputError, Vp3dError
from vp3d_cli.remote import Url, fetch, remove, send


class KeptAfar:
    """The files that :mod:`vp3d_cli.resumable` keeps of one video, in a store.

    Attributes:
        here: stands for them on this machine.
        names: what messages call them here, and what to call them instead.
    """

    def __init__(self, place: Url, folder: Path) -> None:
        """Bring what an earlier attempt has left.

        Args:
            place: file of the store.
            folder: of this machine, for copies.
        """
        self._place, self._parts = place, place.parent / place.stem
        folder.mkdir(parents=True, exist_ok=True)
        self.here = folder / place.name
        self.names = {str(self.here.with_suffix("")): str(self._parts)}
        self._brought = False
        for afar in (self._place, self._parts):
            with contextlib.suppress(InputError):  # what cannot be had is found again
                if afar.exists():
                    fetch(afar, folder)
                    self._brought = True

    @contextlib.contextmanager
    def sent_back(self) -> Iterator[None]:
        """After an attempt the store has what it has left here: nothing, where it succeeded.

        Raises:
            Vp3dError: the attempt failed; says so where what it found could not be sent.
        """
        try:
            yield
        except Vp3dError as error:
            try:
                self._send()
            except Vp3dError as trouble:
                raise type(error)(f"{error}; but it could not be sent there ({trouble})") from error
            raise
        self._send()

    def _send(self) -> None:
        from vp3d_cli.resumable import kept_files

        files = {file.relative_to(self.here.parent).as_posix(): file for file in kept_files(self.here)}
        for name, file in files.items():
            send(file, self._place.parent / name)
        if self._brought:
            for url in self._stored():
                if PurePosixPath(url.path).relative_to(self._place.parent.path).as_posix() not in files:
                    remove(url)

    def _stored(self) -> list[Url]:
        found = [self._place] if self._place.exists() else []
        if self._parts.is_dir():
            found += [self._parts / PurePosixPath(info["name"]).name for info in self._parts.entries()]
        return found
