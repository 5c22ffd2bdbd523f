"""The pose file: a numpy archive of schema ``vp3d-pose/1``, read and written without pickle.

Besides the fields of :class:`~vp3d_cli.pose.Pose3D` the archive holds ``schema``, the string ``"vp3d-pose/1"``.
Keys that this version does not know are ignored, so that later versions may add some. The keys of the rig (joint
rotations, see :class:`~vp3d_cli.pose.Rig`) and ``confidence_3d`` came later: older files lack them, older versions
ignore them.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, OutputError, PoseFileError, ShapeError
from vp3d_cli.io.atomic import open_regular, replacing
from vp3d_cli.io.json_text import parse_json
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, Rows, open_arrays, read_rows, write_archive
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.pose import POSE_ARRAYS, Person3D, Pose3D, Rig, person_of
from vp3d_cli.skeletons import Skeleton, skeleton_of
from vp3d_cli.types import FloatArray, check_shape, over_all

SCHEMA = "vp3d-pose/1"
_SCHEMA_FAMILY = "vp3d-pose/"


@dataclass(frozen=True)
class _Field:
    dtype: str  # numpy's; "U" is text of any length
    shape: tuple[int | str, ...]  # P people, T frames, J 3D joints, K 2D keypoints


# The schema: every key, its type and its shape; names as in Pose3D.
_FIELDS: dict[str, _Field] = {
    **{name: _Field(np.dtype(of.dtype).name, ("P", "T", *of.shape)) for name, of in POSE_ARRAYS.items()},
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

# Optional keys, all or none: the rig. NaN for people without one. Quaternions are (w, x, y, z).
_RIG_FIELDS: dict[str, _Field] = {
    "rotations": _Field("float32", ("P", "T", "J", 4)),
    "rig_root": _Field("float32", ("P", "T", 3)),
    "bone_offsets": _Field("float32", ("P", "J", 3)),
}
# Optional: confidence of the 3D joints; NaN for people without.
_CONFIDENCE_FIELDS: dict[str, _Field] = {"confidence_3d": _Field("float32", ("P", "T", "J"))}
_OPTIONAL_FIELDS = {**_RIG_FIELDS, **_CONFIDENCE_FIELDS}


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
    arrays: dict[str, NDArray[Any] | Rows] = {"schema": np.asarray(SCHEMA)}
    for key, field in _FIELDS.items():
        if key in POSE_ARRAYS:
            arrays[key] = Rows(pose.shape_of(key), np.dtype(field.dtype), pose.rows(key))
        else:
            arrays[key] = np.asarray(provenance if key == "provenance" else getattr(pose, key), field.dtype)
    if any(person.rig is not None for person in pose.people):
        arrays.update({key: _rig_rows(pose, key) for key in _RIG_FIELDS})
    if any(person.confidence is not None for person in pose.people):
        shape = (pose.num_people, pose.num_frames, len(pose.joint_names_3d))
        arrays["confidence_3d"] = Rows(shape, np.dtype(np.float32), pose.confidence_rows())
    with replacing(path, overwrite) as file:
        write_archive(file, arrays)


def _rig_rows(pose: Pose3D, key: str) -> Rows:
    """One of the rig's arrays, person by person."""
    sizes = {"P": pose.num_people, "T": pose.num_frames, "J": len(pose.joint_names_3d)}
    shape = tuple(sizes[n] if isinstance(n, str) else n for n in _RIG_FIELDS[key].shape)
    return Rows(shape, np.dtype(np.float32), (_rig_row(person, key, shape[1:]) for person in pose.people))


def _rig_row(person: Person3D, key: str, shape: tuple[int, ...]) -> FloatArray:
    if person.rig is None:
        return np.full(shape, np.nan, np.float32)
    if key == "bone_offsets":
        return person.rig.bone_offsets
    return over_all(person.rig.rotations if key == "rotations" else person.rig.root, person.track.first, shape[0])


def read_npz(path: str | Path) -> Pose3D:
    """Read a pose file.

    Raises:
        PoseFileError: the file is missing, is no numpy archive, is broken, holds pickled objects, lacks keys, is
            of another version of the schema, or its arrays have the wrong types, shapes or values.
    """
    path = Path(path)
    with _opened(path) as archive:
        wanted = [key for key in archive.files if key == "schema" or (key in _FIELDS and key not in POSE_ARRAYS)]
        stored = {key: _load_array(path, archive, key) for key in wanted}
        _check_keys(path, archive.files, stored.get("schema"))
        sizes: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            groups = [group for group in (_RIG_FIELDS, _CONFIDENCE_FIELDS) if group.keys() <= set(archive.files)]
            optional = [key for group in groups for key in group]
            big = {key: _open_rows(path, archive, key, stack) for key in (*POSE_ARRAYS, *optional)}
            for key in (*_FIELDS, *optional):
                _check(path, key, big[key] if key in big else stored[key], sizes)
            arrays = {key: _converted(key, stored[key]) for key in _FIELDS if key not in big}
            _check_values(path, arrays)
            ids = arrays["person_ids"].tolist()
            skeleton = skeleton_of("custom", tuple(arrays["joint_names_2d"].tolist()))
            each = zip(ids, *(values.rows for values in big.values()), strict=True)
            people = tuple(_person(dict(zip(big, rows, strict=True)), number, skeleton) for number, *rows in each)
    width, height = arrays["video_size_wh"].tolist()
    fx, fy, cx, cy = arrays["intrinsics"].tolist()
    return Pose3D(
        people=people,
        frame_times_s=arrays["frame_times_s"],
        fps=float(arrays["fps"]),
        video_size_wh=(width, height),
        intrinsics=(fx, fy, cx, cy),
        joint_names_3d=tuple(arrays["joint_names_3d"].tolist()),
        parents_3d=tuple(arrays["parents_3d"].tolist()),
        joint_names_2d=tuple(arrays["joint_names_2d"].tolist()),
        provenance=_provenance(path, str(arrays["provenance"])),
    )


