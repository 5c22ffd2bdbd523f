"""Muon: what it does to singular values, and that it agrees with PyTorch's own, which knows matrices only."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.paper.networks.recurrent import RecurrentConfig, RecurrentModel
from vp3d_cli.train.optimization import Muon, orthogonalized
from vp3d_cli.train.networks import PoseAndTrajectory


@pytest.mark.parametrize("shape", [(24, 24), (16, 80), (80, 16)])
def test_all_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalized(matrix)
    assert made.shape == matrix.shape
    values = torch.linalg.svdvals(made)
    assert 0.3 < values.min() <= values.max() < 1.3
    alike = (made * (left @ right)).sum() / made.norm() / (left @ right).norm()
    assert alike > 0.97


def test_hidden_matrices_move_as_with_the_muon_of_pytorch_and_the_rest_as_with_adamw() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 48), nn.Linear(48, 4))
    other = copy.deepcopy(model)
    hidden = other[1].weight
    rest = [parameter for parameter in other.parameters() if parameter is not hidden]
    ours = Muon(model, lr=0.01, weight_decay=0.1)
    theirs = [
        torch.optim.Muon([hidden], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.1),
    ]
    inputs = torch.randn(40, 6)
    for _ in range(3):
        for network, optimizers in ((model, [ours]), (other, theirs)):
            network.zero_grad()
            torch.autograd.backward(network(inputs).square().mean())
            for optimizer in optimizers:
                optimizer.step()
    for moved, expected in zip(model.parameters(), other.parameters(), strict=True):
        # Products are made in bfloat16 on both sides, but not in the same order.
        torch.testing.assert_close(moved, expected, rtol=0.02, atol=2e-4)


def test_of_a_temporal_model_first_and_last_layer_and_norms_are_left_to_adamw() -> None:
    model = TemporalModel(TemporalConfig(widths=(3, 3), channels=8))
    optimizer = Muon(model, lr=1e-3, weight_decay=0.0)
    matrices, others = optimizer.param_groups
    assert [p.shape for p in matrices["params"]] == [(8, 8, 3), (8, 8, 1)]
    assert len(matrices["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert any(p is model.expand_conv.weight for p in others["params"])
    assert any(p is model.shrink.weight for p in others["params"])


def test_of_two_networks_each_has_a_first_and_a_last_layer() -> None:
    pose, trajectory = (TemporalModel(TemporalConfig(widths=(3, 3), channels=8, out_joints=j)) for j in (17, 1))
    matrices, others = Muon(PoseAndTrajectory(pose, trajectory), lr=1e-3, weight_decay=0.0).param_groups
    assert [p.shape for p in matrices["params"]] == 2 * [(8, 8, 3), (8, 8, 1)]
    assert any(p is pose.shrink.weight for p in others["params"])
    assert any(p is trajectory.expand_conv.weight for p in others["params"])


@pytest.mark.parametrize(("layers", "causal"), [(1, False), (2, False), (3, True)])
def test_of_recurrent_models_both_directions_of_the_first_layer_are_left_to_adamw(layers: int, causal: bool) -> None:
    model = RecurrentModel(RecurrentConfig(frames=5, channels=8, layers=layers, causal=causal))
    matrices, others, gates = Muon(model, lr=1e-3, weight_decay=0.0).param_groups
    hidden = {id(p) for p in gates["params"]}
    first = model.past if model.lower is None else model.lower
    reading = [p for p in first.parameters() if p.shape == (24, 34)]
    reading += [] if model.future is None or model.lower else [model.future.weight_ih_l0]
    assert len(reading) == (1 if causal else 2)
    weights = {id(p) for p in model.parameters() if p.ndim == 2 and p is not model.last.weight}
    assert matrices["params"] == []
    assert hidden == weights - {id(p) for p in reading}
    assert len(hidden) + len(others["params"]) == len(list(model.parameters()))


def test_each_gate_of_a_recurrent_unit_is_a_matrix_of_its_own() -> None:
    torch.manual_seed(3)
    model = RecurrentModel(RecurrentConfig(frames=5, channels=32, layers=2, dropout=0.0))
    stacked = [model.past.weight_ih_l0, model.past.weight_hh_l0]
    before = [parameter.detach().clone() for parameter in stacked]
    torch.autograd.backward(model(torch.randn(64, 5, 17, 2)).square().mean())
    alone = [nn.Parameter(part) for parameter in before for part in parameter.clone().chunk(3)]
    for part, gradient in zip(alone, [g for p in stacked for g in _gradient(p).chunk(3)], strict=True):
        part.grad = gradient
    Muon(model, lr=0.01, weight_decay=0.1).step()
    torch.optim.Muon(alone, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw").step()
    moved = [part for parameter in stacked for part in parameter.chunk(3)]
    for ours, theirs in zip(moved, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=2e-4)
    # The gate that the loss feels least moves as far as the others.
    steps = [(part - was).norm() for part, was in zip(moved, [w for b in before for w in b.chunk(3)], strict=True)]
    for three in (steps[:3], steps[3:]):
        assert max(three) < 1.2 * min(three)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_a_state_of_before_there_were_gates_is_read() -> None:
    model = TemporalModel(TemporalConfig(widths=(3, 3), channels=8, dropout=0.0))
    state = Muon(model, lr=1e-3, weight_decay=0.0).state_dict()
    for group in state["param_groups"]:
        group["matrices"] = bool(group["matrices"])
    optimizer = Muon(model, lr=1e-3, weight_decay=0.0)
    optimizer.load_state_dict(state)
    torch.autograd.backward(model(torch.randn(4, 9, 17, 2)).square().mean())
    was = [parameter.clone() for parameter in model.parameters()]
    optimizer.step()
    assert not any(torch.equal(now, before) for now, before in zip(model.parameters(), was, strict=True))


def test_a_restored_muon_goes_on_exactly() -> None:
    def run(steps: int, interrupted: bool) -> torch.Tensor:
        torch.manual_seed(2)
        model = TemporalModel(TemporalConfig(widths=(3, 3), channels=8, dropout=0.0))
        inputs = torch.randn(4, 9, 17, 2)
        optimizer = Muon(model, lr=1e-3, weight_decay=0.01)
        for step in range(steps):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = Muon(model, lr=1e-3, weight_decay=0.01)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            torch.autograd.backward(model(inputs).square().mean())
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(run(5, interrupted=False), run(5, interrupted=True))
