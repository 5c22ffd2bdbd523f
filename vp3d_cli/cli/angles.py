"""``vp3d angles``: joint angles of a pose file as a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli.common import Overwrite
from vp3d_cli.errors import ConfigError, InputError, NobodyFoundError

if TYPE_CHECKING:
    from vp3d_cli.pose import Pose3D

PoseFile = Annotated[Path, typer.Argument(help="Pose file, from vp3d infer.", show_default=False)]
OnePerson = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="One person only.  [default: all]", show_default=False)
]
AngleNames = Annotated[
    str | None,
    typer.Option("--angles", metavar="NAMES", help="Names with commas between.  [default: all]", show_default=False),
]


def angles(
    pose: PoseFile,
    out: Annotated[Path, typer.Option(help="Table to write: .csv or .json.", show_default=False)],
    angle_names: AngleNames = None,
    person: OnePerson = None,
    long: Annotated[bool, typer.Option("--long", help="CSV with a row for each angle of each frame.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write joint angles in degrees.

    Angles of hip, knee, ankle, shoulder, elbow, spine, neck and pelvis.

    \b
    vp3d angles pose.npz --out angles.csv
    vp3d angles pose.npz --out knees.json --angles left_knee_flexion,right_knee_flexion

    Each angle has a column that says whether the detector saw its joints. Definitions and signs: docs/angles.md.
    """
    from vp3d_cli.analysis.angles import joint_angles
    from vp3d_cli.analysis.tables import is_json, write_angles

    with as_usage_error("--out"):
        is_json(out)
    names = parse_angle_names(angle_names)
    motion = read_people(pose, out, person, overwrite)
    write_angles(joint_angles(motion, names), out, long=long, overwrite=overwrite)
    print(out)


@contextmanager
def as_usage_error(option: str) -> Iterator[None]:
    """Report a value that makes no sense as wrong usage of an option."""
    try:
        yield
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def parse_list(text: str | None) -> list[str] | None:
    """Names with commas between; None if there are none."""
    names = [name.strip() for name in (text or "").split(",")]
    return [name for name in dict.fromkeys(names) if name] or None


def parse_angle_names(text: str | None) -> list[str] | None:
    """Names of angles with commas between.

    Raises:
        typer.BadParameter: there is no such angle; the message lists them.
    """
    from vp3d_cli.analysis.angles import check_angle_names

    names = parse_list(text)
    with as_usage_error("--angles"):
        check_angle_names(names or ())
    return names


def read_people(pose: Path, out: Path | None, person: int | None, overwrite: bool) -> Pose3D:
    """Read a pose file for a command that writes something about the people in it.

    Args:
        pose: the file.
        out: what the command is to write; it could be written.
        person: number of the only person to keep; all if None.
        overwrite: whether ``out`` may be replaced.

    Raises:
        PoseFileError: the file cannot be read.
        OutputError: ``out`` cannot be written, or exists and ``overwrite`` is not set.
        NobodyFoundError: there is nobody in it.
        InputError: there is no such person.
    """
    from dataclasses import replace

    from vp3d_cli.io.atomic import check_target
    from vp3d_cli.io.poses.npz import read_npz

    motion = read_npz(pose)
    if out is not None:
        if out.resolve() == pose.resolve():
            raise typer.BadParameter(f"{out} is read by this command; give the result another name")
        check_target(out, overwrite)
    if not motion.people:
        raise NobodyFoundError(f"{pose}: nobody is in this pose file; there is nothing to measure")
    if person is None:
        return motion
    if person not in motion.person_ids:
        raise InputError(f"{pose}: there is no person {person}; there are: {', '.join(map(str, motion.person_ids))}")
    return replace(motion, people=(motion.people[motion.person_ids.index(person)],))
