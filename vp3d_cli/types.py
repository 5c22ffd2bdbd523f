"""What passes between the stages: frozen dataclasses, checked when made.

Dimensions: T frames, P people in the whole video, N people in one frame, J = 17 joints.
Pixels are those of the image as displayed (rotation metadata applied), x right, y down, origin at the top-left
corner. Missing is NaN with confidence 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ShapeError

FrameBGR = NDArray[np.uint8]  # (H, W, 3)
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def check_shape(name: str, array: NDArray[Any], expected: Sequence[int | str], sizes: dict[str, int]) -> None:
    """Check an array against a shape such as ``("T", 17, 2)``; letters must agree through ``sizes``.

    Raises:
        ShapeError: with the expected and the actual shape.
    """
    wanted = tuple(sizes.get(e, e) if isinstance(e, str) else e for e in expected)
    fits = len(wanted) == array.ndim and all(
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
        keypoints: (N, 17, 2) pixels, COCO-17 order; NaN where the detector gives no position.
        scores: (N, 17) confidence of each keypoint in 0..1.
        person_scores: (N,) confidence that this is a person, 0..1.
    """

    boxes_xyxy: FloatArray
    keypoints: FloatArray
    scores: FloatArray
    person_scores: FloatArray

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        check_shape("keypoints", self.keypoints, ("N", 17, 2), sizes)
        check_shape("scores", self.scores, ("N", 17), sizes)
        check_shape("boxes_xyxy", self.boxes_xyxy, ("N", 4), sizes)
        check_shape("person_scores", self.person_scores, ("N",), sizes)

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls) -> Keypoints2D:
        """Nobody in view."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros((0, 17, 2), np.float32),
            np.zeros((0, 17), np.float32),
            np.zeros((0,), np.float32),
        )

    def select(self, people: Sequence[int] | NDArray[Any]) -> Keypoints2D:
        """The people with these indices, in this order (or a boolean mask)."""
        index = np.asarray(people)
        if index.size == 0:
            index = index.astype(np.intp)
        return Keypoints2D(self.boxes_xyxy[index], self.keypoints[index], self.scores[index], self.person_scores[index])


@dataclass(frozen=True)
class Track2D:
    """One person through the whole video, T frames long whether in view or not.

    Attributes:
        person_id: unique within the video, from 1.
        keypoints: (T, 17, 2) pixels, COCO-17; NaN where there is none.
        scores: (T, 17) confidence 0..1; 0 where there is no keypoint.
        boxes_xyxy: (T, 4) pixels; NaN in frames where the person was not detected.
        observed: (T, 17) True where the position comes from the detector, False where it was filled in or is missing.
    """

    person_id: int
    keypoints: FloatArray
    scores: FloatArray
    boxes_xyxy: FloatArray
    observed: BoolArray

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        check_shape("keypoints", self.keypoints, ("T", 17, 2), sizes)
        check_shape("scores", self.scores, ("T", 17), sizes)
        check_shape("boxes_xyxy", self.boxes_xyxy, ("T", 4), sizes)
        check_shape("observed", self.observed, ("T", 17), sizes)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def present(self) -> BoolArray:
        """(T,) frames in which the person was detected."""
        return np.asarray(np.isfinite(self.boxes_xyxy).all(axis=1))

    @property
    def span(self) -> tuple[int, int]:
        """First frame of the person, and one past the last; (0, 0) if never seen."""
        frames = np.flatnonzero(self.present)
        return (int(frames[0]), int(frames[-1]) + 1) if len(frames) else (0, 0)

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First frame, and one past the last, of each run of frames in which the person has keypoints."""
        return stretches(np.asarray(np.isfinite(self.keypoints).all(axis=2).max(axis=1)))


@dataclass(frozen=True)
class Pose3D:
    """The result: everyone's motion through a video. Field for field the file schema ``vp3d-pose/1``.

    Attributes:
        joints_3d: (P, T, 17, 3) metres, camera axes, relative to the root (hip) joint; NaN where not in view.
        trajectory: (P, T, 3) root joint in camera space, metres.
        joints_world: (P, T, 17, 3) metres, z up, floor at z = 0.
        keypoints_2d: (P, T, 17, 2) pixels as displayed.
        scores_2d: (P, T, 17) confidence of the detector.
        boxes_xyxy: (P, T, 4) pixels.
        observed: (P, T, 17) False where the 2D point was filled in.
        frame_times_s: (T,) seconds, the file's own timestamps.
        fps: mean frame rate of the video.
        video_size_wh: (width, height) pixels.
        intrinsics: fx, fy, cx, cy in pixels.
        person_ids: P identities, from 1.
        joint_names_3d, parents_3d: the 3D skeleton.
        joint_names_2d: the 2D skeleton.
        provenance: version, command, detector and lifter with their sha256, settings; what JSON can hold.
    """

    joints_3d: FloatArray
    trajectory: FloatArray
    joints_world: FloatArray
    keypoints_2d: FloatArray
    scores_2d: FloatArray
    boxes_xyxy: FloatArray
    observed: BoolArray
    frame_times_s: DoubleArray
    fps: float
    video_size_wh: tuple[int, int]
    intrinsics: tuple[float, float, float, float]
    person_ids: tuple[int, ...]
    joint_names_3d: tuple[str, ...]
    parents_3d: tuple[int, ...]
    joint_names_2d: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {"P": len(self.person_ids), "J": len(self.joint_names_3d)}
        check_shape("frame_times_s", self.frame_times_s, ("T",), sizes)
        check_shape("joints_3d", self.joints_3d, ("P", "T", "J", 3), sizes)
        check_shape("trajectory", self.trajectory, ("P", "T", 3), sizes)
        check_shape("joints_world", self.joints_world, ("P", "T", "J", 3), sizes)
        sizes["K"] = len(self.joint_names_2d)
        check_shape("keypoints_2d", self.keypoints_2d, ("P", "T", "K", 2), sizes)
        check_shape("scores_2d", self.scores_2d, ("P", "T", "K"), sizes)
        check_shape("observed", self.observed, ("P", "T", "K"), sizes)
        check_shape("boxes_xyxy", self.boxes_xyxy, ("P", "T", 4), sizes)
        if len(self.parents_3d) != len(self.joint_names_3d):
            raise ShapeError(
                f"parents_3d: expected {len(self.joint_names_3d)} entries, one per joint, got {len(self.parents_3d)}"
            )

    @property
    def num_people(self) -> int:
        """P."""
        return len(self.person_ids)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frame_times_s)
