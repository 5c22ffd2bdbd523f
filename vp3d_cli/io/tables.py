"""Data frames for people who have pandas or polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from vp3d_cli.errors import MissingDependencyError


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
