"""Data that the stages exchange: frozen dataclasses, checked on construction.

Dimensions: T frames, t of which one person is in view for, P people in all, N people in one frame, J
joints in 3D, K keypoints in 2D.
Pixels are those of the image as displayed (rotation metadata applied), x right, y down, origin at the top-left
corner. Missing is NaN with confidence 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError
from vp3d_cli.skeletons import COCO17, Skeleton

FrameBGR = NDArray[np.uint8]  # (H, W, 3)
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Shaped(Protocol):
    """An array, or an object with the shape of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...


def check_shape(name: str, array: Shaped, expected: Sequence[int | str], sizes: dict[str, int]) -> None:
    """Check an array against a shape such as ``("T", 17, 2)``; letters must agree through ``sizes``.

    Raises:
        ShapeError: with the expected and the actual shape.
    """
    wanted = tuple(sizes.get(e, e) if isinstance(e, str) else e for e in expected)
    fits = len(wanted) == len(array.shape) and all(
        isinstance(w, str) or w == actual for w, actual in zip(wanted, array.shape, strict=False)
    )
    if not fits:
        raise ShapeError(f"{name}: expected shape ({', '.join(map(str, wanted))}), got {array.shape}")
    sizes.update({w: actual for w, actual in zip(wanted, array.shape, strict=True) if isinstance(w, str)})


def stretches(flags: BoolArray) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video (or folder of images) known before it is decoded.

    Attributes:
        path: the file or folder.
        width, height: pixels as displayed, rotation metadata applied.
        fps: mean frame rate, frames per second; never rounded.
        frame_count: frames that are shown; None for a file that is too big to be read whole for it.
        duration_s: seconds; None where the container does not know.
        rotation_deg: rotation that was applied to show frames upright: 0, 90, 180 or 270, clockwise.
        codec: four letters or name of the codec, ``"images"`` for a folder.
        has_audio: whether there is a sound track.
    """

    path: Path
    width: int
    height: int
    fps: float
    frame_count: int | None
    duration_s: float | None
    rotation_deg: int = 0
    codec: str = ""
    has_audio: bool = False

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: 0 for the first frame that is delivered.
        time_s: the frame's own presentation time in seconds, 0 at the start of the file.
        image: (H, W, 3) BGR uint8, upright.
    """

    index: int
    time_s: float
    image: FrameBGR


@dataclass(frozen=True, eq=False, repr=False)
class Keypoints2D:
    """The detected people of one frame.

    Attributes:
        boxes_xyxy: (N, 4) pixels.
        keypoints: (N, K, 2) pixels; NaN where the detector gives no position.
        scores: (N, K) confidence of each keypoint in 0..1.
        person_scores: (N,) confidence that this is a person, 0..1.
        skeleton: which K joints the keypoints are.
    """

    boxes_xyxy: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    person_scores: FloatArray
    skeleton: Skeleton = COCO17

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"K": self.skeleton.num_joints}
        check_shape("keypoints", self.keypoints, ("N", "K", 2), sizes)
        check_shape("scores", self.scores, ("N", "K"), sizes)
        check_shape("boxes_xyxy", self.boxes_xyxy, ("N", 4), sizes)
        check_shape("person_scores", self.person_scores, ("N",), sizes)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        return f"Keypoints2D({len(self)} people, keypoints {self.keypoints.shape}, skeleton {self.skeleton.name!r})"

    @classmethod
    def empty(cls, skeleton: Skeleton = COCO17) -> Keypoints2D:
        """Nobody in view."""
        joints = skeleton.num_joints
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros((0, joints, 2), np.float32),
            np.zeros((0, joints), np.float32),
            np.zeros((0,), np.float32),
            skeleton,
        )

    def select(self, people: Sequence[int] | NDArray[Any]) -> Keypoints2D:
        """The people with these indices, in this order (or a boolean mask)."""
        index = np.asarray(people)
        if index.size == 0:
            index = index.astype(np.intp)
        arrays = (self.boxes_xyxy[index], self.keypoints[index], self.scores[index], self.person_scores[index])
        return Keypoints2D(*arrays, self.skeleton)

    def in_skeleton(self, skeleton: Skeleton) -> Keypoints2D:
        """The joints of another skeleton, by name; NaN with confidence 0 where this one lacks them."""
        keypoints, scores = pick_joints(self.keypoints, self.scores, self.skeleton, skeleton)
        return Keypoints2D(self.boxes_xyxy, keypoints, scores, self.person_scores, skeleton)


