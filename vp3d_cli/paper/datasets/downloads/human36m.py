"""Reader of Human3.6M joints from the original download, and from conversions of it."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError, MissingDependencyError
from vp3d_cli.paper.datasets.downloads.files import SourceFile, damaged, read_files, read_mat
from vp3d_cli.paper.datasets.specs import DATASETS, action_name
from vp3d_cli.types import FloatArray

Sequences = dict[str, dict[str, FloatArray]]

SPEC = DATASETS["human36m"]
_SUBJECT = re.compile(r"(?:.*[_-])?(S\d{1,2})(?:\.t(?:ar\.)?gz|\.tar)?")
# Two actions have other names in the original download than in the literature.
_RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
_MM = 1000
# Range of the distance from hip to head of an adult, bent or upright, in metres; detects other units.
_MIN_SIZE_M, _MAX_SIZE_M = 0.2, 1.3


def read_sources(source: Path) -> Sequences:
    """Read all joint sequences of a download of Human3.6M.

    Supported are ``Poses_D3_Positions_S*.tgz`` of the original download or their content (``.cdf``), the same converted
    by MATLAB (``.cdf.mat``), and ``h36m.zip`` of Martinez et al. 2017 (``.h5``), in a folder or an archive.

    Returns:
        {subject: {sequence: (T, 32, 3)}}, metres, world axes; sequence names as in VideoPose3D's archives.

    Raises:
        InputError: the source is missing, damaged or empty, or has other joints than Human3.6M's.
        MissingDependencyError: a library to read such files is not installed.
    """
    subjects: Sequences = {}
    for file in read_files(source, _is_wanted):
        subject, sequence = subject_of(file), sequence_of(file.path)
        if action_name(sequence) not in SPEC.actions:
            continue  # "_ALL", and other files of users
        if sequence in subjects.setdefault(subject, {}):
            raise InputError(f"{file.where}: {subject}, {sequence} is there twice; give a folder with one copy")
        subjects[subject][sequence] = _joints(file)
    if not any(subjects.values()):
        raise InputError(
            f"{source}: no joints of Human3.6M here; wanted are Poses_D3_Positions_S*.tgz of the original download "
            "(.cdf), the same as .cdf.mat, h36m.zip, or data_3d_h36m.npz"
        )
    return subjects


def check_joints(where: str, joints: FloatArray) -> FloatArray:
    """Check a joint sequence (T, 32, 3) in metres, and return it.

    Raises:
        InputError: there are no frames, values are not finite, or bodies have an impossible size.
    """
    if not len(joints):
        raise InputError(f"{where}: has no frames; download it again")
    if not np.isfinite(joints).all():
        frame = int(np.flatnonzero(~np.isfinite(joints).all(axis=(1, 2)))[0])
        raise InputError(f"{where}: values of frame {frame} are not finite; download it again")
    kept = joints[:, list(SPEC.kept_joints)]
    size = float(np.median(np.linalg.norm(kept[:, 10] - kept[:, 0], axis=-1)))
    if not _MIN_SIZE_M < size < _MAX_SIZE_M:
        raise InputError(
            f"{where}: {size:.3g} m from hip to head; these are not Human3.6M's joints, or of another unit"
        )
    return joints


def _is_wanted(path: PurePosixPath) -> bool:
    name, folders = path.name.lower(), path.parts[:-1]
    if name.startswith("."):
        return False
    if name.endswith(".h5"):
        return "3D_positions" in folders  # h36m.zip also has keypoints, see stacked_hourglass.py
    if not name.endswith((".cdf", ".cdf.mat")):
        return False
    features = [folder for folder in folders if re.match(r"(D[23]_|Raw)", folder)]
    return all(folder == "D3_Positions" for folder in features)


def subject_of(file: SourceFile) -> str:
    """Subject of a file, from its folder ``S1`` or archive ``Poses_D3_Positions_S1.tgz``.

    Raises:
        InputError: no folder names the subject.
    """
    for part in reversed(file.path.parts[:-1]):
        if match := _SUBJECT.fullmatch(part):
            return match[1]
    raise InputError(f"{file.where}: no folder names its subject; keep the folders S1, S5 ... of the download")


def sequence_of(path: PurePosixPath) -> str:
    """Sequence name of a file: ``WalkingDog_1.cdf.mat`` is ``WalkDog 1``."""
    name = re.sub(r"((\.cdf)?\.mat|\.cdf|\.h5)$", "", path.name, flags=re.IGNORECASE)
    action, _, take = name.replace("_", " ").strip().partition(" ")
    action = _RENAMED.get(action, action)
    return f"{action} {take}" if take else action


def _joints(file: SourceFile) -> FloatArray:
    readers: dict[str, Callable[[SourceFile], Any]] = {".cdf": _read_cdf, ".mat": _read_mat, ".h5": _read_h5}
    values = readers[file.path.suffix.lower()](file)
    coordinates = SPEC.recorded_joints * 3
    if values.ndim != 2 or values.shape[1] != coordinates or values.dtype.kind not in "fiu":
        raise InputError(
            f"{file.where}: expected frames of {SPEC.recorded_joints} joints ({coordinates} numbers), got an array "
            f"{values.shape} of {values.dtype}; is this D3_Positions?"
        )
    joints = values.reshape(len(values), SPEC.recorded_joints, 3).astype(np.float64) / _MM
    return check_joints(file.where, joints.astype(np.float32))


def _read_cdf(file: SourceFile) -> Any:
    """Read (T, 96) millimetres from the original download."""
    try:
        import cdflib
    except ImportError as error:
        raise MissingDependencyError(
            f"{file.where}: reading Human3.6M's .cdf needs cdflib: pip install 'vp3d[human36m]'"
        ) from error
    with tempfile.TemporaryDirectory() as folder:  # cdflib reads files, not bytes
        path = Path(folder) / "poses.cdf"
        path.write_bytes(file.data)
        try:
            values = np.asarray(cdflib.CDF(path).varget("Pose"))
        except Exception as error:  # cdflib raises any kind of error from a damaged file
            raise damaged(file, InputError("no CDF file with a variable Pose")) from error
    return _without_leading(values)


def _read_mat(file: SourceFile) -> Any:
    """Read (T, 96) millimetres from the cell array that MATLAB's ``cdfread`` returns."""
    values = np.asarray(read_mat(file, "data").get("data", ()))
    while values.dtype == object and values.size == 1:
        values = np.asarray(values.ravel()[0])
    return _without_leading(values)


def _read_h5(file: SourceFile) -> Any:
    """Read (T, 96) millimetres from ``h36m.zip``, which stores (96, T)."""
    return read_h5(file, "3D_positions").T


def read_h5(file: SourceFile, name: str) -> Any:
    """Read an array of an HDF5 file.

    Raises:
        InputError: the file is damaged, or lacks the array.
        MissingDependencyError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{file.where}: reading h36m.zip needs h5py: pip install 'vp3d[human36m]'"
        ) from error
    try:
        with h5py.File(io.BytesIO(file.data), "r") as archive:
            return np.asarray(archive[name])
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise damaged(file, error) from error


def _without_leading(values: Any) -> Any:
    """Convert (1, T, 96), the single record of a CDF file, to (T, 96)."""
    return values[0] if values.ndim == 3 and len(values) == 1 else values
