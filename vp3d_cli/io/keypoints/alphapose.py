"""AlphaPose's ``alphapose-results.json``.

A list like COCO's, but ``image_id`` is a file name (``12.jpg`` for frame 12 of a video), ``box`` is x, y, width,
height, and ``idx`` is the identity where tracking was on. Keypoint confidence is the peak of a heat-map, which passes
1 a little (old COCO models: up to 6) and is clipped. ``score`` is not in 0..1: AlphaPose adds up the mean confidence,
the detector's score and 1.25 times the highest confidence (pPose_nms.py); the detector's score is taken out of it.
With ``--format open`` or ``cmu`` the file is a dict of image names with OpenPose's 18 keypoints. PoseFlow's
``alphapose-results-forvis-tracked.json`` is a dict of image names, each with a list of people: ``keypoints``,
``scores`` (as ``score`` above) and ``idx``, the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.coco import check_entry, frame_number, is_alphapose, is_result_list
from vp3d_cli.io.keypoints.instances import Instances, InstancesBuilder, ReaderOptions
from vp3d_cli.io.keypoints.parsing import parse_box, parse_identity, parse_keypoints, parse_number
from vp3d_cli.io.keypoints.source import Source

_LAYOUTS = ("coco17", "halpe26", "coco133", "halpe136", "mpii16")
_MAX_WEIGHT = 1.25  # of the highest confidence, in AlphaPose's score


def matches(source: Source) -> bool:
    """Whether this is an AlphaPose results file."""
    document = source.document
    return _is_by_image(document) or _is_poseflow(document) or (is_result_list(document) and is_alphapose(document))


def read(source: Source, options: ReaderOptions) -> Instances:
    """Read a results file.

    Raises:
        InputError: an entry is broken, or the layout is unknown.
    """
    people = InstancesBuilder()
    if _is_poseflow(source.document):
        return _read_poseflow(source, people, options)
    if isinstance(source.document, dict):
        return _read_by_image(source, people, options)
    for i, entry in enumerate(source.document):
        where = f"{source}: entry {i}"
        check_entry(where, entry)
        keypoints = parse_keypoints(where, entry["keypoints"])
        people.add(
            where,
            frame_number(where, entry["image_id"]),
            keypoints,
            box_xyxy=parse_box(where, entry.get("box", entry.get("bbox")), is_xywh=True),
            score=_detector_score(parse_number(where, entry.get("score"), "score"), keypoints),
            person_id=parse_identity(where, entry.get("idx")),
        )
    raw = people.build(source, options, implied=_LAYOUTS)
    raw.frames_seen = raw.frames
    # Without tracking, idx is 0 for everyone.
    if raw.ids is not None and not raw.ids.any() and len(np.unique(raw.frames)) < len(raw):
        raw.ids = None
    return raw


def _detector_score(score: float, keypoints: NDArray[np.float32]) -> float:
    confidence = keypoints[:, 2]
    detector = score - float(confidence.mean()) - _MAX_WEIGHT * float(confidence.max())
    # Scores edited by other tools do not come apart this way; then the mean confidence is used instead.
    return detector if -0.01 <= detector <= 1.01 else float("nan")


def _is_by_image(document: Any) -> bool:
    images = document.values() if isinstance(document, dict) else ()
    return any(isinstance(image, dict) and ("people" in image or "bodies" in image) for image in images)


def _is_poseflow(document: Any) -> bool:
    images = document.values() if isinstance(document, dict) else ()
    people = [person for image in images if isinstance(image, list) for person in image]
    return any(isinstance(person, dict) and {"keypoints", "idx"} <= set(person) for person in people) and not any(
        key in document for key in ("images", "annotations")
    )


def _read_poseflow(source: Source, people: InstancesBuilder, options: ReaderOptions) -> Instances:
    for name, listed in source.document.items():
        where = f"{source}: {name}"
        frame = frame_number(where, name)
        for person in listed if isinstance(listed, list) else [listed]:
            if not isinstance(person, dict) or "keypoints" not in person:
                raise InputError(f"{where}: a person has no keypoints; write the file again")
            keypoints = parse_keypoints(where, person["keypoints"])
            score = _detector_score(parse_number(where, person.get("scores"), "scores"), keypoints)
            people.add(where, frame, keypoints, score=score, person_id=parse_identity(where, person.get("idx")))
    instances = people.build(source, options, implied=_LAYOUTS)
    instances.frames_seen = np.array([frame_number(source, name) for name in source.document], np.int64)
    return instances


def _read_by_image(source: Source, people: InstancesBuilder, options: ReaderOptions) -> Instances:
    for name, image in source.document.items():
        where = f"{source}: {name}"
        frame = frame_number(where, name)
        try:
            listed = [person["pose_keypoints_2d"] for person in image.get("people", [])]
            listed += [person["joints"] for person in image.get("bodies", [])]
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{where}: not as AlphaPose writes it ({error!r}); write the file again") from error
        for values in listed:
            people.add(where, frame, parse_keypoints(where, values))
    raw = people.build(source, options, implied=("coco18",))
    raw.frames_seen = raw.frames
    return raw


READER = KeypointReader("alphapose", "AlphaPose's results (.json)", matches, read)
