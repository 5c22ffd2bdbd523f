"""Files that are elsewhere: URLs of any store that fsspec knows (``s3://``, ``gs://``, ``sftp://``, ``memory://``).

A :class:`Url` answers the questions that are asked of a :class:`pathlib.Path`, so that planning need not know which of
the two it has. Videos are fetched whole, through fsspec's own cache; results are made here and sent whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from vp3d_cli.errors import InputError, MissingDependencyError, OutputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# At least two letters: "C:\clips" is no URL. Chained ones, such as filecache::s3://..., are fsspec's.
_URL = re.compile(r"^([a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CHUNK = 1 << 20
# What tells whether a file was written since, best first; which of these a store gives differs.
_MARKS = ("ETag", "etag", "md5Hash", "checksum", "generation", "mtime", "LastModified", "last_modified", "modify")
_MARKS_TOO = ("modified", "updated", "created")
# Kept by one process for itself: workers cannot see it.
_OF_ONE_PROCESS = frozenset({"memory"})


@dataclass(frozen=True)
class Url:
    """A file or folder of a store that fsspec knows.

    Attributes:
        text: as the user wrote it, without a slash at the end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, below: str | PurePath) -> Url:
        inside = below.as_posix() if isinstance(below, PurePath) else below
        return Url(f"{self.text}/{inside}" if not self.text.endswith("/") else f"{self.text}{inside}")

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.text.partition("://")[2])

    @property
    def name(self) -> str:
        """The last part."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """``.mp4`` of ``clip.mp4``."""
        return self._pure.suffix

    @property
    def parent(self) -> Url:
        """The folder that it is in."""
        head, _, tail = self.text.rpartition("/")
        return Url(head) if tail and not head.endswith(":/") else self

    @cached_property
    def _opened(self) -> tuple[AbstractFileSystem, str]:
        return _open_store(self.text)

    @property
    def store(self) -> AbstractFileSystem:
        """fsspec's file system.

        Raises:
            MissingDependencyError: fsspec, or what it needs for this store, is not installed.
            InputError: no store is called so, or it cannot be reached.
        """
        return self._opened[0]

    @property
    def path(self) -> str:
        """What the store calls it."""
        return self._opened[1]

    @property
    def shared(self) -> bool:
        """Whether other processes see it, too."""
        protocol = self.store.protocol
        return not _OF_ONE_PROCESS & {protocol, *([] if isinstance(protocol, str) else protocol)}

    def exists(self) -> bool:
        """Whether there is something."""
        with reaching(self):
            return bool(self.store.exists(self.path))

    def is_dir(self) -> bool:
        """Whether it is a folder, or a prefix of names."""
        with reaching(self):
            return bool(self.store.isdir(self.path))

    def facts(self) -> tuple[int, str]:
        """Bytes of a file, and a mark that changes whenever it is written.

        Raises:
            OSError: it is not there, or cannot be reached.
        """
        with _as_os_error():
            self.store.invalidate_cache(self.parent.path)
            return facts_of(self.store.info(self.path))

    def entries(self) -> list[dict[str, Any]]:
        """What the store says of each file and folder in this folder: ``name``, ``type``, ``size`` and more.

        Raises:
            OSError: it is not there, or cannot be reached.
        """
        with _as_os_error():
            return [
                info
                for info in self.store.ls(self.path, detail=True)
                if str(info["name"]).rstrip("/") != self.path.rstrip("/")
            ]

    def chunks(self) -> Iterator[bytes]:
        """The content, a MB at a time.

        Raises:
            OSError: it cannot be read.
        """
        with _as_os_error(), self.store.open(self.path, "rb") as file:
            while chunk := file.read(_CHUNK):
                yield bytes(chunk)


Place = Path | Url


def is_url(text: str) -> bool:
    """Whether this is an address and no path; ``file://`` counts."""
    return _URL.match(text) is not None


def to_place(text: str | Path | Url) -> Place:
    """A path, or a URL; ``file://`` is a path."""
    if isinstance(text, (Path, Url)):
        return text
    if not is_url(text):
        return Path(text)
    for local in ("file://", "local://"):
        if text.startswith(local):
            return Path(text.removeprefix(local))
    return Url(text.rstrip("/") if not text.endswith("://") else text)


def facts_of(info: dict[str, Any]) -> tuple[int, str]:
    """Size and mark out of what a store says of a file."""
    mark = next((str(info[name]) for name in (*_MARKS, *_MARKS_TOO) if info.get(name) is not None), "")
    return int(info.get("size") or 0), mark


