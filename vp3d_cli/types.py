"""What passes between the stages: frozen dataclasses, checked when made.

Dimensions: T frames, t of which one person is in view for, P people in all, N people in one frame, J
joints in 3D, K keypoints in 2D.
Pixels are those of the image as displayed (rotation metadata applied), x right, y down, origin at the top-left
corner. Missing is NaN with confidence 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError
from vp3d_cli.skeletons import COCO17, Skeleton, skeleton_of

FrameBGR = NDArray[np.uint8]  # (H, W, 3)
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Shaped(Protocol):
    """An array, or what stands for one."""

    @property
    def shape(self) -> tuple[int, ...]: ...


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
        frame_count: frames that the container declares; None where it does not know.
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


@dataclass(frozen=True)
class Keypoints2D:
    """The people whom a detector sees in one frame.

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


@dataclass(frozen=True)
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


def over_all(values: NDArray[Any], first: int, frames: int, missing: float = np.nan) -> NDArray[Any]:
    """Values of some frames (t, ...) as those of all (frames, ...)."""
    result = np.full((frames, *values.shape[1:]), missing, values.dtype)
    result[first : first + len(values)] = values
    return result


@dataclass(frozen=True)
class Person3D:
    """One person's motion: t of the video's T frames, from the first in view to the last; NaN where not in view.

    Attributes:
        track: the person in 2D.
        joints: (t, J, 3) metres, camera axes, relative to the root (hip) joint.
        root: (t, 3) root joint in camera space, metres.
        joints_world: (t, J, 3) metres, z up, floor at z = 0.
    """

    track: Track2D
    joints: FloatArray
    root: FloatArray
    joints_world: FloatArray

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"t": len(self.track)}
        check_shape("joints", self.joints, ("t", "J", 3), sizes)
        check_shape("root", self.root, ("t", 3), sizes)
        check_shape("joints_world", self.joints_world, ("t", "J", 3), sizes)

    def row_of(self, frame: int) -> int | None:
        """Which of the t frames a frame of the video is; None if it is none of them."""
        row = frame - self.track.first
        return row if 0 <= row < len(self.track) else None


@dataclass(frozen=True)
class PoseArray:
    """An array of a pose for all frames: where each person's part of it is, and what stands for missing."""

    part: Callable[[Person3D], NDArray[Any]]
    shape: tuple[int | str, ...]
    dtype: type
    missing: float = np.nan


# In the order of the file schema; J joints in 3D, K keypoints in 2D.
POSE_ARRAYS: dict[str, PoseArray] = {
    "joints_3d": PoseArray(lambda person: person.joints, ("J", 3), np.float32),
    "trajectory": PoseArray(lambda person: person.root, (3,), np.float32),
    "joints_world": PoseArray(lambda person: person.joints_world, ("J", 3), np.float32),
    "keypoints_2d": PoseArray(lambda person: person.track.keypoints, ("K", 2), np.float32),
    "scores_2d": PoseArray(lambda person: person.track.scores, ("K",), np.float32, missing=0),
    "boxes_xyxy": PoseArray(lambda person: person.track.boxes_xyxy, (4,), np.float32),
    "observed": PoseArray(lambda person: person.track.observed, ("K",), np.bool_, missing=0),
}


