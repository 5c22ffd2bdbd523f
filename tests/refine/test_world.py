"""World space: gravity direction, floor and foot locking."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from vp3d_cli.errors import ShapeError
from vp3d_cli.refine.gravity import Footprints
from vp3d_cli.refine.world import to_world
from vp3d_cli.skeletons import H36M17

Array = NDArray[Any]
ANKLES = [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
HIP = H36M17.index("hip")
FPS = 30.0
ANKLE, THIGH, SHIN = 0.08, 0.44, 0.44


def leg(hip: Array, ankle: Array, ahead: Array) -> Array:
    """Knee of a leg (T, 3) that bends towards ``ahead``."""
    reach = ankle - hip
    length = np.linalg.norm(reach, axis=1, keepdims=True)
    assert (length < THIGH + SHIN).all()
    along = reach / length
    forward = (THIGH**2 - SHIN**2 + length**2) / (2 * length)
    side = ahead - (along @ ahead)[:, None] * along
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    knee: Array = hip + forward * along + np.sqrt(THIGH**2 - forward**2) * side
    return knee


def person(root: Array, ankles: dict[str, Array], heading: float = 0.0) -> Array:
    """Body (T, 17, 3) in world space with a natural forward lean, on given ankles (T, 3)."""
    ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
    left = np.array([-math.sin(heading), math.cos(heading), 0.0])
    body = np.zeros((len(root), 17, 3))

    def put(joint: str, to_front: float, to_left: float, up: float) -> None:
        body[:, H36M17.index(joint)] = root + to_front * ahead + to_left * left + [0, 0, up]

    trunk = (("hip", 0, 0), ("spine", 0.03, 0.23), ("thorax", 0.08, 0.48), ("neck", 0.12, 0.6), ("head", 0.13, 0.78))
    for joint, to_front, up in trunk:
        put(joint, to_front, 0, up)
    for side, sign in (("left", 1), ("right", -1)):
        put(f"{side}_hip", 0, 0.12 * sign, 0)
        put(f"{side}_shoulder", 0.08, 0.18 * sign, 0.48)
        put(f"{side}_elbow", 0.04, 0.22 * sign, 0.2)
        put(f"{side}_wrist", 0.1, 0.24 * sign, -0.04)
        hip = body[:, H36M17.index(f"{side}_hip")]
        body[:, H36M17.index(f"{side}_ankle")] = ankles[side]
        body[:, H36M17.index(f"{side}_knee")] = leg(hip, ankles[side], ahead)
    return body


def walk(
    seconds: float = 6.0,
    fps: float = FPS,
    speed: float = 1.1,
    heading: float = 0.0,
    start: tuple[float, float] = (0.0, 0.0),
) -> tuple[Array, Array]:
    """A walk with exact foot contacts: joints (T, 17, 3) and contacts (T, 2)."""
    times = np.arange(round(seconds * fps)) / fps
    ahead = np.array([math.cos(heading), math.sin(heading), 0.0])
    left = np.array([-math.sin(heading), math.cos(heading), 0.0])
    begin = np.array([*start, 0.0])
    root = begin + speed * times[:, None] * ahead + [0, 0, 0.86]
    root[:, 2] += 0.015 * np.cos(4 * np.pi * times)
    standing = np.zeros((len(times), 2), bool)
    ankles = {}
    for i, (side, sign) in enumerate((("left", 1), ("right", -1))):
        phase = times + 0.5 * i
        step, part = np.floor(phase), phase % 1.0
        swing = np.clip((part - 0.6) / 0.4, 0, 1)
        where = speed * (step - 0.5 * i + 0.3) + speed * 0.5 * (1 - np.cos(np.pi * swing))
        height = ANKLE + 0.1 * np.sin(np.pi * swing) ** 2
        ankles[side] = begin + where[:, None] * ahead + 0.12 * sign * left + height[:, None] * [0, 0, 1.0]
        standing[:, i] = swing == 0
    return person(root, ankles, heading), standing


def stand(seconds: float = 3.0, fps: float = FPS, height: float = 0.0, start: tuple[float, float] = (0, 0)) -> Array:
    """A person who stands still on a level ``height`` metres above the floor."""
    root = np.tile([start[0], start[1], 0.92 + height], (round(seconds * fps), 1))
    ankles = {
        side: np.tile([start[0], start[1] + 0.12 * sign, ANKLE + height], (len(root), 1))
        for side, sign in (("left", 1), ("right", -1))
    }
    return person(root, ankles)


def film(people: Array, pitch: float, roll: float = 0.0, distance: float = 5.0) -> tuple[Array, Array, Array]:
    """Camera that looks down by ``pitch`` degrees at the middle of (P, T, 17, 3).

    Returns:
        Joints in camera space, the rotation world to camera, and the camera's place.
    """
    p, r = math.radians(pitch), math.radians(roll)
    forward = np.array([0.0, math.cos(p), -math.sin(p)])
    right = np.array([1.0, 0.0, 0.0])
    down = np.cross(forward, right)
    axes = np.stack([right, down, forward])
    turn = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    rotation = turn @ axes
    place = people[:, :, HIP].reshape(-1, 3).mean(0) - distance * forward
    return (people - place) @ rotation.T, rotation, place


def estimate(cam: Array, seed: int, fps: float = FPS, drift: float = 0.05, jitter: float = 0.01) -> tuple[Array, Array]:
    """Simulated lifting: depth drifts by 5 % and jitters by 1 %, joints have errors of 1 cm."""
    rng = np.random.default_rng(seed)
    people, frames = cam.shape[:2]
    slow = rng.normal(size=(people, frames + int(12 * fps)))
    slow = gaussian_filter1d(slow, 1.5 * fps, axis=1)[:, int(6 * fps) :][:, :frames]
    slow /= 1e-9 + np.sqrt((slow**2).mean(axis=1, keepdims=True))
    root = cam[:, :, HIP] * np.exp(drift * slow + jitter * rng.normal(size=slow.shape))[..., None]
    relative = cam - cam[:, :, HIP, None]
    wobble = gaussian_filter1d(rng.normal(size=relative.shape), 0.08 * fps, axis=1)
    relative = relative + 0.01 * wobble / wobble.std() + 0.003 * rng.normal(size=relative.shape)
    relative[:, :, HIP] = 0
    return relative, root


class World(NamedTuple):
    """Result of :func:`to_world` for people who are in view in all frames, (P, T, ...)."""

    joints_world: Array
    rotation: Array
    translation: Array
    contacts: Array


def world_of(relative: Array, root: Array, fps: float = FPS, confidence: Array | None = None) -> World:
    times = np.arange(relative.shape[1]) / fps
    trust = None if confidence is None else list(confidence)
    world = to_world(list(relative.astype(np.float32)), list(root.astype(np.float32)), trust, times)
    return World(np.stack(world.joints_world), world.rotation, world.translation, np.stack(world.contacts))


def tilt_deg(world: World, rotation: Array) -> float:
    return math.degrees(math.acos(min(1.0, float(world.rotation[2] @ rotation[:, 2]))))


def skate_cm_s(joints: Array, standing: Array, fps: float = FPS) -> float:
    """Mean horizontal speed of ankles (T, 17, 3) between neighbouring contact frames."""
    speed = np.linalg.norm(np.diff(joints[:, ANKLES, :2], axis=0), axis=-1) * fps * 100
    return float(speed[standing[1:] & standing[:-1]].mean())


@pytest.mark.parametrize("roll", [-20, 0, 20])
@pytest.mark.parametrize("pitch", [-30, 0, 30, 60])
def test_up_is_found_at_any_pitch_and_roll(pitch: float, roll: float) -> None:
    errors = []
    for seed in range(3):
        body, _ = walk(heading=0.7 + 2.0 * seed)
        cam, rotation, _ = film(body[None], pitch, roll)
        errors.append(tilt_deg(world_of(*estimate(cam, seed)), rotation))
    assert np.mean(errors) < 2.5
    assert max(errors) < 5


@pytest.mark.parametrize("pitch", [5, 25])
def test_feet_in_contact_do_not_slide(pitch: float) -> None:
    body, standing = walk(heading=0.5)
    cam, rotation, place = film(body[None], pitch, roll=5)
    relative, root = estimate(cam, seed=1)
    world = world_of(relative, root)
    before = (relative + root[:, :, None])[0] @ world.rotation.T
    after = world.joints_world[0].astype(float)
    assert skate_cm_s(before, standing) > 50
    assert skate_cm_s(after, standing) < 5
    # The contacts are those that there are, but for a frame or two at the edges.
    assert (world.contacts[0] == standing).mean() > 0.85
    # Nothing jumps: the body moves as smoothly as it did in truth.
    truth = (body - place) @ rotation.T @ world.rotation.T
    shake = [np.abs(np.diff(path[:, HIP], n=2, axis=0)).max() * FPS**2 for path in (truth, after)]
    assert shake[1] < shake[0] + 8
    # The drift of the distance is less than it was (a factor that stays the same cannot be seen by one camera).
    away = [np.log(np.linalg.norm(path[:, HIP, :2], axis=1)) for path in (truth, before, after)]
    assert (away[2] - away[0]).std() < 0.8 * (away[1] - away[0]).std()
    np.testing.assert_allclose(after[..., 2].mean(axis=0), body[..., 2].mean(axis=0), atol=0.04)


def test_bones_keep_their_length() -> None:
    body, _ = walk()
    cam, *_ = film(body[None], 20)
    relative, root = estimate(cam, seed=2)
    after = world_of(relative, root).joints_world
    for parent, child in H36M17.bones:
        was = np.linalg.norm(relative[..., child, :] - relative[..., parent, :], axis=-1)
        now = np.linalg.norm(after[..., child, :] - after[..., parent, :], axis=-1)
        np.testing.assert_allclose(now, was, atol=1e-3)


def test_frame_rate_does_not_matter() -> None:
    for fps in (24.0, 120.0):
        body, standing = walk(fps=fps)
        cam, rotation, _ = film(body[None], 15)
        world = world_of(*estimate(cam, 3, fps), fps=fps)
        assert tilt_deg(world, rotation) < 4
        assert (world.contacts[0] == standing).mean() > 0.85
        assert skate_cm_s(world.joints_world[0], standing, fps) < 6


def leap(height: float, turn: float = 0.0) -> tuple[Array, Array]:
    """A jump with a backward rotation of ``turn`` radians: joints, and whether in the air."""
    flight = 2 * math.sqrt(2 * height / 9.81)
    body = stand(2.5)
    times = np.arange(len(body)) / FPS - 1.0
    up = np.where((times > 0) & (times < flight), 4 * height * times * (flight - times) / flight**2, 0.0)
    angle = np.interp(times, [0, flight], [0.0, turn])
    c, s = np.cos(angle), np.sin(angle)
    root = body[:, HIP, None]
    x, y, z = np.moveaxis(body - root, -1, 0)
    turned = np.stack([c[:, None] * x - s[:, None] * z, y, s[:, None] * x + c[:, None] * z], -1)
    return turned + root + up[:, None, None] * [0, 0, 1.0], up > 0.05


def test_a_jump_stays_in_the_air() -> None:
    body, flying = leap(0.4)
    cam, rotation, _ = film(body[None], 10)
    world = world_of(*estimate(cam, 4, drift=0.02))
    assert not world.contacts[0, flying].any()
    assert world.contacts[0, ~flying].mean() > 0.9
    after = world.joints_world[0]
    assert after[:, ANKLES, 2].max() - ANKLE == pytest.approx(0.4, abs=0.06)
    assert after[flying][:, ANKLES, 2].min() > 0.08
    assert tilt_deg(world, rotation) < 4


def test_a_flip_changes_neither_up_nor_height() -> None:
    body, flying = leap(1.0, turn=2 * math.pi)
    cam, rotation, _ = film(body[None], 10)
    world = world_of(*estimate(cam, 5, drift=0.02))
    assert tilt_deg(world, rotation) < 4
    assert not world.contacts[0, flying].any()
    after = world.joints_world[0]
    # The hip at its highest: 0.92 standing and 1 m of leap.
    assert after[:, HIP, 2].max() == pytest.approx(1.92, abs=0.1)
    assert after[..., 2].min() >= 0


def test_a_person_on_a_wall_stays_on_it() -> None:
    above = stand(6.0, height=1.8, start=(-1.0, 0.5))
    below, _ = walk(6.0, start=(-3.0, 0.0))
    cam, _, place = film(np.stack([above, below]), 8, distance=7)
    world = world_of(*estimate(cam, 6, drift=0.03))
    heights = np.median(world.joints_world[:, :, ANKLES, 2].min(axis=2), axis=1)
    assert heights[0] == pytest.approx(1.8 + ANKLE, abs=0.2)
    assert heights[1] == pytest.approx(ANKLE, abs=0.03)
    assert world.contacts[0].mean() > 0.9
    assert world.translation[2] == pytest.approx(place[2], abs=0.35)


def test_people_of_wrong_assumed_height_stand_on_one_floor() -> None:
    people = np.stack([walk(heading=h, start=s)[0] for h, s in ((0.3, (-2, 0)), (2.8, (2, 1)), (1.5, (0, -2)))])
    cam, rotation, _ = film(people, 15, distance=7)
    relative, root = estimate(cam, 7, drift=0.02)
    root = root * np.array([0.92, 1.0, 1.08])[:, None, None]
    world = world_of(relative, root)
    lowest = np.quantile(world.joints_world[:, :, ANKLES, 2].min(axis=2), 0.3, axis=1)
    np.testing.assert_allclose(lowest, ANKLE, atol=0.02)
    assert tilt_deg(world, rotation) < 2


def test_one_scene_for_all() -> None:
    people = np.stack([stand(start=(-1, 0)), stand(start=(1.2, 1.5))])
    cam, _, place = film(people, 12)
    world = world_of(cam - cam[:, :, HIP, None], cam[:, :, HIP])
    apart = world.joints_world[1, :, HIP] - world.joints_world[0, :, HIP]
    np.testing.assert_allclose(apart, np.tile([2.2, 1.5, 0.0], (len(apart), 1)), atol=0.15)
    # The camera is above the origin, and looks along y; x is to its right.
    np.testing.assert_allclose(world.translation, [0, 0, place[2]], atol=0.15)
    forward, right = world.rotation @ [0, 0, 1], world.rotation @ [1, 0, 0]
    assert forward[0] == pytest.approx(0, abs=1e-9)
    assert forward[1] > 0.9
    assert right[0] > 0.99
    np.testing.assert_allclose(world.rotation @ world.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(world.rotation) == pytest.approx(1)


def test_without_legs_the_floor_is_one_hip_height_below() -> None:
    cam, rotation, _ = film(stand()[None], 10, distance=2)
    relative = cam - cam[:, :, HIP, None]
    for joint in ("knee", "ankle"):
        for side in ("left", "right"):
            relative[:, :, H36M17.index(f"{side}_{joint}")] = np.nan
    world = world_of(relative, cam[:, :, HIP])
    assert np.median(world.joints_world[0, :, HIP, 2]) == pytest.approx(0.9, abs=0.02)
    assert not world.contacts.any()
    assert tilt_deg(world, rotation) < 6
    assert np.isnan(world.joints_world[0, :, ANKLES]).all()


def test_a_lying_person_does_not_change_up() -> None:
    upright, _ = walk(6.0, start=(0.0, 1.0))
    lying = stand(6.0)
    lying = lying[..., [2, 1, 0]] * [1, 1, 1] + [-1.0, -1.0, 0.1]  # along x, on the floor
    cam, rotation, _ = film(np.stack([upright, lying]), 15)
    assert tilt_deg(world_of(*estimate(cam, 8)), rotation) < 4


def test_without_upright_people_the_camera_is_level() -> None:
    lying = stand(4.0)[..., [2, 1, 0]] + [0.0, 0.0, 0.1]
    cam, rotation, _ = film(lying[None], 10)
    world = world_of(*estimate(cam, 10))
    assert tilt_deg(world, rotation) < 12  # the 10 degrees by which the camera looks down: nothing tells of them
    assert 0 <= np.median(world.joints_world[0, ..., 2]) < 0.3


def test_gaps_stay_gaps_and_confidence_counts() -> None:
    body, _ = walk()
    cam, rotation, _ = film(body[None], 10)
    relative, root = estimate(cam, 9)
    relative[0, 40:60] = np.nan
    root[0, 40:60] = np.nan
    confidence = np.ones(relative.shape[:2])
    confidence[0, 120:] = 0.0
    relative[0, 120:] = relative[0, 120:, :, [1, 2, 0]].transpose(1, 2, 0)  # nonsense that nobody trusts
    world = world_of(relative, root, confidence=confidence)
    assert np.isnan(world.joints_world[0, 40:60]).all()
    assert not world.contacts[0, 40:60].any()
    assert np.isfinite(world.joints_world[0, :40]).all()
    assert np.isfinite(world.joints_world[0, 60:]).all()
    assert tilt_deg(world, rotation) < 5


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_few_frames(frames: int) -> None:
    cam, rotation, _ = film(stand()[None, :frames], 10)
    world = world_of(cam - cam[:, :, HIP, None], cam[:, :, HIP])
    assert np.isfinite(world.joints_world).all()
    assert tilt_deg(world, rotation) < 15
    assert world.joints_world[..., 2].min() == pytest.approx(ANKLE, abs=0.06)


def test_no_people_and_nobody_in_view() -> None:
    nobody = to_world([], [], None, np.arange(5) / FPS)
    assert (nobody.joints_world, nobody.contacts) == ([], [])
    world = world_of(np.full((1, 5, 17, 3), np.nan), np.full((1, 5, 3), np.nan))
    assert np.isnan(world.joints_world).all()
    assert not world.contacts.any()


def test_wrong_shapes_raise() -> None:
    joints, root = np.zeros((5, 17, 3), np.float32), np.zeros((5, 3), np.float32)
    times = np.arange(5) / FPS
    with pytest.raises(ShapeError, match=r"trajectory: expected shape \(5, 3\), got \(4, 3\)"):
        to_world([joints], [root[:4]], None, times)
    with pytest.raises(ShapeError, match="times_s"):
        to_world([joints], [root], None, times[:4])
    with pytest.raises(ShapeError, match="times_s"):
        to_world([joints], [root], None, times, [1])
    with pytest.raises(ShapeError, match="confidence"):
        to_world([joints], [root], [np.ones(4)], times)
    with pytest.raises(ShapeError, match="of 1, 1, 2 and 1 people"):
        to_world([joints], [root], [np.ones(5)] * 2, times)


def test_a_late_start_gives_the_same_result() -> None:
    cam, _, _ = film(stand()[None], 10)
    relative, root = cam - cam[:, :, HIP, None], cam[:, :, HIP]
    whole = world_of(relative, root)
    times = np.arange(len(relative[0]) + 30) / FPS
    late = to_world([relative[0].astype(np.float32)], [root[0].astype(np.float32)], None, times, [30])
    np.testing.assert_allclose(late.joints_world[0], whole.joints_world[0], atol=1e-3)


def test_most_weighted_footprints_are_selected() -> None:
    person = np.array([0, 1, 1, 2, 3])
    footprints = Footprints(np.arange(15.0).reshape(5, 3), person, np.array([0.9, 0.5, 0.5, 0.2, 0.7]))
    assert footprints.most_weighted(4) is footprints
    kept = footprints.most_weighted(2)
    assert kept.person.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(kept.position, footprints.position[:3])
    np.testing.assert_array_equal(kept.weight, footprints.weight[:3])
