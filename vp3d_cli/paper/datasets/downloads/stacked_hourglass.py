"""Reader of Stacked Hourglass detections on Human3.6M, published by Martinez et al. 2017."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.paper.datasets.archives import Positions2D
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.datasets.downloads.files import SourceFile, read_files
from vp3d_cli.paper.datasets.downloads.human36m import SPEC, read_h5, sequence_of, subject_of
from vp3d_cli.paper.datasets.specs import action_name
from vp3d_cli.skeletons import HOURGLASS16, MPII16
from vp3d_cli.types import FloatArray

# Folders of the download, and VideoPose3D's names for their archives: trained on MPII only, and fine-tuned.
FOLDERS = {"StackedHourglass": "sh_pt_mpii", "StackedHourglassFineTuned240": "sh_ft_h36m"}
# The files have MPII's joint order.
_ORDER = [MPII16.index(joint) for joint in HOURGLASS16.joints]


def read_sources(source: Path) -> dict[str, Positions2D]:
    """Read all detections of a download, such as ``S1/StackedHourglass/Walking_1.54138969.h5``.

    A file has ``poses``, (T, 16, 2) pixels in MPII's joint order, of one sequence and the camera in its name (as in
    github.com/una-dinosauria/3d-pose-baseline and VideoPose3D's ``data/prepare_data_2d_h36m_sh.py``).

    Returns:
        Keypoints by kind, such as ``sh_pt_mpii``, in the joint order of VideoPose3D's archives. A missing camera has no
        frames. Empty if there are no such files.

    Raises:
        InputError: a file is damaged, has another shape, or names a camera that Human3.6M does not have.
        MissingDependencyError: h5py is not installed.
    """
    symmetry = HOURGLASS16.left, HOURGLASS16.right
    found: dict[str, Positions2D] = {}
    for file in read_files(source, _is_wanted):
        kind = FOLDERS[file.path.parts[-2]]
        subject = subject_of(file)
        name, _, camera = file.path.stem.partition(".")
        sequence = sequence_of(PurePosixPath(name))
        if action_name(sequence) not in SPEC.actions or subject not in SPEC.subjects:
            continue
        places = [known.name for known in cameras_of("human36m", subject)]
        if camera not in places:
            raise InputError(f"{file.where}: no camera of Human3.6M in its name; they are {', '.join(places)}")
        archive = found.setdefault(kind, Positions2D({}, HOURGLASS16.name, HOURGLASS16.num_joints, symmetry))
        empty = np.zeros((0, HOURGLASS16.num_joints, 2), np.float32)
        views = archive.subjects.setdefault(subject, {}).setdefault(sequence, [empty] * len(places))
        views[places.index(camera)] = _keypoints(file)
    return {kind: found[kind] for kind in FOLDERS.values() if kind in found}


def _is_wanted(path: PurePosixPath) -> bool:
    return path.suffix == ".h5" and len(path.parts) > 1 and path.parts[-2] in FOLDERS and path.name[0] != "."


def _keypoints(file: SourceFile) -> FloatArray:
    values: Any = read_h5(file, "poses")
    if values.ndim != 3 or values.shape[1:] != (MPII16.num_joints, 2) or values.dtype.kind not in "fiu":
        wanted = f"(T, {MPII16.num_joints}, 2)"
        raise InputError(f"{file.where}: expected keypoints {wanted}, got {values.shape} of {values.dtype}")
    return np.ascontiguousarray(values[:, _ORDER], np.float32)
