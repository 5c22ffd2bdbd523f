"""YOLO pose label folders: one text file for each frame with people.

Ultralytics writes them with ``save_txt=True``.

A line is a person: ``class cx cy w h``, then ``x y confidence`` (or ``x y``) for each keypoint, then the confidence of
the box (``save_conf=True``) and the identity (``track``) where they were written. Positions are fractions of the image
size, so the video is needed. The last number in a file's name is the frame, from 1. A frame with nobody has no file.

The keypoints are COCO's 17, as in all published YOLO pose models; others must be asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.coco import frame_number
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.layouts import LAYOUTS, find_layout, list_layouts
from vp3d_cli.io.keypoints.parsing import NO_ID
from vp3d_cli.io.keypoints.source import Source

_BOX = 5  # class and box
_MOST_FURTHER = 2  # confidence and identity after the keypoints


@dataclass(frozen=True)
class _Columns:
    """Columns of a line: J keypoints of 2 or 3 numbers, then confidence, then identity."""

    joints: int
    per_joint: int
    has_score: bool
    has_id: bool


def matches(source: Source) -> bool:
    """Whether this is a folder of label files.

    For the folder of a run, its folder ``labels`` is used.
    """
    return any(_looks_like_labels(path) for path in _label_files(source))


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a folder of labels.

    Raises:
        InputError: a line is broken, has no keypoints, or another number of them; the video is not given.
    """
    if options.video is None:
        raise InputError(f"{source}: positions are fractions of the image size; give the video as well")
    lines = [(frame, where, row) for path in _label_files(source) for frame, where, row in _lines(path)]
    columns = _columns(source, [row for _, _, row in lines], options)
    size = np.array(options.video.size_wh, np.float64)
    people = InstancesBuilder()
    for frame, where, row in lines:
        if len(row) != len(lines[0][2]):
            raise InputError(f"{where}: {len(row)} numbers, but the first line has {len(lines[0][2])}: mixed models")
        people.add(
            where,
            frame,
            _keypoints(row, columns, size),
            box_xyxy=_box(row, size),
            score=float(row[-1 - columns.has_id]) if columns.has_score else float("nan"),
            person_id=int(row[-1]) if columns.has_id else NO_ID,
        )
    instances = people.build(source, options, implied=("coco17",))
    instances.has_scores = columns.per_joint == 3
    count = options.video.frame_count
    if instances.frames.min() >= 1 and (count is None or instances.frames.max() <= count):
        instances.frames = instances.frames - 1  # Ultralytics numbers the frames of a video from 1
    else:
        instances.frames_seen = instances.frames
    return instances


def _label_files(source: Source) -> list[Path]:
    files = list(filter(_is_numbered, source.files))
    below = source.path / "labels"
    if not files and source.kind == "folder" and below.is_dir():
        files = sorted(filter(_is_numbered, below.iterdir()))
    return files


def _is_numbered(path: Path) -> bool:
    """Whether a file is named like the labels of a frame; ``classes.txt`` may lie beside them."""
    return path.suffix.lower() == ".txt" and re.search(r"\d", path.stem) is not None


def _looks_like_labels(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline(100_000).split()
        numbers = [float(text) for text in first]
    except (OSError, ValueError):
        return False
    return len(numbers) > _BOX and numbers[0] == int(numbers[0]) and all(0 <= value <= 1 for value in numbers[1:_BOX])


def _lines(path: Path) -> list[tuple[int, str, NDArray[np.float64]]]:
    """Frame number, place for messages, and numbers of each line."""
    frame = frame_number(path, path.name)
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); write the file again") from error
    found = []
    for number, text in enumerate(texts, start=1):
        where = f"{path}: line {number}"
        try:
            row = np.array(text.split(), np.float64)
        except ValueError as error:
            raise InputError(f"{where}: not numbers ({error}); write the file again") from error
        if len(row):
            found.append((frame, where, row))
    return found


def _columns(source: Source, rows: list[NDArray[np.float64]], options: ReaderOptions) -> _Columns:
    """Return the columns; their number has one meaning for a given number of joints.

    Raises:
        InputError: the lines have too few numbers, or some that do not fit the layout.
    """
    width = len(rows[0])
    if width <= _BOX + 1:
        raise InputError(f"{source}: boxes without keypoints; use a pose model, such as yolo11n-pose")
    layout = LAYOUTS["coco17"] if options.layout is None else find_layout(options.layout)
    if layout is None:
        raise InputError(f"{source}: unknown layout {options.layout!r}; known: {list_layouts()}")
    for per_joint in (3, 2):
        further = width - _BOX - per_joint * layout.num_joints
        if 0 <= further <= _MOST_FURTHER:
            last = np.array([row[-1] for row in rows if len(row) == width])
            only_id = further == 1 and bool((last == np.round(last)).all() and last.max() > 1)
            return _Columns(layout.num_joints, per_joint, further == 2 or (further == 1 and not only_id),
                            further == 2 or only_id)  # fmt: skip
    raise InputError(
        f"{source}: {width} numbers in a line are not a box and the {layout.num_joints} keypoints of {layout.name}; "
        f"give the layout of the model with --layout (known: {list_layouts()})"
    )


def _keypoints(row: NDArray[np.float64], columns: _Columns, size: NDArray[np.float64]) -> NDArray[np.float32]:
    values = row[_BOX : _BOX + columns.joints * columns.per_joint].reshape(columns.joints, columns.per_joint)
    scores = values[:, 2:] if columns.per_joint == 3 else np.ones((columns.joints, 1))
    return np.concatenate([values[:, :2] * size, scores], axis=1).astype(np.float32)


def _box(row: NDArray[np.float64], size: NDArray[np.float64]) -> tuple[float, float, float, float]:
    center, half = row[1:3] * size, row[3:5] * size / 2
    x0, y0 = (center - half).tolist()
    x1, y1 = (center + half).tolist()
    return x0, y0, x1, y1


READER = KeypointReader("yolo", "YOLO pose labels (folder of .txt)", matches, read)
