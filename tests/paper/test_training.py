"""Training on the archives of a data set: windows, order, labels, the paper's equations, exact resume."""

from __future__ import annotations

import csv
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.small_dataset import FRAMES, joints_of, values_for, write_dataset
from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.lift.checkpoint import load_lifter_file, read_lifter_info
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.temporal import TemporalConfig
from vp3d_cli.paper.datasets.archives import read_positions_2d, write_positions_2d, write_positions_3d
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.training import read_dataset
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.config import LoopConfig, TrainConfig, parse_config
from vp3d_cli.train.loop import train
from vp3d_cli.train.networks import build_networks
from vp3d_cli.train.optimization import Schedule
from vp3d_cli.train.reprojection import project_points
from vp3d_cli.train.sequences.view import ViewStore
from vp3d_cli.train.sequences.windows import EpochOrder, LabelledWindows, UnlabelledWindows

RULE = InputRule("screen", False, 50.0, "h36m17", "h36m17")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def config_for(folder: Path, **changes: Any) -> TrainConfig:
    return parse_config(values_for(folder, **changes), "test")


def training_views(folder: Path, **dataset: Any) -> ViewStore:
    values = {**values_for(folder)["dataset"], **dataset}
    return ViewStore(read_dataset(config_for(folder, dataset=values)).labelled, RULE)


def screen(keypoints: Any, width: int, height: int) -> Any:
    return np.stack([keypoints[..., 0] / width * 2 - 1, keypoints[..., 1] / width * 2 - height / width], axis=-1)


def plain_windows(folder: Path, reach: int) -> Iterator[tuple[Any, Any, Any]]:
    """(features (T, 17, 2), joints (17, 3), root (3,)) of every frame in the order of the archives, in float64."""
    archive = read_positions_2d(folder / "data_2d_h36m_gt.npz")
    for subject in ("S1", "S5"):
        for sequence, frames in FRAMES.items():
            world = joints_of(subject, sequence, frames).astype(np.float64)
            for camera, seen in zip(cameras_of("human36m", subject), archive.subjects[subject][sequence], strict=True):
                points = screen(seen[:frames].astype(np.float64), camera.width, camera.height)
                placed = world @ camera.rotation.T + camera.translation
                for frame in range(frames):
                    window = [points[min(max(frame + k, 0), frames - 1)] for k in range(-reach, reach + 1)]
                    yield np.stack(window), placed[frame] - placed[frame, 0], placed[frame, 0]


def test_windows_are_those_of_a_plain_loop(folder: Path) -> None:
    views = training_views(folder)
    every = list(plain_windows(folder, 4))
    assert len(views) == len(every) == 2 * 4 * (40 + 31)
    batch = views.labelled(torch.arange(len(views)), 4, 4, 1, 1)
    for ours, theirs in zip(
        (batch.features, batch.joints[:, 0], batch.root[:, 0]), zip(*every, strict=True), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), np.stack(theirs), atol=3e-6)


def test_labels_project_onto_the_keypoints(folder: Path) -> None:
    # Which also holds the camera of each window to be its own, and keypoints and joints to be of one frame.
    views = training_views(folder)
    frames = torch.arange(0, len(views), 7)
    labels, seen = (take(frames, 1, 1, 1, 1) for take in (views.labelled, views.unlabelled))
    pixels = project_points(labels.joints + labels.root[:, :, None], seen.cameras)
    assert (pixels - seen.keypoints).abs().max() < 0.02


def test_dense_windows_answer_for_every_frame_once(folder: Path) -> None:
    views = training_views(folder)
    for outputs, stride in ((5, 1), (3, 9), (64, 1)):
        starts = views.starts(outputs, stride)
        assert starts is not None
        predicted = views._output_frames(starts, views._view_of(starts), outputs, stride)
        assert set(predicted.flatten().tolist()) == set(range(len(views)))
        batch = views.labelled(starts, 4, 4 + (outputs - 1) * stride, outputs, stride)
        assert batch.features.shape[1] == 9 + (outputs - 1) * stride
        single = views.labelled(predicted[:, -1].contiguous(), 4, 4, 1, 1)
        torch.testing.assert_close(batch.joints[:, -1:], single.joints)


