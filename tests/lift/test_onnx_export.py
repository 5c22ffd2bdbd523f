"""Temporal lifters as ONNX models: the same answers as torch gives, on each runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import RunCli

from tests.lift.test_lifters import CASES, lifter_file
from tests.lift.test_temporal import SMALL, as_if_trained, inputs_for
from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file, save_lifter
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.lifter import Lifter, load_lifter
from vp3d_cli.lift.onnx_export import expected_shapes, temporal_to_onnx
from vp3d_cli.lift.receptive_field import TemporalConfig
from vp3d_cli.runtime.load import RUNTIMES, load_model
from vp3d_cli.weights import find_lifter, list_weights

CAMERA = (800.0, 800.0, 320.0, 240.0)
SIZE = (640, 480)
SHIPPED = [entry.name for entry in list_weights() if entry.kind in ("pose", "trajectory") and entry.present]


def info_of(config: TemporalConfig) -> LifterInfo:
    return LifterInfo("pose", "temporal", config.as_dict(), InputRule(confidence=config.in_features == 3), "free")


def exported(config: TemporalConfig) -> bytes:
    state = {name: tensor.numpy() for name, tensor in as_if_trained(config).state_dict().items()}
    return temporal_to_onnx(state, config, info_of(config).as_metadata())


def walk(frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(200, 300, size=(1, 17, 2)) + np.cumsum(rng.normal(size=(frames, 17, 2)), axis=0)
    return keypoints.astype(np.float32), rng.uniform(0.2, 1.0, size=(frames, 17)).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("config", SMALL)
def test_same_as_torch(config: TemporalConfig, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_RUNTIME", runtime)
    model = load_model(exported(config), "small", "cpu", precision="f32")
    for frames, batch in ((config.receptive_field, 1), (config.receptive_field + 9, 3)):
        inputs = inputs_for(config, frames, batch)
        with torch.inference_mode():
            wanted = as_if_trained(config)(inputs).numpy()
        (answer,) = model.run(inputs.numpy())
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", SMALL)
def test_model_is_valid_and_says_what_it_is(config: TemporalConfig) -> None:
    model = onnx.load_from_string(exported(config))
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["input_rule"]) == info_of(config).rule.as_dict()
    assert TemporalConfig(**json.loads(told["config"])) == config
    assert (told["task"], told["architecture"], told["licence"]) == ("pose", "temporal", "free")
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["people", "frames", 17, config.in_features]


@pytest.mark.parametrize("config", SMALL)
def test_expected_shapes_are_those_of_the_network(config: TemporalConfig) -> None:
    state = as_if_trained(config).state_dict()
    assert expected_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_lifters_that_ship_predict_what_torch_predicts(name: str) -> None:
    """To a tenth of a millimetre, through the whole lifter with test-time augmentation."""
    task = next(entry.kind for entry in list_weights() if entry.name == name)
    lifter = load_lifter(name, "cpu", task)  # type: ignore[arg-type]
    network = load_lifter_file(find_lifter(name)[0])[0]
    keypoints, scores = walk(90)
    ours = lifter.lift(keypoints, scores, CAMERA, SIZE)

    def on_torch(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer: np.ndarray = network(torch.from_numpy(features)).numpy()
        return answer

    lifter._network = on_torch
    theirs = lifter.lift(keypoints, scores, CAMERA, SIZE)
    assert np.isfinite(ours).all()
    # A trajectory's depth is divided by the person's size: its error is given as a share of the distance.
    distance = np.linalg.norm(theirs, axis=-1, keepdims=True) if task == "trajectory" else 1.0
    assert np.abs((ours - theirs) / distance).max() < 1e-4


@pytest.mark.parametrize("name", ["default", "open"])
def test_poses_are_the_same_on_each_runtime(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    poses = []
    for runtime in RUNTIMES:
        monkeypatch.setenv("VP3D_RUNTIME", runtime)
        poses.append(load_lifter(name, "cpu").lift(*walk(60), CAMERA, SIZE))
    assert np.abs(poses[0] - poses[1]).max() < 1e-4


def test_lifters_stay_in_float32_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_lifter("open", "cpu").lift(*walk(30), CAMERA, SIZE)
    monkeypatch.setenv("VP3D_PRECISION", "bf16")
    np.testing.assert_allclose(load_lifter("open", "cpu").lift(*walk(30), CAMERA, SIZE), before, atol=1e-5)


def test_parameters_that_do_not_fit(tmp_path: Path) -> None:
    config = SMALL[2]
    path = tmp_path / "wrong.safetensors"
    save_lifter(path, as_if_trained(config), info_of(TemporalConfig(**{**config.as_dict(), "channels": 9})))
    with pytest.raises(WeightsError, match=r"wrong\.safetensors does not fit the architecture: .* and \d+ more"):
        Lifter(path, "cpu")
    strange = LifterInfo("pose", "temporal", {"colour": 3}, InputRule())
    save_lifter(path, as_if_trained(config), strange)
    with pytest.raises(ConfigError, match=r"architecture temporal: .*colour"):
        Lifter(path, "cpu")


def test_export_command(run_cli: RunCli, tmp_path: Path) -> None:
    out = tmp_path / "open.onnx"
    outcome = run_cli("weights", "export", "open", "--format", "onnx", "--out", out)
    assert (outcome.code, outcome.stdout.strip()) == (0, str(out))
    network: Any = load_lifter_file(find_lifter("open")[0])[0]
    frames = network.config.receptive_field + 9
    keypoints = np.random.default_rng(0).normal(size=(1, frames, 17, 3)).astype(np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(keypoints)).numpy()
    (answer,) = load_model(out.read_bytes(), "open", "cpu", precision="f32").run(keypoints)
    assert np.abs(answer - wanted).max() < 1e-4
    again = run_cli("weights", "export", "open", "--format", "onnx", "--out", out)
    assert again.code == 1
    assert "--overwrite" in again.stderr
    assert run_cli("weights", "export", "open", "--format", "tflite", "--out", out).code == 2


def test_only_temporal_lifters_are_exported(run_cli: RunCli, tmp_path: Path) -> None:
    dense = lifter_file(tmp_path, *next(case for case in CASES if case[0] == "dense"))
    outcome = run_cli("weights", "export", dense, "--format", "onnx", "--out", tmp_path / "dense.onnx")
    assert outcome.code == 1
    assert "is a dense network; only temporal ones can be written as ONNX" in outcome.stderr
    assert not (tmp_path / "dense.onnx").exists()
