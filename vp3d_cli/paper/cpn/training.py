"""Training of the Cascaded Pyramid Network (Chen et al. 2018, sections 3 and 4.1)."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from vp3d_cli.detect.cpn.detector import GROW_XY, SIZES, CpnEstimator
from vp3d_cli.detect.cpn.network import Cpn, CpnConfig, build_from_state
from vp3d_cli.detect.crops import crop_transform
from vp3d_cli.detect.keypoint_similarity import OKS_SIGMAS
from vp3d_cli.detect.torch_tools import read_checkpoint
from vp3d_cli.errors import ConfigError, OutputError, TrainingError
from vp3d_cli.paper.cpn.coco import LabelledPerson, read_people
from vp3d_cli.paper.cpn.data import NO_AUGMENTATION, Augmentation, Samples, read_image
from vp3d_cli.train.run_files import append_row, stop_requested, write_state

FORMAT = "vp3d-cpn/1"
STATE_VERSION = 1
HARD_KEYPOINTS = 8  # RefineNet is trained on the worst 8 of 17 (Chen et al. 2018, section 3.2 and table 6)
# Learning-rate levels over a run, each half the previous one; the community's port halves it every 6 of 32 epochs.
_LEVELS = 6
_MAX_VALIDATION_PEOPLE = 512


@dataclass(frozen=True)
class CpnTraining:
    """Configuration of a training run; the defaults are the paper's.

    Attributes:
        network: architecture of the network.
        size: height x width of the input.
        steps: optimizer steps in all.
        batch: people per step.
        learning_rate: learning rate of Adam, halved five times over the run.
        weight_decay: L2 penalty.
        held_out: share of the images for validation; 0 validates on the training images.
        augment: augment the crops.
        validate_every: steps between validations.
        workers: processes that prepare samples; 0 uses the main process.
        seed: seed of all random numbers.

    Raises:
        ConfigError: a value is out of range.
    """

    network: CpnConfig = CpnConfig()
    size: str = "256x192"
    steps: int = 150_000
    batch: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 1e-5
    held_out: float = 0.05
    augment: bool = True
    validate_every: int = 2_000
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ConfigError(f"unknown input size {self.size!r} of cpn; choose one of {', '.join(SIZES)}")
        if min(self.steps, self.validate_every) < 1 or self.batch < 2 or self.workers < 0:
            raise ConfigError(
                "steps and validate_every must be at least 1, batch at least 2 and workers at least 0, got "
                f"{self.steps}, {self.validate_every}, {self.batch} and {self.workers}"
            )
        if not 0 <= self.held_out < 1 or not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ConfigError(
                "held_out must be in 0..1, learning_rate above 0 and weight_decay at least 0, got "
                f"{self.held_out}, {self.learning_rate} and {self.weight_decay}"
            )


@dataclass(frozen=True)
class CpnResult:
    """Files of a training run, and how it ended.

    Attributes:
        best, last: weights, safetensors.
        log: CSV file with one row per validation.
        similarity: OKS of the best weights.
        finished: False if the run was interrupted; it can be resumed.
    """

    best: Path
    last: Path
    log: Path
    similarity: float
    finished: bool


def heatmap_loss(levels: Sequence[Tensor], refined: Tensor, targets: Tensor, visibility: Tensor) -> Tensor:
    """Squared heatmap errors of GlobalNet, and of RefineNet for the hardest keypoints.

    As in the authors' training, GlobalNet is trained on visible keypoints, with empty maps for others; RefineNet is
    also trained on occluded ones, and ignores unlabelled keypoints.

    Args:
        levels: four maps (N, 17, h, w) of GlobalNet, coarse to fine.
        refined: (N, 17, h, w) maps of RefineNet.
        targets: (N, 4, 17, h, w), coarse to fine.
        visibility: (N, 17) 0, 1 or 2.
    """
    visible = (visibility == 2).float()[:, :, None, None]
    total = refined.new_zeros(())
    for level, maps in enumerate(levels):
        total = total + (maps - targets[:, level] * visible).square().mean() / 2
    each = (refined - targets[:, -1]).square().mean(dim=(2, 3)) * (visibility > 0).float()
    return total + each.topk(HARD_KEYPOINTS, dim=1).values.mean()


def train_cpn(
    annotations: Path,
    images: Path,
    out: Path,
    config: CpnTraining,
    *,
    device: str = "cpu",
    resume: bool = False,
    start_from: Path | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_validation: Callable[[dict[str, float]], None] | None = None,
) -> CpnResult:
    """Train a CPN on annotations in COCO's format.

    Args:
        annotations, images: see :func:`vp3d_cli.paper.cpn.coco.read_people`.
        out: folder for ``best.safetensors``, ``last.safetensors``, ``state.pt`` and ``log.csv``.
        config: configuration of the run.
        device: ``cpu`` or ``cuda``.
        resume: continue from ``state.pt``; the result is that of an uninterrupted run.
        start_from: weights of a CPN, or of a ResNet with torchvision's names, that a new run starts from.
        on_step: called with (step, steps, loss).
        on_validation: called with each row of the log.

    Raises:
        InputError: the annotations or an image are unusable.
        TrainingError: there is no state to resume, or it has another configuration.
        WeightsError: ``start_from`` does not fit.
    """
    training, held_out = split(read_people(annotations, images), config)
    torch.manual_seed(config.seed)
    run = _Run(starting_model(config.network, start_from).to(device), config, out)
    if resume:
        run.resume()
    elif run.state_path.exists():
        raise TrainingError(f"{out} holds another run; continue it with --resume, or choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    loss_sum, loss_count, started = 0.0, 0, time.perf_counter()
    with stop_requested() as stopped:
        for image, targets, visibility in _batches(training, config, run.step):
            loss = run.update(image.to(device), targets.to(device), visibility.to(device))
            loss_sum, loss_count = loss_sum + loss, loss_count + 1
            if on_step is not None:
                on_step(run.step, config.steps, loss)
            if run.step % config.validate_every == 0 or run.step == config.steps:
                row = {"step": float(run.step), "loss": loss_sum / loss_count}
                row |= validate(run.model, held_out or training, config)
                row["seconds"] = time.perf_counter() - started
                run.save(row)
                loss_sum, loss_count = 0.0, 0
                if on_validation is not None:
                    on_validation(row)
            if stopped():
                run.save_state()
                break
    return CpnResult(run.best_path, run.last_path, run.log_path, run.best, run.step >= config.steps)


class _Run:
    """Network, optimizer and files of a run."""

    def __init__(self, model: Cpn, config: CpnTraining, out: Path) -> None:
        self.model = model
        self.config = config
        self.step, self.best = 0, -1.0
        self.best_path, self.last_path = out / "best.safetensors", out / "last.safetensors"
        self.state_path, self.log_path = out / "state.pt", out / "log.csv"
        self._optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)

    def update(self, image: Tensor, targets: Tensor, visibility: Tensor) -> float:
        """Update the weights from a batch and return its loss."""
        # The learning rate follows from the step alone, so that a resumed run is the same.
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 ** (_LEVELS * self.step // self.config.steps)
        self.model.train()
        levels, refined = self.model(image)
        loss = heatmap_loss(levels, refined, targets, visibility)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self.step += 1
        return loss.item()

    def save(self, row: dict[str, float]) -> None:
        """Save log, weights and state after a validation; the best weights separately."""
        append_row(self.log_path, row)
        _save_weights(self.last_path, self.model, self.config, row)
        if row["similarity"] > self.best:
            self.best = row["similarity"]
            _save_weights(self.best_path, self.model, self.config, row)
        self.save_state()

    def save_state(self) -> None:
        """Save the state that a resumed run needs."""
        content = {"version": STATE_VERSION, "config": asdict(self.config), "step": self.step, "best": self.best}
        tensors = {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}
        write_state(self.state_path, {**content, **tensors})

    def resume(self) -> None:
        """Restore the saved state.

        Raises:
            TrainingError: there is no state, or it has another configuration.
        """
        state = _read_state(self.state_path, self.config)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]


def split(people: Sequence[LabelledPerson], config: CpnTraining) -> tuple[list[LabelledPerson], list[LabelledPerson]]:
    """Split people by image into training and validation.

    Raises:
        TrainingError: nobody is left for training.
    """
    files = sorted({person.image for person in people})
    order = np.random.default_rng(config.seed).permutation(len(files))
    kept = {files[i] for i in order[: round(config.held_out * len(files))]}
    training = [person for person in people if person.image not in kept]
    if not training:
        raise TrainingError(f"all {len(files)} images are held out; lower --held-out")
    return training, [person for person in people if person.image in kept]


def starting_model(network: CpnConfig, start_from: Path | None) -> Cpn:
    """Create a network with random weights, those of a CPN, or the backbone of a ResNet.

    Raises:
        WeightsError: the weights do not fit.
    """
    model = Cpn(network)
    model.initialise()
    if start_from is None:
        return model
    state, _ = read_checkpoint(start_from)
    if "fc.weight" in state:  # torchvision's ResNet classifier, trained on ImageNet as in the paper
        backbone = {f"resnet.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
        state = {**{name: t for name, t in model.state_dict().items() if not name.startswith("resnet.")}, **backbone}
    loaded = build_from_state(state, start_from)
    if loaded.config != network:
        raise ConfigError(f"{start_from} holds a {loaded.config.name}, but a {network.name} is to be trained")
    return loaded


@torch.inference_mode()
def validate(model: Cpn, people: Sequence[LabelledPerson], config: CpnTraining) -> dict[str, float]:
    """Measure errors on labelled people, cropped at the labelled box, without flip test.

    Returns:
        ``error_px``: median distance of labelled keypoints in pixels of the network input; ``similarity``: mean object
        keypoint similarity (OKS of COCO's keypoint evaluation), 1 for perfect keypoints.
    """
    chosen = people[:: max(1, -(-len(people) // _MAX_VALIDATION_PEOPLE))]
    on = next(model.parameters()).device
    estimator = CpnEstimator(model, SIZES[config.size], "", on, flip=False, crops=config.batch)
    distances: list[NDArray[np.float64]] = []
    similarities = []
    for start in range(0, len(chosen), config.batch):
        part = chosen[start : start + config.batch]
        boxes = np.stack([person.box_xyxy for person in part]).astype(np.float32)
        found, _ = estimator.estimate([read_image(person) for person in part], boxes)
        for person, keypoints in zip(part, found.astype(np.float64), strict=True):
            labelled = person.visibility > 0
            away = np.linalg.norm(keypoints - person.keypoints, axis=1)[labelled]
            scale = np.sqrt(abs(np.linalg.det(crop_transform(person.box_xyxy, SIZES[config.size], GROW_XY)[:, :2])))
            distances.append(away * scale)
            spread = 2 * person.area * (2 * OKS_SIGMAS[labelled]) ** 2
            similarities.append(float(np.exp(-(away**2) / spread).mean()))
    return {"error_px": float(np.median(np.concatenate(distances))), "similarity": float(np.mean(similarities))}


def _batches(people: Sequence[LabelledPerson], config: CpnTraining, step: int) -> DataLoader[Any]:
    """Batches from a step to the end of the run."""
    augmentation = Augmentation() if config.augment else NO_AUGMENTATION
    samples = Samples(people, SIZES[config.size], augmentation, config.seed)
    numbers = range(step * config.batch, config.steps * config.batch)
    return DataLoader(samples, config.batch, sampler=numbers, num_workers=config.workers)


def _save_weights(path: Path, model: Cpn, config: CpnTraining, row: dict[str, float]) -> None:
    """Write weights for ``--detector cpn:weights=`` atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    training = json.dumps({**asdict(config), **row})
    metadata = {"format": FORMAT, "input_size": config.size, "network": config.network.name, "training": training}
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(save(tensors, metadata))
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _read_state(path: Path, config: CpnTraining) -> dict[str, Any]:
    if not path.is_file():
        raise TrainingError(f"nothing to resume at {path}; leave out --resume to start a run")
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state.get("version") != STATE_VERSION:
        raise TrainingError(
            f"{path} has state version {state.get('version')}, this vp3d reads {STATE_VERSION}; start a new run"
        )
    changed = [name for name, value in asdict(config).items() if state["config"].get(name) != value]
    if changed:
        raise TrainingError(f"{path} belongs to another configuration: {', '.join(changed)} differ")
    return state
