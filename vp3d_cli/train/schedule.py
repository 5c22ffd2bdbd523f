"""What changes from step to step. All of it follows from the step alone, so that a resumed run has the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vp3d_cli.train.config import LoopConfig, TrainConfig
from vp3d_cli.train.muon import Muon


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
    """Move the running average of the weights, and of all that goes with them, towards the model."""
    for ours, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)