def test_mirrored_windows(folder: Path) -> None:
    loop = LoopConfig(batch=4000, flips=True)
    views = training_views(folder)
    source = LabelledWindows(views, RULE, TemporalConfig(widths=(3,)), loop, 2 * len(views))
    frames, mirrored = source.chosen(0)
    assert source.epoch == 2 * len(views)
    assert mirrored.sum() == len(views)
    batch, plain = source.batch(0), views.labelled(frames, 1, 1, 1, 1)
    order = list(H36M17.flip_order)
    torch.testing.assert_close(batch.joints[~mirrored], plain.joints[~mirrored])
    torch.testing.assert_close(batch.joints[mirrored][..., order, 1:], plain.joints[mirrored][..., 1:])
    torch.testing.assert_close(batch.joints[mirrored][..., order, 0], -plain.joints[mirrored][..., 0])
    torch.testing.assert_close(batch.features[mirrored][..., order, 0], -plain.features[mirrored][..., 0])
    torch.testing.assert_close(batch.root[mirrored][..., 0], -plain.root[mirrored][..., 0])
    # The mirrored camera sees the mirrored joints where the mirrored keypoints are.
    seen = UnlabelledWindows(views, RULE, TemporalConfig(widths=(3,)), loop, 2 * len(views))
    seen._order = source._order
    unlabelled = seen.batch(0)
    pixels = project_points(batch.joints + batch.root[:, :, None], unlabelled.cameras)
    assert (pixels - unlabelled.keypoints).abs().max() < 0.02


@pytest.mark.parametrize("normalization", ["screen", "box", "ray"])
def test_every_input_rule_mirrors_what_was_seen(folder: Path, normalization: Any) -> None:
    rule = InputRule(normalization, False, 50.0, "h36m17", "h36m17")
    views = ViewStore(read_dataset(config_for(folder)).labelled, rule)
    source = UnlabelledWindows(views, rule, TemporalConfig(widths=(3,)), LoopConfig(), 512)
    batch = source.batch(0)
    labels = LabelledWindows(views, rule, TemporalConfig(widths=(3,)), LoopConfig(), 512)
    labels._order = source._order
    labelled = labels.batch(0)
    points = labelled.joints + labelled.root[:, :, None]
    if batch.rotations is not None:
        points = points @ batch.rotations
    # In the mirror, the principal point of the label's axes is where the camera's is: within a few pixels.
    assert (project_points(points, batch.cameras) - batch.keypoints).abs().max() < 0.05


def test_an_epoch_has_everything_once() -> None:
    stream = EpochOrder(10, 3)
    whole = stream.take(0, 30)
    for epoch in range(3):
        assert sorted(whole[10 * epoch : 10 * epoch + 10].tolist()) == list(range(10))
    assert whole[:10].tolist() != whole[10:20].tolist()
    assert torch.equal(EpochOrder(10, 3).take(7, 16), whole[7:23])
    assert EpochOrder(10, 4).take(0, 10).tolist() != whole[:10].tolist()


def test_subset_and_the_rest_of_it(folder: Path) -> None:
    config = config_for(folder, dataset={**values_for(folder)["dataset"], "subset": 0.25}, semi={"subjects": ["S1"]})
    opened = read_dataset(config)
    count = {name: sum(len(view.keypoints) for view in getattr(opened, name)) for name in ("labelled", "unlabelled")}
    assert count == {"labelled": 2 * 4 * (10 + 8), "unlabelled": 4 * (30 + 23)}
    assert all(view.joints is None for view in opened.unlabelled)
    labelled = {view.keypoints.tobytes() for view in opened.labelled}
    again = {view.keypoints.tobytes() for view in read_dataset(config).labelled}
    assert labelled == again


def test_downsampling_sets_the_frame_rate(folder: Path) -> None:
    config = config_for(folder, dataset={**values_for(folder)["dataset"], "downsample": 5})
    opened = read_dataset(config)
    assert opened.rule.rate_hz == 10.0
    assert {len(view.keypoints) for view in opened.labelled} == {8, 7}


def test_a_run_in_the_manner_of_the_paper(folder: Path, tmp_path: Path) -> None:
    config = config_for(folder, train={**values_for(folder)["train"], "epochs": 12, "learning_rate": 5e-3})
    notes: list[str] = []
    result = train(config, tmp_path / "run", on_note=notes.append)
    with result.log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert result.score == pytest.approx(min(float(row["test_mpjpe"]) for row in rows), rel=1e-4)
    assert "other lengths" in notes[0]
    info = read_lifter_info(result.best)
    assert (info.rule.skeleton_2d, info.rule.skeleton_3d, info.rule.rate_hz) == ("h36m17", "h36m17", 50.0)
    assert not info.rule.reversible
    assert info.config["in_features"] == 2
    assert "Human3.6M" in info.licence


