"""Batches of training windows, labelled and unlabelled, and the protocols of their sources.

Dimensions: N windows, T frames, O output frames, J joints of the 2D skeleton, K joints of the 3D skeleton.

"Prediction axes" are the axes in which a lifter predicts: those of the camera or, with the input rule ``ray``, those of
a virtual camera that is turned to face the person (:mod:`vp3d_cli.lift.input_rule`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

AnyBatch = TypeVar("AnyBatch", bound="Batch | UnlabelledBatch")


@dataclass(frozen=True)
class Batch:
    """Labelled windows as the network sees them.

    Attributes:
        features: (N, T, J, 2 or 3) network input.
        joints: (N, O, K, 3) root-relative joints, prediction axes, metres.
        root: (N, O, 3) root joint, prediction axes, metres.
        centre, spread: (N, O, 2) and (N, O), arguments of :func:`vp3d_cli.lift.input_rule.decode_root`.
    """

    features: Tensor
    joints: Tensor
    root: Tensor
    centre: Tensor
    spread: Tensor

    def select(self, index: Tensor | slice) -> Batch:
        """Return the windows with these indices."""
        fields = (self.features, self.joints, self.root, self.centre, self.spread)
        return Batch(*(values[index] for values in fields))


@dataclass(frozen=True)
class CameraBatch:
    """Intrinsics and lens distortion of the camera of each window.

    Attributes:
        intrinsics: (N, 4) fx fy cx cy in pixels.
        distortion: (N, 5) k1 k2 p1 p2 k3.
        tangential_factor: (N,) factor of the mixed tangential terms: 2 in OpenCV's model, 1 in Human3.6M's.
        width: (N,) width of the image in pixels.
    """

    intrinsics: Tensor
    distortion: Tensor
    tangential_factor: Tensor
    width: Tensor

    def select(self, index: Tensor | slice) -> CameraBatch:
        """Return the cameras with these indices."""
        return CameraBatch(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


@dataclass(frozen=True)
class UnlabelledBatch:
    """Windows without 3D labels, and the keypoints of their output frames.

    Attributes:
        features: (N, T, J, 2 or 3) network input.
        keypoints: (N, O, J, 2) pixels; any value where the confidence is 0.
        scores: (N, O, J) confidence.
        centre, spread: as in :class:`Batch`.
        rotations: (N, O, 3, 3) camera axes to prediction axes; None where the two are the same.
        cameras: camera of each window.
    """

    features: Tensor
    keypoints: Tensor
    scores: Tensor
    centre: Tensor
    spread: Tensor
    rotations: Tensor | None
    cameras: CameraBatch


class BatchSource(Protocol):
    """Endless source of labelled batches."""

    @property
    def epoch(self) -> int | None:
        """Windows in one pass over the data; None for generated data, which has no passes."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; called once for each step, in order."""

    def state(self) -> Mapping[str, Any]:
        """Return what a resumed run needs besides the number of the step."""


class UnlabelledSource(Protocol):
    """Endless source of unlabelled batches."""

    def batch(self, step: int) -> UnlabelledBatch:
        """Return the batch of a step."""

    def validation_batch(self, windows: int) -> UnlabelledBatch:
        """Return at most so many windows, evenly spaced over the data, always the same."""


def to_precision(batch: AnyBatch, dtype: torch.dtype) -> AnyBatch:
    """Convert all tensors of a batch to another floating-point type."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, CameraBatch):
            parts = (getattr(value, part.name) for part in dataclasses.fields(value))
            values[field.name] = CameraBatch(*(part.to(dtype) for part in parts))
        else:
            values[field.name] = None if value is None else value.to(dtype)
    return dataclasses.replace(batch, **values)
