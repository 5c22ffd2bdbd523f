"""``vp3d plot``: curves of a pose file over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.cli.angles import (
    OnePerson,
    PoseFile,
    as_usage_error,
    parse_angle_names,
    parse_list,
    read_people,
)
from vp3d_cli.cli.common import Overwrite, print_warning


def plot(
    pose: PoseFile,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.", show_default=False)],
    what: Annotated[
        str, typer.Option(metavar="NAMES", help="Plots to draw, separated by commas.")
    ] = "angles,heights,speeds,contacts,confidence",
    angle_names: Annotated[
        str | None,
        typer.Option(
            "--angles",
            metavar="NAMES",
            help="Angle names, separated by commas.  [default: flexions of the limbs, tilt of the trunk]",
            show_default=False,
        ),
    ] = None,
    person: OnePerson = None,
    overwrite: Overwrite = False,
) -> None:
    """Plot a pose over time.

    Joint angles, heights, speeds, foot contacts and confidence.

    \b
    vp3d plot pose.npz --out plots.png
    vp3d plot pose.npz --out knees.svg --what angles --angles left_knee_flexion,right_knee_flexion

    People are drawn side by side, four at most; a PDF has a page for each. Curves are thin and dotted where joints
    were filled in because the detector did not see them.
    """
    from vp3d_cli.analysis import plots

    with as_usage_error("--out"):
        plots.check_suffix(out)
    kinds = parse_list(what) or []
    with as_usage_error("--what"):
        plots.check_kinds(kinds)
    names = parse_angle_names(angle_names)
    motion = read_people(pose, out, person, overwrite)
    if out.suffix.lower() != ".pdf" and motion.num_people > plots.MOST_COLUMNS:
        print_warning(
            f"{pose}: {motion.num_people} people; the first {plots.MOST_COLUMNS} are drawn. "
            "Write a .pdf, with a page for each, or name one with --person"
        )
    plots.write_plots(motion, out, what=kinds, angle_names=names, title=pose.name, overwrite=overwrite)
    print(out)
