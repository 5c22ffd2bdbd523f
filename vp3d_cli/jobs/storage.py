"""Files at paths and URLs of any fsspec store.

Examples are ``s3://``, ``gs://``, ``sftp://`` and ``memory://``.

A path is a :class:`pathlib.Path`, a URL a :class:`upath.UPath`, which answers the same questions. Videos are copied in
whole before they are read, and results are copied out whole after they were made.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from vp3d_cli.errors import InputError, MissingDependencyError, OutputError, Vp3dError
from vp3d_cli.io.atomic import content_sha256, is_image, modification_of

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"

# At least two letters: "C:\clips" is no URL. Chained ones, such as filecache::s3://..., are fsspec's.
_URL = re.compile(r"^([a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CHUNK_BYTES = 1 << 20
# What tells whether a file was written since, best first; which of these a store gives differs.
_MARKS = (
    "ETag", "etag", "md5Hash", "checksum", "generation", "mtime", "LastModified", "last_modified", "modify", "modified",
    "updated", "created",
)  # fmt: skip
_IN_ONE_PROCESS = frozenset({"memory"})  # stores that other processes do not see


def to_place(text: str | Place) -> Place:
    """A path, or a URL; ``file://`` is a path.

    Raises:
        InputError: no store is called so, or it cannot be reached.
        MissingDependencyError: universal-pathlib, or what it needs for this store, is not installed.
    """
    if not isinstance(text, str):
        return text
    if _URL.match(text) is None:
        return Path(text)
    for local in ("file://", "local://"):
        if text.startswith(local):
            return Path(text.removeprefix(local))
    try:
        from fsspec.core import url_to_fs
        from upath import UPath
    except ImportError as error:
        raise MissingDependencyError(
            f"{text}: needs universal-pathlib; install it with: pip install 'vp3d[cluster]'"
        ) from error
    with reaching(text), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about stores for which upath has no class of its own
        url_to_fs(text)  # raises what opening the store raises
        return UPath(text if text.endswith("://") else text.rstrip("/"))


def is_shared(place: Place) -> bool:
    """Whether other processes see it, too."""
    return isinstance(place, Path) or place.protocol not in _IN_ONE_PROCESS


def absolute(place: Place) -> Place:
    """Return the place as an absolute path, for a process with another working folder."""
    return place.absolute() if isinstance(place, Path) else place


def same_file(place: Place) -> str:
    """Return a key that is equal for two paths of the same file."""
    return os.path.realpath(place) if isinstance(place, Path) else str(place)


def refresh(place: Place) -> Place:
    """The place, after what fsspec remembers of its store was dropped."""
    if not isinstance(place, Path):
        place.fs.invalidate_cache()
    return place


def entries_of(folder: Place) -> list[Place]:
    """The files and folders in a folder, by name.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    entries: list[Place] = [*folder.iterdir()]
    return sorted(entries, key=lambda entry: entry.name)


def modification(place: Place) -> dict[str, Any]:
    """Return ``size`` (bytes) and ``mtime`` of a file or a folder of images.

    ``mtime`` is a mark that changes when the file, or an image of the folder, is written.

    Raises:
        OSError: it is not there, or cannot be reached.
    """
    if isinstance(place, Path):
        return modification_of(place)
    with _as_os_error():
        refresh(place)
        if not place.is_dir():
            return _facts(place.fs.info(place.path))
        each = [(file, _facts(file.fs.info(file.path))) for file in _content(place)]
    digest = hashlib.sha256("".join(f"{file.name}\0{facts['mtime']}\0" for file, facts in each).encode())
    return {"size": sum(facts["size"] for _, facts in each), "mtime": digest.hexdigest()}


