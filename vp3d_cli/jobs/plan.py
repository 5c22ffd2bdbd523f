"""Result paths of each video, and which results are up to date by their provenance.

A pose file, and keypoints in vp3d's own format, have their provenance in them. For results of other formats it lies in
``.vp3d-batch/provenance`` of the folder that they are in.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vp3d_cli import __version__
from vp3d_cli.errors import ConfigError, InputError, MissingDependencyError
from vp3d_cli.jobs.inputs import STATE, BatchInput
from vp3d_cli.jobs.storage import (
    Place,
    absolute,
    entries_of,
    inside,
    is_unchanged,
    refresh,
    same_file,
    sha256_of,
    to_place,
    write_bytes,
)
from vp3d_cli.pipeline.settings import InferSettings, naming

# What can be made of a video.
POSE, RENDER, KEYPOINTS = "pose", "render", "keypoints"
KEYPOINT_SUFFIXES = {"vp3d": ".npz", "videopose3d": ".npz", "coco": ".json"}
# Settings that do not decide what a result is: where it is computed, and files whose content counts instead.
_NOT_COMPARED = frozenset({"device", "keypoints", "joint_map", "lifter", "trajectory"})
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

# What results are made with: version of vp3d, settings, weights, format; compared as JSON holds it.
Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class BatchItem:
    """One video and its results.

    Attributes:
        input: the video.
        targets: kind of result to the file to write, in the order in which they are made.
        roots: kind of result to the folder that mirrors the videos, in which that file lies.
        keypoints: 2D keypoints of another tool that belong to this video; None lets the detector find them.
        problem: why it cannot be done; None where nothing is known to be wrong.
    """

    input: BatchInput
    targets: Mapping[str, Place]
    roots: Mapping[str, Place]
    keypoints: Place | None = None
    problem: str | None = None

    def with_absolute_paths(self) -> BatchItem:
        """Return the item with absolute paths, for a process with another working folder."""
        return dataclasses.replace(
            self,
            targets={kind: absolute(target) for kind, target in self.targets.items()},
            roots={kind: absolute(root) for kind, root in self.roots.items()},
            keypoints=None if self.keypoints is None else absolute(self.keypoints),
        )

    def provenance_file(self, kind: str) -> Place:
        """Path of the provenance file, for results whose format cannot hold it."""
        return self._state_file("provenance", kind)

    @property
    def nobody_file(self) -> Place:
        """Path of the marker file for a video in which nobody was found."""
        return self._state_file("nobody", next(iter(self.targets)))

    @property
    def keep_file(self) -> Path | None:
        """Path for the detections of an unfinished video, for the next attempt.

        None where results are at a URL.
        """
        file = self._state_file("kept", next(iter(self.targets)))
        return file.with_suffix(".npz").absolute() if isinstance(file, Path) else None

    def _state_file(self, folder: str, kind: str) -> Place:
        name = inside(self.targets[kind], self.roots[kind])
        return self.roots[kind] / STATE / folder / f"{name}.json"


@dataclass(frozen=True)
class Decision:
    """Planned work for a video.

    Attributes:
        needed: kinds of result that are missing or out of date; empty where all is done.
        why: the reason, with fields of the settings in angle brackets; :meth:`because` is for people.
        failure: it cannot succeed, and why.
        nobody: the failure is that nobody is in it, as an earlier batch found.
    """

    needed: tuple[str, ...]
    why: str = ""
    failure: str | None = None
    nobody: bool = False

    def because(self, name: Callable[[str], str] = str) -> str:
        """Return the reason, with settings fields renamed by ``name``."""
        return naming(self.why, name)


def plan_items(
    inputs: Sequence[BatchInput],
    *,
    roots: Mapping[str, Place],
    suffixes: Mapping[str, str],
    keypoints: Place | None = None,
) -> list[BatchItem]:
    """Choose the result paths of each video: ``cam1/walk.mp4`` gives ``cam1/walk.npz``.

    The folder tree of the videos is kept.

    Where two videos of one folder differ by their suffix only, both keep it: ``walk.mov.npz``, ``walk.mp4.npz``.

    Args:
        inputs: from :func:`vp3d_cli.jobs.inputs.find_inputs`.
        roots: kind of result to the folder for it.
        suffixes: kind of result to how its files end.
        keypoints: folder with 2D keypoints of other tools, which mirrors the videos, too.

    Raises:
        ConfigError: a result would replace a video that is read.
    """
    stems = [item.place.name if item.path.is_dir() else item.place.stem for item in inputs]
    names = _result_names([item.place for item in inputs], stems)
    sources = {same_file(item.path) for item in inputs}
    items: list[BatchItem] = []
    for item, stem, name in zip(inputs, stems, names, strict=True):
        targets = {kind: root / f"{name}{suffixes[kind]}" for kind, root in roots.items()}
        for target in targets.values():
            if same_file(target) in sources:
                raise ConfigError(f"{target} is one of the videos to read; give results another folder")
        found, problem = (None, None) if keypoints is None else _keypoints_of(item, stem, keypoints)
        items.append(BatchItem(item, targets, roots, found, problem))
    return items


def make_recipe(settings: InferSettings, format: str, weights: Mapping[str, str]) -> Recipe:
    """Return the recipe of results: version, settings, format and weights.

    Args:
        settings: of all videos, with paths from the root.
        format: of the 2D keypoints to write; empty where poses are made.
        weights: role of a model (``detector``, ``lifter``, ``trajectory``) to the SHA-256 of its weights.

    Raises:
        InputError: the joint map cannot be read.
    """
    recipe = _recipe(__version__, dataclasses.asdict(settings), format, weights)
    if settings.joint_map is not None:
        try:
            recipe["joint_map"] = sha256_of(Path(settings.joint_map))
        except OSError as error:
            raise InputError(f"{settings.joint_map}: cannot be read ({error.strerror}); check --joint-map") from error
    return recipe


def decide(item: BatchItem, recipe: Recipe, older: frozenset[str], *, overwrite: bool = False) -> Decision:
    """Decide what work a video needs.

    A result is up to date if it is whole and was made from this very input with this very recipe.

    Args:
        item: the video and its results.
        recipe: what results are made with now.
        older: of :func:`results_of_older_versions`.
        overwrite: nothing is up to date, and files that no batch has made may be replaced.
    """
    kinds = tuple(item.targets)
    if item.problem is not None:
        return Decision(kinds, failure=item.problem)
    if item.keypoints is not None:
        try:
            recipe = {**recipe, "keypoints": sha256_of(item.keypoints)}
        except OSError as error:
            problem = f"{item.keypoints} cannot be read ({error.strerror}); check its permissions"
            return Decision(kinds, failure=problem)
    if overwrite:
        return Decision(kinds, "--overwrite")
    noted = _read_json(item.nobody_file)
    if noted.get("recipe") == recipe and is_unchanged(item.input.path, noted["input"]):
        message = f"{noted['message']} (known from an earlier run; --overwrite looks again)"
        return Decision((), failure=message, nobody=True)
    try:
        reasons = {kind: _why_not(item, kind, recipe, older) for kind in kinds}
    except InputError as refused:
        return Decision(kinds, failure=str(refused))
    needed = [kind for kind in kinds if reasons[kind]]
    if POSE in needed:
        needed = list(kinds)  # what is drawn from a pose is drawn anew
    return Decision(tuple(needed), next((reasons[kind] for kind in needed if reasons[kind]), ""))


def write_nobody(item: BatchItem, recipe: Recipe, message: str, input: Mapping[str, Any]) -> None:
    """Record that a video has no people, so that it is not processed again.

    Raises:
        OutputError: it cannot be written.
    """
    if item.keypoints is not None:
        recipe = {**recipe, "keypoints": input.get("keypoints_sha256")}
    note = {"message": message, "recipe": recipe, "input": dict(input)}
    write_bytes(item.nobody_file, json.dumps(note).encode())


def results_of_older_versions(out: Place) -> frozenset[str]:
    """Return results that an older version made or began; they may be made again.

    Batches of these versions kept a journal in ``out``.
    """
    journal = out / STATE / "journal"
    try:
        files = entries_of(journal) if journal.is_dir() else [out / STATE / "journal.jsonl"]
        lines = b"\n".join(file.read_bytes() for file in files).splitlines()
    except OSError:
        return frozenset()
    names: set[str] = set()
    for line in lines:
        try:
            entry = json.loads(line)
            begun = [text.partition(" ")[2] for text in entry.get("results", ())]
            names.update(begun if entry["event"] == "started" else [entry["key"]] if entry["event"] == "made" else [])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that was cut off
    return frozenset(same_file(to_place(name) if "://" in name else out / name) for name in names)


def _recipe(version: Any, settings: Mapping[str, Any], format: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
    compared = {name: value for name, value in settings.items() if name not in _NOT_COMPARED}
    recipe = {"version": version, "settings": compared, "format": format, "weights": weights}
    plain: dict[str, Any] = json.loads(json.dumps(recipe))  # lists for tuples
    return plain


def _recipe_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a result from its provenance."""
    weights = {role: provenance[role]["sha256"] for role in ("detector", "lifter", "trajectory") if role in provenance}
    recipe = _recipe(provenance["version"], provenance["settings"], provenance.get("format", ""), weights)
    hashes = {name: provenance["input"].get(f"{name}_sha256") for name in ("keypoints", "joint_map")}
    return recipe | {name: value for name, value in hashes.items() if value is not None}


