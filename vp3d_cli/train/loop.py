"""The training loop: draw a batch, update the weights, average, validate, save. Read first."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vp3d_cli.errors import TrainingError
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file, save_lifter
from vp3d_cli.train.batch import Batch, UnlabelledBatch, to_precision
from vp3d_cli.train.config import LoopConfig, TrainConfig, parse_config
from vp3d_cli.train.data import TrainingData, open_data
from vp3d_cli.train.networks import build_networks, initialize_from, lifters
from vp3d_cli.train.objective import Objective
from vp3d_cli.train.optimization import (
    STEPS_PER_STATISTICS_UPDATE,
    Schedule,
    make_optimizer,
    update_average,
    update_statistics,
)
from vp3d_cli.train.run_files import append_row, copy_file, stop_requested, write_state

# Increased when a change makes old training states unusable.
STATE_VERSION = 1


@dataclass(frozen=True)
class TrainResult:
    """Files of a training run, and how it ended.

    Attributes:
        best, last: lifter files. Semi-supervised training saves its trajectory network beside them, as
            ``trajectory-best.safetensors`` and ``trajectory-last.safetensors``.
        log: CSV file with one row per validation.
        score: score of the best model, see :meth:`vp3d_cli.train.objective.Objective.validate`.
        finished: False if the run was interrupted; it can be resumed.
    """

    best: Path
    last: Path
    log: Path
    score: float
    finished: bool


def train(
    config: TrainConfig,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    start_from: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_validation: Callable[[dict[str, float]], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainResult:
    """Train a lifter.

    Args:
        config: configuration of the run.
        out: folder for ``best.safetensors``, ``last.safetensors``, ``state.pt`` and ``log.csv``.
        device: ``cpu`` or ``cuda``.
        resume: continue from ``state.pt``; the result is that of an uninterrupted run, unless runs end after minutes.
        start_from: lifter file whose weights a new run starts from, see
            :func:`vp3d_cli.train.networks.initialize_from`.
        on_step: called with (step, steps, loss); ``steps`` is an estimate if the run ends after minutes.
        on_validation: called with each row of the log.
        on_note: called with each remark about the data, one sentence each.
        clock: time in seconds, from any start.

    Raises:
        ConfigError, InputError: the configuration or the data are unusable.
        TrainingError: there is no state to resume, it has another configuration, or memory ran out.
    """
    state_path = out / "state.pt"
    state = _read_state(state_path, config) if resume else None
    if state is None and state_path.exists():
        raise TrainingError(f"{out} holds another run; continue it with --resume, or choose another --out")
    data = open_data(config)
    if on_note is not None:
        for note in data.notes:
            on_note(note)
    run = _Run(config, data, out, device, clock)
    run.initialize(state, start_from)
    with stop_requested() as stopped, _out_of_memory(config.train):
        while not run.finished and not stopped():
            batch, unlabelled = run.draw_batch()
            loss = run.update(batch, unlabelled)
            run.update_average(batch, unlabelled)
            if on_step is not None:
                on_step(run.step, run.schedule.steps_in_all(run.step, run.used_s), loss)
            if run.schedule.validates(run.step, run.used_s):
                row = run.validate_and_save()
                if on_validation is not None:
                    on_validation(row)
        if stopped():
            run.save()
    return TrainResult(run.best_path, run.last_path, run.log_path, run.best, run.finished)


class _Run:
    """Networks, averaged weights, optimizer, batch sources and counters of a run, and its files.

    Attributes:
        step: steps that are done.
        used_s: seconds of training and validation after the last step, with those before an interruption.
        best: lowest score of any validation.
        schedule: number of steps, learning rate and validation steps.
        best_path, last_path, log_path: see :class:`TrainResult`.
    """

    schedule: Schedule

    def __init__(
        self, config: TrainConfig, data: TrainingData, out: Path, device: str, clock: Callable[[], float]
    ) -> None:
        self._config, self._loop, self._data, self._out, self._device = config, config.train, data, out, device
        self._dtype = torch.float64 if self._loop.precision == "float64" else torch.float32
        self._autocast = _uses_bfloat16(self._loop, device)
        self.best_path, self.last_path = out / "best.safetensors", out / "last.safetensors"
        self.log_path = out / "log.csv"
        self.step, self.best, self.used_s = 0, float("inf"), 0.0
        self._clock = clock
        self._loss_sum, self._loss_count, self._data_s = 0.0, 0, 0.0

    def initialize(self, state: Mapping[str, Any] | None, start_from: Path | None) -> None:
        """Build networks, optimizer and batch sources, or restore them from a state."""
        torch.manual_seed(self._loop.seed)
        self._model = build_networks(self._config, self._data.rule).to(self._device)
        if start_from is not None:
            initialize_from(self._model, load_lifter_file(start_from)[0], str(start_from))
        self._model.to(self._dtype)
        self._average = copy.deepcopy(self._model).eval()
        self._optimizer = make_optimizer(self._model, self._loop)
        self._objective = Objective(self._config, self._data.rule)
        if state is not None:
            self._model.load_state_dict(state["model"])
            self._average.load_state_dict(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step, self.best, self.used_s = state["step"], state["best"], state.get("seconds", 0.0)
        self._out.mkdir(parents=True, exist_ok=True)
        net: Any = self._model.config
        with _out_of_memory(self._loop):
            self._sources = self._data.batch_sources(net, self._device, state)
        self.schedule = Schedule.of(self._config, self._sources.labelled.epoch)
        if state is not None:
            torch.set_rng_state(state["rng"])
        self._started, self._used_before_s = self._clock(), self.used_s

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or all minutes are over."""
        return self.schedule.progress(self.step, self.used_s) >= 1

    def _measure_time(self) -> float:
        """Return the seconds since this process started training, and update :attr:`used_s`."""
        seconds = self._clock() - self._started
        self.used_s = self._used_before_s + seconds
        return seconds

    def draw_batch(self) -> tuple[Batch, UnlabelledBatch | None]:
        """Draw the labelled windows of a step and, after the warm-up, the unlabelled ones."""
        before = self._clock()
        batch = to_precision(self._sources.labelled.batch(self.step), self._dtype)
        unlabelled = None
        if self._sources.unlabelled is not None and self.step >= self.schedule.warmup:
            unlabelled = to_precision(self._sources.unlabelled.batch(self.step), self._dtype)
        self._data_s += self._clock() - before
        return batch, unlabelled

    def update(self, batch: Batch, unlabelled: UnlabelledBatch | None) -> float:
        """Update the weights from a batch and return its loss."""
        self.schedule.prepare(self._optimizer, self._model, self.step, self.used_s)
        self._model.train()
        loss = self._objective.loss(self._model, batch, unlabelled, self._autocast)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is not finite at step {self.step}; resume with a lower train.learning_rate")
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self.step += 1
        self._loss_sum, self._loss_count = self._loss_sum + loss.item(), self._loss_count + 1
        self._measure_time()
        return loss.item()

    def update_average(self, batch: Batch, unlabelled: UnlabelledBatch | None) -> None:
        """Update the averaged weights and, every few steps, their batch norm statistics."""
        update_average(self._average, self._model, min(self._loop.ema, self.step / (self.step + 10)))
        if self._loop.ema and self.step % STEPS_PER_STATISTICS_UPDATE == 1:
            with update_statistics(self._average, self.step):
                self._objective.loss(self._average, batch, unlabelled, self._autocast)

    def validate_and_save(self) -> dict[str, float]:
        """Validate the averaged weights, save everything, and return the row of the log."""
        errors = self._objective.validate(self._average, self._labelled_validation(), self._unlabelled_validation())
        row = {"step": float(self.step), "loss": self._loss_sum / self._loss_count, **errors}
        row["data_share"] = self._data_s / self._measure_time()
        row["seconds"] = self.used_s
        append_row(self.log_path, row)
        improved = row["score"] < self.best
        self.best = min(self.best, row["score"])
        self.save()
        for prefix in lifters(self._average, self._config) if improved else ():
            copy_file(self._out / f"{prefix}last.safetensors", self._out / f"{prefix}best.safetensors")
        self._loss_sum, self._loss_count = 0.0, 0
        return row

    def _labelled_validation(self) -> dict[str, Batch]:
        return {name: to_precision(batch, self._dtype) for name, batch in self._sources.validation.items()}

    def _unlabelled_validation(self) -> UnlabelledBatch | None:
        batch = self._sources.unlabelled_validation
        return None if batch is None else to_precision(batch, self._dtype)

    def save(self) -> None:
        """Save the lifters with the averaged weights, and the state that a resumed run needs."""
        _save_lifters(self._average, self._config, self._data, self._out, {"step": self.step, "score": self.best})
        state = {
            "version": STATE_VERSION,
            "config": self._config.as_dict(),
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "step": self.step,
            "best": self.best,
            "seconds": self.used_s,
            **self._sources.labelled.state(),
        }
        write_state(self._out / "state.pt", state)


