"""A folder of compiled models, so that only the first start of a version pays for compiling.

One file per model, runtime version, processor and options. Each begins with the SHA-256 of what follows, so that a
damaged file is never loaded. A cache that cannot be written is not an error: the model is compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

# Compiled models are 5 to 50 MB; of more than so many files the oldest are removed.
_MAX_FILES = 24
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Folder of the cache: ``$VP3D_CACHE``, else ``vp3d`` in the system's folder for caches."""
    if folder := os.environ.get("VP3D_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vp3d" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vp3d"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vp3d"


def cache_path(*parts: str) -> Path:
    """The file for what these texts describe."""
    return cache_folder() / "compiled" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}.blob"


def read_compiled(path: Path) -> bytes | None:
    """Read a compiled model from the cache; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    compiled = content[_DIGEST_BYTES:]
    return compiled if compiled and hashlib.sha256(compiled).digest() == content[:_DIGEST_BYTES] else None


def write_compiled(path: Path, compiled: bytes) -> None:
    """Write a compiled model atomically.

    Does nothing if the cache is not writable.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial", delete=False) as file:
            try:
                file.write(hashlib.sha256(compiled).digest())
                file.write(compiled)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _remove_old(path.parent)


def _remove_old(folder: Path) -> None:
    files = sorted(folder.glob("*.blob"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[_MAX_FILES:]:
        file.unlink(missing_ok=True)
