"""COCO results: one JSON list of ``{"image_id", "category_id": 1, "keypoints": [x, y, score, ...], "score"}``.

``image_id`` is the frame. ``bbox`` (x, y, width, height) and ``track_id`` are read where they are there. The format
is defined for COCO's 17 keypoints; another layout must be asked for. vp3d writes it with frames from 0.
"""

from __future__ import annotations

import json
import re
from typing import IO, Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions, WriteRequest
from vp3d_cli.io.keypoints.parsing import parse_box, parse_frame, parse_identity, parse_keypoints, parse_number
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.types import Track2D

_LAYOUTS = ("coco17", "coco133")
PERSON_CATEGORY = 1


def is_result_list(document: Any) -> bool:
    """Whether this is a list of people with ``image_id`` and flat ``keypoints``, COCO's or AlphaPose's."""
    return isinstance(document, list) and any(map(_is_result, document))


def _is_result(entry: Any) -> bool:
    return isinstance(entry, dict) and "image_id" in entry and "keypoints" in entry


def matches(source: Source) -> bool:
    """Whether this is a COCO results file; AlphaPose's, which is much alike, has names for images."""
    document = source.document
    nobody = source.kind == "json" and document == []
    return nobody or (is_result_list(document) and not is_alphapose(document))


def is_alphapose(document: list[Any]) -> bool:
    """Whether a result list is AlphaPose's, which has names for images."""
    entries = filter(_is_result, document)
    return any(isinstance(entry["image_id"], str) or "box" in entry or "idx" in entry for entry in entries)


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a results file.

    Raises:
        InputError: an entry is broken, or the layout is unknown.
    """
    people = InstancesBuilder()
    skipped = 0
    for i, entry in enumerate(source.document):
        where = f"{source}: entry {i}"
        check_entry(where, entry)
        if entry.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY:
            skipped += 1
            continue
        people.add(
            where,
            frame_number(where, entry["image_id"]),
            parse_keypoints(where, entry["keypoints"]),
            box_xyxy=parse_box(where, entry.get("bbox"), is_xywh=True),
            score=parse_number(where, entry.get("score"), "score"),
            person_id=parse_identity(where, entry.get("track_id")),
        )
    raw = people.build(source, options, implied=_LAYOUTS)
    raw.frames_seen = raw.frames
    if skipped:
        raw.notes.append(f"{skipped} entries are of another category than 1, person: left out")
    return raw


def check_entry(where: object, entry: Any) -> None:
    """Check that an entry of a result list has an image and keypoints.

    Raises:
        InputError: it lacks one of them.
    """
    if not _is_result(entry):
        raise InputError(f"{where}: has no image_id or no keypoints; write the file again")


def frame_number(where: object, image_id: object) -> int:
    """Frame number of an ``image_id``: a number, or the last number in a file name such as ``12.jpg``.

    Raises:
        InputError: there is none.
    """
    if not isinstance(image_id, str):
        return parse_frame(where, image_id)
    numbers = re.findall(r"\d+", re.sub(r"\.[A-Za-z]\w*$", "", image_id))
    if not numbers:
        raise InputError(f"{where}: no frame number in image_id {image_id!r}; name the images by their numbers")
    return parse_frame(where, int(numbers[-1]))


def write(stream: IO[bytes], job: WriteRequest) -> list[str]:
    """Write COCO results frame by frame: ``image_id`` counts frames from 0, ``track_id`` is the person.

    A missing keypoint is 0, 0, 0, and so is one that was filled in, which this format cannot mark. ``score`` is the
    mean confidence of the keypoints that are there.
    """
    separator = b"[\n"
    for frame in range(len(job.frame_times_s)):
        for track in job.tracks:
            row = frame - track.first
            entry = _entry(track, row, frame) if 0 <= row < len(track) else None
            if entry is not None:
                stream.write(separator + json.dumps(entry).encode())
                separator = b",\n"
    stream.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
    notes = ["COCO's format keeps neither frame times nor image size"]
    filled = sum(int((np.isfinite(track.keypoints[..., 0]) & ~track.observed).sum()) for track in job.tracks)
    if filled:
        notes.append(f"{filled} keypoints that were filled in are left out, for COCO's format cannot mark them")
    return notes


def _entry(track: Track2D, row: int, frame: int) -> dict[str, Any] | None:
    points, scores = track.keypoints[row].astype(np.float64), track.scores[row].astype(np.float64)
    there = np.isfinite(points).all(axis=1) & track.observed[row]
    if not there.any():
        return None
    flat = np.where(there[:, None], np.concatenate([points, scores[:, None]], axis=1), 0.0)
    entry: dict[str, Any] = {
        "image_id": frame,
        "category_id": PERSON_CATEGORY,
        "track_id": track.person_id,
        "keypoints": [round(value, 4) for value in flat.ravel().tolist()],
        "score": round(float(scores[there].mean()), 4),
    }
    x0, y0, x1, y1 = track.boxes_xyxy[row].astype(np.float64).tolist()
    if np.isfinite([x0, y0, x1, y1]).all():
        entry["bbox"] = [round(value, 4) for value in (x0, y0, x1 - x0, y1 - y0)]
    return entry


READER = KeypointReader("coco", "COCO results (.json)", matches, read)
