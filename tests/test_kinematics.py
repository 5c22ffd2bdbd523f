"""Rotations and forward kinematics, against scipy's and against round trips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vp3d_cli.errors import ConfigError
from vp3d_cli.kinematics import (
    EULER_ORDERS,
    euler_angles,
    global_rotations,
    joint_positions,
    local_rotations,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rest_positions,
    without_sign_flips,
)
from vp3d_cli.skeletons import H36M17


def random_rotations(count: int, seed: int = 0) -> Rotation:
    return Rotation.random(count, rng=np.random.default_rng(seed))


def test_quaternions_and_matrices_agree_with_scipy() -> None:
    turns = random_rotations(500)
    matrices = turns.as_matrix()
    ours = quaternion_from_matrix(matrices)
    np.testing.assert_allclose(ours, turns.as_quat(canonical=True, scalar_first=True), atol=1e-12)
    np.testing.assert_allclose(matrix_from_quaternion(ours), matrices, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_half_turns(axis: int) -> None:
    matrix = -np.eye(3)
    matrix[axis, axis] = 1.0
    quaternion = quaternion_from_matrix(matrix)
    np.testing.assert_allclose(np.abs(quaternion), np.eye(4)[axis + 1], atol=1e-12)


def test_missing_stays_missing() -> None:
    assert np.isnan(quaternion_from_matrix(np.full((2, 3, 3), np.nan))).all()
    assert np.isnan(matrix_from_quaternion(np.full((2, 4), np.nan))).all()


@pytest.mark.parametrize("order", EULER_ORDERS)
def test_euler_angles_of_any_order(order: str) -> None:
    turns = random_rotations(200, seed=1)
    angles = euler_angles(turns.as_matrix(), order)
    again = Rotation.from_euler(order, angles, degrees=True)  # capitals: about the axes of the moving frame
    np.testing.assert_allclose((again.inv() * turns).magnitude(), 0.0, atol=1e-7)


@pytest.mark.parametrize("order", EULER_ORDERS)
@pytest.mark.parametrize("middle", [90.0, -90.0])
def test_gimbal_lock_is_a_rotation_all_the_same(order: str, middle: float) -> None:
    wanted = Rotation.from_euler(order, [[25.0, middle, 40.0]], degrees=True)
    again = Rotation.from_euler(order, euler_angles(wanted.as_matrix(), order), degrees=True)
    assert (again.inv() * wanted).magnitude().max() < 1e-6


def test_euler_angles_do_not_jump() -> None:
    """Three turns about the vertical, and a cartwheel through the pole of the order."""
    spin = Rotation.from_euler("Y", np.linspace(0, 1080, 200)[:, None], degrees=True)
    assert np.abs(np.diff(euler_angles(spin.as_matrix(), "ZXY"), axis=0)).max() < 6
    cartwheel = Rotation.from_euler("ZX", np.column_stack([np.full(100, 20.0), np.linspace(0, 175, 100)]), degrees=True)
    assert np.abs(np.diff(euler_angles(cartwheel.as_matrix(), "ZXY"), axis=0)).max() < 3


def test_unknown_order() -> None:
    with pytest.raises(ConfigError, match=r"XYX.*known: XYZ"):
        euler_angles(np.eye(3)[None], "XYX")


def test_signs_follow_each_other() -> None:
    smooth = Rotation.from_euler("Z", np.linspace(0, 700, 50)[:, None], degrees=True)
    quaternions = quaternion_from_matrix(smooth.as_matrix())
    steady = without_sign_flips(quaternions)
    assert ((steady[1:] * steady[:-1]).sum(axis=-1) > 0).all()
    np.testing.assert_allclose(matrix_from_quaternion(steady), smooth.as_matrix(), atol=1e-12)


def test_forward_kinematics_keeps_bones_and_undoes() -> None:
    rng = np.random.default_rng(3)
    offsets = rng.normal(size=(17, 3))
    offsets[0] = 0
    local = random_rotations(5 * 17).as_matrix().reshape(5, 17, 3, 3)
    turns = global_rotations(local, H36M17.parents)
    np.testing.assert_allclose(local_rotations(turns, H36M17.parents), local, atol=1e-12)
    root = rng.normal(size=(5, 3))
    joints = joint_positions(turns, offsets, root, H36M17.parents)
    np.testing.assert_array_equal(joints[:, 0], root)
    for parent, joint in H36M17.bones:
        lengths = np.linalg.norm(joints[:, joint] - joints[:, parent], axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(offsets[joint]), atol=1e-12)
    # One chain by hand: hip, right hip, right knee.
    by_hand = root + local[:, 0] @ offsets[1] + (local[:, 0] @ local[:, 1]) @ offsets[2]
    np.testing.assert_allclose(joints[:, 2], by_hand, atol=1e-12)
    np.testing.assert_allclose(rest_positions(offsets, H36M17.parents)[2], offsets[1] + offsets[2])
