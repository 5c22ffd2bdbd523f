"""Geometry of crops: affine transforms between images and network inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vp3d_cli.detect.crops import crop_transform, extract_crop, invert_transform, transform_points

BOX = np.array([100.0, 50.0, 160.0, 200.0])
WH = (192, 256)


def test_box_is_grown_and_fits() -> None:
    """A box of 60 x 150 grows to 72 x 195, then to the input ratio: 146.25 x 195, same centre."""
    matrix = crop_transform(BOX, WH, (0.10, 0.15))
    corners = transform_points(invert_transform(matrix), np.array([[0, 0], [192, 256]]))
    np.testing.assert_allclose(corners, [[130 - 146.25 / 2, 125 - 97.5], [130 + 146.25 / 2, 125 + 97.5]])


def test_wide_box_is_limited_by_its_width() -> None:
    matrix = crop_transform(np.array([0.0, 0.0, 300.0, 100.0]), WH, (0.0, 0.0))
    corners = transform_points(invert_transform(matrix), np.array([[0, 0], [192, 256]]))
    np.testing.assert_allclose(corners, [[0, -150], [300, 250]])


@pytest.mark.parametrize("mirror", [False, True])
def test_inverse_transform(mirror: bool) -> None:
    matrix = crop_transform(BOX, WH, (0.1, 0.15), zoom=1.3, angle=0.4, mirror=mirror)
    points = np.random.default_rng(0).uniform(0, 300, (5, 2))
    np.testing.assert_allclose(transform_points(invert_transform(matrix), transform_points(matrix, points)), points)


def test_angle_zoom_and_mirror() -> None:
    plain = crop_transform(BOX, WH, (0, 0))
    scale = plain[0, 0]
    right = np.array([130 + 10, 125])  # of the centre
    middle = np.array([96, 128])
    np.testing.assert_allclose(transform_points(plain, right), middle + (10 * scale, 0))
    np.testing.assert_allclose(
        transform_points(crop_transform(BOX, WH, (0, 0), zoom=2), right), middle + (20 * scale, 0)
    )
    np.testing.assert_allclose(
        transform_points(crop_transform(BOX, WH, (0, 0), mirror=True), right), middle - (10 * scale, 0)
    )
    clockwise = crop_transform(BOX, WH, (0, 0), angle=math.pi / 2)  # y down: right goes down
    np.testing.assert_allclose(transform_points(clockwise, right), middle + (0, 10 * scale), atol=1e-9)


def blob(size_wh: tuple[int, int], at: tuple[float, float], sigma: float) -> np.ndarray:
    """Image of a bright spot at a continuous position."""
    x, y = np.meshgrid(np.arange(size_wh[0]) + 0.5, np.arange(size_wh[1]) + 0.5)
    spot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
    return np.repeat(spot[..., None], 3, axis=2).round().astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image[..., 0].astype(np.float64)
    x, y = np.meshgrid(np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5)
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("size", [60, 150, 700, 2000])
@pytest.mark.parametrize("turn", [{}, {"angle": 0.5}, {"mirror": True}])
def test_image_content_moves_with_points(size: int, turn: dict[str, float]) -> None:
    """Image content moves with the transformed points, to a tenth of a pixel."""
    at = (0.55 * size + 33.3, 0.45 * size + 20.6)
    image = blob((size + 60, size + 40), at, size / 40)
    matrix = crop_transform(np.array([20.0, 10.0, 20 + size, 10 + size]), WH, (0.1, 0.1), **turn)  # type: ignore[arg-type]
    result = extract_crop(image, matrix, WH)
    np.testing.assert_allclose(centroid(result), transform_points(matrix, np.array(at)), atol=0.1)


def test_outside_of_the_image_is_border() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    beside = extract_crop(image, crop_transform(np.array([500.0, 500.0, 560.0, 580.0]), WH, (0, 0)), WH, (1, 2, 3))
    assert beside.shape == (256, 192, 3)
    assert (beside == (1, 2, 3)).all()
    partly = extract_crop(image, crop_transform(np.array([-48.0, 20.0, 48.0, 148.0]), WH, (0, 0)), WH, (1, 2, 3))
    assert (partly[50, 10] == (1, 2, 3)).all()
    assert (partly[50, 150] == 200).all()


def test_a_box_much_larger_than_the_image() -> None:
    """An image that shrinks to less than a pixel gives only the border colour."""
    image = np.full((4, 4, 3), 200, np.uint8)
    assert (extract_crop(image, crop_transform(np.array([0.0, 0.0, 1e5, 1e5]), WH, (0, 0)), WH) == 0).all()
