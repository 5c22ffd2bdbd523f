"""Hard cuts between camera shots."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vp3d_cli.track import CutDetector
from vp3d_cli.types import FrameBGR


def scene(seed: int) -> FrameBGR:
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_LINEAR), np.uint8)


@pytest.mark.parametrize(("colour", "frames"), [(255, 1), (0, 1), (0, 3), (0, 12)])
def test_white_and_black_frames_are_no_cut(colour: int, frames: int) -> None:
    blank = np.full((180, 320, 3), colour, np.uint8)
    cuts = CutDetector()
    assert not any(cuts.update(image) for image in [scene(1)] * 5 + [blank] * frames + [scene(1)] * 5)


def test_another_scene_is_a_cut_also_after_black_frames() -> None:
    black = np.zeros((180, 320, 3), np.uint8)
    for between in (0, 3):
        images = [scene(1)] * 5 + [black] * between + [scene(2)] * 5
        cuts = CutDetector()
        assert [i for i, image in enumerate(images) if cuts.update(image)] == [5 + between]
