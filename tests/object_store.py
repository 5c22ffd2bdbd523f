"""``shelf://``: an object store as fsspec sees one, kept in a folder that the environment variable SHELF names.

As in S3 there are whole objects and nothing else: no folders but prefixes of names, no adding to an object, no change
of a name but by copying, and lists that fsspec keeps until told otherwise. Importing this module registers it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from upath import UPath
from upath.registry import register_implementation


class ObjectStore(AbstractFileSystem):  # type: ignore[misc]
    """Objects in files whose names are the quoted keys."""

    protocol = "shelf"
    cachable = True

    @property
    def _folder(self) -> Path:
        return Path(os.environ["SHELF"])

    def _file(self, path: str) -> Path:
        return self._folder / quote(self._strip_protocol(path).strip("/"), safe="")

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path).strip("/")
        cached = self.dircache.get(path)
        if cached is None:
            cached = self.dircache[path] = self._list(path)
        return cached if detail else [info["name"] for info in cached]

    def _list(self, path: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for file in self._folder.iterdir():
            key = unquote(file.name)
            if file.name.endswith(".part") or not (key == path or key.startswith(f"{path}/") or not path):
                continue
            head = key[len(path) :].strip("/").partition("/")[0]
            name = f"{path}/{head}".strip("/")
            if name == key:
                etag = hashlib.md5(file.read_bytes()).hexdigest()
                found[name] = {"name": name, "type": "file", "size": file.stat().st_size, "ETag": etag}
            else:
                found[name] = {"name": name, "type": "directory", "size": 0}
        if not found:
            raise FileNotFoundError(path)
        return sorted(found.values(), key=lambda info: str(info["name"]))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            return _Reading(self, path, mode, **options)
        raise NotImplementedError("objects are put whole")

    def _put(self, path: str, content: bytes) -> None:
        if (self._folder / "full").exists():
            raise PermissionError("AccessDenied: this is not your bucket")
        part = self._folder / f"{hashlib.md5(path.encode()).hexdigest()}.{os.getpid()}.part"
        part.write_bytes(content)
        part.replace(self._file(path))
        self.invalidate_cache()

    def put_file(self, lpath: str, rpath: str, callback: Any = None, mode: str = "overwrite", **_: Any) -> None:
        self._put(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._put(path, value)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return self._file(path).read_bytes()[start:end]

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        self._put(path2, self._file(path1).read_bytes())

    def rm_file(self, path: str) -> None:
        self._file(path).unlink()
        self.invalidate_cache()

    _rm = rm_file

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """There are no folders to make."""

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        for name in self.find(path):
            self.rm_file(name)


class _Reading(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


fsspec.register_implementation("shelf", ObjectStore, clobber=True)


class ShelfPath(UPath):
    """A path in the store; ``upath`` warns of stores without a class."""

    __slots__ = ()


register_implementation("shelf", ShelfPath, clobber=True)
