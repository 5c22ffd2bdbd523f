"""Muon: what it does to singular values, and that it agrees with PyTorch's own, which knows matrices only."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.train.muon import Muon, orthogonalized
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
