"""Preparation of a data set: from a download to the archives for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import check_target, make_folder, replacing
from vp3d_cli.paper.datasets.archives import (
    SYNTHETIC_NOTE,
    Positions2D,
    compare_archives,
    read_positions_2d,
    read_positions_3d,
    write_positions_2d,
    write_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.datasets.downloads import human36m, humaneva, stacked_hourglass
from vp3d_cli.paper.datasets.specs import (
    CORRUPT,
    DATASETS,
    EXACT,
    DatasetSpec,
    action_name,
    dataset_spec,
    select_joints,
)
from vp3d_cli.types import FloatArray

Joints = dict[str, dict[str, FloatArray]]
Keypoints = dict[str, dict[str, list[FloatArray]]]
_TAKES = 2  # takes of every action by every subject of Human3.6M


@dataclass
class Prepared:
    """Prepared data set, and the files that were written.

    Attributes:
        joints: {subject: {sequence: (T, J, 3)}}, metres.
        files: files that were written.
        notes: remarks for the user, one sentence each.
        synthetic: whether the data is synthetic.
    """

    joints: Joints
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    synthetic: bool = False


def prepare(dataset: str, source: Path, out: Path, *, partial: bool = False, overwrite: bool = False) -> Prepared:
    """Convert a download of a data set to archives.

    Args:
        dataset: ``human36m`` or ``humaneva``.
        source: folder or archive of a download (see :mod:`vp3d_cli.paper.datasets.downloads`), an archive
            ``data_3d_*.npz``, or a folder with one, whose archives of keypoints are copied too.
        out: folder for ``data_3d_*.npz`` and ``data_2d_*.npz``; created if its parent exists.
        partial: accept missing subjects or sequences.
        overwrite: replace existing archives.

    Raises:
        InputError: the source is unusable or, without ``partial``, incomplete.
        OutputError: ``out`` cannot be written.
        MissingDependencyError: a library to read such files is not installed.
    """
    spec = dataset_spec(dataset)
    with new_folder(out):
        check_target(out / spec.file_3d, overwrite)
        check_target(out / spec.file_2d(EXACT), overwrite)
        archive = _archive_in(source, spec)
        if archive is not None:
            return _from_archive(spec, archive, source, out, partial, overwrite)
        return _from_download(spec, source, out, partial, overwrite)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder, and remove it again if it is still empty after an exception.

    Raises:
        OutputError: it cannot be created.
    """
    new = not folder.exists()
    make_folder(folder)
    try:
        yield
    except BaseException:
        if new and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _from_download(spec: DatasetSpec, source: Path, out: Path, partial: bool, overwrite: bool) -> Prepared:
    if spec.name == "human36m":
        result = Prepared(human36m.read_sources(source))
        keypoints = None
    else:
        eva = humaneva.read_sources(source)
        result, keypoints = Prepared(eva.joints), eva.keypoints
        for subject, frames in eva.frames_left_out.items():
            if frames:
                result.notes.append(f"{subject}: {frames} frames are not finite and left out; sequences end there")
    _clean(spec, result, source, partial)
    detections = stacked_hourglass.read_sources(source) if spec.name == "human36m" else {}
    for kind in detections:
        check_target(out / spec.file_2d(kind), overwrite)
    _write(spec, result, keypoints, out, overwrite)
    for kind, found in detections.items():
        _write_detections(spec, kind, found, result, out, overwrite)
    return result


def exact_keypoints(joints: Mapping[str, Mapping[str, FloatArray]]) -> Keypoints:
    """Project Human3.6M's 17 joints to each camera: {subject: {sequence: [(T, 17, 2), ...]}}."""
    spec = DATASETS["human36m"]
    projected: Keypoints = {}
    for subject, sequences in joints.items():
        cameras = cameras_of("human36m", subject)
        projected[subject] = {
            name: [camera.project(select_joints(values, spec)) for camera in cameras]
            for name, values in sequences.items()
        }
    return projected


def _archive_in(source: Path, spec: DatasetSpec) -> Path | None:
    if source.is_file() and source.suffix.lower() == ".npz":
        return source
    inside = source / spec.file_3d
    return inside if source.is_dir() and inside.is_file() else None


