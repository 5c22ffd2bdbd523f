"""MediaPipe Pose landmarks in CSV or JSON.

MediaPipe itself writes no files; this module reads the common conventions.

Positions are MediaPipe's normalized ones: x and y as fractions of the image's width and height; z is ignored and
``visibility`` is the confidence. The image size comes from the video or from ``width`` and ``height`` in the JSON.

CSV, wide: one row for each frame, with the columns ``<landmark>_x``, ``<landmark>_y`` and ``<landmark>_visibility``
(also ``_v``, ``_vis``, ``_presence``, ``_score``, ``_confidence``), where the landmark is a name (``LEFT_HIP``,
``left hip``) or a number, with or without ``landmark_``, ``lm`` or ``pose_`` before it; or ``x1, y1, z1, v1, x2, ...``.
Numbers are 0 to 32, or 1 to 33, and all of them must be there.
CSV, long: one row for each landmark, with ``landmark`` (also ``landmark_id``, ``_idx``, ``_index`` or ``_name``;
``index``, ``name``, ``joint``), ``x``, ``y`` and ``visibility``; numbers are 0 to 32.
Both: ``frame`` (``frame_id``, ``frame_idx``, ``frame_index``, ``frame_number``) where frames without a person may be
left out, else rows are frames in order (wide only); ``person`` (``person_id``, ``pose_id``) where there are several.

JSON: a list of frames, or a dict with it under ``frames``, ``poses``, ``results`` or ``data``. A frame is a list of 33
landmarks, or a dict with it under ``landmarks``, ``pose_landmarks``, ``poseLandmarks`` or ``keypoints`` and its number
under ``frame`` (as above); one such list for each person where there are several; null or empty where there is
nobody. A landmark is ``{"x", "y", "visibility"}`` or ``[x, y, z, visibility]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.layouts import LAYOUTS, joint_name
from vp3d_cli.io.keypoints.parsing import NO_ID, parse_frame, parse_identity, parse_keypoints, parse_number, to_float32
from vp3d_cli.io.keypoints.source import Source, float_or_nan
from vp3d_cli.types import DoubleArray

_LANDMARKS = LAYOUTS["mediapipe33"].joints
_BY_NAME = {joint_name(name): i for i, name in enumerate(_LANDMARKS)}
_COUNT = len(_LANDMARKS)
_CONVENTIONS = "see the conventions that `vp3d_cli.io.keypoints.mediapipe` lists"

_FRAME_KEYS = ("frame", "frame_id", "frame_idx", "frame_index", "frame_number", "frameindex", "frame_no")
_PERSON_KEYS = ("person", "person_id", "pose_id", "track_id")
_LANDMARK_KEYS = (
    "landmark",
    "landmark_id",
    "landmark_idx",
    "landmark_index",
    "landmark_name",
    "index",
    "name",
    "joint",
)
_SCORE_KEYS = ("visibility", "v", "vis", "presence", "score", "confidence")
_LIST_KEYS = ("frames", "poses", "results", "data")
_POSE_KEYS = ("landmarks", "pose_landmarks", "poseLandmarks", "keypoints")
_WIDE = re.compile(rf"(?:pose_?|landmark_?|lm_?)?(.+?)[_ .]+(x|y|{'|'.join(_SCORE_KEYS)})", re.IGNORECASE)
_LETTER_NUMBER = re.compile(r"([xyv])_?(\d+)", re.IGNORECASE)
# World landmarks are metres from the middle of the hips; normalized ones have the hips anywhere in the image.
_WORLD_OFFSET = 0.01
_PIXELS = 4.0  # of image widths or heights; people are not that far outside


def matches(source: Source) -> bool:
    """Whether these are MediaPipe landmarks."""
    if source.kind == "csv":
        header = [cell.strip() for cell in source.rows[0]] if source.rows else []
        return _long_columns(header) is not None or bool(_wide_columns(header))
    frames = _json_frames(source.document)
    return frames is not None and any(_looks_like_pose(pose) for frame in frames for pose in _poses(frame))


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read landmarks and scale them to pixels.

    Raises:
        InputError: the file is broken, does not have MediaPipe's 33 landmarks, is in pixels or metres, or nobody
            knows the image size.
    """
    people = InstancesBuilder()
    if source.kind == "csv":
        covered, size_wh = _read_csv(source, people), None
    else:
        covered, size_wh = _read_json(source, people), _stated_size(source)
    raw = people.build(source, options, stated=LAYOUTS["mediapipe33"])
    raw.num_frames, raw.frames_seen = covered, None if covered is not None else raw.frames
    raw.size_wh = size_wh
    raw.has_scores = bool(np.isfinite(raw.scores).any()) or len(raw) == 0
    if not raw.has_scores:
        raw.scores = np.ones_like(raw.scores)
    _check_normalized(source, raw)
    size = options.video.size_wh if options.video is not None else size_wh
    if size is None:
        raise InputError(f"{source}: normalized landmarks need the image size; give the video as well")
    raw.points = to_float32(raw.points.astype(np.float64) * np.asarray(size))
    return raw


