"""A pose: everyone's motion in 3D, with the 2D keypoints that it comes from. The result of the pipeline.

Dimensions: T frames, t of which one person is in view for, P people, J joints in 3D, K keypoints in 2D. Camera space:
metres, x right, y down, z forward. World space: metres, z up, floor at z = 0. Missing is NaN with confidence 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.plugins import POSE_METHODS
from vp3d_cli.skeletons import COCO17, H36M17, Skeleton, skeleton_of
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, Track2D, check_shape, over_all


@dataclass(frozen=True, eq=False)
class Rig:
    """A person's rig: bones of constant length, and the joint rotations in t frames.

    In the rest pose, a T-pose, all rotations are the identity: z up, facing -y, the left side at +x, so that the axes
    of each joint are those of the world. :mod:`vp3d_cli.kinematics` computes positions from it.

    Attributes:
        rotations: (t, J, 4) unit quaternions (w, x, y, z): of each joint against its parent, of the root against the
            world; NaN where the person is not in view.
        bone_offsets: (J, 3) metres: each joint relative to its parent in the rest pose; 0 for the root.
        root: (t, 3) metres: the root joint in world space; NaN where not in view.
    """

    rotations: FloatArray
    bone_offsets: FloatArray
    root: FloatArray

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        check_shape("rotations", self.rotations, ("t", "J", 4), sizes)
        check_shape("bone_offsets", self.bone_offsets, ("J", 3), sizes)
        check_shape("rig root", self.root, ("t", 3), sizes)


@dataclass(frozen=True, eq=False, repr=False)
class Person3D:
    """One person's motion: t of the video's T frames, from the first in view to the last; NaN where not in view.

    Attributes:
        track: the person in 2D.
        joints: (t, J, 3) metres, camera axes, relative to the root (hip) joint.
        root: (t, 3) root joint in camera space, metres.
        joints_world: (t, J, 3) metres, z up, floor at z = 0.
        rig: the same motion as joint rotations of a skeleton with constant bone lengths; None if not computed.
        times_s: (t,) the video's own timestamps, seconds; set by the pose that the person belongs to.
        confidence: (t, J) confidence of the 3D joints, 0..1: below 0.2 a joint was not seen, but guessed from the rest
            of the body; None if not computed.
    """

    track: Track2D
    joints: FloatArray
    root: FloatArray
    joints_world: FloatArray
    rig: Rig | None = None
    times_s: DoubleArray | None = None
    confidence: FloatArray | None = None

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"t": len(self.track)}
        check_shape("joints", self.joints, ("t", "J", 3), sizes)
        check_shape("root", self.root, ("t", 3), sizes)
        check_shape("joints_world", self.joints_world, ("t", "J", 3), sizes)
        if self.confidence is not None:
            check_shape("confidence", self.confidence, ("t", "J"), sizes)
        if self.rig is not None:
            check_shape("rotations", self.rig.rotations, ("t", "J", 4), sizes)

    @property
    def id(self) -> int:
        """Identity, from 1; unique within the video."""
        return self.track.person_id

    @property
    def keypoints(self) -> FloatArray:
        """(t, K, 2) pixels; NaN where there is none."""
        return self.track.keypoints

    @property
    def scores(self) -> FloatArray:
        """(t, K) confidence of the keypoints, 0..1."""
        return self.track.scores

    @property
    def observed(self) -> BoolArray:
        """(t, K) False where a keypoint was filled in or is missing."""
        return self.track.observed

    def __len__(self) -> int:
        return len(self.track)

    def __repr__(self) -> str:
        frames = f"frames {self.track.first} to {self.track.frames.stop - 1}"
        return f"Person3D(id {self.id}, {frames}, joints {self.joints.shape}, keypoints {self.keypoints.shape})"

    def row_of(self, frame: int) -> int | None:
        """Index of a frame of the video among the t frames; None if it is not one of them."""
        row = frame - self.track.first
        return row if 0 <= row < len(self.track) else None


@dataclass(frozen=True)
class PoseArray:
    """Description of a pose array over all frames: the field of each person, and the value for missing."""

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


@dataclass(frozen=True, eq=False, repr=False)
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
        timed = (replace(person, times_s=self.frame_times_s[person.track.frames]) for person in self.people)
        object.__setattr__(self, "people", tuple(timed))
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

    def __len__(self) -> int:
        """P, the number of people."""
        return len(self.people)

    def __iter__(self) -> Iterator[Person3D]:
        """The people, the main person first."""
        return iter(self.people)

    def __getitem__(self, index: int) -> Person3D:
        """A person by index, 0 for the main person; see :meth:`person` for one by identity."""
        return self.people[index]

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        width, height = self.video_size_wh
        people = ", ".join(map(repr, self.people))
        return f"Pose3D({self.num_frames} frames at {self.fps:.4g} fps, {width}x{height}, people: [{people}])"

    def person(self, person_id: int) -> Person3D:
        """The person with an identity.

        Raises:
            ConfigError: there is none; the message lists those there are.
        """
        for person in self.people:
            if person.id == person_id:
                return person
        known = ", ".join(map(str, self.person_ids))
        raise ConfigError(f"there is no person {person_id} in this pose; people: {known or 'none'}")

    @property
    def skeleton(self) -> Skeleton:
        """The 3D skeleton: joint names, parents, left and right."""
        known = skeleton_of("custom", tuple(self.joint_names_3d))
        if known.parents == tuple(self.parents_3d):
            return known
        parents = tuple(self.parents_3d)
        bones = tuple((parent, child) for child, parent in enumerate(parents) if parent >= 0)
        return Skeleton("custom", tuple(self.joint_names_3d), parents, bones)

    def save(self, path: str | Path, **options: Any) -> None:
        """Write the pose in the format that the ending of the path stands for, such as ``.npz`` or ``.bvh``.

        Args:
            path: file to write.
            options: of :func:`vp3d_cli.io.poses.export_pose`, such as ``overwrite=True``.

        Raises:
            ConfigError: no format has this ending; the message lists those there are.
            OutputError: it exists and ``overwrite`` is not set, or it cannot be written.
        """
        POSE_METHODS.get("save")(self.with_rigs(), path, **options)

    def with_rigs(self) -> Pose3D:
        """The pose with joint rotations for each person who has none, as animation formats need them."""
        posed: Pose3D = self
        if any(person.rig is None for person in self.people) and self.skeleton == H36M17:
            posed = POSE_METHODS.get("with_rigs")(self)
        return posed

    def angles(self, names: Sequence[str] | None = None) -> list[Any]:
        """Joint angles of each person, degrees; see :func:`vp3d_cli.analysis.angles.joint_angles`.

        Args:
            names: of the angles, such as ``left_knee_flexion``; None for all that the skeleton has.

        Raises:
            ConfigError: an unknown angle; the message lists those there are.
        """
        angles: list[Any] = POSE_METHODS.get("angles")(self, names)
        return angles

    def to_dataframe(self) -> Any:
        """A table with a row for each person, frame and joint: time, metres in world space, confidence.

        Returns:
            A pandas data frame, or a polars one where only polars is installed.

        Raises:
            MissingDependencyError: neither is installed.
        """
        return POSE_METHODS.get("to_dataframe")(self)

    @property
    def num_people(self) -> int:
        """P, the number of people."""
        return len(self.people)

    @property
    def num_frames(self) -> int:
        """T, the number of frames."""
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

    @cached_property
    def confidence_3d(self) -> FloatArray | None:
        """(P, T, J) confidence of the 3D joints; None if it was not computed for anyone."""
        if all(person.confidence is None for person in self.people):
            return None
        return np.stack(list(self.confidence_rows()))

    def confidence_rows(self) -> Iterator[FloatArray]:
        """One person after the other, (T, J), of the confidence of the 3D joints; NaN if it was not computed."""
        joints = len(self.joint_names_3d)
        for person in self.people:
            own = person.confidence
            if own is None:
                yield np.full((self.num_frames, joints), np.nan, np.float32)
            else:
                yield over_all(own.astype(np.float32), person.track.first, self.num_frames, 0)

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
