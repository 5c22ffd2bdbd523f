"""Gait: of people whose steps are known, and of people who do not walk."""

from __future__ import annotations

import numpy as np
import pytest
from gait_motions import Array, Walk, pose_at, walking, walking_joints
from poses import with_arrays

from vp3d_cli.analysis.gait import Gait, gait_measures, gait_of_people
from vp3d_cli.pose import Pose3D
from vp3d_cli.skeletons import H36M17


def gait_in(pose: Pose3D) -> Gait:
    (gait,) = gait_of_people(pose)
    return gait


def values_of(gait: Gait) -> dict[str, float]:
    """Value of each measure by ``name`` or ``side_name``."""
    return {m.name if m.side == "both" else f"{m.side}_{m.name}": m.value for m in gait_measures(gait)}


@pytest.mark.parametrize("fps", [12.0, 30.0, 59.94, 500.0])
def test_steps_of_a_walker(fps: float) -> None:
    gait = gait_in(walking(6.0, fps))
    assert gait.found
    assert gait.kind == "walking"
    assert len(gait.steps) == 8  # heel strikes every 0.6 s; the first and the last are at the edge of the view
    found = values_of(gait)
    assert found["cadence"] == pytest.approx(100, rel=0.005)
    assert found["speed"] == pytest.approx(1.4 / 1.2, rel=0.005)
    for side in ("left", "right"):
        assert found[f"{side}_step_length"] == pytest.approx(0.7, abs=0.005)
        assert found[f"{side}_step_time"] == pytest.approx(0.6, abs=0.005)
        assert found[f"{side}_stride_length"] == pytest.approx(1.4, abs=0.005)
        assert found[f"{side}_stride_time"] == pytest.approx(1.2, abs=0.005)
        assert found[f"{side}_stance"] == pytest.approx(62, abs=4.5)
    assert found["step_width"] == pytest.approx(0.2, abs=0.005)
    assert found["double_support"] == pytest.approx(24, abs=9)
    for name in ("step_length", "step_time", "stance"):
        assert found[f"{name}_symmetry_index"] == pytest.approx(0, abs=1)


def test_heel_strikes_are_where_they_are() -> None:
    gait = gait_in(walking(6.0, 60.0))
    assert [event.side for event in gait.heel_strikes[:4]] == ["right", "left", "right", "left"]
    # The foot is furthest before the pelvis as soon as it is slower than that: a moment before it stands.
    truth = 0.6 * np.arange(1, len(gait.heel_strikes) + 1)
    late = np.array([event.time_s for event in gait.heel_strikes]) - truth
    assert np.abs(late).max() < 0.04
    assert [step.side for step in gait.steps[:3]] == ["left", "right", "left"]


def test_contacts_are_listed() -> None:
    gait = gait_in(walking(3.0, 60.0))
    left = [contact for contact in gait.contacts if contact.side == "left"]
    assert [contact.start_s for contact in left] == pytest.approx([0, 1.2, 2.4], abs=0.05)
    assert left[1].end_s == pytest.approx(1.2 + 0.62 * 1.2, abs=0.05)
    assert left[2].place[0] - left[1].place[0] == pytest.approx(1.4, abs=1e-3)
    assert left[1].place[2] == pytest.approx(0.08, abs=1e-3)


def test_a_limp_shows() -> None:
    found = values_of(gait_in(walking(6.0, 60.0, Walk(left_m=0.6, right_m=0.8, lag=0.55))))
    assert found["left_step_length"] == pytest.approx(0.6, abs=0.005)
    assert found["right_step_length"] == pytest.approx(0.8, abs=0.005)
    assert found["left_step_time"] == pytest.approx(0.45 * 1.2, abs=0.005)
    assert found["step_length_symmetry_index"] == pytest.approx(100 * -0.2 / 0.7, abs=1)
    assert found["step_time_symmetry_index"] == pytest.approx(100 * (0.45 - 0.55) / 0.5, abs=1)


def test_one_step_of_a_side_is_no_symmetry() -> None:
    gait = gait_in(walking(3.0))
    measures = {m.name: m for m in gait_measures(gait)}
    assert len(gait.steps) == 3
    assert np.isnan(measures["step_length_symmetry_index"].value)
    assert measures["step_length_symmetry_index"].note == "two of each side are needed"


def test_slow_and_backward() -> None:
    slow = gait_in(walking(10.0, 30.0, Walk(stride_s=1.6, left_m=0.35, right_m=0.35, stance=0.68)))
    assert values_of(slow)["cadence"] == pytest.approx(75, abs=0.5)
    assert values_of(slow)["left_step_length"] == pytest.approx(0.35, abs=0.005)
    backward = gait_in(walking(6.0, 30.0, Walk(left_m=-0.4, right_m=-0.4)))
    assert values_of(backward)["left_step_length"] == pytest.approx(0.4, abs=0.005)


