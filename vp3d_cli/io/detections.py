"""Detections of a video and their file: the people of each frame, before tracking.

A detections file is a numpy archive of schema ``vp3d-detections/1``: ``np.load(path, allow_pickle=False)``. T frames,
M people in all of them, K keypoints.

| key | shape | meaning |
|---|---|---|
| ``schema`` | () text | ``vp3d-detections/1`` |
| ``counts`` | (T,) int32 | people in each frame; the rows of the next five follow each other frame by frame |
| ``boxes_xyxy`` | (M, 4) float32 | pixels |
| ``keypoints``, ``scores`` | (M, K, 2), (M, K) float32 | pixels of the displayed image, NaN where missing; 0..1 |
| ``person_scores`` | (M,) float32 | confidence that this is a person, 0..1 |
| ``person_ids`` | (M,) int32 | identities where the source has them; else the key is missing |
| ``frame_times_s``, ``fps`` | (T,), () float64 | the video's own timestamps, seconds; mean frame rate |
| ``video_size_wh`` | (2,) int32 | pixels |
| ``joint_names_2d`` | (K,) text | the skeleton |
| ``shot_starts`` | (S,) int32 | frames that begin a new camera shot |
| ``detected`` | (T,) bool | frames at which the detector ran; others are interpolated later |
| ``provenance`` | () text | JSON: video, detector and its sha256, settings, warnings |
| ``progress`` | () text | JSON: of an interrupted run, what it needs to go on; else the key is missing |
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, OutputError, ShapeError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.json_text import parse_json
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays, write_archive
from vp3d_cli.io.tables import data_frame
from vp3d_cli.skeletons import COCO17, Skeleton, skeleton_of
from vp3d_cli.types import BoolArray, DoubleArray, Keypoints2D, Track2D, check_shape, tracks_by_id

SCHEMA = "vp3d-detections/1"
SUFFIX = ".detections.npz"
_PER_PERSON = ("boxes_xyxy", "keypoints", "scores", "person_scores")
_SHAPES: dict[str, tuple[str | int, ...]] = {
    "counts": ("T",),
    "boxes_xyxy": ("M", 4),
    "keypoints": ("M", "K", 2),
    "scores": ("M", "K"),
    "person_scores": ("M",),
    "frame_times_s": ("T",),
    "fps": (),
    "video_size_wh": (2,),
    "joint_names_2d": ("K",),
    "shot_starts": ("S",),
    "detected": ("T",),
}


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Detections of the T frames of a video, before tracking.

    Iterates over frames: ``for people in detections``, ``detections[12]``, ``detections[:100]``.

    Attributes:
        frames: T of :class:`~vp3d_cli.types.Keypoints2D`, pixels; empty where nobody was found.
        frame_times_s: (T,) the video's own timestamps, seconds.
        fps: mean frame rate of the video.
        video_size_wh: (width, height) pixels.
        shot_starts: frames that begin a new camera shot.
        detected: (T,) frames at which the detector ran.
        person_ids: identities of the people of each frame, where the source has them; None to track them.
        source: where the keypoints come from, for the provenance of results.
        video: the video's path.
        detector_seconds: time that detection took.
        warnings: what the user should know, one sentence each.
        progress: of an interrupted run, what the next one needs to go on; None for a complete one.
    """

    frames: Sequence[Keypoints2D]
    frame_times_s: DoubleArray
    fps: float
    video_size_wh: tuple[int, int]
    shot_starts: tuple[int, ...] = ()
    detected: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    person_ids: Sequence[tuple[int, ...]] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    video: str = ""
    detector_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    progress: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not len(self.detected):
            object.__setattr__(self, "detected", np.ones(len(self.frames), np.bool_))
        sizes = {"T": len(self.frames)}
        check_shape("frame_times_s", self.frame_times_s, ("T",), sizes)
        check_shape("detected", self.detected, ("T",), sizes)
        if self.person_ids is not None and [*map(len, self.person_ids)] != [*map(len, self.frames)]:
            raise ShapeError("person_ids: expected one identity for each person in each frame")

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Keypoints2D]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> Keypoints2D: ...
    @overload
    def __getitem__(self, index: slice) -> Detections: ...
    def __getitem__(self, index: int | slice) -> Keypoints2D | Detections:
        """The people of one frame, or the detections of some consecutive frames."""
        if isinstance(index, int):
            return self.frames[index]
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ShapeError(f"detections can be cut in frames that follow each other, not in steps of {step}")
        return replace(
            self,
            frames=self.frames[start:stop],
            frame_times_s=self.frame_times_s[start:stop],
            detected=self.detected[start:stop],
            shot_starts=tuple(shot - start for shot in self.shot_starts if start <= shot < stop),
            person_ids=None if self.person_ids is None else self.person_ids[start:stop],
        )

    def __repr__(self) -> str:
        people = max(map(len, self.frames), default=0)
        width, height = self.video_size_wh
        return (
            f"Detections({len(self)} frames at {self.fps:.4g} fps, {width}x{height}, up to {people} people a frame, "
            f"skeleton {self.skeleton.name!r})"
        )

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the keypoints."""
        return next((people.skeleton for people in self.frames if len(people)), COCO17)

    @property
    def num_people(self) -> int:
        """The most people in any frame."""
        return max(map(len, self.frames), default=0)

    def identified_tracks(self) -> list[Track2D] | None:
        """One track for each identity; None where the source has no identities."""
        return None if self.person_ids is None else tracks_by_id(self.frames, self.person_ids)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a detections file, whole or not at all.

        Raises:
            OutputError: it exists and ``overwrite`` is not set, or it cannot be written.
        """
        write_detections(self, path, overwrite=overwrite)

    def to_dataframe(self) -> Any:
        """A table with a row for each keypoint: frame, time_s, person, joint, x, y, score.

        Returns:
            A pandas data frame, or a polars one where only polars is installed.

        Raises:
            MissingDependencyError: neither is installed.
        """
        everyone = [people for people in self.frames if len(people)] or [Keypoints2D.empty(self.skeleton)]
        points = np.concatenate([people.keypoints for people in everyone])
        scores = np.concatenate([people.scores for people in everyone])
        counts = [len(people) for people in self.frames]
        frame = np.repeat(np.arange(len(self)), counts)
        ids = self.person_ids or [tuple(range(count)) for count in counts]
        person = np.array([one for frame_ids in ids for one in frame_ids], np.int64)
        names = np.array(self.skeleton.joints)
        return data_frame(
            {
                "frame": np.repeat(frame, len(names)),
                "time_s": np.repeat(self.frame_times_s[frame], len(names)),
                "person": np.repeat(person, len(names)),
                "joint": np.tile(names, len(frame)),
                "x": points[..., 0].ravel(),
                "y": points[..., 1].ravel(),
                "score": scores.ravel(),
            }
        )