def _save_lifters(
    model: nn.Module, config: TrainConfig, data: TrainingData, out: Path, progress: Mapping[str, float]
) -> None:
    for prefix, (task, network) in lifters(model, config).items():
        net: Any = network.config
        training = {**config.as_dict(), **progress}
        info = LifterInfo(task, config.model.architecture, net.as_dict(), data.rule, data.licence, training)
        save_lifter(out / f"{prefix}last.safetensors", network, info)


def _uses_bfloat16(loop: LoopConfig, device: str) -> bool:
    """Whether matrix products run in bfloat16."""
    if loop.precision != "auto":
        return loop.precision == "bfloat16"
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@contextlib.contextmanager
def _out_of_memory(loop: LoopConfig) -> Iterator[None]:
    """Turn running out of memory into an error that says what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"out of memory with batch {loop.batch} and pool {loop.pool}; try --set train.batch={loop.batch // 2}"
        ) from error


def _read_state(path: Path, config: TrainConfig) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"nothing to resume at {path}; leave out --resume to start a run")
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state.get("version") != STATE_VERSION:
        raise TrainingError(
            f"{path} has state version {state.get('version')}, this vp3d reads {STATE_VERSION}; start a new run"
        )
    # Parsed, so that options which older versions did not have take their defaults. The length may change: a run may
    # be ended sooner or later than planned.
    before, now = parse_config(state["config"], str(path)).as_dict(), config.as_dict()
    for name in ("steps", "epochs", "minutes"):
        before["train"][name] = now["train"][name]
    if before != now:
        changed = [k for k, v in now.items() if before.get(k) != v]
        raise TrainingError(f"{path} belongs to another configuration: [{'], ['.join(changed)}] differ")
    return state
