"""Resampling between frame rates, and the smoothing spline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, InputError, ShapeError
from vp3d_cli.preprocess import resample, uniform_times
from vp3d_cli.preprocess.smoothing_spline import fit_spline

Array = NDArray[np.float64]


def wave(times_s: Array, hz: float) -> Array:
    return np.stack([np.sin(2 * np.pi * hz * times_s), np.cos(2 * np.pi * hz * times_s)], axis=-1)


# --- uniform_times ---


@settings(max_examples=50)
@given(
    steps=st.lists(st.floats(0.001, 1.0), max_size=40), start=st.floats(-5, 100), rate=st.sampled_from([5.0, 29.97, 60])
)
def test_uniform_times_cover_the_span(steps: list[float], start: float, rate: float) -> None:
    old = start + np.cumsum([0.0, *steps])
    new = uniform_times(old, rate)
    assert new[0] == old[0]
    assert len(new) >= 1
    np.testing.assert_allclose(np.diff(new), 1 / rate, rtol=1e-6)
    assert old[-1] - 0.06 / rate < new[-1] < old[-1] + 1.01 / rate


def test_uniform_times_tolerate_rounded_timestamps() -> None:
    exact = np.arange(300) / 30
    for old in (exact, np.round(exact, 3), np.round(exact, 3) + 5.0004):
        assert len(uniform_times(old, 30.0)) == 300


def test_uniform_times_reject_invalid_input() -> None:
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="rate_hz"):
            uniform_times(np.arange(3.0), rate)
    with pytest.raises(InputError, match="no frames"):
        uniform_times(np.zeros(0), 30.0)
    with pytest.raises(InputError, match="earlier"):
        uniform_times(np.array([0.0, 2.0, 1.0]), 30.0)
    with pytest.raises(ShapeError):
        uniform_times(np.zeros((2, 2)), 30.0)


# --- resample ---


@pytest.mark.parametrize(("rate", "error"), [(60.0, 0.006), (120.0, 0.006), (25.0, 0.01), (29.97, 0.01), (10.0, 0.015)])
def test_round_trip(rate: float, error: float) -> None:
    """A 2 Hz movement survives resampling to 30 Hz and back."""
    old = np.arange(int(4 * rate)) / rate
    values = wave(old, 2.0)
    lifter = uniform_times(old, 30.0)
    back = resample(resample(values, old, lifter), lifter, old)
    inner = slice(int(rate / 2), -int(rate / 2))
    assert np.abs(back - values)[inner].max() < error
    assert np.abs(back - values).max() < 0.08


def test_round_trip_with_uneven_frames() -> None:
    rng = np.random.default_rng(0)
    old = np.cumsum(rng.choice([1 / 60, 1 / 30, 1 / 24], 200))
    lifter = uniform_times(old, 30.0)
    back = resample(resample(wave(old, 1.0), old, lifter), lifter, old)
    assert np.abs(back - wave(old, 1.0))[10:-10].max() < 0.01


def test_same_times_change_nothing() -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.1, 50))
    values = np.random.default_rng(2).normal(size=(50, 4, 3))
    values[10:12, 1] = np.nan
    np.testing.assert_allclose(resample(values, at, at), values, atol=1e-9)


def test_frequencies_above_the_new_rate_are_removed() -> None:
    old = np.arange(480) / 120
    new = uniform_times(old, 30.0)
    inner = slice(10, -10)
    assert np.abs(resample(wave(old, 40.0), old, new)[inner]).max() < 0.02
    naive = wave(new, 40.0)  # every fourth frame: 40 Hz looks like 10 Hz
    assert np.abs(naive[inner]).max() > 0.9


def test_a_lower_rate_averages_jitter() -> None:
    noise = np.random.default_rng(0).standard_normal((2400, 1))
    old = np.arange(2400) / 120
    assert np.std(resample(noise, old, uniform_times(old, 30.0))) < 0.55


def test_steps_do_not_overshoot_much() -> None:
    old = np.arange(40) / 30
    step = (old > 0.65).astype(float)[:, None]
    for rate in (60.0, 240.0, 30.0):
        up = resample(step, old, uniform_times(old, rate))
        assert up.min() > -0.14
        assert up.max() < 1.14


def test_gaps_stay_gaps() -> None:
    old = np.arange(60) / 60
    values = np.stack([wave(old, 1.0), wave(old, 1.0) + 3], axis=1)
    values[20:31, 0] = np.nan
    down = resample(values, old, uniform_times(old, 30.0))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(down[:, 0, 0])), range(10, 16))
    assert np.isfinite(down[:, 1]).all()
    up = resample(values, old, uniform_times(old, 120.0))
    # Half a frame off the last good one still counts.
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(up[:, 0, 0])), range(40, 61))
    other = values.copy()
    other[31:] += 100
    np.testing.assert_allclose(resample(other, old, uniform_times(old, 30.0))[:10, 0], down[:10, 0], atol=1e-9)


def test_one_frame_and_no_frames() -> None:
    one = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(resample(one, np.array([5.0]), np.array([5.0])), one)
    np.testing.assert_array_equal(resample(one, np.array([5.0]), np.array([5.0, 5.1])), [[1, 2], [1, 2]])
    assert resample(one, np.array([5.0]), np.zeros(0)).shape == (0, 2)
    assert np.isnan(resample(np.zeros((0, 2)), np.zeros(0), np.zeros(3))).all()
    two = np.array([[0.0], [1.0]])
    np.testing.assert_allclose(resample(two, np.array([0.0, 1.0]), np.array([0.0, 0.25, 1.0]))[:, 0], [0, 0.25, 1])


def test_extrapolation_is_limited_to_one_step() -> None:
    """One step beyond the end is extrapolated; later times are NaN."""
    old = np.arange(10) / 10
    result = resample(old[:, None].copy(), old, np.array([-0.2, -0.1, 0.0, 0.9, 1.0, 1.1, 1.2]))[:, 0]
    np.testing.assert_allclose(result, [np.nan, -0.1, 0.0, 0.9, 1.0, np.nan, np.nan], atol=1e-9)


def test_type_and_shape_are_kept() -> None:
    values = np.zeros((12, 17, 2), np.float32)
    result = resample(values, np.arange(12) / 12, np.arange(30) / 30)
    assert result.dtype == np.float32
    assert result.shape == (30, 17, 2)
    assert resample(np.zeros(12), np.arange(12.0), np.arange(5.0)).shape == (5,)


def test_resample_rejects_invalid_input() -> None:
    with pytest.raises(ShapeError, match="one time per frame"):
        resample(np.zeros((3, 2)), np.arange(4.0), np.arange(3.0))
    with pytest.raises(InputError, match="earlier"):
        resample(np.zeros((3, 2)), np.array([0.0, 2.0, 1.0]), np.arange(3.0))
    with pytest.raises(ShapeError, match="values"):
        resample(np.array(1.0), np.zeros(1), np.zeros(1))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(2, 60),
    rate=st.floats(3.0, 200.0),
    slope=st.floats(-100, 100),
    level=st.floats(-1e4, 1e4),
)
def test_straight_lines_stay_straight(seed: int, frames: int, rate: float, slope: float, level: float) -> None:
    """At any pair of rates, even or uneven, with any missing frames."""
    rng = np.random.default_rng(seed)
    old = np.cumsum(rng.uniform(0.01, 0.05, frames))
    values = (level + slope * old)[:, None] * np.ones(3)
    values[rng.random((frames, 3)) < 0.2] = np.nan
    new = uniform_times(old, rate)
    result = resample(values, old, new)
    assert np.isfinite(result).any() or not np.isfinite(values).any() or len(new) < frames
    expected = np.broadcast_to((level + slope * new)[:, None], result.shape)
    lone = np.abs(slope) * (0.05 + 1 / rate)  # a frame without neighbours holds its value
    np.testing.assert_allclose(result[np.isfinite(result)], expected[np.isfinite(result)], atol=1e-5 + lone)


# --- the spline ---


@pytest.mark.parametrize("order", [1, 2, 3])
def test_polynomials_pass_unchanged(order: int) -> None:
    rng = np.random.default_rng(0)
    at = np.sort(rng.uniform(0, 2, 40))
    values = np.stack([at**k for k in range(order)], axis=1)
    fitted = fit_spline(values, at, rng.uniform(0.01, 1, 40), np.zeros(40), 0.7, order=order)
    np.testing.assert_allclose(fitted, values, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("fps", [60.0, 240.0])
def test_frequency_response(order: int, fps: float) -> None:
    """Half the amplitude at the cutoff, the slope of a filter of that order, and no phase shift."""
    at = np.arange(int(6 * fps)) / fps
    for hz in (1.0, 2.0, 4.0, 8.0):
        fitted = fit_spline(wave(at, hz), at, np.ones(len(at)), np.zeros(len(at)), 4.0, order=order)
        middle = slice(int(2 * fps), int(4 * fps))
        gain = (fitted * wave(at, hz)).sum(axis=1)[middle]
        np.testing.assert_allclose(gain, 1 / (1 + (hz / 4) ** (2 * order)), atol=0.03)
        across = (fitted[:, ::-1] * wave(at, hz) * (1, -1)).sum(axis=1)[middle]
        np.testing.assert_allclose(across, 0, atol=0.01)


def test_series_are_independent() -> None:
    rng = np.random.default_rng(0)
    lengths = (1, 2, 3, 7, 30, 1)
    parts = [rng.normal(size=(n, 2)) for n in lengths]
    at = [np.cumsum(rng.uniform(0.01, 0.1, n)) for n in lengths]
    weights = [rng.uniform(0.1, 1, n) for n in lengths]
    together = fit_spline(
        np.concatenate(parts),
        np.concatenate(at),
        np.concatenate(weights),
        np.repeat(np.arange(6.0), lengths),
        2.0,
        tension_s=0.3,
    )
    alone = [
        fit_spline(p, t, w, np.zeros(len(p)), 2.0, tension_s=0.3) for p, t, w in zip(parts, at, weights, strict=True)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-9)
    assert fit_spline(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(0), 1.0).shape == (0, 2)


def test_a_gap_is_bridged_smoothly_and_without_oscillation() -> None:
    at = np.arange(90) / 30
    values = np.where(at < 1.5, at, 3 - at)[:, None] * 100  # up, then down: the turn is hidden
    weights = ((at < 1.2) | (at > 1.8)).astype(float)
    fitted = fit_spline(values * weights[:, None], at, weights, np.zeros(90), 8.0, tension_s=0.3)[:, 0]
    assert 120 < fitted[45] < 140  # the motion goes on a little before it turns
    assert np.abs(np.diff(fitted, 2)).max() < 2
    hidden = fit_spline(values * (at < 1)[:, None], at, (at < 1) * 1.0, np.zeros(90), 8.0, tension_s=0.3)[:, 0]
    assert 100 < hidden[-1] < 135  # comes to rest


def test_extreme_settings_stay_exact() -> None:
    """Ten minutes at 240 frames per second with the lowest cutoff stay positive definite."""
    count = 20_000
    at = np.arange(count) / 240
    values = 5e3 + np.random.default_rng(0).normal(size=(count, 1))
    fitted = fit_spline(values, at, np.full(count, 0.02), np.zeros(count), 1e-4)
    assert np.isfinite(fitted).all()
    assert np.abs(fitted - 5e3).max() < 0.5
