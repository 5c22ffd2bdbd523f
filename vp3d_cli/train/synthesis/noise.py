"""Simulated detector noise: jitter, bias, occlusion, left-right swaps, truncation.

Errors are in metres at the person's distance, so they scale with the person in the image; confidences are simulated to
match. Dimensions: N windows, T frames, 17 COCO joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vp3d_cli.errors import ConfigError
from vp3d_cli.skeletons import COCO17
from vp3d_cli.train.synthesis.curves import SmoothCurves

_JOINTS = COCO17.num_joints
_Rand = Callable[..., Tensor]  # uniform random numbers of a given shape


def _per_joint(
    face: float, shoulder: float, elbow: float, wrist: float, hip: float, knee: float, ankle: float
) -> Tensor:
    pairs = [value for value in (shoulder, elbow, wrist, hip, knee, ankle) for _ in range(2)]
    return torch.tensor([face] * 5 + pairs)


def _joints(*names: str) -> list[int]:
    return [COCO17.index(name) for name in names]


_LEFT_ARM, _RIGHT_ARM = _joints("left_elbow", "left_wrist"), _joints("right_elbow", "right_wrist")
_LEFT_LEG, _RIGHT_LEG = _joints("left_knee", "left_ankle"), _joints("right_knee", "right_ankle")
_HEAD = _joints("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_SIDE = _joints("left_shoulder", "left_hip")
_LEGS = _LEFT_LEG + _RIGHT_LEG
# Joints that are occluded together: by the body itself, by furniture, by the edge of the image.
_GROUPS = (
    _LEFT_ARM, _RIGHT_ARM, _LEFT_LEG, _RIGHT_LEG, _LEGS, _HEAD,
    _LEFT_ARM[1:], _RIGHT_ARM[1:], _LEFT_LEG[1:], _RIGHT_LEG[1:], _LEFT_LEG[1:] + _RIGHT_LEG[1:],
    _LEFT_ARM + _LEFT_LEG + _SIDE, _LEFT_ARM + _RIGHT_ARM,
)  # fmt: skip
_SWAPPED = (_LEFT_LEG + _RIGHT_LEG + _joints("left_hip", "right_hip"), _LEFT_ARM + _RIGHT_ARM, list(range(_JOINTS)))


@dataclass(frozen=True)
class NoiseSettings:
    """``[data.engine.noise]``: simulated detector errors.

    Attributes:
        scale: factor of all errors.
        scale_sigma: standard deviation of the logarithm of the factor of each window.
        drift_s: correlation time of the slow part of the jitter, seconds.
        occluded, missing_legs, missing_head, swapped: shares of windows with such errors.
        clean: share of windows without position errors.
        turning: factor of a bias that is constant in pelvis axes, so that it turns with the person; 0 for none. The
            other bias is constant in the image.
    """

    scale: float = 1.0
    scale_sigma: float = 0.4
    drift_s: float = 0.12
    occluded: float = 0.35
    missing_legs: float = 0.06
    missing_head: float = 0.02
    swapped: float = 0.04
    clean: float = 0.1
    turning: float = 0.0

    def __post_init__(self) -> None:
        if self.turning < 0:
            raise ConfigError(f"[data.engine.noise] turning must not be negative, got {self.turning}")


# Standard deviations per axis in metres, for a body of 1.7 m and a confidence of about 0.7. White and slow jitter are
# those of docs/measurements/detector_noise.md (0.5 m to a body size) times 1.4, because two passes of one detector
# share some of their errors.
_WHITE = _per_joint(0.005, 0.005, 0.006, 0.007, 0.006, 0.004, 0.005)
_SLOW = _per_joint(0.006, 0.012, 0.011, 0.010, 0.014, 0.012, 0.011)
# Constant offset between annotated keypoints and motion-capture joints; assumed, since it cannot be measured without
# both. It is largest at the hips, which lie deep in the body.
_BIAS = _per_joint(0.010, 0.015, 0.012, 0.013, 0.025, 0.015, 0.016)
# Confidence before the logistic function: mean, and standard deviation between people and over time.
_CONFIDENCE = _per_joint(0.6, 1.6, 1.3, 0.2, 1.5, 1.2, 0.9)
_CONFIDENCE_SIGMA = _per_joint(0.3, 0.3, 0.45, 1.0, 0.3, 0.6, 0.6)
_CONFIDENCE_SIGMA_IN_TIME = _per_joint(0.55, 0.6, 0.65, 0.7, 0.45, 0.7, 0.75)


class DetectorNoise:
    """Simulator of detector errors on projected keypoints.

    Args:
        settings: sizes and frequencies of errors.
        frames: T.
        rate_hz: frames per second.
        device: device on which it runs.
    """

    def __init__(self, settings: NoiseSettings, frames: int, rate_hz: float, device: torch.device) -> None:
        self.settings = settings
        self._slow = SmoothCurves(frames, rate_hz, settings.drift_s, device)
        self._quality = SmoothCurves(frames, rate_hz, 0.3, device)
        self._white_m, self._slow_m, self._bias_m = _WHITE.to(device), _SLOW.to(device), _BIAS.to(device)
        self._confidence, self._sigma = _CONFIDENCE.to(device), _CONFIDENCE_SIGMA.to(device)
        self._sigma_in_time = _CONFIDENCE_SIGMA_IN_TIME.to(device)
        self._frames = frames

    def __call__(
        self,
        keypoints: Tensor,
        px_per_m: Tensor,
        size_wh: Tensor,
        generator: torch.Generator,
        turning_px: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Add detector errors to keypoints.

        Args:
            keypoints: (N, T, 17, 2) exact positions in pixels.
            px_per_m: (N,) pixels per metre at the person's distance.
            size_wh: (N, 2) image size.
            generator: random generator on the same device.
            turning_px: (N, T, 17, 2) bias that turns with the person, of :meth:`turning_bias`, as projected.

        Returns:
            Positions (N, T, 17, 2) in pixels and confidences (N, T, 17) in 0..1.
        """
        n, device, s = len(keypoints), keypoints.device, self.settings

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device)

        # Detectors differ in their confidence, so windows vary more than people do for one detector.
        logits = self._confidence + 0.5 * randn(n, 1, 1) + self._sigma * randn(n, 1, _JOINTS)
        logits = logits + self._sigma_in_time * self._quality.draw(n, _JOINTS, generator)
        confidence = torch.sigmoid(logits)
        hidden = self._occluded(n, rand)
        confidence = torch.where(hidden, confidence * (0.1 + 0.4 * rand(n, 1, _JOINTS)), confidence)

        # Lower confidence means larger errors (docs/measurements/detector_noise.md, "Error and confidence"): factor
        # 0.85 at 0.9, 2.8 at 0.3, 5.6 at 0.2 and below; twice as much for occluded joints.
        blur = (0.6 + 0.2 / confidence.clamp_min(0.2).square()) * (1 + hidden)
        window_scale = s.scale * (s.scale_sigma * randn(n, 1, 1, 1)).exp()
        noisy_window = rand(n, 1, 1, 1) >= s.clean
        window_scale = window_scale * noisy_window * px_per_m[:, None, None, None]
        slow = self._slow.draw(n, 2 * _JOINTS, generator).reshape(n, self._frames, _JOINTS, 2)
        moving = self._white_m[:, None] * randn(n, self._frames, _JOINTS, 2) + self._slow_m[:, None] * slow
        bias = self._bias_m[:, None] * randn(n, 1, _JOINTS, 2)
        noisy = keypoints + window_scale * (moving * blur[..., None] + bias)
        if turning_px is not None:
            noisy = noisy + noisy_window * turning_px
        noisy, confidence = self._swap(noisy, confidence, rand)
        return _truncate(noisy, confidence, size_wh, rand)

    def turning_bias(self, n: int, generator: torch.Generator) -> Tensor | None:
        """Draw a bias for each window and joint, constant in pelvis axes; None if there is none.

        The two sides mirror each other, as a person and a detector's idea of a joint do.

        Returns:
            (N, 1, 17, 3) metres, to the person's left, up and ahead.
        """
        s = self.settings
        if not s.turning * s.scale:
            return None
        device = self._bias_m.device
        drawn = torch.randn(n, 1, _JOINTS, 3, generator=generator, device=device)
        order = list(COCO17.flip_order)
        mirrored = drawn[:, :, order] * torch.tensor([-1.0, 1.0, 1.0], device=device)
        # The nose mirrors itself; the sum of two independent sides has twice the variance.
        weight = [0.5 if joint == other else 0.5**0.5 for joint, other in enumerate(order)]
        symmetric = (drawn + mirrored) * torch.tensor(weight, device=device)[:, None]
        return s.turning * s.scale * self._bias_m[:, None] * symmetric

    def _occluded(self, n: int, rand: _Rand) -> Tensor:
        """(N, T, 17) whether a joint is occluded, for part of the window or all of it."""
        device = self._confidence.device
        table = torch.zeros(len(_GROUPS), _JOINTS, dtype=torch.bool, device=device)
        for row, joints in enumerate(_GROUPS):
            table[row, joints] = True
        group = table[(rand(n) * len(_GROUPS)).long()]
        start, length = rand(n, 1) * 1.4 - 0.4, 0.05 + 0.8 * rand(n, 1).square()
        phase = torch.linspace(0, 1, self._frames, device=device)
        during = (phase >= start) & (phase < start + length) & (rand(n, 1) < self.settings.occluded)
        hidden = group[:, None] & during[..., None]
        for share, missing in ((self.settings.missing_legs, _LEGS), (self.settings.missing_head, _HEAD)):
            hidden[:, :, missing] |= rand(n, 1, 1) < share
        return hidden

    def _swap(self, keypoints: Tensor, confidence: Tensor, rand: _Rand) -> tuple[Tensor, Tensor]:
        """Swap left and right of legs, arms or all joints during part of a few windows."""
        n = len(keypoints)
        chosen = torch.nonzero(rand(n) < self.settings.swapped)[:, 0]
        if not len(chosen):
            return keypoints, confidence
        kind = (rand(n)[chosen] * len(_SWAPPED)).long()
        start, length = rand(n)[chosen] * 1.2 - 0.2, 0.05 + 0.5 * rand(n)[chosen].square()
        phase = torch.linspace(0, 1, self._frames, device=keypoints.device)
        during = (phase >= start[:, None]) & (phase < (start + length)[:, None])
        table = torch.zeros(len(_SWAPPED), _JOINTS, dtype=torch.bool, device=keypoints.device)
        for row, joints in enumerate(_SWAPPED):
            table[row, joints] = True
        swapped = during[..., None] & table[kind][:, None]
        order = list(COCO17.flip_order)
        points, scores = keypoints[chosen], confidence[chosen]
        keypoints, confidence = keypoints.clone(), confidence.clone()
        keypoints[chosen] = torch.where(swapped[..., None], points[:, :, order], points)
        confidence[chosen] = torch.where(swapped, scores[:, :, order], scores)
        return keypoints, confidence


def _truncate(keypoints: Tensor, confidence: Tensor, size_wh: Tensor, rand: _Rand) -> tuple[Tensor, Tensor]:
    """Move joints outside the image to its border or leave them, with low confidence."""
    limit = size_wh[:, None, None]
    inside = keypoints.clamp_min(0.0).minimum(limit)
    outside = (inside != keypoints).any(dim=-1)
    n = len(keypoints)
    # Half of all detections put such joints at the border, half extrapolate.
    pulled = torch.where(rand(n, 1, 1, 1) < 0.5, inside, keypoints)
    low = 0.05 + 0.3 * rand(n, 1, _JOINTS)
    return torch.where(outside[..., None], pulled, keypoints), torch.where(outside, confidence * low, confidence)
