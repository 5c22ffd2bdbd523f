"""Plain keypoint arrays saved with numpy or pickle: ``.npy``, ``.npz``, ``.pkl``.

An array is (T, K, C) for one person or (P, T, K, C) for several; T frames, K keypoints, C = 2 for x, y or 3 for x, y,
confidence. (T, P, K, C) is told by the number of frames of the video. A ``.npz`` archive or a pickled dict has it as
``keypoints``, ``keypoints_2d`` or ``keypoint``, and confidence (P, T, K) as ``scores``, ``confidence`` or
``keypoint_score`` (MMAction2). Pickles are read by vp3d's own unpickler, which runs nothing.

17 keypoints are taken as COCO's, which is checked against the shape of the people; others must be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions, instances_from_tracks
from vp3d_cli.io.keypoints.layouts import choose_layout
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.io.restricted_pickle import load_npy, load_npz_objects, loads_pickle

_KEYPOINTS = ("keypoints", "keypoints_2d", "keypoint")
_SCORES = ("scores", "scores_2d", "confidence", "keypoint_score", "keypoint_scores")
_WANTED = "an array (frames, keypoints, 2 or 3) or (people, frames, keypoints, 2 or 3)"


def matches(source: Source) -> bool:
    """Whether this is an array in ``.npy``, a pickle, or an archive with keypoints alone."""
    known_otherwise = {"schema", "boxes", "positions_2d", "scores_2d", "counts"}
    plain = bool(set(source.names) & set(_KEYPOINTS)) and not known_otherwise & set(source.names)
    return source.kind in ("npy", "pickle") or plain


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read an array.

    Raises:
        InputError: the file is damaged, asks for more than plain data, or holds no such array.
    """
    points, scores = _points_and_scores(source, _content(source))
    if options.video is not None:
        points, scores = _people_first(points, scores, options.video.frame_count)
    joints = points.shape[2]
    layout = choose_layout(source, joints, asked=options.layout, implied=("coco17",))
    ids = range(1, len(points) + 1)
    instances = instances_from_tracks(points, scores, layout, ids)
    if len(points) > 1 and scores is not None:
        instances.ids = None  # rows of detections are not identities unless somebody tracked them
        instances.notes.append("the order of people in the array is not taken as identities: people are tracked")
    return instances


def _content(source: Source) -> Any:
    if source.kind == "npz":
        return load_npz_objects(source.path)
    if source.kind == "npy":
        return load_npy(source.path)
    return loads_pickle(source.path.read_bytes(), str(source))


def _points_and_scores(source: Source, content: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """(P, T, K, 2) and (P, T, K)."""
    scores = None
    if isinstance(content, Mapping):
        key = next((key for key in _KEYPOINTS if key in content), None)
        if key is None:
            listed = ", ".join(map(str, list(content)[:8])) or "nothing"
            raise InputError(f"{source}: has no {' or '.join(_KEYPOINTS)} but {listed}; save {_WANTED} as .npy")
        found = next((content[key] for key in _SCORES if key in content), None)
        scores = None if found is None else _numbers(source, found)
        content = content[key]
    points = _numbers(source, content)
    if points.ndim == 3:
        points = points[None]
        scores = scores[None] if scores is not None and scores.ndim == 2 else scores
    if points.ndim != 4 or points.shape[3] not in (2, 3) or 0 in points.shape:
        raise InputError(f"{source}: expected {_WANTED}, got {np.shape(content)}; save such an array")
    if points.shape[3] == 3:
        return points[..., :2], points[..., 2] if scores is None else scores
    if scores is not None and scores.shape != points.shape[:3]:
        raise InputError(f"{source}: keypoints have shape {points.shape}, but scores {scores.shape}; save them again")
    return points, scores


def _numbers(source: Source, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: not an array of numbers ({error}); save {_WANTED} as .npy") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{source}: holds {array.dtype.name} {type(values).__name__}, not numbers; save {_WANTED}")
    return array


def _people_first(
    points: NDArray[Any], scores: NDArray[Any] | None, num_frames: int | None
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """(P, T, ...) of arrays that may be (T, P, ...), by the number of frames of the video."""
    if points.shape[0] == num_frames != points.shape[1]:
        return points.swapaxes(0, 1), None if scores is None else scores.swapaxes(0, 1)
    return points, scores


READER = KeypointReader("array", "arrays (frames, keypoints, 2 or 3) (.npy, .npz, .pkl)", matches, read)
