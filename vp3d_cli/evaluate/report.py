"""Files of an evaluation: scores as JSON, and a plot of the error of each joint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vp3d_cli.errors import InputError
from vp3d_cli.evaluate.scores import Scores
from vp3d_cli.io.atomic import replacing

# Colour-blind safe (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_LONGEST_LABEL = 32  # characters


def write_json(path: Path, results: Mapping[str, Sequence[Scores]], about: Mapping[str, Any], overwrite: bool) -> None:
    """Write all scores of all cases as JSON.

    Args:
        path: file to write.
        results: cases of each system (a lifter, or a pose file).
        about: inputs and settings of the evaluation.
        overwrite: replace an existing file.

    Raises:
        OutputError: it cannot be written.
    """
    content = {**about, "results": {name: [s.as_dict() for s in scores] for name, scores in results.items()}}
    with replacing(path, overwrite) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def plot_joints(path: Path, results: Mapping[str, Scores], overwrite: bool) -> None:
    """Plot the error of each joint as bars, one colour per system: N-MPJPE and P-MPJPE.

    Args:
        path: PNG to write.
        results: one case of each system.
        overwrite: replace an existing file.

    Raises:
        InputError: there are no joints to plot.
        OutputError: it cannot be written.
    """
    drawn = {name: scores for name, scores in results.items() if scores.joints}
    if not drawn:
        raise InputError("there is no error per joint to plot, because a trajectory has one joint")
    joints = next(iter(drawn.values())).joints
    drawn = {name: scores for name, scores in drawn.items() if scores.joints == joints}
    figure = Figure(figsize=(10, 0.32 * len(joints) + 2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(joints), dtype=np.float64)
    thickness = 0.8 / len(drawn)
    for i, (name, scores) in enumerate(drawn.items()):
        place = rows + (i - (len(drawn) - 1) / 2) * thickness
        colour = _COLOURS[i % len(_COLOURS)]
        left.barh(place, scores.joints_n, thickness, color=colour, label=f"{_short(name)}: {scores.n_mpjpe:.0f} mm")
        right.barh(place, scores.joints_p, thickness, color=colour, label=f"{_short(name)}: {scores.p_mpjpe:.0f} mm")
    left.set_yticks(rows, [joint.replace("_", " ") for joint in joints])
    left.invert_yaxis()
    for axes, title in ((left, "N-MPJPE: root-aligned, scaled"), (right, "P-MPJPE: Procrustes")):
        axes.set_title(title)
        axes.set_xlabel("mm")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.9 / len(joints)), fontsize="small", frameon=False)
    with replacing(path, overwrite) as file:
        figure.savefig(file, format="png", dpi=120)


def _short(name: str) -> str:
    """Shorten a long path to its end, to leave room for the axes."""
    return name if len(name) <= _LONGEST_LABEL else f"...{name[-_LONGEST_LABEL:]}"
