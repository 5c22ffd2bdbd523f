"""Where files are: their names for workers and for the journal; a result that is whole gets its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from vp3d_cli.detect.base import parse_detector
from vp3d_cli.errors import OutputError
from vp3d_cli.jobs.fingerprint import Fingerprint, glance
from vp3d_cli.jobs.remote import Place, Url, rename, send, to_place
from vp3d_cli.pipeline.settings import InferSettings


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


def absolute(place: Place) -> Place:
    """The same place for who has another working folder: a worker on another machine."""
    return place if isinstance(place, Url) else place.absolute()


def with_absolute_paths(settings: InferSettings) -> InferSettings:
    """The same settings for who has another working folder.

    Lifters, and the options of a detector, may be names: these are paths where there is such a file.

    Raises:
        ConfigError: the options of the detector are none.
    """
    changes: dict[str, Any] = {}
    for field in ("lifter", "trajectory"):
        name: str | None = getattr(settings, field)
        if name is not None:
            changes[field] = _absolute_if_file(name)
    for field in ("keypoints", "joint_map"):
        path: str | None = getattr(settings, field)
        if path is not None:
            changes[field] = str(absolute(to_place(path)))
    detector, options = parse_detector(settings.detector)
    if options:
        told = ",".join(f"{key}={_absolute_if_file(value)}" for key, value in options.items())
        changes["detector"] = f"{detector}:{told}"
    return replace(settings, **changes)


def _absolute_if_file(name: str) -> str:
    return str(Path(name).absolute()) if Path(name).is_file() else name


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
