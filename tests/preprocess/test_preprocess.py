"""Gap filling, outlier correction and smoothing at any frame rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, InputError, ShapeError
from vp3d_cli.preprocess import LOW_CONFIDENCE, body_scale, fill_gaps, smooth, smooth_joints
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import Track2D

Array = NDArray[np.float64]
LEFT_WRIST, RIGHT_WRIST = COCO17.index("left_wrist"), COCO17.index("right_wrist")
LEFT_ELBOW, LEFT_ANKLE, RIGHT_ANKLE = (COCO17.index(n) for n in ("left_elbow", "left_ankle", "right_ankle"))
# A person who stands facing the camera, 1.7 m at 200 pixels per metre.
STANDING = 200 * np.array([
    (0.0, 0.15), (0.03, 0.12), (-0.03, 0.12), (0.08, 0.14), (-0.08, 0.14), (0.18, 0.35), (-0.18, 0.35), (0.25, 0.62),
    (-0.25, 0.62), (0.28, 0.87), (-0.28, 0.87), (0.12, 0.85), (-0.12, 0.85), (0.13, 1.25), (-0.13, 1.25),
    (0.14, 1.62), (-0.14, 1.62),
])  # fmt: skip


def times(frames: int, fps: float = 30.0) -> Array:
    return np.arange(frames) / fps


def make_track(keypoints: Array, scores: Array | float = 0.8) -> Track2D:
    """A track that is observed in all frames with a keypoint."""
    seen = np.isfinite(keypoints).all(axis=-1)
    scores = np.where(seen, scores, 0.0)
    boxes = np.full((len(keypoints), 4), np.nan)
    for t in np.flatnonzero(seen.any(axis=1)):
        points = keypoints[t][seen[t]]
        boxes[t] = [*points.min(axis=0), *points.max(axis=0)]
    return Track2D(1, keypoints.astype(np.float32), scores.astype(np.float32), boxes.astype(np.float32), seen)


def still(frames: int, noise_px: float = 0.0, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return STANDING + 300 + noise_px * rng.standard_normal((frames, 17, 2))


def walking(frames: int, fps: float = 30.0) -> Array:
    """A walk to the right with swinging limbs."""
    t = times(frames, fps)[:, None]
    swing = np.zeros((frames, 17, 2))
    for name, size, phase in (
        ("left_wrist", 40, 0), ("right_wrist", 40, np.pi), ("left_elbow", 20, 0), ("right_elbow", 20, np.pi),
        ("left_ankle", 60, np.pi), ("right_ankle", 60, 0), ("left_knee", 30, np.pi), ("right_knee", 30, 0),
    ):  # fmt: skip
        swing[:, COCO17.index(name), 0] = size * np.sin(2 * np.pi * 1.0 * t[:, 0] + phase)
    path = np.stack([250 * t, 8 * np.sin(4 * np.pi * t)], axis=-1)
    return STANDING + 300 + swing + path


def back_flip(frames: int, fps: float) -> Array:
    """One and a half turns per second, on a ballistic path."""
    t = times(frames, fps)
    angle = 2 * np.pi * 1.5 * t
    centre = STANDING.mean(axis=0)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(-1, 2, 2)
    path = np.stack([400 * t, -500 * t + 980 * t**2], axis=-1)
    return np.einsum("tij,kj->tki", turn, STANDING - centre) + centre + 400 + path[:, None]


def jitter(values: NDArray[np.floating]) -> float:
    return float(np.sqrt((np.diff(values, 2, axis=0) ** 2).mean()))


# --- smooth ---


def test_strength_zero_is_off() -> None:
    track = make_track(still(20, 3.0))
    assert smooth(track, times(20), 0.0) is track


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_smooth_rejects_strength(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength must be 0"):
        smooth(make_track(still(5)), times(5), strength)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4])
def test_short_tracks(frames: int) -> None:
    track = make_track(still(frames, 2.0))
    result = smooth(fill_gaps(track, times(frames)), times(frames))
    assert np.isfinite(result.keypoints).all()
    assert np.abs(result.keypoints - track.keypoints).max(initial=0) < 8
    if frames == 1:
        np.testing.assert_allclose(result.keypoints, track.keypoints, rtol=1e-6)


def test_times_are_checked() -> None:
    track = make_track(still(4))
    with pytest.raises(ShapeError, match=r"expected shape \(4,\)"):
        smooth(track, times(5))
    with pytest.raises(InputError, match="frame 2 at 0"):
        fill_gaps(track, np.array([0.0, 0.1, 0.0, 0.2]))
    with pytest.raises(InputError, match="frame 1 has no finite time"):
        smooth(track, np.array([0.0, np.nan, 0.2, 0.3]))


def test_repeated_timestamps_are_accepted() -> None:
    at = np.array([0, 1, 1, 2, 3, 3, 3, 4, 5, 6]) / 30
    result = smooth(make_track(still(10, 1.0)), at)
    assert np.abs(result.keypoints - still(10)).max() < 5
    same = smooth(make_track(still(5, 1.0)), np.zeros(5))
    assert np.isfinite(same.keypoints).all()


def test_jitter_at_rest_goes_and_fast_motion_stays() -> None:
    rest = make_track(still(120, 2.0))
    assert jitter(smooth(rest, times(120)).keypoints) < 0.1 * jitter(rest.keypoints)
    flip = back_flip(25, 30.0)
    result = smooth(make_track(flip), times(25)).keypoints
    size = float(np.median(body_scale(flip, np.ones(flip.shape[:2]), times(25))))
    assert np.linalg.norm(result - flip, axis=-1).max() < 0.03 * size


def test_stronger_is_smoother_and_weak_is_close_to_off() -> None:
    track = make_track(walking(90) + still(90, 2.0, seed=3) - still(90))
    figures = [jitter(smooth(track, times(90), strength).keypoints) for strength in (0.01, 0.3, 1.0, 2.0, 4.0)]
    assert sorted(figures, reverse=True) == figures
    np.testing.assert_allclose(smooth(track, times(90), 0.01).keypoints, track.keypoints, atol=0.05)


def test_no_lag() -> None:
    """Reversed time gives the reversed result."""
    rng = np.random.default_rng(5)
    keypoints = walking(60) + rng.normal(0, 2, (60, 17, 2))
    scores = rng.uniform(0.3, 0.9, (60, 17))
    at = np.cumsum(rng.uniform(0.01, 0.06, 60))
    ahead = smooth(make_track(keypoints, scores), at).keypoints
    back = smooth(make_track(keypoints[::-1], scores[::-1]), at[-1] - at[::-1]).keypoints
    np.testing.assert_allclose(ahead, back[::-1], atol=1e-2)


@settings(max_examples=20)
@given(scale=st.floats(0.05, 20), shift=st.floats(-500, 500))
def test_smoothing_is_independent_of_resolution(scale: float, shift: float) -> None:
    keypoints = walking(40) + still(40, 2.0) - still(40)
    plain = smooth(make_track(keypoints), times(40)).keypoints
    other = smooth(make_track(keypoints * scale + shift), times(40)).keypoints
    np.testing.assert_allclose(other, plain * scale + shift, atol=2e-3 * scale + 1e-4 * abs(shift) + 1e-3)


def test_strength_does_not_depend_on_the_frame_rate() -> None:
    """The same slow motion is smoothed alike at 30 and 120 frames per second."""
    slow = np.sin(2 * np.pi * 3.0 * times(481, 120))[:, None, None] * 0.4  # so little that the cutoff is that of rest
    fine = smooth(make_track(STANDING + 300 + slow + np.zeros((481, 17, 2))), times(481, 120)).keypoints
    coarse = smooth(make_track((STANDING + 300 + slow + np.zeros((481, 17, 2)))[::4]), times(121)).keypoints
    np.testing.assert_allclose(fine[::4][15:-15], coarse[15:-15], atol=0.03)
    assert np.ptp(fine[120:360, 0, 0]) < 0.3


def test_confident_keypoints_are_trusted_more() -> None:
    keypoints = still(31)
    keypoints[15, LEFT_WRIST, 0] += 30
    sure, unsure = np.full((31, 17), 0.8), np.full((31, 17), 0.8)
    unsure[15, LEFT_WRIST] = 0.1
    pulled = [smooth(make_track(keypoints, s), times(31)).keypoints[15, LEFT_WRIST, 0] for s in (sure, unsure)]
    truth = still(31)[15, LEFT_WRIST, 0]
    assert abs(pulled[1] - truth) < 0.2 * abs(pulled[0] - truth)


def test_smoothing_does_not_cross_gaps() -> None:
    keypoints = walking(60)
    keypoints[25:35] = np.nan
    changed = keypoints.copy()
    changed[35:, LEFT_ANKLE] += 50
    a, b = (smooth(make_track(k), times(60)).keypoints for k in (keypoints, changed))
    # The body's size tells the speed, and is known a little from both sides.
    np.testing.assert_allclose(a[:25], b[:25], atol=0.05)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(keypoints))


def test_smooth_keeps_everything_else() -> None:
    track = make_track(walking(30), np.random.default_rng(0).uniform(0.2, 1, (30, 17)))
    before = track.keypoints.copy()
    result = smooth(track, times(30))
    assert result.person_id == track.person_id
    for name in ("scores", "boxes_xyxy", "observed"):
        np.testing.assert_array_equal(getattr(result, name), getattr(track, name))
    np.testing.assert_array_equal(track.keypoints, before)


def test_smooth_joints_in_metres() -> None:
    rng = np.random.default_rng(0)
    body = np.concatenate([STANDING / 200, np.zeros((17, 1))], axis=1)
    values = body + 0.01 * rng.standard_normal((90, 17, 3))
    assert jitter(smooth_joints(values, times(90))) < 0.1 * jitter(values)
    values[10:20, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(smooth_joints(values, times(90))), np.isnan(values))
    np.testing.assert_array_equal(smooth_joints(values, times(90), 0.0), values.astype(np.float32))


def test_depth_has_its_own_strength() -> None:
    body = np.concatenate([STANDING / 200, np.zeros((17, 1))], axis=1)
    values = body + 0.01 * np.random.default_rng(0).standard_normal((90, 17, 3))
    once, both = smooth_joints(values, times(90), 1.5), smooth_joints(values, times(90), 0.5, depth=3.0)
    np.testing.assert_allclose(both[..., 2], once[..., 2], atol=1e-6)
    np.testing.assert_allclose(both[..., :2], smooth_joints(values, times(90), 0.5)[..., :2], atol=1e-6)
    with pytest.raises(ConfigError, match="strength"):
        smooth_joints(values, times(90), depth=-1.0)


def test_smooth_joints_rejects_invalid_arguments() -> None:
    path = np.cumsum(np.full((20, 1, 3), 0.05), axis=0)
    with pytest.raises(ConfigError, match="body_scale_m"):
        smooth_joints(path, times(20))
    with pytest.raises(ConfigError, match="must be positive"):
        smooth_joints(path, times(20), body_scale_m=0.0)
    with pytest.raises(ShapeError, match="values"):
        smooth_joints(path[:, 0], times(20))
    np.testing.assert_allclose(smooth_joints(path, times(20), body_scale_m=0.5), path, atol=1e-5)


# --- body_scale ---


def test_body_scale_ignores_low_confidence() -> None:
    keypoints, scores = walking(60), np.full((60, 17), 0.8)
    plain = body_scale(keypoints, scores, times(60))
    np.testing.assert_allclose(body_scale(3 * keypoints, scores, times(60)), 3 * plain, rtol=1e-6)
    assert 0.4 < np.median(plain) / 200 < 0.55  # metres
    scores[:, LEFT_ANKLE] = LOW_CONFIDENCE / 2
    far = keypoints.copy()
    far[:, LEFT_ANKLE] += 5000
    np.testing.assert_array_equal(body_scale(keypoints, scores, times(60)), body_scale(far, scores, times(60)))
    assert (body_scale(np.full((5, 17, 2), np.nan), np.zeros((5, 17)), times(5)) == 1).all()


# --- fill_gaps ---


def test_a_reliable_track_is_unchanged() -> None:
    for keypoints, fps in ((walking(60), 30.0), (back_flip(25, 30.0), 30.0), (back_flip(20, 24.0), 24.0),
                           (back_flip(50, 60.0), 60.0), (walking(30, 10.0), 10.0)):  # fmt: skip
        track = make_track(keypoints)
        result = fill_gaps(track, times(len(keypoints), fps))
        np.testing.assert_array_equal(result.keypoints, track.keypoints)
        np.testing.assert_array_equal(result.scores, track.scores)
        assert result.observed.all()


def test_a_hidden_wrist_moves_with_its_arm() -> None:
    truth = walking(60)
    hidden = truth.copy()
    hidden[20:32, LEFT_WRIST] = np.nan
    result = fill_gaps(make_track(hidden), times(60))
    error = np.linalg.norm(result.keypoints - truth, axis=-1)
    straight = np.linspace(truth[19, LEFT_WRIST], truth[32, LEFT_WRIST], 14)[1:-1]
    assert error[20:32, LEFT_WRIST].max() < 0.06 * 100
    assert error.max() < 0.4 * np.linalg.norm(straight - truth[20:32, LEFT_WRIST], axis=-1).max()
    assert not result.observed[20:32, LEFT_WRIST].any()
    assert result.observed.sum() == 60 * 17 - 12


def test_confidence_falls_towards_the_middle_of_a_gap() -> None:
    keypoints = still(60)
    keypoints[20:40, LEFT_WRIST] = np.nan
    scores = fill_gaps(make_track(keypoints), times(60)).scores[19:41, LEFT_WRIST]
    assert (scores > 0).all()
    assert (np.diff(scores[:11]) < 0).all()
    np.testing.assert_allclose(scores, scores[::-1], rtol=1e-5)
    assert scores[10] < 0.2 * scores[0]


def test_low_confidence_is_interpolated() -> None:
    keypoints, scores = walking(60), np.full((60, 17), 0.8)
    keypoints[20:25, LEFT_ANKLE] += (0, -150)
    scores[20:25, LEFT_ANKLE] = 0.05
    result = fill_gaps(make_track(keypoints, scores), times(60))
    assert np.linalg.norm(result.keypoints - walking(60), axis=-1).max() < 12
    assert not result.observed[20:25, LEFT_ANKLE].any()


def test_long_gaps_follow_low_confidence_detections() -> None:
    keypoints, scores = still(150), np.full((150, 17), 0.8)
    keypoints[20:130, LEFT_WRIST] += (-40, -60)
    scores[20:130, LEFT_WRIST] = 0.15
    result = fill_gaps(make_track(keypoints, scores), times(150))
    np.testing.assert_allclose(result.keypoints[75, LEFT_WRIST], keypoints[75, LEFT_WRIST], atol=4)
    assert not result.observed[75, LEFT_WRIST]
    assert 0 < result.scores[75, LEFT_WRIST] < LOW_CONFIDENCE


def test_joints_that_are_never_reliable_are_unchanged() -> None:
    keypoints, scores = still(30, 1.0), np.full((30, 17), 0.8)
    scores[:, 13:] = 0.03
    track = make_track(keypoints, scores)
    result = fill_gaps(track, times(30))
    np.testing.assert_array_equal(result.keypoints, track.keypoints)
    np.testing.assert_array_equal(result.scores, track.scores)
    keypoints[:, 13:] = np.nan
    result = fill_gaps(make_track(keypoints, scores), times(30))
    assert np.isnan(result.keypoints[:, 13:]).all()
    assert not result.scores[:, 13:].any()
    assert not result.observed[:, 13:].any()


def test_only_short_absences_are_filled() -> None:
    truth = walking(120)
    keypoints = truth.copy()
    keypoints[:5] = keypoints[30:40] = keypoints[60:90] = keypoints[115:] = np.nan
    result = fill_gaps(make_track(keypoints), times(120), max_gap_s=0.5)
    known = np.isfinite(result.keypoints).all(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(~known), [*range(5), *range(60, 90), *range(115, 120)])
    np.testing.assert_array_equal(result.scores[~known], 0)
    assert np.linalg.norm(result.keypoints - truth, axis=-1)[30:40].max() < 30
    assert not result.observed[30:40].any()
    assert np.isnan(result.boxes_xyxy[30:40]).all()
    none = fill_gaps(make_track(keypoints), times(120), max_gap_s=0.0)
    np.testing.assert_array_equal(none.keypoints, make_track(keypoints).keypoints)


def test_a_long_absence_splits_the_track() -> None:
    keypoints = walking(120)
    keypoints[50:80] = np.nan
    keypoints[40:50, LEFT_WRIST] = np.nan
    other = keypoints.copy()
    other[80:] += 700
    a, b = (fill_gaps(make_track(k), times(120)).keypoints for k in (keypoints, other))
    np.testing.assert_allclose(a[:50], b[:50], atol=1e-3)


@pytest.mark.parametrize("gap", [-0.1, float("nan")])
def test_fill_gaps_rejects_gap(gap: float) -> None:
    with pytest.raises(ConfigError, match="max_gap_s"):
        fill_gaps(make_track(still(3)), times(3), max_gap_s=gap)


def test_empty_tracks() -> None:
    result = fill_gaps(make_track(np.full((10, 17, 2), np.nan)), times(10))
    assert np.isnan(result.keypoints).all()
    assert not result.observed.any()


# --- correct_outliers ---


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
def test_swaps_are_corrected(fps: float) -> None:
    truth = walking(90, fps)
    keypoints = truth.copy()
    pair, crossed = [LEFT_ANKLE, RIGHT_ANKLE], [RIGHT_ANKLE, LEFT_ANKLE]
    # Legs are apart at a quarter of each period of one second.
    for start, length in ((round(fps * 0.25), 1), (round(fps * 0.75), 2), (round(fps * 1.25), 3)):
        keypoints[start : start + length, pair] = truth[start : start + length, crossed]
    result = fill_gaps(make_track(keypoints), times(90, fps))
    np.testing.assert_allclose(result.keypoints, truth, atol=1e-2)
    assert result.observed.all()


def test_flickering_labels_are_corrected() -> None:
    truth = walking(60)
    keypoints, scores = truth.copy(), np.full((60, 17), 0.8)
    scores[:, LEFT_ANKLE] = 0.6
    for t in (20, 22, 24, 25):
        for pair in ((13, 14), (15, 16)):
            keypoints[t, pair] = truth[t, pair[::-1]]
            scores[t, pair] = scores[t, pair[::-1]]
    result = fill_gaps(make_track(keypoints, scores), times(60))
    np.testing.assert_allclose(result.keypoints, truth, atol=1e-2)
    np.testing.assert_allclose(result.scores[:, LEFT_ANKLE], 0.6, rtol=1e-6)


def test_a_swapped_leg_is_corrected_as_a_whole() -> None:
    """Knee and ankle are swapped together, also where the knee position is noisy."""
    truth = walking(60)
    keypoints = truth.copy()
    swapped = slice(22, 25)
    for pair in ([13, 14], [15, 16]):
        keypoints[swapped, pair] = truth[swapped, pair[::-1]]
    keypoints[23:25, 13] += (0, -170)  # what is called the left knee is the right one, and far off
    result = fill_gaps(make_track(keypoints), times(60)).keypoints
    for joint in (13, 15, 16):
        np.testing.assert_allclose(result[:, joint], truth[:, joint], atol=1e-2)


@pytest.mark.parametrize("length", [1, 2])
def test_a_jump_is_dropped_and_filled(length: int) -> None:
    truth = walking(60)
    keypoints = truth.copy()
    keypoints[30 : 30 + length, RIGHT_WRIST] += (90, -60)
    result = fill_gaps(make_track(keypoints), times(60))
    assert np.linalg.norm(result.keypoints - truth, axis=-1).max() < 3
    assert not result.observed[30 : 30 + length, RIGHT_WRIST].any()
    assert result.observed.sum() == 60 * 17 - length


def test_a_punch_is_not_a_jump() -> None:
    """A hand moves 0.6 m out and back in a quarter of a second, slower than a jump."""
    truth = still(60)
    reach = 120 * np.exp(-(((times(60) - 1.0) / 0.06) ** 2))
    truth[:, RIGHT_WRIST, 0] += reach
    truth[:, COCO17.index("right_elbow"), 0] += reach / 2
    assert fill_gaps(make_track(truth), times(60)).observed.all()


# --- anything ---


@st.composite
def any_track(draw: st.DrawFn) -> tuple[Track2D, Array]:
    frames = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    keypoints = walking(frames) + rng.normal(0, draw(st.sampled_from([0.0, 2.0, 80.0])), (frames, 17, 2))
    scores = rng.uniform(0, 1, (frames, 17)) ** draw(st.sampled_from([0.2, 1.0, 3.0]))
    keypoints[rng.random((frames, 17)) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = np.nan
    keypoints[rng.random(frames) < draw(st.sampled_from([0.0, 0.5]))] = np.nan
    steps = rng.choice([0.0, 0.01, 1 / 30, 0.2, 2.0], frames, p=[0.05, 0.2, 0.5, 0.2, 0.05])
    return make_track(keypoints, scores), np.cumsum(steps)


@settings(max_examples=60)
@given(made=any_track())
def test_any_track_gives_a_valid_track(made: tuple[Track2D, Array]) -> None:
    track, at = made
    before = replace(track, keypoints=track.keypoints.copy(), scores=track.scores.copy())
    filled = fill_gaps(track, at)
    result = smooth(filled, at, 1.0)
    np.testing.assert_array_equal(track.keypoints, before.keypoints)
    np.testing.assert_array_equal(track.scores, before.scores)
    known = np.isfinite(filled.keypoints).all(axis=-1)
    np.testing.assert_array_equal(np.isnan(filled.keypoints).any(axis=-1), ~known)
    np.testing.assert_array_equal(known, np.isfinite(result.keypoints).all(axis=-1))
    assert not filled.observed[~known].any()
    assert not filled.scores[~known].any()
    assert (filled.scores[known & ~filled.observed] > 0).all()
    # What was there is still there, unless it was a jump, which is filled.
    assert known[np.isfinite(track.keypoints).all(axis=-1) & (track.scores > 0)].all()
    size = float(body_scale(track.keypoints, track.scores, at).max())
    span = np.nanmax(track.keypoints, initial=0) - np.nanmin(track.keypoints, initial=0) + 10 * size
    assert np.nanmax(np.abs(result.keypoints), initial=0) < 3 * span + 1000
