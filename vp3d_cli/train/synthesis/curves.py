"""Smooth random functions of time, as one matrix product: the raw material of turned limbs and drifting detections."""

from __future__ import annotations

import torch
from torch import Tensor


class SmoothCurves:
    """Draws Gaussian curves of unit variance whose correlation falls off over a given time.

    A curve is white noise on knots, smoothed by a Gaussian kernel: ``kernel (T, K) @ noise (K, C)``.

    Args:
        frames: T.
        rate_hz: frames per second.
        correlation_s: standard deviation of the smoothing kernel in seconds.
        device: where curves are made.
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
        """(n, T, channels), standard normal at each time, correlated over time."""
        noise = torch.randn(n, self._kernel.shape[1], channels, generator=generator, device=self._kernel.device)
        return self._kernel @ noise
