"""Reproducing the paper: row by row, each trained and evaluated once, resumed wherever it was stopped."""

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
from vp3d_cli.paper.reproduce.results import Results, RowResult, open_results, plain
from vp3d_cli.paper.reproduce.report import write_report
from vp3d_cli.paper.reproduce.table_rows import Row
from vp3d_cli.train.config import DatasetConfig, TrainConfig
from vp3d_cli.train.loop import train
from vp3d_cli.weights import sha256_of


@dataclass(frozen=True)
class Plan:
    """What to reproduce.

    Attributes:
        data: folder of prepared archives.
        out: folder of the report.
        rows: of the tables.
        epochs, channels: in place of the paper's.
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
    """Who is told what happens; every call may be left out.

    Attributes:
        row: (row, result) when a row is begun (``waiting``) and when it is over.
        step: (step, steps, loss) of a training run.
        note: what the user should know of the data.
    """

    row: Callable[[Row, RowResult], None] = lambda row, result: None
    step: Callable[[int, int, float], None] = lambda step, steps, loss: None
    note: Callable[[str], None] = lambda note: None


class _Stopped(Exception):
    """A training run was asked to stop, and has saved."""


@dataclass(frozen=True)
class Outcome:
    """How a reproduction ended.

    Attributes:
        results: of the rows that were asked for.
        report: ``report.html``.
        finished: False if it was stopped; the same call goes on.
    """

    results: dict[str, RowResult]
    report: Path
    finished: bool


def reproduce(plan: Plan, listener: Callbacks | None = None) -> Outcome:
    """Train and evaluate rows, and write a report of all that were ever done in its folder.

    A row that is done is not done again; one whose training was stopped goes on from its last epoch. A row whose data
    is missing is skipped, and tried again by the next call; so is one that failed.

    Raises:
        InputError: no such data, or archives that have changed since rows were made from them.
        ConfigError: the folder is of other epochs or channels.
        OutputError: the folder cannot be written.
    """
    listener = listener or Callbacks()
    _check_data(plan.data)
    make_folder(plan.out)
    journal = open_results(plan.out, plan.data, plan.epochs, plan.channels)
    inventory = AvailableData(plan.data)
    _check_unchanged(journal, inventory)
    finished = True
    for row in plan.rows:
        if journal.rows.get(row.name, RowResult()).status == "done":
            listener.row(row, journal.rows[row.name])
            continue
        listener.row(row, RowResult())
        try:
            result = _row(row, plan, journal, inventory, listener)
        except _Stopped:
            finished = False
            break
        except OutputError:
            raise  # the disk is full: so it is for every other row
        except Vp3dError as error:
            result = RowResult("failed", str(error))
        journal.rows[row.name] = result
        journal.write(plan.out)
        if result.status == "done":
            write_report(journal, plan.out)
        listener.row(row, result)
    report = write_report(journal, plan.out)
    return Outcome({row.name: journal.rows.get(row.name, RowResult()) for row in plan.rows}, report, finished)


class AvailableData:
    """What a folder of archives has; each is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subjects: dict[tuple[str, str], set[str]] = {}
        self._hashes: dict[str, str] = {}

    def missing(self, config: TrainConfig) -> str:
        """What a training run lacks, in words; "" if nothing.

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
        """Names of the archives of joints and of keypoints."""
        spec = dataset_spec(wanted.name)
        return spec.file_3d, spec.file_2d(wanted.keypoints)

    def sha256(self, file: str) -> str:
        """Of an archive; "" if it is not there."""
        if file not in self._hashes:
            path = self._folder / file
            self._hashes[file] = sha256_of(path) if path.is_file() else ""
        return self._hashes[file]


def _check_data(folder: Path) -> None:
    if not any(folder.glob("data_3d_*.npz")):
        raise InputError(
            f"{folder}: no archives data_3d_*.npz there; make them with: vp3d data prepare, or vp3d data synthesize"
        )


def _check_unchanged(journal: Results, inventory: AvailableData) -> None:
    changed = [file for file, sha256 in journal.archives.items() if inventory.sha256(file) not in ("", sha256)]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed since results were made from it; choose another --out for the new data"
        )


def _row(row: Row, plan: Plan, journal: Results, inventory: AvailableData, listener: Callbacks) -> RowResult:
    config = row.config(plan.data.resolve(), plan.epochs, plan.channels)
    missing = inventory.missing(config)
    if missing:
        return RowResult("skipped", missing)
    for file in inventory.files(config.dataset):
        journal.archives[file] = inventory.sha256(file)
    folder = plan.out / "runs" / row.run
    if row.run not in journal.runs:
        journal.runs[row.run] = _train(config, folder, plan, listener)
    return _evaluate(row, config, folder, plan)


def _train(config: TrainConfig, folder: Path, plan: Plan, listener: Callbacks) -> float:
    """Train, or go on; returns the seconds that this took, those before a stop not counted."""
    started = time.perf_counter()
    folder.parent.mkdir(exist_ok=True)
    resume = (folder / "state.pt").exists()
    result = train(config, folder, device=plan.device, resume=resume, on_step=listener.step, on_note=listener.note)
    if not result.finished:
        raise _Stopped
    return round(time.perf_counter() - started, 1)


def _evaluate(row: Row, config: TrainConfig, folder: Path, plan: Plan) -> RowResult:
    # The weights after the last epoch, as the paper: the best ones would be chosen by the test subjects.
    file = folder / "last.safetensors"
    wanted = config.dataset
    exam = DatasetProtocol(
        plan.data, wanted.name, wanted.keypoints, wanted.test, wanted.actions, row.flip_test, wanted.cameras
    )
    result = evaluate_dataset(Lifter(file, plan.device, name=row.run), exam)
    trajectory = None
    root = folder / "trajectory-last.safetensors"
    if root.is_file() and config.semi.on:
        scores = evaluate_dataset(Lifter(root, plan.device, name=f"{row.run}, trajectory"), exam).scores
        trajectory = scores[-1].trajectory
    return RowResult(
        "done",
        keypoints=result.keypoints,
        flip_test=row.flip_test,
        lifter=str(file.relative_to(plan.out)),
        cases=[plain(case) for case in result.scores],
        trajectory=trajectory,
        notes=result.notes,
    )