@dataclass(frozen=True)
class Pose3D:
    """The result: everyone's motion through a video.

    Everyone is kept for the frames in which they are in view, so that a long video with many passers-by takes no more
    memory than what was seen of them. The arrays over all P people and T frames, of the file schema ``vp3d-pose/1``,
    are made when they are first asked for, and cannot be written to: see :meth:`from_arrays`.

    Attributes:
        people: P of them, the main person first.
        frame_times_s: (T,) seconds, the file's own timestamps.
        fps: mean frame rate of the video.
        video_size_wh: (width, height) pixels.
        intrinsics: fx, fy, cx, cy in pixels.
        joint_names_3d, parents_3d: the 3D skeleton.
        joint_names_2d: the 2D skeleton.
        provenance: version, command, detector and lifter with their sha256, settings; what JSON can hold.
    """

    people: tuple[Person3D, ...]
    frame_times_s: DoubleArray
    fps: float
    video_size_wh: tuple[int, int]
    intrinsics: tuple[float, float, float, float]
    joint_names_3d: tuple[str, ...]
    parents_3d: tuple[int, ...]
    joint_names_2d: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_shape("frame_times_s", self.frame_times_s, ("T",), {})
        for person in self.people:
            name = f"person {person.track.person_id}"
            check_shape(f"{name}: joints", person.joints, ("t", len(self.joint_names_3d), 3), {})
            check_shape(f"{name}: keypoints", person.track.keypoints, ("t", len(self.joint_names_2d), 2), {})
            if person.track.first < 0 or person.track.frames.stop > self.num_frames:
                span = f"{person.track.first} to {person.track.frames.stop}"
                raise ShapeError(f"{name}: frames {span} are not all among the {self.num_frames} of frame_times_s")
        if len(self.parents_3d) != len(self.joint_names_3d):
            raise ShapeError(
                f"parents_3d: expected {len(self.joint_names_3d)} entries, one per joint, got {len(self.parents_3d)}"
            )

    @property
    def num_people(self) -> int:
        """P."""
        return len(self.people)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frame_times_s)

    @property
    def person_ids(self) -> tuple[int, ...]:
        """P identities, from 1."""
        return tuple(person.track.person_id for person in self.people)

    @cached_property
    def joints_3d(self) -> FloatArray:
        """(P, T, J, 3) metres, camera axes, relative to the root (hip) joint; NaN where not in view."""
        return self._array("joints_3d")

    @cached_property
    def trajectory(self) -> FloatArray:
        """(P, T, 3) root joint in camera space, metres."""
        return self._array("trajectory")

    @cached_property
    def joints_world(self) -> FloatArray:
        """(P, T, J, 3) metres, z up, floor at z = 0."""
        return self._array("joints_world")

    @cached_property
    def keypoints_2d(self) -> FloatArray:
        """(P, T, K, 2) pixels as displayed."""
        return self._array("keypoints_2d")

    @cached_property
    def scores_2d(self) -> FloatArray:
        """(P, T, K) confidence of the detector."""
        return self._array("scores_2d")

    @cached_property
    def boxes_xyxy(self) -> FloatArray:
        """(P, T, 4) pixels."""
        return self._array("boxes_xyxy")

    @cached_property
    def observed(self) -> BoolArray:
        """(P, T, K) False where the 2D point was filled in."""
        return self._array("observed")

    def rows(self, name: str) -> Iterator[NDArray[Any]]:
        """One person after the other, (T, ...), of an array such as ``"joints_3d"``."""
        of = POSE_ARRAYS[name]
        for person in self.people:
            part: NDArray[Any] = of.part(person).astype(of.dtype, copy=False)
            yield over_all(part, person.track.first, self.num_frames, of.missing)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of an array such as ``"joints_3d"``, which is not made for it."""
        sizes = {"J": len(self.joint_names_3d), "K": len(self.joint_names_2d)}
        inner = tuple(sizes[n] if isinstance(n, str) else n for n in POSE_ARRAYS[name].shape)
        return (self.num_people, self.num_frames, *inner)

    def _array(self, name: str) -> NDArray[Any]:
        result: NDArray[Any] = np.empty(self.shape_of(name), POSE_ARRAYS[name].dtype)
        for row, values in zip(result, self.rows(name), strict=True):
            row[:] = values
        result.flags.writeable = False  # a change would not reach the people
        return result

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], person_ids: Sequence[int], frame_times_s: DoubleArray, **others: Any
    ) -> Pose3D:
        """A pose from arrays over all people and frames.

        Args:
            arrays: ``joints_3d``, ``trajectory``, ``joints_world``, ``keypoints_2d``, ``scores_2d``, ``boxes_xyxy``
                and ``observed``, each (P, T, ...).
            person_ids: P identities.
            frame_times_s, others: the other attributes.

        Raises:
            ShapeError: arrays of different P, T or joints.
        """
        sizes: dict[str, int] = {"P": len(person_ids), "T": len(frame_times_s)}
        for name, of in POSE_ARRAYS.items():
            check_shape(name, arrays[name], ("P", "T", *of.shape), sizes)
        names_2d = others.get("joint_names_2d", COCO17.joints)
        if len(names_2d) != sizes["K"]:
            raise ShapeError(f"joint_names_2d: expected {sizes['K']} names, one per keypoint, got {len(names_2d)}")
        skeleton = skeleton_of("custom", tuple(names_2d))
        each = [{name: arrays[name][p] for name in POSE_ARRAYS} for p in range(len(person_ids))]
        people = (person_of(own, number, skeleton) for own, number in zip(each, person_ids, strict=True))
        return cls(tuple(people), frame_times_s, **others)


def person_of(arrays: Mapping[str, NDArray[Any]], person_id: int, skeleton: Skeleton = COCO17) -> Person3D:
    """One person of a pose from arrays over all frames (T, ...), by name; only frames that hold anything are kept.

    Args:
        arrays: by the names in :data:`POSE_ARRAYS`.
        person_id: identity.
        skeleton: of the 2D keypoints.
    """
    held = np.zeros(len(arrays["trajectory"]), np.bool_)
    for name, of in POSE_ARRAYS.items():
        values = arrays[name].reshape(len(held), -1)
        held |= (~np.isnan(values) if np.isnan(of.missing) else values != of.missing).any(axis=1)
    at = np.flatnonzero(held)
    first, stop = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
    own: dict[str, NDArray[Any]] = {name: arrays[name][first:stop].astype(of.dtype) for name, of in POSE_ARRAYS.items()}
    track = Track2D(
        person_id, own["keypoints_2d"], own["scores_2d"], own["boxes_xyxy"], own["observed"], first, skeleton
    )
    return Person3D(track, own["joints_3d"], own["trajectory"], own["joints_world"])
