"""Weight files: manifests, lookup by name, download, and hash check on every load.

There are two folders of weights, each with a ``manifest.json``: that of vp3d (inside the package, or ``weights/`` of a
source checkout) and that of the user (``$VP3D_HOME/weights``, or ``~/.local/share/vp3d/weights``). Entries of the user
replace entries of vp3d with the same name. An entry may have a ``url`` instead of a file: the file is downloaded on
first use into the user's folder. If the URL serves a zip archive, ``member`` is the name of the file inside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp3d_cli.errors import WeightsError

MANIFEST = "manifest.json"
DEFAULT_LIFTER = "default"
# Values of `--lifter` besides the names in the manifest.
LIFTER_ALIASES = {DEFAULT_LIFTER: "open-243", "open": "open-243", "fast": "open-27"}
LIFTER_KINDS = ("pose", "trajectory")
KINDS = ("detector", *LIFTER_KINDS)
_CHUNK = 1 << 20
_TIMEOUT_S = 30.0  # a download fails after this time without data


@dataclass(frozen=True)
class WeightFile:
    """One entry of a manifest.

    Attributes:
        name: name in the manifest.
        path: path of the file, also before its download.
        sha256: 64 hexadecimal digits, lower case.
        bytes: size of the file; 0 if unknown before the download.
        kind: ``detector``, ``pose`` or ``trajectory``.
        licence: SPDX name, or a few words.
        source: origin of the weights.
        trained_on: training data.
        url: download address; None for a file that is part of vp3d or was added by the user.
        member: name of the file in the zip archive at ``url``; None if ``url`` serves the file itself.
        bundled: True for an entry of vp3d, False for one of the user.
        separate: True for weights that are not part of the installed package, because they are not free for any use.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    kind: str
    licence: str
    source: str
    trained_on: str
    url: str | None = None
    bundled: bool = True
    member: str | None = None
    separate: bool = False

    @property
    def present(self) -> bool:
        """Whether the file exists on this machine."""
        return self.path.is_file()

    @property
    def state(self) -> str:
        """``ok`` for a file on this machine; else ``not fetched yet`` or ``not part of the package``."""
        if self.present:
            return "ok"
        return "not part of the package" if self.separate else "not fetched yet"


def weights_dir() -> Path:
    """Folder of vp3d's weights: in the package, else ``weights/`` of the source checkout.

    Raises:
        WeightsError: neither folder exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "bundled_weights", package.parent / "weights"):
        if (folder / MANIFEST).is_file():
            return folder
    raise WeightsError(f"the weights of vp3d are missing beside {package}; install vp3d again")


def user_weights_dir() -> Path:
    """Folder of the user's own weights; it may not exist yet."""
    if home := os.environ.get("VP3D_HOME"):
        return Path(home).expanduser() / "weights"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "vp3d" / "weights"


def read_manifest(folder: Path, *, bundled: bool = True) -> dict[str, WeightFile]:
    """Entries of ``folder/manifest.json`` by name; empty if there is no such file.

    Raises:
        WeightsError: the manifest is invalid.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(folder, name, entry, bundled) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: invalid manifest of weights ({error!r}); restore or remove it") from error


def _entry(folder: Path, name: str, entry: dict[str, Any], bundled: bool) -> WeightFile:
    if Path(entry["file"]).name != entry["file"]:
        raise ValueError(f"file of {name} must be a plain file name, not {entry['file']!r}")
    url = entry.get("url")
    path = (user_weights_dir() if url and bundled else folder) / entry["file"]
    return WeightFile(
        name=name,
        path=path,
        sha256=str(entry["sha256"]).lower(),
        bytes=int(entry["bytes"]) or (path.stat().st_size if path.is_file() else 0),
        kind=entry["kind"],
        licence=entry["licence"],
        source=entry["source"],
        trained_on=entry["trained_on"],
        url=url,
        bundled=bundled,
        member=entry.get("member"),
        separate=bool(entry.get("separate", False)),
    )


def list_weights() -> list[WeightFile]:
    """List all weights: vp3d's, then the user's; a user's entry replaces one of the same name."""
    entries = read_manifest(weights_dir())
    entries.update(read_manifest(user_weights_dir(), bundled=False))
    return list(entries.values())


