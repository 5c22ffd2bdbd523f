"""The training loop, top to bottom: set up, resume, then draw a batch, step, average, validate, save."""

from __future__ import annotations

import contextlib
import copy
import csv
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vp3d_cli import metrics
from vp3d_cli.errors import ConfigError, TrainingError
from vp3d_cli.lift.base import build_model
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file, save_lifter
from vp3d_cli.normalize import decode_root, flip
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.train import losses
from vp3d_cli.train.config import LoopConfig, TrainConfig
from vp3d_cli.train.engine import DataEngine
from vp3d_cli.train.pool import Batch, WindowPool, prepare
from vp3d_cli.train.sources import load_clips, validation_settings
from vp3d_cli.train.start import start_with

# Bumped when a change makes old training states unusable.
STATE_VERSION = 1

Report = Callable[[dict[str, float]], None]

_VALIDATED_AT_ONCE = 256


@dataclass(frozen=True)
class TrainResult:
    """Where a run left its files, and how it ended.

    Attributes:
        best, last: lifter files.
        log: CSV with one row per validation.
        score: of the best model, see :func:`validate`.
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

    Raises:
        ConfigError, InputError: configuration or data are unusable.
        TrainingError: nothing to resume, a state of another configuration, out of memory.
    """
    loop = config.train
    training, held_out, licence = load_clips(config.data)
    torch.manual_seed(loop.seed)
    model = _build(config).to(device)
    if start_from is not None:
        start_with(model, load_lifter_file(start_from)[0], str(start_from))
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=loop.learning_rate, weight_decay=loop.weight_decay)
    sampler = torch.Generator(device).manual_seed(loop.seed)
    step, best, first_chunk = 0, float("inf"), 0

    state_path, log_path = out / "state.pt", out / "log.csv"
    if resume:
        state = _read_state(state_path, config)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        sampler.set_state(state["sampler"])
        torch.set_rng_state(state["rng"])
        step, best, first_chunk = state["step"], state["best"], state["first_chunk"]
    elif state_path.exists():
        raise TrainingError(f"{out} holds another run; --resume goes on with it, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)

    net: Any = model.config
    outputs = range(net.frames_before, net.frames_before + (loop.outputs - 1) * loop.stride + 1, loop.stride)
    frames, middle = net.receptive_field + outputs[-1] - outputs[0], outputs[loop.outputs // 2]
    engine = DataEngine(training, frames, config.input.rate_hz, config.data.engine, device, 0, middle)
    pool = WindowPool(engine, config.input, outputs, loop.pool, loop.seed, first_chunk)
    exam_settings = validation_settings(config.data.engine)
    examiner = DataEngine(held_out, frames, config.input.rate_hz, exam_settings, device, 0, middle)
    exam = _examination(examiner, config, outputs)
    autocast = _precision(loop, device)
    batch_flips = torch.Generator().manual_seed(loop.seed)

    def save() -> None:
        info = LifterInfo(
            config.model.task,
            config.model.architecture,
            net.as_dict(),
            config.input,
            licence,
            {**config.as_dict(), "step": step, "score": best},
        )
        save_lifter(out / "last.safetensors", average, info)
        _write_state(
            state_path,
            {
                "version": STATE_VERSION,
                "config": config.as_dict(),
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "sampler": sampler.get_state(),
                "rng": torch.get_rng_state(),
                "step": step,
                "best": best,
                "first_chunk": pool.first_chunk,
            },
        )

    running, since, data_s, started = 0.0, 0, 0.0, time.perf_counter()
    with _stop_requested() as stopped, _out_of_memory(loop):
        while step < loop.steps and not stopped():
            # The schedule follows from the step alone, so that a resumed run has the same.
            _set_learning_rate(optimizer, loop, step)
            _set_batch_norm_momentum(model, loop, step)
            model.train()

            before = time.perf_counter()
            for _ in range(_chunks_due(loop, step, pool.chunk)):
                pool.renew()
            batch = pool.sample(loop.batch, sampler)
            batch = _flip_half(batch, batch_flips.manual_seed(step))
            data_s += time.perf_counter() - before

            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=autocast):
                predicted = _forward(model, batch.features, loop)
            loss = _loss(predicted.float(), batch, config)
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss is not finite at step {step}; resume with a lower train.learning_rate")
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            _update_average(average, model, min(loop.ema, step / (step + 10)))

            running, since = running + loss.item(), since + 1
            if on_step is not None:
                on_step(step, loop.steps, loss.item())
            if step % loop.validate_every == 0 or step == loop.steps:
                row = {"step": float(step), "loss": running / since, **validate(average, exam, config)}
                row["seconds"] = time.perf_counter() - started
                row["data_share"] = data_s / row["seconds"]
                _append_row(log_path, row)
                if row["score"] < best:
                    best = row["score"]
                    save()
                    os.replace(_copy(out / "last.safetensors"), out / "best.safetensors")
                save()
                if on_validation is not None:
                    on_validation(row)
                running, since = 0.0, 0
        if stopped():
            save()
    return TrainResult(out / "best.safetensors", out / "last.safetensors", log_path, best, step >= loop.steps)


@torch.inference_mode()
def validate(model: nn.Module, exam: dict[str, Batch], config: TrainConfig) -> dict[str, float]:
    """Errors on held-out windows, with exact keypoints and with simulated detections.

    Returns:
        For a pose model ``clean_n``, ``clean_p``, ``detected_n``, ``detected_p``: N-MPJPE and P-MPJPE in mm. For a
        trajectory model ``clean_root``, ``detected_root``: mean distance of the root in percent of its depth.
        ``score`` is what the best model has least of: the error with simulated detections.
    """
    row: dict[str, float] = {}
    for name, batch in exam.items():
        parts = [_forward(model, part, config.train) for part in torch.split(batch.features, _VALIDATED_AT_ONCE)]
        predicted = torch.cat(parts).float()
        if config.model.task == "trajectory":
            root = decode_root(predicted[:, :, 0], batch.centre, batch.spread)
            row[f"{name}_root"] = 100 * losses.weighted_mpjpe(root, batch.root).item()
        else:
            ours, truth = predicted.cpu().numpy(), batch.joints.cpu().numpy()
            row[f"{name}_n"] = float(1e3 * metrics.n_mpjpe(ours, truth).mean())
            row[f"{name}_p"] = float(1e3 * metrics.p_mpjpe(ours, truth).mean())
    row["score"] = row.get("detected_n", row.get("detected_root", float("nan")))
    return row


def _build(config: TrainConfig) -> nn.Module:
    fixed = {"in_features": config.input.features, "out_joints": 17 if config.model.task == "pose" else 1}
    clash = set(fixed) & set(config.model.options)
    if clash:
        raise ConfigError(f"[model.options] {', '.join(clash)} follow from task and input rule; leave them out")
    return build_model(config.model.architecture, {**config.model.options, **fixed})


def _examination(engine: DataEngine, config: TrainConfig, outputs: range) -> dict[str, Batch]:
    windows = engine.draw(max(1, config.train.validation_windows // len(outputs)))
    return {
        "clean": prepare(windows, config.input, outputs, clean=True),
        "detected": prepare(windows, config.input, outputs),
    }


def _forward(model: Any, features: Tensor, loop: LoopConfig) -> Tensor:
    # One output per window: everything is strided. More: what neighbouring outputs have in common is shared.
    answer: Tensor = model.forward_strided(features, loop.stride if loop.outputs > 1 else None)
    return answer


def _loss(predicted: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    if config.model.task == "trajectory":
        return losses.weighted_mpjpe(decode_root(predicted[:, :, 0], batch.centre, batch.spread), batch.root)
    loss = losses.mpjpe(predicted, batch.joints)
    if config.train.velocity_weight > 0:
        loss = loss + config.train.velocity_weight * losses.velocity(predicted, batch.joints)
    return loss


def _flip_half(batch: Batch, generator: torch.Generator) -> Batch:
    """Mirror every other batch: features and labels alike."""
    if torch.rand(1, generator=generator).item() < 0.5:
        return batch
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=batch.root.device)
    return Batch(
        flip(batch.features, COCO17.flip_order),
        flip(batch.joints, H36M17.flip_order),
        batch.root * mirror,
        batch.centre * mirror[:2],
        batch.spread,
    )


def _chunks_due(loop: LoopConfig, step: int, chunk: int) -> int:
    """Chunks to renew before a step so that each window is used ``reuse`` times on average."""
    per_step = loop.batch / (loop.reuse * chunk)
    return int((step + 1) * per_step) - int(step * per_step)


def _set_learning_rate(optimizer: torch.optim.Optimizer, loop: LoopConfig, step: int) -> None:
    rising = min(1.0, (step + 1) / max(loop.warmup_steps, 1))
    falling = min(1.0, (loop.steps - step) / max(loop.decay_share * loop.steps, 1))
    for group in optimizer.param_groups:
        group["lr"] = loop.learning_rate * min(rising, falling)


def _set_batch_norm_momentum(model: nn.Module, loop: LoopConfig, step: int) -> None:
    first, last = loop.batch_norm_momentum
    momentum = first * (last / first) ** (step / loop.steps)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = momentum


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)


def _precision(loop: LoopConfig, device: str) -> bool:
    """Whether matrix products run in bfloat16."""
    if loop.precision != "auto":
        return loop.precision == "bfloat16"
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@contextlib.contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop after the step; a second one is not caught."""
    asked = False

    def handler(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        for number, old in previous.items():
            signal.signal(number, old)

    previous: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # not in the main thread: no signals to catch
        for caught in (signal.SIGINT, signal.SIGTERM):
            previous[caught] = signal.signal(caught, handler)
    try:
        yield lambda: asked
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


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
    # The number of steps may change: a run may be ended sooner or later than was planned.
    before, now = state["config"], config.as_dict()
    before["train"]["steps"] = now["train"]["steps"]
    if before != now:
        changed = [k for k, v in now.items() if before.get(k) != v]
        raise TrainingError(f"{path} belongs to another configuration: [{'], ['.join(changed)}] differ")
    return state


def _write_state(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    os.replace(partial, path)


def _copy(path: Path) -> Path:
    copied = path.with_name(path.name + ".copy")
    copied.write_bytes(path.read_bytes())
    return copied


def _append_row(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
