"""Person instances: what every keypoint reader returns, in the layout and frame numbering of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.layouts import LAYOUTS, Layout, choose_layout, find_layout
from vp3d_cli.io.keypoints.parsing import NO_ID, any_along, to_float32
from vp3d_cli.types import DoubleArray, FloatArray, Track2D, VideoInfo

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ReaderOptions:
    """Options of a keypoint reader: what the caller knows besides the file.

    Attributes:
        video: the video that the keypoints belong to.
        layout: name of the layout, where the user gives one.
        joint_map: body part -> COCO keypoint, or a TOML or JSON file of it.
    """

    video: VideoInfo | None = None
    layout: str | None = None
    joint_map: dict[str, str] | Path | None = None

    @property
    def video_stem(self) -> str | None:
        """Name of the video without folder and ending."""
        return self.video.path.stem if self.video else None


@dataclass(frozen=True)
class WriteRequest:
    """Keypoints to write, and facts of their video.

    Attributes:
        path: file to write; the stream that writers get is a temporary file beside it.
        tracks: P people with T frames each.
        frame_times_s: (T,) seconds.
        fps: frames per second.
        size_wh: image size, pixels.
        video_name: name of the video, for formats that hold several.
        provenance: where the keypoints come from; what JSON can hold.
    """

    path: Path
    tracks: Sequence[Track2D]
    frame_times_s: DoubleArray
    fps: float
    size_wh: tuple[int, int]
    video_name: str
    provenance: Mapping[str, Any]


@dataclass
class Instances:
    """M person instances: one row for each person in each frame, as in the file.

    Attributes:
        frames: (M,) frame numbers, in any order.
        points: (M, J, 2) pixels; NaN, or exactly (0, 0), where missing.
        scores: (M, J) confidence, in the tool's own range.
        boxes_xyxy: (M, 4) pixels, NaN where the file has none.
        person_scores: (M,) confidence of the person, NaN where the file has none.
        ids: (M,) identities; None where the file has none.
        layout: the J joints.
        num_frames: frames that the file covers, with or without people; None for a file that holds only frames
            with people, so that its end says nothing.
        frames_seen: all frame numbers of the file, for those whose numbers may start anywhere; None where
            frames are counted from 0.
        fps, size_wh, frame_times_s: what the file says of its video.
        has_scores: False for formats without confidence (``scores`` is 1 then).
        notes: warnings for the user.
    """

    frames: IntArray
    points: FloatArray
    scores: FloatArray
    boxes_xyxy: FloatArray
    person_scores: FloatArray
    ids: IntArray | None
    layout: Layout
    num_frames: int | None = None
    frames_seen: IntArray | None = None
    fps: float | None = None
    size_wh: tuple[int, int] | None = None
    frame_times_s: DoubleArray | None = None
    has_scores: bool = True
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, rows: NDArray[Any]) -> None:
        """Keep only these rows."""
        self.frames, self.points, self.scores = self.frames[rows], self.points[rows], self.scores[rows]
        self.boxes_xyxy, self.person_scores = self.boxes_xyxy[rows], self.person_scores[rows]
        self.ids = None if self.ids is None else self.ids[rows]


class InstancesBuilder:
    """Collects people one by one, all with the same number of joints."""

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._keypoints: list[NDArray[np.float32]] = []
        self._boxes: list[Sequence[float]] = []
        self._scores: list[float] = []
        self._ids: list[int] = []
        self._first_where: object = ""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def num_joints(self) -> int:
        """J; 0 while nobody has been added."""
        return len(self._keypoints[0]) if self._keypoints else 0

    def add(
        self,
        where: object,
        frame: int,
        keypoints: NDArray[np.float32],
        *,
        box_xyxy: Sequence[float] | None = None,
        score: float = float("nan"),
        person_id: int = NO_ID,
    ) -> None:
        """Add one person.

        Args:
            where: file and place, for messages.
            frame: the file's own number of the frame.
            keypoints: (J, 3) x, y, confidence.
            box_xyxy: pixels.
            score: confidence of the person.
            person_id: identity, if the file knows it.

        Raises:
            InputError: another number of joints than the people before.
        """
        if not self._keypoints:
            self._first_where = where
        elif len(keypoints) != self.num_joints:
            raise InputError(
                f"{where}: {len(keypoints)} keypoints, but {self._first_where} has {self.num_joints}: "
                "mixed layouts; give the output of one tool and one model"
            )
        self._frames.append(frame)
        self._keypoints.append(keypoints)
        self._boxes.append(_NO_BOX if box_xyxy is None else box_xyxy)
        self._scores.append(score)
        self._ids.append(person_id)

    def build(
        self, path: object, options: ReaderOptions, *, stated: Layout | None = None, implied: Sequence[str] = ()
    ) -> Instances:
        """Build the instances from all people added so far, in the layout that :func:`choose_layout` finds.

        Raises:
            InputError: no layout fits.
        """
        if not self._frames:
            asked = find_layout(options.layout) if options.layout else None
            return no_instances(stated or asked or LAYOUTS["coco17"])
        layout = choose_layout(path, self.num_joints, asked=options.layout, stated=stated, implied=implied)
        keypoints = np.stack(self._keypoints)
        ids = np.array(self._ids, np.int64)
        return Instances(
            frames=np.array(self._frames, np.int64),
            points=keypoints[..., :2],
            scores=keypoints[..., 2],
            boxes_xyxy=to_float32(np.array(self._boxes, np.float64).reshape(-1, 4)),
            person_scores=to_float32(np.array(self._scores, np.float64)),
            ids=ids if (ids != NO_ID).all() else None,
            layout=layout,
        )


_NO_BOX = (float("nan"),) * 4


def no_instances(layout: Layout) -> Instances:
    """Instances of a file without people."""
    joints = layout.num_joints
    return Instances(
        frames=np.zeros(0, np.int64),
        points=np.zeros((0, joints, 2), np.float32),
        scores=np.zeros((0, joints), np.float32),
        boxes_xyxy=np.zeros((0, 4), np.float32),
        person_scores=np.zeros(0, np.float32),
        ids=None,
        layout=layout,
        notes=["nobody is in the file"],
    )


def instances_from_tracks(
    points: NDArray[Any], scores: NDArray[Any] | None, layout: Layout, ids: Sequence[int]
) -> Instances:
    """Instances from arrays over time: one row for each person and frame with at least one keypoint.

    Args:
        points: (P, T, J, 2) pixels, NaN or (0, 0) where missing.
        scores: (P, T, J); None where the format has no confidence.
        layout: the J joints.
        ids: P identities.
    """
    present = any_along(np.isfinite(points) & (points != 0), (2, 3))
    person, frame = np.nonzero(present)
    count = len(frame)
    return Instances(
        frames=frame.astype(np.int64),
        points=to_float32(points[person, frame]),
        scores=np.ones((count, layout.num_joints), np.float32) if scores is None else to_float32(scores[person, frame]),
        boxes_xyxy=np.full((count, 4), np.nan, np.float32),
        person_scores=np.full(count, np.nan, np.float32),
        ids=np.asarray(ids, np.int64)[person],
        layout=layout,
        num_frames=points.shape[1],
        has_scores=scores is not None,
    )
