"""Optimizer, learning-rate schedule and averaged weights of a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vp3d_cli.errors import ConfigError
from vp3d_cli.train.config import LoopConfig, TrainConfig
from vp3d_cli.train.networks import PoseAndTrajectory

# Steps between updates of the averaged model's batch norm statistics, and the momentum of an update: half of the
# statistics are from the last hundred steps, for 4 % of the time. The first updates have equal weight.
STEPS_PER_STATISTICS_UPDATE = 8
_STATISTICS_MOMENTUM = 0.05
# PyTorch keeps the reset-gate, update-gate and state matrices of a gated recurrent unit as one.
_GATES = 3


class TrainingOptimizer(Protocol):
    """Methods of an optimizer that the training loop calls."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups, whose ``lr`` the schedule sets."""

    def step(self) -> Any:
        """Update the parameters from their gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`."""


def make_optimizer(model: nn.Module, loop: LoopConfig) -> TrainingOptimizer:
    """Create Muon with AdamW, AdamW, or the paper's Adam with AMSGrad (Reddi et al. 2018).

    Raises:
        ConfigError: this version of torch has no Muon.
    """
    if loop.optimizer == "muon":
        return MuonWithAdamW(model, loop.learning_rate, loop.weight_decay)
    if loop.optimizer == "adam-amsgrad":
        return torch.optim.Adam(model.parameters(), lr=loop.learning_rate, amsgrad=True)
    return torch.optim.AdamW(model.parameters(), lr=loop.learning_rate, weight_decay=loop.weight_decay)


