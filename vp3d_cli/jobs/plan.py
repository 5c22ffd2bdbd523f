"""Where the results of each video go, and which of those that are there are still good."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vp3d_cli.errors import ConfigError, InputError, MissingDependencyError, OutputError, PoseFileError
from vp3d_cli.io.poses.npz import read_npz
from vp3d_cli.jobs.fingerprint import Fingerprint, is_unchanged, sha256_of_place
from vp3d_cli.jobs.inputs import BatchInput
from vp3d_cli.jobs.journal import History
from vp3d_cli.jobs.places import relative_name, same_file
from vp3d_cli.jobs.remote import Place, Url, to_place
from vp3d_cli.pipeline.settings import naming

# What can be made of a video.
POSE, RENDER, KEYPOINTS, PREVIEW = "pose", "render", "keypoints", "preview"
KEYPOINT_SUFFIXES = {"vp3d": ".npz", "videopose3d": ".npz", "coco": ".json"}

# What a result was made with: version, settings, hashes of weights. Compared as JSON holds it.
Recipe = Mapping[str, Any]
_MODELS = ("detector", "lifter", "trajectory")  # of which a recipe has the hash of the weights, beside the settings


@dataclass(frozen=True)
class BatchItem:
    """One video and its results.

    Attributes:
        input: the video.
        targets: kind of result to the file to write, in the order in which they are made.
        roots: kind of result to the folder that mirrors the videos, which that file lies in or below.
        keys: kind of result to what the journal calls that file: its path from the folder of the batch.
        keypoints: 2D keypoints of another tool that belong to this video; None lets the detector find them.
        problem: why it cannot be done; None where nothing is known to be wrong.
    """

    input: BatchInput
    targets: Mapping[str, Place]
    roots: Mapping[str, Place]
    keys: Mapping[str, str]
    keypoints: Place | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be done about a video.

    Attributes:
        needed: kinds of result that are missing or no longer good; empty where all is done.
        why: the reason, with fields of the settings in angle brackets; :meth:`because` is for people.
        failure: it cannot succeed, and why.
        nobody: the failure is that nobody is in it, as an earlier batch found.
        recipe: what its results are to be made with.
    """

    needed: tuple[str, ...]
    why: str = ""
    failure: str | None = None
    nobody: bool = False
    recipe: Recipe = field(default_factory=dict)

    def because(self, name: Callable[[str], str] = str) -> str:
        """The reason, for users who know the fields of the settings by the names that ``name`` gives."""
        return naming(self.why, name)


def plan_items(
    inputs: Sequence[BatchInput],
    out: Place,
    *,
    roots: Mapping[str, Place],
    suffixes: Mapping[str, str],
    keypoints: Place | None = None,
) -> list[BatchItem]:
    """Name the results of each video: the tree is mirrored, ``cam1/walk.mp4`` gives ``cam1/walk.npz``.

    Where two videos of one folder differ by their suffix only, both keep it: ``walk.mov.npz``, ``walk.mp4.npz``.

    Args:
        inputs: from :func:`vp3d_cli.jobs.inputs.find_inputs`.
        out: folder of the batch, which has the journal.
        roots: kind of result to the folder for it.
        suffixes: kind of result to how its files end.
        keypoints: folder with 2D keypoints of other tools, which mirrors the videos, too.

    Raises:
        ConfigError: a result would replace a video that is read.
    """
    stems = [_stem(item) for item in inputs]
    names = _result_names([item.place for item in inputs], stems)
    sources = {same_file(item.path) for item in inputs}
    items: list[BatchItem] = []
    for item, stem, name in zip(inputs, stems, names, strict=True):
        targets = {kind: root / f"{name}{suffixes[kind]}" for kind, root in roots.items()}
        for target in targets.values():
            if same_file(target) in sources:
                raise ConfigError(f"{target} is one of the videos to read; give results another folder")
        keys = {kind: relative_name(target, out) for kind, target in targets.items()}
        found, problem = (None, None) if keypoints is None else _keypoints_of(item, stem, keypoints)
        items.append(BatchItem(item, targets, roots, keys, found, problem))
    return items


def judge(item: BatchItem, history: History, recipe: Recipe, *, overwrite: bool = False) -> Verdict:
    """Find out what is to be done about a video.

    A result is good if it is whole and was made from this very input with this very recipe.

    Args:
        item: the video and its results.
        history: of the folder.
        recipe: what results are made with now.
        overwrite: nothing is good, and files that no batch has made may be replaced.
    """
    kinds = tuple(item.targets)
    if item.problem is not None:
        return Verdict(kinds, failure=item.problem)
    try:
        recipe = _recipe_of(item, recipe)
    except OSError as error:
        return Verdict(kinds, failure=f"{item.keypoints} cannot be read ({error.strerror}); check its permissions")
    if overwrite:
        return Verdict(kinds, "--overwrite", recipe=recipe)
    known = history.nobody.get(str(item.input.path))
    if known is not None and known["recipe"] == recipe and is_unchanged(item.input.path, _input_of(known)):
        return Verdict(
            (), failure=f"{known['message']} (known from an earlier run; --overwrite looks again)", nobody=True
        )
    reasons = {kind: _fault(item, kind, history, recipe) for kind in kinds}
    taken = [kind for kind in kinds if reasons[kind] == _OF_ANOTHER]
    if taken:
        target, source = item.targets[taken[0]], _input_of(history.made[item.keys[taken[0]]]).glance.path
        return Verdict(kinds, failure=f"{target} was made from {source}; choose another --out, or pass --overwrite")
    foreign = [item.targets[kind] for kind in kinds if reasons[kind] == _FOREIGN]
    if foreign:
        return Verdict(
            kinds, failure=f"{foreign[0]} exists and is not of this batch; move it away, or pass --overwrite"
        )
    needed = [kind for kind in kinds if reasons[kind]]
    if POSE in needed:
        needed = list(kinds)  # what is drawn from a pose is drawn anew
    return Verdict(tuple(needed), next((reasons[kind] for kind in needed if reasons[kind]), ""), recipe=recipe)


