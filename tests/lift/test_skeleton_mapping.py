"""Keypoints and joints of one skeleton turned into another's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from motions import ARCHIVE_JOINTS, walk

from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.skeleton_mapping import as_trained, complete, from_coco, to_h36m17
from vp3d_cli.skeletons import COCO17, H36M17, HUMANEVA15
from vp3d_cli.types import FloatArray

PLAIN = [name.replace("left_", "l").replace("right_", "r") for name in COCO17.joints]


def coco_of(joints: FloatArray) -> FloatArray:
    """COCO's keypoints of a walk, seen from the side."""
    return joints[:, [ARCHIVE_JOINTS.index(name) for name in PLAIN]][..., 1:]


def test_human36m_joints_lie_where_a_body_has_them() -> None:
    joints = walk(10, 30.0, 1.0)
    made = from_coco(coco_of(joints), "h36m17")
    true = joints[:, :17, 1:]
    off = np.linalg.norm(made - true, axis=2).max(axis=0)
    shared = [i for i, name in enumerate(H36M17.joints) if name in COCO17.joints or name == "hip"]
    assert off[shared].max() < 1e-6
    assert off.max() < 0.06


def test_every_conversion_commutes_with_moving_scaling_and_mirroring() -> None:
    keypoints = np.random.default_rng(0).normal(size=(5, 17, 2)).astype(np.float32)
    for skeleton in (H36M17, HUMANEVA15):
        made = from_coco(keypoints, skeleton.name)
        moved = from_coco(keypoints * 3 + np.float32(7), skeleton.name)
        np.testing.assert_allclose(moved, made * 3 + 7, atol=1e-4)
        mirrored = keypoints[:, list(COCO17.flip_order)] * np.array([-1, 1], np.float32)
        expected = made[:, list(skeleton.flip_order)] * np.array([-1, 1], np.float32)
        np.testing.assert_allclose(from_coco(mirrored, skeleton.name), expected, atol=1e-5)


def test_missing_keypoints_stay_missing_where_they_are_needed() -> None:
    keypoints = np.ones((2, 17, 2), np.float32)
    keypoints[1, COCO17.index("left_hip")] = np.nan
    made = from_coco(keypoints, "h36m17")
    missing = {H36M17.joints[i] for i in np.flatnonzero(np.isnan(made[1, :, 0]))}
    assert missing == {"left_hip", "hip", "spine"}
    assert np.isfinite(made[0]).all()


def test_gaps_are_filled_over_time_and_from_neighbours() -> None:
    keypoints = np.arange(5, dtype=np.float32)[:, None, None].repeat(17, 1).repeat(2, 2)
    scores = np.ones((5, 17), np.float32)
    scores[1:4, 9] = 0.01  # a guess
    keypoints[2, 9] = 99
    keypoints[4, 10] = np.nan
    keypoints[:, 15] = np.nan
    keypoints[:, 13] += 100
    filled = complete(keypoints, scores, 0.05)
    np.testing.assert_allclose(filled[:, 9, 0], np.arange(5))
    assert filled[4, 10, 0] == 3
    np.testing.assert_allclose(filled[:, 15], filled[:, 13])  # the ankle lies where the knee does
    assert np.isnan(complete(np.full((3, 17, 2), np.nan, np.float32), np.zeros((3, 17), np.float32), 0.05)).all()
    assert np.isnan(keypoints[4, 10]).all()  # the input stays as it is


def test_humaneva_joints_become_human36m() -> None:
    joints = np.random.default_rng(0).normal(size=(4, 15, 3)).astype(np.float32)
    made = to_h36m17(joints, "humaneva15")
    for name in HUMANEVA15.joints:
        np.testing.assert_array_equal(made[:, H36M17.index(name)], joints[:, HUMANEVA15.index(name)])
    np.testing.assert_allclose(made[:, H36M17.index("neck")], (joints[:, 1] + joints[:, 14]) / 2, rtol=1e-6)
    assert to_h36m17(made, "h36m17") is made


def test_conversions_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="keypoints of mpii16 cannot use"):
        from_coco(np.zeros((1, 17, 2), np.float32), "mpii16")
    with pytest.raises(ConfigError, match="joints of mpii16"):
        to_h36m17(np.zeros((1, 16, 3), np.float32), "mpii16")


def test_keypoints_as_a_lifter_was_trained_on() -> None:
    rng = np.random.default_rng(0)
    keypoints, scores = (
        rng.normal(size=(2, 3, 17, 2)).astype(np.float32),
        rng.uniform(0.1, 1, (2, 3, 17)).astype(np.float32),
    )
    keypoints[0, 1, COCO17.index("left_hip")] = np.nan
    # COCO's with confidence stay as they are.
    assert as_trained(keypoints, scores, InputRule())[0] is keypoints
    points, sure = as_trained(keypoints, scores, InputRule("ray", skeleton_2d="h36m17"))
    hips = scores[..., [COCO17.index("left_hip"), COCO17.index("right_hip")]]
    np.testing.assert_array_equal(sure[..., 0], hips.min(axis=-1))
    np.testing.assert_array_equal(sure[..., H36M17.index("left_knee")], scores[..., COCO17.index("left_knee")])
    np.testing.assert_array_equal(points[1], from_coco(keypoints[1], "h36m17"))
    # Where the network knows no confidence, all are sure; torch gives what numpy gives.
    rule = InputRule("screen", confidence=False, skeleton_2d="h36m17")
    again, all_sure = as_trained(torch.from_numpy(keypoints), torch.from_numpy(scores), rule)
    np.testing.assert_allclose(again.numpy(), points, atol=1e-6)
    assert bool((all_sure == 1).all())
