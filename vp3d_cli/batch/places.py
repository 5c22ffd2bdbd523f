"""Where results go: a file that is whole gets its name, be it here or in a store elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from vp3d_cli.batch.fingerprint import Fingerprint, glance
from vp3d_cli.errors import OutputError
from vp3d_cli.remote import Place, Url, rename, send, to_place


def move(staged: str, target: Place, sha256: str) -> Fingerprint:
    """Give a whole file its name.

    Args:
        staged: where it is, in the same store as its target, or on this machine.
        target: its place; what is there is replaced.
        sha256: of its content.

    Returns:
        What it is known by later.

    Raises:
        OutputError: it cannot be moved there.
    """
    source = to_place(staged)
    try:
        if isinstance(target, Url):
            if isinstance(source, Url):
                rename(source, target)
            else:
                send(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(str(source), target)
        return Fingerprint(glance(target), sha256)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error}); choose another folder") from error


def relative_name(place: Place, folder: Place) -> str:
    """What a journal in ``folder`` calls a file: its path from there; across stores its address."""
    if isinstance(place, Path) and isinstance(folder, Path):
        return Path(os.path.relpath(place, folder)).as_posix()
    if isinstance(place, Url) and isinstance(folder, Url) and place.text.startswith(f"{folder.text}/"):
        return place.text[len(folder.text) + 1 :]
    return str(place if isinstance(place, Url) else place.absolute())


def same_file(place: Place) -> str:
    """What is equal for two names of one file."""
    return str(place) if isinstance(place, Url) else os.path.realpath(place)