@dataclass(frozen=True, eq=False, repr=False)
class Track2D:
    """One person through a video: t of its T frames, from the first in view to the last.

    Attributes:
        person_id: unique within the video, from 1.
        keypoints: (t, K, 2) pixels; NaN where there is none.
        scores: (t, K) confidence 0..1; 0 where there is no keypoint.
        boxes_xyxy: (t, 4) pixels; NaN in frames where the person was not detected.
        observed: (t, K) True where the position comes from the detector, False where it was filled in or is missing.
        first: number of the first of the t frames in the video.
        skeleton: which K joints the keypoints are.
    """

    person_id: int
    keypoints: FloatArray
    scores: FloatArray
    boxes_xyxy: FloatArray
    observed: BoolArray
    first: int = 0
    skeleton: Skeleton = COCO17

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"K": self.skeleton.num_joints}
        check_shape("keypoints", self.keypoints, ("t", "K", 2), sizes)
        check_shape("scores", self.scores, ("t", "K"), sizes)
        check_shape("boxes_xyxy", self.boxes_xyxy, ("t", 4), sizes)
        check_shape("observed", self.observed, ("t", "K"), sizes)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        frames = f"frames {self.first} to {self.frames.stop - 1}"
        return f"Track2D(person {self.person_id}, {frames}, keypoints {self.keypoints.shape})"

    @property
    def frames(self) -> slice:
        """The t frames among those of the video: ``times_s[track.frames]`` are their times."""
        return slice(self.first, self.first + len(self))

    @property
    def present(self) -> BoolArray:
        """(t,) frames in which the person was detected."""
        return np.asarray(np.isfinite(self.boxes_xyxy).all(axis=1))

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """Begin and end, counted from ``first``, of each run of frames in which the person has keypoints."""
        return stretches(np.asarray(np.isfinite(self.keypoints).all(axis=2).max(axis=1)))

    def over(self, frames: int) -> Track2D:
        """The same person in all frames of a video of so many."""
        keypoints, boxes = (over_all(a, self.first, frames) for a in (self.keypoints, self.boxes_xyxy))
        scores, observed = (over_all(a, self.first, frames, 0) for a in (self.scores, self.observed))
        return Track2D(self.person_id, keypoints, scores, boxes, observed, skeleton=self.skeleton)

    def in_skeleton(self, skeleton: Skeleton) -> Track2D:
        """The joints of another skeleton, by name; NaN with confidence 0 where this one lacks them."""
        keypoints, scores = pick_joints(self.keypoints, self.scores, self.skeleton, skeleton)
        columns = np.array(self.skeleton.columns(skeleton.joints))
        observed = self.observed[:, columns] & (columns >= 0)
        return Track2D(self.person_id, keypoints, scores, self.boxes_xyxy, observed, self.first, skeleton)


def pick_joints(
    keypoints: FloatArray, scores: FloatArray, skeleton: Skeleton, wanted: Skeleton
) -> tuple[FloatArray, FloatArray]:
    """Pick the joints of one skeleton out of keypoints of another, by name.

    Args:
        keypoints: (..., K, 2).
        scores: (..., K).
        skeleton: of the K joints.
        wanted: J joints.

    Returns:
        (..., J, 2) and (..., J); NaN with confidence 0 for a joint that ``skeleton`` lacks.
    """
    if skeleton.joints == wanted.joints:
        return keypoints, scores
    columns = np.array(skeleton.columns(wanted.joints))
    points, confidence = keypoints[..., columns, :], scores[..., columns]
    points[..., columns < 0, :], confidence[..., columns < 0] = np.nan, 0.0
    return points, confidence


def tracks_by_id(frames: Sequence[Keypoints2D], ids: Sequence[tuple[int, ...]]) -> list[Track2D]:
    """One track for each identity, by identity; shifted, if need be, so that the smallest is at least 1.

    Args:
        frames: the people of each frame.
        ids: the identity of each of them.
    """
    everyone = sorted({person for frame in ids for person in frame})
    shift = max(0, 1 - everyone[0]) if everyone else 0
    rows: dict[int, list[tuple[int, int]]] = {person: [] for person in everyone}
    for frame, people in enumerate(ids):
        for row, person in enumerate(people):
            rows[person].append((frame, row))
    return [_track_of(frames, person + shift, rows[person]) for person in everyone]


def _track_of(frames: Sequence[Keypoints2D], person_id: int, rows: Sequence[tuple[int, int]]) -> Track2D:
    """The person who is at some rows of some frames."""
    first, count = rows[0][0], rows[-1][0] - rows[0][0] + 1
    skeleton = frames[first].skeleton
    keypoints = np.full((count, skeleton.num_joints, 2), np.nan, np.float32)
    scores = np.zeros((count, skeleton.num_joints), np.float32)
    boxes = np.full((count, 4), np.nan, np.float32)
    for frame, row in rows:
        people, at = frames[frame], frame - first
        keypoints[at], scores[at], boxes[at] = people.keypoints[row], people.scores[row], people.boxes_xyxy[row]
    return Track2D(person_id, keypoints, scores, boxes, np.isfinite(keypoints[..., 0]), first, skeleton)


def over_all(values: NDArray[Any], first: int, frames: int, missing: float = np.nan) -> NDArray[Any]:
    """Values of some frames (t, ...) as those of all (frames, ...)."""
    result = np.full((frames, *values.shape[1:]), missing, values.dtype)
    result[first : first + len(values)] = values
    return result
