"""Published results of the paper and its authors' README, from ``published.json``."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Metrics that are reported.
REPORTED = ("mpjpe", "p_mpjpe", "n_mpjpe", "mpjve")


@dataclass(frozen=True)
class Published:
    """Row of a published table; mm, and mm per frame.

    Attributes:
        name: name of the row in vp3d.
        source: publication, table and row.
        figures: {metric: mean over the actions}; metrics as in :data:`REPORTED`.
        actions: {metric: {action: value}}, if reported.
    """

    name: str
    source: str
    figures: Mapping[str, float]
    actions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, case: str) -> dict[str, float]:
        """Return the figures of an action, or their mean for ``mean``."""
        if case == "mean":
            return dict(self.figures)
        return {figure: values[case] for figure, values in self.actions.items() if case in values}


@dataclass(frozen=True)
class Experiment:
    """Properties that distinguish published rows; all are on the standard test subjects.

    Attributes:
        dataset: ``human36m`` or ``humaneva``.
        keypoints: kind of keypoints, such as ``gt``.
        frames: receptive field.
        causal: whether the network is causal.
        flip: whether test-time augmentation is used.
        labels: labelled part, such as ``0.1 of S1`` or ``1 of S1,S5``; "" for all training subjects.
        unlabelled: whether training is semi-supervised, with the other subjects unlabelled.
        bones: whether the bone-length loss is used, if ``unlabelled``.
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
    """Return a published row by name; None if there is none."""
    return _read()[0].get(name)


def published_for(experiment: Experiment) -> Published | None:
    """Return the published row of an experiment; None if there is none."""
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
