"""Smooth random curves over time, for limb rotations and slow detector errors."""

from __future__ import annotations

import torch
from torch import Tensor


class SmoothCurves:
    """Generator of Gaussian random curves of unit variance with a given correlation time.

    A curve is white noise on knots, smoothed by a Gaussian kernel: ``kernel (T, K) @ noise (K, C)``.

    Args:
        frames: T.
        rate_hz: frames per second.
        correlation_s: standard deviation of the smoothing kernel in seconds.
        device: device on which curves are made.
    """

    def __init__(self, frames: int, rate_hz: float, correlation_s: float, device: torch.device) -> None:
        sigma = max(correlation_s * rate_hz, 1e-3)
        spacing = max(sigma, 1.0)
        knots = torch.arange(-3 * spacing, frames - 1 + 3 * spacing + 1e-6, spacing)
        times = torch.arange(frames, dtype=torch.float32)
        kernel = torch.exp(-0.5 * ((times[:, None] - knots) / sigma).square())
        kernel /= kernel.square().sum(dim=1, keepdim=True).sqrt()
        self._kernel = kernel.to(device)

    def draw(self, n: int, channels: int, generator: torch.Generator) -> Tensor:
        """Draw (n, T, channels) values, standard normal at each time and correlated over time."""
        noise = torch.randn(n, self._kernel.shape[1], channels, generator=generator, device=self._kernel.device)
        return self._kernel @ noise
