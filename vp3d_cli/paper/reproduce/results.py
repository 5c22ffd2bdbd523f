"""``results.json``: results of a reproduction, from which it also resumes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from vp3d_cli import __version__
from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.io.atomic import replacing
from vp3d_cli.paper.datasets.archives import SYNTHETIC_NOTE

FORMAT = "vp3d-reproduce/1"
FILE = "results.json"
# The note about synthetic data in results of older versions.
_OLD_SYNTHETIC_NOTE = "made-up data: results on it say nothing about the real data set"
Status = Literal["done", "skipped", "failed", "waiting"]


@dataclass
class RowResult:
    """Result of a row.

    Attributes:
        status: ``waiting`` if it was not started or not finished.
        reason: why it was skipped, or how it failed.
        keypoints: kind of keypoints in the evaluation.
        flip_test: whether test-time augmentation was used.
        lifter: file of its weights, relative to the folder of the report.
        cases: scores of each action as plain values (:class:`vp3d_cli.evaluate.scores.Scores`), with "mean" last.
        trajectory: mean distance of the root, mm; None without a trajectory network.
        notes: remarks about the data.
    """

    status: Status = "waiting"
    reason: str = ""
    keypoints: str = ""
    flip_test: bool = True
    lifter: str = ""
    cases: list[dict[str, Any]] = field(default_factory=list)
    trajectory: float | None = None
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str, case: str = "mean") -> float:
        """Return a figure of a case; NaN if it is not known."""
        for values in self.cases:
            if values["name"] == case and values.get(name) is not None:
                return float(values[name])
        return math.nan


@dataclass
class Results:
    """Settings and results of a reproduction.

    Attributes:
        data: folder of the archives.
        epochs, channels: overrides of the paper's values; None for the paper's.
        archives: sha256 of the archives that were used.
        rows: results by row name.
        runs: {training run: seconds} of finished runs.
    """

    data: str
    epochs: int | None = None
    channels: int | None = None
    archives: dict[str, str] = field(default_factory=dict)
    rows: dict[str, RowResult] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``results.json`` atomically.

        Raises:
            OutputError: it cannot be written.
        """
        content = {"format": FORMAT, "version": __version__, **asdict(self)}
        with replacing(folder / FILE, overwrite=True) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())


def as_plain_values(scores: Scores) -> dict[str, Any]:
    """Convert scores to plain values, without the errors of each joint."""
    values = scores.as_dict()
    del values["joints"]
    return values


def open_results(folder: Path, data: Path, epochs: int | None, channels: int | None) -> Results:
    """Read the results in a folder, or create new ones.

    Raises:
        InputError: the file is damaged.
        ConfigError: the results have other epochs or channels.
    """
    path = folder / FILE
    if not path.exists():
        return Results(str(data.resolve()), epochs, channels)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        values.pop("version")
        results = Results(**{**values, "rows": {name: RowResult(**row) for name, row in values["rows"].items()}})
        if any(row.status not in get_args(Status) for row in results.rows.values()):
            raise ValueError("an unknown status")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not the results of vp3d reproduce ({error}); choose another --out") from error
    for what, before, now in (("--epochs", results.epochs, epochs), ("--channels", results.channels, channels)):
        if before != now:
            said = f"with {what} {before}" if before is not None else f"without {what}"
            raise ConfigError(f"{folder} was started {said}; give the same again, or choose another --out")
    for row in results.rows.values():
        row.notes = [SYNTHETIC_NOTE if note == _OLD_SYNTHETIC_NOTE else note for note in row.notes]
    results.data = str(data.resolve())
    return results