def _why_not(item: BatchItem, kind: str, recipe: Recipe, older: frozenset[str]) -> str:
    """Why a result is not up to date; empty if it is.

    Raises:
        InputError: something is in its place that may not be replaced.
    """
    target = item.targets[kind]
    if not (os.path.lexists(target) if isinstance(target, Path) else refresh(target).exists()):
        return "new"
    provenance = _provenance(item, kind)
    if not provenance:
        if same_file(target) in older or _is_damaged_result(target):
            return f"{kind} is damaged, or of an older version"
        raise InputError(f"{target} exists and is not of this batch; move it away, or pass --overwrite")
    before = provenance.get("input")
    if _is_of_another(item.input.path, str(provenance.get("video")), before):
        video = provenance["video"]
        raise InputError(f"{target} was made from {video}; choose another --out, or pass --overwrite")
    reason = "it was made by an older version" if before is None else _difference(_recipe_of(provenance), recipe)
    if not reason and not is_unchanged(item.input.path, before or {}):
        reason = "the video has changed"
    if not reason and not _is_whole(target, provenance):
        reason = f"{kind} was changed or damaged"
    if reason and str(provenance.get("command")).startswith("vp3d infer"):
        raise InputError(f"{target} was made by vp3d infer ({reason}); move it away, or pass --overwrite")
    return reason


