"""Muon (Jordan et al. 2024): momentum whose singular values are all made one, for the matrices in a network's middle.

Adam scales every number of a weight matrix by itself; Muon takes the matrix as a whole, so directions that gradients
seldom point in are learned as fast as the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vp3d_cli.train.networks import PoseAndTrajectory

# A quintic iteration that drives singular values in (0, 1] to about 0.7 to 1.2: fast rather than exact (Jordan et al.).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
# Matrices of a gated recurrent unit that PyTorch keeps as one: those of the reset gate, the update gate and the state.
_GATES = 3
# Root-mean-square size of Adam's updates, to which those of matrices are scaled (Liu et al. 2025, section 2.2): then
# both kinds of parameters take the same learning rate and weight decay.
_ADAM_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices, AdamW for all other parameters.

    Args:
        model: one network, or pose and trajectory; weights of two dimensions or more are hidden matrices, but for the
            first and the last of each network. Of gated recurrent units, each gate's is a matrix of its own, and both
            directions of the first layer are the first.
        lr, weight_decay: as AdamW's, for both.
        momentum: of Muon, in Nesterov's form.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        networks = (model.pose, model.trajectory) if isinstance(model, PoseAndTrajectory) else (model,)
        hidden = [p for network in networks for p in _hidden_matrices(network)]
        stacked = {id(p) for module in model.modules() if isinstance(module, nn.GRU) for p in module.parameters()}
        matrices, gates = [p for p in hidden if id(p) not in stacked], [p for p in hidden if id(p) in stacked]
        known = {id(p) for p in hidden}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": matrices, "matrices": 1}, {"params": others, "matrices": 0}]
        if gates:
            groups.append({"params": gates, "matrices": _GATES})
        super().__init__(
            groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": (0.9, 0.999), "eps": 1e-8}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon evaluates no closure")
        for group in self.param_groups:
            move = self._move_matrix if group["matrices"] else self._move_other
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move(parameter, parameter.grad, group)

    def _move_matrix(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        # As int, because states of before there were gates have True.
        parts = torch.lerp(gradient, average, group["momentum"]).flatten(1).chunk(int(group["matrices"]))
        update = torch.cat([orthogonalized(part) for part in parts])
        size = _ADAM_RMS * max(parts[0].shape) ** 0.5
        parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)

    def _move_other(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        first, second = group["betas"]
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["step"])
        square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second ** state["step"])
        parameter.addcdiv_(mean, square.sqrt_().add_(group["eps"]), value=-group["lr"])


def _hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
    # The other direction of a recurrent first layer reads the network's input as well.
    inputs = {
        id(p)
        for module in network.modules()
        if isinstance(module, nn.GRU)
        for name, p in module.named_parameters()
        if name.startswith("weight_ih") and p.shape == matrices[0].shape
    }
    return [p for p in matrices[1:-1] if id(p) not in inputs]


def orthogonalized(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal factor U V^T of a matrix U S V^T (M, N), of the same type; computed in bfloat16."""
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrix.dtype)
