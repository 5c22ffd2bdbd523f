"""Pictures to draw on, and what was drawn on them."""

from __future__ import annotations

import numpy as np

from vp3d_cli.types import BoolArray, FrameBGR


def grey(size_wh: tuple[int, int] = (640, 360), level: int = 120) -> FrameBGR:
    """A picture of one colour."""
    return np.full((size_wh[1], size_wh[0], 3), level, np.uint8)


def colored(image: FrameBGR) -> BoolArray:
    """Pixels with a strong colour: limbs and labels, not the grey floor."""
    return np.asarray(np.ptp(image.astype(int), axis=2) > 60)