def sha256_of(place: Place, beat: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file or folder.

    A copy has the same; see :func:`vp3d_cli.io.atomic.content_sha256`.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(place, Path):
        return content_sha256(place, beat)
    digest = hashlib.sha256()
    with _as_os_error():
        is_folder = place.is_dir()
        for file in _content(place) if is_folder else [place]:
            if is_folder:
                digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    beat()
    return digest.hexdigest()


def is_unchanged(place: Place, before: Mapping[str, Any]) -> bool:
    """Whether a file is unchanged.

    The file is read only where size and modification time do not decide it.

    Args:
        place: the file or folder of images.
        before: its ``size``, ``mtime`` and ``sha256`` then.
    """
    try:
        now = modification(place)
        if now["size"] != before["size"]:
            return False
        return bool(now["mtime"] == before.get("mtime") or sha256_of(place) == before["sha256"])
    except (OSError, KeyError):
        return False


def fetch(place: Place, folder: Path) -> Path:
    """Copy a file or folder at a URL to a local folder, and return the path of the copy.

    The copy keeps its name. A local path is returned as it is.

    Args:
        place: what to copy.
        folder: for the copy.

    Raises:
        InputError: it cannot be copied.
    """
    if isinstance(place, Path):
        return place
    copy = folder / place.name
    folder.mkdir(parents=True, exist_ok=True)
    with reaching(place):
        refresh(place)
        if place.is_dir():
            copy.mkdir(exist_ok=True)
            for file in place.iterdir():
                if file.is_file():
                    file.fs.get_file(file.path, str(copy / file.name))
        else:
            place.fs.get_file(place.path, str(copy))
    return copy


def publish(file: Path, target: Place, temporary: Place) -> None:
    """Move a complete file to its final place, replacing an older one atomically.

    Args:
        file: of this machine; it is gone afterwards.
        target: its place.
        temporary: a folder in the same store as ``target``, where a file that is sent lies until it is whole.

    Raises:
        OutputError: it cannot be written there.
    """
    if isinstance(target, Path):
        try:
            with file.open("rb") as stream:
                os.fsync(stream.fileno())  # the name must not reach the disk before the content
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be written ({error.strerror or error}); choose another folder"
            ) from None
        return
    assert not isinstance(temporary, Path)
    first = temporary / target.name
    with reaching(target, OutputError):
        target.fs.makedirs(target.parent.path, exist_ok=True)
        target.fs.makedirs(temporary.path, exist_ok=True)
        try:
            target.fs.put_file(str(file), first.path)
            _rename(first, target)
        except BaseException:
            remove(first)
            raise
    file.unlink()


def write_bytes(target: Place, content: bytes) -> None:
    """Write a small file in one piece, with its folder.

    Raises:
        OutputError: it cannot be written.
    """
    with reaching(target, OutputError):
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
            partial.write_bytes(content)
            os.replace(partial, target)
        else:
            target.fs.makedirs(target.parent.path, exist_ok=True)
            target.fs.pipe_file(target.path, content)
            refresh(target)


def remove(place: Place) -> None:
    """Remove a file, or a folder with all that is in it, if it is there and can be removed."""
    if isinstance(place, Path):
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        return
    refresh(place)
    try:
        place.fs.rm(place.path, recursive=True)
    except Exception:  # noqa: BLE001 (stores raise what they like; the next batch removes it)
        return


@contextmanager
def reaching(place: Place | str, kind: type[Vp3dError] = InputError) -> Iterator[None]:
    """Convert exceptions of a store to a :class:`Vp3dError` that names the place.

    Raises:
        InputError: or the ``kind`` that was asked for.
        MissingDependencyError: a package is missing.
    """
    try:
        yield
    except Vp3dError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"{place}: {error}") from error
    except FileNotFoundError as error:
        raise kind(f"no such file or folder: {place}") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise kind(f"{place}: cannot be reached ({said}); check the address and your access to it") from error


def _rename(old: UPath, new: UPath) -> None:
    try:
        old.fs.mv(old.path, new.path)
    except FileExistsError:  # sftp does not rename onto a file that is there
        new.fs.rm_file(new.path)
        old.fs.mv(old.path, new.path)
    refresh(new)


def _content(folder: UPath) -> list[UPath]:
    """The images of a folder, by name; of one without images all files."""
    files = sorted((file for file in folder.iterdir() if file.is_file()), key=lambda file: file.name)
    return [file for file in files if is_image(file.name)] or files


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    mark = next((str(info[name]) for name in _MARKS if info.get(name) is not None), "")
    return {"size": int(info.get("size") or 0), "mtime": mark}


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Stores raise what their libraries raise."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(0, " ".join(str(error).split()) or type(error).__name__) from error


def inside(place: Place, folder: Place) -> PurePosixPath:
    """The path of a file within a folder."""
    return PurePosixPath(place.relative_to(folder).as_posix())  # type: ignore[arg-type]
