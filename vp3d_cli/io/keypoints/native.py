"""vp3d's own keypoint files: detections files, and the 2D part of pose files.

Read are ``vp3d-detections/1`` (see :mod:`vp3d_cli.io.detections`), ``vp3d-pose/1``, and ``vp3d-keypoints/1`` of earlier
versions, which is the 2D part of a pose file by itself. Written is ``vp3d-detections/1``. Keypoints that were filled in
are not read: a detector did not see them.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, OutputError, ShapeError
from vp3d_cli.io.detections import Detections, detections_from_tracks, read_detections, to_arrays
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions, WriteRequest
from vp3d_cli.io.keypoints.layouts import choose_layout, layout_from_names
from vp3d_cli.io.keypoints.parsing import any_along, to_float32
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays, write_archive
from vp3d_cli.types import Keypoints2D, check_shape

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


def matches(source: Source) -> bool:
    """Whether this is a file of vp3d."""
    return "schema" in source.names or {"keypoints_2d", "scores_2d"} <= set(source.names)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a keypoint file, or the keypoints of a pose file.

    Raises:
        InputError: the file is broken, of another version, or its arrays do not fit each other.
    """
    if "counts" in source.names:
        return _from_detections(source, options)
    arrays = _load(source)
    names = [str(name) for name in arrays["joint_names_2d"]]
    layout = choose_layout(source, len(names), asked=options.layout, stated=layout_from_names("custom", names))
    points = np.where(arrays["observed"].astype(bool)[..., None], arrays["keypoints_2d"], np.nan)
    boxes, scores = to_float32(arrays["boxes_xyxy"]), to_float32(arrays["scores_2d"])
    person, frame = np.nonzero(any_along(np.isfinite(points), (2, 3)))
    width, height = arrays["video_size_wh"].tolist()
    return Instances(
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


def _from_detections(source: Source, options: ReaderOptions) -> Instances:
    """The people of a detections file."""
    found = read_detections(source.path)
    names = found.skeleton.joints
    layout = choose_layout(source, len(names), asked=options.layout, stated=layout_from_names("custom", names))
    everyone = [people for people in found if len(people)] or [Keypoints2D.empty(found.skeleton)]
    ids = found.person_ids
    return Instances(
        frames=np.repeat(np.arange(len(found)), [len(people) for people in found]).astype(np.int64),
        points=np.concatenate([people.keypoints for people in everyone]),
        scores=np.concatenate([people.scores for people in everyone]),
        boxes_xyxy=np.concatenate([people.boxes_xyxy for people in everyone]),
        person_scores=np.concatenate([people.person_scores for people in everyone]),
        ids=None if ids is None else np.array([one for frame in ids for one in frame], np.int64),
        layout=layout,
        num_frames=len(found),
        fps=found.fps,
        size_wh=found.video_size_wh,
        frame_times_s=found.frame_times_s,
    )


def _load(source: Source) -> dict[str, NDArray[Any]]:
    try:
        with open_arrays(source.path) as archive:
            schema = str(archive["schema"]) if "schema" in archive.files else ""
            if schema not in (SCHEMA, POSE_SCHEMA):
                raise InputError(
                    f"{source}: schema {schema!r}, but this vp3d reads {SCHEMA} and {POSE_SCHEMA}; update vp3d or make "
                    "the file again"
                )
            arrays = {key: archive[key] for key in _SHAPES}
    except BROKEN_ARCHIVE as error:
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


def write(stream: IO[bytes], job: WriteRequest) -> list[str]:
    """Write tracks as a detections file.

    Raises:
        OutputError: the provenance cannot be written as JSON.
    """
    count = len(job.frame_times_s)
    video = Detections(
        frames=[Keypoints2D.empty()] * count,
        frame_times_s=np.asarray(job.frame_times_s, np.float64),
        fps=job.fps,
        video_size_wh=job.size_wh,
        source=dict(job.provenance),
        video=str(job.provenance.get("video", "")),
    )
    try:
        arrays = to_arrays(detections_from_tracks(job.tracks, video))
    except (TypeError, ValueError) as error:
        raise OutputError(f"{job.path}: the provenance cannot be written as JSON ({error})") from error
    write_archive(stream, arrays)
    filled = sum(int((np.isfinite(track.keypoints[..., 0]) & ~track.observed).sum()) for track in job.tracks)
    return [f"{filled} keypoints that were filled in are left out: no detector saw them"] if filled else []


READER = KeypointReader("vp3d", "vp3d's keypoints or poses (.npz)", matches, read)
