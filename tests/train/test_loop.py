"""The training loop: it learns, resumes exactly, and refuses what it cannot use."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.motions import write_archive
from vp3d_cli.errors import ConfigError, InputError, TrainingError
from vp3d_cli.lift.checkpoint import read_lifter_info
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.train import objective as objective_module
from vp3d_cli.train.config import TrainConfig, parse_config, read_config
from vp3d_cli.train.loop import train
from vp3d_cli.train.mocap.motion import MOTION_JOINTS
from vp3d_cli.train.networks import build_networks
from vp3d_cli.train.recipes import find_recipe, list_recipes
from vp3d_cli.train.run_files import plot_learning_curve


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("motion") / "motion.npz")


def small(archive: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "model": {"options": {"widths": [3, 3], "channels": 24, "dropout": 0.1}},
        "data": {"motion": [str(archive)], "hold_out": ["walk_3"]},
        "train": {
            "steps": 8, "batch": 64, "pool": 256, "validate_every": 4, "validation_windows": 64, "warmup_steps": 2,
            "precision": "float32",
        },
    }  # fmt: skip
    for section, names in changes.items():
        values[section] = {**values.get(section, {}), **names}
    return parse_config(values, "test")


def read_log(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_learns_and_describes_itself(archive: Path, tmp_path: Path) -> None:
    result = train(small(archive, train={"steps": 60, "validate_every": 20}), tmp_path / "run")
    rows = read_log(result.log)
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert 0 < float(rows[-1]["data_share"]) < 1
    assert result.score == pytest.approx(min(float(row["score"]) for row in rows), rel=1e-4)
    info = read_lifter_info(result.best)
    assert (info.task, info.architecture, info.licence) == ("pose", "temporal", "made up for tests")
    assert info.rule.reversible
    assert info.training["train"]["steps"] == 60
    plot_learning_curve(result.log, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_resume_gives_the_numbers_of_an_uninterrupted_run(archive: Path, tmp_path: Path) -> None:
    config = small(archive)
    whole = train(config, tmp_path / "whole")

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    stopped = train(config, tmp_path / "parts", on_step=interrupt)
    assert not stopped.finished
    resumed = train(config, tmp_path / "parts", resume=True)
    assert resumed.finished
    ours, theirs = Lifter(resumed.last, "cpu"), Lifter(whole.last, "cpu")
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 500, (12, 17, 2)).astype(np.float32)
    scores = np.full((12, 17), 0.8, np.float32)
    camera = (500.0, 500.0, 250.0, 250.0)
    np.testing.assert_array_equal(
        ours.lift(keypoints, scores, camera, (500, 500)), theirs.lift(keypoints, scores, camera, (500, 500))
    )
    assert resumed.score == whole.score


def test_trajectory_model_learns(archive: Path, tmp_path: Path) -> None:
    config = small(archive, model={"task": "trajectory"}, train={"steps": 60, "validate_every": 20})
    rows = read_log(train(config, tmp_path / "run").log)
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert float(rows[-1]["detected_root"]) < 100


def test_dense_windows_with_velocity_loss(archive: Path, tmp_path: Path) -> None:
    result = train(small(archive, train={"outputs": 3, "velocity_weight": 1.0}), tmp_path / "run")
    assert np.isfinite(result.score)


def test_outputs_that_are_apart(archive: Path, tmp_path: Path) -> None:
    config = small(archive, train={"outputs": 4, "stride": 3, "steps": 60, "validate_every": 20})
    rows = read_log(train(config, tmp_path / "run").log)
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])


def test_a_longer_model_starts_with_what_a_shorter_one_knows(archive: Path, tmp_path: Path) -> None:
    short = train(small(archive, train={"steps": 60, "validate_every": 60}), tmp_path / "short")
    longer = {"options": {"widths": [3, 3, 3, 3], "channels": 24, "dropout": 0.1}}
    barely = {"steps": 1, "learning_rate": 1e-6}
    grown = train(small(archive, model=longer, train=barely), tmp_path / "grown", start_from=short.last)
    fresh = train(small(archive, model=longer, train=barely), tmp_path / "fresh")
    assert grown.score == pytest.approx(short.score, rel=0.1)  # batch norm statistics are those of one batch
    assert grown.score < 0.9 * fresh.score
    with pytest.raises(TrainingError, match=r"level 3 of its widths \[3, 3, 3, 3\] has no counterpart in \[3, 3\]"):
        train(small(archive), tmp_path / "shrunk", start_from=grown.last)
    narrow = {"options": {"widths": [3, 3], "channels": 16}}
    with pytest.raises(TrainingError, match=r"there and .* here; use the same architecture"):
        train(small(archive, model=narrow), tmp_path / "narrow", start_from=short.last)


def test_bfloat16_stays_close(archive: Path, tmp_path: Path) -> None:
    full = train(small(archive), tmp_path / "full")
    half = train(small(archive, train={"precision": "bfloat16"}), tmp_path / "half")
    assert half.score == pytest.approx(full.score, rel=0.2)


@pytest.mark.parametrize(
    ("section", "names", "says"),
    [
        ("train", {"velocity_weight": 1.0}, "velocity_weight needs outputs"),
        ("train", {"batch": 9999, "pool": 256}, "pool"),
        ("train", {"stepps": 5}, "unknown stepps"),
        ("train", {"optimizer": "sgd"}, "optimizer must be one of muon, adamw, adam-amsgrad"),
        ("train", {"minutes": -1.0}, "minutes must be at least 0"),
        ("train", {"epochs": 3}, "train.epochs needs a data set"),
        ("train", {"epoch_decay": 1.5}, "epoch_decay must be in"),
        ("dataset", {"folder": "data"}, "both .* are given; give --motion PATH, or --data"),
        ("data", {"motion": []}, "there is no data; give --motion PATH, or --data"),
        ("train", {"steps": "many"}, "steps must be int"),
        ("model", {"task": "dance"}, "task must be"),
        ("model", {"architecture": "transformer"}, "architecture must be one of"),
        ("input", {"normalization": "none"}, "normalization must be one of"),
        ("data", {"engine": {"noise": {"scal": 1}}}, "unknown scal"),
    ],
)
def test_contradictions_are_refused(archive: Path, section: str, names: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        small(archive, **{section: names})


def test_runs_that_cannot_start(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(small(archive), tmp_path / "none", resume=True)
    with pytest.raises(ConfigError, match="hold_out and labelled leave"):
        train(small(archive, data={"motion": [str(archive)], "hold_out": ["nothing"]}), tmp_path / "none")
    with pytest.raises(ConfigError, match="in_features follow"):
        train(small(archive, model={"options": {"widths": [3], "in_features": 2}}), tmp_path / "none")
    with pytest.raises(InputError, match="no motion"):
        train(small(archive, data={"motion": [str(tmp_path / "gone.npz")], "hold_out": ["a"]}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_run_in_the_folder(archive: Path, tmp_path: Path) -> None:
    train(small(archive), tmp_path / "run")
    with pytest.raises(TrainingError, match="holds another run"):
        train(small(archive), tmp_path / "run")
    with pytest.raises(TrainingError, match="another configuration"):
        train(small(archive, train={"batch": 32}), tmp_path / "run", resume=True)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    # What a version before data sets and semi-supervised training wrote can be gone on with.
    older = {name: dict(values) for name, values in state["config"].items() if name not in ("dataset", "semi")}
    for name in ("epochs", "epoch_decay", "optimizer", "flips"):
        del older["train"][name]
    torch.save({**state, "config": older}, tmp_path / "run" / "state.pt")
    assert train(small(archive, train={"steps": 9}), tmp_path / "run", resume=True).finished
    torch.save({**state, "version": 99}, tmp_path / "run" / "state.pt")
    with pytest.raises(TrainingError, match="version 99"):
        train(small(archive), tmp_path / "run", resume=True)


def test_out_of_memory_says_what_to_try(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(objective_module, "predict", fail)
    with pytest.raises(TrainingError, match=r"--set train\.batch=32"):
        train(small(archive), tmp_path / "run")


def test_skeleton_that_lacks_joints(archive: Path, tmp_path: Path) -> None:
    with np.load(archive) as source:
        arrays = dict(source)
    meta = json.loads(str(arrays["meta"]))
    meta["joints"] = [name.replace("lwrist", "lhand") for name in meta["joints"]]
    np.savez(tmp_path / "odd.npz", **{**arrays, "meta": json.dumps(meta)})
    with pytest.raises(InputError, match="lacks left_wrist"):
        train(small(tmp_path / "odd.npz"), tmp_path / "run")
    assert len(MOTION_JOINTS) == 22


def test_recipes_are_valid(archive: Path) -> None:
    assert {"pose-27", "paper-h36m", "paper-humaneva", "paper-semi"} <= set(list_recipes())
    for name, path in list_recipes().items():
        paper = name.startswith("paper-")
        data = {"dataset": {"folder": "data"}} if paper else {"data": {"motion": [str(archive)]}}
        config = read_config(path, data)
        assert dataclasses.asdict(config) == config.as_dict()
        assert parse_config(config.as_dict(), name) == config
        build_networks(config, config.input)
        if paper:
            assert (config.train.optimizer, config.input.features, config.train.ema) == ("adam-amsgrad", 2, 0.0)
            with pytest.raises(ConfigError, match="epochs"):
                read_config(path, {"data": {"motion": [str(archive)]}})
    with pytest.raises(ConfigError, match="no recipe"):
        find_recipe("pose-28")


class Clock:
    """Time that goes on by ``tick`` seconds whenever it is read."""

    def __init__(self, tick: float) -> None:
        self.now, self._tick = 1000.0, tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


def test_a_run_of_minutes_ends_by_the_clock(archive: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = small(archive, train={"minutes": 1.0, "steps": 5, "validate_every": 4})
    run = tmp_path / "run"
    result = train(config, run, clock=Clock(2.0), on_step=lambda step, steps, _: seen.append((step, steps)))
    rows = read_log(result.log)
    assert result.finished
    last = seen[-1][0]
    assert 5 < last < 15  # a step reads the clock three times
    assert seen[-1] == (last, last)
    assert int(rows[-1]["step"]) == last
    assert [int(row["step"]) for row in rows[:-1]] == [4 * (i + 1) for i in range(len(rows) - 1)]
    assert 60 <= float(rows[-1]["seconds"]) < 70
    assert result.best.is_file()
    assert result.last.is_file()
    again = train(config, run, resume=True, clock=Clock(2.0))
    assert again.finished
    assert len(read_log(again.log)) == len(rows)  # nothing is left to do


def test_a_resumed_run_of_minutes_uses_the_time_that_is_left(archive: Path, tmp_path: Path) -> None:
    config, run = small(archive, train={"minutes": 1.0, "validate_every": 100}), tmp_path / "run"

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    whole: list[int] = []
    train(config, tmp_path / "whole", clock=Clock(2.0), on_step=lambda step, *_: whole.append(step))
    assert not train(config, run, clock=Clock(2.0), on_step=interrupt).finished
    used = torch.load(run / "state.pt", weights_only=True)["seconds"]
    assert 0 < used < 60
    steps: list[int] = []
    result = train(config, run, resume=True, clock=Clock(2.0), on_step=lambda step, *_: steps.append(step))
    assert result.finished
    assert steps == whole[5:]
    assert 60 <= float(read_log(result.log)[-1]["seconds"]) < 70
    longer = small(archive, train={"minutes": 1.5, "validate_every": 100})
    assert train(longer, run, resume=True, clock=Clock(2.0)).finished
    assert float(read_log(result.log)[-1]["seconds"]) >= 90
