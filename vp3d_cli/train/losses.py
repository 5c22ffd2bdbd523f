"""Training losses. Positions are (N, O, J, 3) or (N, O, 3) in metres; each loss is one number."""

from __future__ import annotations

import torch
from torch import Tensor


def mpjpe(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance between joints (Pavllo et al. 2019, section 3)."""
    distance: Tensor = torch.linalg.vector_norm(predicted - truth, dim=-1)
    return distance.mean()


def velocity(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance between the changes of joints from one output frame to the next, (N, O >= 2, J, 3)."""
    return mpjpe(predicted.diff(dim=1), truth.diff(dim=1))


def weighted_mpjpe(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of root positions (N, O, 3), each weighted by 1 / depth (Pavllo et al. 2019, equation 1)."""
    distance: Tensor = torch.linalg.vector_norm(predicted - truth, dim=-1)
    return (distance / truth[..., 2]).mean()