def find_weights(name: str, kinds: Collection[str] | None = None) -> WeightFile:
    """Find weights by name, download them if necessary, and check their hash.

    Args:
        name: name in the manifest.
        kinds: accepted kinds; None for all.

    Raises:
        WeightsError: unknown name, missing file, failed download or wrong hash.
    """
    entries = {entry.name: entry for entry in list_weights() if kinds is None or entry.kind in kinds}
    if name not in entries:
        raise WeightsError(f"no weights named {name!r}; known: {', '.join(entries)} (see: vp3d weights list)")
    entry = entries[name]
    if not entry.present and entry.url:
        _download(entry)
    check(entry)
    return entry


def find_lifter(name: str) -> tuple[Path, str, str]:
    """Find a lifter by name or file path.

    Returns:
        Path, name and sha256 of the file; the hash is "" for a file given by its path.

    Raises:
        WeightsError: the lifter is unknown, missing or damaged.
    """
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        # Every training run has files "best" and "last", so the name includes the folder.
        own = path.stem.endswith(("best", "last")) and path.resolve().parent.name
        return path, f"{own}/{path.stem}" if own else path.stem, ""
    if path.is_file():
        raise WeightsError(f"{name} is not a lifter file of vp3d; add a checkpoint first: vp3d weights add {name}")
    entry = find_weights(LIFTER_ALIASES.get(name, name), LIFTER_KINDS)
    return entry.path, entry.name, entry.sha256


def check(entry: WeightFile) -> None:
    """Check the hash of a file against its manifest entry.

    Raises:
        WeightsError: the file is missing or has another hash.
    """
    if not entry.present and entry.separate:
        raise WeightsError(
            f"weights {entry.name} ({entry.licence}) are not part of the installed package; take {entry.path.name} "
            f"from the weights folder of the source code, then: vp3d weights add {entry.path.name} --name {entry.name}"
        )
    if not entry.present:
        raise WeightsError(f"weights {entry.name}: {entry.path} is missing; install vp3d again or add the file")
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise WeightsError(
            f"weights {entry.name}: {entry.path} has sha256 {actual[:12]}..., expected {entry.sha256[:12]}...; "
            "the file is damaged or was replaced: restore it, or add it under its own name"
        )


def verify_weights() -> list[tuple[WeightFile, str | None]]:
    """Check all weight files; returns each entry with its problem, or None.

    Weights that were not downloaded yet, or are not part of the installed package, have no problem.
    """
    results: list[tuple[WeightFile, str | None]] = []
    for entry in list_weights():
        problem = None
        if entry.present or not (entry.url or entry.separate):
            try:
                check(entry)
            except WeightsError as error:
                problem = str(error)
        results.append((entry, problem))
    return results


