"""Starting from the weights of a model with fewer levels: where they land, what is answered, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from vp3d_cli.errors import TrainingError
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.train.config import read_config
from vp3d_cli.train.networks import initialize_from, match_levels
from vp3d_cli.train.recipes import find_recipe


def temporal(widths: Sequence[int], seed: int = 0, causal: bool = False) -> TemporalModel:
    torch.manual_seed(seed)
    model = TemporalModel(TemporalConfig(tuple(widths), channels=24, dropout=0.0, causal=causal))
    with torch.no_grad():
        # Moves the batch norms' running statistics.
        for _ in range(20):
            model(torch.randn(16, model.config.receptive_field + 3, 17, 2))
    return model.eval()


def predictions(model: TemporalModel, inputs: torch.Tensor) -> torch.Tensor:
    """Of the frame in the middle (the last if causal), which all models see most of."""
    config = model.config
    middle = len(inputs[0]) - 1 if config.causal else len(inputs[0]) // 2
    window = inputs[:, middle - config.frames_before : middle + config.frames_after + 1]
    with torch.inference_mode():
        predicted: torch.Tensor = model(window)[:, 0]
    return predicted


@pytest.mark.parametrize(
    ("source", "target", "levels"),
    [
        ((3, 3), (3, 3), [0, 1]),
        ((3, 3), (3, 3, 3), [0, 1]),
        ((3, 3, 1), (3, 3, 3, 1), [0, 1, 3]),
        ((3, 3, 1, 1), (3, 3, 3, 3, 1, 1, 1), [0, 1, 4, 5]),
        ((3, 3), (3, 1, 3, 1), [0, 2]),
        ((1, 3), (1, 1, 3, 5), [0, 2]),
    ],
)
@pytest.mark.parametrize("causal", [False, True])
def test_levels_land_where_their_counterparts_are(
    source: Sequence[int], target: Sequence[int], levels: list[int], causal: bool
) -> None:
    """Predictions start close to those of the source, and equal them where the new levels add nothing."""
    short, grown = temporal(source, causal=causal), temporal(target, 1, causal)
    assert match_levels(short.config, grown.config, "short") == levels
    inputs = torch.randn(50, 243, 17, 2)
    wanted, before = predictions(short, inputs), predictions(grown, inputs)
    initialize_from(grown, short, "short")
    off = (predictions(grown, inputs) - wanted).norm() / wanted.norm()
    assert off < 0.25 * (before - wanted).norm() / wanted.norm()
    new = [level for level in range(len(target)) if level not in levels]
    assert bool(off > 0) == bool(new)
    for level in new:
        norm = grown.layers_bn[2 * level - 1]
        assert isinstance(norm, nn.BatchNorm1d)
        assert (norm.weight == 0.1).all()
        nn.init.zeros_(norm.weight)
    torch.testing.assert_close(predictions(grown, inputs), wanted, rtol=0, atol=1e-5)


def test_the_recipes_that_start_from_pose_27_can() -> None:
    configs = {
        name: TemporalConfig(**read_config(find_recipe(name), {"data": {"motion": ["m.npz"]}}).model.options)
        for name in ("pose-27", "pose-243", "causal-27")
    }
    levels = {name: match_levels(configs["pose-27"], config, "pose-27") for name, config in configs.items()}
    assert list(levels.values()) == [[0, 1, 2]] * 3
    # With depth after what was inputs came together, the longer view comes before it.
    assert match_levels(TemporalConfig((3, 3, 3, 1, 1, 1)), configs["pose-243"], "deep") == [0, 1, 2, 5, 6, 7]


@pytest.mark.parametrize(
    ("source", "target", "level"),
    [
        ((3, 3, 3), (3, 3), 3),
        ((3, 3, 1), (3, 3, 3), 3),
        ((3, 3, 1, 1), (3, 3, 3, 1), 4),
        ((3, 3), (5, 3, 3), 1),
        ((1, 3), (3, 1, 3), 1),
        # The level of width 5 would compare frames that are 9 apart, not 3.
        ((3, 5), (3, 3, 5), 2),
    ],
)
def test_levels_without_a_counterpart_are_refused(source: Sequence[int], target: Sequence[int], level: int) -> None:
    model = temporal(target)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(TrainingError) as caught:
        initialize_from(model, temporal(source), "short.safetensors")
    assert str(caught.value).startswith(
        f"cannot start from short.safetensors: level {level} of its widths {list(source)} has no counterpart in "
        f"{list(target)}; model.options.widths must have theirs in order"
    )
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_architectures_start_from_their_own_kind_alone() -> None:
    options = {"widths": [3, 3], "channels": 24}
    dense, same = (build_model("dense", options) for _ in range(2))
    initialize_from(dense, same, "same")
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), same.parameters(), strict=True))
    with pytest.raises(TrainingError, match=r"layers_conv\.0\.weight is \(24, 24, 3\) there and missing here"):
        initialize_from(dense, temporal((3, 3)), "temporal")
    wider = build_model("dense", {**options, "widths": [3, 3, 3]})
    with pytest.raises(TrainingError, match=r"it has no wide_convs\.1\.weight; use the same architecture"):
        initialize_from(wider, dense, "dense")
