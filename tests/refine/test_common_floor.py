"""The floor that people share, their relative heights, shots, and the confidence of joints."""

from __future__ import annotations

import numpy as np
import pytest
from test_world import ANKLE, ANKLES, FPS, HIP, estimate, film, stand, walk

from vp3d_cli.refine.confidence import guessed_parts, joint_confidence
from vp3d_cli.refine.floor import SHORTEST_M, TALLEST_M, AssumedHeight, StandingLevels, find_common_floor
from vp3d_cli.refine.world import to_world, to_world_by_shot
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import Track2D


def standing(*levels: float, weight: float = 1.0, height: float = 1.7, certain: bool = False) -> StandingLevels:
    return StandingLevels(np.array(levels), weight, height, certain)


def test_people_of_different_height_share_one_floor() -> None:
    common = find_common_floor([standing(-2.3), standing(-2.8)])
    assert common.on_floor == [True, True]
    assert common.floor is not None
    assert -2.8 < common.floor < -2.3
    heights = 1.7 * common.scales
    assert heights[0] / heights[1] == pytest.approx(2.8 / 2.3, rel=0.05)


def test_a_known_height_is_kept_and_sets_the_others() -> None:
    common = find_common_floor([standing(-2.3, height=1.82, certain=True), standing(-2.8)])
    assert common.scales[0] == 1.0
    assert 1.7 * common.scales[1] == pytest.approx(1.7 * 2.3 / 2.8, rel=0.05)


def test_whoever_would_be_a_giant_stands_on_something() -> None:
    common = find_common_floor([standing(-1.0), standing(-2.8)])
    assert common.floor == pytest.approx(-2.8, abs=0.05)
    assert common.on_floor == [False, True]
    assert common.scales[0] == 1.0


def test_a_badly_seen_picture_does_not_set_the_floor() -> None:
    common = find_common_floor([standing(-1.5), standing(-1.55), standing(-5.0, weight=0.3)])
    assert common.floor == pytest.approx(-1.52, abs=0.05)
    assert common.on_floor == [True, True, False]


def test_heights_stay_human() -> None:
    common = find_common_floor([standing(-2.0), standing(-2.0), standing(-4.1)])
    heights = 1.7 * common.scales
    assert (heights >= SHORTEST_M).all()
    assert (heights <= TALLEST_M).all()
    assert find_common_floor([standing()]).floor is None


def test_a_short_person_stands_beside_a_tall_one() -> None:
    tall, short = stand(4.0, start=(-0.6, 0.0)), 0.8 * stand(4.0, start=(0.75, 0.5))
    cam, *_ = film(np.stack([tall, short]), 35, distance=4)
    relative, root = estimate(cam, 3, drift=0.0)
    # The lifter takes the short one for a person of usual height, further away.
    relative[1], root[1] = relative[1] / 0.8, root[1] / 0.8
    times = np.arange(relative.shape[1]) / FPS
    known = [AssumedHeight(1.7, certain=True), AssumedHeight(1.7)]
    world = to_world(list(relative.astype(np.float32)), list(root.astype(np.float32)), None, times, heights=known)
    lowest = [float(np.median(body[:, ANKLES, 2].min(axis=1))) for body in world.joints_world]
    np.testing.assert_allclose(lowest, ANKLE, atol=0.06)
    assert world.scales[0] == 1.0
    assert world.scales[1] == pytest.approx(0.8, abs=0.07)


def test_people_near_and_far_stand_on_one_floor_though_their_bodies_seem_to_lean() -> None:
    """A lean of 12 degrees, as in footage of a longer lens, would let people far away float by metres."""
    people = np.stack([stand(3.0, start=(0.0, y)) for y in (-6.0, -3.0, 4.0)])
    cam, *_ = film(people, 12, distance=9)
    lean = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    relative, root = (cam - cam[:, :, HIP, None]) @ turn.T, cam[:, :, HIP]
    times = np.arange(cam.shape[1]) / FPS
    world = to_world(list(relative.astype(np.float32)), list(root.astype(np.float32)), None, times)
    lowest = [float(np.median(body[..., 2].min(axis=1))) for body in world.joints_world]
    np.testing.assert_allclose(lowest, ANKLE, atol=0.15)


def test_people_whose_feet_were_not_seen_stand_on_the_floor() -> None:
    people = np.stack([stand(2.0), stand(2.0, start=(1.0, 1.0), height=1.5)])
    cam, *_ = film(people, 15, distance=6)
    joints, roots = (cam - cam[:, :, HIP, None]).astype(np.float32), cam[:, :, HIP].astype(np.float32)
    times = np.arange(cam.shape[1]) / FPS
    feet = [np.ones((len(times), 2)), np.full((len(times), 2), 0.02)]
    world = to_world(list(joints), list(roots), None, times, foot_confidence=feet)
    lowest = [float(np.median(body[..., 2].min(axis=1))) for body in world.joints_world]
    np.testing.assert_allclose(lowest, ANKLE, atol=0.1)


def test_each_shot_has_its_own_up_and_floor() -> None:
    views = [film(walk(2.0)[0][None], pitch, distance=distance)[0] for pitch, distance in ((5, 4.0), (35, 7.0))]
    cams = [view[0] for view in views]
    times = np.arange(sum(map(len, cams))) / FPS
    joints = [(cam - cam[:, HIP, None]).astype(np.float32) for cam in cams]
    roots = [cam[:, HIP].astype(np.float32) for cam in cams]
    trust = [np.ones(len(cam)) for cam in cams]
    first = [0, len(cams[0])]
    placed, scales = to_world_by_shot(joints, roots, trust, times, first, [first[1]])
    for person, alone in enumerate(cams):
        body = placed[person]
        assert np.median(body[..., 2].min(axis=1)) == pytest.approx(ANKLE, abs=0.03)
        expected = to_world(joints[person : person + 1], roots[person : person + 1], None, times[: len(alone)])
        np.testing.assert_allclose(body, expected.joints_world[0], atol=1e-5)
        assert (scales[person] == 1).all()


def test_a_person_across_a_cut_is_placed_in_both_shots() -> None:
    cam = film(walk(2.0)[0][None], 10)[0][0]
    joints, root = (cam - cam[:, HIP, None]).astype(np.float32), cam[:, HIP].astype(np.float32)
    times = np.arange(len(cam)) / FPS
    placed, _ = to_world_by_shot([joints], [root], [np.ones(len(cam))], times, [0], [25])
    assert np.isfinite(placed[0]).all()


def track(legs: float) -> Track2D:
    points = np.ones((10, 17, 2), np.float32)
    scores = np.full((10, 17), 0.8, np.float32)
    lower = [COCO17.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    scores[:, lower] = legs
    return Track2D(3, points, scores, np.ones((10, 4), np.float32), scores >= 0.2)


def test_unseen_legs_are_reported_and_have_little_confidence() -> None:
    assert guessed_parts(track(0.8)) == []
    assert guessed_parts(track(0.03)) == ["legs of person 3 were never seen: guessed"]
    confidence = joint_confidence(track(0.03))
    assert confidence.shape == (10, 17)
    np.testing.assert_allclose(confidence[:, H36M17.index("left_knee")], 0.03, atol=1e-6)
    np.testing.assert_allclose(confidence[:, H36M17.index("thorax")], 0.8, atol=1e-6)
