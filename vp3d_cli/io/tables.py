"""Conversion to data frames of pandas or polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import MissingDependencyError
from vp3d_cli.pose import Pose3D


def data_frame(columns: Mapping[str, NDArray[Any]]) -> Any:
    """Make a data frame of columns of one length.

    Returns:
        A pandas data frame, or a polars one where only polars is installed.

    Raises:
        MissingDependencyError: neither is installed.
    """
    try:
        import pandas

        return pandas.DataFrame(dict(columns))
    except ImportError:
        pass
    try:
        import polars
    except ImportError as error:
        raise MissingDependencyError("a data frame needs pandas or polars; install one: pip install pandas") from error
    return polars.DataFrame(dict(columns))


def pose_table(pose: Pose3D) -> Any:
    """A table with a row for each person, frame and joint of a pose.

    Args:
        pose: of P people.

    Returns:
        A data frame with the columns time_s, frame, person, joint, x, y, z (metres, world space, z up). Frames in which
        a person is not in view have no rows.

    Raises:
        MissingDependencyError: neither pandas nor polars is installed.
    """
    names = np.array(pose.joint_names_3d)
    columns: dict[str, list[NDArray[Any]]] = {key: [] for key in ("time_s", "frame", "person", "joint", "x", "y", "z")}
    for person in pose:
        rows = np.flatnonzero(np.isfinite(person.joints_world).all(axis=(1, 2)))
        frames = rows + person.track.first
        columns["time_s"].append(np.repeat(pose.frame_times_s[frames], len(names)))
        columns["frame"].append(np.repeat(frames, len(names)))
        columns["person"].append(np.full(len(rows) * len(names), person.id))
        columns["joint"].append(np.tile(names, len(rows)))
        for axis, key in enumerate("xyz"):
            columns[key].append(person.joints_world[rows, :, axis].ravel())
    return data_frame({key: np.concatenate(parts) if parts else np.zeros(0) for key, parts in columns.items()})
