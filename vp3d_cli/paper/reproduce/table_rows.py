"""Rows of the paper's tables, with their training and evaluation (Pavllo et al. 2019).

Published figures (:mod:`vp3d_cli.paper.published`) have the same row names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp3d_cli.errors import ConfigError
from vp3d_cli.paper.datasets.specs import DATASETS
from vp3d_cli.train.config import TrainConfig, read_config
from vp3d_cli.train.recipes import find_recipe

FIELDS = "Human3.6M: receptive field (tables 1 and 2)"
DETECTORS = "Human3.6M: 2D keypoints (table 3)"
ABLATIONS = "Human3.6M: ablations (table 5, section 5)"
SEMI = "Human3.6M: few labels, exact keypoints (figure 5c)"
HUMANEVA = "HumanEva-I (table 4)"
GROUPS = (FIELDS, DETECTORS, ABLATIONS, SEMI, HUMANEVA)

# Widths of the convolutions by receptive field; the single-frame model has all levels, with widths of 1.
WIDTHS: Mapping[int, tuple[int, ...]] = {
    1: (1, 1, 1, 1, 1), 9: (3, 3), 27: (3, 3, 3), 81: (3, 3, 3, 3), 243: (3, 3, 3, 3, 3),
}  # fmt: skip
CPN = "cpn_ft_h36m_dbb"


@dataclass(frozen=True)
class Row:
    """Row of a table.

    Attributes:
        name: name of the row, such as ``h36m-cpn-243``.
        group: table, one of :data:`GROUPS`.
        title: description.
        recipe: recipe of the training.
        changes: overrides of the recipe, section -> name -> value.
        run: name of the training run, which rows with different evaluations may share.
        flip_test: whether test-time augmentation is used.
    """

    name: str
    group: str
    title: str
    recipe: str
    changes: Mapping[str, Mapping[str, Any]]
    run: str
    flip_test: bool = True

    def config(self, folder: Path, epochs: int | None = None, channels: int | None = None) -> TrainConfig:
        """Create the configuration of the training run.

        Args:
            folder: folder of the archives.
            epochs, channels: overrides of the paper's values; the warm-up is shortened in proportion.
        """
        changes: dict[str, dict[str, Any]] = {section: dict(values) for section, values in self.changes.items()}
        changes.setdefault("dataset", {})["folder"] = str(folder)
        if channels is not None:
            changes.setdefault("model", {}).setdefault("options", {})
            changes["model"]["options"] = {**changes["model"]["options"], "channels": channels}
        config = read_config(find_recipe(self.recipe), changes)
        if epochs is None:
            return config
        changes.setdefault("train", {})["epochs"] = epochs
        warmup = round(config.semi.warmup_epochs * min(1.0, epochs / config.train.epochs))
        changes.setdefault("semi", {})["warmup_epochs"] = warmup
        return read_config(find_recipe(self.recipe), changes)


def all_rows() -> list[Row]:
    """All rows, in the order of the report."""
    return [*_fields(), *_detectors(), *_ablations(), *_semi(), *_humaneva()]


def select_rows(pattern: str | None) -> list[Row]:
    """Select the rows whose name matches a regular expression; all rows for None.

    Raises:
        ConfigError: the expression is invalid, or matches no row.
    """
    rows = all_rows()
    if pattern is None:
        return rows
    try:
        chosen = [row for row in rows if re.search(pattern, row.name)]
    except re.error as error:
        raise ConfigError(f"{pattern!r} is not a regular expression: {error}") from error
    if not chosen:
        raise ConfigError(f"no row matches {pattern!r}; rows are {', '.join(row.name for row in rows)}")
    return chosen


def _supervised(
    name: str,
    group: str,
    title: str,
    keypoints: str,
    frames: int,
    *,
    causal: bool = False,
    run: str | None = None,
    flip_test: bool = True,
    **changes: Mapping[str, Any],
) -> Row:
    options: dict[str, Any] = {"widths": list(WIDTHS[frames])}
    if causal:
        options["causal"] = True
    model = {"options": options, **changes.pop("model", {})}
    everything = {"model": model, "dataset": {"keypoints": keypoints}, **changes}
    return Row(name, group, title, "paper-h36m", everything, run or name, flip_test)


def _fields() -> list[Row]:
    rows = [_supervised(f"h36m-cpn-{n}", FIELDS, _frames(n), CPN, n) for n in (1, 27, 81)]
    rows.append(_supervised("h36m-cpn-243-causal", FIELDS, "243 frames, causal", CPN, 243, causal=True))
    return [*rows, _supervised("h36m-cpn-243", FIELDS, _frames(243), CPN, 243)]


def _frames(count: int) -> str:
    return "single frame" if count == 1 else f"{count} frames"


def _detectors() -> list[Row]:
    kinds = {
        "gt": ("gt", "ground truth"),
        "detectron": ("detectron_ft_h36m", "Mask R-CNN, fine-tuned"),
        "detectron-coco": ("detectron_pt_coco", "Mask R-CNN, trained on COCO"),
        "sh": ("sh_ft_h36m", "Stacked Hourglass, fine-tuned"),
        "sh-mpii": ("sh_pt_mpii", "Stacked Hourglass, trained on MPII"),
    }
    return [_supervised(f"h36m-{key}-243", DETECTORS, title, name, 243) for key, (name, title) in kinds.items()]


def _ablations() -> list[Row]:
    untested = ", no test-time flip"
    rows = [
        _supervised(
            f"h36m-gt-{n}-no-flip-test", ABLATIONS, f"{n} frames{untested}", "gt", n, run=f"h36m-gt-{n}",
            flip_test=False,
        )
        for n in (27, 81, 243)
    ]  # fmt: skip
    dense = {"architecture": "dense"}
    name = "h36m-gt-27-no-dilation"
    rows.insert(
        1,
        _supervised(name, ABLATIONS, f"27 frames, no dilation{untested}", "gt", 27, flip_test=False, model=dense),
    )
    own, title = "h36m-cpn-243", "243 frames"
    rows.append(
        _supervised(f"{own}-no-flip-test", ABLATIONS, title + untested, CPN, 243, run=own, flip_test=False),
    )
    plain = {"flips": False}
    title += ", no augmentation at all"
    return [
        *rows,
        _supervised(f"{own}-no-augmentation", ABLATIONS, title, CPN, 243, flip_test=False, train=plain),
    ]


# Labelled part: title, subjects, share, receptive field and warm-up epochs. For 10 % of S1, the authors give the
# command (README of VideoPose3D): 5 warm-up epochs, and S5 to S8 unlabelled. Other shares of S1 use the same; with more
# labels, the warm-up is 1 epoch, the default of their program.
SHARES: Mapping[str, tuple[str, tuple[str, ...], float, int, int]] = {
    "s1-1": ("1 % of S1", ("S1",), 0.01, 9, 5),
    "s1-5": ("5 % of S1", ("S1",), 0.05, 27, 5),
    "s1-10": ("10 % of S1", ("S1",), 0.1, 27, 5),
    "s1-50": ("50 % of S1", ("S1",), 0.5, 27, 5),
    "s1": ("S1", ("S1",), 1.0, 27, 1),
    "s15": ("S1, S5", ("S1", "S5"), 1.0, 27, 1),
    "s156": ("S1, S5, S6", ("S1", "S5", "S6"), 1.0, 27, 1),
}
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "-supervised": ("supervised", {}),
    "": ("semi-supervised", {}),
    "-no-bones": ("semi-supervised, no bone-length loss", {"bone_lengths": 0.0}),
}
_MORE_VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "-no-trajectory": ("semi-supervised, no trajectory loss", {"trajectory": 0.0}),
    "-no-reprojection": ("semi-supervised, no reprojection loss", {"reprojection": 0.0}),
}
_BATCH = 64  # windows of each half
# Remark in the report on semi-supervised rows.
UNLIKE_THE_PAPER = (
    "Semi-supervised rows: the loss differs from the paper's in three ways. The trajectory network predicts relative "
    "to the person's size in the image, not in metres; the bone-length term is a Huber loss with weight 0.1; the "
    "reprojection error of a joint is at most half the image width. The labelled parts of S1 differ as well."
)


def _semi() -> list[Row]:
    return [
        _semi_row(share, ending, title, changes)
        for share in SHARES
        for ending, (title, changes) in {**VARIANTS, **(_MORE_VARIANTS if share == "s1-10" else {})}.items()
    ]


def _semi_row(share: str, ending: str, title: str, losses: Mapping[str, Any]) -> Row:
    labelled, subjects, subset, frames, warmup = SHARES[share]
    name = f"semi-{share}{ending}"
    alone = ending == "-supervised"
    unlabelled = [subject for subject in DATASETS["human36m"].train if subject not in subjects]
    changes: dict[str, Mapping[str, Any]] = {
        "model": {"options": {"widths": list(WIDTHS[frames])}},
        "dataset": {"keypoints": "gt", "train": list(subjects), "subset": subset, "downsample": 1},
        "semi": {"subjects": [], "warmup_epochs": 0}
        if alone
        else {"subjects": unlabelled, "warmup_epochs": warmup, **losses},
        "train": {"batch": _BATCH if alone else 2 * _BATCH},
    }
    return Row(name, SEMI, f"{labelled}, {title}", "paper-semi", changes, name)


def _humaneva() -> list[Row]:
    kinds = {"detectron": ("detectron_pt_coco", "Mask R-CNN, trained on COCO"), "gt": ("gt", "ground truth")}
    return [
        Row(f"humaneva-{key}-27", HUMANEVA, f"27 frames, {title}", "paper-humaneva", {"dataset": {"keypoints": kind}},
            f"humaneva-{key}-27")
        for key, (kind, title) in kinds.items()
    ]  # fmt: skip
