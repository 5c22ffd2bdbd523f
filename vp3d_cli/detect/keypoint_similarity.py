"""Object keypoint similarity (OKS) of two people, from the COCO keypoint evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.types import FloatArray

# Standard deviation of human annotators for each COCO keypoint, relative to the size of the person.
OKS_SIGMAS: NDArray[np.float64] = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
     0.089, 0.089]
)  # fmt: skip


def keypoint_similarity(first: FloatArray, second: FloatArray, weights: NDArray[Any], scale: float) -> float:
    """Object keypoint similarity of two people, 0..1; 1 where they coincide.

    Args:
        first, second: (17, 2) pixels.
        weights: (17,) weight of each keypoint.
        scale: size of the person in pixels (square root of the area).
    """
    total = float(np.sum(weights))
    if total <= 0 or scale <= 0:
        return 0.0
    squared = np.sum((first.astype(np.float64) - second) ** 2, axis=-1)
    likeness = np.exp(-squared / (2 * scale**2 * (2 * OKS_SIGMAS) ** 2))
    return float(np.sum(likeness * weights) / total)