def add_weights(
    path: str | Path,
    name: str,
    *,
    kind: str,
    licence: str = "unknown",
    source: str = "",
    trained_on: str = "unknown",
    overwrite: bool = False,
) -> WeightFile:
    """Copy a file into the user's folder and add it to the user's manifest.

    Args:
        path: path of the file.
        name: letters, digits, ``.``, ``_`` and ``-``.
        kind: ``detector``, ``pose`` or ``trajectory``.
        licence, source, trained_on: shown by ``vp3d weights list``; ``source`` defaults to the path.
        overwrite: replace an entry of the user with this name.

    Raises:
        WeightsError: no such file, invalid name or kind, or the name is in use (see :func:`check_free`).
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no such weight file: {path}")
    folder = user_weights_dir()
    entry = {"kind": kind, "licence": licence, "source": source or str(path.resolve()), "trained_on": trained_on}
    _check_name(name, kind)
    check_free(name, overwrite, path)
    target = folder / (name + "".join(path.suffixes[-1:]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(target) as temporary:
            shutil.copyfile(path, temporary)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror or error}") from error
    return add_to_manifest(folder, target.name, name, **entry, bundled=False)


def check_free(name: str, overwrite: bool, file: Path | None = None) -> None:
    """Check that a name is free for weights of the user.

    Args:
        name: name to check.
        overwrite: allow the name of an existing entry of the user.
        file: file to add. A file with the hash of vp3d's entry may have its name: this installs a downloadable file
            on a machine without a network.

    Raises:
        WeightsError: the name belongs to weights of vp3d, or of the user without ``overwrite``.
    """
    shipped = read_manifest(weights_dir()).get(name)
    itself = shipped is not None and file is not None and sha256_of(file) == shipped.sha256
    if name in LIFTER_ALIASES or (shipped is not None and not itself):
        raise WeightsError(f"the name {name} belongs to weights of vp3d; give another --name")
    if not overwrite and name in read_manifest(user_weights_dir(), bundled=False):
        raise WeightsError(f"weights named {name} already exist; give another --name, or --overwrite to replace them")


def add_to_manifest(
    folder: Path,
    file: str,
    name: str,
    *,
    kind: str,
    licence: str,
    source: str,
    trained_on: str,
    url: str | None = None,
    member: str | None = None,
    bundled: bool = True,
) -> WeightFile:
    """Add a file in ``folder`` to the manifest of the folder, or replace its entry.

    Size and hash are those of the present file.

    Raises:
        WeightsError: no such file, invalid name or kind, or an invalid manifest.
    """
    _check_name(name, kind)
    path = folder / file
    if not path.is_file():
        raise WeightsError(f"no such weight file: {path}")
    read_manifest(folder)  # raises for an invalid manifest before anything is written
    manifest = folder / MANIFEST
    entries = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    entry: dict[str, Any] = {"file": file, "sha256": sha256_of(path), "bytes": path.stat().st_size, "kind": kind}
    entry |= {"licence": licence, "source": source, "trained_on": trained_on}
    entry |= {key: value for key, value in (("url", url), ("member", member)) if value}
    entries[name] = entry
    with _replacing(manifest) as temporary:
        temporary.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return _entry(folder, name, entry, bundled)


def _check_name(name: str, kind: str) -> None:
    if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name) or name.startswith("."):
        raise WeightsError(f"invalid name for weights: {name!r}; use letters, digits, '.', '_' and '-'")
    if kind not in KINDS:
        raise WeightsError(f"unknown kind of weights {kind!r}; use one of {', '.join(KINDS)}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        WeightsError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _download(entry: WeightFile) -> None:
    """Download a file; the target is written only with the complete file and the right hash."""
    try:
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(entry.path) as temporary:
            with (
                urllib.request.urlopen(str(entry.url), timeout=_TIMEOUT_S) as response,
                temporary.open("wb") as out,
            ):
                shutil.copyfileobj(response, out, _CHUNK)
            if entry.member:
                _keep_member(temporary, entry.member)
            actual = sha256_of(temporary)
            if actual != entry.sha256:
                raise WeightsError(
                    f"weights {entry.name}: the file at {entry.url} has sha256 {actual[:12]}..., "
                    f"expected {entry.sha256[:12]}...; try again later, or add the file with vp3d weights add"
                )
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError: not a URL
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise WeightsError(
            f"weights {entry.name}: cannot download {entry.url} ({reason}); "
            "check the network, or add the file with vp3d weights add"
        ) from error


def _keep_member(archive: Path, member: str) -> None:
    """Replace a zip archive by one of its files, from any folder inside.

    Raises:
        ValueError: not a zip archive, or it does not have exactly one such file.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            names = [name for name in content.namelist() if name.rpartition("/")[2] == member]
            if len(names) != 1:
                raise ValueError(f"the archive has {len(names)} files named {member}")
            with _replacing(archive) as extracted, content.open(names[0]) as source, extracted.open("wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
    except zipfile.BadZipFile as error:
        raise ValueError(f"not a zip archive: {error}") from error


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``target`` if the block raises nothing."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 0600, which would hide the weights from other users
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
