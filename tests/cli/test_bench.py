"""What vp3d bench compares is the same network, and its figures are what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import RunCli
from test_temporal import SMALL, as_if_trained, inputs_for

from vp3d_cli.cli.benchmark.lifter import bench_lifter, dilated_form, window_form
from vp3d_cli.cli.benchmark.stages import example_clip
from vp3d_cli.errors import WeightsError
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel


@pytest.mark.parametrize("config", SMALL)
def test_the_forms_that_are_compared_agree(config: TemporalConfig) -> None:
    model, inputs = as_if_trained(config), inputs_for(config, config.receptive_field + 9)
    with torch.inference_mode():
        expected = model(inputs)
        torch.testing.assert_close(dilated_form(model, inputs), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(window_form(model, inputs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [3, 5])
def test_multiply_adds_of_the_paper_s_network(levels: int) -> None:
    """Every weight of a convolution is used once per frame: parameters less batch norms' and the last bias."""
    model = TemporalModel(TemporalConfig(widths=(3,) * levels, channels=64))
    weights = sum(p.numel() for name, p in model.named_parameters() if name.endswith("weight") and p.ndim == 3)
    assert model.config.multiply_adds == weights


def test_a_network_beside_others(run_cli: RunCli) -> None:
    result = bench_lifter("random:27:32", frames=64, repeats=1)
    assert (result.receptive_field, result.channels, result.frames) == (27, 32, 64)
    assert result.difference_m < 1e-5
    assert result.rate == pytest.approx(result.multiply_adds * result.frames_per_second)
    assert min(result.product_rate, result.times_windows, result.times_dilated) > 0
    outcome = run_cli("bench", "--lifter-network", "--lifter", "random:9:16", "--repeats", 1)
    assert outcome.code == 0, outcome
    assert "matrix product" in outcome.stdout
    for name in ("random:27", "random:a:b"):
        with pytest.raises(WeightsError, match="RECEPTIVE_FIELD"):
            bench_lifter(name)
    assert run_cli("bench", "--lifter-network", "--batch").code == 2


@pytest.mark.slow
def test_a_folder_in_several_ways(run_cli: RunCli, short_clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copyfile(short_clip, tmp_path / name)
    outcome = run_cli("bench", "--batch", tmp_path, "--repeats", 1, "--json", "--quiet")
    assert outcome.code == 0, outcome
    result = json.loads(outcome.stdout)
    assert (result["videos"], result["frames"]) == (2, 24)
    assert [way["way"] for way in result["ways"]] == ["infer in turn"] + ["batch"] * (len(result["ways"]) - 1)
    assert all(way["frames_per_second"] > 0 for way in result["ways"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_without_a_video_it_takes_the_example_of_the_checkout() -> None:
    assert example_clip() == Path(__file__).resolve().parents[2] / "examples" / "demo.mp4"
    assert example_clip().is_file()
