"""easy_ViTPose's JSON files (``--save-json``).

``{"keypoints": [{"0": [[y, x, score], ...]}, ...], "skeleton": {"0": "nose", ...}}``: an entry for each frame of the
video, and in it the keypoints of each person by identity. The vertical position comes first. ``skeleton`` names the
keypoints, and they are taken by these names.
"""

from __future__ import annotations

from typing import Any

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.layouts import Layout, layout_from_names
from vp3d_cli.io.keypoints.parsing import parse_identity, parse_keypoints
from vp3d_cli.io.keypoints.source import Source


def matches(source: Source) -> bool:
    """Whether this is an easy_ViTPose file.

    It holds a list of people by identity, and the names of the keypoints.
    """
    document = source.document
    if not isinstance(document, dict) or not isinstance(document.get("skeleton"), dict | list):
        return False
    frames = document.get("keypoints")
    return isinstance(frames, list) and all(isinstance(frame, dict | None) for frame in frames)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a file.

    Raises:
        InputError: a person is broken, or the keypoints have no names.
    """
    people = InstancesBuilder()
    frames = source.document["keypoints"]
    for number, frame in enumerate(frames):
        for identity, values in (frame or {}).items():
            where = f"{source}: frame {number}, person {identity}"
            keypoints = parse_keypoints(where, values)[:, [1, 0, 2]]
            people.add(where, number, keypoints, person_id=_identity(where, identity))
    instances = people.build(source, options, stated=_stated_layout(source))
    instances.num_frames = len(frames)
    return instances


def _identity(where: str, text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{where}: {text!r} is not an identity number; write the file again")
    return parse_identity(where, int(text))


def _stated_layout(source: Source) -> Layout:
    names: Any = source.document["skeleton"]
    try:
        ordered = names if isinstance(names, list) else [names[key] for key in sorted(names, key=int)]
        return layout_from_names("easy_vitpose", [str(name) for name in ordered])
    except ValueError as error:
        raise InputError(f"{source}: the skeleton does not number its keypoints; write the file again") from error


READER = KeypointReader("easy-vitpose", "easy_ViTPose's keypoints (.json)", matches, read)
