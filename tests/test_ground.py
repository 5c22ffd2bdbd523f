"""World space: upright, on the floor, feet planted, jumps kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from tests.motions import walk
from vp3d_cli.errors import ShapeError
from vp3d_cli.ground import ANKLE_HEIGHT_M, WorldMotion, to_world
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import DoubleArray

FPS = 30.0
ANKLES = [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
# World (x right, y forward, z up) to a level camera 1.5 m above the floor, 5 m in front of the origin.
LEVEL = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def seen(world: DoubleArray, pitch: float = 0.0, roll: float = 0.0) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """World joints (T, 17, 3) as root-relative joints and root in camera space, and the true up direction there."""
    rotation = Rotation.from_euler("ZX", [roll, pitch], degrees=True).as_matrix() @ LEVEL
    camera = (world - [0, -5.0, 1.5]) @ rotation.T
    return camera - camera[:, :1], camera[:, 0], rotation @ [0, 0, 1.0]


def strolling(frames: int = 120) -> DoubleArray:
    """A walk whose standing foot stands: the root moves so that the lower foot keeps its place."""
    joints = walk(frames, FPS, 0.8)[:, :17].astype(np.float64)
    joints[:, :, 1] -= joints[:, :1, 1]
    lower = joints[:, ANKLES, 2].argmin(axis=1)
    foot = joints[np.arange(frames), [ANKLES[i] for i in lower]]
    step = np.diff(foot, axis=0)
    step[np.diff(lower) != 0] = 0
    joints[1:] -= np.cumsum(step, axis=0)[:, None]
    return joints


def up_error_deg(motion: WorldMotion, up: DoubleArray) -> float:
    return float(np.degrees(np.arccos(np.clip(motion.rotation[2] @ up, -1, 1))))


def run(world: DoubleArray, **view: float) -> tuple[WorldMotion, DoubleArray]:
    joints, root, up = seen(world, **view)
    times = np.arange(len(world)) / FPS
    return to_world(joints[None].astype(np.float32), root[None].astype(np.float32), None, times), up


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (50, 0), (-25, 0), (10, 20), (0, -20)])
def test_up_is_found(pitch: float, roll: float) -> None:
    motion, up = run(strolling(), pitch=pitch, roll=roll)
    assert up_error_deg(motion, up) < 4.0


def test_floor_is_at_zero_and_bones_keep_their_length() -> None:
    world = strolling()
    motion, _ = run(world, pitch=15)
    joints = motion.joints_world[0]
    assert abs(np.quantile(joints[:, ANKLES, 2].min(axis=1), 0.5) - ANKLE_HEIGHT_M) < 0.03
    assert joints[..., 2].min() > -0.02
    for parent, child in H36M17.bones:
        before = np.linalg.norm(world[:, child] - world[:, parent], axis=1)
        after = np.linalg.norm(joints[:, child] - joints[:, parent], axis=1)
        np.testing.assert_allclose(after, before, atol=1e-4)
    assert motion.camera_height_m == pytest.approx(1.5, abs=0.15)


def test_planting_takes_away_sliding() -> None:
    joints, root, _ = seen(strolling(), pitch=10)
    rng = np.random.default_rng(0)
    drift = gaussian_filter1d(rng.normal(size=len(root)), 12) * 1.2
    noisy = root * (1 + 0.05 * drift[:, None])
    times = np.arange(len(root)) / FPS
    motion = to_world(joints[None].astype(np.float32), noisy[None].astype(np.float32), None, times)
    before = (joints + noisy[:, None]) @ motion.rotation.T
    contacts = motion.contacts[0]

    def skate(world: DoubleArray) -> float:
        speed = np.linalg.norm(np.diff(world[:, ANKLES, :2], axis=0), axis=-1) * FPS
        both = contacts[1:] & contacts[:-1]
        return float(speed[both].mean())

    assert contacts.mean() > 0.2
    assert skate(motion.joints_world[0].astype(np.float64)) < 0.5 * skate(before)


def test_a_jump_stays_in_the_air() -> None:
    world = np.repeat(walk(1, FPS, 1.0)[:, :17], 60, axis=0).astype(np.float64)
    t = np.arange(60) / FPS - 0.7
    world[..., 2] += np.maximum(0, 0.5 - 4.905 * (t - 0.32) ** 2)[:, None]
    motion, _ = run(world)
    height = motion.joints_world[0, :, ANKLES, 2].min(axis=0) - ANKLE_HEIGHT_M
    assert height.max() == pytest.approx(0.5, abs=0.08)
    assert np.abs(height[:18]).max() < 0.05
    assert np.abs(height[-15:]).max() < 0.05
    assert not motion.contacts[0, 30].any()


def test_standing_on_a_wall_beside_someone_on_the_ground() -> None:
    ground = strolling(90)
    high = np.repeat(walk(1, FPS, 1.0)[:, :17], 90, axis=0).astype(np.float64) + [2.0, 0, 0]
    fall = np.clip((np.arange(90) - 45) / 20, 0, 1) ** 2
    high[..., 2] += (2.2 * (1 - fall))[:, None]
    views = [seen(person, pitch=5) for person in (ground, high)]
    times = np.arange(90) / FPS
    motion = to_world(
        np.stack([view[0] for view in views]).astype(np.float32),
        np.stack([view[1] for view in views]).astype(np.float32),
        None,
        times,
    )
    feet = motion.joints_world[:, :, ANKLES, 2].min(axis=2) - ANKLE_HEIGHT_M
    assert np.median(np.abs(feet[0])) < 0.05
    assert feet[1, :40].mean() == pytest.approx(2.2, abs=0.15)
    assert abs(feet[1, -15:].mean()) < 0.1


def test_missing_frames_and_single_frames() -> None:
    joints, root, _ = seen(strolling(40))
    people = np.stack([joints, joints]).astype(np.float32)
    roots = np.stack([root, root]).astype(np.float32)
    people[1, 1:] = np.nan
    roots[1, 1:] = np.nan
    people[0, 10:20] = np.nan
    roots[0, 10:20] = np.nan
    motion = to_world(people, roots, np.ones((2, 40)), np.arange(40) / FPS)
    finite = np.isfinite(motion.joints_world).all(axis=(2, 3))
    np.testing.assert_array_equal(finite, np.isfinite(people).all(axis=(2, 3)))


def test_nobody_upright_falls_back_to_a_level_camera() -> None:
    lying = strolling(30) @ Rotation.from_euler("x", 90, degrees=True).as_matrix().T
    motion, _ = run(lying)
    np.testing.assert_allclose(motion.rotation[2], [0, -1, 0], atol=1e-6)


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match="trajectory"):
        to_world(np.zeros((1, 4, 17, 3), np.float32), np.zeros((1, 5, 3), np.float32), None, np.arange(4.0))
