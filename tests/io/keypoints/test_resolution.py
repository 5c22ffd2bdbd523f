"""Keypoints that were made from a larger or smaller copy of the video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from keypoint_samples import FRAMES, coco_dataset, dump, fails, flat, video, walk_coco

from vp3d_cli.io.keypoints import read_keypoints


def results(path: Path, scale: float, offset: tuple[float, float] = (0.0, 0.0)) -> Path:
    """COCO results of one person, with positions scaled and then moved."""
    points = walk_coco() * scale + np.asarray(offset, np.float32)
    return dump(path, [{"image_id": i, "category_id": 1, "keypoints": flat(points[i])} for i in range(FRAMES)])


@pytest.mark.parametrize("scale", [2.0, 3.0])
def test_a_larger_copy_is_refused_with_both_sizes(tmp_path: Path, scale: float) -> None:
    size = f"{640 * scale:.0f}x{480 * scale:.0f}"
    message = rf"% of the keypoints lie outside the image of 640x480 pixels .*as in a video of {size} or larger"
    offset = (0.0, 100.0 * scale)
    fails(results(tmp_path / "a.json", scale, offset), message, video())


def test_a_smaller_copy_is_a_warning(tmp_path: Path) -> None:
    (warning,) = read_keypoints(results(tmp_path / "a.json", 0.5, (120.0, 70.0)), video()).warnings
    assert "all keypoints lie in the upper left" in warning
    assert "of 640x480 pixels" in warning
    assert read_keypoints(results(tmp_path / "b.json", 1.0), video()).warnings == ()


def test_people_half_out_of_view_are_no_other_resolution(tmp_path: Path) -> None:
    file = read_keypoints(results(tmp_path / "a.json", 1.0, (0.0, 175.0)), video())  # the ankles are below the edge
    assert [len(people) for people in file.detections] == [1] * FRAMES


def test_a_stated_size_of_the_same_shape_is_scaled(tmp_path: Path) -> None:
    path = dump(tmp_path / "a.json", coco_dataset())
    file = read_keypoints(path, video(size_wh=(320, 240)))
    assert file.warnings == ("the file was made for images of 640x480 pixels: positions are scaled to 320x240",)
    np.testing.assert_allclose(file.detections[0].keypoints[0], walk_coco()[0] / 2, atol=1e-3)
    fails(path, "made for images of 640x480 pixels, but clip.mp4 has 640x360", video(size_wh=(640, 360)))