class MuonWithAdamW:
    """``torch.optim.Muon`` for hidden matrices, ``torch.optim.AdamW`` for other parameters.

    Muon (Jordan et al. 2024) orthogonalizes the momentum of a weight matrix, so that directions in which gradients are
    rare are learned as fast as others. Its updates are scaled to the root mean square of AdamW's (Liu et al. 2025,
    section 2.2); both take the same learning rate and weight decay.

    ``torch.optim.Muon`` takes matrices only. Convolution weights (out, in, width) are passed as views
    (out, in * width), and each gate of a recurrent unit as a matrix of its own.

    Args:
        model: one network, or pose and trajectory. Hidden matrices are all weights of two dimensions or more except the
            first and the last of each network (of a bidirectional first layer, both directions).
        lr, weight_decay: as for AdamW.

    Raises:
        ConfigError: this version of torch has no Muon.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(
                f"[train] optimizer muon needs torch 2.9, found {torch.__version__}; update it or use adamw"
            )
        networks = (model.pose, model.trajectory) if isinstance(model, PoseAndTrajectory) else (model,)
        hidden = [p for network in networks for p in hidden_matrices(network)]
        gates = {id(p) for module in model.modules() if isinstance(module, nn.GRU) for p in module.parameters()}
        hidden.sort(key=lambda p: id(p) in gates)  # the order of states of versions with a Muon of their own
        self._matrices = [(p, _matrices(p, _GATES if id(p) in gates else 1)) for p in hidden]
        known = {id(p) for p in hidden}
        self.others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        self.hidden = hidden
        views = [view for _, views in self._matrices for view in views]
        self._muon: Any = torch.optim.Muon(  # its step() is untyped
            views, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(self.others, lr=lr, weight_decay=weight_decay)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of both optimizers."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for parameter, views in self._matrices:
            gradients = [None] * len(views) if parameter.grad is None else _parts(parameter.grad, len(views))
            for view, gradient in zip(views, gradients, strict=True):
                view.grad = gradient
        self._muon.step()
        self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients of all parameters."""
        for parameter in self.hidden:
            parameter.grad = None
        self._muon.zero_grad(set_to_none)
        self._adamw.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimizers."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both optimizers; states of versions with a Muon of their own are converted."""
        if "param_groups" in state_dict:
            state_dict = self._converted(state_dict)
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])

    def _converted(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a state with groups of matrices, other parameters and gates, all in one optimizer."""
        matrices, others, *gates = ([old["state"].get(i) for i in group["params"]] for group in old["param_groups"])
        hidden = [*matrices, *(gates[0] if gates else [])]
        momenta: list[Tensor | None] = []
        for state, (_, views) in zip(hidden, self._matrices, strict=True):
            momenta += [None] * len(views) if state is None else _parts(state["momentum"], len(views))
        adamw = {
            i: {"step": torch.tensor(float(s["step"])), "exp_avg": s["mean"], "exp_avg_sq": s["square"]}
            for i, s in enumerate(others)
            if s is not None
        }
        muon = {i: {"momentum_buffer": momentum} for i, momentum in enumerate(momenta) if momentum is not None}
        return {
            "muon": {**self._muon.state_dict(), "state": muon},
            "adamw": {**self._adamw.state_dict(), "state": adamw},
        }


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """Weights of two dimensions or more, without those that read the input or make the output."""
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
    # The other direction of a bidirectional first layer reads the network's input as well.
    inputs = {
        id(p)
        for module in network.modules()
        if isinstance(module, nn.GRU)
        for name, p in module.named_parameters()
        if name.startswith("weight_ih") and p.shape == matrices[0].shape
    }
    return [p for p in matrices[1:-1] if id(p) not in inputs]


def _matrices(parameter: nn.Parameter, parts: int) -> list[nn.Parameter]:
    """Parameters that share memory with the matrices in another one."""
    return [nn.Parameter(part) for part in _parts(parameter.data, parts)]


def _parts(values: Tensor, parts: int) -> list[Tensor]:
    """ViewStore (M, N) of a tensor (parts * M, ...)."""
    return list(values.flatten(1).chunk(parts))


@dataclass(frozen=True)
class Schedule:
    """Length, learning rates and validation steps of a run, which ends after a number of steps or minutes.

    Methods that take ``used_s``, the seconds of training so far, need it for a run that ends after minutes.

    Attributes:
        loop: configuration of the loop.
        steps: optimizer steps in all; the step at which a run of minutes would end is unknown.
        windows: labelled windows in an epoch; None for generated data.
        batch: labelled windows in a step.
        warmup: steps without unlabelled windows.
    """

    loop: LoopConfig
    steps: int
    windows: int | None
    batch: int
    warmup: int

    @classmethod
    def of(cls, config: TrainConfig, epoch: int | None) -> Schedule:
        """Create the schedule of a run with so many labelled windows in an epoch."""
        steps, warmup, batch = config.train.steps, config.semi.warmup_steps, config.labelled_batch
        if epoch is not None:
            # Rounded up, because an epoch usually ends within a step.
            steps = -(-config.train.epochs * epoch // batch) if config.train.epochs else steps
            warmup += -(-config.semi.warmup_epochs * epoch // batch)
        return cls(config.train, steps, epoch, batch, warmup)

    def epoch(self, step: int) -> int:
        """Return the epoch in which a step starts."""
        return 0 if self.windows is None else step * self.batch // self.windows

    def progress(self, step: int, used_s: float = 0.0) -> float:
        """Return the share of the steps or minutes that is done, from 0; 1 or more at the end."""
        return used_s / (60 * self.loop.minutes) if self.loop.minutes else step / self.steps

    def steps_in_all(self, step: int, used_s: float = 0.0) -> int:
        """Return the number of steps at the end, which is an estimate in a run that ends after minutes."""
        if not self.loop.minutes:
            return self.steps
        done = self.progress(step, used_s)
        return max(step, round(step / done)) if 0 < done < 1 else step

    def validates(self, step: int, used_s: float = 0.0) -> bool:
        """Return whether the run validates after so many steps."""
        if self.progress(step, used_s) >= 1:
            return True
        if self.loop.validate_every:
            return step % self.loop.validate_every == 0
        return self.epoch(step) > self.epoch(step - 1)

    def learning_rate(self, step: int, used_s: float = 0.0) -> float:
        """Return the learning rate of a step, with warm-up, linear decay and epoch decay."""
        loop = self.loop
        rising = min(1.0, (step + 1) / max(loop.warmup_steps, 1))
        falling = min(1.0, (self.steps - step) / max(loop.decay_share * self.steps, 1))
        if loop.minutes:
            left = max(0.0, 1 - self.progress(step, used_s))
            falling = min(1.0, left / max(loop.decay_share, 1e-9))
        return float(loop.learning_rate * min(rising, falling) * loop.epoch_decay ** self.epoch(step))

    def prepare(self, optimizer: TrainingOptimizer, model: nn.Module, step: int, used_s: float = 0.0) -> None:
        """Set the learning rate, and the momentum of every batch norm, for a step."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate(step, used_s)
        first, last = self.loop.batch_norm_momentum
        progress = min(self.progress(step, used_s), 1.0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = first * (last / first) ** progress


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Update the exponential moving average of the weights; a decay of 0 copies the model.

    Batch norm statistics are not averaged, because those of averaged weights are not the average of the statistics.
    They are updated by :func:`update_statistics`.
    """
    if not decay:
        average.load_state_dict(model.state_dict())
        return
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)


@contextlib.contextmanager
def update_statistics(average: nn.Module, step: int) -> Iterator[None]:
    """Context in which forward passes update the batch norm statistics of the average."""
    momentum = max(_STATISTICS_MOMENTUM, 1 / (1 + step // STEPS_PER_STATISTICS_UPDATE))
    norms = [module for module in average.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.train()
        norm.momentum = momentum
    try:
        with torch.no_grad():
            yield
    finally:
        average.eval()
