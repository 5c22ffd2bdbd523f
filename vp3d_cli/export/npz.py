"""The pose file: a numpy archive of schema ``vp3d-pose/1``, read and written without pickle.

Besides the fields of :class:`~vp3d_cli.types.Pose3D` the archive holds ``schema``, the string ``"vp3d-pose/1"``.
Keys that this version does not know are ignored, so that later versions may add some.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import OutputError, PoseFileError, ShapeError
from vp3d_cli.export.base import Exporter
from vp3d_cli.files import replacing
from vp3d_cli.types import Pose3D, check_shape

SCHEMA = "vp3d-pose/1"
_SCHEMA_FAMILY = "vp3d-pose/"


@dataclass(frozen=True)
class _Field:
    dtype: str  # numpy's; "U" is text of any length
    shape: tuple[int | str, ...]  # P people, T frames, J 3D joints, K 2D keypoints


# The schema: every key, its type and its shape; names as in Pose3D.
_FIELDS: dict[str, _Field] = {
    "joints_3d": _Field("float32", ("P", "T", "J", 3)),
    "trajectory": _Field("float32", ("P", "T", 3)),
    "joints_world": _Field("float32", ("P", "T", "J", 3)),
    "keypoints_2d": _Field("float32", ("P", "T", "K", 2)),
    "scores_2d": _Field("float32", ("P", "T", "K")),
    "boxes_xyxy": _Field("float32", ("P", "T", 4)),
    "observed": _Field("bool", ("P", "T", "K")),
    "frame_times_s": _Field("float64", ("T",)),
    "fps": _Field("float64", ()),
    "video_size_wh": _Field("int32", (2,)),
    "intrinsics": _Field("float64", (4,)),
    "person_ids": _Field("int32", ("P",)),
    "joint_names_3d": _Field("U", ("J",)),
    "parents_3d": _Field("int32", ("J",)),
    "joint_names_2d": _Field("U", ("K",)),
    "provenance": _Field("U", ()),
}

# What numpy and zipfile raise on files that are cut short, damaged, or ask for more memory than there is.
_BROKEN_FILE = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError, RuntimeError, MemoryError,
)  # fmt: skip


def write_npz(pose: Pose3D, path: str | Path, overwrite: bool = False) -> None:
    """Write a pose file.

    The same pose gives the same bytes. The file appears under its name only when it is whole.

    Args:
        pose: what to write.
        path: where to.
        overwrite: replace a file that exists.

    Raises:
        OutputError: the file exists and ``overwrite`` is not set, its folder is missing or not writable, the disk
            is full, or the provenance holds what JSON cannot.
    """
    path = Path(path)
    try:
        provenance = json.dumps(dict(pose.provenance), ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path}: the pose's provenance cannot be written as JSON ({error})") from error
    values: dict[str, Any] = {key: getattr(pose, key) for key in _FIELDS}
    values["provenance"] = provenance
    arrays: dict[str, Any] = {key: np.asarray(values[key], dtype=field.dtype) for key, field in _FIELDS.items()}
    with replacing(path, overwrite) as file:
        np.savez_compressed(file, schema=np.asarray(SCHEMA), **arrays)


def read_npz(path: str | Path) -> Pose3D:
    """Read a pose file.

    Raises:
        PoseFileError: the file is missing, is no numpy archive, is broken, holds pickled objects, lacks keys, is
            of another version of the schema, or its arrays have the wrong types, shapes or values.
    """
    path = Path(path)
    stored = _load(path)
    _check_keys(path, stored)
    sizes: dict[str, int] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for key, field in _FIELDS.items():
        arrays[key] = _checked(path, key, stored[key], field, sizes)
    _check_values(path, arrays)
    provenance = _provenance(path, str(arrays["provenance"]))
    width, height = arrays["video_size_wh"].tolist()
    fx, fy, cx, cy = arrays["intrinsics"].tolist()
    return Pose3D(
        joints_3d=arrays["joints_3d"],
        trajectory=arrays["trajectory"],
        joints_world=arrays["joints_world"],
        keypoints_2d=arrays["keypoints_2d"],
        scores_2d=arrays["scores_2d"],
        boxes_xyxy=arrays["boxes_xyxy"],
        observed=arrays["observed"],
        frame_times_s=arrays["frame_times_s"],
        fps=float(arrays["fps"]),
        video_size_wh=(width, height),
        intrinsics=(fx, fy, cx, cy),
        person_ids=tuple(arrays["person_ids"].tolist()),
        joint_names_3d=tuple(arrays["joint_names_3d"].tolist()),
        parents_3d=tuple(arrays["parents_3d"].tolist()),
        joint_names_2d=tuple(arrays["joint_names_2d"].tolist()),
        provenance=provenance,
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """All known arrays of the archive; text and unknown keys of foreign files stay unread."""
    if not path.exists():
        raise PoseFileError(f"{path}: no such file; make one with `vp3d infer VIDEO --out {path.name}`")
    if path.is_dir():
        raise PoseFileError(f"{path}: is a folder, not a pose file")
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise PoseFileError(
                    f"{path}: no numpy .npz archive, or cut short; give a pose file that `vp3d infer` wrote"
                )
        with np.load(path, allow_pickle=False) as archive:
            wanted = [key for key in archive.files if key == "schema" or key in _FIELDS]
            return {key: _load_array(path, archive, key) for key in wanted}
    except _BROKEN_FILE as error:
        raise PoseFileError(f"{path}: cannot be read ({_one_line(error)}); the file is damaged") from error


def _load_array(path: Path, archive: Mapping[str, NDArray[Any]], key: str) -> NDArray[Any]:
    try:
        return archive[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):  # numpy has no error class of its own for this
            raise
        raise PoseFileError(
            f"{path}: {key} holds pickled Python objects, which could run code and are never loaded; "
            f"give a file that `vp3d infer` wrote"
        ) from error


def _check_keys(path: Path, stored: Mapping[str, NDArray[Any]]) -> None:
    schema = str(stored["schema"]) if "schema" in stored else None
    if schema is not None and schema != SCHEMA and schema.startswith(_SCHEMA_FAMILY):
        raise PoseFileError(f"{path}: schema {schema}, but this vp3d reads {SCHEMA}; update vp3d or infer again")
    missing = [key for key in ("schema", *_FIELDS) if key not in stored]
    if missing:
        raise PoseFileError(
            f"{path}: not a pose file of vp3d, missing: {', '.join(missing)}; give one that `vp3d infer` wrote"
        )
    if schema != SCHEMA:
        raise PoseFileError(f"{path}: schema {schema!r}, expected {SCHEMA!r}; give a file that `vp3d infer` wrote")


def _checked(path: Path, key: str, array: NDArray[Any], field: _Field, sizes: dict[str, int]) -> NDArray[Any]:
    """The array in the schema's type; floats and integers of another width are converted."""
    try:
        check_shape(key, array, field.shape, sizes)
    except ShapeError as error:
        raise PoseFileError(f"{path}: {error}; the file is damaged or foreign") from error
    wanted = np.dtype(field.dtype)
    same_kind = array.dtype.kind == wanted.kind or (wanted.kind == "i" and array.dtype.kind == "u")
    if not same_kind:
        raise PoseFileError(f"{path}: {key}: expected {field.dtype} values, got {array.dtype}; the file is foreign")
    return array if wanted.kind == "U" else array.astype(wanted, copy=False)


