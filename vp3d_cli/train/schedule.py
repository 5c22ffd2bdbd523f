"""What changes from step to step. All of it follows from the step alone, so that a resumed run has the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from vp3d_cli.train.config import LoopConfig, TrainConfig
from vp3d_cli.train.muon import Muon

# Steps between two looks of the averaged model at a batch, and what a look counts for its batch norm statistics: half
# of these are of the last hundred steps, for 4 % of the time. The first looks count alike.
STEPS_PER_LOOK = 8
_STATISTICS_MOMENTUM = 0.05


def make_optimizer(model: nn.Module, loop: LoopConfig) -> torch.optim.Optimizer:
    """Muon, AdamW, or the paper's: Adam with AMSGrad (Reddi et al. 2018) and no weight decay."""
    if loop.optimizer == "muon":
        return Muon(model, loop.learning_rate, loop.weight_decay)
    if loop.optimizer == "adam-amsgrad":
        return torch.optim.Adam(model.parameters(), lr=loop.learning_rate, amsgrad=True)
    return torch.optim.AdamW(model.parameters(), lr=loop.learning_rate, weight_decay=loop.weight_decay)


@dataclass(frozen=True)
class Schedule:
    """When what happens.

    Attributes:
        loop: configuration.
        steps: in all.
        windows, batch: of an epoch, and of a step, with labels; no windows where there are no epochs.
        warmup: steps in which the unlabelled half is left out.
    """

    loop: LoopConfig
    steps: int
    windows: int | None
    batch: int
    warmup: int

    @classmethod
    def of(cls, config: TrainConfig, epoch: int | None) -> Schedule:
        """Schedule of a run on labelled data with so many windows in an epoch."""
        steps, warmup, batch = config.train.steps, config.semi.warmup_steps, config.labelled_batch
        if epoch is not None:
            # Rounded up: an epoch ends within a step, as a rule.
            steps = -(-config.train.epochs * epoch // batch) if config.train.epochs else steps
            warmup += -(-config.semi.warmup_epochs * epoch // batch)
        return cls(config.train, steps, epoch, batch, warmup)

    def epoch(self, step: int) -> int:
        """The epoch that a step begins in."""
        return 0 if self.windows is None else step * self.batch // self.windows

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps."""
        if step == self.steps:
            return True
        if self.loop.validate_every:
            return step % self.loop.validate_every == 0
        return self.epoch(step) > self.epoch(step - 1)

    def learning_rate(self, step: int) -> float:
        """Of a step."""
        loop = self.loop
        rising = min(1.0, (step + 1) / max(loop.warmup_steps, 1))
        falling = min(1.0, (self.steps - step) / max(loop.decay_share * self.steps, 1))
        return float(loop.learning_rate * min(rising, falling) * loop.epoch_decay ** self.epoch(step))

    def prepare(self, optimizer: torch.optim.Optimizer, model: nn.Module, step: int) -> None:
        """Set the learning rate, and the momentum of every batch norm."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        first, last = self.loop.batch_norm_momentum
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = first * (last / first) ** (step / self.steps)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running average of the weights towards the model; without a decay, make it its copy.

    Batch norm statistics are not averaged: those of averaged weights are not the average of those of the weights. They
    are taken by :func:`observed`.
    """
    if not decay:
        average.load_state_dict(model.state_dict())
        return
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)


@contextlib.contextmanager
def observed(average: nn.Module, step: int) -> Iterator[None]:
    """What the average is shown within this moves its batch norm statistics, and nothing else."""
    momentum = max(_STATISTICS_MOMENTUM, 1 / (1 + step // STEPS_PER_LOOK))
    norms = [module for module in average.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.train()
        norm.momentum = momentum
    try:
        with torch.no_grad():
            yield
    finally:
        average.eval()