def _person(rows: Mapping[str, NDArray[Any]], number: int, skeleton: Skeleton) -> Person3D:
    """One person from their rows of all arrays; ``skeleton`` is that of the keypoints."""
    person = person_of(rows, number, skeleton)
    if "confidence_3d" in rows and np.isfinite(own := rows["confidence_3d"][person.track.frames]).all():
        person = replace(person, confidence=own.astype(np.float32))
    if "bone_offsets" not in rows or np.isnan(rows["bone_offsets"]).any():
        return person
    rotations, root = (rows[key][person.track.frames].astype(np.float32) for key in ("rotations", "rig_root"))
    return replace(person, rig=Rig(rotations, rows["bone_offsets"].astype(np.float32), root))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """The archive; what is wrong with it, then or while it is read, is a PoseFileError."""
    if not path.exists():
        raise PoseFileError(f"{path}: no such file; make one with `vp3d infer VIDEO --out {path.name}`")
    if path.is_dir():
        raise PoseFileError(f"{path}: is a folder, not a pose file")
    try:
        with open_regular(path) as file:
            if not zipfile.is_zipfile(file):
                raise PoseFileError(
                    f"{path}: no numpy .npz archive, or cut short; give a pose file that `vp3d infer` wrote"
                )
        with open_arrays(path) as archive:
            yield archive
    except BROKEN_ARCHIVE as error:
        raise PoseFileError(f"{path}: cannot be read ({_one_line(error)}); the file is damaged") from error


def _load_array(path: Path, archive: NpzFile, key: str) -> NDArray[Any]:
    with _refusing_pickles(path, key):
        array: NDArray[Any] = archive[key]
        return array


def _open_rows(path: Path, archive: NpzFile, key: str, stack: contextlib.ExitStack) -> Rows:
    assert archive.zip is not None  # it is open
    with _refusing_pickles(path, key):
        file = stack.enter_context(archive.zip.open(f"{key}.npy"))
        return read_rows(file, archive.zip.getinfo(f"{key}.npy").file_size)


@contextlib.contextmanager
def _refusing_pickles(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "allow_pickle" not in str(error):  # numpy has no error class of its own for this
            raise
        raise PoseFileError(
            f"{path}: {key} holds pickled Python objects, which could run code and are never loaded; "
            f"give a file that `vp3d infer` wrote"
        ) from error


def _check_keys(path: Path, keys: Sequence[str], stated: NDArray[Any] | None) -> None:
    schema = None if stated is None else str(stated)
    if schema is not None and schema != SCHEMA and schema.startswith(_SCHEMA_FAMILY):
        raise PoseFileError(f"{path}: schema {schema}, but this vp3d reads {SCHEMA}; update vp3d or infer again")
    missing = [key for key in ("schema", *_FIELDS) if key not in keys]
    if missing:
        raise PoseFileError(
            f"{path}: not a pose file of vp3d, missing: {', '.join(missing)}; give one that `vp3d infer` wrote"
        )
    if schema != SCHEMA:
        raise PoseFileError(f"{path}: schema {schema!r}, expected {SCHEMA!r}; give a file that `vp3d infer` wrote")


def _check(path: Path, key: str, array: NDArray[Any] | Rows, sizes: dict[str, int]) -> None:
    """Shape and kind of values as in the schema."""
    field = _FIELDS.get(key) or _OPTIONAL_FIELDS[key]
    try:
        check_shape(key, array, field.shape, sizes)
    except ShapeError as error:
        raise PoseFileError(f"{path}: {error}; the file is damaged or foreign") from error
    wanted = np.dtype(field.dtype)
    same_kind = array.dtype.kind == wanted.kind or (wanted.kind == "i" and array.dtype.kind == "u")
    if not same_kind:
        raise PoseFileError(f"{path}: {key}: expected {field.dtype} values, got {array.dtype}; the file is foreign")


def _converted(key: str, array: NDArray[Any]) -> NDArray[Any]:
    """In the schema's type: floats and integers may be of another width."""
    wanted = np.dtype(_FIELDS[key].dtype)
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
        provenance = parse_json(text)
    except ValueError as error:
        raise PoseFileError(f"{path}: provenance is not JSON ({error}); the file is damaged") from error
    if not isinstance(provenance, dict):
        raise PoseFileError(f"{path}: provenance is not a JSON object; the file is damaged")
    return provenance


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    if options.fps is not None or options.in_place or options.space != "world":
        raise ConfigError(
            f"{path}: a pose file keeps the frames, places and both spaces of the video; leave out fps, in-place and "
            "space, or choose another format"
        )
    write_npz(pose, path, overwrite)


EXPORTER = Exporter("npz", ".npz", f"everything vp3d knows, for numpy (schema {SCHEMA})", _write)
