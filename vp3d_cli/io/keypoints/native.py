"""vp3d's own files: keypoints, schema ``vp3d-keypoints/1``, and the 2D part of a pose file, ``vp3d-pose/1``.

| key | shape | meaning |
|---|---|---|
| ``schema`` | () | ``vp3d-keypoints/1`` |
| ``keypoints_2d``, ``scores_2d`` | (P, T, K, 2), (P, T, K) float32 | pixels of the displayed image; confidence 0..1 |
| ``boxes_xyxy`` | (P, T, 4) float32 | pixels; NaN in frames where the person was not detected |
| ``observed`` | (P, T, K) bool | False where the point was filled in or is missing |
| ``frame_times_s``, ``fps`` | (T,), () float64 | seconds; frames per second |
| ``video_size_wh`` | (2,) int32 | pixels |
| ``person_ids``, ``joint_names_2d`` | (P,) int32, (K,) text | identities; the layout |
| ``provenance`` | () text | JSON: where the keypoints come from |

Nothing is pickled. Points that were filled in are written and marked, but not read: a detector did not see them.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, OutputError, ShapeError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.layouts import choose_layout, layout_from_names
from vp3d_cli.io.keypoints.people import RawPeople, ReadOptions, WriteJob, any_of, to_float32
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.npz_rows import Rows, write_archive
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D, check_shape, over_all

SCHEMA = "vp3d-keypoints/1"
POSE_SCHEMA = "vp3d-pose/1"
# What both schemas share: P people, T frames, K keypoints.
_SHAPES: dict[str, tuple[str | int, ...]] = {
    "keypoints_2d": ("P", "T", "K", 2),
    "scores_2d": ("P", "T", "K"),
    "boxes_xyxy": ("P", "T", 4),
    "observed": ("P", "T", "K"),
    "frame_times_s": ("T",),
    "fps": (),
    "video_size_wh": (2,),
    "person_ids": ("P",),
    "joint_names_2d": ("K",),
}
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError, RuntimeError, MemoryError)


def matches(source: Source) -> bool:
    """Whether this is a file of vp3d."""
    return "schema" in source.names or {"keypoints_2d", "scores_2d"} <= set(source.names)


def read(source: Source, options: ReadOptions) -> RawPeople:
    """Read a keypoint file, or the keypoints of a pose file.

    Raises:
        InputError: the file is broken, of another version, or its arrays do not fit each other.
    """
    arrays = _load(source)
    names = [str(name) for name in arrays["joint_names_2d"]]
    layout = choose_layout(source, len(names), asked=options.layout, stated=layout_from_names("custom", names))
    points = np.where(arrays["observed"].astype(bool)[..., None], arrays["keypoints_2d"], np.nan)
    boxes, scores = to_float32(arrays["boxes_xyxy"]), to_float32(arrays["scores_2d"])
    person, frame = np.nonzero(any_of(np.isfinite(points), (2, 3)))
    width, height = arrays["video_size_wh"].tolist()
    return RawPeople(
        frames=frame.astype(np.int64),
        points=to_float32(points[person, frame]),
        scores=scores[person, frame],
        boxes_xyxy=boxes[person, frame],
        person_scores=np.full(len(frame), np.nan, np.float32),
        ids=arrays["person_ids"].astype(np.int64)[person],
        layout=layout,
        num_frames=len(arrays["frame_times_s"]),
        fps=float(arrays["fps"]),
        size_wh=(int(width), int(height)),
        frame_times_s=arrays["frame_times_s"].astype(np.float64),
    )


def _load(source: Source) -> dict[str, NDArray[Any]]:
    try:
        with np.load(source.path, allow_pickle=False) as archive:
            schema = str(archive["schema"]) if "schema" in archive.files else ""
            if schema not in (SCHEMA, POSE_SCHEMA):
                raise InputError(
                    f"{source}: schema {schema!r}, but this vp3d reads {SCHEMA} and {POSE_SCHEMA}; update vp3d or make "
                    "the file again"
                )
            arrays = {key: archive[key] for key in _SHAPES}
    except _BROKEN as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{source}: cannot be read ({what}); the file is damaged, make it again") from error
    sizes: dict[str, int] = {}
    try:
        for key, shape in _SHAPES.items():
            check_shape(key, arrays[key], shape, sizes)
    except ShapeError as error:
        raise InputError(f"{source}: {error}; the file is damaged, make it again") from error
    text = [key for key in _SHAPES if (arrays[key].dtype.kind == "U") != (key == "joint_names_2d")]
    if text:
        raise InputError(f"{source}: {text[0]} has type {arrays[text[0]].dtype}; the file is damaged, make it again")
    return arrays


def write(stream: IO[bytes], job: WriteJob) -> list[str]:
    """Write tracks as a keypoint file.

    Raises:
        OutputError: the provenance cannot be written as JSON.
    """
    try:
        origin = json.dumps(dict(job.provenance), ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{job.path}: the provenance cannot be written as JSON ({error})") from error
    tracks, frames = job.tracks, len(job.frame_times_s)
    skeleton = tracks[0].skeleton if tracks else COCO17
    joints = skeleton.num_joints

    def everyone(part: Callable[[Track2D], NDArray[Any]], dtype: type, missing: float, *shape: int) -> Rows:
        rows = (over_all(part(track).astype(dtype, copy=False), track.first, frames, missing) for track in tracks)
        return Rows((len(tracks), frames, *shape), np.dtype(dtype), rows)

    write_archive(
        stream,
        {
            "schema": np.asarray(SCHEMA),
            "keypoints_2d": everyone(lambda track: track.keypoints, np.float32, np.nan, joints, 2),
            "scores_2d": everyone(lambda track: track.scores, np.float32, 0, joints),
            "boxes_xyxy": everyone(lambda track: track.boxes_xyxy, np.float32, np.nan, 4),
            "observed": everyone(lambda track: track.observed, np.bool_, 0, joints),
            "frame_times_s": np.asarray(job.frame_times_s, np.float64),
            "fps": np.asarray(job.fps, np.float64),
            "video_size_wh": np.asarray(job.size_wh, np.int32),
            "person_ids": np.asarray([track.person_id for track in tracks], np.int32),
            "joint_names_2d": np.asarray(skeleton.joints),
            "provenance": np.asarray(origin),
        },
    )
    return []


READER = KeypointReader("vp3d", "vp3d's keypoints or poses (.npz)", matches, read)
