"""Joint angles and measures as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vp3d_cli.analysis.angles import JointAngles
from vp3d_cli.analysis.gait import Gait, Measure
from vp3d_cli.analysis.movement import PersonAnalysis
from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import replacing

ANGLES_SCHEMA, ANALYSIS_SCHEMA = "vp3d-angles/1", "vp3d-analysis/1"
SUFFIXES = (".csv", ".json")
_MEASURE_COLUMNS = ("person", "group", "name", "side", "value", "sd", "unit", "count", "note")


def write_angles(people: Sequence[JointAngles], path: Path, *, long: bool = False, overwrite: bool = False) -> None:
    """Write joint angles, as CSV or JSON by the ending of the name.

    Args:
        people: one for each person.
        path: ending in ``.csv`` or ``.json``.
        long: CSV with one row for each person, frame and angle; else one row for each person and frame.
        overwrite: replace a file that exists.

    Raises:
        ConfigError: the name ends in something else.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    if is_json(path):
        document = {"schema": ANGLES_SCHEMA, "unit": "degrees", "people": [_angles_json(person) for person in people]}
        _write_json(document, path, overwrite)
    else:
        _write_csv(_long_rows(people) if long else _wide_rows(people), path, overwrite)


def write_analysis(people: Sequence[PersonAnalysis], path: Path, *, overwrite: bool = False) -> None:
    """Write measures as CSV or JSON, by the ending of the name.

    JSON also has each contact, step and stride.

    Raises:
        ConfigError: the name ends in something else.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    if is_json(path):
        document = {"schema": ANALYSIS_SCHEMA, "people": [_analysis_json(person) for person in people]}
        _write_json(document, path, overwrite)
    else:
        rows = [[person.person_id, *_measure_cells(m)] for person in people for m in person.measures]
        _write_csv([_MEASURE_COLUMNS, *rows], path, overwrite)


def is_json(path: Path) -> bool:
    """Whether a table is to be JSON rather than CSV.

    Raises:
        ConfigError: the name ends in something else.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    return suffix == ".json"


def _wide_rows(people: Sequence[JointAngles]) -> Iterator[Sequence[object]]:
    names = people[0].names if people else ()
    yield ["person", "frame", "time_s", *(f"{name}_deg" for name in names), *(f"{name}_observed" for name in names)]
    for person in people:
        for i, (frame, time_s) in enumerate(zip(person.frames, person.times_s, strict=True)):
            degrees = [_cell(value) for value in person.degrees[i].tolist()]
            yield [person.person_id, int(frame), f"{time_s:.6f}", *degrees, *map(int, person.observed[i].tolist())]


def _long_rows(people: Sequence[JointAngles]) -> Iterator[Sequence[object]]:
    yield ["person", "frame", "time_s", "angle", "degrees", "observed", "confidence"]
    for person in people:
        for i, (frame, time_s) in enumerate(zip(person.frames, person.times_s, strict=True)):
            columns = zip(person.names, person.degrees[i], person.observed[i], person.confidence[i], strict=True)
            for name, degrees, observed, confidence in columns:
                row = [person.person_id, int(frame), f"{time_s:.6f}", name]
                yield [*row, _cell(degrees), int(observed), _cell(confidence)]


def _cell(value: float) -> str:
    """A number with three decimals; nothing for NaN."""
    return f"{value:.3f}" if math.isfinite(value) else ""


def _measure_cells(measure: Measure) -> list[object]:
    values = asdict(measure)
    numbers = {"value": _number(measure.value), "sd": _number(measure.sd)}
    return [(values | numbers)[name] for name in _MEASURE_COLUMNS[1:]]


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else ""


def _angles_json(person: JointAngles) -> dict[str, Any]:
    return {
        "person": person.person_id,
        "frames": person.frames.tolist(),
        "times_s": person.times_s.tolist(),
        "angles": {
            name: {
                "degrees": [round(value, 3) for value in person.degrees[:, i].tolist()],
                "observed": person.observed[:, i].tolist(),
                "confidence": [round(value, 3) for value in person.confidence[:, i].tolist()],
            }
            for i, name in enumerate(person.names)
        },
    }


def _analysis_json(person: PersonAnalysis) -> dict[str, Any]:
    return {
        "person": person.person_id,
        "gait": _gait_json(person.gait),
        "measures": [asdict(measure) for measure in person.measures],
    }


def _gait_json(gait: Gait) -> dict[str, Any]:
    def events(items: Iterable[Any]) -> list[dict[str, Any]]:
        return [{"side": event.side, "time_s": event.time_s} for event in items]

    return {
        "found": gait.found,
        "reason": gait.reason,
        "kind": gait.kind,
        "contacts": [asdict(contact) for contact in gait.contacts],
        "heel_strikes": events(gait.heel_strikes),
        "toe_offs": events(gait.toe_offs),
        "steps": [asdict(step) for step in gait.steps],
        "strides": [asdict(stride) for stride in gait.strides],
    }


def _without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(document: dict[str, Any], path: Path, overwrite: bool) -> None:
    text = json.dumps(_without_nan(document), allow_nan=False)
    with replacing(path, overwrite) as file:
        file.write(text.encode())
        file.write(b"\n")


def _write_csv(rows: Iterable[Sequence[object]], path: Path, overwrite: bool) -> None:
    with replacing(path, overwrite) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.detach()  # which writes what is left, and leaves the file open