def _provenance(item: BatchItem, kind: str) -> dict[str, Any]:
    """Return the provenance of a result; empty if there is none or it cannot be read."""
    target = item.targets[kind]
    if target.suffix == ".npz":
        import numpy as np

        try:
            with target.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                if "provenance" in archive.files:
                    format = "vp3d" if kind == KEYPOINTS else ""
                    return {"format": format, **json.loads(str(archive["provenance"]))}
        except _BROKEN:
            return {}
    return _read_json(item.provenance_file(kind))


def _read_json(place: Place) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        return dict(json.loads(place.read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _is_damaged_result(target: Place) -> bool:
    """Whether a file begins like a vp3d archive: a zip file whose first entry is the schema."""
    try:
        with target.open("rb") as file:
            start = file.read(40)
    except OSError:
        return False
    return start.startswith(b"PK\x03\x04") and start[30:] == b"schema.npy"


def _is_whole(target: Place, provenance: Mapping[str, Any]) -> bool:
    """Whether a result is as it was written; archives of this machine are read from end to end."""
    if "output" in provenance:
        return is_unchanged(target, provenance["output"])
    if not isinstance(target, Path):
        return True  # stores keep files whole; here a disk may have been full
    try:
        with zipfile.ZipFile(target) as archive:
            return archive.testzip() is None
    except _BROKEN:
        return False


def _is_of_another(path: Place, before: str, known: Mapping[str, Any] | None) -> bool:
    """Whether a result was made from another video than this one, which is still there."""
    if before == str(path) or (known is not None and is_unchanged(path, known)):
        return False
    try:
        old = to_place(before)
        if isinstance(old, Path) and isinstance(path, Path):
            return not os.path.samefile(old, path)
        return refresh(old).exists()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, InputError, MissingDependencyError):
        return True  # it cannot be reached, and what was made from it may be wanted


def _difference(before: Recipe, now: Recipe) -> str:
    """Describe what changed since a result was made.

    Names of settings fields are in angle brackets.
    """
    changed = [f"<{name}>" for name in _changed(before["settings"], now["settings"])]
    for role in _changed(before["weights"], now["weights"]):
        # Another --detector has other weights, and keypoints of another tool need none.
        if f"<{role}>" not in changed and (role != "detector" or before.get("keypoints") == now.get("keypoints")):
            changed.append(f"the weights of the {role}")
    others = [name for name in _changed(before, now) if name not in ("settings", "weights")]
    changed += ["vp3d itself" if name == "version" else f"the {name}" for name in others]
    return f"{', '.join(changed)} changed" if changed else ""


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def _result_names(places: Sequence[PurePosixPath], stems: Sequence[str]) -> list[PurePosixPath]:
    """Each place without its suffix, or with it where it would not be the only one of that name."""
    whole = [False] * len(places)
    while True:
        names = [
            place if keep else place.with_name(stem) for place, stem, keep in zip(places, stems, whole, strict=True)
        ]
        counts = Counter(str(name).casefold() for name in names)  # some file systems do not tell case apart
        again = [keep or counts[str(name).casefold()] > 1 for keep, name in zip(whole, names, strict=True)]
        if again == whole:
            return names
        whole = again


def _keypoints_of(item: BatchInput, stem: str, folder: Place) -> tuple[Place | None, str | None]:
    """The keypoints of a video in the folder that mirrors the videos; or what is wrong."""
    parent = folder / str(item.place.parent)
    try:
        entries = entries_of(refresh(parent))
    except OSError:
        entries = []
    names = (item.place.name, stem)
    found = sorted((entry for entry in entries if entry.name in names or entry.stem in names), key=str)
    if len(found) == 1:
        return found[0], None
    if not found:
        return None, f"no keypoints for {item.place}: there is no {parent / stem}.*"
    return None, f"several keypoint files for {item.place}: {', '.join(entry.name for entry in found)}; keep one"
