"""Detectron's keypoints in the ``.npz`` archives that VideoPose3D's ``infer_video.py`` and ``infer_video_d2.py`` write.

``boxes`` and ``keypoints`` have an entry for each frame, a list with an array for each class; class 1 is the person:
(N, 5) x0, y0, x1, y1, score, and (N, 4, 17) x, y, logit, confidence. An empty list means nobody. ``metadata`` is
``{"w", "h"}``. The keypoints are COCO's 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.parsing import parse_number, to_float32
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.restricted_pickle import load_npz_objects

_PERSON = 1
_X, _Y, _SCORE = 0, 1, 3


def matches(source: Source) -> bool:
    """Whether this is an archive of Detectron's boxes and keypoints."""
    return {"boxes", "keypoints"} <= set(source.names)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read an archive.

    Raises:
        InputError: it is damaged or holds other objects than arrays, or a frame is broken.
    """
    archive = load_npz_objects(source.path)
    boxes, keypoints = (_frames(source, archive[name], name) for name in ("boxes", "keypoints"))
    if len(boxes) != len(keypoints):
        raise InputError(f"{source}: {len(boxes)} frames of boxes, but {len(keypoints)} of keypoints; make it again")
    people = InstancesBuilder()
    for frame, (own_boxes, own_keypoints) in enumerate(zip(boxes, keypoints, strict=True)):
        _add_frame(people, f"{source}: frame {frame}", frame, own_boxes, own_keypoints)
    instances = people.build(source, options, implied=("coco17",))
    instances.num_frames = len(boxes)
    metadata = archive.get("metadata")
    if isinstance(metadata, dict):
        width, height = (parse_number(source, metadata.get(key), key) for key in ("w", "h"))
        instances.size_wh = (int(width), int(height)) if width > 0 and height > 0 else None
    return instances


def _frames(source: Source, listed: Any, name: str) -> list[Any]:
    """The array of the class person for each frame."""
    if not isinstance(listed, np.ndarray) or listed.ndim == 0:
        raise InputError(f"{source}: {name} is not a list of frames; make the file again")
    return [frame[_PERSON] if len(frame) > _PERSON else [] for frame in map(_as_list, listed)]


def _as_list(frame: Any) -> Any:
    return frame if isinstance(frame, list | tuple | np.ndarray) and np.ndim(frame) != 0 else []


def _add_frame(people: InstancesBuilder, where: str, frame: int, boxes: Any, keypoints: Any) -> None:
    values = _array(where, keypoints)
    if not values.size:
        return
    if values.ndim != 3 or values.shape[1] <= _SCORE:
        raise InputError(f"{where}: expected keypoints (N, 4, K), got {values.shape}; make the file again")
    around = _array(where, boxes)
    if around.ndim != 2 or len(around) != len(values) or around.shape[1] not in (4, 5):
        raise InputError(f"{where}: {len(values)} people, but boxes {around.shape}; make the file again")
    for person, box in zip(values, around.tolist(), strict=True):
        score = float(box[4]) if len(box) > 4 else float("nan")
        people.add(where, frame, to_float32(person[[_X, _Y, _SCORE]].T), box_xyxy=box[:4], score=score)


def _array(where: str, values: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not numbers ({error}); make the file again") from error


READER = KeypointReader("detectron", "Detectron's keypoints, from VideoPose3D's infer_video (.npz)", matches, read)
