"""Lifters examined on motion that they were not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evaluation import lifter_file
from motions import write_archive

from vp3d_cli.errors import ConfigError
from vp3d_cli.evaluate import motion_capture
from vp3d_cli.evaluate.motion_capture import HeldOutMotion, evaluate_shots, evaluate_windows, held_out_clips
from vp3d_cli.evaluate.scores import FIGURES
from vp3d_cli.lift.checkpoint import save_lifter
from vp3d_cli.pipeline.settings import InferSettings


def silent(stage: str, done: int, total: int | None) -> None:
    pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("motion") / "mocap.npz")


def test_what_was_held_out(archive: Path, tmp_path: Path) -> None:
    first = lifter_file(tmp_path / "a.safetensors")
    second = lifter_file(tmp_path / "b.safetensors", hold_out=("walk_[13]",))
    assert [clip.name for clip in held_out_clips([archive], [str(first)])] == ["walk_2", "walk_3"]
    assert [clip.name for clip in held_out_clips([archive], [str(first), str(second)])] == ["walk_3"]
    assert [clip.name for clip in held_out_clips([archive], [str(first)], ["_0$"])] == ["walk_0"]
    with pytest.raises(ConfigError, match="no motion is left"):
        held_out_clips([archive], [str(first)], ["nothing"])
    with pytest.raises(ConfigError, match="does not say what was held out"):
        held_out_clips([archive], [str(lifter_file(tmp_path / "c.safetensors", hold_out=()))])


def test_windows(archive: Path, tmp_path: Path) -> None:
    lifter = str(lifter_file(tmp_path / "a.safetensors"))
    held_out = HeldOutMotion(held_out_clips([archive], [lifter]), windows=40, group_by=r"walk_(\d)")
    scores = evaluate_windows(lifter, held_out, silent)
    assert [case.name for case in scores] == [
        "clean", "clean: 2", "clean: 3", "detected", "detected: 2", "detected: 3",
    ]  # fmt: skip
    whole, *parts = scores[:3]
    assert whole.frames == 40 == sum(part.frames for part in parts)
    pooled = sum(part.p_mpjpe * part.frames for part in parts) / 40
    assert whole.p_mpjpe == pytest.approx(pooled)
    assert whole.p_mpjpe <= whole.n_mpjpe <= whole.mpjpe + 1e-9
    assert len(whole.joints) == 17
    assert evaluate_windows(lifter, held_out, silent) == scores  # the same windows every time


def test_models_of_other_receptive_fields_see_the_same_windows(archive: Path, tmp_path: Path) -> None:
    """A model that answers nothing at all has the same error whatever it saw."""
    scores = []
    for i, options in enumerate(({"widths": [3]}, {"widths": [3, 5]}, {"widths": [5, 3], "causal": True})):
        path = lifter_file(tmp_path / f"{i}.safetensors", **options)
        from vp3d_cli.lift.checkpoint import load_lifter_file

        model, info = load_lifter_file(path)
        for p in model.parameters():
            torch.nn.init.zeros_(p)
        save_lifter(path, model, info)
        held_out = HeldOutMotion(held_out_clips([archive], [str(path)]), windows=20)
        scores.append(evaluate_windows(str(path), held_out, silent)[0].mpjpe)
    assert scores[0] > 100
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ("step", "left_out"),
    [("refine_reprojection", lambda joints, root, *_: (joints, root)), ("refine_bone_lengths", lambda joints: joints)],
)
def test_single_poses_get_what_inference_does(
    step: str, left_out: Callable[..., object], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = HeldOutMotion(held_out_clips([archive], ["pose-27"], ["walk"]), windows=64)
    whole = evaluate_windows("pose-27", held_out, silent)[0]
    monkeypatch.setattr(motion_capture, step, left_out)
    assert whole.p_mpjpe < evaluate_windows("pose-27", held_out, silent)[0].p_mpjpe - 0.05


def test_a_trajectory_model_is_examined_by_its_root(archive: Path, tmp_path: Path) -> None:
    lifter = str(lifter_file(tmp_path / "root.safetensors", task="trajectory"))
    held_out = HeldOutMotion(held_out_clips([archive], [lifter]), windows=10)
    scores = evaluate_windows(lifter, held_out, silent)
    assert [case.name for case in scores] == ["clean", "detected"]  # one source: no groups
    assert all(math.isfinite(case.trajectory) and math.isnan(case.n_mpjpe) for case in scores)


def test_shots_at_several_frame_rates(archive: Path, tmp_path: Path) -> None:
    lifter = str(lifter_file(tmp_path / "a.safetensors"))
    held_out = HeldOutMotion(held_out_clips([archive], [lifter]))
    scores = evaluate_shots(lifter, held_out, [24.0, 50.0], 2, InferSettings(), silent)
    assert [case.name for case in scores] == ["24 fps", "50 fps"]
    assert [case.frames for case in scores] == [2 * 4 * 24, 2 * 4 * 50]
    for case in scores:
        assert all(math.isfinite(getattr(case, figure)) for figure in FIGURES)
    with pytest.raises(ConfigError, match="frame rates must be between 1 and 120, got 240"):
        evaluate_shots(lifter, held_out, [240.0], 1, InferSettings(), silent)


def test_groups_that_make_no_sense(archive: Path, tmp_path: Path) -> None:
    clips = held_out_clips([archive], [], ["walk"])
    with pytest.raises(ConfigError, match="is not a regular expression"):
        HeldOutMotion(clips, group_by="(").groups()
    with pytest.raises(ConfigError, match="no clip's name matches 'dance'"):
        HeldOutMotion(clips, group_by="dance").groups()
    assert list(HeldOutMotion(clips).groups()) == ["made-up"]
