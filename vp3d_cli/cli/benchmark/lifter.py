"""Benchmark of the lifter network, compared to a matrix product and torch implementations.

All is timed in turn within one run, on the same threads, in seconds of all cores together: other programs that keep the
cores busy change them little. Figures are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from vp3d_cli.errors import WeightsError
from vp3d_cli.lift.checkpoint import load_lifter_file
from vp3d_cli.lift.onnx_export import temporal_to_onnx
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel, pad_edges
from vp3d_cli.runtime.load import load_model
from vp3d_cli.runtime.processes import granted_threads, usable_cores
from vp3d_cli.weights import find_lifter

# The side of the matrices whose product counts as what the machine can do.
_PRODUCT_SIDE = 2048
# Windows that the window-by-window form computes at once, as many as the paper's training does.
_WINDOWS = 1024


@dataclass(frozen=True)
class LifterBench:
    """Result of one network.

    Attributes:
        name: of the lifter, or its architecture where its parameters are random.
        receptive_field, channels: of the network.
        frames: of one person, lifted without the mirrored half.
        threads: of the network and of torch.
        runtime: and device that run the network.
        multiply_adds: of the network for one frame, neighbours sharing what they can.
        product_rate: multiply-adds of a plain float32 matrix product per second of one core.
        rate: the same of the network, counting only what is necessary.
        frames_per_second: of the network, on one core.
        times_windows: how many times faster it is than torch's Conv1d and BatchNorm1d on one window per frame.
        times_dilated: the same for torch's dilated Conv1d and BatchNorm1d on the full sequence.
        difference_m: largest difference to the latter's answer, metres.
    """

    name: str
    receptive_field: int
    channels: int
    frames: int
    threads: int
    runtime: str
    multiply_adds: int
    product_rate: float
    rate: float
    frames_per_second: float
    times_windows: float
    times_dilated: float
    difference_m: float

    @property
    def share_of_product(self) -> float:
        """Rate over that of the matrix product."""
        return self.rate / self.product_rate


def bench_lifter(name: str, *, frames: int = 4096, repeats: int = 5) -> LifterBench:
    """Time a network on keypoints of one person.

    Args:
        name: of a lifter, its file, or ``random:RECEPTIVE_FIELD:CHANNELS`` for one that nobody has trained.
        frames: of the sequence.
        repeats: how often each is timed.

    Raises:
        WeightsError: no such lifter, or it is not a temporal convolution network.
    """
    model = _network(name)
    config = model.config
    threads = granted_threads() or usable_cores()
    torch.set_num_threads(threads)
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    network = load_model(temporal_to_onnx(state, config, {}), name, precision="f32", threads=threads)
    inputs = torch.randn(1, frames, config.in_joints, config.in_features)
    padded = pad_edges(inputs, config)
    few = padded[:, : min(frames, _few(config)) + config.receptive_field - 1]
    left, right = torch.randn(2, _PRODUCT_SIDE, _PRODUCT_SIDE)

    work: dict[str, Callable[[], object]] = {
        "product": lambda: left @ right,
        "runtime": lambda: network.run(padded.numpy()),
        "dilated": lambda: dilated_form(model, padded),
        "windows": lambda: window_form(model, few),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for what, run in work.items():
                started = time.process_time()
                run()
                if turn:  # the first one warms up
                    seconds[what].append(time.process_time() - started)
        difference = float(abs(network.run(padded.numpy())[0] - dilated_form(model, padded).numpy()).max())
    took = {what: median(values) for what, values in seconds.items()}
    one = took["runtime"] / frames
    return LifterBench(
        name=name,
        receptive_field=config.receptive_field,
        channels=config.channels,
        frames=frames,
        threads=threads,
        runtime=str(network.target),
        multiply_adds=config.multiply_adds,
        product_rate=_PRODUCT_SIDE**3 / took["product"],
        rate=config.multiply_adds / one,
        frames_per_second=1 / one,
        times_windows=took["windows"] / (few.shape[1] - config.receptive_field + 1) / one,
        times_dilated=took["dilated"] / frames / one,
        difference_m=difference,
    )


def dilated_form(model: TemporalModel, inputs: Tensor) -> Tensor:
    """Run the network with dilated Conv1d, batch norm and ReLU over the full sequence.

    This is the form in figure 2 of the paper.

    Args:
        model: whose parameters are used, in evaluation mode.
        inputs: (B, T, in_joints, in_features).

    Returns:
        (B, T - receptive_field + 1, out_joints, 3).
    """
    widths, causal = model.config.widths, model.config.causal
    x = _layer(inputs.flatten(2).transpose(1, 2), model.expand_conv, model.expand_bn)
    dilation = widths[0]
    for i, width in enumerate(widths[1:]):
        lost = (width - 1) * dilation
        start = lost if causal else lost // 2
        residual = x[:, :, start : start + x.shape[2] - lost]
        x = _layer(x, model.layers_conv[2 * i], model.layers_bn[2 * i])
        x = residual + _layer(x, model.layers_conv[2 * i + 1], model.layers_bn[2 * i + 1])
        dilation *= width
    x = cast(Tensor, model.shrink(x))
    return x.transpose(1, 2).reshape(len(x), -1, model.config.out_joints, 3)


def window_form(model: TemporalModel, inputs: Tensor) -> Tensor:
    """Run the network on one window per frame: strided Conv1d, batch norm, ReLU.

    Neighbouring frames share no computation.

    Arguments and result are those of :func:`dilated_form`.
    """
    field = model.config.receptive_field
    windows = inputs.flatten(2).unfold(1, field, 1).flatten(0, 1)  # (B * frames, features, field)
    answers = [_one_window_each(model, part) for part in torch.split(windows, _WINDOWS)]
    return torch.cat(answers).view(len(inputs), -1, model.config.out_joints, 3)


def _one_window_each(model: TemporalModel, windows: Tensor) -> Tensor:
    widths, causal = model.config.widths, model.config.causal
    x = _layer(windows, model.expand_conv, model.expand_bn, stride=widths[0])
    for i, width in enumerate(widths[1:]):
        residual = x[:, :, (width - 1 if causal else width // 2) :: width]
        x = _layer(x, model.layers_conv[2 * i], model.layers_bn[2 * i], stride=width)
        x = residual + _layer(x, model.layers_conv[2 * i + 1], model.layers_bn[2 * i + 1])
    return cast(Tensor, model.shrink(x))


def _layer(x: Tensor, conv: nn.Module, norm: nn.Module, stride: int | None = None) -> Tensor:
    """Convolution, batch norm, ReLU; with a stride in place of the convolution's own dilation."""
    assert isinstance(conv, nn.Conv1d)
    x = conv(x) if stride is None else nn.functional.conv1d(x, conv.weight, conv.bias, stride=stride)
    return torch.relu(norm(x))


def _few(config: TemporalConfig) -> int:
    """Frames for the window form, which is slow: fewer where windows are long."""
    return max(64, _WINDOWS * 27 // config.receptive_field)


def _network(name: str) -> TemporalModel:
    kind, _, sizes = name.partition(":")
    if kind == "random":
        try:
            field, channels = (int(size) for size in sizes.split(":"))
        except ValueError:
            raise WeightsError(f"{name}: write random:RECEPTIVE_FIELD:CHANNELS, as in random:243:1024") from None
        return _random(field, channels)
    model, info = load_lifter_file(find_lifter(name)[0])
    if not isinstance(model, TemporalModel):
        raise WeightsError(f"{name} is a {info.architecture} network; only temporal ones are measured")
    return model


def _random(receptive_field: int, channels: int) -> TemporalModel:
    from vp3d_cli.lift.temporal import widths_for

    torch.manual_seed(0)
    return TemporalModel(TemporalConfig(tuple(widths_for(receptive_field)), channels, in_features=3)).eval()
