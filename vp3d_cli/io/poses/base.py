"""What an export format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vp3d_cli.types import Pose3D


@dataclass(frozen=True)
class Exporter:
    """One format that a pose can be written in.

    Attributes:
        name: how the command line calls it.
        suffix: the file name ending that stands for it, with the dot.
        summary: one line for people who choose a format.
        write: ``write(pose, path, overwrite)``.

    ``write`` raises :class:`OutputError` if the file exists and ``overwrite`` is not set, or cannot be written.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[Pose3D, Path, bool], None]