def started_name(kind: str, key: str) -> str:
    """What the journal calls a result that a batch has begun to make."""
    return f"{kind} {key}"


_FOREIGN, _OF_ANOTHER = "foreign", "of another video"


def _fault(item: BatchItem, kind: str, history: History, recipe: Recipe) -> str:
    """Why a result is not good; empty if it is."""
    target, entry = item.targets[kind], history.made.get(item.keys[kind])
    if not _is_there(target):
        return "new" if entry is None else f"{kind} is gone"
    if entry is None or entry["kind"] != kind:
        return "was not finished" if started_name(kind, item.keys[kind]) in history.started else _FOREIGN
    before = _input_of(entry)
    another = _is_another(item.input.path, before.glance.path)
    if another and not is_unchanged(item.input.path, before):
        return _OF_ANOTHER
    if entry["recipe"] != recipe:
        return _difference(entry["recipe"], recipe)
    if not another and not is_unchanged(item.input.path, before):
        return "the video has changed"
    if not is_unchanged(target, Fingerprint.from_json(entry["output"])):
        return f"{kind} was changed or damaged"
    if kind == POSE and isinstance(target, Path):  # stores keep files whole; here a disk may have been full
        try:
            read_npz(target)
        except PoseFileError:
            return f"{kind} is damaged"
    return ""


def _is_another(path: Place, before: str) -> bool:
    """Whether a result was made from another file than this one, which is still there."""
    if before == str(path):
        return False
    old = to_place(before)
    try:
        if isinstance(old, Path) and isinstance(path, Path):
            return not os.path.samefile(old, path)
        return old.exists()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, InputError, MissingDependencyError):
        return True  # it cannot be reached, and what was made from it may be wanted


def _is_there(target: Place) -> bool:
    return target.exists() if isinstance(target, Url) else os.path.lexists(target)


def _recipe_of(item: BatchItem, recipe: Recipe) -> Recipe:
    """What holds for all videos, and the keypoints that belong to this one; raises OSError where there are none."""
    return recipe if item.keypoints is None else {**recipe, "keypoints": sha256_of_place(item.keypoints)}


def _input_of(entry: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint.from_json(entry["input"])


def _difference(before: Recipe, now: Recipe) -> str:
    """What a result was made with that is now different, in words; fields of the settings in angle brackets."""
    changed = [f"<{name}>" for name in _changed(before.get("settings", {}), now.get("settings", {}))]
    others = [name for name in _changed(before, now) if name != "settings"]
    for name in others:
        if name in _MODELS:
            # Other settings take another model, and keypoints of another tool take none.
            if f"<{name}>" not in changed and (name != "detector" or "keypoints" not in others):
                changed.append(f"the weights of the {name}")
        else:
            changed.append("vp3d itself" if name == "version" else f"the {name}")
    return f"{', '.join(changed)} changed"


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


def _stem(item: BatchInput) -> str:
    """The name of a video without its suffix; a folder of images has none."""
    return item.place.name if item.path.is_dir() else item.place.stem


def _keypoints_of(item: BatchInput, stem: str, folder: Place) -> tuple[Place | None, str | None]:
    """The keypoints of a video in the folder that mirrors the videos; or what is wrong."""
    place = item.place
    parent = folder if place.parent == PurePosixPath(".") else folder / place.parent
    names = (place.name, stem)
    try:
        if isinstance(parent, Url):
            entries: list[Place] = [parent / PurePosixPath(info["name"]).name for info in parent.entries()]
        else:
            entries = list(parent.iterdir())
    except OSError:
        entries = []
    found = sorted((entry for entry in entries if entry.name in names or entry.stem in names), key=str)
    if len(found) == 1:
        return found[0], None
    wanted = parent / stem
    if not found:
        return None, f"no keypoints for {place}: there is no {wanted}.*"
    return None, f"several keypoint files for {place}: {', '.join(entry.name for entry in found)}; keep one"


def check_room(folder: Place, least_bytes: int) -> None:
    """Stop before work is done whose result could not be written. Stores elsewhere do not say how full they are.

    Raises:
        OutputError: the disk is full.
    """
    if isinstance(folder, Url):
        return
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise OutputError(f"{folder}: has gone ({error.strerror}); run again when it is back") from error
    if status.f_bavail * status.f_frsize < least_bytes:
        raise OutputError(
            f"{folder}: its disk is full; make room, and run the same command again: what is done stays done"
        )
