"""OpenPose's JSON folders (``--write_json``), one file for each frame; Pose2Sim and many others write the same.

``NAME_000000000012_keypoints.json`` (Pose2Sim: ``NAME_000012.json``) holds
``{"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": [x0, y0, c0, ...], ...}]}``. The last number in
the name is the frame, from 0. A missing point is 0, 0, 0. A frame without a file is one with nobody in it.

25 keypoints are BODY_25 and 18 are OpenPose's COCO, for OpenPose has no others by default; 26, 133 and 136 are
HALPE_26, COCO-WholeBody and Halpe-FullBody, which Pose2Sim writes. 17 may be COCO or Human3.6M: the user must say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.parsing import parse_frame, parse_identity, parse_keypoints
from vp3d_cli.io.keypoints.source import Source, read_json

_LAYOUTS = ("body25", "coco18", "halpe26", "coco133", "halpe136")
_FILES_TRIED = 20  # of a folder, to see whether they are of OpenPose; others may lie among them
_NUMBER = re.compile(r"(\d+)\D*\.json$", re.IGNORECASE)


def matches(source: Source) -> bool:
    """Whether this is a frame of OpenPose, or a folder of them."""
    if source.kind == "json":
        return _is_frame(source.document)
    folders = [source.path, *subfolders(source.path)] if source.kind == "folder" else []
    return any(any(map(_is_frame, map(read_json, json_files(folder)[:_FILES_TRIED]))) for folder in folders)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a folder, or the file of one frame.

    Raises:
        InputError: a file is broken, has no frame number in its name, or the frame of another one; people have
            different numbers of keypoints; the layout is unknown.
    """
    if source.kind == "json":
        files = {0: source.path}
    else:
        folder = choose_folder(source.path, options.video_stem)
        files = _number(json_files(folder))
    people = InstancesBuilder()
    for frame in sorted(files):
        _add_frame(people, frame, files[frame])
    raw = people.build(source, options, implied=_LAYOUTS)
    numbers = np.array(sorted(files), np.int64)
    raw.frames_seen = numbers
    # OpenPose writes a file for every frame: only where some are absent may the last ones be absent too.
    if len(numbers) == numbers[-1] - numbers[0] + 1:
        raw.num_frames = int(numbers[-1]) + 1
    return raw


def json_files(folder: Path) -> list[Path]:
    """The JSON files of a folder; those named ``*_keypoints.json`` alone, if there are any."""
    files = [path for path in folder.iterdir() if path.name.lower().endswith(".json")]
    files.sort(key=lambda path: path.name)
    return [path for path in files if path.name.lower().endswith("_keypoints.json")] or files


def subfolders(folder: Path) -> list[Path]:
    """Folders named ``*_json``, where Pose2Sim keeps the files of each video, at most two levels down."""
    return sorted(path for pattern in ("*_json", "*/*_json") for path in folder.glob(pattern) if path.is_dir())


def choose_folder(folder: Path, video_stem: str | None) -> Path:
    """The folder itself if it has JSON files, else the one for this video below it.

    Raises:
        InputError: several are below it, and none has the video's name.
    """
    if json_files(folder):
        return folder
    below = [path for path in subfolders(folder) if json_files(path)]
    named = [path for path in below if path.name.removesuffix("_json") == video_stem]
    if len(named) == 1 or len(below) == 1:
        return (named or below)[0]
    raise InputError(
        f"{folder}: has the keypoints of several videos ({', '.join(path.name for path in below)}); give one of them"
    )


def _is_frame(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("people"), list)


def _number(files: list[Path]) -> dict[int, Path]:
    numbered: dict[int, Path] = {}
    for path in files:
        match = _NUMBER.search(path.name)
        if match is None:
            raise InputError(f"{path}: no frame number in the name; keep the names that OpenPose gives")
        frame = parse_frame(path, int(match[1]))
        if frame in numbered:
            raise InputError(
                f"{path}: frame {frame} is also in {numbered[frame].name}; keep the files of each video in a folder "
                "of its own"
            )
        numbered[frame] = path
    return numbered


def _add_frame(people: InstancesBuilder, frame: int, path: Path) -> None:
    document = read_json(path)
    if not _is_frame(document):
        raise InputError(f'{path}: no list "people" in it, so not of OpenPose; move it elsewhere')
    for person in document["people"]:
        if not isinstance(person, dict):
            raise InputError(f"{path}: a person is {person!r}; write the file again")
        # Before version 1.1 the key was pose_keypoints.
        values = person.get("pose_keypoints_2d", person.get("pose_keypoints"))
        if not values:
            continue  # hands or face alone
        people.add(path, frame, parse_keypoints(path, values), person_id=parse_identity(path, person.get("person_id")))


READER = KeypointReader("openpose", "OpenPose's or Pose2Sim's folder of .json", matches, read)
