"""Semi-supervised training: projection, bone lengths, unlabelled files, and that it teaches."""

from __future__ import annotations

import csv
import dataclasses
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.motions import write_archive
from tests.small_dataset import values_for, write_dataset, write_people
from vp3d_cli.camera import project, rotation_to_axis
from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.lift.checkpoint import load_lifter_file, read_lifter_info
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.skeletons import COCO17, H36M17, HUMANEVA15
from vp3d_cli.train.batch import Batch, CameraBatch, UnlabelledBatch
from vp3d_cli.train.config import TrainConfig, parse_config
from vp3d_cli.train.loop import train
from vp3d_cli.train.networks import build_networks
from vp3d_cli.train.objective import Objective
from vp3d_cli.train.reprojection import (
    bone_length_loss,
    mean_bone_lengths,
    pixels_to_rays,
    project_points,
    reprojection_error,
    root_from_keypoints,
    shared_joints,
)
from vp3d_cli.train.sequences.unlabelled import read_unlabelled

WIDTH = 1000.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("motion") / "motion.npz")


def cameras_like(n: int = 1, **changes: Any) -> CameraBatch:
    values = {
        "intrinsics": [1145.0, 1144.0, 512.0, 515.0], "distortion": [-0.2, 0.24, -0.001, 0.0014, -0.002],
        "tangential_factor": 2.0, "width": WIDTH, **changes,
    }  # fmt: skip
    return CameraBatch(
        *(torch.tensor(value, dtype=torch.float64).expand(n, *np.shape(value)) for value in values.values())
    )


def some_points(n: int = 2, joints: int = 17) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(n, 3, joints, 3, dtype=torch.float64, generator=generator) * 0.4
    return spread + torch.tensor([0.2, -0.1, 4.5], dtype=torch.float64)


def observed(points: torch.Tensor, cameras: CameraBatch, **changes: Any) -> UnlabelledBatch:
    n, outputs, joints = points.shape[:3]
    zeros = torch.zeros(n, outputs, 2, dtype=torch.float64)
    unlabelled = UnlabelledBatch(
        torch.zeros(n, 9, joints, 2, dtype=torch.float64), project_points(points, cameras),
        torch.ones(n, outputs, joints, dtype=torch.float64), zeros, zeros[..., 0] + 1, None, cameras,
    )  # fmt: skip
    return dataclasses.replace(unlabelled, **changes)


def test_projection_is_that_of_the_library() -> None:
    points, cameras = some_points(), cameras_like(2)
    expected = project(points, cameras.intrinsics[:, None, None], cameras.distortion[:, None, None])
    torch.testing.assert_close(project_points(points, cameras), expected)


@pytest.mark.parametrize("number", range(4))
def test_projection_is_that_of_the_data_set(number: int) -> None:
    camera = cameras_of("human36m", "S1")[number]
    assert camera.tangential == "human36m"
    points = some_points(1)
    ours = project_points(
        points, cameras_like(intrinsics=camera.intrinsics, distortion=camera.distortion, tangential_factor=1.0)
    )
    still = dataclasses.replace(camera, rotation=np.eye(3), translation=np.zeros(3))
    np.testing.assert_allclose(ours.numpy(), still.project(points.numpy()), atol=2e-4)


def test_reprojection_of_the_truth_is_zero_and_scale_does_not_matter() -> None:
    points, cameras = some_points(), cameras_like(2)
    root, shared = points[:, :, 0], shared_joints(H36M17, H36M17)
    unlabelled = observed(points, cameras)
    joints = points - root[:, :, None]
    assert reprojection_error(joints, root, unlabelled, shared).item() == pytest.approx(0, abs=1e-12)
    # One camera cannot tell a child nearby from an adult further away.
    assert reprojection_error(0.7 * joints, 0.7 * root, unlabelled, shared).item() == pytest.approx(0, abs=1e-12)
    moved = reprojection_error(joints, root + torch.tensor([0.1, 0.0, 0.0]), unlabelled, shared).item()
    assert moved == pytest.approx(1145 * 0.1 / 4.5 / (WIDTH / 2), rel=0.15)


def test_reprojection_weighs_by_confidence_and_skips_what_is_missing() -> None:
    points, cameras = some_points(), cameras_like(2)
    root, shared = points[:, :, 0], shared_joints(H36M17, H36M17)
    unlabelled = observed(points, cameras)
    wild, scores = unlabelled.keypoints.clone(), unlabelled.scores.clone()
    wild[:, :, 5] += 200.0
    wild[:, :, 6] = math.nan
    scores[:, :, 6] = 0.0
    joints = (points - root[:, :, None]).requires_grad_()
    losses = []
    for confidence in (1.0, 0.1, 0.0):
        scores[:, :, 5] = confidence
        loss = reprojection_error(
            joints, root, dataclasses.replace(unlabelled, keypoints=wild, scores=scores.clone()), shared
        )
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, joints)
        assert torch.isfinite(gradient).all()
    away = math.hypot(200, 200) / (WIDTH / 2)
    assert losses == pytest.approx([away / 16, 0.1 * away / 15.1, 0.0], abs=1e-9)


