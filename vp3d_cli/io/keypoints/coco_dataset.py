"""COCO data sets: ``{"images": [...], "annotations": [...], "categories": [...]}``, as annotation tools export them.

An annotation has ``image_id``, flat ``keypoints`` and ``bbox`` (x, y, width, height); ``track_id`` is its identity. The
third number of a keypoint is COCO's visibility (0 not labelled, 1 occluded, 2 visible) or, where it is a fraction
anywhere, a confidence. Images are frames by the numbers in their names, in the order of their ids where they have none.
The category names the keypoints, and they are taken by these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.coco import frame_number
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.layouts import Layout, layout_from_names
from vp3d_cli.io.keypoints.parsing import parse_box, parse_frame, parse_identity, parse_keypoints, parse_number
from vp3d_cli.io.keypoints.source import Source

_OCCLUDED = 0.5  # confidence of a keypoint that a person placed without seeing it


def matches(source: Source) -> bool:
    """Whether this is a data set with keypoints."""
    document = source.document
    return isinstance(document, dict) and all(isinstance(document.get(key), list) for key in ("images", "annotations"))


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a data set whose images are the frames of one video.

    Raises:
        InputError: an image or annotation is broken, or the images are of several videos.
    """
    images = _images(source)
    frames = _frame_numbers(source, images)
    category, stated = _person_category(source.document.get("categories"))
    people = InstancesBuilder()
    for i, entry in enumerate(source.document["annotations"]):
        where = f"{source}: annotation {i}"
        image = parse_frame(where, entry.get("image_id")) if isinstance(entry, dict) else -1
        if image not in frames:
            raise InputError(f"{where}: belongs to no image in the file; write the file again")
        if not entry.get("keypoints") or (category is not None and entry.get("category_id", category) != category):
            continue
        people.add(
            where,
            frames[image],
            parse_keypoints(where, entry["keypoints"]),
            box_xyxy=parse_box(where, entry.get("bbox"), is_xywh=True),
            score=parse_number(where, entry.get("score"), "score"),
            person_id=parse_identity(where, entry.get("track_id")),
        )
    instances = people.build(source, options, stated=stated, implied=("coco17", "coco133"))
    instances.frames_seen = np.array(sorted(frames.values()), np.int64)
    instances.size_wh = _image_size(source, images.values())
    _take_visibility(instances)
    return instances


def _images(source: Source) -> dict[int, Mapping[str, Any]]:
    """Images by id."""
    images: dict[int, Mapping[str, Any]] = {}
    for i, image in enumerate(source.document["images"]):
        if not isinstance(image, dict) or "id" not in image:
            raise InputError(f"{source}: image {i} has no id; write the file again")
        images[parse_frame(f"{source}: image {i}", image["id"])] = image
    if len({str(image.get("video_id")) for image in images.values()}) > 1:
        raise InputError(f"{source}: its images are of several videos; give a file for one video")
    return images


def _frame_numbers(source: Source, images: Mapping[int, Mapping[str, Any]]) -> dict[int, int]:
    """Image id -> frame."""
    try:
        numbers = {key: frame_number(source, str(image["file_name"])) for key, image in images.items()}
    except (InputError, KeyError):
        numbers = {}
    if images and len(set(numbers.values())) == len(images):
        return numbers
    return {key: frame for frame, key in enumerate(sorted(images))}


def _person_category(categories: Any) -> tuple[Any, Layout | None]:
    """The id of the category with keypoints, and its layout; None where the file does not say."""
    listed = [each for each in categories if isinstance(each, dict)] if isinstance(categories, list) else []
    with_keypoints = [each for each in listed if isinstance(each.get("keypoints"), list) and each["keypoints"]]
    persons = [each for each in with_keypoints if each.get("name") == "person"] or with_keypoints
    if not persons:
        return None, None
    return persons[0].get("id"), layout_from_names("coco_dataset", list(map(str, persons[0]["keypoints"])))


def _image_size(source: Source, images: Iterable[Mapping[str, Any]]) -> tuple[int, int] | None:
    """The size that all images share, if they state it."""
    sizes = set()
    for image in images:
        width, height = (parse_number(source, image.get(key), key) for key in ("width", "height"))
        if width > 0 and height > 0:
            sizes.add((int(width), int(height)))
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:4])
        raise InputError(f"{source}: its images have different sizes ({listed}); give the frames of one video")
    return sizes.pop() if sizes else None


def _take_visibility(instances: Instances) -> None:
    """Turn COCO's visibility into confidence."""
    flags = instances.scores
    if not len(flags) or not np.isin(flags, (0, 1, 2)).all() or not (flags == 2).any():
        return
    instances.scores = np.select([flags == 2, flags == 1], [1.0, _OCCLUDED], 0.0).astype(np.float32)
    instances.notes.append(f"the file has visibility, not confidence: visible is taken as 1, occluded as {_OCCLUDED}")


READER = KeypointReader("coco-dataset", "COCO data sets, images and annotations (.json)", matches, read)
