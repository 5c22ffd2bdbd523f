"""``vp3d export``: a pose file in the formats of other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli.common import Overwrite, Quiet, format_table, print_warning
from vp3d_cli.cli.options import parse_seconds
from vp3d_cli.cli.output_paths import STEM, output_path
from vp3d_cli.errors import ConfigError

if TYPE_CHECKING:
    from vp3d_cli.io.poses import Exporter, ExportOptions
    from vp3d_cli.pose import Pose3D


def export(
    pose: Annotated[Path | None, typer.Argument(help="Pose file, from vp3d infer.", show_default=False)] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT,...", help="Formats.  [default: by the ending of --out]", show_default=False),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="File, folder, or a name with {stem} in it.  [default: {stem} and the ending of the format]",
            show_default=False,
        ),
    ] = None,
    person: Annotated[
        list[int] | None, typer.Option(metavar="NUMBER", help="Only this person; may be repeated.", show_default=False)
    ] = None,
    space: Annotated[str, typer.Option(help="world (floor at 0) or camera.")] = "world",
    fps: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Resample to this frame rate.  [default: the video's]", show_default=False),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Keep the root in one place on the floor.")] = False,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Begin here: seconds, or 1:23.5.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Stop here.", show_default=False)] = None,
    names: Annotated[
        str, typer.Option(help="Joint names of BVH, GLB and USD: vp3d, blender, mixamo, cmu or unreal.")
    ] = "vp3d",
    rotation_order: Annotated[str, typer.Option(metavar="ORDER", help="Order of the rotations in BVH.")] = "ZXY",
    formats: Annotated[bool, typer.Option("--formats", help="List the formats and stop.")] = False,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert a pose file to other formats.

    BVH, GLB, TRC, C3D, CSV and more.

    \b
    vp3d export pose.npz --to bvh
    vp3d export pose.npz --to bvh,glb,csv --out exports/
    vp3d export pose.npz --out walk.bvh --person 1 --names mixamo --in-place
    vp3d export pose.npz --to trc,mot --start 1.5 --end 4 --fps 100
    vp3d export --formats

    Formats that hold one person per file get one file for each person, NAME_1.bvh, NAME_2.bvh. Prints the path of each
    file that it wrote. docs/formats.md says which program opens what.
    """
    if formats:
        print(formats_table())
        return
    if pose is None:
        raise typer.BadParameter("give a pose file, from vp3d infer", param_hint="POSE")
    targets = plan(pose, to, out)
    options = make_options(person, space, fps, in_place, start, end, names, rotation_order)
    from vp3d_cli.io.poses import export_pose
    from vp3d_cli.io.poses.selection import gap_warnings, select

    motion = prepare(pose, targets, options, overwrite)
    for exporter, path in targets:
        files, _ = export_pose(motion, path, exporter.name, overwrite=overwrite, options=options)
        for file in files:
            print(file, flush=True)
    if not quiet:
        for warning in gap_warnings(select(motion, options), [exporter for exporter, _ in targets]):
            print_warning(warning)


def formats_table() -> str:
    """The formats as a table: name, ending, what for."""
    from vp3d_cli.plugins import EXPORTERS

    rows = [(name, part.suffix, part.summary) for name, part in EXPORTERS.loaded().items()]
    return format_table([("format", "ending", "for"), *rows])


def plan(pose: Path, to: str | None, out: str | None) -> list[tuple[Exporter, Path]]:
    """The formats and the file of each.

    Raises:
        BadParameter: unknown formats, names that fit none, or a file that would replace the pose file.
    """
    from vp3d_cli.io.poses import exporter_for
    from vp3d_cli.plugins import EXPORTERS

    if to is None and out is None:
        raise typer.BadParameter(f"give the formats to write: {', '.join(EXPORTERS)}", param_hint="--to")
    try:
        if to is None:
            exporters = [exporter_for(Path(str(out)))]
        else:
            exporters = [EXPORTERS.get(name.strip()) for name in to.split(",")]
        targets = [(exporter, target_of(pose, out or STEM, exporter.suffix)) for exporter in exporters]
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    for _, path in targets:
        if os.path.realpath(path) == os.path.realpath(pose):
            raise typer.BadParameter(f"{path} is the file that is read; give the result another name")
    if len({str(path) for _, path in targets}) < len(targets):
        raise typer.BadParameter(
            f"several formats would be written to {targets[0][1]}; give a folder", param_hint="--out"
        )
    return targets


def target_of(pose: Path, out: str, suffix: str) -> Path:
    """The file of one format, whose ending may have two dots, as ``.coco.json``.

    Raises:
        ConfigError: ``out`` is a file name with another ending.
    """
    if out.lower().endswith(suffix):
        return Path(out.replace(STEM, pose.stem))
    return Path(str(output_path(pose, out, (suffix,))))


def make_options(
    person: list[int] | None,
    space: str,
    fps: float | None,
    in_place: bool,
    start: str | None,
    end: str | None,
    names: str,
    rotation_order: str,
) -> ExportOptions:
    """The options of all formats.

    Raises:
        BadParameter: a value that is impossible.
    """
    from vp3d_cli.io.poses import ExportOptions

    start_s = None if start is None else parse_seconds("--start", start)
    end_s = None if end is None else parse_seconds("--end", end)
    try:
        return ExportOptions(tuple(person or ()), space, fps, in_place, start_s, end_s, names, rotation_order.upper())
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def prepare(pose: Path, targets: list[tuple[Exporter, Path]], options: ExportOptions, overwrite: bool) -> Pose3D:
    """Read the pose file, give everyone a rig if a format needs it, and check that every file can be written.

    Raises:
        Vp3dError: nothing is written then.
    """
    from vp3d_cli.io.poses import check_files, plan_files
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.io.poses.selection import select

    motion = read_npz(pose)
    chosen = select(motion, options)
    for exporter, path in targets:
        for _, file in plan_files(chosen, path, exporter):
            check_files(exporter, file, overwrite)
    if any(exporter.needs_rig for exporter, _ in targets):
        from vp3d_cli.refine.rig import add_rigs

        motion = add_rigs(motion)
    return motion