def test_a_person_behind_the_camera_gives_finite_numbers() -> None:
    points = some_points(1)
    behind = points * torch.tensor([1.0, 1.0, -1.0])
    loss = reprojection_error(
        behind.requires_grad_(), behind[:, :, 0] * 0, observed(points, cameras_like()), ([0], [0])
    )
    assert torch.isfinite(torch.autograd.grad(loss, behind)[0]).all()


def test_shared_joints_go_by_name() -> None:
    of_2d, of_3d = shared_joints(COCO17, H36M17)
    assert len(of_2d) == 12
    assert [COCO17.joints[i] for i in of_2d] == [H36M17.joints[i] for i in of_3d]
    assert len(shared_joints(H36M17, H36M17)[0]) == 17
    assert len(shared_joints(COCO17, HUMANEVA15)[0]) == 12


def test_bone_lengths_are_means_over_the_batch() -> None:
    points = some_points()
    lengths = mean_bone_lengths(points, H36M17.bones)
    parent, child = H36M17.bones[3]
    assert lengths[3].item() == pytest.approx((points[..., parent, :] - points[..., child, :]).norm(dim=-1).mean())
    assert bone_length_loss(points, points.flip(0), H36M17.bones).item() == pytest.approx(0, abs=1e-12)
    longer = bone_length_loss(1.1 * points, points, H36M17.bones)
    apart = 0.1 * lengths
    assert longer.item() == pytest.approx(torch.where(apart < 0.02, apart**2 / 0.04, apart - 0.01).mean().item())


def semi_config(folder: Path, **changes: Any) -> TrainConfig:
    values = values_for(folder, **{"semi": {"subjects": ["S5"], "warmup_epochs": 1}, **changes})
    values["dataset"] = {**values["dataset"], "train": ["S1"]}
    return parse_config(values, "test")


def test_the_loss_is_that_of_the_papers_equations(folder: Path) -> None:
    """Supervised, trajectory weighted by 1 / depth, reprojection and bone lengths, written out again in float64."""
    config = semi_config(folder, semi={"subjects": ["S5"], "trajectory": 0.5, "bone_lengths": 2.0})
    rule = InputRule("screen", False, 50.0, "h36m17", "h36m17")
    objective = Objective(config, rule)
    torch.manual_seed(0)
    model = build_networks(config, rule).double().eval()
    points, cameras = some_points(4), cameras_like(4)
    root = points[:, :1, 0]
    centre, spread = torch.rand(4, 1, 2).double() * 0.1, torch.rand(4, 1).double() * 0.1 + 0.1
    batch = Batch(torch.rand(4, 9, 17, 2).double(), points[:, :1] - root[:, :, None], root, centre, spread)
    unlabelled = observed(
        points[:, 1:2], cameras, features=torch.rand(4, 9, 17, 2).double(), centre=centre, spread=spread
    )
    loss = objective.loss(model, batch, unlabelled, False).item()

    with torch.no_grad():
        pairs: Any = [model.forward_strided(part.features).numpy() for part in (batch, unlabelled)]
    (pose, place), (other_pose, other_place) = ((answer[:, 0, :17], answer[:, 0, 17]) for answer in pairs)

    def placed(answer: Any) -> Any:
        depth = answer[:, 2] / spread[:, 0].numpy()
        plane = centre[:, 0].numpy() + answer[:, :2] * spread.numpy()
        return np.concatenate([plane, np.ones((4, 1))], axis=1) * depth[:, None]

    def lengths(joints: Any) -> Any:
        return np.array([np.linalg.norm(joints[:, p] - joints[:, c], axis=-1).mean() for p, c in H36M17.bones])

    truth, true_root = batch.joints[:, 0].numpy(), root[:, 0].numpy()
    expected = np.linalg.norm(pose - truth, axis=-1).mean()
    expected += 0.5 * (np.linalg.norm(placed(place) - true_root, axis=-1) / true_root[:, 2]).mean()
    points_cam = other_pose + placed(other_place)[:, None]
    depth = np.maximum(points_cam[..., 2], 0.2)
    x, y = (np.clip(points_cam[..., i] / depth, -2, 2) for i in range(2))
    k1, k2, p1, p2, k3 = cameras.distortion[0].tolist()
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    u = 1145.0 * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + 512.0
    v = 1144.0 * (y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)) + 515.0
    away = np.stack([u, v], axis=-1) - unlabelled.keypoints[:, 0].numpy()
    expected += np.minimum(np.linalg.norm(away, axis=-1) / (WIDTH / 2), 1).mean()
    apart = np.abs(lengths(other_pose) - lengths(pose))
    expected += 2.0 * np.where(apart < 0.02, apart**2 / 0.04, apart - 0.01).mean()
    assert loss == pytest.approx(expected, abs=1e-6)


