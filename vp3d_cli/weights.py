"""Weight files: a manifest says what each one is, and its hash is checked on every load.

Two places hold weights, each with a ``manifest.json``: the ones that ship with vp3d (inside the package, or
``weights/`` of a source checkout) and the user's own (``$VP3D_HOME/weights``, or ``~/.local/share/vp3d/weights``),
which win where both have a name. An entry may name a ``url`` instead of shipping the file: it is fetched on first
use into the user's folder; where it serves a zip archive, ``member`` names the file inside.
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
DEFAULT_LIFTER = "default"  # what --lifter takes for the one that suits most videos
# What `--lifter` takes besides the names in the manifest.
LIFTER_ALIASES = {DEFAULT_LIFTER: "pose-243", "open": "open-27"}
LIFTER_KINDS = ("pose", "trajectory")
KINDS = ("detector", *LIFTER_KINDS)
_CHUNK = 1 << 20
_TIMEOUT_S = 30.0  # without a byte for so long, a download has failed


@dataclass(frozen=True)
class WeightFile:
    """One entry of a manifest.

    Attributes:
        name: what commands and other modules call it.
        path: where the file is, or will be once fetched.
        sha256: 64 hexadecimal digits, lower case.
        bytes: size of the file; 0 for a remote one whose size the manifest does not know.
        kind: ``detector``, ``pose`` or ``trajectory``.
        licence: SPDX name, or a few words.
        source: where the weights come from.
        trained_on: the data that they were trained on.
        url: where to fetch the file when it is not there; None for one that ships.
        member: name of the file in the zip archive that ``url`` serves; None where it serves the file itself.
        bundled: True for what ships with vp3d, False for what the user added.
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

    @property
    def present(self) -> bool:
        """Whether the file is on this machine."""
        return self.path.is_file()


def weights_dir() -> Path:
    """Folder of the weights that ship: inside the installed package, else ``weights/`` of the source checkout.

    Raises:
        WeightsError: neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "bundled_weights", package.parent / "weights"):
        if (folder / MANIFEST).is_file():
            return folder
    raise WeightsError(f"vp3d's weights are not beside {package}; install vp3d again")


def user_weights_dir() -> Path:
    """Folder of the user's own weights; it need not exist yet."""
    if home := os.environ.get("VP3D_HOME"):
        return Path(home).expanduser() / "weights"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "vp3d" / "weights"


def read_manifest(folder: Path, *, bundled: bool = True) -> dict[str, WeightFile]:
    """Entries of ``folder/manifest.json`` by name; empty where there is no such file.

    Raises:
        WeightsError: the manifest is broken.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(folder, name, entry, bundled) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a manifest of weights ({error!r}); restore or remove it") from error


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
    )


def list_weights() -> list[WeightFile]:
    """All known weights: what ships, then the user's own; a user's entry replaces one that ships."""
    entries = read_manifest(weights_dir())
    entries.update(read_manifest(user_weights_dir(), bundled=False))
    return list(entries.values())


def find_weights(name: str, kinds: Collection[str] | None = None) -> WeightFile:
    """Look up weights by name, fetch them if they are remote and not here yet, and check their hash.

    Args:
        name: in the manifest.
        kinds: only these; None for all.

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
    """Where a lifter file is, what it is called, and its sha256 ("" for a file given by its path).

    Raises:
        WeightsError: unknown, missing or damaged.
    """
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        # Every training run has a "best" and a "last": it is the folder that tells them apart.
        own = path.stem.endswith(("best", "last")) and path.resolve().parent.name
        return path, f"{own}/{path.stem}" if own else path.stem, ""
    if path.is_file():
        raise WeightsError(f"{name} is no lifter file of vp3d; add a checkpoint first: vp3d weights add {name}")
    entry = find_weights(LIFTER_ALIASES.get(name, name), LIFTER_KINDS)
    return entry.path, entry.name, entry.sha256


def check(entry: WeightFile) -> None:
    """Compare a file with its manifest entry.

    Raises:
        WeightsError: the file is missing or is not the one in the manifest.
    """
    if not entry.present:
        raise WeightsError(f"weights {entry.name}: {entry.path} is missing; install vp3d again or add the file")
    actual = sha256_of(entry.path)
    if actual != entry.sha256:
        raise WeightsError(
            f"weights {entry.name}: {entry.path} has sha256 {actual[:12]}..., expected {entry.sha256[:12]}...; "
            "the file is damaged or was replaced: restore it, or add it under its own name"
        )


def verify_weights() -> list[tuple[WeightFile, str | None]]:
    """Check every file on this machine; for each entry the problem, or None.

    Remote weights that were not fetched yet are no problem.
    """
    results: list[tuple[WeightFile, str | None]] = []
    for entry in list_weights():
        problem = None
        if entry.present or not entry.url:
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
    """Copy a file into the user's folder and enter it in the user's manifest.

    Args:
        path: the file.
        name: letters, digits, ``.``, ``_`` and ``-``.
        kind: ``detector``, ``pose`` or ``trajectory``.
        licence, source, trained_on: what ``vp3d weights list`` shows; ``source`` defaults to the path.
        overwrite: replace an entry of the user with this name.

    Raises:
        WeightsError: no such file, bad name or kind, or a name that is taken (see :func:`check_free`).
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
    """Find out whether weights of the user may have a name.

    Args:
        name: to be given.
        overwrite: an entry of the user may be replaced.
        file: that is to be added. The very file of vp3d's may be: so one that is fetched on first use gets onto a
            machine without a network.

    Raises:
        WeightsError: vp3d's own weights are called so, or the user's without ``overwrite``.
    """
    shipped = read_manifest(weights_dir()).get(name)
    itself = shipped is not None and file is not None and sha256_of(file) == shipped.sha256
    if name in LIFTER_ALIASES or (shipped is not None and not itself):
        raise WeightsError(f"weights of vp3d's own are called {name}; give yours another --name")
    if not overwrite and name in read_manifest(user_weights_dir(), bundled=False):
        raise WeightsError(f"weights called {name} exist already; give another --name, or --overwrite to replace them")


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
    """Enter a file that lies in ``folder`` in its manifest, with its present size and hash; replaces an old entry.

    Raises:
        WeightsError: no such file, bad name or kind, or a broken manifest.
    """
    _check_name(name, kind)
    path = folder / file
    if not path.is_file():
        raise WeightsError(f"no such weight file: {path}")
    read_manifest(folder)  # refuse to touch a broken one
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
        raise WeightsError(f"bad name for weights: {name!r}; use letters, digits, '.', '_' and '-'")
    if kind not in KINDS:
        raise WeightsError(f"unknown kind of weights {kind!r}; one of {', '.join(KINDS)}")


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
    """Fetch a remote file; it takes its place only when whole and with the right hash."""
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
                    f"weights {entry.name}: what {entry.url} serves has sha256 {actual[:12]}..., "
                    f"expected {entry.sha256[:12]}...; try again later, or add the file by hand"
                )
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError: not a URL
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise WeightsError(
            f"weights {entry.name}: cannot fetch {entry.url} ({reason}); check the network, or add the file by hand"
        ) from error


def _keep_member(archive: Path, member: str) -> None:
    """Put a file of a zip archive, in whatever folder of it, in the archive's place.

    Raises:
        ValueError: this is no archive, or it does not have exactly one such file.
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
    """Give a temporary file beside ``target``, which takes its place when the block ends without an exception."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 0600, which would hide the weights from other users
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
