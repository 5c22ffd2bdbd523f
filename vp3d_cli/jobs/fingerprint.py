"""Tell whether a file is still the one that it was: at a glance by size and time, for sure by its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vp3d_cli.io.atomic import content_sha256, list_content
from vp3d_cli.jobs.inputs import images_of
from vp3d_cli.jobs.remote import Place, Url


@dataclass(frozen=True)
class Glance:
    """What can be seen of a file, or of the images in a folder, without reading it.

    Attributes:
        path: absolute, or a URL.
        size: bytes.
        mark: changes whenever the file is written: its time of modification; of a folder a digest of all of them.
    """

    path: str
    size: int
    mark: str


@dataclass(frozen=True)
class Fingerprint:
    """A glance, and the SHA-256 of the content; empty where nobody has read it."""

    glance: Glance
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """What the journal keeps."""
        return {**asdict(self.glance), "sha256": self.sha256}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that :meth:`as_json` gave.

        Raises:
            KeyError: this is none.
        """
        return cls(Glance(stored["path"], stored["size"], stored["mark"]), stored["sha256"])


def glance(path: Place) -> Glance:
    """Look at a file or folder.

    Raises:
        OSError: it is not there.
    """
    if isinstance(path, Url):
        return _glance_afar(path)
    if not path.is_dir():
        status = path.stat()
        return Glance(str(path), status.st_size, str(status.st_mtime_ns))
    size, digest = 0, hashlib.sha256()
    for file in list_content(path):
        status = file.stat()
        size += status.st_size
        digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return Glance(str(path), size, digest.hexdigest())


def sha256_of_place(place: Place, beat: Callable[[], None] = lambda: None) -> str:
    """As :func:`vp3d_cli.io.atomic.content_sha256`; that of a URL is the one of a local copy.

    Raises:
        OSError: it cannot be read.
    """
    if not isinstance(place, Url):
        return content_sha256(place, beat)
    digest = hashlib.sha256()
    for chunk in _content_afar(place):
        digest.update(chunk)
        beat()
    return digest.hexdigest()


def take_fingerprint(path: Place, beat: Callable[[], None] = lambda: None) -> Fingerprint:
    """Look at a file or folder and read it all, calling ``beat`` on the way.

    Raises:
        OSError: it cannot be read.
    """
    return Fingerprint(glance(path), sha256_of_place(path, beat))


def is_unchanged(path: Place, before: Fingerprint) -> bool:
    """Whether a file has the content that it had; it is read only where a glance is not enough."""
    try:
        now = glance(path)
        if now == before.glance:
            return True
        same_size = now.size == before.glance.size and before.sha256 != ""
        return same_size and sha256_of_place(path) == before.sha256
    except OSError:
        return False


def _glance_afar(url: Url) -> Glance:
    if not url.is_dir():
        size, mark = url.facts()
        return Glance(str(url), size, mark)
    files = images_of(url)
    digest = hashlib.sha256("".join(f"{file.name}\0{size}\0{mark}\0" for file, size, mark in files).encode())
    return Glance(str(url), sum(size for _, size, _ in files), digest.hexdigest())


def _content_afar(url: Url) -> Iterator[bytes]:
    """What is digested of a local copy."""
    if not url.is_dir():
        yield from url.chunks()
        return
    for file, size, _ in images_of(url):
        yield f"{file.name}\0{size}\0".encode()
        yield from file.chunks()
