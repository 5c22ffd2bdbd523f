"""Export formats for poses.

Each format is one file here and one line in vp3d_cli/plugins.py.
"""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import check_target
from vp3d_cli.io.poses.base import DEFAULT_OPTIONS, Exporter, ExportOptions
from vp3d_cli.io.poses.selection import gap_warnings, select
from vp3d_cli.plugins import EXPORTERS
from vp3d_cli.pose import Pose3D

__all__ = ["ExportOptions", "Exporter", "check_files", "check_pose_target", "export_pose", "exporter_for", "plan_files"]


def exporter_for(path: Path, format_name: str | None = None) -> Exporter:
    """Return the exporter of a format name, or of the suffix of ``path`` if there is no name.

    Raises:
        ConfigError: there is no such format.
    """
    if format_name is not None:
        named: Exporter = EXPORTERS.get(format_name)
        return named
    exporters: dict[str, Exporter] = EXPORTERS.loaded()
    for exporter in sorted(exporters.values(), key=lambda exporter: -len(exporter.suffix)):
        if path.name.lower().endswith(exporter.suffix):
            return exporter
    endings = ", ".join(exporter.suffix for exporter in exporters.values())
    raise ConfigError(f"{path}: unknown ending; use one of {endings}, or name a format")


def check_pose_target(path: Path, overwrite: bool) -> None:
    """Check before the work starts whether a pose can be written, for any people.

    Raises:
        ConfigError: no format has this ending.
        OutputError: a file is there that would be replaced, or the folder is missing or not writable.
    """
    exporter = exporter_for(path)
    check_files(exporter, path, overwrite)
    others = path.parent.glob(f"{glob.escape(path.stem)}_*{path.suffix}") if exporter.one_person else ()
    for other in sorted(others):
        if not overwrite and other.stem.rpartition("_")[2].isdigit():
            check_target(other, overwrite)


def plan_files(pose: Pose3D, path: Path, exporter: Exporter) -> list[tuple[Pose3D, Path]]:
    """Return the files that :func:`export_pose` writes.

    There is one file, or ``{stem}_{person}`` for each person where a file holds only one.
    """
    if not exporter.one_person or pose.num_people == 1:
        return [(pose, path)]
    stem, ending = (path.name[: -len(path.suffix)], path.suffix) if path.suffix else (path.name, "")
    return [
        (select(pose, ExportOptions(people=(number,))), path.with_name(f"{stem}_{number}{ending}"))
        for number in pose.person_ids
    ]


def check_files(exporter: Exporter, path: Path, overwrite: bool) -> None:
    """Find out whether everything that writing to ``path`` writes could be written.

    Raises:
        OutputError: a file exists and ``overwrite`` is not set, or its folder is missing or not writable.
    """
    for place in exporter.files(path):
        check_target(place, overwrite)


def export_pose(
    pose: Pose3D,
    path: str | Path,
    format_name: str | None = None,
    *,
    overwrite: bool = False,
    options: ExportOptions = DEFAULT_OPTIONS,
) -> tuple[list[Path], list[str]]:
    """Write a pose in the format that is named, or that the ending of the path stands for.

    Args:
        pose: what to write. For formats with joint rotations each person needs a rig: see
            :func:`vp3d_cli.refine.rig.fit.add_rigs`.
        path: where to; formats that hold one person get one file each, ``{stem}_{person}``, if there are several.
        format_name: a name in :data:`vp3d_cli.plugins.EXPORTERS`.
        overwrite: replace files that exist.
        options: what to write of it.

    Returns:
        The files that were written, and what the user should know, one sentence each.

    Raises:
        ConfigError: there is no such format, or no such person.
        NobodyFoundError: nobody is in the part of the pose that is to be written.
        MissingDependencyError: a package that the format needs is not installed.
        OutputError: a file exists and ``overwrite`` is not set, or it cannot be written.
    """
    exporter = exporter_for(Path(path), format_name)
    chosen = select(pose, options)
    files = plan_files(chosen, Path(path), exporter)
    for _, file in files:
        check_files(exporter, file, overwrite)
    rest = replace(options, people=(), start_s=None, end_s=None)  # these are done
    for part, file in files:
        if rest == DEFAULT_OPTIONS:
            exporter.write(part, file, overwrite)
        else:
            exporter.write(part, file, overwrite, rest)
    written = [place for _, file in files for place in exporter.files(file) if place.exists()]
    return written, gap_warnings(chosen, [exporter])
