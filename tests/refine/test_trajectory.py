"""Root trajectory: fit to projections, and smoothing."""

from __future__ import annotations

import numpy as np
import pytest

from vp3d_cli.camera import project
from vp3d_cli.refine.trajectory import fit_trajectory, smooth_trajectory
from vp3d_cli.skeletons import COCO17, COCO_LIMBS, H36M_LIMBS

CAMERA = (1200.0, 1180.0, 640.0, 350.0)
FRAMES = 40


def scene(frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Joints relative to the root, the root's path, exact keypoints, scores."""
    rng = np.random.default_rng(0)
    joints = np.broadcast_to(rng.normal(size=(17, 3)) * [0.25, 0.5, 0.25], (frames, 17, 3)).copy()
    joints += 0.05 * rng.normal(size=(frames, 17, 3))
    joints[:, 0] = 0.0
    s = np.linspace(0, 1, frames)
    root = np.stack([-0.8 + 1.6 * s, 0.2 * np.sin(5 * s), 3.0 + 2.0 * s], axis=1)
    keypoints = np.full((frames, 17, 2), np.nan)
    keypoints[:, COCO_LIMBS] = project((joints + root[:, None])[:, H36M_LIMBS], CAMERA)
    scores = np.where(np.isfinite(keypoints).all(-1), 0.3 + 0.7 * rng.random((frames, 17)), 0.0)
    return joints.astype(np.float32), root, keypoints.astype(np.float32), scores.astype(np.float32)


def test_the_root_is_found_to_a_millimetre() -> None:
    joints, root, keypoints, scores = scene()
    found, weight = fit_trajectory(joints, keypoints, scores, CAMERA)
    assert np.linalg.norm(found - root, axis=1).max() < 1e-3
    assert (weight > 0).all()
    assert (weight <= 12).all()


@pytest.mark.parametrize("joint", ["left_wrist", "right_ankle", "left_hip"])
def test_one_wrong_joint_has_little_effect(joint: str) -> None:
    joints, root, keypoints, scores = scene()
    keypoints[:, COCO17.index(joint)] += [180.0, -90.0]
    scores[:] = np.where(scores > 0, 0.8, 0.0)
    found, weight = fit_trajectory(joints, keypoints, scores, CAMERA)
    robust = np.linalg.norm((found - root)[:, :2], axis=1).mean()
    assert robust < 0.04
    assert np.linalg.norm(found - root, axis=1).mean() < 0.25
    exact = fit_trajectory(joints, scene()[2], scores, CAMERA)[1]
    assert (weight < exact).all()


def test_a_joint_of_zero_confidence_has_no_effect() -> None:
    joints, root, keypoints, scores = scene()
    wrist = COCO17.index("left_wrist")
    keypoints[:, wrist] += 300.0
    scores[:, wrist] = 0.0
    found, _ = fit_trajectory(joints, keypoints, scores, CAMERA)
    assert np.linalg.norm(found - root, axis=1).max() < 1e-3


def test_frames_with_too_few_joints_are_unknown() -> None:
    joints, root, keypoints, scores = scene()
    keypoints[3] = np.nan
    scores[7, COCO_LIMBS[2:]] = 0.0
    keypoints[9, COCO_LIMBS[3:]] = np.nan
    found, weight = fit_trajectory(joints, keypoints, scores, CAMERA)
    unknown = np.isnan(found).all(axis=1)
    assert np.flatnonzero(unknown).tolist() == [3, 7]
    np.testing.assert_array_equal(weight == 0, unknown)
    assert np.linalg.norm(found[9] - root[9]) < 0.01  # three joints are enough


def test_roots_are_in_front_of_the_camera() -> None:
    joints, _, keypoints, scores = scene(4)
    keypoints = keypoints[:, ::-1].copy()  # joints of the wrong place: any depth might fit best
    found, _ = fit_trajectory(joints, keypoints, scores[:, ::-1].copy(), CAMERA)
    assert (found[:, 2] > 0).all()


def test_smoothing_keeps_a_straight_line() -> None:
    s = np.arange(60) / 30.0
    root = np.stack([-1 + 0.9 * s, 0.1 * s, np.full(60, 4.0)], axis=1)
    np.testing.assert_allclose(smooth_trajectory(root, np.ones(60), 30.0), root, atol=2e-3)


def test_smoothing_keeps_walking_away() -> None:
    s = np.arange(90) / 30.0
    root = np.stack([0.4 * s, 0.1 + 0 * s, 3.0 + 1.2 * s], axis=1)
    smoothed = smooth_trajectory(root, np.ones(90), 30.0)
    assert np.linalg.norm(smoothed - root, axis=1).max() < 0.02


def test_depth_is_smoothed_more_than_place() -> None:
    rng = np.random.default_rng(1)
    truth = np.tile([0.5, 0.2, 4.0], (200, 1))
    noisy = truth.copy()
    noisy[:, 2] += 0.2 * rng.normal(size=200)
    noisy[:, :2] = truth[:, :2] / 4.0 * noisy[:, 2:]
    smoothed = smooth_trajectory(noisy, np.ones(200), 30.0)
    assert smoothed[:, 2].std() < 0.3 * noisy[:, 2].std()

    # A quick step to the side stays one.
    step = truth.copy()
    step[100:, 0] += 0.4
    smoothed = smooth_trajectory(step, np.ones(200), 30.0)
    np.testing.assert_allclose(smoothed[[94, 106]], step[[94, 106]], atol=5e-3)


def test_frames_of_low_weight_follow_the_others() -> None:
    root = np.tile([0.0, 0.0, 4.0], (61, 1))
    root[30] = [0.5, 0.0, 6.0]
    weights = np.ones(61)
    weights[30] = 1e-3
    smoothed = smooth_trajectory(root, weights, 30.0)
    assert np.abs(smoothed - [0.0, 0.0, 4.0]).max() < 0.01


def test_gaps_are_filled_without_changing_other_frames() -> None:
    s = np.arange(150) / 30.0
    truth = np.stack([-1 + 0.5 * s, 0.3 * np.sin(3 * s), np.full(150, 4.0)], axis=1)
    weights = np.ones(150)
    whole = smooth_trajectory(truth, weights, 30.0)
    broken = truth.copy()
    broken[60:75] = np.nan
    broken[:4] = np.nan
    weights[60:75] = weights[:4] = 0.0
    smoothed = smooth_trajectory(broken, weights, 30.0)
    assert np.isfinite(smoothed).all()
    assert np.linalg.norm(smoothed - truth, axis=1)[60:75].max() < 0.08
    away = np.r_[12:50, 85:150]
    np.testing.assert_allclose(smoothed[away], whole[away], atol=1e-3)


def test_a_long_gap_does_not_change_distant_frames() -> None:
    s = np.arange(400) / 30.0
    truth = np.stack([0.2 * np.sin(6 * s), 0 * s, np.full(400, 4.0)], axis=1)
    weights = np.ones(400)
    weights[100:200] = 0.0
    truth_with_gap = np.where(weights[:, None] > 0, truth, np.nan)
    smoothed = smooth_trajectory(truth_with_gap, weights, 30.0)
    assert np.isfinite(smoothed).all()
    assert np.abs(smoothed - truth)[250:].max() < 0.02


@pytest.mark.parametrize("depth", [-0.4, 0.0, np.nan, np.inf, -np.inf])
def test_a_frame_behind_the_camera_changes_no_other(depth: float) -> None:
    s = np.arange(60) / 30.0
    truth = np.stack([0.3 * s, 0.1 + 0 * s, 3.0 + 0.5 * s], axis=1)
    root = truth.copy()
    root[20, 2] = depth
    smoothed = smooth_trajectory(root, np.ones(60), 30.0)
    assert np.abs(smoothed - truth).max() < 0.02
    assert np.isnan(smooth_trajectory(np.tile([0.1, 0.2, depth], (5, 1)), np.ones(5), 30.0)).all()


def test_nothing_known_stays_unknown() -> None:
    assert np.isnan(smooth_trajectory(np.full((5, 3), np.nan), np.zeros(5), 30.0)).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips(frames: int) -> None:
    joints, root, keypoints, scores = scene(frames)
    found, weight = fit_trajectory(joints, keypoints, scores, CAMERA)
    smoothed = smooth_trajectory(found, weight, 30.0)
    assert np.isfinite(smoothed).all()
    if frames == 1:
        np.testing.assert_allclose(smoothed, root, atol=2e-3)


def test_a_single_known_frame_fills_all() -> None:
    root = np.full((20, 3), np.nan)
    root[6] = [0.3, 0.1, 4.0]
    weights = np.zeros(20)
    weights[6] = 2.0
    np.testing.assert_allclose(smooth_trajectory(root, weights, 30.0), np.tile(root[6], (20, 1)), atol=1e-6)


def test_long_videos_need_little_memory() -> None:
    """Ten hours at 30 frames per second: memory must not grow with the square of the length."""
    frames = 200_000
    root = np.tile([0.0, 0.0, 4.0], (frames, 1))
    weights = np.ones(frames)
    weights[1000:1010] = 0.0
    np.testing.assert_allclose(smooth_trajectory(root, weights, 30.0), root, atol=1e-6)
