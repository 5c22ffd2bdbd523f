"""``vp3d evaluate --data``: lifters on a prepared data set, beside what the paper reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vp3d_cli.cli.common import print_warning
from vp3d_cli.cli.evaluate_table import Results
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.paper.evaluation import DatasetExam, evaluate_dataset
from vp3d_cli.weights import find_lifter

if TYPE_CHECKING:
    from vp3d_cli.cli.progress import StageProgress
    from vp3d_cli.paper.published import Published
    from vp3d_cli.pipeline.settings import InferSettings


def make_exam(
    folder: Path,
    settings: InferSettings,
    *,
    dataset: str | None,
    keypoints: str | None,
    subjects: str | None,
    actions: str | None,
    cameras: Path | None,
) -> DatasetExam:
    """The exam that was typed."""
    return DatasetExam(
        folder,
        dataset or "",
        keypoints or "",
        _names(subjects),
        _names(actions),
        settings.tta,
        str(cameras or ""),
    )


def on_dataset(
    exam: DatasetExam, lifters: Sequence[str], device: str, progress: StageProgress, quiet: bool
) -> tuple[Results, dict[str, Published]]:
    """Scores of each lifter, and the published ones of those that the literature has; notes go to stderr."""
    results: Results = {}
    published: dict[str, Published] = {}
    notes: dict[str, None] = {}  # each once, in order
    sources: dict[str, None] = {}
    for name in lifters:
        path, called, sha256 = find_lifter(name)
        result = evaluate_dataset(Lifter(path, device, name=called, sha256=sha256), exam, progress)
        results[name] = result.scores
        notes.update(dict.fromkeys(result.notes))
        if result.published is not None:
            published[name] = result.published
            sources[f"(paper): {result.published.source}"] = None
    if not quiet:
        for note in notes:
            print_warning(note)
        for source in sources:
            print(source, file=sys.stderr)
    return results, published


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
