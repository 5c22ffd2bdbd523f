"""Figures whose value is known, and what is left behind of them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation import motion
from scipy.spatial.transform import Rotation

from vp3d_cli.errors import InputError
from vp3d_cli.evaluate import mean_scores, score_motion
from vp3d_cli.evaluate.calibrated import at_times
from vp3d_cli.evaluate.report import plot_joints, write_json
from vp3d_cli.evaluate.scores import score_poses
from vp3d_cli.skeletons import LIMB_JOINTS


def test_a_perfect_motion() -> None:
    truth = motion()
    scores = score_motion("x", truth, truth, LIMB_JOINTS, predicted_root=truth[:, 0], truth_root=truth[:, 0])
    assert scores.frames == 30
    assert scores.missing == 0
    for name in ("mpjpe", "n_mpjpe", "p_mpjpe", "mpjve", "trajectory", "trajectory_aligned"):
        assert getattr(scores, name) == pytest.approx(0.0, abs=1e-6), name
    assert scores.pck == scores.auc == pytest.approx(100.0)
    assert scores.joints == LIMB_JOINTS


def test_a_body_of_another_size_has_one_scale() -> None:
    truth = motion()
    scores = score_motion("x", 0.8 * truth, truth, LIMB_JOINTS)
    assert scores.n_mpjpe == pytest.approx(0.0, abs=1e-6)
    assert scores.mpjve == pytest.approx(0.0, abs=1e-6)
    assert scores.mpjpe == pytest.approx(0.2 * 1e3 * np.linalg.norm(truth, axis=-1).mean())
    # A body that breathes is not excused by its one scale, but by a scale for each pose.
    breathing = truth * np.linspace(0.8, 1.2, 30)[:, None, None]
    assert score_motion("x", breathing, truth, LIMB_JOINTS).n_mpjpe > 20
    assert score_poses("x", breathing, truth, LIMB_JOINTS).n_mpjpe == pytest.approx(0.0, abs=1e-6)


def test_known_errors() -> None:
    truth = motion()
    shifted = truth.copy()
    shifted[:, 3] += [0.0, 0.06, 0.08]
    scores = score_motion("x", shifted, truth, LIMB_JOINTS)
    assert scores.mpjpe == pytest.approx(100 / 12)
    assert scores.mpjve == pytest.approx(0.0, abs=0.3)  # the same in every frame, but for the scale
    assert max(scores.joints_n) == scores.joints_n[3]
    assert np.mean(scores.joints_n) == pytest.approx(scores.n_mpjpe)
    assert np.mean(scores.joints_p) == pytest.approx(scores.p_mpjpe)

    turned = truth @ Rotation.from_euler("y", 20, degrees=True).as_matrix().T
    scores = score_motion("x", turned, truth, LIMB_JOINTS)
    assert scores.p_mpjpe == pytest.approx(0.0, abs=1e-6)
    assert scores.n_mpjpe > 30


def test_velocity_is_per_frame() -> None:
    truth = np.tile(motion(1), (30, 1, 1))
    drifting = truth + np.arange(30)[:, None, None] * np.array([0.0, 0.003, 0.0])
    centred = drifting - drifting.mean()
    assert score_motion("x", centred, truth, LIMB_JOINTS).mpjve == pytest.approx(3.0, rel=0.1)


def test_trajectory_before_and_after_alignment() -> None:
    truth = motion()
    path = np.cumsum(np.random.default_rng(1).normal(size=(30, 3)), axis=0)
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    moved = 1.3 * path @ turn.T + [1.0, 2.0, 3.0]
    scores = score_motion("x", truth, truth, LIMB_JOINTS, predicted_root=moved, truth_root=path)
    assert scores.trajectory == pytest.approx(1e3 * np.linalg.norm(moved - path, axis=1).mean())
    assert scores.trajectory_aligned == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(score_motion("x", truth, truth, LIMB_JOINTS).trajectory)
    short = score_motion("x", truth[:2], truth[:2], LIMB_JOINTS, predicted_root=moved[:2], truth_root=path[:2])
    assert math.isnan(short.trajectory_aligned)


def test_missing_frames_are_counted_and_left_out() -> None:
    truth = motion()
    predicted = truth.copy()
    predicted[10:13] = np.nan
    predicted[13:] += 0.5  # a jump within the gap is no velocity
    predicted -= np.where(np.arange(30) >= 13, 0.5, 0.0)[:, None, None]
    scores = score_motion("x", predicted, truth, LIMB_JOINTS)
    assert (scores.frames, scores.missing) == (27, 3)
    assert scores.mpjve == pytest.approx(0.0, abs=1e-6)
    unknown = truth.copy()
    unknown[:5] = np.nan
    assert score_motion("x", predicted, unknown, LIMB_JOINTS).missing == 3
    with pytest.raises(InputError, match="no frame has both"):
        score_motion("x", predicted * np.nan, truth, LIMB_JOINTS)


def test_the_mean_of_cases() -> None:
    truth = motion()
    cases = [score_motion(str(i), truth * (1 + 0.1 * i), truth, LIMB_JOINTS) for i in range(3)]
    mean = mean_scores("mean", cases)
    assert mean.mpjpe == pytest.approx(np.mean([case.mpjpe for case in cases]))
    assert mean.frames == 90
    assert math.isnan(mean.trajectory)
    assert mean.as_dict()["trajectory"] is None
    assert set(mean.as_dict()["joints"]) == set(LIMB_JOINTS)


def test_values_at_other_times() -> None:
    times = np.arange(10) / 30.0
    values = np.stack([times, 2 * times], axis=1)
    new = np.arange(20) / 60.0
    moved = at_times(values, times, new)
    np.testing.assert_allclose(moved[:19, 0], new[:19])
    np.testing.assert_allclose(at_times(values, times + 1e-4, times), values)
    values[4] = np.nan
    moved = at_times(values, times, new)
    assert np.flatnonzero(np.isnan(moved[:, 0])).tolist() == [7, 8, 9, 19]  # half a frame beyond the end is too far
    assert np.isnan(at_times(values, times, times + 1.0)).all()
    assert np.isfinite(at_times(values[:1], times[:1], times)[0]).all()


def test_json_and_plot(tmp_path: Path) -> None:
    truth = motion()
    results = {name: [score_motion("a", truth * scale, truth, LIMB_JOINTS)] for name, scale in (("x", 1.1), ("y", 1.2))}
    write_json(tmp_path / "scores.json", results, {"version": "0"}, overwrite=False)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["version"] == "0"
    assert content["results"]["y"][0]["mpjpe"] == pytest.approx(results["y"][0].mpjpe)
    assert content["results"]["x"][0]["trajectory"] is None
    plot_joints(tmp_path / "joints.png", {name: cases[0] for name, cases in results.items()}, overwrite=False)
    assert (tmp_path / "joints.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(InputError, match="no error per joint"):
        plot_joints(tmp_path / "no.png", {"x": dataclasses.replace(results["x"][0], joints=())}, overwrite=False)
    assert not (tmp_path / "no.png").exists()
