"""Specifications of Human3.6M and HumanEva-I: subjects, splits, actions, joints.

Sources: Pavllo et al. 2019, section 5; Ionescu et al. 2014; Sigal et al. 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.cameras import DatasetName
from vp3d_cli.types import FloatArray


@dataclass(frozen=True)
class DatasetSpec:
    """Specification of a data set.

    Attributes:
        name: ``human36m`` or ``humaneva``.
        title: full name.
        file_key: key in the file names of VideoPose3D's archives: ``data_3d_KEY.npz``.
        subjects: subjects with labels, in the order of the literature.
        train, test: standard split of the subjects.
        unlabelled: subjects without labels, only video.
        actions: names without the number of the take.
        fps: frame rate of video and joints.
        skeleton: evaluated joints, a name in :mod:`vp3d_cli.skeletons`.
        kept_joints: indices of the evaluated joints in the recorded joints.
        recorded_joints: number of recorded joints.
        num_cameras: number of cameras.
    """

    name: DatasetName
    title: str
    file_key: str
    subjects: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...]
    actions: tuple[str, ...]
    fps: float
    skeleton: str
    kept_joints: tuple[int, ...]
    recorded_joints: int
    num_cameras: int

    @property
    def file_3d(self) -> str:
        """File name of the archive of 3D joints."""
        return f"data_3d_{self.file_key}.npz"

    def file_2d(self, keypoints: str) -> str:
        """File name of an archive of 2D keypoints of a kind such as ``gt`` or ``cpn_ft_h36m_dbb``."""
        return f"data_2d_{self.file_key}_{keypoints}.npz"


_HUMANEVA_SUBJECTS = ("S1", "S2", "S3")

DATASETS: dict[str, DatasetSpec] = {
    "human36m": DatasetSpec(
        name="human36m",
        title="Human3.6M",
        file_key="h36m",
        subjects=("S1", "S5", "S6", "S7", "S8", "S9", "S11"),
        train=("S1", "S5", "S6", "S7", "S8"),
        test=("S9", "S11"),
        unlabelled=("S2", "S3", "S4"),
        actions=(
            "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases",
            "Sitting", "SittingDown", "Smoking", "Waiting", "WalkDog", "WalkTogether", "Walking",
        ),
        fps=50.0,
        skeleton="h36m17",
        # The other 15 of 32 joints are duplicates, or ends of fingers and toes.
        kept_joints=(0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27),
        recorded_joints=32,
        num_cameras=4,
    ),
    "humaneva": DatasetSpec(
        name="humaneva",
        title="HumanEva-I",
        file_key="humaneva15",
        subjects=tuple(f"{part}/{subject}" for part in ("Train", "Validate") for subject in _HUMANEVA_SUBJECTS),
        train=tuple(f"Train/{subject}" for subject in _HUMANEVA_SUBJECTS),
        test=tuple(f"Validate/{subject}" for subject in _HUMANEVA_SUBJECTS),
        unlabelled=(),
        actions=("Walking", "Jog", "Box", "Gestures", "ThrowCatch"),
        fps=60.0,
        skeleton="humaneva15",
        kept_joints=tuple(range(15)),
        recorded_joints=15,
        num_cameras=3,
    ),
}  # fmt: skip

EXACT = "gt"  # kind of exact keypoints in archive names

# The joints of S11's first "Directions" are wrong; it is left out in the literature (also by Pavllo et al. 2019).
CORRUPT: dict[str, frozenset[tuple[str, str]]] = {
    "human36m": frozenset({("S11", "Directions")}),
    "humaneva": frozenset(),
}


def dataset_spec(name: str) -> DatasetSpec:
    """Return the specification of a data set by name.

    Raises:
        InputError: there is no such data set.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def select_joints(joints: FloatArray, spec: DatasetSpec, where: str = "") -> FloatArray:
    """Select the evaluated joints of a sequence.

    Args:
        joints: (T, J, 3) all recorded joints, or the evaluated ones only.
        spec: specification of the data set.
        where: file and sequence, for messages.

    Returns:
        (T, 17, 3) for Human3.6M, in the order of the skeleton ``h36m17``.

    Raises:
        InputError: the number of joints is another one.
    """
    if joints.shape[1] == len(spec.kept_joints):
        return joints
    if joints.shape[1] != spec.recorded_joints:
        wanted = " or ".join(map(str, sorted({len(spec.kept_joints), spec.recorded_joints})))
        raise InputError(
            f"{where or spec.title}: {joints.shape[1]} joints, but {spec.title} has {wanted}; is it another data set?"
        )
    return np.ascontiguousarray(joints[:, list(spec.kept_joints)])


def action_name(sequence: str) -> str:
    """Action of a sequence without take number: ``Walking`` for ``Walking 1 chunk0``."""
    return sequence.split(" ")[0]
