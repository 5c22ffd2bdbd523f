"""Conversion of the instances of a file to detections for each frame of the video.

One set of rules for every format:

- Confidence lies in 0..1; what is above is taken as 1 and what is below as 0, with a warning (AlphaPose's heat-maps
  and SimCC models pass 1 slightly). NaN confidence, a position that is NaN, and exactly (0, 0) mean that there is no
  keypoint: NaN with confidence 0.
- A person's score is the file's, else the mean over those of their keypoints that COCO has too.
- A box is the file's, else the one around all keypoints of the file's layout with a margin. Boxes and keypoints
  that reach over the edge of the image are kept as they are, for people who are partly out of view have them; a
  person wholly outside is left out with a warning, and if most are, the file belongs to another video.
- A frame too many or too few at the end is taken with a warning; more is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.instances import Instances, IntArray
from vp3d_cli.io.keypoints.layouts import LAYOUTS, layout_problem
from vp3d_cli.io.keypoints.parsing import any_along
from vp3d_cli.io.keypoints.resolution import match_resolution
from vp3d_cli.types import BoolArray, DoubleArray, FloatArray, Keypoints2D, Track2D, VideoInfo, tracks_by_id

# Crown and soles lie beyond eyes and ankles: those are at 0.936 and 0.039 of the body height (Drillis & Contini
# 1966), so a body is 1.115 times as tall as its keypoints.
_BOX_MARGIN = 0.06
_MAX_PIXELS = 1e6
_MOST = 0.5
_FPS_TOLERANCE = 0.01
_MAX_FRAMES = 10_000_000  # four days at 30 frames per second


@dataclass(frozen=True)
class KeypointFile:
    """2D keypoints read from a file, in the same form as those of a detector.

    Attributes:
        detections: everyone in each frame, pixels; as many frames as the video has, where it is known.
        ids: for each frame the identity of each person, where the file has them.
        layout: the file's own layout.
        format: the file's format.
        fps: the frame rate that the file states.
        size_wh: the image size that the file states, pixels.
        warnings: warnings for the user, one line each.
        frame_times_s: (T,) seconds, where the file has them.
    """

    detections: list[Keypoints2D]
    ids: list[tuple[int, ...]] | None
    layout: str
    format: str
    fps: float | None = None
    size_wh: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    frame_times_s: DoubleArray | None = None

    def __len__(self) -> int:
        return len(self.detections)

    def tracks(self) -> list[Track2D] | None:
        """One track for each identity in the file, by identity; None where the file has none.

        Identities are shifted, if need be, so that the smallest is at least 1.
        """
        return None if self.ids is None else tracks_by_id(self.detections, self.ids)


def assemble(path: object, raw: Instances, format_name: str, video: VideoInfo | None) -> KeypointFile:
    """Convert instances to detections for each frame, and check them against the video.

    Args:
        path: the file, for messages.
        raw: its people.
        format_name: its format.
        video: the video, if known.

    Raises:
        InputError: the file does not fit its layout or the video.
    """
    notes = list(raw.notes)
    if not raw.has_scores and len(raw):
        notes.append("the file has no confidence: 1 is taken for every keypoint in it")
    _clean(raw, notes)
    raw.select(any_along(np.isfinite(raw.points), (1, 2)))
    problem = layout_problem(raw.layout, raw.points, raw.scores)
    if problem is not None:
        others = [
            o.name for o in LAYOUTS.values() if o.num_joints == raw.layout.num_joints and o.name != raw.layout.name
        ]
        raise InputError(
            f"{path}: not in layout {raw.layout.name}: {problem}; give the right one with --layout"
            + (f" ({' or '.join(others)}?)" if others else "")
        )
    match_resolution(path, raw, video, notes)
    size_wh = video.size_wh if video is not None else raw.size_wh
    boxes = _boxes(raw)
    _number_frames(path, raw, video, notes)
    num_frames = _fit_length(path, raw, video, notes)
    kept = any_along(np.isfinite(raw.points), (1, 2)) & (raw.frames < num_frames)
    if size_wh is not None:
        kept &= ~_outside(path, raw, boxes, size_wh, notes)
    raw.boxes_xyxy = boxes
    raw.select(kept)
    _check_rate(raw, video, notes)
    detections, ids = _by_frame(path, raw, num_frames, notes)
    times = raw.frame_times_s
    return KeypointFile(
        detections=detections,
        ids=ids,
        layout=raw.layout.name,
        format=format_name,
        fps=raw.fps,
        size_wh=raw.size_wh,
        warnings=tuple(notes),
        frame_times_s=times if times is not None and len(times) == num_frames else None,
    )


def _clean(raw: Instances, notes: list[str]) -> None:
    """Apply the rules for confidence and missing keypoints."""
    raw.points, scores = raw.points.copy(), raw.scores
    bad = ~np.isfinite(scores)
    if bad.any():
        notes.append(f"{int(bad.sum())} keypoints have no valid confidence (NaN): taken as missing")
    with np.errstate(invalid="ignore"):
        above, below = scores > 1.0, scores < 0.0
    if above.any():
        notes.append(
            f"{int((above & ~bad).sum())} confidences are above 1 (up to {float(scores[~bad].max()):.2f}): taken as 1"
        )
    if below.any():
        notes.append(f"{int((below & ~bad).sum())} confidences are below 0: taken as 0")
    with np.errstate(invalid="ignore"):
        absurd = any_along(np.abs(raw.points) > _MAX_PIXELS, -1)
    if absurd.any():
        notes.append(f"{int(absurd.sum())} keypoints lie far beyond any image: taken as missing")
    missing = bad | absurd | any_along(~np.isfinite(raw.points), -1) | (raw.points == 0).all(axis=-1)
    raw.points[missing] = np.nan
    raw.scores = np.where(missing, 0.0, np.clip(scores, 0.0, 1.0)).astype(np.float32)


def _boxes(raw: Instances) -> FloatArray:
    """(M, 4) the file's boxes where they are valid, else around the keypoints."""
    boxes = np.where(np.abs(raw.boxes_xyxy) < _MAX_PIXELS, raw.boxes_xyxy, np.nan)
    with np.errstate(invalid="ignore"):
        valid = ~any_along(~np.isfinite(boxes) | (boxes[:, 2:] <= boxes[:, :2]).repeat(2, axis=1), 1)
    finite = np.isfinite(raw.points)
    low = np.where(finite, raw.points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(finite, raw.points, -np.inf).max(axis=1, initial=-np.inf)
    margin = np.maximum(_BOX_MARGIN * (high - low), 1.0)
    around = np.concatenate([low - margin, high + margin], axis=1)
    return np.where(valid[:, None], boxes, around).astype(np.float32)


def _number_frames(path: object, raw: Instances, video: VideoInfo | None, notes: list[str]) -> None:
    """Renumber frames so that they count from 0.

    Tools that count from 1, and image sequences that start anywhere, are told by the video: their last number, or
    the span of their numbers, is its frame count.
    """
    numbers = raw.frames if raw.frames_seen is None else raw.frames_seen
    if len(numbers) == 0:
        return
    first, last = int(numbers.min()), int(numbers.max())
    if first < 0:
        raise InputError(f"{path}: has a frame numbered {first}; frames count from 0")
    count = video.frame_count if video is not None else None
    if raw.frames_seen is None or count is None or first == 0:
        return
    offset = first if last - first + 1 == count else 1 if last == count else 0
    if offset:
        raw.frames = raw.frames - offset
        raw.frames_seen = raw.frames_seen - offset
        raw.num_frames = None if raw.num_frames is None else raw.num_frames - offset
        notes.append(f"frames are numbered from {offset}: {offset} is taken as the first frame of the video")


def _fit_length(path: object, raw: Instances, video: VideoInfo | None, notes: list[str]) -> int:
    """Number of frames of the result: that of the video, if the file fits it."""
    last = int(raw.frames.max(initial=-1)) + 1
    length = max(last, raw.num_frames or 0)
    count = video.frame_count if video is not None else None
    if length > _MAX_FRAMES:
        raise InputError(f"{path}: frames are numbered up to {length - 1}; are these times? number frames from 0")
    if video is None or count is None or length == count:
        return length
    if length > count + 1 or (raw.num_frames is not None and length < count - 1):
        raise InputError(
            f"{path}: has {length} frames, but {video.path.name} has {count}; give the keypoints of this very video"
        )
    if length > count:
        notes.append(f"the file has one frame more than the video ({length}): the last is left out")
    elif raw.num_frames is not None:
        notes.append(f"the file has one frame less than the video ({length}): nobody is in the last")
    elif length:
        notes.append(f"nobody is in the file after frame {length - 1} of {count}")
    return count


def _outside(path: object, raw: Instances, boxes: FloatArray, size_wh: tuple[int, int], notes: list[str]) -> BoolArray:
    """(M,) people wholly outside the image."""
    size = np.asarray(size_wh, np.float32)
    gone = any_along((boxes[:, 2:] <= 0) | (boxes[:, :2] >= size), 1)
    if gone.sum() > _MOST * len(gone):
        raise InputError(
            f"{path}: most people lie outside the image of {size_wh[0]}x{size_wh[1]} pixels; "
            "give keypoints of this very video, at its full size"
        )
    if gone.any():
        notes.append(f"{int(gone.sum())} people lie wholly outside the image: left out")
    return gone


def _check_rate(raw: Instances, video: VideoInfo | None, notes: list[str]) -> None:
    if video is not None and raw.fps and abs(raw.fps - video.fps) > _FPS_TOLERANCE * video.fps:
        notes.append(f"the file says {raw.fps:g} frames per second, the video {video.fps:g}: the video's is used")


def _by_frame(
    path: object, raw: Instances, num_frames: int, notes: list[str]
) -> tuple[list[Keypoints2D], list[tuple[int, ...]] | None]:
    order = np.argsort(raw.frames, kind="stable")
    raw.select(order)
    skeleton = raw.layout.skeleton
    valid = np.maximum(np.isfinite(raw.points[:, skeleton.body, 0]).sum(axis=1), 1)
    own = np.clip(raw.person_scores, 0.0, 1.0)
    mean = raw.scores[:, skeleton.body].sum(axis=1) / valid
    scores = np.where(np.isfinite(own), own, mean).astype(np.float32)
    starts = np.searchsorted(raw.frames, np.arange(num_frames + 1)).tolist()
    spans = list(pairwise(starts))
    nobody = Keypoints2D.empty(skeleton)
    detections = [
        Keypoints2D(raw.boxes_xyxy[a:b], raw.points[a:b], raw.scores[a:b], scores[a:b], skeleton) if b > a else nobody
        for a, b in spans
    ]
    return detections, _ids_by_frame(raw.frames, raw.ids, spans, notes)


def _ids_by_frame(
    frames: IntArray, ids: IntArray | None, spans: Sequence[tuple[int, int]], notes: list[str]
) -> list[tuple[int, ...]] | None:
    if ids is None:
        return None
    pairs = np.stack([frames, ids], axis=1)
    if len(np.unique(pairs, axis=0)) < len(pairs):
        notes.append("two people of one frame have the same identity in the file: its identities are not used")
        return None
    listed = ids.tolist()
    return [tuple(listed[a:b]) for a, b in spans]
