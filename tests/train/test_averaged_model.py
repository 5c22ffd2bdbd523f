"""The averaged model: its weights follow, its batch norm statistics are its own."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vp3d_cli.train.optimization import STEPS_PER_STATISTICS_UPDATE, update_average, update_statistics


class Network(nn.Module):
    """One layer with batch norm, and dropout, which would change the statistics of another layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.dropout = nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.norm(self.layer(x)))
        return y


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def test_weights_move_towards_the_model_and_statistics_stay() -> None:
    average, model = network().eval(), network()
    nn.init.constant_(model.layer.weight, 2.0)
    model(torch.randn(64, 5) + 3)
    before = copy.deepcopy(average.state_dict())
    update_average(average, model, 0.9)
    torch.testing.assert_close(average.layer.weight, 0.9 * before["layer.weight"] + 0.2)
    assert torch.equal(average.norm.running_mean, before["norm.running_mean"])


def test_without_an_average_everything_is_a_copy() -> None:
    average, model = network().eval(), network()
    nn.init.constant_(model.layer.weight, 2.0)
    model(torch.randn(64, 5) + 3)
    update_average(average, model, 0.0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(average.state_dict()[name], tensor), name


def test_statistics_converge_to_those_of_the_averaged_model() -> None:
    average = network().eval()
    weights = copy.deepcopy(dict(average.named_parameters()))
    inputs = 2 * torch.randn(40, 256, 5) + 1
    for update, batch in enumerate(inputs):
        with update_statistics(average, 1 + update * STEPS_PER_STATISTICS_UPDATE):
            average(batch)
    assert not average.norm.training
    hidden = average.layer(inputs.flatten(0, 1))
    torch.testing.assert_close(average.norm.running_mean, hidden.mean(0), rtol=0.05, atol=0.05)
    torch.testing.assert_close(average.norm.running_var, hidden.var(0), rtol=0.05, atol=0.05)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in average.named_parameters())


def test_the_first_update_replaces_the_statistics() -> None:
    average = network().eval()
    batch = torch.randn(256, 5) + 4
    with update_statistics(average, 1):
        average(batch)
    torch.testing.assert_close(average.norm.running_mean, average.layer(batch).mean(0))
