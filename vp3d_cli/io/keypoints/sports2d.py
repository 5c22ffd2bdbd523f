"""Sports2D's ``*_px_personNN.trc``: marker positions in pixels, one file for each person.

The lines of a TRC file: ``PathFileType ...``; names of the header fields; their values; ``Frame#``, ``Time`` and the
markers' names; ``X1 Y1 Z1 ...``; then a row for each frame, blank or 0 where a marker is missing. Sports2D writes
"m" as the unit into files of pixels too, so metres are told by their size. Markers are taken by their names. Given a
folder, everyone of one video is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions, instances_from_tracks
from vp3d_cli.io.keypoints.layouts import Layout, choose_layout, layout_from_names
from vp3d_cli.io.keypoints.source import Source, float_or_nan
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import DoubleArray

_HEADER_LINES = 5
# A person who is smaller than this in pixels is not seen; metres from the camera's axis stay below it.
_METRES = 30.0


@dataclass(frozen=True)
class _Trc:
    path: Path
    markers: tuple[str, ...]
    first_frame: int
    points: DoubleArray  # (T, J, 2)
    rate: float


def matches(source: Source) -> bool:
    """Whether this is a TRC file, or a folder with some in pixels."""
    return source.kind == "trc" or bool(_in_pixels(source))


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read one person's file, or everyone's in a folder.

    Raises:
        InputError: a file is broken or in metres, or the files have different markers.
    """
    files = [source.path] if source.kind == "trc" else _of_video(source, options.video_stem)
    people = [_read_trc(path) for path in files]
    layout = _layout(people, options)
    length = max(person.first_frame + len(person.points) for person in people)
    points = np.full((len(people), length, layout.num_joints, 2), np.nan)
    for i, person in enumerate(people):
        points[i, person.first_frame : person.first_frame + len(person.points)] = person.points
    raw = instances_from_tracks(points, None, layout, range(1, len(people) + 1))
    raw.fps = people[0].rate
    if any(person.first_frame for person in people):
        raw.num_frames = None  # a part of the video
    return raw


def _in_pixels(source: Source) -> list[Path]:
    return [path for path in source.files if path.suffix.lower() == ".trc" and "_px_" in path.name.lower()]


def _of_video(source: Source, video_stem: str | None) -> list[Path]:
    by_video: dict[str, list[Path]] = {}
    for path in _in_pixels(source):
        by_video.setdefault(path.name.lower().rsplit("_px_", 1)[0], []).append(path)
    stem = (video_stem or "").lower()
    named = [files for name, files in by_video.items() if name in (stem, f"{stem}_sports2d")]
    if len(named) == 1:
        return named[0]
    if len(by_video) > 1:
        raise InputError(f"{source}: has the files of several videos ({', '.join(by_video)}); give one file")
    return next(iter(by_video.values()))


def _layout(people: Sequence[_Trc], options: ReaderOptions) -> Layout:
    markers = people[0].markers
    for person in people:
        if person.markers != markers:
            raise InputError(
                f"{person.path}: other markers than in {people[0].path.name}: mixed layouts; give the output of one run"
            )
    stated = layout_from_names("trc", markers)
    if not set(stated.joints) & set(COCO17.joints):
        raise InputError(f"{people[0].path}: no marker is a COCO keypoint; it has {', '.join(markers)}")
    # Markers are named, so that "this is HALPE_26" adds nothing: Sports2D leaves out eyes and ears.
    return stated if options.layout is None else choose_layout(
        people[0].path, len(markers), asked=options.layout, stated=stated
    )  # fmt: skip


def _read_trc(path: Path) -> _Trc:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rate = float(lines[2].split("\t")[0])
        markers = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
        width = 2 + 3 * len(markers)
        rows = [(line.split("\t") + [""] * width)[:width] for line in lines[_HEADER_LINES:] if line.strip()]
        table = np.array([[float_or_nan(cell) for cell in row] for row in rows], np.float64).reshape(len(rows), width)
    except (OSError, ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{path}: not a whole TRC file ({error}); write it again") from error
    if not markers or not rows or not np.isfinite(table[0, 1]) or not rate > 0:
        raise InputError(f"{path}: a TRC file without markers, frames or times; write it again")
    points = table[:, 2:].reshape(len(rows), len(markers), 3)[..., :2]
    finite = np.isfinite(points)
    if finite.any() and float(np.abs(points[finite]).max()) < _METRES:
        raise InputError(f"{path}: positions are in metres, not pixels; give the file with _px_ in its name")
    # The rows of a part of a video are numbered from 0 all the same; their times tell where it starts.
    return _Trc(path, markers, max(0, round(float(table[0, 1]) * rate)), points, rate)


READER = KeypointReader("sports2d", "Sports2D's pixels (.trc, or a folder)", matches, read)
