"""Reader and writer of VideoPose3D's archives ``data_3d_*.npz`` and ``data_2d_*.npz``.

Both hold dicts pickled into object arrays. :mod:`vp3d_cli.io.restricted_pickle` reads them without running code from
the file. Dimensions: T frames, J joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.restricted_pickle import load_npz_objects, save_npz_objects
from vp3d_cli.skeletons import SKELETONS
from vp3d_cli.types import FloatArray

Symmetry = tuple[tuple[int, ...], tuple[int, ...]]

SYNTHETIC_NOTE = "synthetic data: results on it say nothing about the real data set"

_SYNTHETIC_KEY = "made_up"  # metadata key that marks synthetic archives
# Skeletons by VideoPose3D's layout names. Its archives of exact Human3.6M keypoints have no layout name; then the left
# and right joints, which differ between all skeletons, identify it.
_LAYOUT_NAMES = {"h36m": "h36m17", "coco": "coco17", "humaneva15": "humaneva15", "mpii": "mpii16"}


@dataclass(frozen=True)
class Positions3D:
    """Archive of 3D joints.

    Attributes:
        subjects: {subject: {action: (T, J, 3) float32}}, metres, world axes; all joints of the file (a
            Human3.6M archive has 32, see :func:`vp3d_cli.paper.datasets.specs.select_joints`).
        synthetic: whether the file is marked as synthetic data.
    """

    subjects: dict[str, dict[str, FloatArray]]
    synthetic: bool = False


@dataclass(frozen=True)
class Positions2D:
    """Archive of 2D keypoints.

    Attributes:
        subjects: {subject: {action: [(T, J, 2) float32 of each camera]}}, pixels.
        layout: name of the skeleton (``h36m17``, ``coco17``, ``humaneva15``, ``hourglass16``, ``mpii16``); an unknown
            name as in the file; "" if the file has no name and its symmetry fits no known skeleton.
        num_joints: J.
        symmetry: indices of the left joints, and of their counterparts.
        video_metadata: metadata of each video of a custom archive, such as ``{"w": 1920, "h": 1080}``.
    """

    subjects: dict[str, dict[str, list[FloatArray]]]
    layout: str
    num_joints: int
    symmetry: Symmetry
    video_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_positions_3d(path: str | Path) -> Positions3D:
    """Read an archive of 3D joints.

    Raises:
        InputError: the file is missing, damaged, not such an archive, or refused because it holds more than arrays; the
            message names the subject and action.
    """
    values = load_npz_objects(path)
    subjects: dict[str, dict[str, FloatArray]] = {}
    for subject, actions in _sequences(path, values, "positions_3d"):
        subjects[subject] = {
            str(action): _joints(f"{path}: {subject}, {action}", array, 3) for action, array in actions.items()
        }
    counts = {array.shape[1] for actions in subjects.values() for array in actions.values()}
    if len(counts) > 1:
        numbers = ", ".join(map(str, sorted(counts)))
        raise InputError(f"{path}: sequences have different numbers of joints ({numbers}); prepare the data again")
    metadata = values.get("metadata")
    return Positions3D(subjects, isinstance(metadata, dict) and metadata.get(_SYNTHETIC_KEY) is True)


def read_positions_2d(path: str | Path) -> Positions2D:
    """Read an archive of 2D keypoints.

    A camera that is missing from a sequence (None) gets an array without frames, so that the order of cameras stays.

    Raises:
        InputError: as :func:`read_positions_3d`, or ``metadata`` is missing or contradicts the arrays.
    """
    values = load_npz_objects(path)
    sequences = _sequences(path, values, "positions_2d")
    metadata = values.get("metadata")
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: has no metadata (layout_name, num_joints, keypoints_symmetry); make it again")
    num_joints, symmetry = _num_joints(path, metadata), _symmetry(path, metadata)
    subjects: dict[str, dict[str, list[FloatArray]]] = {}
    for subject, actions in sequences:
        subjects[subject] = {
            str(action): _cameras(f"{path}: {subject}, {action}", cameras, num_joints)
            for action, cameras in actions.items()
        }
    if any(joint >= num_joints for joint in (*symmetry[0], *symmetry[1])):
        raise InputError(f"{path}: keypoints_symmetry names joints beyond the {num_joints}; make the file again")
    layout = _layout(metadata.get("layout_name"), num_joints, symmetry)
    videos = metadata.get("video_metadata")
    video_metadata = {str(name): dict(video) for name, video in videos.items()} if isinstance(videos, dict) else {}
    return Positions2D(subjects, layout, num_joints, symmetry, video_metadata)


def write_positions_3d(
    path: str | Path,
    subjects: Mapping[str, Mapping[str, FloatArray]],
    overwrite: bool = False,
    *,
    synthetic: bool = False,
) -> None:
    """Write an archive of 3D joints.

    Args:
        path: file to write.
        subjects: {subject: {action: (T, J, 3)}}, metres, world axes.
        overwrite: replace an existing file.
        synthetic: mark the file as synthetic, in metadata that VideoPose3D ignores.

    Raises:
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    # Equal names are one object, to which a pickle refers back: equal values then give equal bytes.
    plain = {intern(s): {intern(a): _packed(array) for a, array in acts.items()} for s, acts in subjects.items()}
    with replacing(Path(path), overwrite) as file:
        save_npz_objects(file, {"positions_3d": plain, **({"metadata": {_SYNTHETIC_KEY: True}} if synthetic else {})})


