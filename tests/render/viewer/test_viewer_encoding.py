"""The motion as the web viewer's page holds it: read back by the documented layout, and its size."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from poses import arrays_of, camera_axes, pose_of, walker, walking_pose, with_arrays

from vp3d_cli.pose import Pose3D
from vp3d_cli.render.viewer.encode import (
    MISSING,
    NOT_SEEN,
    SEEN,
    encode_pose,
    filming_camera,
    joint_states,
    quantize,
)
from vp3d_cli.skeletons import COCO17, H36M17

Array = NDArray[Any]


def read_back(packed: dict[str, Any]) -> tuple[Array, list[tuple[Array, Array]]]:
    """Frame times, and for each person states (t, J) and joints (t, J, 3), by the documented layout."""
    data = zlib.decompress(base64.b64decode(packed["data"]))
    count = len(packed["joints"])
    times, at = np.frombuffer(data[: 8 * packed["frames"]], "<f8"), 8 * packed["frames"]
    people = []
    for person in packed["people"]:
        frames = person["frames"]
        states = np.frombuffer(data[at : at + frames * count], np.uint8).reshape(frames, count)
        at += states.size
        root, at = integers(data, at, (3, frames), "<i4")
        offsets, at = integers(data, at, (count, 3, frames), "<i2")
        joints = (root[None].astype(float) + offsets) * person["step"]
        people.append((states, joints.transpose(2, 0, 1)))
    assert at == len(data)
    return times, people


def integers(data: bytes, at: int, shape: tuple[int, ...], kind: str) -> tuple[Array, int]:
    width = np.dtype(kind).itemsize
    size = int(np.prod(shape)) * width
    planes = np.frombuffer(data[at : at + size], np.uint8).reshape(width, -1)
    differences = np.ascontiguousarray(planes.T).view(kind).reshape(shape)
    return np.cumsum(differences, axis=-1, dtype=kind), at + size


def test_reads_back_within_half_a_millimetre() -> None:
    pose = walking_pose(people=2, frames=50)
    times, people = read_back(encode_pose(pose))
    np.testing.assert_array_equal(times, pose.frame_times_s)
    for person, (states, joints) in zip(pose.people, people, strict=True):
        assert (states == SEEN).all()
        np.testing.assert_allclose(joints, person.joints_world, rtol=0, atol=1e-4)


@given(seed=st.integers(0, 2**16), spread_m=st.sampled_from([0.01, 1.0, 3.0, 30.0]), far_m=st.sampled_from([0.0, 1e4]))
def test_error_is_at_most_half_a_step(seed: int, spread_m: float, far_m: float) -> None:
    random = np.random.default_rng(seed)
    joints = random.normal(far_m, spread_m, (9, 5, 3))
    joints[random.random((9, 5)) < 0.2] = np.nan
    motion = quantize(joints)
    decoded = (motion.root[:, None].astype(float) + motion.offsets) * motion.step_m
    known = np.isfinite(joints)
    assert np.abs(decoded - joints)[known].max(initial=0) <= motion.step_m * 0.5001
    if spread_m < 1.0:
        assert motion.step_m == pytest.approx(1e-4, rel=1e-3)


def test_missing_positions_are_marked_and_held() -> None:
    pose = walking_pose(people=1, frames=10)
    arrays = arrays_of(pose)
    arrays["joints_world"][0, 4:6, 3] = np.nan
    arrays["joints_world"][0, 7] = np.nan
    _, [(states, joints)] = read_back(encode_pose(with_arrays(pose, **arrays)))
    assert (states[4:6, 3] == MISSING).all()
    assert (states[7] == MISSING).all()
    assert (states == MISSING).sum() == 2 + 17
    np.testing.assert_allclose(joints[7], joints[6], rtol=0, atol=1e-9)


def test_person_is_stored_for_the_frames_in_view_only() -> None:
    pose = walking_pose(people=2, frames=30)
    arrays = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][1, :12] = np.nan
    arrays["observed"][1, :12] = False
    arrays["scores_2d"][1, :12] = 0
    packed = encode_pose(with_arrays(pose, **arrays))
    assert [(person["first"], person["frames"]) for person in packed["people"]] == [(0, 30), (12, 18)]


def test_joints_go_by_their_keypoints() -> None:
    pose = walking_pose(people=1, frames=4)
    arrays = arrays_of(pose)
    knee, nose, shoulder = (COCO17.index(joint) for joint in ("left_knee", "nose", "right_shoulder"))
    arrays["observed"][0, 0, knee] = False
    arrays["scores_2d"][0, 1, shoulder] = 0.1
    arrays["observed"][0, 2, nose] = False
    arrays["observed"][0, 3, [*range(5)]] = False
    changed = with_arrays(pose, **arrays)
    states = joint_states(changed.people[0], changed.joint_names_3d, changed.joint_names_2d)
    not_seen = [{H36M17.joints[j] for j in np.flatnonzero(row == NOT_SEEN)} for row in states]
    assert not_seen == [{"left_knee"}, {"right_shoulder", "thorax", "spine"}, set(), {"neck", "head"}]


@pytest.mark.parametrize("yaw_deg", [0.0, 70.0])
def test_filming_camera_is_found(yaw_deg: float) -> None:
    axes = camera_axes(yaw_deg)
    position = (1.0, -6.0, 1.5)
    pose = pose_of([walker(np.arange(20) / 30.0)], axes=axes, position=position)
    camera = filming_camera(pose)
    assert camera is not None
    np.testing.assert_allclose(camera["position"], position, atol=1e-3)
    np.testing.assert_allclose(np.array(camera["axes"]).T, axes, atol=1e-4)
    assert camera["intrinsics"] == list(pose.intrinsics)


def test_nobody_and_nothing() -> None:
    pose = walking_pose(people=1, frames=5)
    nobody = replace(pose, people=())
    assert filming_camera(nobody) is None
    times, people = read_back(encode_pose(nobody))
    assert (len(times), people) == (5, [])


def test_ten_minutes_of_two_people_stay_small() -> None:
    frames = 10 * 60 * 30
    random = np.random.default_rng(0)
    # Tremor of a centimetre in every joint: far more than smoothed motion has, and the worst for compression.
    people = [walker(np.arange(frames) / 30.0, (0.0, p)) + random.normal(0, 0.01, (frames, 17, 3)) for p in range(2)]
    size = len(json.dumps(encode_pose(pose_of(people))))
    assert size < 8e6  # without compression 36,000 rows of 17 x 3 x 16 bits are 3.7 MB, 4.9 MB in base64, and the rest


def test_all_of_it_is_json() -> None:
    pose: Pose3D = walking_pose(people=1, frames=3)
    packed = encode_pose(pose)
    assert json.loads(json.dumps(packed, allow_nan=False)) == packed