def join_detections(parts: Sequence[Detections]) -> Detections:
    """Join the detections of consecutive parts of one video.

    Raises:
        InputError: they come from different detectors or weights.
    """
    filled = [part for part in parts if len(part)] or list(parts[:1])
    if any(part.source != filled[0].source for part in filled):
        raise InputError(f"{filled[0].video}: its parts were detected with different weights; run again")
    offsets = np.cumsum([0, *(len(part) for part in filled)]).tolist()
    # A part that follows another may itself begin with a new shot.
    starts = [offset + shot for part, offset in zip(filled, offsets, strict=False) for shot in part.shot_starts]
    return replace(
        filled[0],
        frames=[people for part in filled for people in part.frames],
        frame_times_s=_rising(np.concatenate([part.frame_times_s for part in filled])),
        detected=np.concatenate([part.detected for part in filled]),
        shot_starts=tuple(starts),
        detector_seconds=sum(part.detector_seconds for part in filled),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        progress=filled[-1].progress,
    )


def _rising(times: DoubleArray) -> DoubleArray:
    """Times that increase: a frame that is not later than the one before, from a broken muxer, is moved behind it."""
    for i in np.flatnonzero(np.diff(times) <= 0) + 1:
        times[i] = max(times[i], times[i - 1] + 1e-3)
    return times


