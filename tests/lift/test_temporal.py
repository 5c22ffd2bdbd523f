"""The temporal convolution network: its size, its two forms, what it sees."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vp3d_cli.errors import ConfigError, ShapeError
from vp3d_cli.lift.temporal import (
    TemporalConfig,
    TemporalModel,
    count_parameters,
    pad_edges,
    widths_for,
)

SMALL = [
    TemporalConfig(widths=(3, 3, 3), channels=12),
    TemporalConfig(widths=(3, 3, 3), channels=12, causal=True),
    TemporalConfig(widths=(5, 3), channels=8, in_features=3),
    TemporalConfig(widths=(3, 5, 1), channels=8, in_features=3, causal=True),
    TemporalConfig(widths=(3,), channels=8),
    TemporalConfig(widths=(1,), channels=8, out_joints=1),
]


def as_if_trained(config: TemporalConfig, seed: int = 0) -> TemporalModel:
    """A network in evaluation mode whose batch norms are far from where they start."""
    torch.manual_seed(seed)
    model = TemporalModel(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for values in (module.running_mean, module.bias):
                assert values is not None
                nn.init.normal_(values, 0.0, 0.5)
            for values in (module.running_var, module.weight):
                assert values is not None
                nn.init.uniform_(values, 0.3, 2.0)
    return model


def inputs_for(config: TemporalConfig, frames: int, batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, frames, config.in_joints, config.in_features)


@torch.inference_mode()
def plain(model: TemporalModel, inputs: Tensor) -> Tensor:
    """The paper's figure 2 in torch's own convolutions over (batch, channels, time), in double precision."""
    config = model.config
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def layer(x: Tensor, conv: str, norm: str, dilation: int = 1) -> Tensor:
        x = F.conv1d(x, state[f"{conv}.weight"], dilation=dilation)
        stats = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
        x = F.batch_norm(x, *stats, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5)
        return torch.relu(x)

    x = inputs.double().reshape(*inputs.shape[:2], -1).transpose(1, 2)
    x = layer(x, "expand_conv", "expand_bn")
    for i in range(1, len(config.widths)):
        dilation = math.prod(config.widths[:i])
        reach = (config.widths[i] - 1) * dilation
        start = reach if config.causal else reach // 2
        residual = x[:, :, start : start + x.shape[2] - reach]
        x = layer(x, f"layers_conv.{2 * i - 2}", f"layers_bn.{2 * i - 2}", dilation)
        x = layer(x, f"layers_conv.{2 * i - 1}", f"layers_bn.{2 * i - 1}") + residual
    x = F.conv1d(x, state["shrink.weight"], state["shrink.bias"])
    return x.transpose(1, 2).reshape(len(inputs), -1, config.out_joints, 3)


@pytest.mark.parametrize(("levels", "parameters"), [(3, 8_555_571), (4, 12_753_971), (5, 16_952_371)])
def test_parameter_counts_of_the_paper(levels: int, parameters: int) -> None:
    with torch.device("meta"):
        model = TemporalModel(TemporalConfig(widths=(3,) * levels, channels=1024))
    assert count_parameters(model) == parameters
    assert model.config.receptive_field == 3**levels


def test_names_and_shapes_of_the_official_checkpoints() -> None:
    norms = ("expand_bn", "layers_bn.0", "layers_bn.1", "layers_bn.2", "layers_bn.3")
    expected: dict[str, tuple[int, ...]] = {
        "expand_conv.weight": (1024, 34, 3),
        "layers_conv.0.weight": (1024, 1024, 3),
        "layers_conv.1.weight": (1024, 1024, 1),
        "layers_conv.2.weight": (1024, 1024, 3),
        "layers_conv.3.weight": (1024, 1024, 1),
        "shrink.weight": (51, 1024, 1),
        "shrink.bias": (51,),
    }
    for norm in norms:
        expected |= {f"{norm}.{name}": (1024,) for name in ("weight", "bias", "running_mean", "running_var")}
        expected[f"{norm}.num_batches_tracked"] = ()
    with torch.device("meta"):
        state = TemporalModel(TemporalConfig(widths=(3, 3, 3), channels=1024)).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


@pytest.mark.parametrize("config", SMALL)
def test_strided_equals_dilated(config: TemporalConfig) -> None:
    model, inputs = as_if_trained(config), inputs_for(config, config.receptive_field, batch=5)
    with torch.inference_mode():
        difference = (model.forward_strided(inputs) - model(inputs)).abs().max()
    assert difference < 1e-5


@pytest.mark.parametrize("config", SMALL)
def test_outputs_that_are_apart_equal_those_of_the_dilated_form(config: TemporalConfig) -> None:
    model = as_if_trained(config)
    for stride in config.strides:
        inputs = inputs_for(config, config.receptive_field + 4 * stride)
        with torch.inference_mode():
            difference = (model.forward_strided(inputs, stride) - model(inputs)[:, ::stride]).abs().max()
        assert difference < 1e-5
    with pytest.raises(ShapeError, match="stride must be one of 1, "):
        model.forward_strided(inputs, config.receptive_field + 1)
    if config.receptive_field > 1:
        with pytest.raises(ShapeError, match="any number of"):
            model.forward_strided(inputs[:, 1:], config.receptive_field)


def test_strided_and_dilated_have_the_same_gradients() -> None:
    config = SMALL[0]
    model, inputs = as_if_trained(config), inputs_for(config, config.receptive_field)
    gradients = []
    for forward in (model.forward, model.forward_strided):
        model.zero_grad()
        torch.autograd.backward(forward(inputs).square().sum())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", SMALL)
def test_dilated_equals_plain_convolutions(config: TemporalConfig) -> None:
    model, inputs = as_if_trained(config), inputs_for(config, config.receptive_field + 9)
    with torch.inference_mode():
        ours = model(inputs)
    torch.testing.assert_close(ours.double(), plain(model, inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", SMALL)
def test_an_output_sees_its_receptive_field_and_no_more(config: TemporalConfig) -> None:
    frames = config.receptive_field + 8
    model = as_if_trained(config)
    inputs = inputs_for(config, frames, batch=1).requires_grad_()
    torch.autograd.backward(model(inputs)[0, 4].square().sum())
    assert inputs.grad is not None
    touched = torch.nonzero(inputs.grad.abs().sum(dim=(0, 2, 3)))[:, 0]
    # Output 4 answers for input frame 4 + frames_before.
    centre = 4 + config.frames_before
    assert touched.min() == centre - config.frames_before
    assert touched.max() == centre + config.frames_after


def test_causal_model_never_sees_the_future() -> None:
    config = SMALL[1]
    assert config.frames_after == 0
    model = as_if_trained(config)
    past = pad_edges(inputs_for(config, 40, batch=1), config)
    changed = past.clone()
    changed[:, config.frames_before + 20 :] += 10.0
    with torch.inference_mode():
        before, after = model(past), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert (before[:, 20] - after[:, 20]).abs().max() > 1e-3


@pytest.mark.parametrize("config", SMALL)
@pytest.mark.parametrize("frames", [1, 2, 11])
def test_padded_edges_give_one_output_per_frame(config: TemporalConfig, frames: int) -> None:
    inputs = inputs_for(config, frames)
    padded = pad_edges(inputs, config)
    assert padded.shape[1] == frames + config.receptive_field - 1
    assert torch.equal(padded[:, : config.frames_before], inputs[:, :1].expand_as(padded[:, : config.frames_before]))
    assert torch.equal(padded[:, config.frames_before : config.frames_before + frames], inputs)
    after = padded[:, config.frames_before + frames :]
    assert torch.equal(after, inputs[:, -1:].expand_as(after))
    with torch.inference_mode():
        assert as_if_trained(config)(padded).shape == (2, frames, config.out_joints, 3)


def test_dropout_acts_in_training_only() -> None:
    model, inputs = as_if_trained(SMALL[0]), inputs_for(SMALL[0], 27)
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(inputs), model(inputs))


def test_batch_norm_momentum_reaches_every_norm() -> None:
    model = TemporalModel(SMALL[0])
    model.set_batch_norm_momentum(0.004)
    momenta = [module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    assert momenta == [0.004] * 5


def test_config_survives_its_dictionary() -> None:
    config = TemporalConfig(widths=(3, 5), channels=7, causal=True)
    assert TemporalConfig(**config.as_dict()) == config


@pytest.mark.parametrize(("field", "widths"), [(1, [1]), (3, [3]), (27, [3] * 3), (243, [3] * 5)])
def test_widths_for_a_receptive_field(field: int, widths: list[int]) -> None:
    assert list(widths_for(field)) == widths


@pytest.mark.parametrize("field", [0, 2, 28, 54, -3])
def test_widths_for_another_receptive_field_fail(field: int) -> None:
    with pytest.raises(ConfigError, match="power of three"):
        widths_for(field)


@pytest.mark.parametrize(
    "values",
    [{"widths": ()}, {"widths": (3, 2)}, {"widths": (-3,)}, {"channels": 0}, {"dropout": 1.0}, {"in_features": 0}],
)
def test_bad_configurations_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TemporalConfig(**values)


def test_wrong_inputs_are_refused() -> None:
    model = as_if_trained(SMALL[0])
    with pytest.raises(ShapeError, match="at least 27 frames"):
        model(torch.zeros(1, 26, 17, 2))
    with pytest.raises(ShapeError, match=r"\(B, T, 17, 2\)"):
        model(torch.zeros(1, 27, 17, 3))
    with pytest.raises(ShapeError, match="must have 27 frames"):
        model.forward_strided(torch.zeros(1, 28, 17, 2))
