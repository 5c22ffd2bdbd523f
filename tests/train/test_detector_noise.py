"""The simulated detector has the errors that were measured (docs/measurements/detector_noise.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vp3d_cli.skeletons import COCO17
from vp3d_cli.train.synthesis.noise import DetectorNoise, NoiseSettings

MEASURED = json.loads((Path(__file__).parents[2] / "docs" / "measurements" / "detector_noise.json").read_text())
PX_PER_M = 100.0


@pytest.fixture(scope="module")
def simulated() -> tuple[Tensor, Tensor]:
    """(N, T, 17, 2) error in body sizes and (N, T, 17) confidence, far from the border of the image."""
    truth = torch.full((600, 60, 17, 2), 5000.0)
    noise = DetectorNoise(NoiseSettings(), 60, 30.0, torch.device("cpu"))
    n = len(truth)
    seen, scores = noise(
        truth, torch.full((n,), PX_PER_M), torch.full((n, 2), 10_000.0), torch.Generator().manual_seed(1)
    )
    return (seen - truth) / PX_PER_M / MEASURED["m_per_body_size"], scores


@pytest.mark.parametrize("joint", COCO17.joints)
def test_what_moves_is_what_was_measured_and_up_to_twice_as_much(joint: str, simulated: tuple[Tensor, Tensor]) -> None:
    error, scores = simulated
    j = COCO17.index(joint)
    moving = (error - error.mean(1, keepdim=True))[..., j, :][scores[..., j] >= 0.3]
    parts = MEASURED["joints"][joint]["conditioned"]
    measured = np.hypot(parts["white"], parts["slow"])
    assert 0.9 * measured < moving.abs().median() / 0.6745 < 1.8 * measured


@pytest.mark.parametrize("joint", [name for name in COCO17.joints if "wrist" not in name])
def test_confidences_are_those_that_were_measured(joint: str, simulated: tuple[Tensor, Tensor]) -> None:
    measured = MEASURED["joints"][joint]["score_quantiles_5_25_50_75_95"]
    _, middle, high = np.quantile(simulated[1][..., COCO17.index(joint)].numpy(), (0.05, 0.5, 0.95))
    assert middle == pytest.approx(measured[2], abs=0.12)
    assert high == pytest.approx(measured[4], abs=0.12)


def test_errors_grow_with_doubt_as_measured(simulated: tuple[Tensor, Tensor]) -> None:
    error, scores = simulated
    distance = (error - error.mean(1, keepdim=True)).norm(dim=-1)

    def median(low: float, high: float) -> float:
        return float(distance[(scores >= low) & (scores < high)].median())

    rows = {row["from"]: row["median"] for row in MEASURED["error_by_score"]}
    for low, high in ((0.3, 0.4), (0.5, 0.6), (0.8, 0.9)):
        assert median(low, high) / median(0.7, 0.8) == pytest.approx(rows[low] / rows[0.7], rel=0.3)
