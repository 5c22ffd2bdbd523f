"""Cameras: against OpenCV and scipy, and numpy against torch."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vp3d_cli.camera import (
    Intrinsics,
    project,
    rotate,
    rotate_back,
    rotation_from_axis_angle,
    rotation_to_axis,
    to_rays,
)
from vp3d_cli.errors import ConfigError

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 3)) * [0.8, 0.6, 0.5] + [0.1, -0.2, 4.0]
INTRINSICS = np.array([1150.0, 1130.0, 633.0, 371.0])
LENS = np.array([-0.21, 0.07, 0.002, -0.003, 0.015])


def cv2_project(points: np.ndarray, lens: np.ndarray) -> np.ndarray:
    fx, fy, cx, cy = INTRINSICS
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    pixels, _ = cv2.projectPoints(points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), matrix, lens)
    return pixels.reshape(-1, 2)


@pytest.mark.parametrize("lens", [np.zeros(5), LENS])
def test_project_is_opencvs(lens: np.ndarray) -> None:
    np.testing.assert_allclose(project(POINTS, INTRINSICS, lens), cv2_project(POINTS, lens), atol=1e-9)


def test_no_lens_is_a_lens_of_zeros() -> None:
    np.testing.assert_array_equal(project(POINTS, INTRINSICS), project(POINTS, INTRINSICS, np.zeros(5)))
    np.testing.assert_array_equal(project(POINTS, INTRINSICS), project(POINTS, tuple(INTRINSICS)))


def test_each_point_may_have_its_own_camera_and_lens() -> None:
    cameras = INTRINSICS * RNG.uniform(0.8, 1.2, size=(40, 1))
    lenses = LENS * RNG.uniform(0.5, 1.5, size=(40, 1))
    together = project(POINTS, cameras, lenses)
    for i in range(40):
        np.testing.assert_allclose(together[i], project(POINTS[i], cameras[i], lenses[i]))


def test_to_rays_undoes_project() -> None:
    rays = to_rays(project(POINTS, INTRINSICS), INTRINSICS)
    np.testing.assert_allclose(rays, POINTS[:, :2] / POINTS[:, 2:], atol=1e-12)


@given(st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_rotation_to_axis_is_the_smallest_that_centres_the_ray(x: float, y: float) -> None:
    r = rotation_to_axis(np.array([x, y]))
    ray = np.array([x, y, 1.0])
    np.testing.assert_allclose(r @ ray, [0, 0, np.linalg.norm(ray)], atol=1e-12)
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1.0)
    # No rotation that does so turns by less than the angle between ray and axis.
    assert Rotation.from_matrix(r).magnitude() == pytest.approx(math.atan(math.hypot(x, y)), abs=1e-7)


@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_axis_angle_is_scipys(vector: list[float]) -> None:
    ours = rotation_from_axis_angle(np.array(vector))
    np.testing.assert_allclose(ours, Rotation.from_rotvec(vector).as_matrix(), atol=1e-6)


def test_rotate_back_undoes_rotate() -> None:
    r = rotation_from_axis_angle(RNG.normal(size=(5, 3)))
    points = RNG.normal(size=(5, 7, 3))
    turned = rotate(r, points)
    np.testing.assert_allclose(turned[2, 3], r[2] @ points[2, 3])
    np.testing.assert_allclose(rotate_back(r, turned), points, atol=1e-9)


def test_torch_and_numpy_agree() -> None:
    points, camera, lens = (torch.from_numpy(a) for a in (POINTS, INTRINSICS, LENS))
    pairs = [
        (project(points, camera, lens), project(POINTS, INTRINSICS, LENS)),
        (to_rays(points[:, :2], camera), to_rays(POINTS[:, :2], INTRINSICS)),
        (rotation_to_axis(points[:, :2]), rotation_to_axis(POINTS[:, :2])),
        (rotation_from_axis_angle(points), rotation_from_axis_angle(POINTS)),
    ]
    for ours, theirs in pairs:
        assert isinstance(ours, torch.Tensor)
        assert isinstance(theirs, np.ndarray)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)
    single = project(points.float(), camera.float(), lens.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), pairs[0][1], rtol=1e-5)


def test_project_has_a_gradient() -> None:
    points = torch.from_numpy(POINTS[:4]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: project(p, torch.from_numpy(INTRINSICS), torch.from_numpy(LENS)), (points,)
    )


@pytest.mark.parametrize("size_wh", [(1920, 1080), (1080, 1920), (500, 500)])
def test_field_of_view_is_along_the_longer_side(size_wh: tuple[int, int]) -> None:
    camera = Intrinsics.from_fov(70.0, size_wh)
    assert 2 * math.degrees(math.atan(max(size_wh) / 2 / camera.fx)) == pytest.approx(70.0)
    assert camera.as_tuple() == (camera.fx, camera.fx, size_wh[0] / 2, size_wh[1] / 2)


@pytest.mark.parametrize("fov", [0.0, 0.5, 180.0, -60.0, math.nan])
def test_impossible_field_of_view(fov: float) -> None:
    with pytest.raises(ConfigError, match="field of view"):
        Intrinsics.from_fov(fov, (100, 100))


@pytest.mark.parametrize(
    "values", [(0.0, 1.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0), (math.inf, 1, 0, 0), (1, 1, math.nan, 0)]
)
def test_impossible_intrinsics(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="intrinsics"):
        Intrinsics(*values)
