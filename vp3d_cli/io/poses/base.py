"""What an export format is, and what can be asked of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vp3d_cli.errors import ConfigError

SPACES = ("world", "camera")
NAME_PRESETS = ("vp3d", "blender", "mixamo", "cmu", "unreal")
# A slip of the finger should not fill the disk: high-speed cameras of sports laboratories film at 500 to 2000.
MOST_FPS = 10_000.0


@dataclass(frozen=True)
class ExportOptions:
    """Export options: which parts of a pose are written, and how.

    Attributes:
        people: identities of those to write; empty for all.
        space: ``"world"`` (metres, z up, floor at 0) or ``"camera"`` (x right, y down, z forward). Formats with axes of
            their own turn either upright.
        fps: frames per second to resample to; None keeps the video's frames.
        in_place: keep the root where it is on the floor, as game engines want it; up and down stay.
        start_s, end_s: part of the video to write, seconds; None for its start and end.
        names: preset of joint names for animation formats, one of :data:`NAME_PRESETS`.
        rotation_order: order of Euler angles in BVH, such as ``"ZXY"``.

    Raises:
        ConfigError: a value that is impossible.
    """

    people: tuple[int, ...] = ()
    space: str = "world"
    fps: float | None = None
    in_place: bool = False
    start_s: float | None = None
    end_s: float | None = None
    names: str = "vp3d"
    rotation_order: str = "ZXY"

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ConfigError(f"unknown space {self.space!r}; known: {', '.join(SPACES)}")
        if self.names not in NAME_PRESETS:
            raise ConfigError(f"unknown joint names {self.names!r}; known: {', '.join(NAME_PRESETS)}")
        if sorted(self.rotation_order) != ["X", "Y", "Z"]:
            raise ConfigError(f"unknown rotation order {self.rotation_order!r}; give the three axes, such as ZXY")
        if self.fps is not None and not (math.isfinite(self.fps) and 0 < self.fps <= MOST_FPS):
            raise ConfigError(f"{self.fps:g} frames per second cannot be written; give more than 0, up to {MOST_FPS:g}")
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(f"the end, {self.end_s:g} s, is not after the start, {self.start_s:g} s")


DEFAULT_OPTIONS = ExportOptions()


@dataclass(frozen=True)
class Exporter:
    """One format that a pose can be written in.

    Attributes:
        name: how the command line calls it.
        suffix: the file name ending that stands for it, with the dot.
        summary: one line for people who choose a format.
        write: ``write(pose, path, overwrite)``, or ``write(pose, path, overwrite, options)`` where the user asked for
            more than people and a part of the video, which the pose then has been cut to.
        one_person: whether a file holds one person; then ``write`` gets a pose of one.
        needs_rig: whether it writes joint rotations; then every person of the pose needs a rig.
        holds_gaps: whether it can say that somebody is out of view; else the pose before the gap is held.
        beside: endings of further files that it may write, which take the place of ``suffix``.

    ``write`` raises :class:`OutputError` if the file exists and ``overwrite`` is not set, or cannot be written,
    and :class:`MissingDependencyError` if a package that the format needs is not installed.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[..., None]
    one_person: bool = False
    needs_rig: bool = False
    holds_gaps: bool = True
    beside: tuple[str, ...] = ()

    def files(self, path: Path) -> list[Path]:
        """Files that an export to ``path`` may write: ``path`` and files beside it."""
        return [path, *(path.with_name(path.stem + ending) for ending in self.beside)]
