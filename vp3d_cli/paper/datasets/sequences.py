"""The sequences of a prepared data set: joints, keypoints and cameras, of the frames that all of them have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.archives import (
    Positions2D,
    Positions3D,
    frames_not_finite,
    read_positions_2d,
    read_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import DatasetCamera, cameras_of
from vp3d_cli.paper.datasets.prepare import SYNTHETIC_NOTE, compare
from vp3d_cli.paper.datasets.specs import CORRUPT, DatasetSpec, dataset_spec, select_joints
from vp3d_cli.skeletons import SKELETONS, get_skeleton
from vp3d_cli.types import FloatArray

# Nobody's hip is so near to the head, or so far away, metres: millimetres, centimetres and inches are found out.
_LEAST_SIZE_M, _LARGEST_SIZE_M = 0.02, 10.0


@dataclass(frozen=True)
class RecordedSequence:
    """One performance, as everyone saw it, T frames.

    Attributes:
        subject, name: of it, such as ``S9`` and ``Walking 1``.
        joints: (T, K, 3) metres, world axes; those joints that are evaluated.
        views: (T, J, 2) pixels and the camera, of each camera that has any.
    """

    subject: str
    name: str
    joints: FloatArray
    views: list[tuple[FloatArray, DatasetCamera]]


class Archives:
    """The archives of joints and of one kind of keypoints.

    Args:
        folder: that they lie in.
        dataset: ``human36m`` or ``humaneva``.
        keypoints: which ones, such as ``gt``.
        cameras: file of cameras of your own, in place of those that ship.
        option: how the user says which keypoints, for messages.

    Attributes:
        folder, spec: the folder, and what the data set is.
        file_2d: the archive of keypoints.
        joints, keypoints: what the archives hold.

    Raises:
        InputError: unknown data set; an archive is missing, damaged, or of keypoints of no known skeleton.
    """

    def __init__(
        self, folder: Path, dataset: str, keypoints: str, *, cameras: str = "", option: str = "--keypoints NAME"
    ) -> None:
        self.folder, self.spec, self._cameras = folder, dataset_spec(dataset), cameras or None
        file_3d = folder / self.spec.file_3d
        self.file_2d = folder / self.spec.file_2d(keypoints)
        for path in (file_3d, self.file_2d):
            _must_exist(path, folder, self.spec, option)
        self._head = get_skeleton(self.spec.skeleton).index("head")
        self.joints: Positions3D = read_positions_3d(file_3d)
        self.keypoints: Positions2D = read_positions_2d(self.file_2d)
        if self.keypoints.layout not in SKELETONS:
            raise InputError(
                f"{self.file_2d}: layout {self.keypoints.layout or 'without a name'!r} is no skeleton that vp3d knows "
                f"({', '.join(SKELETONS)}); write the archive with a layout_name"
            )

    def check_subjects(self, wanted: Sequence[str]) -> None:
        """Find out whether these subjects are there.

        Raises:
            InputError: the joints or the keypoints of one are not.
        """
        for what, subjects in (("joints", self.joints.subjects), ("keypoints", self.keypoints.subjects)):
            missing = sorted({subject for subject in wanted if not subjects.get(subject)})
            if missing:
                raise InputError(f"{self.folder}: no {what} of {', '.join(missing)}, but of {', '.join(subjects)}")

    def notes(self, subjects: Sequence[str]) -> list[str]:
        """What the user should know of these subjects, one sentence each: made-up data, lengths that differ..."""
        joints = {subject: self.joints.subjects[subject] for subject in subjects}
        made_up = [SYNTHETIC_NOTE] if self.joints.made_up else []
        return made_up + compare(self.keypoints, joints, self.file_2d.name)

    def sequences(self, subject: str, actions: tuple[str, ...] = ()) -> Iterator[RecordedSequence]:
        """The sequences of a subject by name, without those that are corrupt or that nobody saw.

        Keypoints that go on after the joints have ended, or the other way round, are cut, as the paper does.

        Args:
            subject: who is there.
            actions: only those whose names begin with one of these; all if empty.

        Raises:
            InputError: another number of joints or cameras than the data set has; values that are not finite; joints
                in another unit than metres.
        """
        known = cameras_of(self.spec.name, subject, self._cameras)
        for name, recorded in sorted(self.joints.subjects[subject].items()):
            seen = self.keypoints.subjects[subject].get(name, [])
            named = not actions or name.startswith(actions)
            if not named or not any(map(len, seen)) or (subject, name) in CORRUPT[self.spec.name]:
                continue
            if len(seen) > len(known):
                raise InputError(f"{subject}, {name}: {len(seen)} views, but {len(known)} cameras are known")
            pairs = [(view, camera) for view, camera in zip(seen, known, strict=False) if len(view)]
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
                    f"{self.file_2d.name}: {who}, camera {camera.name}: keypoints of {broken} are not finite; fill "
                    "them in, or take the sequence out"
                )
        size = float(np.median(np.linalg.norm(joints[:, self._head] - joints[:, 0], axis=-1)))
        if not _LEAST_SIZE_M < size < _LARGEST_SIZE_M:
            raise InputError(
                f"{self.spec.file_3d}: {who}: {size:.3g} m from hip to head; joints must be in metres, prepare the "
                "data again"
            )


def keypoints_in(folder: Path, dataset: str) -> list[str]:
    """The kinds of keypoints that a folder has of a data set, such as ``gt``.

    Raises:
        InputError: unknown data set.
    """
    spec = dataset_spec(dataset)
    prefix = spec.file_2d("")[: -len(".npz")]
    return [file.name[len(prefix) : -len(".npz")] for file in sorted(folder.glob(f"{prefix}*.npz"))]


def _must_exist(path: Path, folder: Path, spec: DatasetSpec, option: str) -> None:
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