def _check_normalized(source: Source, raw: Instances) -> None:
    finite = raw.points[np.isfinite(raw.points)]
    if len(finite) == 0:
        return
    if float(np.median(np.abs(finite))) > _PIXELS:
        raise InputError(
            f"{source}: landmarks are in pixels, not fractions of the image; write MediaPipe's own x and y"
        )
    hips = raw.points[:, [_BY_NAME["left_hip"], _BY_NAME["right_hip"]]].mean(axis=1)
    hips = hips[np.isfinite(hips).all(axis=1)]
    if len(hips) and float(np.median(np.abs(hips))) < _WORLD_OFFSET:
        raise InputError(
            f"{source}: these are world landmarks, in metres; write pose_landmarks, not pose_world_landmarks"
        )


def _read_csv(source: Source, people: InstancesBuilder) -> int | None:
    header = [cell.strip() for cell in source.rows[0]]
    frame_column, person_column = _column(header, _FRAME_KEYS), _column(header, _PERSON_KEYS)
    poses: dict[tuple[int, int], DoubleArray] = {}
    long = _long_columns(header)
    wide = {} if long is not None else _wide_columns(header)
    if long is not None and frame_column is None:
        raise InputError(f"{source}: a row for each landmark, but no column frame; {_CONVENTIONS}")
    for i, row in enumerate(source.rows[1:]):
        where = f"{source}: line {i + 2}"
        if len(row) != len(header):
            raise InputError(f"{where}: {len(row)} cells, but the header has {len(header)}; was the file cut short?")
        try:
            frame = i if frame_column is None else parse_frame(where, float_or_nan(row[frame_column]))
            person = NO_ID if person_column is None else parse_identity(where, float_or_nan(row[person_column]))
            pose = poses.setdefault((frame, person), np.full((_COUNT, 3), np.nan))
            if long is not None:
                pose[_landmark(row[long[0]], 0)] = [float_or_nan(row[c]) if c >= 0 else np.nan for c in long[1:]]
            else:
                for (landmark, axis), column in wide.items():
                    pose[landmark, axis] = float_or_nan(row[column])
        except ValueError as error:
            raise InputError(f"{where}: {error}; write the file again") from error
    for (frame, person), pose in poses.items():
        people.add(source, frame, to_float32(pose), person_id=person)
    return len(source.rows) - 1 if frame_column is None else None


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    lower = [cell.lower() for cell in header]
    return next((lower.index(name) for name in names if name in lower), None)


def _long_columns(header: Sequence[str]) -> tuple[int, int, int, int] | None:
    """Columns of landmark, x, y, visibility (-1 for none); None if the table is not long."""
    landmark, x, y = _column(header, _LANDMARK_KEYS), _column(header, ("x",)), _column(header, ("y",))
    if landmark is None or x is None or y is None:
        return None
    score = _column(header, _SCORE_KEYS)
    return landmark, x, y, -1 if score is None else score


