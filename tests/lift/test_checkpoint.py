"""Lifter files: written whole, read back the same, and refused when they are something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vp3d_cli.errors import ConfigError, OutputError, Vp3dError, WeightsError
from vp3d_cli.lift.architectures import build_model
from vp3d_cli.lift.checkpoint import FORMAT, LifterInfo, load_lifter_file, read_lifter_info, save_lifter
from vp3d_cli.lift.input_rule import InputRule

CONFIG = {"widths": (3, 3), "channels": 8, "in_features": 3}
INFO = LifterInfo(
    "pose",
    "temporal",
    CONFIG,
    InputRule("box", rate_hz=25.0),
    licence="CC BY 4.0; für alle",
    training={"steps": 3, "data": {"motion": ["a.npz"]}, "score": 41.5},
)


def model_as_if_trained() -> nn.Module:
    torch.manual_seed(0)
    model = build_model("temporal", CONFIG)
    model(torch.randn(4, 12, 17, 3))  # moves the batch norms' running statistics
    return model.eval()


def metadata(**changes: str) -> dict[str, str]:
    values = {
        "format": FORMAT,
        "task": "pose",
        "architecture": "temporal",
        "config": json.dumps(CONFIG),
        "input_rule": json.dumps(InputRule().as_dict()),
        "licence": "",
        "training": "{}",
    }
    return {key: value for key, value in {**values, **changes}.items() if value != "-"}


def test_round_trip(tmp_path: Path) -> None:
    path, model = tmp_path / "pose.safetensors", model_as_if_trained()
    save_lifter(path, model, INFO)
    again, info = load_lifter_file(path)
    assert info == LifterInfo("pose", "temporal", {**CONFIG, "widths": [3, 3]}, INFO.rule, INFO.licence, INFO.training)
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    inputs = torch.randn(1, 20, 17, 3)
    with torch.inference_mode():
        assert torch.equal(again(inputs), model(inputs))
    assert [file.name for file in path.parent.iterdir()] == ["pose.safetensors"]


def test_half_precision_halves_the_file_and_changes_little(tmp_path: Path) -> None:
    model = build_model("temporal", {**CONFIG, "channels": 64}).eval()
    info = LifterInfo("pose", "temporal", {**CONFIG, "channels": 64}, INFO.rule)
    save_lifter(tmp_path / "full.safetensors", model, info)
    save_lifter(tmp_path / "half.safetensors", model, info, storage="float16")
    full, half = (tmp_path / f"{name}.safetensors" for name in ("full", "half"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert load_file(half)["shrink.weight"].dtype == torch.float16
    assert load_file(half)["expand_bn.num_batches_tracked"].dtype == torch.int64
    again = load_lifter_file(half)[0]
    assert all(t.dtype != torch.float16 for t in again.state_dict().values())
    inputs = torch.randn(1, 20, 17, 3)
    with torch.inference_mode():
        torch.testing.assert_close(again(inputs), model(inputs), rtol=0, atol=5e-3)


def test_int8_quarters_the_file_and_each_row_keeps_its_scale(tmp_path: Path) -> None:
    config = {**CONFIG, "channels": 128}
    model = build_model("temporal", config).eval()
    conv = model.get_parameter("layers_conv.0.weight")
    with torch.no_grad():
        conv *= torch.logspace(-4, 2, len(conv))[:, None, None]  # rows of all sizes
        conv[3] = 0.0
    info = LifterInfo("pose", "temporal", config, INFO.rule)
    full, small = (tmp_path / f"{name}.safetensors" for name in ("full", "small"))
    save_lifter(full, model, info)
    save_lifter(small, model, info, storage="int8")
    assert small.stat().st_size < 0.32 * full.stat().st_size
    assert load_file(small)["layers_conv.0.weight"].dtype == torch.int8
    again = load_lifter_file(small)[0].get_parameter("layers_conv.0.weight")
    assert again.dtype == torch.float32
    off = (again - conv).abs().flatten(1).amax(1)
    assert (off <= conv.abs().flatten(1).amax(1) / 127 * 0.501).all()
    assert not again[3].any()


def test_saving_moves_nothing(tmp_path: Path) -> None:
    model = model_as_if_trained()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_lifter(tmp_path / "half.safetensors", model, INFO, storage="float16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_saving_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pose.safetensors"
    path.write_text("something older")
    save_lifter(path, model_as_if_trained(), INFO)
    assert read_lifter_info(path).task == "pose"


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="does not exist"):
        save_lifter(tmp_path / "file" / "pose.safetensors", model_as_if_trained(), INFO)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        save_lifter(tmp_path / "folder.safetensors", model_as_if_trained(), INFO)
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("content", [b"", b"text", b"\x08" + bytes(40), b"\xff" * 64])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pose.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a lifter file"):
        read_lifter_info(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="is not a lifter file"):
            load_lifter_file(path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "pose.safetensors"
    save_lifter(path, model_as_if_trained(), INFO)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is not a lifter file"):
        load_lifter_file(path)


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"format is None, this version of vp3d reads 'vp3d-lifter/1'"):
        load_lifter_file(path)


def test_a_file_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "newer.safetensors"
    save_file({}, path, metadata(format="vp3d-lifter/2"))
    with pytest.raises(WeightsError, match=r"format is 'vp3d-lifter/2'"):
        load_lifter_file(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "dance"},
        {"task": "-"},
        {"architecture": "-"},
        {"config": "{"},
        {"config": "[1]"},
        {"input_rule": "-"},
        {"input_rule": '{"normalization": "ray", "colour": 1}'},
        {"training": "-"},
    ],
)
def test_metadata_that_is_broken(tmp_path: Path, changes: dict[str, str]) -> None:
    path = tmp_path / "broken.safetensors"
    save_file({}, path, metadata(**changes))
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        load_lifter_file(path)


def test_an_architecture_that_this_version_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    save_file({}, path, metadata(architecture="oracle"))
    with pytest.raises(ConfigError, match="unknown architecture 'oracle'"):
        load_lifter_file(path)


def changed(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shrink.bias": None}, "shrink.bias missing"),
        ({"extra": torch.zeros(1)}, "extra unexpected"),
        ({"shrink.bias": torch.zeros(48)}, r"shrink.bias is \(48,\), not \(51,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "pose.safetensors"
    state = changed(dict(model_as_if_trained().state_dict()), **changes)
    save_file(state, path, metadata())
    with pytest.raises(WeightsError, match=message) as caught:
        load_lifter_file(path)
    assert "\n" not in str(caught.value)


def test_many_tensors_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pose.safetensors"
    save_file({}, path, metadata())
    with pytest.raises(Vp3dError, match=r"and \d+ more"):
        load_lifter_file(path)
