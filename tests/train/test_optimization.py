"""Muon with AdamW: which parameters each optimizer takes, and that states can be restored."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.paper.networks.recurrent import RecurrentConfig, RecurrentModel
from vp3d_cli.train.config import parse_config
from vp3d_cli.train.networks import PoseAndTrajectory
from vp3d_cli.train.optimization import MuonWithAdamW, Schedule


def test_hidden_matrices_move_as_with_the_muon_of_pytorch_and_the_rest_as_with_adamw() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 48), nn.Linear(48, 4))
    other = copy.deepcopy(model)
    hidden = other[1].weight
    rest = [parameter for parameter in other.parameters() if parameter is not hidden]
    ours = MuonWithAdamW(model, lr=0.01, weight_decay=0.1)
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
        assert torch.equal(moved, expected)


def test_of_a_temporal_model_first_and_last_layer_and_norms_are_left_to_adamw() -> None:
    model = TemporalModel(TemporalConfig(widths=(3, 3), channels=8))
    optimizer = MuonWithAdamW(model, lr=1e-3, weight_decay=0.0)
    assert [p.shape for p in optimizer.hidden] == [(8, 8, 3), (8, 8, 1)]
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(8, 24), (8, 8)]
    assert len(optimizer.hidden) + len(optimizer.others) == len(list(model.parameters()))
    assert any(p is model.expand_conv.weight for p in optimizer.others)
    assert any(p is model.shrink.weight for p in optimizer.others)


def test_of_two_networks_each_has_a_first_and_a_last_layer() -> None:
    pose, trajectory = (TemporalModel(TemporalConfig(widths=(3, 3), channels=8, out_joints=j)) for j in (17, 1))
    optimizer = MuonWithAdamW(PoseAndTrajectory(pose, trajectory), lr=1e-3, weight_decay=0.0)
    assert [p.shape for p in optimizer.hidden] == 2 * [(8, 8, 3), (8, 8, 1)]
    assert any(p is pose.shrink.weight for p in optimizer.others)
    assert any(p is trajectory.expand_conv.weight for p in optimizer.others)


@pytest.mark.parametrize(("layers", "causal"), [(1, False), (2, False), (3, True)])
def test_of_recurrent_models_both_directions_of_the_first_layer_are_left_to_adamw(layers: int, causal: bool) -> None:
    model = RecurrentModel(RecurrentConfig(frames=5, channels=8, layers=layers, causal=causal))
    optimizer = MuonWithAdamW(model, lr=1e-3, weight_decay=0.0)
    hidden = {id(p) for p in optimizer.hidden}
    first = model.past if model.lower is None else model.lower
    reading = [p for p in first.parameters() if p.shape == (24, 34)]
    reading += [] if model.future is None or model.lower else [model.future.weight_ih_l0]
    assert len(reading) == (1 if causal else 2)
    weights = {id(p) for p in model.parameters() if p.ndim == 2 and p is not model.last.weight}
    assert hidden == weights - {id(p) for p in reading}
    assert len(hidden) + len(optimizer.others) == len(list(model.parameters()))


def test_each_gate_of_a_recurrent_unit_is_a_matrix_of_its_own() -> None:
    torch.manual_seed(3)
    model = RecurrentModel(RecurrentConfig(frames=5, channels=32, layers=2, dropout=0.0))
    stacked = [model.past.weight_ih_l0, model.past.weight_hh_l0]
    before = [parameter.detach().clone() for parameter in stacked]
    torch.autograd.backward(model(torch.randn(64, 5, 17, 2)).square().mean())
    alone = [nn.Parameter(part) for parameter in before for part in parameter.clone().chunk(3)]
    for part, gradient in zip(alone, [g for p in stacked for g in _gradient(p).chunk(3)], strict=True):
        part.grad = gradient
    MuonWithAdamW(model, lr=0.01, weight_decay=0.1).step()
    torch.optim.Muon(alone, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw").step()
    moved = [part for parameter in stacked for part in parameter.chunk(3)]
    for ours, theirs in zip(moved, alone, strict=True):
        assert torch.equal(ours, theirs)
    # Each gate moves equally far, also the one with the smallest gradient.
    steps = [(part - was).norm() for part, was in zip(moved, [w for b in before for w in b.chunk(3)], strict=True)]
    for three in (steps[:3], steps[3:]):
        assert max(three) < 1.2 * min(three)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def old_state(model: nn.Module, optimizer: MuonWithAdamW, gates: bool) -> dict[str, Any]:
    """The state of ``optimizer`` in the format of versions with a Muon of their own: all groups in one optimizer."""
    new = copy.deepcopy(optimizer.state_dict())
    state: dict[int, dict[str, Any]] = {}
    momenta = [entry["momentum_buffer"] for entry in new["muon"]["state"].values()]
    groups: dict[str, list[int]] = {"matrices": [], "others": [], "gates": []}
    for parameter in optimizer.hidden:
        parts = 3 if gates else 1
        groups["gates" if gates else "matrices"].append(len(state))
        state[len(state)] = {"momentum": torch.cat([momenta.pop(0) for _ in range(parts)]).view_as(parameter)}
    for entry in new["adamw"]["state"].values():
        groups["others"].append(len(state))
        state[len(state)] = {"step": int(entry["step"]), "mean": entry["exp_avg"], "square": entry["exp_avg_sq"]}
    names = ["matrices", "others", *(["gates"] if gates else [])]
    return {"state": state, "param_groups": [{"params": groups[name], "matrices": name} for name in names]}


@pytest.mark.parametrize("recurrent", [False, True])
def test_states_of_versions_with_their_own_muon_are_read(recurrent: bool) -> None:
    def network() -> nn.Module:
        torch.manual_seed(4)
        if recurrent:
            return RecurrentModel(RecurrentConfig(frames=9, channels=8, layers=2, dropout=0.0))
        return TemporalModel(TemporalConfig(widths=(3, 3), channels=8, dropout=0.0))

    def step(model: nn.Module, optimizer: MuonWithAdamW) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.ones(4, 9, 17, 2)).square().mean())
        optimizer.step()

    model, other = network(), network()
    optimizer, restored = (MuonWithAdamW(m, lr=1e-3, weight_decay=0.01) for m in (model, other))
    step(model, optimizer)
    other.load_state_dict(model.state_dict())
    restored.load_state_dict(old_state(model, optimizer, recurrent))
    step(model, optimizer)
    step(other, restored)
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_torch_without_muon_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ConfigError, match=r"muon needs torch 2\.9"):
        MuonWithAdamW(TemporalModel(TemporalConfig(widths=(3, 3), channels=8)), lr=1e-3, weight_decay=0.0)


def test_a_restored_muon_goes_on_exactly() -> None:
    def run(steps: int, interrupted: bool) -> torch.Tensor:
        torch.manual_seed(2)
        model = TemporalModel(TemporalConfig(widths=(3, 3), channels=8, dropout=0.0))
        inputs = torch.randn(4, 9, 17, 2)
        optimizer = MuonWithAdamW(model, lr=1e-3, weight_decay=0.01)
        for step in range(steps):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = MuonWithAdamW(model, lr=1e-3, weight_decay=0.01)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            torch.autograd.backward(model(inputs).square().mean())
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(run(5, interrupted=False), run(5, interrupted=True))


def test_a_schedule_of_minutes_follows_the_time_and_not_the_steps() -> None:
    loop = {"minutes": 10.0, "decay_share": 0.5, "warmup_steps": 2, "learning_rate": 1e-3, "steps": 5}
    schedule = Schedule.of(parse_config({"data": {"motion": ["m.npz"]}, "train": loop}, "test"), None)
    assert schedule.learning_rate(0, 0.0) == pytest.approx(5e-4)
    assert [schedule.learning_rate(1000, s) for s in (0, 300, 450, 600, 700)] == pytest.approx([1e-3, 1e-3, 5e-4, 0, 0])
    assert [schedule.progress(1000, s) for s in (0, 300, 600)] == pytest.approx([0, 0.5, 1])
    assert [schedule.steps_in_all(100, s) for s in (0, 300, 600)] == [100, 200, 100]
    assert schedule.validates(7, 600.0)
    assert not schedule.validates(7, 599.0)
    model = TemporalModel(TemporalConfig(widths=(3,), channels=8))
    schedule.prepare(torch.optim.Adam(model.parameters()), model, 77, 300.0)
    momenta = [module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    assert momenta == pytest.approx([0.01] * len(momenta))


def test_a_schedule_of_steps_does_not_look_at_the_time() -> None:
    config = parse_config({"data": {"motion": ["m.npz"]}, "train": {"steps": 50, "decay_share": 0.4}}, "test")
    schedule = Schedule.of(config, None)
    assert schedule.learning_rate(40, 1e6) == schedule.learning_rate(40)
    assert (schedule.steps_in_all(40, 1e6), schedule.progress(25, 1e6)) == (50, 0.5)
