"""JSON: joints, confidence and joint rotations of everyone, for programs in any language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray


def write_json(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write all people of a pose; null where not in view.

    Raises:
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    motions = motions_of(pose, options)
    document = {
        "format": "vp3d-json/1",
        "units": "metres",
        "axes": "x right, y down, z forward" if options.space == "camera" else "z up, floor at z = 0",
        "space": options.space,
        "fps": motions[0].fps,
        "times_s": _rounded(motions[0].times_s),
        "joints": list(motions[0].names),
        "parents": list(motions[0].parents),
        "people": [_person(motion) for motion in motions],
    }
    with replacing(path, overwrite) as file:
        file.write(json.dumps(document, separators=(",", ":"), allow_nan=False).encode())


def _person(motion: Motion) -> dict[str, Any]:
    """Return the JSON object of one person.

    ``positions`` is T x J x 3; with a rig also ``rotations`` T x J x 4 (w, x, y, z), ``root`` and ``bone_offsets``.
    """
    person: dict[str, Any] = {
        "id": motion.person,
        "positions": _rounded(motion.joints),
        "confidence": _rounded(motion.confidence, 3),
        "observed": motion.observed.astype(int).tolist(),
    }
    if motion.rig is not None:
        person["rotations"] = _rounded(motion.rig.quaternions())
        person["root"] = _rounded(motion.rig.root)
        person["bone_offsets"] = _rounded(motion.rig.offsets)
    return person


def _rounded(values: DoubleArray, digits: int = 5) -> list[Any]:
    """Nested lists; a frame (or what else the first axis counts) with anything missing is null."""
    rows: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    known: list[bool] = np.asarray(np.isfinite(values.reshape(len(values), -1)).all(axis=1)).tolist()
    return [row if there else None for row, there in zip(rows, known, strict=True)]


EXPORTER = Exporter("json", ".json", "joints, confidence and rotations for programs in any language", write_json)
