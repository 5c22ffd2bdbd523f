"""CSV: a long table with one row for each person, frame and joint.

For spreadsheets, R, pandas and MATLAB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.rows import COLUMNS, long_table
from vp3d_cli.pose import Pose3D


def write_csv(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write all people of a pose; metres with 6 digits, empty where not in view.

    Raises:
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    table = long_table(pose, options)
    seen = np.isfinite(table["x"].astype(np.float64))
    columns = [table[name].tolist() for name in COLUMNS]
    lines = [
        f"{time:.6f},{person},{joint},{x:.6f},{y:.6f},{z:.6f},{confidence:.4f},{int(observed)}\n"
        if known
        else f"{time:.6f},{person},{joint},,,,0,0\n"
        for known, time, person, joint, x, y, z, confidence, observed in zip(seen.tolist(), *columns, strict=True)
    ]
    with replacing(path, overwrite) as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        file.write("".join(lines).encode())


EXPORTER = Exporter("csv", ".csv", "long table for spreadsheets, R, pandas and MATLAB", write_csv)
