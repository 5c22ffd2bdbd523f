"""VideoPose3D's archives of 2D keypoints: ``data_2d_custom_NAME.npz`` and similar names.

``positions_2d`` is a dict ``{video: {action: [array (T, J, 2), ...]}}`` with an array for each camera; ``metadata`` has
``layout_name``, ``num_joints``, ``keypoints_symmetry`` and ``video_metadata`` (``{video: {"w", "h"}}``). Both are
pickled into object arrays, and read by vp3d's own unpickler. The layout is the one that the archive names. There is
no confidence.

An archive may hold several videos: taken is the one with the video's name, or the only one. vp3d writes each person as
a video of their own, ``NAME`` or ``NAME_personID``, and reads these back as people of one video.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, OutputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions, WriteRequest, instances_from_tracks
from vp3d_cli.io.keypoints.layouts import choose_layout, find_layout, list_layouts
from vp3d_cli.io.keypoints.parsing import any_along, parse_number, to_float32
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.restricted_pickle import load_npz_objects, save_npz_objects
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FloatArray

_ACTION = "custom"
_PERSON = re.compile(r"(.*)_person(\d+)")


def matches(source: Source) -> bool:
    """Whether this is an archive of VideoPose3D's 2D keypoints."""
    return "positions_2d" in source.names


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read one video's keypoints.

    Raises:
        InputError: the archive is broken or holds other objects than arrays, names no known layout, or holds
            several videos of which none has the video's name.
    """
    archive = load_npz_objects(source.path)
    positions, metadata = archive["positions_2d"], archive.get("metadata")
    if not isinstance(positions, dict) or not isinstance(metadata, dict):
        raise InputError(f"{source}: positions_2d and metadata are not dicts; make the file again")
    videos = {str(name): _arrays(source, str(name), actions) for name, actions in positions.items()}
    chosen = _choose(source, videos, options)
    arrays = [videos[name] for name in chosen]
    if len({array.shape for array in arrays}) > 1:
        raise InputError(f"{source}: the people of one video have arrays of different shapes; make the file again")
    stated = str(metadata.get("layout_name", ""))
    layout = find_layout(stated)
    if layout is None and stated and options.layout is None:
        raise InputError(f"{source}: its layout is {stated!r}, which is unknown; known: {list_layouts()}")
    layout = choose_layout(source, arrays[0].shape[1], asked=options.layout, stated=layout)
    ids = [int(match[2]) if (match := _PERSON.fullmatch(name)) else i + 1 for i, name in enumerate(chosen)]
    raw = instances_from_tracks(np.stack(arrays), None, layout, ids)
    raw.size_wh, raw.fps = _video_facts(source, metadata, chosen[0])
    return raw


def _arrays(source: Source, name: str, actions: Any) -> FloatArray:
    """The only array of a video; several actions or cameras are ambiguous, and refused."""
    listed: list[Any] = []
    for cameras in actions.values() if isinstance(actions, dict) else ():
        listed += list(cameras) if isinstance(cameras, list | tuple | np.ndarray) else [cameras]
    if len(listed) != 1:
        raise InputError(
            f"{source}: {name} has {len(listed)} sequences (actions and cameras), not one; give an archive made from "
            "one video"
        )
    array = np.asarray(listed[0])
    if array.ndim != 3 or array.shape[2] not in (2, 3) or array.dtype.kind not in "fiu":
        raise InputError(f"{source}: {name}: expected an array (T, J, 2), got {array.shape} of {array.dtype}")
    return to_float32(array[..., :2])


def _choose(source: Source, videos: Mapping[str, Any], options: ReaderOptions) -> list[str]:
    """Names of the entries that belong to the video: one, or one for each person."""
    groups: dict[str, list[str]] = {}
    for name in videos:
        match = _PERSON.fullmatch(name)
        groups.setdefault(match[1] if match else name, []).append(name)
    wanted = [] if options.video is None else [options.video.path.name, options.video.path.stem]
    for name in wanted:
        if name in groups:
            return groups[name]
    if len(groups) != 1:
        raise InputError(
            f"{source}: holds {len(groups)} videos ({', '.join(groups) or 'none'}); name one of them like the video"
        )
    return next(iter(groups.values()))


def _video_facts(source: Source, metadata: Mapping[str, Any], name: str) -> tuple[tuple[int, int] | None, float | None]:
    """Image size and frame rate, where the archive states them; only vp3d writes the rate."""
    by_video = metadata.get("video_metadata")
    video = by_video.get(name) if isinstance(by_video, dict) else None
    if not isinstance(video, dict):
        return None, None
    width, height, fps = (parse_number(source, video.get(key), key) for key in ("w", "h", "fps"))
    return (int(width), int(height)) if width > 0 and height > 0 else None, fps if fps > 0 else None


def write(stream: IO[bytes], job: WriteRequest) -> list[str]:
    """Write tracks so that VideoPose3D's ``run.py`` reads them with ``-d custom -k NAME``.

    It knows neither missing keypoints nor confidence. As in its own preparation, keypoints are interpolated between
    the frames that have them and held at the ends; one that a person never has is put where its nearest neighbour
    towards the head is.

    Raises:
        OutputError: nobody has any keypoint.
    """
    notes = ["VideoPose3D's format has no confidence: it is left out"]
    others = [j for j in job.tracks[0].skeleton.joints if j not in COCO17.joints] if job.tracks else []
    if others:
        notes.append(f"VideoPose3D's format holds COCO's keypoints: {len(others)} others are left out")
    tracks = [track.in_skeleton(COCO17) for track in job.tracks]
    seen = [track for track in tracks if np.isfinite(track.keypoints).any()]
    if not seen:
        raise OutputError(f"{job.path}: VideoPose3D's format cannot hold a video without people; choose another format")
    positions, videos = {}, {}
    for track in seen:
        key = job.video_name if len(seen) == 1 else f"{job.video_name}_person{track.person_id}"
        filled, count = _filled(track.over(len(job.frame_times_s)).keypoints)
        positions[key] = {_ACTION: [filled]}
        videos[key] = {"w": int(job.size_wh[0]), "h": int(job.size_wh[1]), "fps": float(job.fps)}
        if count:
            notes.append(f"person {track.person_id}: {count} missing keypoints are filled in, which this format needs")
    metadata = {
        "layout_name": "coco",
        "num_joints": COCO17.num_joints,
        "keypoints_symmetry": [list(COCO17.left), list(COCO17.right)],
        "video_metadata": videos,
    }
    save_npz_objects(stream, {"positions_2d": positions, "metadata": metadata})
    return notes


def _filled(keypoints: FloatArray) -> tuple[NDArray[np.float32], int]:
    """(T, J, 2) without gaps, and how many keypoints were filled in."""
    filled = keypoints.astype(np.float32)
    there = np.isfinite(filled.sum(axis=2))
    frames = np.arange(len(filled))
    ever = any_along(there, 0)
    for joint in np.flatnonzero(ever):
        known = there[:, joint]
        for axis in range(2):
            filled[:, joint, axis] = np.interp(frames, frames[known], filled[known, joint, axis])
    for joint in np.flatnonzero(~ever):
        filled[:, joint] = filled[:, _stand_in(int(joint), ever.tolist())]
    return filled, int((~there).sum())


def _stand_in(joint: int, ever: Sequence[bool]) -> int:
    """The nearest joint towards the head that is ever detected, else the first one that is."""
    parent = COCO17.parents[joint]
    while parent >= 0 and not ever[parent]:
        parent = COCO17.parents[parent]
    return parent if parent >= 0 else list(ever).index(True)


READER = KeypointReader("videopose3d", "VideoPose3D's custom keypoints (.npz)", matches, read)
