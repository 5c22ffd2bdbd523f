"""Bone-length refinement."""

from __future__ import annotations

import numpy as np

from vp3d_cli.refine.bone_lengths import refine_bone_lengths
from vp3d_cli.skeletons import H36M17


def turned_bodies(frames: int) -> np.ndarray:
    """Body (T, 17, 3) with fixed, symmetric bone lengths and random directions."""
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.1, 0.5, 17)
    lengths = (lengths + lengths[list(H36M17.flip_order)]) / 2
    directions = rng.normal(size=(frames, 17, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    joints = np.zeros((frames, 17, 3))
    for parent, joint in H36M17.bones:
        joints[:, joint] = joints[:, parent] + lengths[joint] * directions[:, joint]
    return joints.astype(np.float32)


def lengths_of(joints: np.ndarray) -> np.ndarray:
    """(T, 17) length of the bone that ends in each joint; 0 for the root."""
    lengths = np.zeros(joints.shape[:2])
    for parent, joint in H36M17.bones:
        lengths[:, joint] = np.linalg.norm(joints[:, joint] - joints[:, parent], axis=-1)
    return lengths


def test_lengths_vary_less_and_depths_come_nearer_to_the_truth() -> None:
    truth = turned_bodies(frames=60)
    said = truth.copy()
    said[..., 2] += np.random.default_rng(1).normal(size=said.shape[:2]) * 0.04
    said[:, 0] = 0.0
    given = said.copy()
    steady = refine_bone_lengths(said)
    np.testing.assert_array_equal(said, given)
    assert steady.dtype == np.float32
    assert lengths_of(steady).std(axis=0).mean() < 0.7 * lengths_of(said).std(axis=0).mean()
    assert np.abs(steady - truth)[..., 2].mean() < 0.9 * np.abs(said - truth)[..., 2].mean()


def test_only_depths_change_and_the_root_stays() -> None:
    said = turned_bodies(frames=20) + np.random.default_rng(0).normal(size=(20, 17, 3)) * 0.03
    steady = refine_bone_lengths(said.astype(np.float32))
    np.testing.assert_allclose(steady[..., :2], said[..., :2], atol=1e-6)
    np.testing.assert_allclose(steady[:, 0], said[:, 0], atol=1e-6)


def test_constant_lengths_are_unchanged() -> None:
    truth = turned_bodies(frames=30)
    np.testing.assert_allclose(refine_bone_lengths(truth), truth, atol=1e-5)
    np.testing.assert_allclose(refine_bone_lengths(truth[:1]), truth[:1], atol=1e-5)


def test_left_and_right_have_equal_lengths() -> None:
    said = turned_bodies(frames=60)
    elbow, left, right = (H36M17.index(joint) for joint in ("left_elbow", "left_wrist", "right_wrist"))
    said[:, left] = said[:, elbow] + 1.3 * (said[:, left] - said[:, elbow])
    before, after = (np.median(lengths_of(joints), axis=0) for joints in (said, refine_bone_lengths(said)))
    assert after[left] - after[right] < 0.8 * (before[left] - before[right])


def test_a_bone_perpendicular_to_the_view_is_unchanged() -> None:
    said = turned_bodies(frames=30)
    knee, ankle = H36M17.index("right_knee"), H36M17.index("right_ankle")
    said[7, ankle] = said[7, knee] + np.array([0.6, 0.0, 0.0])  # too long, but all of it is seen
    steady = refine_bone_lengths(said)
    np.testing.assert_allclose((steady[:, ankle] - steady[:, knee])[7], [0.6, 0.0, 0.0], atol=1e-5)


def test_the_mean_length_comes_from_perpendicular_frames() -> None:
    """With too small depths, only bones along the line of sight are too short."""
    truth = turned_bodies(frames=200)
    said = truth.copy()
    said[..., 2] *= 0.7
    gained = lengths_of(refine_bone_lengths(said)).mean(axis=0)[1:] - lengths_of(said).mean(axis=0)[1:]
    lacking = lengths_of(truth).mean(axis=0)[1:] - lengths_of(said).mean(axis=0)[1:]
    assert (gained > 0.35 * lacking).all()