def test_running_is_told_from_walking() -> None:
    gait = gait_in(walking(6.0, 60.0, Walk(stride_s=0.7, left_m=1.1, right_m=1.1, stance=0.35)))
    assert gait.kind == "running"
    assert gait.flight_share > 0.2
    found = values_of(gait)
    assert found["cadence"] == pytest.approx(60 * 2 / 0.7, rel=0.01)
    assert found["speed"] == pytest.approx(2.2 / 0.7, rel=0.01)
    assert not {"left_stance", "double_support"} & set(found)


def test_a_walk_in_a_circle() -> None:
    """Straight steps laid on a circle of 4 m radius: their lengths stay."""
    fps = 30.0
    times_s = np.arange(300) / fps
    straight = walking_joints(times_s, Walk())
    along, across = straight[..., 0], straight[..., 1]
    radius = 4.0
    angle, distance = along / radius, radius - across
    circle = np.stack([distance * np.sin(angle), radius - distance * np.cos(angle), straight[..., 2]], axis=-1)
    found = values_of(gait_in(pose_at(circle, fps)))
    assert found["cadence"] == pytest.approx(100, rel=0.01)
    assert found["speed"] == pytest.approx(1.4 / 1.2, rel=0.02)
    for side, radius_of_foot in (("left", 3.9), ("right", 4.1)):
        assert found[f"{side}_stride_length"] == pytest.approx(1.4 * radius_of_foot / 4.0, abs=0.02)


def standing(seconds: float, fps: float) -> Array:
    """Somebody who stands and sways."""
    joints = walking_joints(np.zeros(round(seconds * fps)), Walk())
    joints[..., 0] += 0.02 * np.sin(2 * np.pi * 0.4 * np.arange(len(joints)) / fps)[:, None]
    return joints


def test_somebody_who_stands_has_no_gait() -> None:
    gait = gait_in(pose_at(standing(6.0, 30.0), 30.0))
    assert not gait.found
    assert gait.kind == ""
    assert gait.reason.startswith("moves along at 0.0")
    (said,) = gait_measures(gait)
    assert said.note == f"no gait found: {gait.reason}"
    assert np.isnan(said.value)
    assert {contact.side for contact in gait.contacts} == {"left", "right"}


def test_steps_on_the_spot_are_no_gait() -> None:
    """On a treadmill the feet move but nobody gets anywhere."""
    times_s = np.arange(180) / 30.0
    joints = walking_joints(times_s, Walk())
    joints[..., 0] -= joints[:, :1, 0]
    assert gait_in(pose_at(joints, 30.0)).reason.startswith("moves along at 0.00 m/s at most")


def test_hops_and_slides_are_no_gait() -> None:
    """Both feet together, or a body that moves as one: it gets along, but not step by step."""
    times_s = np.arange(180) / 30.0
    slide = standing(6.0, 30.0)
    slide[..., 0] += (2.0 * times_s)[:, None]
    hops = standing(6.0, 30.0)
    hop = times_s / 0.8
    hops[..., 0] += (np.floor(hop) + np.clip((hop % 1 - 0.5) / 0.5, 0, 1))[:, None]
    hops[..., 2] += 0.2 * np.sin(np.pi * np.clip((hop % 1 - 0.5) / 0.5, 0, 1))[:, None]
    shuffle = slide.copy()  # feet that swing past each other but never stand
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shuffle[:, H36M17.index(f"{side}_ankle"), 0] += 0.1 * sign * np.sin(2 * np.pi * times_s / 1.2)
    for joints in (slide, hops, shuffle):
        gait = gait_in(pose_at(joints, 30.0))
        assert not gait.found
        assert gait.reason.startswith("not enough heel strikes in a row: ")


def test_too_few_frames_per_second() -> None:
    assert gait_in(walking(6.0, 5.0)).reason == "5 frames per second are too few; 10 are needed"
    assert gait_in(walking(6.0, 10.0)).found


def test_too_short() -> None:
    assert gait_in(walking(1 / 30)).reason == "not in view for long enough"
    assert gait_in(walking(1.0)).reason.startswith("not enough heel strikes in a row: ")


def test_a_gap_parts_two_walks() -> None:
    """No step is made up over frames in which the walker was not in view."""
    pose = walking(12.0)
    arrays = {name: getattr(pose, name).copy() for name in ("joints_3d", "trajectory", "joints_world")}
    for array in arrays.values():
        array[0, 150:210] = np.nan
    gait = gait_in(with_arrays(pose, **arrays))
    assert len(gait.steps) == 14
    assert all(step.end_s < 5.0 or step.start_s >= 7.0 for step in gait.steps)
    assert all(stride.end_s < 5.0 or stride.start_s >= 7.0 for stride in gait.strides)
    assert values_of(gait)["cadence"] == pytest.approx(100, rel=0.005)


def test_nobody_in_view_for_the_whole_time() -> None:
    pose = walking(2.0)
    gone = {name: np.full_like(getattr(pose, name), np.nan) for name in ("joints_3d", "trajectory", "joints_world")}
    assert gait_in(with_arrays(pose, **gone)).reason == "not in view for long enough"
