"""Boxes around whole people for top-down pose networks."""

from __future__ import annotations

import numpy as np

from vp3d_cli.detect.crops import person_boxes
from vp3d_cli.types import Keypoints2D

CORNERS = np.array([[10, 20], [110, 220]], np.float32)


def people(box: tuple[float, float, float, float], keypoints: np.ndarray) -> Keypoints2D:
    return Keypoints2D(
        np.array([box], np.float32), keypoints[None], np.ones((1, 17), np.float32), np.ones(1, np.float32)
    )


def keypoints() -> np.ndarray:
    return np.resize(CORNERS, (17, 2)).astype(np.float32)


def test_a_box_around_keypoints_grows() -> None:
    [box] = person_boxes(people((10, 20, 110, 220), keypoints()))
    np.testing.assert_allclose(box, [0, 0, 120, 240])


def test_a_box_around_some_of_the_keypoints_grows() -> None:
    """MoveNet draws its box around its confident keypoints."""
    [box] = person_boxes(people((20, 20, 70, 120), keypoints()))
    np.testing.assert_allclose(box, [15, 10, 75, 130])


def test_a_box_around_the_whole_person_stays() -> None:
    [box] = person_boxes(people((5, 2, 115, 230), keypoints()))
    np.testing.assert_allclose(box, [5, 2, 115, 230])


def test_a_box_without_keypoints_stays() -> None:
    [box] = person_boxes(people((10, 20, 110, 220), np.full((17, 2), np.nan, np.float32)))
    np.testing.assert_allclose(box, [10, 20, 110, 220])
