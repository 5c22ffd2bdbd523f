"""Selection of tracked people: the options --person, --roi and --keep-partial."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vp3d_cli.errors import ConfigError, NobodyFoundError
from vp3d_cli.types import DoubleArray, Track2D

# A person is lifted if a shoulder and a hip are seen in this share of the frames in which they are detected; without a
# torso nothing tells where the body is and how it turns.
_LEAST_TORSO_SHARE = 0.25
_SEEN = 0.2  # confidence of a keypoint that was seen
_TORSO = (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"))


def select_people(tracks: Sequence[Track2D], which: int | str, size_wh: tuple[int, int]) -> list[Track2D]:
    """Select one person by number, size, position or time in view.

    Args:
        tracks: result of :func:`vp3d_cli.track.track_people`.
        which: number of a person, or ``"largest"`` (median area of the box), ``"central"`` (median distance of the
            box from the centre of the image) or ``"longest"`` (frames in view).
        size_wh: width and height of the image in pixels.

    Returns:
        A list with the one track; its number is unchanged.

    Raises:
        ConfigError: no person has this number, or the word is unknown.
        NobodyFoundError: there are no tracks.
    """
    if not tracks:
        raise NobodyFoundError("no person to select: nobody was tracked in the video")
    text = str(which).strip()
    if text.lstrip("-").isdigit():
        chosen = [t for t in tracks if t.person_id == int(text)]
        if not chosen:
            known = ", ".join(str(t.person_id) for t in tracks)
            raise ConfigError(f"there is no person {text}; people in this video: {known}")
        return chosen
    ranks: dict[str, Callable[[Track2D], float]] = {
        "largest": _median_area,
        "central": lambda track: -_median_distance_from_middle(track, size_wh),
        "longest": lambda track: float(track.present.sum()),
    }
    if text not in ranks:
        raise ConfigError(f"person must be a number or one of {', '.join(ranks)}, got {which!r}")
    return [max(tracks, key=ranks[text])]


def select_in_roi(tracks: Sequence[Track2D], roi_xywh: tuple[float, float, float, float]) -> list[Track2D]:
    """Keep the people whose box centre is in a region for at least half of their time in view.

    Args:
        tracks: result of :func:`vp3d_cli.track.track_people`.
        roi_xywh: left, top, width and height of the region in pixels.

    Raises:
        ConfigError: the region is empty or not finite.
        NobodyFoundError: nobody is in the region.
    """
    x, y, width, height = roi_xywh
    if not (np.isfinite(roi_xywh).all() and width > 0 and height > 0):
        raise ConfigError(f"region x,y,w,h must be finite with w, h > 0, got {roi_xywh}")
    low, high = np.array([x, y]), np.array([x + width, y + height])
    kept = [t for t in tracks if _share_inside(t, low, high) >= 0.5]
    if not kept:
        raise NobodyFoundError(
            f"nobody is in the region x={x:g} y={y:g} w={width:g} h={height:g} for most of their time"
        )
    return kept


def torso_share(track: Track2D) -> float:
    """Share of the frames in which a person is detected that show a shoulder and a hip.

    What the skeleton of the keypoints does not have need not be seen.
    """
    seen = np.all(np.isfinite(track.keypoints), axis=2) & (track.scores >= _SEEN)
    torso = detected = np.any(np.isfinite(track.keypoints), axis=(1, 2))
    for pair in _TORSO:
        joints = [track.skeleton.index(name) for name in pair if name in track.skeleton.joints]
        if joints:
            torso = torso & np.any(seen[:, joints], axis=1)
    return float(np.mean(torso[detected])) if detected.any() else 0.0


def split_partial(tracks: Sequence[Track2D]) -> tuple[list[Track2D], list[Track2D]]:
    """Split people into those whose torso is seen often enough to lift them, and the others."""
    is_whole = [torso_share(track) >= _LEAST_TORSO_SHARE for track in tracks]
    whole, partial = ([t for t, flag in zip(tracks, is_whole, strict=True) if flag is kind] for kind in (True, False))
    return whole, partial


def _middles(track: Track2D) -> DoubleArray:
    boxes = track.boxes_xyxy[track.present].astype(np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _share_inside(track: Track2D, low: DoubleArray, high: DoubleArray) -> float:
    middles = _middles(track)
    return float(((middles >= low) & (middles <= high)).all(axis=1).mean()) if len(middles) else 0.0


def _median_area(track: Track2D) -> float:
    boxes = track.boxes_xyxy[track.present]
    return float(np.median(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))) if len(boxes) else 0.0


def _median_distance_from_middle(track: Track2D, size_wh: tuple[int, int]) -> float:
    away = _middles(track) - np.array(size_wh) / 2
    return float(np.median(np.linalg.norm(away, axis=1))) if len(away) else float("inf")