def write_detections(detections: Detections, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a detections file, whole or not at all.

    Raises:
        OutputError: it exists and ``overwrite`` is not set, or it cannot be written.
    """
    try:
        arrays = to_arrays(detections)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path}: the provenance cannot be written as JSON ({error})") from error
    with replacing(Path(path), overwrite) as file:
        write_archive(file, arrays)


def to_arrays(detections: Detections) -> dict[str, NDArray[Any]]:
    """The arrays of a detections file, by name.

    Raises:
        TypeError, ValueError: the provenance holds what JSON cannot.
    """
    everyone = [people for people in detections if len(people)] or [Keypoints2D.empty(detections.skeleton)]
    arrays: dict[str, NDArray[Any]] = {"schema": np.asarray(SCHEMA)}
    arrays["counts"] = np.array([len(people) for people in detections], np.int32)
    arrays |= {name: np.concatenate([getattr(people, name) for people in everyone]) for name in _PER_PERSON}
    if detections.person_ids is not None:
        arrays["person_ids"] = np.array([one for ids in detections.person_ids for one in ids], np.int32)
    arrays |= {
        "frame_times_s": np.asarray(detections.frame_times_s, np.float64),
        "fps": np.asarray(detections.fps, np.float64),
        "video_size_wh": np.asarray(detections.video_size_wh, np.int32),
        "joint_names_2d": np.asarray(detections.skeleton.joints),
        "shot_starts": np.array(detections.shot_starts, np.int32),
        "detected": np.asarray(detections.detected, np.bool_),
    }
    known = {
        "video": detections.video,
        "source": dict(detections.source),
        "detector_seconds": detections.detector_seconds,
        "warnings": list(detections.warnings),
    }
    arrays["provenance"] = np.asarray(json.dumps(known, ensure_ascii=False, sort_keys=True))
    if detections.progress is not None:
        arrays["progress"] = np.asarray(json.dumps(dict(detections.progress), sort_keys=True))
    return arrays


def detections_from_tracks(tracks: Sequence[Track2D], frames: Detections) -> Detections:
    """Detections of tracked people alone, with their identities; keypoints that were filled in are left out.

    Args:
        tracks: the people.
        frames: detections of the same video, for its times and size; its people are not used.
    """
    skeleton = tracks[0].skeleton if tracks else frames.skeleton
    people: list[Keypoints2D] = []
    ids: list[tuple[int, ...]] = []
    for frame in range(len(frames)):
        rows = [(track, frame - track.first) for track in tracks if 0 <= frame - track.first < len(track)]
        seen = [(track, row) for track, row in rows if (track.observed[row]).any()]
        ids.append(tuple(track.person_id for track, _ in seen))
        people.append(_people_of(seen, skeleton))
    return replace(frames, frames=people, person_ids=ids)


def _people_of(rows: Sequence[tuple[Track2D, int]], skeleton: Skeleton) -> Keypoints2D:
    if not rows:
        return Keypoints2D.empty(skeleton)
    observed = np.stack([track.observed[row] for track, row in rows])
    points = np.where(observed[..., None], np.stack([track.keypoints[row] for track, row in rows]), np.nan)
    scores = np.where(observed, np.stack([track.scores[row] for track, row in rows]), 0.0)
    boxes = np.stack([track.boxes_xyxy[row] for track, row in rows])
    mean = scores.sum(axis=1) / np.maximum(observed.sum(axis=1), 1)
    arrays = (boxes, points, scores, mean)
    floats = [np.asarray(array, np.float32) for array in arrays]
    return Keypoints2D(floats[0], floats[1], floats[2], floats[3], skeleton)


def is_detections_file(path: str | Path) -> bool:
    """Whether a file is a detections file, by its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return "schema.npy" in names and "counts.npy" in names


def read_detections(path: str | Path) -> Detections:
    """Read a detections file.

    Raises:
        InputError: it is missing, damaged, of another kind or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        with open_arrays(path) as archive:
            schema = str(archive["schema"]) if "schema" in archive.files else ""
            if schema != SCHEMA:
                raise InputError(
                    f"{path}: schema is {schema or 'missing'}, expected {SCHEMA}; is it a detections file?"
                )
            arrays = {key: archive[key] for key in _SHAPES}
            ids = archive["person_ids"] if "person_ids" in archive.files else None
            known = parse_json(str(archive["provenance"]))
            progress = parse_json(str(archive["progress"])) if "progress" in archive.files else None
        return _from_arrays(arrays, ids, known, progress)
    except InputError:
        raise
    except (*BROKEN_ARCHIVE, ShapeError, AttributeError, TypeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as detections ({said}); the file is damaged, make it again"
        ) from error


def _from_arrays(
    arrays: Mapping[str, NDArray[Any]], ids: NDArray[Any] | None, known: Mapping[str, Any], progress: Any
) -> Detections:
    sizes: dict[str, int] = {}
    for key, shape in _SHAPES.items():
        check_shape(key, arrays[key], shape, sizes)
    if ids is not None:
        check_shape("person_ids", ids, ("M",), sizes)
    counts = arrays["counts"].astype(np.int64)
    if (counts < 0).any() or int(counts.sum()) != sizes["M"]:
        raise ShapeError(f"counts: expected {sizes['M']} people in all, got {int(counts.sum())}")
    times, fps = arrays["frame_times_s"].astype(np.float64), float(arrays["fps"])
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any() or not (np.isfinite(fps) and fps > 0):
        raise ShapeError("frame_times_s do not rise, or fps is not a positive number")
    ends = np.cumsum(counts).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []
    skeleton = skeleton_of("custom", tuple(map(str, arrays["joint_names_2d"])))
    boxes, points, scores, mean = (np.asarray(arrays[name], np.float32) for name in _PER_PERSON)
    width, height = arrays["video_size_wh"].tolist()
    if width <= 0 or height <= 0:
        raise ShapeError(f"video_size_wh: expected positive numbers, got {width}x{height}")
    return Detections(
        frames=[Keypoints2D(boxes[a:b], points[a:b], scores[a:b], mean[a:b], skeleton) for a, b in spans],
        frame_times_s=times,
        fps=fps,
        video_size_wh=(int(width), int(height)),
        shot_starts=tuple(arrays["shot_starts"].tolist()),
        detected=arrays["detected"].astype(np.bool_),
        person_ids=None if ids is None else [tuple(ids[a:b].tolist()) for a, b in spans],
        source=dict(known["source"]),
        video=str(known["video"]),
        detector_seconds=float(known["detector_seconds"]),
        warnings=tuple(map(str, known["warnings"])),
        progress=progress,
    )