def _clean(spec: DatasetSpec, result: Prepared, source: Path, partial: bool) -> None:
    """Remove corrupt and unknown data, sort the subjects, and check that nothing is missing."""
    for subject, sequence in sorted(CORRUPT[spec.name]):
        if result.joints.get(subject, {}).pop(sequence, None) is not None:
            result.notes.append(f"{subject}, {sequence} is corrupt in the original data and left out, as in the paper")
    found = ", ".join(result.joints) or "nobody"
    others = [subject for subject in result.joints if subject not in spec.subjects]
    # Sorted, so that the same data gives the same archives and models, whatever the order of the files.
    result.joints = {s: dict(sorted(result.joints[s].items())) for s in spec.subjects if result.joints.get(s)}
    if not result.joints:
        raise InputError(f"{source}: none of {spec.title}'s subjects ({', '.join(spec.subjects)}), but {found}")
    if others:
        result.notes.append(f"left out: {', '.join(others)}, who are not among {spec.title}'s subjects with joints")
    missing = [subject for subject in spec.subjects if subject not in result.joints]
    problems = [f"subjects {', '.join(missing)}"] if missing else []
    if spec.name == "human36m":
        problems += _missing_takes(spec, result.joints)
    if not problems:
        return
    text = f"{'; '.join(problems[:3])}{f' and {len(problems) - 3} more' if len(problems) > 3 else ''}"
    if not partial:
        raise InputError(f"{source}: {spec.title} is not complete: missing are {text}; --partial takes what is there")
    result.notes.append(f"not complete: missing are {text}")


def _missing_takes(spec: DatasetSpec, joints: Joints) -> list[str]:
    problems = []
    for subject in spec.subjects:
        takes = [action_name(sequence) for sequence in joints.get(subject, {})]
        for action in spec.actions:
            wanted = _TAKES - ((subject, action) in CORRUPT[spec.name])
            if takes and takes.count(action) < wanted:
                problems.append(f"{subject}, {action}: {wanted - takes.count(action)} of {wanted}")
    return problems


def _write(spec: DatasetSpec, result: Prepared, keypoints: Keypoints | None, out: Path, overwrite: bool) -> None:
    """Write exact keypoints, then joints: a folder without joints is recognized as incomplete."""
    if keypoints is None and spec.name == "human36m":
        keypoints = exact_keypoints(result.joints)
    if keypoints is not None:
        keypoints = _of_joints(keypoints, result.joints)
        target = out / spec.file_2d(EXACT)
        write_positions_2d(target, keypoints, spec.skeleton, overwrite=overwrite)
        result.files.append(target)
    write_positions_3d(out / spec.file_3d, result.joints, overwrite, synthetic=result.synthetic)
    result.files.insert(0, out / spec.file_3d)


def _of_joints(keypoints: Keypoints, joints: Joints) -> Keypoints:
    """Keypoints of the sequences that have joints, in the same order."""
    return {s: {n: keypoints[s][n] for n in own if n in keypoints.get(s, {})} for s, own in joints.items()}


def _write_detections(
    spec: DatasetSpec, kind: str, found: Positions2D, result: Prepared, out: Path, overwrite: bool
) -> None:
    target = out / spec.file_2d(kind)
    write_positions_2d(target, _of_joints(found.subjects, result.joints), found.layout, overwrite=overwrite)
    result.files.append(target)
    result.notes += compare_archives(found, result.joints, target.name)


def _from_archive(
    spec: DatasetSpec, archive: Path, source: Path, out: Path, partial: bool, overwrite: bool
) -> Prepared:
    """Check and copy existing archives; sequences are sorted."""
    read = read_positions_3d(archive)
    result = Prepared(read.subjects, synthetic=read.synthetic, notes=[SYNTHETIC_NOTE] if read.synthetic else [])
    for subject, sequences in result.joints.items():
        for sequence, values in sequences.items():
            where = f"{archive}: {subject}, {sequence}"
            selected = select_joints(values, spec, where)
            if spec.name == "human36m" and values.shape[1] == spec.recorded_joints:
                human36m.check_joints(where, values)
            elif not np.isfinite(selected).all():
                raise InputError(f"{where}: values are not finite; prepare the data from the original download")
    _clean(spec, result, archive, partial)
    beside = sorted(source.glob(f"data_2d_{spec.file_key}_*.npz")) if source.is_dir() else []
    own = [file for file in beside if file.name == spec.file_2d(EXACT)]
    for file in beside:
        check_target(out / file.name, overwrite)
        result.notes += compare_archives(read_positions_2d(file), result.joints, file.name)
    for file in beside:
        with replacing(out / file.name, overwrite) as target:
            target.write(file.read_bytes())
        result.files.append(out / file.name)
    if spec.name == "human36m" and not own:
        _write(spec, result, None, out, overwrite)
        return result
    if not own:
        result.notes.append(f"no {spec.file_2d(EXACT)} beside it: exact keypoints come with the original data only")
    write_positions_3d(out / spec.file_3d, result.joints, overwrite, synthetic=result.synthetic)
    result.files.insert(0, out / spec.file_3d)
    return result
