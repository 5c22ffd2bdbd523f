"""Reproduction of the paper row by row, resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vp3d_cli.errors import InputError, OutputError, Vp3dError
from vp3d_cli.io.atomic import make_folder
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.paper.datasets.sequences import Archives
from vp3d_cli.paper.datasets.specs import dataset_spec
from vp3d_cli.paper.evaluation import DatasetProtocol, evaluate_dataset
from vp3d_cli.paper.reproduce.report import write_report
from vp3d_cli.paper.reproduce.results import Results, RowResult, as_plain_values, open_results
from vp3d_cli.paper.reproduce.table_rows import Row
from vp3d_cli.train.config import DatasetConfig, TrainConfig
from vp3d_cli.train.loop import train
from vp3d_cli.weights import sha256_of


@dataclass(frozen=True)
class Plan:
    """Rows to reproduce, and with which data and settings.

    Attributes:
        data: folder of prepared archives.
        out: folder of the report.
        rows: rows of the tables.
        epochs, channels: overrides of the paper's values.
        device: ``cpu`` or ``cuda``.
    """

    data: Path
    out: Path
    rows: Sequence[Row]
    epochs: int | None = None
    channels: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Callbacks:
    """Functions that are called with the progress; all are optional.

    Attributes:
        row: (row, result) when a row starts (status ``waiting``) and when it ends.
        step: (step, steps, loss) of a training run.
        note: remark about the data.
    """

    row: Callable[[Row, RowResult], None] = lambda row, result: None
    step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    note: Callable[[str], None] = lambda note: None


class _Stopped(Exception):
    """A training run was interrupted and has saved its state."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a reproduction.

    Attributes:
        results: results of the selected rows.
        report: path of ``report.html``.
        finished: False if it was interrupted; the same call resumes it.
    """

    results: dict[str, RowResult]
    report: Path
    finished: bool


def reproduce(plan: Plan, callbacks: Callbacks | None = None) -> Outcome:
    """Train and evaluate rows, and write a report of all rows in its folder.

    Finished rows are not repeated; an interrupted training run resumes from its last epoch. Rows without data are
    skipped, and tried again by the next call, as are failed rows.

    Raises:
        InputError: there are no archives, or they have changed since rows were made from them.
        ConfigError: the folder has results with other epochs or channels.
        OutputError: the folder cannot be written.
    """
    callbacks = callbacks or Callbacks()
    _check_data(plan.data)
    make_folder(plan.out)
    results = open_results(plan.out, plan.data, plan.epochs, plan.channels)
    available = AvailableData(plan.data)
    _check_unchanged(results, available)
    finished = True
    for row in plan.rows:
        if results.rows.get(row.name, RowResult()).status == "done":
            callbacks.row(row, results.rows[row.name])
            continue
        callbacks.row(row, RowResult())
        try:
            result = _row(row, plan, results, available, callbacks)
        except _Stopped:
            finished = False
            break
        except OutputError:
            raise  # a full disk affects every other row as well
        except Vp3dError as error:
            result = RowResult("failed", str(error))
        results.rows[row.name] = result
        results.write(plan.out)
        if result.status == "done":
            write_report(results, plan.out)
        callbacks.row(row, result)
    report = write_report(results, plan.out)
    return Outcome({row.name: results.rows.get(row.name, RowResult()) for row in plan.rows}, report, finished)


class AvailableData:
    """Archives and subjects in a folder; each archive is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[tuple[str, str], set[str]] = {}
        self._hashes: dict[str, str] = {}

    def missing(self, config: TrainConfig) -> str:
        """Describe the data that a training run lacks; "" if nothing is missing.

        Raises:
            InputError: an archive is damaged.
        """
        wanted = config.dataset
        absent = [file for file in self.files(wanted) if not (self._folder / file).is_file()]
        if absent:
            return f"no {' and no '.join(absent)}"
        key = (wanted.name, wanted.keypoints)
        if key not in self._subjects:
            archives = Archives(self._folder, *key)
            both = archives.joints.subjects.keys() & archives.keypoints.subjects.keys()
            self._subjects[key] = {subject for subject in both if archives.keypoints.subjects[subject]}
        subjects = {*wanted.train, *wanted.test, *config.semi.subjects} - self._subjects[key]
        return f"no {', '.join(sorted(subjects))} in the archives" if subjects else ""

    def files(self, wanted: DatasetConfig) -> tuple[str, str]:
        """Return the file names of the archives of joints and of keypoints."""
        spec = dataset_spec(wanted.name)
        return spec.file_3d, spec.file_2d(wanted.keypoints)

    def sha256(self, file: str) -> str:
        """Return the SHA-256 of an archive; "" if it does not exist."""
        if file not in self._hashes:
            path = self._folder / file
            self._hashes[file] = sha256_of(path) if path.is_file() else ""
        return self._hashes[file]


def _check_data(folder: Path) -> None:
    if not any(folder.glob("data_3d_*.npz")):
        raise InputError(
            f"{folder}: no archives data_3d_*.npz; make them with: vp3d data prepare, or vp3d data synthesize"
        )


def _check_unchanged(results: Results, available: AvailableData) -> None:
    changed = [file for file, sha256 in results.archives.items() if available.sha256(file) not in ("", sha256)]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed since results were made from it; choose another --out for the new data"
        )


def _row(row: Row, plan: Plan, results: Results, available: AvailableData, callbacks: Callbacks) -> RowResult:
    config = row.config(plan.data.resolve(), plan.epochs, plan.channels)
    missing = available.missing(config)
    if missing:
        return RowResult("skipped", missing)
    for file in available.files(config.dataset):
        results.archives[file] = available.sha256(file)
    folder = plan.out / "runs" / row.run
    if row.run not in results.runs:
        results.runs[row.run] = _train(config, folder, plan, callbacks)
    return _evaluate(row, config, folder, plan)


def _train(config: TrainConfig, folder: Path, plan: Plan, callbacks: Callbacks) -> float:
    """Train or resume; returns the seconds it took, without those before an interruption."""
    started = time.perf_counter()
    folder.parent.mkdir(exist_ok=True)
    resume = (folder / "state.pt").exists()
    result = train(config, folder, device=plan.device, resume=resume, on_step=callbacks.step, on_note=callbacks.note)
    if not result.finished:
        raise _Stopped
    return round(time.perf_counter() - started, 1)


def _evaluate(row: Row, config: TrainConfig, folder: Path, plan: Plan) -> RowResult:
    # The weights after the last epoch, as in the paper; the best ones would be selected on the test subjects.
    file = folder / "last.safetensors"
    wanted = config.dataset
    protocol = DatasetProtocol(
        plan.data, wanted.name, wanted.keypoints, wanted.test, wanted.actions, row.flip_test, wanted.cameras
    )
    result = evaluate_dataset(Lifter(file, plan.device, name=row.run), protocol)
    trajectory = None
    root = folder / "trajectory-last.safetensors"
    if root.is_file() and config.semi.on:
        scores = evaluate_dataset(Lifter(root, plan.device, name=f"{row.run}, trajectory"), protocol).scores
        trajectory = scores[-1].trajectory
    return RowResult(
        "done",
        keypoints=result.keypoints,
        flip_test=row.flip_test,
        lifter=str(file.relative_to(plan.out)),
        cases=[as_plain_values(case) for case in result.scores],
        trajectory=trajectory,
        notes=result.notes,
    )