def write_positions_2d(
    path: str | Path,
    subjects: Mapping[str, Mapping[str, Sequence[FloatArray]]],
    layout: str,
    *,
    video_metadata: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an archive of 2D keypoints.

    Args:
        path: file to write.
        subjects: {subject: {action: [(T, J, 2) of each camera]}}, pixels.
        layout: name of the skeleton, in :data:`vp3d_cli.skeletons.SKELETONS`.
        video_metadata: metadata of the videos of a custom archive.
        overwrite: replace an existing file.

    Raises:
        InputError: the layout is unknown, or an array has another number of joints.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    if layout not in SKELETONS:
        raise InputError(f"{path}: unknown layout {layout!r}; known: {', '.join(SKELETONS)}")
    skeleton = SKELETONS[layout]
    plain = {
        intern(s): {intern(a): [_packed(array) for array in cameras] for a, cameras in acts.items()}
        for s, acts in subjects.items()
    }
    for subject, actions in plain.items():
        for action, arrays in actions.items():
            if any(array.shape[1] != skeleton.num_joints for array in arrays):
                raise InputError(f"{path}: {subject}, {action}: {layout} has {skeleton.num_joints} joints")
    spelled = next((name for name, ours in _LAYOUT_NAMES.items() if ours == layout), layout)
    metadata: dict[str, Any] = {
        "layout_name": spelled,
        "num_joints": skeleton.num_joints,
        "keypoints_symmetry": [list(skeleton.left), list(skeleton.right)],
    }
    if video_metadata:
        metadata["video_metadata"] = {name: dict(video) for name, video in video_metadata.items()}
    with replacing(Path(path), overwrite) as file:
        save_npz_objects(file, {"positions_2d": plain, "metadata": metadata})


def frames_not_finite(values: FloatArray) -> str:
    """Describe the frames of (T, ...) with values that are not finite; "" if there are none."""
    frames = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if len(frames) < 2:
        return f"frame {frames[0]}" if len(frames) else ""
    alone = len(frames) == frames[-1] - frames[0] + 1
    return f"frames {frames[0]} to {frames[-1]}" if alone else f"{len(frames)} frames from {frames[0]} to {frames[-1]}"


def _packed(array: FloatArray) -> FloatArray:
    return np.ascontiguousarray(array, dtype=np.float32)


def _sequences(path: str | Path, values: Mapping[str, Any], key: str) -> list[tuple[str, dict[Any, Any]]]:
    if key not in values:
        raise InputError(f"{path}: has no {key}, but {', '.join(values) or 'nothing'}; this is not such an archive")
    positions = values[key]
    if not isinstance(positions, dict) or not all(isinstance(actions, dict) for actions in positions.values()):
        raise InputError(f"{path}: {key} is not {{subject: {{action: ...}}}}; make the file again")
    if not any(positions.values()):
        raise InputError(f"{path}: {key} is empty; make the file again")
    return [(str(subject), actions) for subject, actions in positions.items()]


def _joints(where: str, value: Any, axes: int) -> FloatArray:
    array = np.asarray(value)
    if array.ndim != 3 or array.shape[2] != axes or array.dtype.kind not in "fiu":
        raise InputError(f"{where}: expected numbers (T, J, {axes}), got {array.shape} of {array.dtype}")
    return array.astype(np.float32, copy=False)


def _cameras(where: str, value: Any, num_joints: int) -> list[FloatArray]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise InputError(f"{where}: expected a list with an array for each camera; make the file again")
    return [_view(f"{where}, camera {i + 1}", camera, num_joints) for i, camera in enumerate(value)]


def _view(where: str, value: Any, num_joints: int) -> FloatArray:
    """(T, J, 2) keypoints; the confidence, which some files have as a third number, is dropped."""
    if value is None:
        return np.zeros((0, num_joints, 2), np.float32)
    array = np.asarray(value)
    array = _joints(where, array[..., :2] if array.ndim == 3 and array.shape[2] == 3 else array, 2)
    if array.shape[1] != num_joints:
        raise InputError(f"{where}: {array.shape[1]} keypoints, but metadata says {num_joints}; make the file again")
    return array


def _num_joints(path: str | Path, metadata: Mapping[str, Any]) -> int:
    value = metadata.get("num_joints")
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{path}: metadata has no number of joints (num_joints); make the file again")
    return int(value)


def _symmetry(path: str | Path, metadata: Mapping[str, Any]) -> Symmetry:
    value = metadata.get("keypoints_symmetry")
    try:
        left, right = ([int(joint) for joint in side] for side in value)  # type: ignore[union-attr]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: metadata has no left and right joints (keypoints_symmetry)") from error
    if len(left) != len(right) or min(left + right, default=0) < 0:
        raise InputError(f"{path}: keypoints_symmetry does not pair left and right joints; make the file again")
    return tuple(left), tuple(right)


def _layout(name: object, num_joints: int, symmetry: Symmetry) -> str:
    if isinstance(name, str) and name:
        return _LAYOUT_NAMES.get(name, name)
    for skeleton in SKELETONS.values():
        same = set(symmetry[0]) == set(skeleton.left) and set(symmetry[1]) == set(skeleton.right)
        if same and skeleton.num_joints == num_joints:
            return skeleton.name
    return ""


def compare_archives(keypoints: Positions2D, joints: Mapping[str, Mapping[str, FloatArray]], name: str) -> list[str]:
    """Describe differences between an archive of keypoints and the joints, one sentence each.

    Different lengths are normal: detections continue after the end of the motion capture.
    """
    notes = []
    absent = [
        f"{subject}, {sequence}"
        for subject, sequences in joints.items()
        for sequence in sequences
        if sequence not in keypoints.subjects.get(subject, {})
    ]
    if absent:
        notes.append(f"{name}: has no keypoints of {_first_names(absent)}")
    broken = [
        f"{subject}, {sequence}, camera {number + 1}: {frames_not_finite(view)}"
        for subject, sequences in joints.items()
        for sequence in sequences
        for number, view in enumerate(keypoints.subjects.get(subject, {}).get(sequence, []))
        if not np.isfinite(view).all()
    ]
    if broken:
        notes.append(
            f"{name}: keypoints are not finite, so they cannot be used for training or testing: {_first_names(broken)}"
        )
    different = shorter = 0
    for subject, sequences in joints.items():
        for sequence, values in sequences.items():
            lengths = [len(array) for array in keypoints.subjects.get(subject, {}).get(sequence, []) if len(array)]
            different += any(length != len(values) for length in lengths)
            shorter += any(length < len(values) for length in lengths)
    if different:
        notes.append(
            f"{name}: {different} sequences have other lengths than their joints ({shorter} are shorter); "
            "training and evaluation take the frames that both have, from the first"
        )
    return notes


def _first_names(names: Sequence[str]) -> str:
    return "; ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
