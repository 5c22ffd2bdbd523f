"""Thorax and spine of all recordings at one place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from motion_files import joint
from motions import walk, write_archive

from vp3d_cli.train.mocap.clip import MOTION_JOINTS, MotionClip
from vp3d_cli.train.mocap.motion import read_motion
from vp3d_cli.train.mocap.spine_normalization import normalize_spines
from vp3d_cli.types import DoubleArray, FloatArray

SPINE, THORAX = MOTION_JOINTS.index("spine"), MOTION_JOINTS.index("thorax")


def recorded(joints: FloatArray, source: str = "studio", name: str = "walk") -> MotionClip:
    return MotionClip(name, source, "made up for tests", 30.0, joints.astype(np.float32))


def axes(joints: FloatArray) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """From hip to thorax, its length, and forward."""
    line = (joint(joints, "thorax") - joint(joints, "hip")).astype(np.float64)
    forward = np.cross(joint(joints, "left_shoulder") - joint(joints, "right_shoulder"), line)
    length = np.linalg.norm(line, axis=-1, keepdims=True)
    return line / length, length, forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def divided_otherwise(joints: FloatArray, thorax: float, spine: float, before: float) -> FloatArray:
    """The same motion of a skeleton with its thorax higher by so many metres, its spine at another share and depth."""
    along, length, forward = axes(joints)
    out: FloatArray = joints.copy()
    out[:, THORAX] += thorax * along
    out[:, SPINE] = joint(joints, "hip") + along * spine * length + before * forward
    return out


@pytest.mark.parametrize(("thorax", "spine", "before"), [(0.03, 0.25, 0.05), (-0.03, 0.6, -0.02), (0.0, 0.5, 0.0)])
def test_recordings_agree(thorax: float, spine: float, before: float) -> None:
    motion = walk(60, 30.0, 1.0)
    one = normalize_spines([recorded(motion)])[0].joints
    other = normalize_spines([recorded(divided_otherwise(motion, thorax, spine, before))])[0].joints
    np.testing.assert_allclose(other[:, THORAX], one[:, THORAX], atol=1e-3)
    # On the line from hip to thorax by way of the old spine, half of its length is not quite half of its height.
    np.testing.assert_allclose(other[:, SPINE], one[:, SPINE], atol=0.01)
    rest = [i for i in range(len(MOTION_JOINTS)) if i not in (SPINE, THORAX)]
    np.testing.assert_array_equal(other[:, rest], motion[:, rest].astype(np.float32))


def test_the_thorax_is_level_with_the_shoulders_and_does_not_follow_them() -> None:
    motion = walk(60, 30.0, 1.0)
    shrugged = motion.copy()
    shoulders = [MOTION_JOINTS.index(name) for name in ("left_shoulder", "right_shoulder")]
    shrugged[:30, shoulders] += np.array([0.0, 0.0, 0.06], np.float32)
    joints = normalize_spines([recorded(shrugged)])[0].joints
    along = axes(joints)[0]
    above = ((joints[:, shoulders].mean(axis=1) - joint(joints, "thorax")) * along).sum(axis=-1)
    assert above.mean() == pytest.approx(0.0, abs=1e-3)
    assert above[:30].mean() - above[30:].mean() == pytest.approx(0.06, abs=2e-3)


def test_the_spine_bends_as_before_about_the_mean_of_its_source() -> None:
    motion = normalize_spines([recorded(walk(60, 30.0, 1.0))])[0].joints
    _, length, forward = axes(motion)
    hunched = motion.copy()
    hunched[:, SPINE] -= 0.04 * forward

    def bow(clip: MotionClip) -> float:
        forward = axes(clip.joints)[2]
        return float(((clip.joints[:, SPINE] - joint(clip.joints, "hip")) * forward).sum(axis=-1).mean())

    straight, bent = normalize_spines([recorded(motion), recorded(hunched, name="hunched")])
    assert bow(straight) - bow(bent) == pytest.approx(0.04, abs=2e-3)
    assert (bow(straight) + bow(bent)) / 2 == pytest.approx(-0.03 * float(length.mean()), abs=1e-3)
    alone = normalize_spines([recorded(motion), recorded(hunched, source="elsewhere")])
    assert bow(alone[0]) == pytest.approx(bow(alone[1]), abs=2e-3)


def test_twice_is_once() -> None:
    once = normalize_spines([recorded(divided_otherwise(walk(60, 30.0, 1.0), 0.03, 0.3, 0.04))])
    np.testing.assert_allclose(normalize_spines(once)[0].joints, once[0].joints, atol=4e-3)


def test_whatever_is_read_is_divided(tmp_path: Path) -> None:
    clips = read_motion(write_archive(tmp_path / "motion.npz"))
    for clip, again in zip(clips, normalize_spines(clips), strict=True):
        np.testing.assert_allclose(again.joints, clip.joints, atol=4e-3)
    raw = dataclasses.replace(clips[0], joints=divided_otherwise(clips[0].joints, 0.03, 0.3, 0.04))
    assert np.abs(normalize_spines([raw])[0].joints - raw.joints).max() > 0.02