@pytest.mark.parametrize("options", [{"outputs": 4}, {"outputs": 3, "stride": 3}])
def test_dense_and_causal(folder: Path, tmp_path: Path, options: dict[str, int]) -> None:
    model = {"options": {"widths": [3, 3], "channels": 16, "causal": True}}
    config = config_for(folder, model=model, train={**values_for(folder)["train"], **options, "epochs": 1})
    result = train(config, tmp_path / "run")
    network: Any = load_lifter_file(result.last)[0]
    # The future cannot be seen: nothing before frame 12 changes with frames 12 and on.
    x = torch.randn(1, 30, 17, 2)
    changed = x.clone()
    changed[:, 12:] += 1
    with torch.inference_mode():
        before, after = network(x), network(changed)
    past = 12 - network.config.frames_before
    assert torch.equal(before[:, :past], after[:, :past])
    assert not torch.equal(before[:, past], after[:, past])


@pytest.mark.parametrize("stop_at", [1, 4])
def test_resume_gives_the_numbers_of_an_uninterrupted_run(folder: Path, tmp_path: Path, stop_at: int) -> None:
    config = config_for(folder)
    whole = train(config, tmp_path / "whole")

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            signal.raise_signal(signal.SIGINT)

    assert not train(config, tmp_path / "parts", on_step=interrupt).finished
    resumed = train(config, tmp_path / "parts", resume=True)
    assert resumed.finished
    ours, theirs = (load_lifter_file(result.last)[0].state_dict() for result in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.score == whole.score


def plain_loss(parameters: dict[str, Tensor], windows: Tensor, joints: Tensor, widths: tuple[int, ...]) -> Tensor:
    """MPJPE of the network of the paper's figure 2 on windows (N, T, J * 2), one operation after the other."""

    def normalized(x: list[Tensor], name: str) -> list[Tensor]:
        everything = torch.cat(x)
        mean, variance = everything.mean(dim=0), everything.var(dim=0, unbiased=False)
        scale, shift = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        return [torch.relu((value - mean) / (variance + 1e-5).sqrt() * scale + shift) for value in x]

    def convolved(x: list[Tensor], name: str) -> Tensor:
        weight = parameters[f"{name}.weight"]
        return torch.stack([value @ weight[:, :, k].T for k, value in enumerate(x)]).sum(dim=0)

    x = [windows[:, t] for t in range(windows.shape[1])]
    for level, width in enumerate(widths):
        groups = [x[i : i + width] for i in range(0, len(x), width)]
        if level == 0:
            x = normalized([convolved(group, "expand_conv") for group in groups], "expand_bn")
            continue
        i = 2 * (level - 1)
        y = normalized([convolved(group, f"layers_conv.{i}") for group in groups], f"layers_bn.{i}")
        y = normalized([convolved([value], f"layers_conv.{i + 1}") for value in y], f"layers_bn.{i + 1}")
        x = [group[width // 2] + value for group, value in zip(groups, y, strict=True)]
    (last,) = x
    answer = last @ parameters["shrink.weight"][:, :, 0].T + parameters["shrink.bias"]
    return (answer.view(joints.shape) - joints).square().sum(dim=-1).sqrt().mean()


def test_the_loss_is_that_of_the_papers_equations_step_by_step(folder: Path, tmp_path: Path) -> None:
    """Strided convolutions, batch norm, AMSGrad, decay per epoch, mirrored windows: written out again in float64."""
    widths, batch, seed, rate = (3, 3), 128, 5, 2e-3
    section = {**values_for(folder)["train"], "batch": batch, "seed": seed, "precision": "float64"}
    section = {**section, "epochs": 2, "learning_rate": rate, "epoch_decay": 0.9}
    config = config_for(
        folder, model={"options": {"widths": list(widths), "channels": 16, "dropout": 0.0}}, train=section
    )
    losses: list[float] = []
    train(config, tmp_path / "run", on_step=lambda step, steps, loss: losses.append(loss))

    features, joints, _ = (torch.from_numpy(np.stack(part)) for part in zip(*plain_windows(folder, 4), strict=True))
    order = list(H36M17.flip_order)
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    features = torch.cat([features, features[:, :, order] * mirror[:2]]).flatten(2)
    joints = torch.cat([joints, joints[:, order] * mirror])

    torch.manual_seed(seed)
    state = build_networks(config, RULE).state_dict()
    parameters = {
        name: value.double().requires_grad_()
        for name, value in state.items()
        if value.is_floating_point() and "running" not in name
    }
    first, second, highest = ({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(3))
    stream = torch.cat(
        [torch.randperm(len(joints), generator=torch.Generator().manual_seed(seed * 1_000_003 + e)) for e in range(3)]
    )
    assert len(losses) == -(-2 * len(joints) // batch)
    for step, ours in enumerate(losses):
        chosen = stream[step * batch : (step + 1) * batch]
        loss = plain_loss(parameters, features[chosen], joints[chosen], widths)
        assert ours == pytest.approx(loss.item(), abs=1e-6)
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        epoch, t = step * batch // len(joints), step + 1
        with torch.no_grad():
            for (name, p), g in zip(parameters.items(), gradients, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g * g
                highest[name] = torch.maximum(highest[name], second[name])
                root = (highest[name] / (1 - 0.999**t)).sqrt() + 1e-8
                p -= rate * 0.9**epoch * first[name] / (1 - 0.9**t) / root


def test_the_papers_schedule(folder: Path) -> None:
    config = config_for(folder, train={**values_for(folder)["train"], "epochs": 80, "batch": 1024})
    schedule = Schedule.of(config, 4096)
    assert (schedule.steps, schedule.epoch(3), schedule.epoch(4)) == (320, 0, 1)
    assert schedule.learning_rate(0) == 1e-3
    assert schedule.learning_rate(319) == pytest.approx(1e-3 * 0.95**79)
    assert [step for step in range(1, 13) if schedule.validates(step)] == [4, 8, 12]
    model = build_networks(config, RULE)
    optimizer = torch.optim.Adam(model.parameters())
    for step, momentum in ((0, 0.1), (160, 0.01), (320, 0.001)):
        schedule.prepare(optimizer, model, step)
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
        assert [norm.momentum for norm in norms] == pytest.approx([momentum] * 3)


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ({"train": ["S1", "S7"]}, "no joints of S7"),
        ({"train": ["S9"]}, "S9 would be trained and tested on"),
        ({"keypoints": "cpn"}, "keypoints=NAME takes gt"),
        ({"actions": ["Eating"]}, "0 sequences to train on"),
        ({"name": "humaneva"}, "no data_3d_humaneva15.npz"),
        ({"folder": "/nowhere"}, "no archives at all; make it with: vp3d data prepare human36m"),
    ],
)
def test_what_is_missing(folder: Path, tmp_path: Path, dataset: dict[str, Any], says: str) -> None:
    config = config_for(folder, dataset={**values_for(folder)["dataset"], **dataset})
    with pytest.raises((InputError, ConfigError), match=says):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cameras_without_intrinsics(folder: Path, tmp_path: Path) -> None:
    subjects = ("Train/S1", "Validate/S1")
    rng = np.random.default_rng(0)
    joints = {s: {"Walking 1 chunk0": rng.normal(size=(30, 15, 3)).astype(np.float32)} for s in subjects}
    seen = {s: {"Walking 1 chunk0": [rng.uniform(0, 400, (30, 17, 2)).astype(np.float32)] * 3} for s in subjects}
    write_positions_3d(tmp_path / "data_3d_humaneva15.npz", joints)
    write_positions_2d(tmp_path / "data_2d_humaneva15_detectron_pt_coco.npz", seen, "coco17")
    dataset = {
        "folder": str(tmp_path), "name": "humaneva", "keypoints": "detectron_pt_coco",
        "train": ["Train/S1"], "test": ["Validate/S1"], "actions": ["Walking"],
    }  # fmt: skip
    config = config_for(folder, dataset=dataset, train={**values_for(folder)["train"], "epochs": 1})
    info = read_lifter_info(train(config, tmp_path / "run").last)
    assert (info.config["in_joints"], info.config["out_joints"], info.rule.rate_hz) == (17, 15, 60.0)
    trajectory = config_for(folder, dataset=dataset, model={"task": "trajectory", "options": {"widths": [3]}})
    with pytest.raises(InputError, match=r"intrinsics of these cameras are not known.*dataset\.cameras"):
        train(trajectory, tmp_path / "trajectory")
