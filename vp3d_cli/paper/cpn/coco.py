"""Reader of labelled people in COCO's annotation format (cocodataset.org, "Data format")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray

# Share of its box that a person covers, if the annotation has no ``area``: the value that MMPose and HRNet use for
# results without masks.
_AREA_SHARE = 0.53


@dataclass(frozen=True)
class LabelledPerson:
    """Person with labelled keypoints in an image.

    Attributes:
        image: image file.
        box_xyxy: (4,) pixels.
        keypoints: (17, 2) pixels, COCO order.
        visibility: (17,) 0 not labelled, 1 labelled but hidden, 2 visible.
        area: area of the person in pixels.
    """

    image: Path
    box_xyxy: DoubleArray
    keypoints: DoubleArray
    visibility: NDArray[np.int64]
    area: float


def read_people(annotations: Path, images: Path) -> list[LabelledPerson]:
    """Read all people with a box and at least one labelled keypoint, without crowds.

    Args:
        annotations: JSON file with ``images``, ``annotations`` and ``categories``.
        images: folder that ``file_name`` is relative to.

    Raises:
        InputError: the file has another format or other keypoints, an image is missing, or there is nobody.
    """
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{annotations}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        raise InputError(f"{annotations}: has no 'images' and 'annotations'; this takes COCO's annotation format")
    try:
        categories = _person_categories(annotations, content.get("categories", []))
        files = {entry["id"]: images / str(entry["file_name"]) for entry in content["images"]}
        people = [
            _person(f"{annotations}: annotation {number}", entry, files)
            for number, entry in enumerate(content["annotations"])
            if _usable(entry, categories)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{annotations}: not in COCO's annotation format ({error!r})") from error
    if not people:
        raise InputError(f"{annotations}: nobody in it has a box and labelled keypoints")
    for image in {person.image for person in people}:
        if not image.is_file():
            raise InputError(f"{annotations}: {image} is missing; give the folder of the images with --images")
    return people


def _person_categories(annotations: Path, categories: list[dict[str, Any]]) -> set[Any] | None:
    """Ids of the categories with COCO's 17 keypoints; None if the file has none."""
    named = {entry["id"]: entry["keypoints"] for entry in categories if "keypoints" in entry}
    found = {number for number, names in named.items() if tuple(names) == COCO17.joints}
    if named and not found:
        raise InputError(
            f"{annotations}: its keypoints are {', '.join(next(iter(named.values())))}, "
            f"not COCO's 17 ({', '.join(COCO17.joints)})"
        )
    return found or None


def _usable(entry: dict[str, Any], categories: set[Any] | None) -> bool:
    labelled = any(flag > 0 for flag in entry.get("keypoints", [])[2::3])
    wanted = categories is None or entry["category_id"] in categories
    return wanted and labelled and not entry.get("iscrowd", 0) and len(entry.get("bbox", [])) == 4


def _person(where: str, entry: dict[str, Any], files: dict[Any, Path]) -> LabelledPerson:
    values = np.asarray(entry["keypoints"], np.float64)
    box = np.asarray(entry["bbox"], np.float64)
    if values.shape != (3 * COCO17.num_joints,):
        raise InputError(
            f"{where}: has {values.size} values in 'keypoints', expected {3 * COCO17.num_joints}: x, y, visibility each"
        )
    if not np.isfinite(values).all() or not np.isfinite(box).all() or box[2:].min() <= 0:
        raise InputError(f"{where}: a number is not finite, or the box has no area: {entry['bbox']}")
    if entry["image_id"] not in files:
        raise InputError(f"{where}: its image_id {entry['image_id']} is not among the images")
    table = values.reshape(COCO17.num_joints, 3)
    return LabelledPerson(
        files[entry["image_id"]],
        np.concatenate([box[:2], box[:2] + box[2:]]),
        table[:, :2],
        np.clip(table[:, 2], 0, 2).astype(np.int64),
        float(entry.get("area") or _AREA_SHARE * box[2] * box[3]),
    )
