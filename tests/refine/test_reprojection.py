"""Reprojection refinement."""

from __future__ import annotations

import numpy as np
import pytest
from test_trajectory import CAMERA, scene

from vp3d_cli.camera import project, to_rays
from vp3d_cli.refine.reprojection import refine_reprojection
from vp3d_cli.refine.trajectory import fit_trajectory
from vp3d_cli.skeletons import COCO17, COCO_LIMBS, H36M17, H36M_LIMBS


def lifted(frames: int = 40, across_m: float = 0.02) -> tuple[np.ndarray, ...]:
    """Lifted joints with errors in the image plane, the fitted root, and the true joints."""
    joints, _, keypoints, scores = scene(frames)
    said = joints.copy()
    said[:, H36M_LIMBS, :2] += across_m * np.random.default_rng(1).normal(size=(frames, 12, 2)).astype(np.float32)
    return said, fit_trajectory(said, keypoints, scores, CAMERA)[0], joints, keypoints, scores


def off_px(joints: np.ndarray, root: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(project((joints + root[:, None])[:, H36M_LIMBS], CAMERA) - keypoints[:, COCO_LIMBS], axis=-1)


def test_joints_move_towards_truth_and_keypoints() -> None:
    said, path, truth, keypoints, scores = lifted()
    given = said.copy(), path.copy()
    joints, moved = refine_reprojection(said, path, keypoints, np.where(scores > 0, 1.0, 0.0), CAMERA)
    assert joints.dtype == said.dtype
    assert off_px(joints, moved, keypoints).mean() < 0.6 * off_px(said, path, keypoints).mean()
    before, after = (np.linalg.norm((answer - truth)[:, H36M_LIMBS], axis=-1).mean() for answer in (said, joints))
    assert after < 0.75 * before
    for ours, theirs in zip((said, path), given, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_depths_are_unchanged_and_the_root_is_between_the_hips() -> None:
    said, path, _, keypoints, scores = lifted()
    said[:, 0] = 0.0
    joints, moved = refine_reprojection(said, path, keypoints, scores, CAMERA)
    np.testing.assert_array_equal(joints[..., 2], said[..., 2])
    np.testing.assert_array_equal(moved[:, 2], path[:, 2])
    np.testing.assert_array_equal(joints[:, 0], 0.0)
    hips = [H36M17.index("left_hip"), H36M17.index("right_hip")]
    shift = (joints - said)[:, hips].mean(axis=1)
    np.testing.assert_allclose(shift, 0.0, atol=1e-6)
    assert np.abs(moved - path).max() > 1e-3


def test_the_trunk_follows_hips_and_shoulders() -> None:
    said, path, _, keypoints, scores = lifted()
    joints, _ = refine_reprojection(said, path, keypoints, scores, CAMERA)
    way = joints - said
    shoulders = way[:, [H36M17.index("left_shoulder"), H36M17.index("right_shoulder")]].mean(axis=1)
    for joint, share in {"thorax": 1.0, "neck": 1.0, "head": 1.0, "spine": 0.5}.items():
        np.testing.assert_allclose(way[:, H36M17.index(joint)], share * shoulders, atol=1e-6)


@pytest.mark.parametrize("why", ["not seen", "no confidence"])
def test_a_joint_without_a_keypoint_stays_with_the_body(why: str) -> None:
    said, path, _, keypoints, scores = lifted()
    wrist = COCO17.index("left_wrist")
    if why == "not seen":
        keypoints[:, wrist] = np.nan
    else:
        keypoints[:, wrist] += 300.0
        scores[:, wrist] = 0.0
    joints, moved = refine_reprojection(said, path, keypoints, scores, CAMERA)
    wrist = H36M17.index("left_wrist")
    np.testing.assert_allclose((joints[:, wrist] + moved)[:, :2], (said[:, wrist] + path)[:, :2], atol=1e-6)


def test_confident_keypoints_have_more_effect() -> None:
    said, path, _, keypoints, scores = lifted()
    shares = []
    for confidence in (0.1, 0.3, 0.6, 1.0):
        joints, moved = refine_reprojection(said, path, keypoints, np.where(scores > 0, confidence, 0.0), CAMERA)
        shares.append(off_px(joints, moved, keypoints).mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9 * off_px(said, path, keypoints).mean()


def test_distant_keypoints_have_less_effect() -> None:
    said, path, _, keypoints, scores = lifted(across_m=0.0)
    elbow, at = COCO17.index("right_elbow"), H36M17.index("right_elbow")
    ways = []
    for metres in (0.05, 0.5):
        there = keypoints.copy()
        there[:, elbow, 0] += metres * CAMERA[0] / (said[:, at, 2] + path[:, 2])
        ways.append(np.abs(refine_reprojection(said, path, there, scores, CAMERA)[0] - said)[:, at, 0].mean())
    assert 0.0005 < ways[1] < ways[0] < 0.05


def test_unknown_roots_change_nothing() -> None:
    said, path, _, keypoints, scores = lifted()
    path[5:8] = np.nan
    joints, moved = refine_reprojection(said, path, keypoints, scores, CAMERA)
    np.testing.assert_array_equal(joints[5:8], said[5:8])
    assert np.isnan(moved[5:8]).all()
    assert np.isfinite(np.delete(moved, [5, 6, 7], axis=0)).all()


def test_unit_intrinsics_take_rays() -> None:
    said, path, _, keypoints, scores = lifted()
    rays = to_rays(keypoints.astype(np.float64), CAMERA)
    joints, moved = refine_reprojection(said, path, keypoints, scores, CAMERA)
    same = refine_reprojection(said, path, rays, scores, (1.0, 1.0, 0.0, 0.0))
    np.testing.assert_allclose(same[0], joints, atol=1e-6)
    np.testing.assert_allclose(same[1], moved, atol=1e-6)
