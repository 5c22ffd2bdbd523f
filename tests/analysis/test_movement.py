"""Repeated movements and ranges of motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gait_motions import walking
from poses import with_arrays

from vp3d_cli.analysis.movement import analyze, count_repetitions
from vp3d_cli.errors import ConfigError
from vp3d_cli.skeletons import COCO17

FPS = 30.0


def squats(count: int, seconds_each: float = 2.0, rest_s: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Knee flexion of somebody who stands, squats so many times and stands again; and the times."""
    times_s = np.arange(round((2 * rest_s + count * seconds_each) * FPS)) / FPS
    phase = np.clip((times_s - rest_s) / seconds_each, 0, count)
    return 5 + 50 * (1 - np.cos(2 * np.pi * phase)), times_s


@pytest.mark.parametrize("count", [3, 5, 20])
def test_squats_are_counted(count: int) -> None:
    degrees, times_s = squats(count)
    found = count_repetitions(degrees, times_s)
    assert len(found) == count
    assert found.regular
    assert found.amplitudes == pytest.approx(np.full(count, 100.0), abs=2.0)
    assert found.times_s == pytest.approx(2.0 + 2.0 * np.arange(count), abs=1 / FPS)
    assert len(count_repetitions(-degrees, times_s)) == count  # from bent to straight and back


def test_noise_and_small_swings_are_not_counted() -> None:
    degrees, times_s = squats(4)
    rng = np.random.default_rng(0)
    noisy = degrees + rng.normal(0, 3, len(degrees)) + 10 * np.sin(2 * np.pi * 1.5 * times_s)
    assert len(count_repetitions(noisy, times_s)) == 4
    assert len(count_repetitions(rng.normal(0, 2, 300), np.arange(300) / FPS)) == 0


def test_a_repetition_is_not_made_up() -> None:
    """Neither over a gap, nor from frames in which the joints were filled in, nor from a single frame."""
    degrees, times_s = squats(5)
    hidden = (times_s > 3.5) & (times_s < 4.5)  # around the deepest point of the second
    assert len(count_repetitions(degrees, times_s, ~hidden)) == 4
    gone = degrees.copy()
    gone[hidden] = np.nan
    assert len(count_repetitions(gone, times_s)) == 4
    assert len(count_repetitions(degrees[:1], times_s[:1])) == 0
    assert len(count_repetitions(np.full(30, np.nan), times_s[:30])) == 0


def test_irregular_movements_are_no_repetitions() -> None:
    times_s = np.arange(600) / FPS
    peaks = sum(size * np.exp(-(((times_s - at) / 0.2) ** 2)) for at, size in ((1, 60), (2, 60), (12, 60), (13, 30)))
    found = count_repetitions(np.asarray(peaks), times_s)
    assert len(found) == 4
    assert not found.regular
    assert not count_repetitions(*squats(2)).regular  # twice may be chance


def test_a_walker_bends_each_knee_once_a_stride() -> None:
    (person,) = analyze(walking(6.0))
    found = {(m.name, m.side): m for m in person.measures if m.group == "repetitions"}
    for side in ("left", "right"):
        assert found["knee_flexion_repetitions", side].value == 5
        assert found["knee_flexion_period", side].value == pytest.approx(1.2, abs=0.02)
        assert found["hip_flexion_period", side].value == pytest.approx(1.2, abs=0.02)
    assert person.gait.found


def test_range_of_motion_is_over_frames_that_were_seen() -> None:
    pose = walking(6.0)
    (whole,) = analyze(pose, ["left_knee_flexion"])
    observed = pose.observed.copy()
    observed[0, 100:, COCO17.index("left_ankle")] = False
    (part,) = analyze(with_arrays(pose, observed=observed), ["left_knee_flexion"])
    observed[:] = False
    (unseen,) = analyze(with_arrays(pose, observed=observed), ["left_knee_flexion"])
    ranges = [{m.name: m for m in p.measures if m.group == "range_of_motion"} for p in (whole, part, unseen)]
    assert [found["knee_flexion_range"].count for found in ranges] == [180, 100, 0]
    for found in ranges[:2]:
        low, high = found["knee_flexion_minimum"].value, found["knee_flexion_maximum"].value
        assert 0 <= low < 30 < high < 120
        assert found["knee_flexion_range"].value == pytest.approx(high - low)
    assert np.isnan(ranges[2]["knee_flexion_range"].value)
    assert ranges[2]["knee_flexion_range"].note == "its joints were never seen, or it is undefined"


def test_one_frame_nobody_and_an_unknown_angle() -> None:
    (person,) = analyze(walking(1 / 30))
    assert not person.gait.found
    assert not [m for m in person.measures if m.group == "repetitions"]
    assert analyze(replace(walking(1.0), people=())) == ()
    with pytest.raises(ConfigError, match="unknown angle 'knee'; known: "):
        analyze(walking(1.0), ["knee"])
