"""The formats that a pose can be written in: one file per format, one line here."""

from __future__ import annotations

from pathlib import Path

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.poses import npz
from vp3d_cli.io.poses.base import Exporter
from vp3d_cli.types import Pose3D

__all__ = ["EXPORTERS", "Exporter", "export_pose", "exporter_for"]

EXPORTERS: dict[str, Exporter] = {exporter.name: exporter for exporter in (npz.EXPORTER,)}


def exporter_for(path: Path, format_name: str | None = None) -> Exporter:
    """The format called ``format_name``, or without a name the one that the ending of ``path`` stands for.

    Raises:
        ConfigError: there is no such format.
    """
    if format_name is not None:
        if format_name not in EXPORTERS:
            raise ConfigError(f"unknown format {format_name!r}; known: {', '.join(EXPORTERS)}")
        return EXPORTERS[format_name]
    for exporter in EXPORTERS.values():
        if path.suffix.lower() == exporter.suffix:
            return exporter
    endings = ", ".join(exporter.suffix for exporter in EXPORTERS.values())
    raise ConfigError(f"{path}: the ending names no known format; use one of {endings}, or give a format")


def export_pose(pose: Pose3D, path: str | Path, format_name: str | None = None, *, overwrite: bool = False) -> None:
    """Write a pose in the format that is named, or that the ending of the path stands for.

    Raises:
        ConfigError: there is no such format.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    exporter_for(Path(path), format_name).write(pose, Path(path), overwrite)