def _wide_columns(header: Sequence[str]) -> dict[tuple[int, int], int]:
    """(landmark, axis) -> column; empty if the table is not wide."""
    found: dict[tuple[str, int], int] = {}
    for column, cell in enumerate(header):
        if match := _LETTER_NUMBER.fullmatch(cell):
            key, axis = match[2], match[1].lower()
        elif match := _WIDE.fullmatch(cell):
            key, axis = match[1], match[2].lower()
        else:
            continue
        found[key, "xy".find(axis) if axis in ("x", "y") else 2] = column
    numbers = {int(key) for key, _ in found if key.isdigit()}
    if numbers:
        first = min(numbers)
        if first not in (0, 1) or numbers != set(range(first, first + _COUNT)):
            return {}
        return {(int(key) - first, axis): column for (key, axis), column in found.items() if key.isdigit()}
    named = {(_BY_NAME[joint_name(key)], axis): c for (key, axis), c in found.items() if joint_name(key) in _BY_NAME}
    return named if any((landmark, 1) in named for landmark, axis in named if axis == 0) else {}


def _landmark(text: str, first: int) -> int:
    text = text.strip().rsplit(".", 1)[-1]  # PoseLandmark.LEFT_HIP
    number = int(text) - first if text.isdigit() else _BY_NAME.get(joint_name(text), -1)
    if not 0 <= number < _COUNT:
        raise ValueError(f"unknown landmark {text!r}")
    return number


def _json_frames(document: Any) -> list[Any] | None:
    if isinstance(document, dict):
        document = next((document[key] for key in _LIST_KEYS if isinstance(document.get(key), list)), None)
    return document if isinstance(document, list) else None


def _poses(frame: Any) -> list[Any]:
    """Everyone in a frame, each a list of landmarks."""
    if isinstance(frame, dict):
        frame = next((frame[key] for key in _POSE_KEYS if frame.get(key)), None)
        if isinstance(frame, dict):  # {"landmark": [...]}, as protobuf's MessageToDict gives it
            frame = frame.get("landmark")
    if not isinstance(frame, list) or not frame:
        return []
    several = isinstance(frame[0], list) and bool(frame[0]) and isinstance(frame[0][0], list | dict)
    return frame if several else [frame]


def _looks_like_pose(pose: Any) -> bool:
    if not isinstance(pose, list) or len(pose) != _COUNT:
        return False
    first = pose[0]
    return (isinstance(first, dict) and "x" in first and "y" in first) or (
        isinstance(first, list) and len(first) in (2, 3, 4)
    )


def _read_json(source: Source, people: InstancesBuilder) -> int | None:
    frames = _json_frames(source.document) or []
    numbered = False
    for i, frame in enumerate(frames):
        where = f"{source}: frame {i}"
        number = _frame_key(frame)
        numbered |= number is not None
        index = parse_frame(where, i if number is None else number)
        for pose in _poses(frame):
            if not _looks_like_pose(pose):
                raise InputError(f"{where}: not {_COUNT} landmarks; {_CONVENTIONS}")
            people.add(where, index, _pose(where, pose))
    return None if numbered else len(frames)


def _frame_key(frame: Any) -> Any:
    if not isinstance(frame, Mapping):
        return None
    lower = {str(key).lower(): value for key, value in frame.items()}
    return next((lower[key] for key in _FRAME_KEYS if lower.get(key) is not None), None)


def _pose(where: str, pose: list[Any]) -> NDArray[np.float32]:
    rows = []
    for landmark in pose:
        if isinstance(landmark, dict):
            score = next((landmark[key] for key in _SCORE_KEYS if key in landmark), None)
            rows.append([landmark.get("x"), landmark.get("y"), score])
        elif isinstance(landmark, list) and len(landmark) >= 2:
            rows.append([landmark[0], landmark[1], landmark[3] if len(landmark) > 3 else None])
        else:
            raise InputError(f"{where}: a landmark is {landmark!r}; {_CONVENTIONS}")
    return parse_keypoints(where, rows)


def _stated_size(source: Source) -> tuple[int, int] | None:
    document = source.document
    if not isinstance(document, dict):
        return None
    width, height = (parse_number(source, document.get(key), key) for key in ("width", "height"))
    return (int(width), int(height)) if width > 0 and height > 0 else None


READER = KeypointReader("mediapipe", "MediaPipe's landmarks (.csv, .json)", matches, read)
