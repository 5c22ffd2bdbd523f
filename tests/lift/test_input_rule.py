"""Input rules: what a lifter sees, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from vp3d_cli.camera import project
from vp3d_cli.errors import ConfigError
from vp3d_cli.lift.input_rule import InputRule, Normalization, decode_root, flip, normalize
from vp3d_cli.skeletons import COCO17, H36M17

RULES: list[Normalization] = ["screen", "box", "ray"]
INTRINSICS = torch.tensor([1100.0, 1100.0, 960.0, 540.0], dtype=torch.float64)
SIZE = torch.tensor([1920.0, 1080.0], dtype=torch.float64)


def person(depth: float = 5.0, frames: int = 3) -> Tensor:
    """(T, 17, 3) points within half a metre of the optical axis."""
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(frames, 17, 3, generator=generator, dtype=torch.float64) * 0.3
    return points + torch.tensor([0.0, 0.0, depth], dtype=torch.float64)


def scores_for(points: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return 0.3 + 0.7 * torch.rand(points.shape[:-1], generator=generator, dtype=torch.float64)


def seen_by(points: Tensor, rule: InputRule, scores: Tensor | None = None):
    return normalize(
        project(points, INTRINSICS), scores_for(points) if scores is None else scores, INTRINSICS, SIZE, rule
    )


def rotation(x_deg: float, y_deg: float, z_deg: float = 0.0) -> Tensor:
    return torch.from_numpy(Rotation.from_euler("yxz", [y_deg, x_deg, z_deg], degrees=True).as_matrix())


@given(st.floats(-25, 25), st.floats(-30, 30))
@settings(max_examples=25, deadline=None)
def test_ray_rule_does_not_depend_on_where_in_the_frame_a_person_is(x_deg: float, y_deg: float) -> None:
    """Turning the camera moves the person over the image and changes nothing else, but for a little roll."""
    rule = InputRule("ray")
    points = person()
    turned = points @ rotation(x_deg, y_deg).mT
    before, after = seen_by(points, rule), seen_by(turned, rule)

    # In the virtual cameras' axes the two bodies differ by a roll about the optical axis alone.
    ours, theirs = before.from_camera(points), after.from_camera(turned)
    torch.testing.assert_close(ours[..., 2], theirs[..., 2], rtol=0, atol=1e-2)
    roll = torch.atan2(
        (ours[..., 0] * theirs[..., 1] - ours[..., 1] * theirs[..., 0]).sum(-1),
        (ours[..., :2] * theirs[..., :2]).sum((-1, -2)),
    )
    c, s = torch.cos(roll), torch.sin(roll)
    unroll = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)
    rolled_back = after.features[..., :2] @ unroll.mT
    torch.testing.assert_close(rolled_back, before.features[..., :2], rtol=0, atol=2e-2)
    assert roll.abs().max() < math.radians(12)
    torch.testing.assert_close(after.spread, before.spread, rtol=1e-2, atol=0)


@pytest.mark.parametrize(("x_deg", "y_deg"), [(18.0, 0.0), (0.0, -27.0)])
def test_ray_rule_is_exact_for_a_person_in_one_point_of_the_image(x_deg: float, y_deg: float) -> None:
    """Without perspective (a small person) and along an axis (no roll) the features are the same to the last digit."""
    points = (person() - torch.tensor([0.0, 0.0, 5.0])) * 1e-5 + torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    before = seen_by(points, InputRule("ray"))
    after = seen_by(points @ rotation(x_deg, y_deg).mT, InputRule("ray"))
    torch.testing.assert_close(after.features, before.features, rtol=0, atol=1e-4)


def test_screen_and_box_rules_do_depend_on_it() -> None:
    points = person()
    turned = points @ rotation(10.0, 25.0).mT
    for name in ("screen", "box"):
        rule = InputRule(name)
        difference = (seen_by(points, rule).features - seen_by(turned, rule).features).abs().max()
        assert difference > 0.1


@pytest.mark.parametrize("name", ["box", "ray"])
def test_features_do_not_depend_on_distance_or_zoom(name: Normalization) -> None:
    rule = InputRule(name)
    flat = person()
    flat[..., 2] = 5.0  # no depth, no perspective
    near = seen_by(flat, rule).features
    torch.testing.assert_close(seen_by(flat * torch.tensor([1.0, 1.0, 2.0]), rule).features, near, rtol=0, atol=2e-2)
    zoomed = normalize(project(flat, INTRINSICS), scores_for(flat), INTRINSICS, SIZE, rule).features
    double = torch.tensor([2.0, 2.0, 1.0, 1.0]) * INTRINSICS
    again = normalize(project(flat, double), scores_for(flat), double, SIZE, rule).features
    torch.testing.assert_close(again, zoomed, rtol=0, atol=1e-12)


def test_screen_rule_is_the_papers() -> None:
    keypoints = torch.tensor([[[0.0, 0.0], [1920.0, 1080.0], [960.0, 540.0]]])
    keypoints = torch.cat([keypoints, keypoints[:, :1].expand(1, 14, 2)], dim=1)
    rule = InputRule("screen", confidence=False)
    features = normalize(keypoints, torch.ones(1, 17), INTRINSICS, SIZE, rule).features
    expected = torch.tensor([[-1.0, -0.5625], [1.0, 0.5625], [0.0, 0.0]])
    torch.testing.assert_close(features[0, :3].float(), expected)


@pytest.mark.parametrize("name", RULES)
def test_to_camera_undoes_from_camera(name: Normalization) -> None:
    points = person() @ rotation(12.0, -20.0).mT
    seen = seen_by(points, InputRule(name))
    there = seen.from_camera(points)
    torch.testing.assert_close(seen.to_camera(there), points)
    torch.testing.assert_close(there.norm(dim=-1), points.norm(dim=-1))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("confidence", [True, False])
def test_missing_keypoints_are_zeros_and_move_nothing(name: Normalization, confidence: bool) -> None:
    rule = InputRule(name, confidence=confidence)
    points = person()
    keypoints, scores = project(points, INTRINSICS), scores_for(points)
    scores[1, 4] = 0.0
    here = normalize(keypoints, scores, INTRINSICS, SIZE, rule)
    keypoints[1, 4] = math.nan
    gone = normalize(keypoints, scores, INTRINSICS, SIZE, rule)
    assert torch.equal(here.features, gone.features)
    assert torch.equal(gone.features[1, 4], torch.zeros(rule.features, dtype=torch.float64))
    assert torch.isfinite(gone.features).all()
    # A confidence without a position is no keypoint either.
    scores[1, 4] = 0.9
    assert torch.equal(normalize(keypoints, scores, INTRINSICS, SIZE, rule).features, gone.features)


@pytest.mark.parametrize("name", RULES)
def test_a_frame_without_any_keypoint_is_finite(name: Normalization) -> None:
    seen = normalize(
        torch.full((2, 17, 2), math.nan), torch.zeros(2, 17), INTRINSICS.float(), SIZE.float(), InputRule(name)
    )
    assert torch.equal(seen.features, torch.zeros(2, 17, 3))
    assert torch.isfinite(seen.to_camera(torch.ones(2, 17, 3))).all()
    assert torch.isfinite(seen.spread).all()


@pytest.mark.parametrize("name", RULES)
def test_frames_may_have_cameras_of_their_own(name: Normalization) -> None:
    rule = InputRule(name)
    points = person(frames=2)
    cameras = torch.stack([INTRINSICS, INTRINSICS * torch.tensor([1.3, 1.3, 0.9, 1.1])])
    sizes = torch.stack([SIZE, SIZE * 0.9])
    together = normalize(project(points, cameras[:, None]), scores_for(points), cameras, sizes, rule).features
    for t in range(2):
        alone = normalize(project(points[t], cameras[t]), scores_for(points)[t], cameras[t], sizes[t], rule).features
        torch.testing.assert_close(together[t], alone)


def test_decode_root_undoes_its_encoding() -> None:
    generator = torch.Generator().manual_seed(5)
    centre, spread = torch.randn(6, 2, generator=generator), 0.05 + torch.rand(6, generator=generator)
    root = torch.randn(6, 3, generator=generator)
    root[:, 2] = 2 + root[:, 2].abs()
    offset = (root[:, :2] / root[:, 2:] - centre) / spread[:, None]
    answer = torch.cat([offset, (root[:, 2] * spread)[:, None]], dim=-1)
    torch.testing.assert_close(decode_root(answer, centre, spread), root)


def test_decoded_depth_follows_the_size_of_the_person() -> None:
    answer = torch.tensor([[0.0, 0.0, 0.8]])
    near = decode_root(answer, torch.zeros(1, 2), torch.tensor([0.2]))
    far = decode_root(answer, torch.zeros(1, 2), torch.tensor([0.1]))
    assert near[0, 2] == pytest.approx(4.0)
    assert far[0, 2] == pytest.approx(8.0)


@pytest.mark.parametrize("skeleton", [COCO17, H36M17])
def test_flip_twice_is_identity(skeleton) -> None:
    features = torch.randn(4, 17, 3)
    once = flip(features, skeleton.flip_order)
    assert not torch.equal(once, features)
    assert torch.equal(flip(once, skeleton.flip_order), features)


@pytest.mark.parametrize("name", ["box", "ray", "screen"])
def test_mirrored_image_gives_mirrored_features(name: Normalization) -> None:
    rule = InputRule(name)
    points = person() @ rotation(8.0, 15.0).mT
    keypoints, scores = project(points, INTRINSICS), scores_for(points)
    order = list(COCO17.flip_order)
    mirrored = keypoints[:, order] * torch.tensor([-1.0, 1.0]) + torch.tensor([1920.0, 0.0])
    ours = flip(normalize(keypoints, scores, INTRINSICS, SIZE, rule).features, COCO17.flip_order)
    theirs = normalize(mirrored, scores[:, order], INTRINSICS, SIZE, rule).features
    torch.testing.assert_close(ours, theirs)


def test_rule_survives_its_dictionary() -> None:
    rule = InputRule("box", confidence=False, rate_hz=25.0)
    assert InputRule.from_dict(rule.as_dict()) == rule
    assert rule.features == 2


def test_rules_agree_in_float32() -> None:
    points = person()
    keypoints, scores = project(points, INTRINSICS), scores_for(points)
    for name in RULES:
        exact = normalize(keypoints, scores, INTRINSICS, SIZE, InputRule(name)).features
        single = normalize(keypoints.float(), scores.float(), INTRINSICS.float(), SIZE.float(), InputRule(name))
        np.testing.assert_allclose(single.features.numpy(), exact.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        {"normalization": "pixels"},
        {"rate_hz": 0.0},
        {"rate_hz": float("nan")},
        {"skeleton_2d": "dog"},
        {"skeleton_3d": ""},
    ],
)
def test_bad_rules_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        InputRule(**values)