def test_it_learns_from_what_has_no_labels(folder: Path, tmp_path: Path) -> None:
    loop = {**values_for(folder)["train"], "epochs": 12, "learning_rate": 5e-3, "validate_every": 18}
    config = semi_config(folder, train=loop)
    result = train(config, tmp_path / "run")
    with result.log.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["reprojection"] < 0.85 * rows[0]["reprojection"]
    assert {"test_mpjpe", "test_p", "test_root", "reprojection"} <= set(rows[0])
    files = ("best.safetensors", "last.safetensors", "trajectory-best.safetensors", "trajectory-last.safetensors")
    tasks = [read_lifter_info(tmp_path / "run" / file).task for file in files]
    assert tasks == ["pose", "pose", "trajectory", "trajectory"]
    pose, place = (Lifter(tmp_path / "run" / file, "cpu") for file in files[::2])
    keypoints = np.random.default_rng(0).uniform(400, 600, (5, 17, 2)).astype(np.float32)
    camera = (1145.0, 1143.0, 512.0, 515.0)
    assert pose.lift(keypoints, np.ones((5, 17), np.float32), camera, (1000, 1002)).shape == (5, 17, 3)
    assert place.lift(keypoints, np.ones((5, 17), np.float32), camera, (1000, 1002)).shape == (5, 1, 3)


