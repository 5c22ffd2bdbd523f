"""The interface of a lifter, for weight files and for lifters of other packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vp3d_cli.types import FloatArray

# Height of the body that lifters answer for.
LIFTER_HEIGHT_M = 1.70


class Lifter(Protocol):
    """Turns one person's 2D keypoints over time into 3D joints.

    Attributes:
        name: what results state.
        sha256: of the weights; empty where there are none.
        licence: condition of use of the weights.
        rate_hz: frame rate at which keypoints must come.
    """

    @property
    def name(self) -> str:
        """Return the metadata for the provenance of results."""
        ...

    @property
    def sha256(self) -> str:
        """Of the weights; empty where there are none."""
        ...

    @property
    def licence(self) -> str:
        """Condition of use of the weights."""
        ...

    @property
    def rate_hz(self) -> float:
        """Frame rate at which keypoints must come."""
        ...

    def lift(
        self,
        keypoints: FloatArray,
        scores: FloatArray,
        intrinsics: tuple[float, float, float, float],
        size_wh: tuple[int, int],
        *,
        flip_test: bool = True,
    ) -> FloatArray:
        """Lift one person.

        Args:
            keypoints: (T, 17, 2) pixels, the joints of COCO17, at ``rate_hz``; NaN where missing.
            scores: (T, 17) confidence 0..1.
            intrinsics: fx, fy, cx, cy in pixels.
            size_wh: of the image.
            flip_test: use test-time augmentation, if the lifter has any.

        Returns:
            (T, 17, 3) metres, the joints of H36M17, relative to the hip, camera axes, for a body of 1.7 m.
        """
        ...


@dataclass(frozen=True)
class LifterPlugin:
    """A lifter of another package, for the entry-point group ``vp3d.lifters``.

    Attributes:
        name: what ``--lifter`` takes.
        summary: one line for people who choose.
        licence: of the weights.
        loader: ``"module:function"`` or the function itself, called with the device (``auto``, ``cpu``, ...).
    """

    name: str
    summary: str
    licence: str
    loader: str | Callable[[str], Lifter]

    def load(self, device: str = "auto") -> Lifter:
        """Load the lifter.

        Raises:
            What the loader does.
        """
        if not isinstance(self.loader, str):
            return self.loader(device)
        module, _, name = self.loader.partition(":")
        loader: Callable[[str], Lifter] = getattr(importlib.import_module(module), name)
        return loader(device)
