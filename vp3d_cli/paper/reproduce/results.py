"""``results.json``: everything that a reproduction has found out, and what it goes on from."""

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

FORMAT = "vp3d-reproduce/1"
FILE = "results.json"
Status = Literal["done", "skipped", "failed", "waiting"]


@dataclass
class RowResult:
    """What became of a row.

    Attributes:
        status: ``waiting`` if it was never begun or not yet finished.
        reason: why it was skipped, or how it failed.
        keypoints: that it was evaluated on.
        flip_test: whether with test-time augmentation.
        lifter: file of its weights, relative to the folder of the report.
        cases: of :class:`vp3d_cli.evaluate.scores.Scores` as plain values: each action, and "mean" last.
        trajectory: mean distance of the root, mm; None if there is no trajectory network.
        notes: what the user should know of the data.
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
        """A figure of a case; NaN if it is not known."""
        for values in self.cases:
            if values["name"] == case and values.get(name) is not None:
                return float(values[name])
        return math.nan


@dataclass
class Results:
    """What a reproduction was asked for, and its results.

    Attributes:
        data: folder of the archives.
        epochs, channels: in place of the paper's; None for the paper's.
        archives: sha256 of the archives that rows were made from.
        rows: results by the rows' names.
        runs: {training run: seconds that it took}, of those that are finished.
    """

    data: str
    epochs: int | None = None
    channels: int | None = None
    archives: dict[str, str] = field(default_factory=dict)
    rows: dict[str, RowResult] = field(default_factory=dict)
    runs: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``results.json``, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        content = {"format": FORMAT, "version": __version__, **asdict(self)}
        with replacing(folder / FILE, overwrite=True) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())


def plain(scores: Scores) -> dict[str, Any]:
    """A case as the journal keeps it: without the errors of each joint."""
    values = scores.as_dict()
    del values["joints"]
    return values


def open_results(folder: Path, data: Path, epochs: int | None, channels: int | None) -> Results:
    """Read what was done before; a new journal if nothing was.

    Raises:
        InputError: the file is damaged.
        ConfigError: it is of other data, or other epochs or channels.
    """
    path = folder / FILE
    if not path.exists():
        return Results(str(data.resolve()), epochs, channels)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        values.pop("version")
        journal = Results(**{**values, "rows": {name: RowResult(**row) for name, row in values["rows"].items()}})
        if any(row.status not in get_args(Status) for row in journal.rows.values()):
            raise ValueError("an unknown status")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not the results of vp3d reproduce ({error}); choose another --out") from error
    for what, before, now in (("--epochs", journal.epochs, epochs), ("--channels", journal.channels, channels)):
        if before != now:
            said = f"with {what} {before}" if before is not None else f"without {what}"
            raise ConfigError(f"{folder} was begun {said}; give the same again, or choose another --out")
    journal.data = str(data.resolve())
    return journal
