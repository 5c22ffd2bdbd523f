"""Reader of HumanEva-I, as converted by its MATLAB code (``converted_15j``)."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.downloads.files import SourceFile, read_files, read_mat
from vp3d_cli.paper.datasets.specs import DATASETS
from vp3d_cli.types import BoolArray, FloatArray

SPEC = DATASETS["humaneva"]
_MM = 1000


@dataclass(frozen=True)
class HumanEva:
    """Gap-free chunks of HumanEva-I.

    Attributes:
        joints: {``Train/S1``: {``Walking 1 chunk0``: (T, 15, 3)}}, metres, world axes.
        keypoints: same chunks, one array (T, 15, 2) in pixels for each of the three cameras.
        frames_left_out: {subject: number of frames that are not finite}.
    """

    joints: dict[str, dict[str, FloatArray]] = field(default_factory=dict)
    keypoints: dict[str, dict[str, list[FloatArray]]] = field(default_factory=dict)
    frames_left_out: dict[str, int] = field(default_factory=dict)


def read_sources(source: Path) -> HumanEva:
    """Read all chunks of a converted HumanEva-I from files ``Train/S1/Walking_1.mat``.

    The motion capture has gaps. Each sequence is cut where frames become finite or stop being finite. Parts are
    numbered from 0, including those that are not finite and left out, so that names agree with VideoPose3D's archives.

    Raises:
        InputError: the source is missing, damaged or empty, or does not have 15 joints and three cameras.
    """
    result = HumanEva()
    for file in read_files(source, _is_wanted):
        part, subject = file.path.parts[-3:-1]
        name = file.path.stem.replace("_", " ")
        _add_chunks(result, f"{part}/{subject}", name, *_arrays(file))
    if not any(result.joints.values()):
        raise InputError(
            f"{source}: no joints of HumanEva-I here; wanted are Train/S1/Walking_1.mat and so on, as its MATLAB code "
            "converts it (converted_15j), or data_3d_humaneva15.npz"
        )
    return result


def _is_wanted(path: PurePosixPath) -> bool:
    parts = path.parts
    return (
        path.suffix.lower() == ".mat"
        and len(parts) >= 3
        and parts[-3] in ("Train", "Validate")
        and re.fullmatch(r"S\d", parts[-2]) is not None
    )


def _arrays(file: SourceFile) -> tuple[FloatArray, FloatArray]:
    """Read (T, 15, 3) millimetres and (T, 3, 15, 2) pixels."""
    values = read_mat(file, "poses_3d", "poses_2d")
    missing = {"poses_3d", "poses_2d"} - set(values)
    if missing:
        raise InputError(f"{file.where}: has no {' and no '.join(sorted(missing))}; convert HumanEva-I again")
    joints, keypoints = values["poses_3d"], values["poses_2d"]
    for name, array in (("poses_3d", joints), ("poses_2d", keypoints)):
        if array.dtype.kind not in "fiu":
            raise InputError(f"{file.where}: {name} holds no numbers; convert HumanEva-I again")
    n = SPEC.recorded_joints
    if joints.ndim != 3 or joints.shape[1:] != (n, 3):
        raise InputError(f"{file.where}: poses_3d is {joints.shape}, expected (T, {n}, 3); convert with 15 joints")
    if keypoints.shape != (SPEC.num_cameras, len(joints), n, 2):
        wanted = (SPEC.num_cameras, len(joints), n, 2)
        raise InputError(f"{file.where}: poses_2d is {keypoints.shape}, expected {wanted}; convert HumanEva-I again")
    return joints, keypoints.transpose(1, 0, 2, 3)


def _add_chunks(result: HumanEva, subject: str, name: str, joints: FloatArray, keypoints: FloatArray) -> None:
    finite = np.asarray(np.isfinite(joints).all(axis=(1, 2)) & np.isfinite(keypoints).all(axis=(1, 2, 3)))
    result.frames_left_out[subject] = result.frames_left_out.get(subject, 0) + int((~finite).sum())
    own_joints, own_keypoints = result.joints.setdefault(subject, {}), result.keypoints.setdefault(subject, {})
    for number, (start, stop) in enumerate(_runs(finite)):
        if finite[start]:
            chunk = f"{name} chunk{number}"
            own_joints[chunk] = (joints[start:stop].astype(np.float64) / _MM).astype(np.float32)
            own_keypoints[chunk] = list(keypoints[start:stop].transpose(1, 0, 2, 3).astype(np.float32))


def _runs(flags: BoolArray) -> list[tuple[int, int]]:
    """(first, one past the last) frame of each run of equal flags."""
    if not len(flags):
        return []
    edges = [0, *(np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist(), len(flags)]
    return list(itertools.pairwise(edges))
