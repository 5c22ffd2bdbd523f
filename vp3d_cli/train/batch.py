"""What the loop trains on: batches of windows, labelled and not, and what gives them.

Dimensions: N windows, T frames, O output frames, J joints of the 2D skeleton, K of the 3D skeleton.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound="Batch | Unlabelled")


@dataclass(frozen=True)
class Batch:
    """Labelled windows as the network sees them.

    Attributes:
        features: (N, T, J, 2 or 3).
        joints: (N, O, K, 3) root-relative joints, answer axes, metres.
        root: (N, O, 3) root joint, answer axes, metres.
        centre, spread: (N, O, 2) and (N, O), for :func:`vp3d_cli.lift.input_rule.decode_root`.
    """

    features: Tensor
    joints: Tensor
    root: Tensor
    centre: Tensor
    spread: Tensor

    def select(self, index: Tensor | slice) -> Batch:
        """The windows with these indices."""
        fields = (self.features, self.joints, self.root, self.centre, self.spread)
        return Batch(*(values[index] for values in fields))


@dataclass(frozen=True)
class Lens:
    """How each window's camera projects: pixels, and the distortion of :mod:`vp3d_cli.train.reprojection`.

    Attributes:
        intrinsics: (N, 4) fx fy cx cy.
        distortion: (N, 5) k1 k2 p1 p2 k3.
        mixed: (N,) how often the mixed tangential terms count: 2 as OpenCV has it, 1 as Human3.6M has it.
        width: (N,) of the image.
    """

    intrinsics: Tensor
    distortion: Tensor
    mixed: Tensor
    width: Tensor

    def select(self, index: Tensor | slice) -> Lens:
        """Those with these indices."""
        return Lens(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


@dataclass(frozen=True)
class Unlabelled:
    """Windows without labels, and what was seen in their output frames.

    Attributes:
        features: (N, T, J, 2 or 3).
        keypoints: (N, O, J, 2) pixels; anything where the confidence is 0.
        scores: (N, O, J) confidence.
        centre, spread: as in :class:`Batch`.
        rotations: (N, O, 3, 3) camera axes to answer axes; None where the two are the same.
        lens: of each window's camera.
    """

    features: Tensor
    keypoints: Tensor
    scores: Tensor
    centre: Tensor
    spread: Tensor
    rotations: Tensor | None
    lens: Lens


class BatchSource(Protocol):
    """Labelled windows without end."""

    @property
    def epoch(self) -> int | None:
        """Windows of one pass over the data; None where there is no end to them."""

    def batch(self, step: int) -> Batch:
        """The windows of a step, which is called once each, in order."""

    def state(self) -> Mapping[str, Any]:
        """What a source that goes on with the next step needs besides its number."""


class UnlabelledSource(Protocol):
    """Windows without labels, without end."""

    def batch(self, step: int) -> Unlabelled:
        """The windows of a step."""

    def exam(self, windows: int) -> Unlabelled:
        """At most so many windows, evenly spread, always the same."""


def to_precision(batch: T, dtype: torch.dtype) -> T:
    """The batch with all its numbers in another precision."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Lens):
            values[field.name] = Lens(*(getattr(value, part.name).to(dtype) for part in dataclasses.fields(value)))
        else:
            values[field.name] = None if value is None else value.to(dtype)
    return dataclasses.replace(batch, **values)
