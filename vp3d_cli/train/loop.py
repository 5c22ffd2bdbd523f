"""The training loop, top to bottom: set up, resume, then draw a batch, step, average, validate, save."""

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
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.train.batch import Batch, Unlabelled, to_precision
from vp3d_cli.train.config import LoopConfig, TrainConfig, parse_config
from vp3d_cli.train.data import open_data
from vp3d_cli.train.networks import PoseAndTrajectory, build_networks, lifters
from vp3d_cli.train.objective import Objective
from vp3d_cli.train.runs import append_row, copy_file, stop_requested, write_state
from vp3d_cli.train.schedule import STEPS_PER_LOOK, Schedule, make_optimizer, observed, update_average
from vp3d_cli.train.start import start_with

# Bumped when a change makes old training states unusable.
STATE_VERSION = 1

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class TrainResult:
    """Where a run left its files, and how it ended.

    Attributes:
        best, last: lifter files. Semi-supervised training leaves those of its trajectory network beside them, as
            ``trajectory-best.safetensors`` and ``trajectory-last.safetensors``.
        log: CSV with one row per validation.
        score: of the best model, see :meth:`vp3d_cli.train.objective.Objective.examine`.
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
    on_validation: Report | None = None,
    on_note: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a lifter.

    Args:
        config: what and how.
        out: folder for ``best.safetensors``, ``last.safetensors``, ``state.pt`` and ``log.csv``.
        device: ``cpu`` or ``cuda``.
        resume: go on from ``state.pt``; the numbers are those of an uninterrupted run.
        start_from: a lifter file whose weights a new run starts from, see :func:`vp3d_cli.train.start.start_with`.
        on_step: called with (step, steps, loss).
        on_validation: called with the row that goes into the log.
        on_note: called with what the user should know about the data, one sentence at a time.

    Raises:
        ConfigError, InputError: configuration or data are unusable.
        TrainingError: nothing to resume, a state of another configuration, out of memory.
    """
    loop = config.train
    state_path, log_path = out / "state.pt", out / "log.csv"
    state = _read_state(state_path, config) if resume else None
    if state is None and state_path.exists():
        raise TrainingError(f"{out} holds another run; --resume goes on with it, or choose another --out")
    data = open_data(config)
    if on_note is not None:
        for note in data.notes:
            on_note(note)

    torch.manual_seed(loop.seed)
    model = build_networks(config, data.rule).to(device)
    if start_from is not None:
        start_with(_starting(model), load_lifter_file(start_from)[0], str(start_from))
    dtype = torch.float64 if loop.precision == "float64" else torch.float32
    model.to(dtype)
    average = copy.deepcopy(model).eval()
    optimizer = make_optimizer(model, loop)
    step, best = 0, float("inf")
    if state is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, best = state["step"], state["best"]
    out.mkdir(parents=True, exist_ok=True)

    net: Any = model.config
    with _out_of_memory(loop):
        material = data.material(net, device, state)
    exam = {name: to_precision(batch, dtype) for name, batch in material.exam.items()}
    seen = None if material.seen is None else to_precision(material.seen, dtype)
    schedule = Schedule.of(config, material.labelled.epoch)
    objective = Objective(config, data.rule)
    autocast = _autocasts(loop, device)
    if state is not None:
        torch.set_rng_state(state["rng"])

    def save() -> None:
        _save_lifters(average, config, data.rule, data.licence, out, {"step": step, "score": best})
        write_state(
            state_path,
            {
                "version": STATE_VERSION,
                "config": config.as_dict(),
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "step": step,
                "best": best,
                **material.labelled.state(),
            },
        )

    running, since, data_s, started = 0.0, 0, 0.0, time.perf_counter()
    with stop_requested() as stopped, _out_of_memory(loop):
        while step < schedule.steps and not stopped():
            schedule.prepare(optimizer, model, step)
            model.train()

            before = time.perf_counter()
            batch: Batch = to_precision(material.labelled.batch(step), dtype)
            unseen: Unlabelled | None = None
            if material.unlabelled is not None and step >= schedule.warmup:
                unseen = to_precision(material.unlabelled.batch(step), dtype)
            data_s += time.perf_counter() - before

            loss = objective.loss(model, batch, unseen, autocast)
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is not finite at step {step}; resume with a lower train.learning_rate")
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            update_average(average, model, min(loop.ema, step / (step + 10)))
            if loop.ema and step % STEPS_PER_LOOK == 1:
                with observed(average, step):
                    objective.loss(average, batch, unseen, autocast)

            running, since = running + loss.item(), since + 1
            if on_step is not None:
                on_step(step, schedule.steps, loss.item())
            if schedule.validates(step):
                row = {"step": float(step), "loss": running / since, **objective.examine(average, exam, seen)}
                row["seconds"] = time.perf_counter() - started
                row["data_share"] = data_s / row["seconds"]
                append_row(log_path, row)
                better = row["score"] < best
                best = min(best, row["score"])
                save()
                for prefix in lifters(average, config) if better else ():
                    copy_file(out / f"{prefix}last.safetensors", out / f"{prefix}best.safetensors")
                if on_validation is not None:
                    on_validation(row)
                running, since = 0.0, 0
        if stopped():
            save()
    return TrainResult(out / "best.safetensors", out / "last.safetensors", log_path, best, step >= schedule.steps)


def _starting(model: nn.Module) -> nn.Module:
    """What other weights go into: the pose network, if there are two."""
    return model.pose if isinstance(model, PoseAndTrajectory) else model


def _save_lifters(
    model: nn.Module, config: TrainConfig, rule: InputRule, licence: str, out: Path, reached: Mapping[str, float]
) -> None:
    for prefix, (task, network) in lifters(model, config).items():
        net: Any = network.config
        training = {**config.as_dict(), **reached}
        info = LifterInfo(task, config.model.architecture, net.as_dict(), rule, licence, training)
        save_lifter(out / f"{prefix}last.safetensors", network, info)


def _autocasts(loop: LoopConfig, device: str) -> bool:
    """Whether matrix products run in bfloat16."""
    if loop.precision != "auto":
        return loop.precision == "bfloat16"
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@contextlib.contextmanager
def _out_of_memory(loop: LoopConfig) -> Iterator[None]:
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
        raise TrainingError(f"{path} is a state of version {state.get('version')}, this vp3d reads {STATE_VERSION}")
    # Parsed, so that what older versions did not have takes its default. The number of steps may change: a run may be
    # ended sooner or later than was planned.
    before, now = parse_config(state["config"], str(path)).as_dict(), config.as_dict()
    for name in ("steps", "epochs"):
        before["train"][name] = now["train"][name]
    if before != now:
        changed = [k for k, v in now.items() if before.get(k) != v]
        raise TrainingError(f"{path} belongs to another configuration: [{'], ['.join(changed)}] differ")
    return state
