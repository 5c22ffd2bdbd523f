"""COCO results with 3D joints: a JSON list with one entry for each person and frame.

Each entry has the fields of COCO's keypoint results, of the 2D keypoints (pixels): ``image_id``, the number of the
frame, from 0 at the start of what is exported, ``category_id`` 1, ``keypoints`` [x, y, confidence, ...], ``score``,
``bbox`` [x, y, width, height]; besides ``track_id``, ``time`` in seconds and ``keypoints_3d`` [x, y, z, confidence,
...] in metres, of the 3D skeleton.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.types import DoubleArray

_PERSON = 1


def write_coco(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write all people of a pose; frames in which a person is not in view have no entry.

    Raises:
        ConfigError: another frame rate is asked for: frames are those of the video.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    if options.fps is not None:
        raise ConfigError(f"{path}: COCO numbers the frames of the video; leave out the frame rate")
    each = zip(pose.people, motions_of(pose, options), strict=True)
    entries = [entry for person, motion in each for entry in _entries(person, motion)]
    entries.sort(key=lambda entry: (entry["image_id"], entry["track_id"]))
    with replacing(path, overwrite) as file:
        file.write(json.dumps(entries, separators=(",", ":"), allow_nan=False).encode())


def _entries(person: Person3D, motion: Motion) -> Iterator[dict[str, Any]]:
    track = person.track
    for frame in np.flatnonzero(motion.in_view).tolist():
        row = frame - track.first
        keypoints = _flat(track.keypoints[row].astype(np.float64), track.scores[row].astype(np.float64), 2)
        entry: dict[str, Any] = {
            "image_id": frame,
            "category_id": _PERSON,
            "keypoints": keypoints,
            "score": round(float(track.scores[row].mean()), 4),
            "track_id": motion.person,
            "time": round(float(motion.times_s[frame]), 6),
            "keypoints_3d": _flat(motion.joints[frame], motion.confidence[frame], 5),
        }
        if np.isfinite(track.boxes_xyxy[row]).all():
            left, top, right, bottom = track.boxes_xyxy[row].astype(np.float64).round(2).tolist()
            entry["bbox"] = [left, top, round(right - left, 2), round(bottom - top, 2)]
        yield entry


def _flat(points: DoubleArray, scores: DoubleArray, digits: int) -> list[float]:
    """Return x, y and confidence of all points in one list.

    A missing point is 0, 0, 0, as in COCO.
    """
    values = np.column_stack([points.round(digits), scores.round(4)])
    values[~np.isfinite(values).all(axis=1)] = 0
    flat: list[float] = values.ravel().tolist()
    return flat


EXPORTER = Exporter(
    "coco", ".coco.json", "COCO results with 3D joints, for annotation and evaluation tools", write_coco
)
