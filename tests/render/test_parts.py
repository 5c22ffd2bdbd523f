"""Parts of pictures: 2D skeletons, shapes, text, colours; and the contact sheet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import colored, grey
from poses import walking_pose

from vp3d_cli.errors import ConfigError
from vp3d_cli.render.contact_sheet import NumberedPerson, contact_sheet
from vp3d_cli.render.layouts import FrameRenderer
from vp3d_cli.render.overlay2d import draw_skeleton, skeleton_bones
from vp3d_cli.render.palette import mix, person_colors
from vp3d_cli.render.shapes import blend, capsule_outlines, crop_around, even, resize_into
from vp3d_cli.render.text import label, text_mask
from vp3d_cli.skeletons import COCO17, H36M17
from vp3d_cli.types import Frame

Array = NDArray[Any]


# The skeleton over the footage.


def limb_color(scores: float = 0.9, observed: bool = True, at: str = "limb") -> Array:
    """Colour at the centre of a single left forearm, or of its wrist, over grey."""
    image = grey((400, 400))
    keypoints = np.full((17, 2), np.nan)
    keypoints[COCO17.index("left_elbow")] = 100, 200
    keypoints[COCO17.index("left_wrist")] = 300, 200
    draw_skeleton(image, keypoints, np.full(17, scores), np.full(17, observed), COCO17.joints, 1)
    x = 200 if at == "limb" else 300
    color: Array = image[200, x].astype(int)
    return color


def test_limbs_have_the_tone_of_their_side_and_fade_with_confidence() -> None:
    tone, ground = np.array(person_colors(1).left), np.array([120, 120, 120])
    np.testing.assert_array_equal(limb_color(), tone)
    distances = [np.abs(limb_color(score) - ground).sum() for score in (0.0, 0.2, 0.4, 0.6)]
    assert 0 < distances[0] < distances[1] < distances[2] < distances[3] == np.abs(tone - ground).sum()


def test_filled_in_points_are_hollow() -> None:
    np.testing.assert_array_equal(limb_color(at="wrist"), person_colors(1).left)
    image = grey((400, 400))
    keypoints = np.full((17, 2), np.nan)
    keypoints[COCO17.index("left_wrist")] = 200, 200
    draw_skeleton(image, keypoints, np.ones(17), np.zeros(17, bool), COCO17.joints, 1)
    np.testing.assert_array_equal(image[200, 200], [120, 120, 120])
    assert colored(image).any()


def test_people_outside_the_picture_and_extreme_values() -> None:
    for offset in (-5000.0, 5000.0, 1e9):
        image = grey()
        keypoints = np.random.default_rng(0).uniform(0, 50, (17, 2)) + offset
        for score in (0.2, 0.9):
            draw_skeleton(image, keypoints, np.full(17, score), np.ones(17, bool), COCO17.joints, 1, cap_px=12)
        np.testing.assert_array_equal(image, grey())
    draw_skeleton(image, np.full((17, 2), np.nan), np.zeros(17), np.zeros(17, bool), COCO17.joints, 1, cap_px=12)
    np.testing.assert_array_equal(image, grey())


def test_bones_come_from_the_named_skeleton() -> None:
    assert skeleton_bones(COCO17.joints) == COCO17.bones
    assert skeleton_bones(H36M17.joints) == H36M17.bones
    assert skeleton_bones(("a", "b")) == ()


def test_skeletons_lie_on_the_people() -> None:
    pose = walking_pose(1, 2)
    drawn = FrameRenderer(pose, pose.video_size_wh, 720).draw(Frame(1, 1 / 30, grey()))
    ankle = pose.keypoints_2d[0, 1, COCO17.index("left_ankle")] * 2 + 0.5
    x, y = np.rint(ankle).astype(int)
    np.testing.assert_array_equal(drawn[y, x], person_colors(1).left)


# Shapes, text, colours.


@settings(max_examples=50)
@given(
    ends=st.lists(st.floats(-50, 50), min_size=4, max_size=4),
    radii=st.lists(st.floats(0.5, 30), min_size=2, max_size=2),
)
def test_capsules_are_convex_and_hold_both_discs(ends: list[float], radii: list[float]) -> None:
    centers, radius = np.array(ends).reshape(2, 2), np.array(radii)
    outline = capsule_outlines(centers, radius, 41)
    sides = np.roll(outline, -1, axis=0) - outline
    following = np.roll(sides, -1, axis=0)
    turn = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    assert turn.min() > -1e-6
    length = np.linalg.norm(sides, axis=1)
    inside = length > 1e-6
    for center, r in zip(centers, radius, strict=True):
        offset = center - outline
        distance = (sides[:, 0] * offset[:, 1] - sides[:, 1] * offset[:, 0])[inside] / length[inside]
        assert distance.min() > r * 0.99 - 1e-6


def test_labels_stay_within_the_picture() -> None:
    for at in ((-100.0, -100.0), (1000.0, 1000.0), (50.0, 50.0)):
        image = grey((200, 100))
        label(image, "12", at, 12, person_colors(1).core)
        ys, xs = np.nonzero((image != 120).any(axis=2))
        assert len(ys) > 200
        assert 0 < ys.min() < ys.max() < 99
        assert 0 < xs.min() < xs.max() < 199
    tiny = grey((8, 8))
    label(tiny, "12", (4, 4), 12, person_colors(1).core)


def test_text_has_the_requested_height() -> None:
    rows = np.flatnonzero(text_mask("H", 20.0)[:, :, 0].max(axis=1) > 0.5)
    assert 18 <= np.ptp(rows) + 1 <= 24
    with pytest.raises(ValueError, match="read-only"):
        text_mask("H", 20.0)[:] = 0


def test_eight_people_have_different_colours() -> None:
    tones = {
        tone for i in range(1, 9) for tone in (person_colors(i).left, person_colors(i).right, person_colors(i).core)
    }
    assert len(tones) == 24
    assert person_colors(9) == person_colors(1)
    for i in range(1, 9):
        weights = np.array([0.114, 0.587, 0.299])
        assert weights @ person_colors(i).left > weights @ person_colors(i).right + 60
    assert mix((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)


def test_small_helpers() -> None:
    assert [even(v) for v in (0.2, 2.9, 3.1, 719.6, 1280.5)] == [2, 2, 4, 720, 1280]
    assert crop_around(grey(), [(-50.0, -50.0)], 3) is None
    part = crop_around(grey(), [(0.0, 0.0), (10.0, 5.0)], 3)
    assert part is not None
    assert part[0].shape == (9, 14, 3)
    image = grey()
    view = image[10:20, 10:20]
    blend(view, np.full_like(view, 220), 0.5)
    assert image[15, 15].tolist() == [170, 170, 170]
    assert image[5, 5].tolist() == [120, 120, 120]


@pytest.mark.parametrize("size_wh", [(1000, 700), (500, 300), (333, 222), (100, 50), (97, 31)])
def test_resizing_keeps_the_mean(size_wh: tuple[int, int]) -> None:
    y, x = np.mgrid[: size_wh[1], : size_wh[0]] / np.array(size_wh[::-1])[:, None, None]
    image = (np.stack([x, y, x * y], axis=-1) * 255).astype(np.uint8)
    canvas = np.zeros((80, 300, 3), np.uint8)
    resize_into(canvas[10:70, 100:200], image)
    np.testing.assert_allclose(canvas[10:70, 100:200].mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=3)
    assert canvas[:, :100].max() == canvas[:10].max() == 0


# The contact sheet.


def shot(index: int, people: int = 2, size_wh: tuple[int, int] = (320, 180)) -> tuple[Frame, list[NumberedPerson]]:
    pose = walking_pose(people, index + 1, size_wh)
    persons = [
        NumberedPerson(p + 1, pose.boxes_xyxy[p, index], pose.keypoints_2d[p, index], pose.scores_2d[p, index])
        for p in range(people)
    ]
    return Frame(index, index / 30, grey(size_wh)), persons


@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
@pytest.mark.parametrize("size_wh", [(320, 180), (180, 320)])
def test_contact_sheet_of_any_number(count: int, size_wh: tuple[int, int]) -> None:
    sheet = contact_sheet([shot(i % 3, size_wh=size_wh) for i in range(count)], width=600)
    assert sheet.shape[1] == 600
    assert 150 < sheet.shape[0] < 1400
    for person_id in (1, 2):
        assert (sheet == person_colors(person_id).core).all(axis=2).sum() > 50


def test_contact_sheet_of_invalid_input() -> None:
    frame, people = shot(0)
    outside = replace(people[0], box_xyxy=np.array([-50, -50, 900, 900], np.float32))
    unseen = replace(people[1], box_xyxy=np.full(4, np.nan, np.float32), keypoints=np.full((17, 2), np.nan, np.float32))
    sheet = contact_sheet([(frame, [outside, unseen]), (frame, [])], width=500)
    assert not (sheet == person_colors(2).core).all(axis=2).any()
    with pytest.raises(ConfigError, match="at least one frame"):
        contact_sheet([])
