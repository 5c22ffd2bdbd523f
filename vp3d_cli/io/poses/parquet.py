"""Parquet (Apache): the long table of CSV, compact and typed.

For pandas, polars, DuckDB and R.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.extras import import_extra
from vp3d_cli.io.poses.rows import long_table
from vp3d_cli.pose import Pose3D


def write_parquet(pose: Pose3D, path: Path, overwrite: bool = False, options: ExportOptions = DEFAULT_OPTIONS) -> None:
    """Write all people of a pose; coordinates are null where not in view.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    pyarrow = import_extra("pyarrow", "pyarrow", "parquet", "parquet")
    parquet = import_extra("pyarrow.parquet", "pyarrow", "parquet", "parquet")
    columns = {}
    for name, values in long_table(pose, options).items():
        if name == "joint":
            columns[name] = pyarrow.array(values.tolist()).dictionary_encode()
        elif name in ("x", "y", "z"):
            columns[name] = pyarrow.array(values.astype(np.float32), mask=np.isnan(values.astype(np.float64)))
        else:
            columns[name] = pyarrow.array(values.astype(np.float32) if name == "confidence" else values)
    with replacing(path, overwrite) as file:
        parquet.write_table(pyarrow.table(columns), file)


EXPORTER = Exporter("parquet", ".parquet", "long table, small and typed, for pandas, polars and R", write_parquet)
