"""C3D: markers at the joints for biomechanics programs, millimetres, z up; needs ezc3d.

Opens in Mokka, Visual3D, Vicon Nexus, Qualisys Track Manager, MATLAB toolboxes and OpenSim. Points are marked as
missing (residual -1) where somebody is not in view.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.extras import import_extra
from vp3d_cli.io.poses.markers import marker_names
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray

_MM = 1000.0


def write_c3d(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write the first person of a pose; in camera space the axes are the camera's.

    Raises:
        MissingDependencyError: ezc3d is not installed.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    ezc3d = import_extra("ezc3d", "ezc3d", "c3d", "c3d")
    motion = motions_of(pose, options, even=True)[0]
    document = ezc3d.c3d()
    points = document["parameters"]["POINT"]
    points["RATE"]["value"] = [motion.fps]
    points["LABELS"]["value"] = marker_names(motion.names)
    points["UNITS"]["value"] = ["mm"]
    for name, axis in zip(("X_SCREEN", "Y_SCREEN"), ("+X", "-Y" if options.space == "camera" else "+Z"), strict=True):
        document.add_parameter("POINT", name, [axis])
    document["data"]["points"] = _points(motion)
    document["data"]["meta_points"] = {
        "residuals": np.where(motion.in_view, 0.0, -1.0)[None, None].repeat(len(motion.names), axis=1),
        "camera_masks": np.zeros((7, len(motion.names), len(motion.joints)), np.bool_),
    }
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "motion.c3d"  # ezc3d writes to paths only
        document.write(str(whole))
        data = whole.read_bytes()
    with replacing(path, overwrite) as file:
        file.write(data)


def _points(motion: Motion) -> DoubleArray:
    """(4, J, n): x, y, z in millimetres and 1; 0 where missing, as the format wants it."""
    result: DoubleArray = np.ones((4, motion.joints.shape[1], len(motion.joints)))
    known = motion.in_view[:, None, None]
    result[:3] = np.moveaxis(np.where(known, motion.joints * _MM, 0.0), (0, 1, 2), (2, 1, 0))
    return result


EXPORTER = Exporter(
    "c3d", ".c3d", "markers at the joints for biomechanics programs; one person per file", write_c3d, one_person=True
)