def test_resume_gives_the_numbers_of_an_uninterrupted_run(folder: Path, tmp_path: Path) -> None:
    config = semi_config(folder, semi={"subjects": ["S5"], "warmup_steps": 1})
    whole = train(config, tmp_path / "whole")

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    assert not train(config, tmp_path / "parts", on_step=interrupt).finished
    assert train(config, tmp_path / "parts", resume=True).score == whole.score
    for file in ("last.safetensors", "trajectory-last.safetensors"):
        ours, theirs = (load_lifter_file(tmp_path / run / file)[0].state_dict() for run in ("parts", "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_warm_up_leaves_the_unlabelled_half_out(folder: Path, tmp_path: Path) -> None:
    def first_losses(name: str, **semi: Any) -> list[float]:
        losses: list[float] = []
        config = semi_config(folder, semi={"subjects": ["S5"], **semi})
        train(config, tmp_path / name, on_step=lambda step, steps, loss: losses.append(loss))
        return losses

    warm, none = first_losses("warm", warmup_steps=2), first_losses("none", warmup_steps=1000)
    assert warm[:2] == none[:2]
    assert warm[2] > none[2]


def test_labels_count_for_the_unlabelled_only_through_what_is_seen(folder: Path, tmp_path: Path) -> None:
    # With both of its losses off, the unlabelled half still goes through batch norm, but teaches nothing.
    config = semi_config(folder, semi={"subjects": ["S5"], "reprojection": 0.0, "bone_lengths": 0.0})
    assert math.isfinite(train(config, tmp_path / "run").score)


def test_keypoint_files_are_preprocessed_as_for_inference(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_people(tmp_path / "a.npz")
    write_people(tmp_path / "sub" / "b.npz", fov_deg=90.0)
    write_people(tmp_path / "sub" / "c.npz", intrinsics=[700.0, 701.0, 330.0, 250.0])
    views = read_unlabelled([str(tmp_path)], InputRule(rate_hz=30.0))
    assert [len(view.keypoints) for view in views] == [55, 55, 55]
    focal = [view.camera.intrinsics[0] for view in views]
    assert focal == pytest.approx([320 / math.tan(math.radians(30)), 320.0, 700.0])
    assert views[0].scores is not None
    assert views[0].scores.min() > 0.5
    assert read_unlabelled([str(tmp_path / "a.npz")], InputRule(rate_hz=50.0))[0].keypoints.shape == (90, 17, 2)


def motion_values(archive: Path, keypoints: Path, **train_section: Any) -> dict[str, Any]:
    return {
        "model": {"options": {"widths": [3, 3], "channels": 16, "dropout": 0.1}},
        "data": {"motion": [str(archive)], "hold_out": ["walk_3"], "labelled": ["walk_0", "walk_1"]},
        "semi": {"unlabelled": [str(keypoints)], "warmup_steps": 4},
        "train": {
            "steps": 60, "batch": 64, "pool": 256, "validate_every": 20, "validation_windows": 64, "warmup_steps": 2,
            "precision": "float32", **train_section,
        },
    }  # fmt: skip


def test_motion_with_labels_and_files_without(archive: Path, tmp_path: Path) -> None:
    values = motion_values(archive, write_people(tmp_path / "a.npz"), learning_rate=5e-3)
    result = train(parse_config(values, "test"), tmp_path / "run")
    with result.log.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["reprojection"] < 0.9 * rows[0]["reprojection"]
    assert {"clean_n", "detected_n", "detected_root"} <= set(rows[0])
    assert result.score == pytest.approx(min(row["detected_n"] for row in rows), rel=1e-4)


@pytest.mark.parametrize("stop_at", [2, 7])
def test_motion_and_files_resume_exactly(archive: Path, tmp_path: Path, stop_at: int) -> None:
    values = motion_values(archive, write_people(tmp_path / "a.npz"), steps=9)
    config = parse_config(values, "test")

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            signal.raise_signal(signal.SIGINT)

    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", on_step=interrupt)
    assert train(config, tmp_path / "parts", resume=True).score == whole.score


@pytest.mark.parametrize(
    ("section", "names", "error", "says"),
    [
        ("semi", {"unlabelled": ["gone.npz"]}, InputError, "no keypoint file at gone.npz"),
        ("semi", {"subjects": ["S1"]}, ConfigError, "two kinds of unlabelled data"),
        ("semi", {"warmup_epochs": 5}, ConfigError, "semi.warmup_epochs needs a data set"),
        ("semi", {"reprojection": -1}, ConfigError, "reprojection must not be negative"),
        ("model", {"task": "trajectory"}, ConfigError, "trains both networks"),
        ("train", {"batch": 1, "pool": 1}, ConfigError, "one half of it is unlabelled"),
        ("data", {"labelled": 0.0}, ConfigError, "labelled must be in"),
        ("data", {"labelled": ["("]}, ConfigError, "labelled: "),
        ("data", {"labelled": "nothing"}, ConfigError, "0 clips for training"),
        ("input", {"skeleton_2d": "h36m17"}, ConfigError, "keypoint files have COCO keypoints"),
    ],
)
def test_what_cannot_be(
    archive: Path, tmp_path: Path, section: str, names: dict[str, Any], error: type[Exception], says: str
) -> None:
    values = motion_values(archive, write_people(tmp_path / "a.npz"))
    values[section] = {**values.get(section, {}), **names}
    with pytest.raises(error, match=says):
        train(parse_config(values, "test"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_that_show_nobody_for_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody is in view for 1 s"):
        read_unlabelled([str(write_people(tmp_path / "short.npz", frames=40))], InputRule())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no keypoint files"):
        read_unlabelled([str(tmp_path / "empty")], InputRule())


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_rays_undo_the_projection(factor: float) -> None:
    points, cameras = some_points(), cameras_like(2, tangential_factor=factor)
    rays = pixels_to_rays(project_points(points, cameras), cameras)
    torch.testing.assert_close(rays, points[..., :2] / points[..., 2:], rtol=0, atol=1e-5)


def test_a_fit_finds_where_the_root_is() -> None:
    points, cameras = some_points(), cameras_like(2)
    unlabelled, shared = observed(points, cameras), shared_joints(H36M17, H36M17)
    root = points[:, :, 0]
    joints = (points - root[:, :, None]).requires_grad_()
    fitted = root_from_keypoints(joints, unlabelled, shared)
    torch.testing.assert_close(fitted, root, rtol=0, atol=1e-3)
    torch.testing.assert_close(root_from_keypoints(0.5 * joints, unlabelled, shared), 0.5 * root, rtol=0, atol=1e-3)
    (gradient,) = torch.autograd.grad(fitted.sum(), joints)
    assert torch.isfinite(gradient).all()
    nothing = dataclasses.replace(unlabelled, scores=unlabelled.scores * 0)
    assert torch.isfinite(root_from_keypoints(joints, nothing, shared)).all()


def test_a_fit_in_the_axes_of_a_camera_that_faces_the_person() -> None:
    points, cameras = some_points(), cameras_like(2)
    turn = rotation_to_axis(points[:, :, 0, :2] / points[:, :, 0, 2:])
    unlabelled = dataclasses.replace(observed(points, cameras), rotations=turn)
    facing = points @ turn.mT
    root = facing[:, :, 0]
    fitted = root_from_keypoints(facing - root[:, :, None], unlabelled, shared_joints(H36M17, H36M17))
    torch.testing.assert_close(fitted, root, rtol=0, atol=1e-3)


def test_learning_with_poses_placed_by_a_fit(folder: Path, tmp_path: Path) -> None:
    config = semi_config(folder, semi={"subjects": ["S5"], "placed_by": "fit"})
    assert math.isfinite(train(config, tmp_path / "run").score)
    with pytest.raises(ConfigError, match="placed_by must be one of trajectory, fit"):
        semi_config(folder, semi={"subjects": ["S5"], "placed_by": "hand"})
