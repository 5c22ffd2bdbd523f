"""Reader of motion capture of any supported format, as motion clips."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.json_text import parse_json
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays
from vp3d_cli.train.mocap.asfamc import find_asf, read_amc
from vp3d_cli.train.mocap.bvh import read_bvh
from vp3d_cli.train.mocap.clip import MOTION_JOINTS, MotionClip
from vp3d_cli.train.mocap.joint_mapping import motion_joints, to_z_up
from vp3d_cli.train.mocap.pose_files import read_pose_motion
from vp3d_cli.train.mocap.spine_normalization import normalize_spines
from vp3d_cli.types import FloatArray

__all__ = ["MOTION_JOINTS", "MotionClip", "read_motion"]

_ARCHIVE_KEYS = ("joints", "unit_m", "up", "clips")


def _read_archive(path: Path) -> list[MotionClip]:
    """Read a motion archive: an npz with an int16 array (F, J, 3) per clip, and ``meta``.

    ``meta`` holds ``joints`` (names), ``unit_m`` (metres per unit), ``up`` ("z") and ``clips`` (one record each:
    ``name``, ``source``, ``fps``, ``licence``).

    Raises:
        InputError: the file is not a motion archive, or joints are missing (the message names them).
    """
    if not path.is_file():
        raise InputError(f"no motion archive at {path}; give the path of an npz file")
    try:
        with open_arrays(path) as archive:
            meta = parse_json(str(archive["meta"]))
            missing_keys = [key for key in _ARCHIVE_KEYS if key not in meta]
            if missing_keys:
                raise InputError(f"{path}: meta lacks {', '.join(missing_keys)}")
            order = _joint_order(path, meta["joints"])
            return [_clip(archive[record["name"]], record, meta, order) for record in meta["clips"]]
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{path} is not a motion archive ({error}); see docs/training.md for the format") from error


def _joint_order(path: Path, names: Sequence[str]) -> list[int]:
    canonical = [_canonical_name(name) for name in names]
    missing = [joint for joint in MOTION_JOINTS if joint not in canonical]
    if missing:
        raise InputError(f"{path}: skeleton lacks {', '.join(missing)}; it has {', '.join(names)}")
    return [canonical.index(joint) for joint in MOTION_JOINTS]


def _canonical_name(name: str) -> str:
    """Joint name in full: ``rknee`` becomes ``right_knee``."""
    plain = {joint.replace("left_", "l").replace("right_", "r"): joint for joint in MOTION_JOINTS}
    return plain.get(name, name)


def _clip(values: Any, record: dict[str, Any], meta: dict[str, Any], order: list[int]) -> MotionClip:
    if meta["up"] != "z":
        raise InputError(f"motion {record['name']}: up axis must be z, got {meta['up']}")
    if values.ndim != 3 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"motion {record['name']}: must be (F, J, 3) finite numbers, is {values.shape} {values.dtype}")
    if not (0 < float(record["fps"]) < 10_000 and 0 < float(meta["unit_m"]) < 1000):
        raise InputError(f"motion {record['name']}: fps and unit_m must be positive and not absurd")
    joints = values[:, order].astype(np.float32) * np.float32(meta["unit_m"])
    return MotionClip(record["name"], record["source"], record["licence"], float(record["fps"]), joints)


def read_motion(path: Path) -> list[MotionClip]:
    """Read motion clips from a file or folder.

    A motion archive or pose file (``.npz``), a ``.bvh`` file, an ``.amc`` file with its ``.asf`` beside it, or a folder
    with any of them in it and in its subfolders. Clips of a folder are named by their path in it, without suffix; the
    folder of a file is its source. The licence of a clip points to the ``LICENSE`` file in its folder. Thorax and
    spine are normalized (:mod:`vp3d_cli.train.mocap.spine_normalization`).

    Raises:
        InputError: a file is missing, unsupported or broken; the message has the file and, for text, the line.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
        if not files:
            raise InputError(f"{path}: no motion in this folder; vp3d reads {', '.join(_SUFFIXES)}")
        root = path
    else:
        if not path.is_file():
            raise InputError(f"no motion at {path}; give a file or folder ({', '.join(_SUFFIXES)})")
        if path.suffix.lower() not in _SUFFIXES:
            raise InputError(f"{path}: motion of an unknown kind; vp3d reads {', '.join(_SUFFIXES)}")
        files, root = [path], path.parent
    clips: list[MotionClip] = []
    for folder in sorted({file.parent for file in files}):
        clips += _read_collection(folder, [file for file in files if file.parent == folder], root)
    return normalize_spines(clips)


_SUFFIXES = (".npz", ".bvh", ".amc")


def _read_collection(folder: Path, files: Sequence[Path], root: Path) -> list[MotionClip]:
    """Read the motions of one folder, which share the up axis."""
    clips: list[MotionClip] = []
    recorded: list[tuple[str, float, FloatArray]] = []
    source, licence = folder.resolve().name, _licence_of(folder)
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        if file.suffix.lower() == ".npz":
            clips += read_pose_motion(file, name, source) if _is_pose_file(file) else _read_archive(file)
        else:
            recording = read_bvh(file) if file.suffix.lower() == ".bvh" else read_amc(find_asf(file), file)
            recorded.append((name, recording.fps, motion_joints(recording)))
    turned = to_z_up([joints for _, _, joints in recorded])
    for (name, fps, _), joints in zip(recorded, turned, strict=True):
        clips.append(MotionClip(name, source, licence, fps, joints))
    return clips


def _licence_of(folder: Path) -> str:
    """Reference to the licence file of a folder."""
    for file in sorted(folder.iterdir()):
        if file.stem.lower() in ("license", "licence", "copying"):
            return f"see {folder.resolve().name}/{file.name}"
    return f"not stated in {folder.resolve().name}"


def _is_pose_file(path: Path) -> bool:
    """Whether an npz is a pose file; a motion archive has ``meta``."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" not in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is neither a motion archive nor a pose file: {error}") from error
