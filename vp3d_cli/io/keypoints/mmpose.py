"""MMPose's predictions (1.x): a JSON file for a video, or a folder of one JSON file for each image.

- The demo scripts write ``{"meta_info": {...}, "instance_info": [{"frame_id": 1, "instances": [...]}, ...]}``, frames
  from 1; ``meta_info`` names the keypoints, and they are taken by these names.
- ``MMPoseInferencer`` writes ``[{"frame_id": 0, "instances": [...]}, ...]`` for a video and a list of instances for an
  image. It does not name the keypoints: 17 are taken as COCO's, its default, unless the shape of the people
  contradicts; then, and for an image with few people, the user must say.

An instance is ``{"keypoints": [[x, y], ...], "keypoint_scores": [...], "bbox": [[x0, y0, x1, y1]], "bbox_score": s}``;
``track_id`` or ``keypoints_label`` is read as its identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import natural_key
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.layouts import MIN_PEOPLE, Layout, layout_from_names
from vp3d_cli.io.keypoints.parsing import parse_box, parse_frame, parse_identity, parse_keypoints, parse_number
from vp3d_cli.io.keypoints.source import Source, read_json

_LAYOUTS = ("halpe26", "coco133", "halpe136", "mpii16")
_DEFAULT_LAYOUT = "coco17"  # of the inferencer; the shape of the people tells it from Human3.6M's, if they are several


def matches(source: Source) -> bool:
    """Whether these are predictions of MMPose."""
    if source.kind == "folder":
        files = [path for path in source.files if path.suffix.lower() == ".json"]
        return _is_folder_of_images(files)
    document = source.document
    if isinstance(document, dict):
        return isinstance(document.get("instance_info"), list)
    return _is_instances(document) or _is_frames(document)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read predictions.

    Raises:
        InputError: an instance is broken or in 3D, or the layout is unknown.
    """
    people = InstancesBuilder()
    stated: Layout | None = None
    notes: list[str] = []
    if source.kind == "folder":
        frames = _images(source)
    elif isinstance(source.document, dict):
        stated = _stated(source.document.get("meta_info"))
        frames = _frames(source, source.document["instance_info"], notes, first=1)
    elif _is_frames(source.document):
        frames = _frames(source, source.document, notes, first=0)
    else:
        frames = {0: source.document}
    for frame, instances in frames.items():
        _add_instances(people, f"{source}: frame {frame}", frame, instances)
    implied = (*_LAYOUTS, _DEFAULT_LAYOUT) if len(people) >= MIN_PEOPLE else _LAYOUTS
    raw = people.build(source, options, stated=stated, implied=implied)
    # A tool that leaves out frames without people may leave out the last ones too.
    raw.num_frames = None if notes else max(frames, default=-1) + 1
    raw.notes += notes
    return raw


def _is_folder_of_images(files: Sequence[Path]) -> bool:
    """Whether the first file that is not empty holds instances; an image with nobody has an empty list."""
    documents = map(read_json, files)
    nobody: Any = [] if files else None
    first = next((document for document in documents if document != []), nobody)
    return first == [] or _is_instances(first)


def _is_instances(document: Any) -> bool:
    return isinstance(document, list) and any(
        isinstance(entry, dict) and {"keypoints", "keypoint_scores"} <= set(entry) for entry in document
    )


def _is_frames(document: Any) -> bool:
    return isinstance(document, list) and any(isinstance(entry, dict) and "instances" in entry for entry in document)


def _stated(meta: Any) -> Layout | None:
    """The layout by the keypoints' own names: MMPose has had more than one order for Human3.6M."""
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict) or not names:
        return None
    try:
        ordered = [str(names[key]) for key in sorted(names, key=int)]
    except ValueError:
        return None
    return layout_from_names(str(meta.get("dataset_name", "mmpose")), ordered)


def _frames(source: Source, listed: list[Any], notes: list[str], first: int) -> dict[int, Any]:
    """frame -> instances, frames from 0. Entries without gaps are the video's frames in order, however numbered."""
    numbers = []
    for i, entry in enumerate(listed):
        where = f"{source}: entry {i}"
        if not isinstance(entry, dict) or not isinstance(entry.get("instances"), list):
            raise InputError(f"{where}: no instances in it; write the file again")
        numbers.append(parse_frame(where, entry.get("frame_id", i + first)))
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{source}: the same frame_id comes twice; give the predictions of one video")
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        notes.append("frames are missing in the file: nobody is taken to be in them")
        first = min(first, *numbers)
    elif numbers:
        first = numbers[0]
    return {number - first: entry["instances"] for number, entry in zip(numbers, listed, strict=True)}


def _images(source: Source) -> dict[int, Any]:
    """One file for each image, in natural order."""
    files = [path for path in source.files if path.suffix.lower() == ".json"]
    return {i: read_json(path) for i, path in enumerate(sorted(files, key=lambda path: natural_key(path.name)))}


def _add_instances(people: InstancesBuilder, where: str, frame: int, instances: Iterable[Any]) -> None:
    if not isinstance(instances, list):
        raise InputError(f"{where}: no list of instances; write the file again")
    for instance in instances:
        if not isinstance(instance, dict) or "keypoints" not in instance or "keypoint_scores" not in instance:
            raise InputError(f"{where}: an instance has no keypoints or no keypoint_scores; write the file again")
        points = np.asarray(instance["keypoints"], object)
        if points.ndim == 2 and points.shape[1] == 3:
            raise InputError(f"{where}: holds 3D keypoints; give the 2D predictions (pose2d)")
        xy = parse_keypoints(where, instance["keypoints"], columns=2)
        scores = parse_keypoints(where, instance["keypoint_scores"], columns=1)
        if len(xy) != len(scores):
            raise InputError(f"{where}: {len(xy)} keypoints but {len(scores)} scores; write the file again")
        people.add(
            where,
            frame,
            np.concatenate([xy, scores], axis=1),
            box_xyxy=parse_box(where, instance.get("bbox"), is_xywh=False),
            score=parse_number(where, instance.get("bbox_score"), "bbox_score"),
            person_id=parse_identity(where, instance.get("track_id", instance.get("keypoints_label"))),
        )


READER = KeypointReader("mmpose", "MMPose's predictions (.json)", matches, read)
