"""TRC (track row column): markers at the joints, in metres, y up.

The format is by Motion Analysis; OpenSim and Visual3D read it.

Opens in OpenSim (marker data for scaling and inverse kinematics), Pose2Sim, Visual3D and Mokka. Fields are empty where
somebody is not in view.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.markers import marker_names
from vp3d_cli.io.poses.motion import Motion, motions_of
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import DoubleArray


def write_trc(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write the first person of a pose.

    Raises:
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    motion = motions_of(pose, options, even=True)[0]
    with replacing(path, overwrite) as file:
        file.write(trc_text(motion, motion.joints_y_up(), path.name).encode())


def trc_text(motion: Motion, joints: DoubleArray, name: str) -> str:
    """Return the text of a TRC file for joints (n, J, 3) in metres, y up.

    Fields are empty in frames that are not finite. The header holds ``name``.
    """
    markers = marker_names(motion.names)
    count, rate = len(motion.times_s), f"{motion.fps:.10g}"
    header = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{count}\t{len(markers)}\tm\t{rate}\t1\t{count}",
        "Frame#\tTime\t" + "\t\t\t".join(markers) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{number}" for number in range(1, len(markers) + 1) for axis in "XYZ"),
        "",
    ]
    values = joints.reshape(count, -1)
    known: list[bool] = np.asarray(np.isfinite(values).all(axis=1)).tolist()
    pattern = "\t".join(["%.6f"] * values.shape[1])
    blank = "\t" * values.shape[1]  # one more than between fields: OpenSim drops a last field that is empty
    times = motion.times_s[0] + np.arange(count) / motion.fps
    rows = [
        f"{number}\t{time:.6f}\t" + (pattern % tuple(row) if there else blank)
        for number, time, row, there in zip(range(1, count + 1), times.tolist(), values.tolist(), known, strict=True)
    ]
    return "\n".join([*header, *rows, ""])


EXPORTER = Exporter(
    "trc", ".trc", "markers at the joints for OpenSim and Visual3D; one person per file", write_trc, one_person=True
)
