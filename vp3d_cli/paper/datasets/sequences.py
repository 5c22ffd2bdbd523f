"""Sequences of a prepared data set, with joints, keypoints and cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.archives import (
    SYNTHETIC_NOTE,
    Positions2D,
    Positions3D,
    compare_archives,
    frames_not_finite,
    read_positions_2d,
    read_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import DatasetCamera, cameras_of
from vp3d_cli.paper.datasets.specs import CORRUPT, DatasetSpec, dataset_spec, select_joints
from vp3d_cli.skeletons import SKELETONS, get_skeleton
from vp3d_cli.types import FloatArray

# Range of the distance from hip to head in metres; detects millimetres, centimetres and inches.
_MIN_SIZE_M, _MAX_SIZE_M = 0.02, 10.0


@dataclass(frozen=True)
class RecordedSequence:
    """Sequence of T frames with its joints and the keypoints of all cameras.

    Attributes:
        subject, name: such as ``S9`` and ``Walking 1``.
        joints: (T, K, 3) evaluated joints, metres, world axes.
        views: (T, J, 2) pixels and the camera, for each camera with keypoints.
    """

    subject: str
    name: str
    joints: FloatArray
    views: list[tuple[FloatArray, DatasetCamera]]


class Archives:
    """Archive of joints and archive of one kind of keypoints.

    Args:
        folder: folder of the archives.
        dataset: ``human36m`` or ``humaneva``.
        keypoints: kind of keypoints, such as ``gt``.
        cameras: camera file to use instead of the bundled one.
        option: option that selects the keypoints, for messages.

    Attributes:
        folder, spec: folder, and specification of the data set.
        file_2d: archive of keypoints.
        joints, keypoints: content of the archives.

    Raises:
        InputError: the data set is unknown, or an archive is missing, damaged, or has an unknown skeleton.
    """

    def __init__(
        self, folder: Path, dataset: str, keypoints: str, *, cameras: str = "", option: str = "--keypoints NAME"
    ) -> None:
        self.folder, self.spec, self._cameras = folder, dataset_spec(dataset), cameras or None
        file_3d = folder / self.spec.file_3d
        self.file_2d = folder / self.spec.file_2d(keypoints)
        for path in (file_3d, self.file_2d):
            _check_exists(path, folder, self.spec, option)
        self._head = get_skeleton(self.spec.skeleton).index("head")
        self.joints: Positions3D = read_positions_3d(file_3d)
        self.keypoints: Positions2D = read_positions_2d(self.file_2d)
        if self.keypoints.layout not in SKELETONS:
            raise InputError(
                f"{self.file_2d}: layout {self.keypoints.layout or 'without a name'!r} is not a skeleton of vp3d "
                f"({', '.join(SKELETONS)}); write the archive with a layout_name"
            )

    def check_subjects(self, wanted: Sequence[str]) -> None:
        """Check that the archives have these subjects.

        Raises:
            InputError: joints or keypoints of a subject are missing.
        """
        for what, subjects in (("joints", self.joints.subjects), ("keypoints", self.keypoints.subjects)):
            missing = sorted({subject for subject in wanted if not subjects.get(subject)})
            if missing:
                raise InputError(f"{self.folder}: no {what} of {', '.join(missing)}, but of {', '.join(subjects)}")

    def notes(self, subjects: Sequence[str]) -> list[str]:
        """Return remarks about the data of these subjects, one sentence each."""
        joints = {subject: self.joints.subjects[subject] for subject in subjects}
        synthetic = [SYNTHETIC_NOTE] if self.joints.synthetic else []
        return synthetic + compare_archives(self.keypoints, joints, self.file_2d.name)

    def sequences(self, subject: str, actions: tuple[str, ...] = ()) -> Iterator[RecordedSequence]:
        """Yield the sequences of a subject, except corrupt ones and those without keypoints.

        Keypoints and joints are cut to the shorter of both, as in the paper.

        Args:
            subject: subject in the archives.
            actions: prefixes of sequence names to use; all sequences if empty.

        Raises:
            InputError: the number of joints or cameras is wrong, values are not finite, or joints are not in metres.
        """
        known = cameras_of(self.spec.name, subject, self._cameras)
        for name, recorded in sorted(self.joints.subjects[subject].items()):
            keypoints = self.keypoints.subjects[subject].get(name, [])
            selected = not actions or name.startswith(actions)
            if not selected or not any(map(len, keypoints)) or (subject, name) in CORRUPT[self.spec.name]:
                continue
            if len(keypoints) > len(known):
                raise InputError(f"{subject}, {name}: {len(keypoints)} views, but {len(known)} cameras are known")
            pairs = [(view, camera) for view, camera in zip(keypoints, known, strict=False) if len(view)]
            frames = min(len(recorded), *(len(view) for view, _ in pairs))
            joints = select_joints(recorded[:frames], self.spec, f"{self.spec.file_3d}: {subject}, {name}")
            if frames:
                sequence = RecordedSequence(subject, name, joints, [(view[:frames], camera) for view, camera in pairs])
                self._check(sequence)
                yield sequence

    def _check(self, sequence: RecordedSequence) -> None:
        who, joints = f"{sequence.subject}, {sequence.name}", sequence.joints
        if broken := frames_not_finite(joints):
            raise InputError(
                f"{self.spec.file_3d}: {who}: joints of {broken} are not finite; prepare the data from the original "
                "download"
            )
        for keypoints, camera in sequence.views:
            if broken := frames_not_finite(keypoints):
                raise InputError(
                    f"{self.file_2d.name}: {who}, camera {camera.name}: keypoints of {broken} are not finite; "
                    "interpolate them, or remove the sequence"
                )
        size = float(np.median(np.linalg.norm(joints[:, self._head] - joints[:, 0], axis=-1)))
        if not _MIN_SIZE_M < size < _MAX_SIZE_M:
            raise InputError(
                f"{self.spec.file_3d}: {who}: {size:.3g} m from hip to head; joints must be in metres, prepare the "
                "data again"
            )


def keypoints_in(folder: Path, dataset: str) -> list[str]:
    """List the kinds of keypoints of a data set in a folder, such as ``gt``.

    Raises:
        InputError: the data set is unknown.
    """
    spec = dataset_spec(dataset)
    prefix = spec.file_2d("")[: -len(".npz")]
    return [file.name[len(prefix) : -len(".npz")] for file in sorted(folder.glob(f"{prefix}*.npz"))]


def _check_exists(path: Path, folder: Path, spec: DatasetSpec, option: str) -> None:
    if path.is_file():
        return
    kinds = keypoints_in(folder, spec.name)
    if kinds and path.name != spec.file_3d:
        raise InputError(f"no {path.name} in {folder}; {option} takes {', '.join(kinds)}")
    there = sorted(file.name for file in folder.glob("data_*.npz"))
    raise InputError(
        f"no {path.name} in {folder}, but {', '.join(there) or 'no archives at all'}; "
        f"make it with: vp3d data prepare {spec.name}"
    )
