"""``vp3d analyze``: gait, repeated movements and ranges of motion of a pose file."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli.angles import AngleNames, OnePerson, PoseFile, as_usage_error, parse_angle_names, read_people
from vp3d_cli.cli.common import Overwrite, Quiet, format_table

if TYPE_CHECKING:
    from vp3d_cli.analysis.movement import PersonAnalysis


def analyze(
    pose: PoseFile,
    out: Annotated[
        Path | None, typer.Option(help="Table to write: .csv or .json.  [default: print it]", show_default=False)
    ] = None,
    angle_names: AngleNames = None,
    person: OnePerson = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure gait, repetitions and range of motion.

    \b
    vp3d analyze pose.npz
    vp3d analyze pose.npz --out gait.csv
    vp3d analyze pose.npz --out gait.json --person 2

    JSON also has each foot contact, step and stride. Where somebody does not walk or run, it says why no gait was
    found. Definitions: docs/gait.md.
    """
    from vp3d_cli.analysis import movement
    from vp3d_cli.analysis.tables import is_json, write_analysis

    if out is not None:
        with as_usage_error("--out"):
            is_json(out)
    names = parse_angle_names(angle_names)
    people = movement.analyze(read_people(pose, out, person, overwrite), names)
    if out is None:
        print(_table(people))
        return
    write_analysis(people, out, overwrite=overwrite)
    if not quiet:
        print("\n".join(_summary(analysis) for analysis in people), file=sys.stderr)
    print(out)


def _table(people: Sequence[PersonAnalysis]) -> str:
    rows = [["person", "measure", "side", "value", "sd", "unit", "n", "note"]]
    for analysis in people:
        for m in analysis.measures:
            value, sd = (f"{number:.4g}" if math.isfinite(number) else "-" for number in (m.value, m.sd))
            rows.append([str(analysis.person_id), m.name, m.side, value, sd, m.unit, str(m.count), m.note])
    return format_table(rows, right=(0, 3, 4, 6))


def _summary(analysis: PersonAnalysis) -> str:
    """One line about a person's gait."""
    who = f"person {analysis.person_id}:"
    if not analysis.gait.found:
        return f"{who} no gait found: {analysis.gait.reason}"
    values = {measure.name: measure.value for measure in analysis.measures if measure.group == "gait"}
    steps, cadence, speed = (values[name] for name in ("steps", "cadence", "speed"))
    return f"{who} {analysis.gait.kind}, {steps:.0f} steps, {cadence:.0f} steps/min, {speed:.2f} m/s"