def _check_values(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    times, parents, ids = arrays["frame_times_s"], arrays["parents_3d"], arrays["person_ids"]
    width, height = arrays["video_size_wh"].tolist()
    fps = float(arrays["fps"])
    faults = {
        "frame_times_s do not increase": not np.isfinite(times).all() or bool((np.diff(times) <= 0).any()),
        f"fps is {fps}": not (np.isfinite(fps) and fps > 0),
        f"video_size_wh is {width}x{height}": width <= 0 or height <= 0,
        "intrinsics are not finite with fx, fy > 0": not np.isfinite(arrays["intrinsics"]).all()
        or bool((arrays["intrinsics"][:2] <= 0).any()),
        "parents_3d point outside the skeleton": bool(((parents < -1) | (parents >= len(parents))).any()),
        "person_ids are not unique": len(set(ids.tolist())) != len(ids),
    }
    for fault, found in faults.items():
        if found:
            raise PoseFileError(f"{path}: {fault}; the file is damaged or foreign")


def _provenance(path: Path, text: str) -> dict[str, Any]:
    try:
        provenance = json.loads(text)
    except json.JSONDecodeError as error:
        raise PoseFileError(f"{path}: provenance is not JSON ({error}); the file is damaged") from error
    if not isinstance(provenance, dict):
        raise PoseFileError(f"{path}: provenance is not a JSON object; the file is damaged")
    return provenance


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write(pose: Pose3D, path: Path, overwrite: bool) -> None:
    write_npz(pose, path, overwrite)


EXPORTER = Exporter("npz", ".npz", f"everything vp3d knows, for numpy (schema {SCHEMA})", _write)
