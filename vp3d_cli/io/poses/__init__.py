"""The formats that a pose can be written in: one file per format, one line in vp3d_cli/plugins.py."""

from __future__ import annotations

from pathlib import Path

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.poses.base import Exporter
from vp3d_cli.plugins import EXPORTERS
from vp3d_cli.types import Pose3D

__all__ = ["Exporter", "export_pose", "exporter_for"]


def exporter_for(path: Path, format_name: str | None = None) -> Exporter:
    """The format called ``format_name``, or without a name the one that the ending of ``path`` stands for.

    Raises:
        ConfigError: there is no such format.
    """
    if format_name is not None:
        named: Exporter = EXPORTERS.get(format_name)
        return named
    exporters: dict[str, Exporter] = EXPORTERS.loaded()
    for exporter in exporters.values():
        if path.suffix.lower() == exporter.suffix:
            return exporter
    endings = ", ".join(exporter.suffix for exporter in exporters.values())
    raise ConfigError(f"{path}: unknown ending; use one of {endings}, or name a format")


def export_pose(pose: Pose3D, path: str | Path, format_name: str | None = None, *, overwrite: bool = False) -> None:
    """Write a pose in the format that is named, or that the ending of the path stands for.

    Raises:
        ConfigError: there is no such format.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    exporter_for(Path(path), format_name).write(pose, Path(path), overwrite)
