"""What was found before a detector failed, where results go to a store: brought here for the next run, sent back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vp3d_cli.errors import InputError, Vp3dError
from vp3d_cli.jobs.remote import Url, fetch, remove, send


class KeptAfar:
    """The files that :mod:`vp3d_cli.pipeline.detection_cache` keeps of one video, in a store.

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
        from vp3d_cli.pipeline.detection_cache import parts_of

        folder.mkdir(parents=True, exist_ok=True)
        self.here = folder / place.name
        parts = parts_of(self.here)
        self._place, self._parts = place, place.parent / parts.name
        self.names = {str(parts): str(self._parts)}
        self._left = False  # an earlier attempt has left something
        for afar in (self._place, self._parts):
            with contextlib.suppress(InputError):  # what cannot be had is found again
                if afar.exists():
                    self._left = True
                    fetch(afar, folder)

    @contextlib.contextmanager
    def sent_back(self) -> Iterator[None]:
        """After an attempt that failed the store has what it has left here; after one that succeeded, nothing.

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
        if self._left:
            remove(self._place)
            remove(self._parts)

    def _send(self) -> None:
        from vp3d_cli.pipeline.detection_cache import kept_files

        for file in kept_files(self.here):
            send(file, self._place.parent / file.relative_to(self.here.parent).as_posix())
