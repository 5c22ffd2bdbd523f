"""What the paper and its authors report, out of a data file beside this module that names table and row of each."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The figures that are reported.
REPORTED = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")


@dataclass(frozen=True)
class Published:
    """A row of a published table; mm, and mm per frame.

    Attributes:
        name: of the row, here.
        source: where it stands.
        figures: mean over the actions of each figure that is reported; names as in :data:`REPORTED`.
        actions: {figure: {action: value}}, where they are reported.
    """

    name: str
    source: str
    figures: Mapping[str, float]
    actions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, case: str) -> dict[str, float]:
        """The figures of an action, or of all (``mean``)."""
        if case == "mean":
            return dict(self.figures)
        return {figure: values[case] for figure, values in self.actions.items() if case in values}


@dataclass(frozen=True)
class Experiment:
    """What is told apart by published rows; all on the usual subjects.

    Attributes:
        dataset: ``human36m`` or ``humaneva``.
        keypoints: such as ``gt``.
        frames: receptive field.
        causal: sees no future.
        flip: with test-time augmentation.
        labels: what is labelled, such as ``0.1 of S1`` or ``1 of S1,S5``; "" for all of the usual subjects.
        unlabelled: semi-supervised: trained without labels on the others.
        bones: with the bone-length term, if ``unlabelled``.
    """

    dataset: str
    keypoints: str
    frames: int
    causal: bool
    flip: bool
    labels: str = ""
    unlabelled: bool = False
    bones: bool = True


def published(name: str) -> Published | None:
    """A published row by its name; None if there is none."""
    return _read()[0].get(name)


def published_for(experiment: Experiment) -> Published | None:
    """The published row of an experiment; None if there is none."""
    rows, matches = _read()
    return rows[matches[experiment]] if experiment in matches else None


@functools.lru_cache(maxsize=1)
def _read() -> tuple[dict[str, Published], dict[Experiment, str]]:
    text = Path(__file__).with_name("published.json").read_text(encoding="utf-8")
    rows: dict[str, Published] = {}
    matches: dict[Experiment, str] = {}
    for name, row in json.loads(text).items():
        figures = {figure: float(row[figure]) for figure in REPORTED if figure in row}
        rows[name] = Published(name, row["source"], figures, row.get("actions", {}))
        if "match" in row:
            matches[Experiment(**row["match"])] = name
    return rows, matches
