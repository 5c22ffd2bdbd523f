"""Errors of 3D pose: closed-form cases, and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from vp3d_cli import metrics
from vp3d_cli.errors import ShapeError


def poses(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, 17, 3)) * 0.4


def moved(points: np.ndarray, seed: int, scale: float = 1.7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    return scale * points @ turn.T + rng.normal(size=3)


def test_mpjpe_of_a_shift_is_its_length() -> None:
    truth = poses(4)
    np.testing.assert_allclose(metrics.mpjpe(truth + np.array([0.03, 0.0, 0.04]), truth), 0.05)
    np.testing.assert_array_equal(metrics.mpjpe(truth, truth), 0.0)


def test_mpjpe_is_the_mean_over_joints() -> None:
    truth = np.zeros((1, 4, 3))
    predicted = truth.copy()
    predicted[0, 2] = [0.0, 0.3, 0.4]
    np.testing.assert_allclose(metrics.joint_errors(predicted, truth), [[0.0, 0.0, 0.5, 0.0]])
    np.testing.assert_allclose(metrics.mpjpe(predicted, truth), [0.125])


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_n_mpjpe_does_not_see_scale(scale: float) -> None:
    truth = poses(5)
    np.testing.assert_allclose(metrics.n_mpjpe(scale * truth, truth), 0.0, atol=1e-12)


def test_scale_is_the_least_squares_one() -> None:
    predicted, truth = poses(3, seed=1), poses(3, seed=2) + 2 * poses(3, seed=1)
    best = metrics.scale_align(predicted, truth)
    squares = ((best - truth) ** 2).sum((-2, -1))
    for factor in (0.999, 1.001):
        assert (((factor * best - truth) ** 2).sum((-2, -1)) > squares).all()


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_p_mpjpe_does_not_see_a_similarity(seed: int, scale: float) -> None:
    truth = poses(2, seed=seed)
    np.testing.assert_allclose(metrics.p_mpjpe(moved(truth, seed, scale), truth), 0.0, atol=1e-9)


def test_procrustes_is_scipys() -> None:
    """scipy reports the squared distance after both are centred and scaled to unit norm."""
    for seed in range(8):
        truth = poses(seed=seed)
        predicted = moved(truth + 0.1 * poses(seed=seed + 50), seed)
        centred = truth - truth.mean(0)
        _, _, disparity = procrustes(truth, predicted)
        ours = metrics.procrustes_align(predicted, truth)
        assert ((ours - truth) ** 2).sum() / (centred**2).sum() == pytest.approx(disparity, abs=1e-9)


def test_procrustes_does_not_mirror() -> None:
    truth = poses(3)
    mirrored = truth * [-1.0, 1.0, 1.0]
    assert (metrics.p_mpjpe(mirrored, truth) > 0.05).all()
    # No rotation and scale does better: try many.
    centred, real = mirrored[0] - mirrored[0].mean(0), truth[0] - truth[0].mean(0)
    ours = ((metrics.procrustes_align(mirrored[0], truth[0]) - truth[0]) ** 2).sum()
    for turn in Rotation.random(300, random_state=0).as_matrix():
        turned = centred @ turn.T
        scale = max(0.0, (turned * real).sum() / (turned**2).sum())
        assert ((scale * turned - real) ** 2).sum() >= ours - 1e-9


def test_alignments_of_a_pose_in_one_point_are_finite() -> None:
    truth = poses(1)
    flat = np.zeros_like(truth)
    for align in (metrics.scale_align, metrics.procrustes_align):
        assert np.isfinite(align(flat, truth)).all()
    assert np.isfinite(metrics.p_mpjpe(truth, flat)).all()


def test_metrics_are_ordered() -> None:
    truth, predicted = poses(20), poses(20) + 0.2 * poses(20, seed=9)
    plain = np.sqrt(((predicted - truth) ** 2).sum((-2, -1)))
    scaled = np.sqrt(((metrics.scale_align(predicted, truth) - truth) ** 2).sum((-2, -1)))
    aligned = np.sqrt(((metrics.procrustes_align(predicted, truth) - truth) ** 2).sum((-2, -1)))
    assert (scaled <= plain + 1e-12).all()
    assert (aligned <= scaled + 1e-12).all()


def test_mpjve_of_a_constant_drift() -> None:
    truth = np.cumsum(poses(6), axis=0)
    drift = np.arange(6)[:, None, None] * np.array([0.0, 0.006, 0.008])
    np.testing.assert_allclose(metrics.mpjve(truth + drift, truth), 0.01)
    np.testing.assert_allclose(metrics.mpjve(truth + 5.0, truth), 0.0, atol=1e-12)
    assert metrics.mpjve(truth, truth).shape == (5,)
    assert metrics.mpjve(poses(2, 6), poses(2, 6)).shape == (2, 5)


def test_pck_counts_joints_within_the_threshold() -> None:
    truth = np.zeros((1, 4, 3))
    predicted = np.zeros((1, 4, 3))
    predicted[0, :, 0] = [0.0, 0.149, 0.151, 1.0]
    np.testing.assert_allclose(metrics.pck(predicted, truth), [0.5])
    np.testing.assert_allclose(metrics.pck(predicted, truth, threshold=0.2), [0.75])


def test_auc_of_known_errors() -> None:
    truth = np.zeros((1, 1, 3))
    for error, expected in ((0.0, 31 / 31), (0.0751, 15 / 31), (0.2, 0.0)):
        predicted = np.array([[[error, 0.0, 0.0]]])
        np.testing.assert_allclose(metrics.auc(predicted, truth), [expected], err_msg=str(error))


def test_auc_is_the_mean_of_pck_over_thresholds() -> None:
    truth, predicted = poses(5), poses(5) + 0.2 * poses(5, seed=3)
    curve = [metrics.pck(predicted, truth, threshold) for threshold in np.linspace(0, 0.15, 31)]
    np.testing.assert_allclose(metrics.auc(predicted, truth), np.mean(curve, axis=0))


def test_float32_is_computed_in_double() -> None:
    truth = (poses(3) + 100).astype(np.float32)
    predicted = truth + np.float32(0.001)
    assert metrics.mpjpe(predicted, truth).dtype == np.float64
    assert metrics.p_mpjpe(predicted, truth).max() < 1e-4


@pytest.mark.parametrize(("a", "b"), [((17, 3), (16, 3)), ((17, 2), (17, 2)), ((3,), (3,)), ((1, 17, 3), (17, 3))])
def test_shapes_that_do_not_fit(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    for metric in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe, metrics.pck):
        with pytest.raises(ShapeError, match="of one shape"):
            metric(np.zeros(a), np.zeros(b))