def fetch(url: Url, folder: Path) -> Path:
    """A local copy of a file, or of all files in a folder, under its own name in ``folder``.

    Files go through fsspec's ``simplecache``, with ``folder`` for its storage; where the URL names a cache of its own
    (``filecache::s3://...``), that one is used.

    Raises:
        InputError: it cannot be fetched.
    """
    try:
        if url.is_dir():
            copy = folder / url.name
            copy.mkdir(parents=True, exist_ok=True)
            for info in url.entries():
                if info["type"] == "file":
                    url.store.get_file(info["name"], str(copy / PurePosixPath(info["name"]).name))
            return copy
        from fsspec import open_local

        if url.text.partition("::")[0] in ("filecache", "simplecache", "blockcache"):
            return Path(open_local(url.text, mode="rb"))
        cache = {"cache_storage": str(folder), "same_names": True}
        return Path(open_local(f"simplecache::{url.text}", mode="rb", simplecache=cache))
    except FileNotFoundError as error:
        raise InputError(f"no such file or folder: {url}") from error
    except Exception as error:
        raise _unreachable(url, error, InputError) from error


def send(file: Path, target: Url, temporary: Url | None = None) -> None:
    """Send a whole file: under a temporary name, which is then changed, so that no half of it has the right one.

    Args:
        file: to send.
        target: its address.
        temporary: where it goes first; by default beside ``target``.

    Raises:
        OutputError: it cannot be sent; nothing is left.
    """
    first = temporary or target.parent / f".{target.name}.partial"
    with _sending(target):
        make_folder(target.parent)
        try:
            target.store.put_file(str(file), first.path)
            rename(first, target)
        except BaseException:
            remove(first)
            raise


def write(target: Url, content: bytes) -> None:
    """Write a small file in one piece.

    Raises:
        OutputError: it cannot be written.
    """
    with _sending(target):
        make_folder(target.parent)
        target.store.pipe_file(target.path, content)
        target.store.invalidate_cache(target.parent.path)


def rename(old: Url, new: Url) -> None:
    """Give a file another name in its store; what had that name is replaced.

    Raises:
        OutputError: it cannot be done.
    """
    with _sending(new):
        make_folder(new.parent)
        try:
            new.store.mv(old.path, new.path)
        except FileExistsError:  # sftp does not rename onto a file that is there
            new.store.rm_file(new.path)
            new.store.mv(old.path, new.path)
        for folder in (old.parent, new.parent):
            new.store.invalidate_cache(folder.path)


def remove(place: Url) -> None:
    """Remove a file, or a folder with all that is in it; that it is not there is no matter."""
    store = place.store
    store.invalidate_cache()
    try:
        store.rm(place.path, recursive=True)
    except Exception:  # noqa: BLE001 (stores raise what they like; the next batch removes it)
        return


def make_folder(folder: Url) -> None:
    """Make a folder where the store has such."""
    folder.store.makedirs(folder.path, exist_ok=True)


def read(url: Url) -> bytes:
    """The content of a small file.

    Raises:
        FileNotFoundError: it is not there.
        OSError: it cannot be read.
    """
    url.store.invalidate_cache()
    return b"".join(url.chunks())


def _open_store(text: str) -> tuple[AbstractFileSystem, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingDependencyError(f"{text}: needs fsspec; install it with: pip install 'vp3d[cluster]'") from error
    try:
        store, path = url_to_fs(text)
    except ImportError as error:
        raise MissingDependencyError(f"{text}: {error}") from error
    except Exception as error:
        raise _unreachable(text, error, InputError) from error
    return store, str(path)


def _unreachable(
    url: Url | str, error: Exception, kind: Callable[[str], InputError | OutputError]
) -> InputError | OutputError:
    if isinstance(error, (InputError, OutputError, MissingDependencyError)):
        return error  # type: ignore[return-value]
    said = " ".join(str(error).split()) or type(error).__name__
    return kind(f"{url}: cannot be reached ({said}); check the address and your access to it")


@contextmanager
def reaching(url: Url) -> Iterator[None]:
    """Turn whatever a store raises into an :class:`InputError`."""
    try:
        yield
    except Exception as error:
        raise _unreachable(url, error, InputError) from error


@contextmanager
def _sending(url: Url) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _unreachable(url, error, OutputError) from error


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Stores raise what their libraries raise."""
    try:
        yield
    except (OSError, InputError, MissingDependencyError):
        raise
    except Exception as error:
        raise OSError(0, " ".join(str(error).split()) or type(error).__name__) from error
