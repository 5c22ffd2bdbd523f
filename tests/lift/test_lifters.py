"""The contract that every lifter architecture keeps, and the lifter made of a network and its input rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vp3d_cli.errors import ConfigError, MissingDependencyError, ShapeError, WeightsError
from vp3d_cli.lift import lifter as pose_module
from vp3d_cli.lift.architectures import ARCHITECTURES, build_model
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file, save_lifter
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.lifter import Lifter, load_lifter
from vp3d_cli.paper.networks.recurrent import RecurrentConfig, RecurrentModel
from vp3d_cli.skeletons import COCO17, H36M17

# A small network of each architecture; a new one needs a line here.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "temporal": [{"widths": [3, 3], "channels": 16}, {"widths": [3, 3], "channels": 16, "causal": True}],
    "simple": [{"channels": 16}],
    "recurrent": [
        {"frames": 7, "channels": 8},
        {"frames": 6, "channels": 8, "layers": 1},
        {"frames": 6, "channels": 8, "layers": 1, "causal": True},
    ],
    "dense": [{"widths": [3, 3], "channels": 16}, {"widths": [3, 3], "channels": 16, "causal": True}],
}
CASES = [(name, {**options, "in_features": 3}) for name, several in OPTIONS.items() for options in several]
CAMERA = (800.0, 800.0, 320.0, 240.0)
SIZE = (640, 480)


def network(name: str, options: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(0)
    model = build_model(name, {**options, **more})
    model.train()
    with torch.no_grad():
        # Moves the batch norms' running statistics.
        model(torch.randn(8, model.config.receptive_field + 3, 17, 3))
    return model.eval()


def lifter_file(folder: Path, name: str, options: dict[str, Any], task: Any = "pose", rule: Any = None) -> Path:
    model = network(name, options, out_joints=17 if task == "pose" else 1)
    path = folder / f"{name}.safetensors"
    save_lifter(path, model, LifterInfo(task, name, model.config.as_dict(), rule or InputRule()))
    return path


def walk(frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(100, 400, size=(1, 17, 2)) + np.cumsum(rng.normal(size=(frames, 17, 2)), axis=0)
    return keypoints.astype(np.float32), rng.uniform(0.2, 1.0, size=(frames, 17)).astype(np.float32)


def test_every_architecture_is_tested() -> None:
    assert set(OPTIONS) == set(ARCHITECTURES)


@pytest.mark.parametrize(("name", "options"), CASES)
class TestContract:
    def test_configuration_says_what_the_network_sees(self, name: str, options: dict[str, Any]) -> None:
        config = network(name, options).config
        assert config.frames_before + 1 + config.frames_after == config.receptive_field
        assert min(config.frames_before, config.frames_after) >= 0
        if options.get("causal"):
            assert config.frames_after == 0
        assert build_model(name, config.as_dict()).config == config

    def test_shapes(self, name: str, options: dict[str, Any]) -> None:
        model = network(name, options)
        field = model.config.receptive_field
        assert model(torch.zeros(2, field + 4, 17, 3)).shape == (2, 5, 17, 3)
        assert model.forward_strided(torch.zeros(3, field, 17, 3)).shape == (3, 1, 17, 3)
        root = network(name, options, out_joints=1)
        assert root(torch.zeros(1, field, 17, 3)).shape == (1, 1, 1, 3)

    @torch.inference_mode()
    def test_each_output_is_that_of_its_window(self, name: str, options: dict[str, Any]) -> None:
        model = network(name, options)
        field = model.config.receptive_field
        inputs = torch.randn(2, field + 5, 17, 3)
        whole = model(inputs)
        for start in range(6):
            window = model.forward_strided(inputs[:, start : start + field])
            torch.testing.assert_close(whole[:, start], window[:, 0], rtol=0, atol=1e-5)

    def test_every_frame_of_the_window_is_seen_and_no_other(self, name: str, options: dict[str, Any]) -> None:
        model = network(name, options)
        field = model.config.receptive_field
        inputs = torch.randn(1, field + 4, 17, 3, requires_grad=True)
        torch.autograd.backward(model(inputs)[0, 2].square().sum())
        assert inputs.grad is not None
        touched = torch.nonzero(inputs.grad.abs().sum(dim=(0, 2, 3)))[:, 0].tolist()
        assert touched == list(range(2, 2 + field))

    def test_every_parameter_learns(self, name: str, options: dict[str, Any]) -> None:
        model = network(name, options).train()
        torch.autograd.backward(model.forward_strided(torch.randn(4, model.config.receptive_field, 17, 3)).sum())
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        # A bias before a batch norm has no effect, which is the only excuse.
        assert [name for name in idle if not name.endswith("bias")] == []

    def test_learns_a_simple_task(self, name: str, options: dict[str, Any]) -> None:
        """The mean of the keypoints of the output frame, three times over."""
        model = network(name, options, dropout=0.0).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(80):
            inputs = torch.randn(32, model.config.receptive_field, 17, 3)
            wanted = inputs[:, model.config.frames_before].mean(dim=1)[:, None, None]
            loss = (model.forward_strided(inputs) - wanted).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(float(loss.detach()))
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])

    def test_wrong_inputs_are_refused(self, name: str, options: dict[str, Any]) -> None:
        model = network(name, options)
        field = model.config.receptive_field
        with pytest.raises(ShapeError, match=r"\(B, T, 17, 3\)"):
            model(torch.zeros(1, field, 17, 2))
        with pytest.raises(ShapeError, match="at least"):
            model(torch.zeros(1, field - 1, 17, 3))
        if field > 1:
            with pytest.raises(ShapeError, match=f"must have {field} frames"):
                model.forward_strided(torch.zeros(1, field + 1, 17, 3))

    def test_file_round_trip(self, name: str, options: dict[str, Any], tmp_path: Path) -> None:
        path = lifter_file(tmp_path, name, options)
        model, info = load_lifter_file(path)
        inputs = torch.randn(1, 12, 17, 3)
        with torch.inference_mode():
            assert torch.equal(model(inputs), network(name, options)(inputs))
        assert info.architecture == name

    @pytest.mark.parametrize("frames", [1, 2, 30])
    def test_clips_of_any_length(self, name: str, options: dict[str, Any], tmp_path: Path, frames: int) -> None:
        lifter = Lifter(lifter_file(tmp_path, name, options), "cpu")
        joints = lifter.lift(*walk(frames), CAMERA, SIZE)
        assert joints.shape == (frames, 17, 3)
        assert joints.dtype == np.float32
        assert np.isfinite(joints).all()

    def test_long_clips_in_parts(
        self, name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lifter = Lifter(lifter_file(tmp_path, name, options), "cpu")
        whole = lifter.lift(*walk(50), CAMERA, SIZE)
        monkeypatch.setattr(pose_module, "_CHUNK", 7)
        np.testing.assert_allclose(lifter.lift(*walk(50), CAMERA, SIZE), whole, atol=1e-5)

    def test_mirrored_people_have_mirrored_poses(self, name: str, options: dict[str, Any], tmp_path: Path) -> None:
        lifter = Lifter(lifter_file(tmp_path, name, options), "cpu")
        keypoints, scores = walk(12)
        order = list(COCO17.flip_order)
        mirrored = keypoints[:, order] * np.array([-1, 1], np.float32) + np.array([SIZE[0], 0], np.float32)
        ours = lifter.lift(keypoints, scores, CAMERA, SIZE)[:, list(H36M17.flip_order)] * np.array([-1, 1, 1])
        theirs = lifter.lift(mirrored, scores[:, order], CAMERA, SIZE)
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
        plain = lifter.lift(mirrored, scores[:, order], CAMERA, SIZE, flip_test=False)
        assert np.abs(plain - theirs).max() > 1e-3


@pytest.mark.parametrize("options", [case for name, case in CASES if name == "temporal"])
@pytest.mark.parametrize("reversible", [True, False])
def test_motion_that_runs_backwards(options: dict[str, Any], reversible: bool, tmp_path: Path) -> None:
    """The same poses the other way round, of a lifter that knows such and sees as far back as ahead."""
    lifter = Lifter(lifter_file(tmp_path, "temporal", options, rule=InputRule(reversible=reversible)), "cpu")
    keypoints, scores = walk(30)
    ahead = lifter.lift(keypoints, scores, CAMERA, SIZE)
    back = lifter.lift(keypoints[::-1], scores[::-1], CAMERA, SIZE)[::-1]
    same = np.abs(ahead - back).max() < 1e-5
    assert same == (reversible and not options.get("causal"))
    once = lifter.lift(keypoints, scores, CAMERA, SIZE, flip_test=False)
    assert np.abs(once - ahead).max() > 1e-3


def test_a_frame_is_answered_by_what_is_around_it(tmp_path: Path) -> None:
    """Output t belongs to input t: a change of the input moves the outputs within reach alone."""
    lifter = Lifter(lifter_file(tmp_path, "temporal", CASES[0][1]), "cpu")
    keypoints, scores = walk(40)
    before = lifter.lift(keypoints, scores, CAMERA, SIZE)
    keypoints[20, 9] += 25.0
    moved = np.abs(lifter.lift(keypoints, scores, CAMERA, SIZE) - before).max(axis=(1, 2)) > 1e-7
    assert np.flatnonzero(moved).tolist() == list(range(16, 25))


@pytest.mark.parametrize("edges", ["reflect", "repeat"])
def test_the_ends_see_the_motion_run_back_or_stand_still(edges: Any, tmp_path: Path) -> None:
    lifter = Lifter(lifter_file(tmp_path, "temporal", CASES[0][1], rule=InputRule(edges=edges)), "cpu")
    keypoints, scores = walk(20)
    # What is beyond the ends, written out.
    beyond = np.abs(np.arange(-10, 30)) if edges == "reflect" else np.clip(np.arange(-10, 30), 0, 19)
    beyond = np.minimum(beyond, 38 - beyond) if edges == "reflect" else beyond
    longer = lifter.lift(keypoints[beyond], scores[beyond], CAMERA, SIZE)
    np.testing.assert_allclose(lifter.lift(keypoints, scores, CAMERA, SIZE), longer[10:30], atol=1e-5)
    with pytest.raises(ConfigError, match="edges must be one of reflect, repeat"):
        InputRule(edges="wrap")  # type: ignore[arg-type]


def test_causal_lifter_answers_the_past_the_same_whatever_comes(tmp_path: Path) -> None:
    lifter = Lifter(lifter_file(tmp_path, "temporal", CASES[1][1]), "cpu")
    keypoints, scores = walk(40)
    whole = lifter.lift(keypoints, scores, CAMERA, SIZE)
    for frames in (1, 5, 23):
        part = lifter.lift(keypoints[:frames], scores[:frames], CAMERA, SIZE)
        np.testing.assert_allclose(part, whole[:frames], atol=1e-5)


def test_missing_keypoints(tmp_path: Path) -> None:
    lifter = Lifter(lifter_file(tmp_path, "temporal", CASES[0][1]), "cpu")
    keypoints, scores = walk(20)
    keypoints[4:9, 3:8], scores[4:9, 3:8] = np.nan, 0.0
    keypoints[12], scores[12] = np.nan, 0.0
    assert np.isfinite(lifter.lift(keypoints, scores, CAMERA, SIZE)).all()


@pytest.mark.parametrize("normalization", ["screen", "box", "ray"])
def test_trajectory_lifter(tmp_path: Path, normalization: Any) -> None:
    path = lifter_file(tmp_path, "temporal", CASES[0][1], "trajectory", InputRule(normalization))
    root = Lifter(path, "cpu").lift(*walk(15), CAMERA, SIZE)
    assert root.shape == (15, 1, 3)
    assert np.isfinite(root).all()
    with pytest.raises(WeightsError, match="is a trajectory model, not a pose lifter"):
        load_lifter(str(path), "cpu")


def test_twice_the_size_is_half_the_distance(tmp_path: Path) -> None:
    """The trajectory's depth follows the person's size in the image, whatever the network says."""
    path = lifter_file(tmp_path, "temporal", CASES[0][1], "trajectory", InputRule("box"))
    lifter = Lifter(path, "cpu")
    keypoints, scores = walk(9)
    centre = np.array(CAMERA[2:], np.float32)
    near = lifter.lift(keypoints, scores, CAMERA, SIZE)
    far = lifter.lift((keypoints - centre) / 2 + centre, scores, CAMERA, SIZE)
    np.testing.assert_allclose(far[..., 2], 2 * near[..., 2], rtol=1e-3)


def test_load_lifter_by_path_and_name(tmp_path: Path) -> None:
    path = lifter_file(tmp_path, "temporal", CASES[0][1])
    assert load_lifter(str(path), "cpu").name == "temporal"
    with pytest.raises(WeightsError, match="no-such-lifter"):
        load_lifter("no-such-lifter", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="--device cpu"):
        Lifter(lifter_file(tmp_path, "temporal", CASES[0][1]), "cuda")


def test_unknown_architecture_and_options() -> None:
    with pytest.raises(ConfigError, match="unknown architecture 'oracle'; known: temporal"):
        build_model("oracle", {})
    for name in ARCHITECTURES:
        with pytest.raises(ConfigError, match="colour"):
            build_model(name, {"colour": 3})
        with pytest.raises(ConfigError):
            build_model(name, {"channels": 0})
        with pytest.raises(ConfigError):
            build_model(name, {"dropout": -0.1})


def test_simple_baseline_is_the_papers_size() -> None:
    """Martinez et al. give 4 to 5 million parameters: 16 joints in and out, 1024 channels, two blocks."""
    with torch.device("meta"):
        model = build_model("simple", {"in_joints": 16, "out_joints": 16})
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert weights == 32 * 1024 + 4 * 1024 * 1024 + 1024 * 48
    assert sum(isinstance(module, nn.BatchNorm1d) for module in model.modules()) == 5


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frames", [1, 6, 27])
@torch.inference_mode()
def test_recurrent_directions_that_end_at_the_output_frame_answer_as_whole_ones(
    frames: int, causal: bool, layers: int
) -> None:
    torch.manual_seed(0)
    model = RecurrentModel(RecurrentConfig(frames, 24, layers, causal=causal)).eval()
    whole = nn.GRU(34, 24, layers, batch_first=True, bidirectional=not causal)
    parts = {} if model.lower is None else dict(model.lower.named_parameters())
    top = f"l{layers - 1}"
    parts |= {name.replace("l0", top): p for name, p in model.past.named_parameters()}
    if model.future is not None:
        parts |= {name.replace("l0", f"{top}_reverse"): p for name, p in model.future.named_parameters()}
    whole.load_state_dict(parts)
    inputs = torch.randn(5, frames, 17, 2)
    wanted = model.last(whole(inputs.flatten(2))[0][:, model.config.frames_before])
    torch.testing.assert_close(model(inputs).flatten(1), wanted, rtol=0, atol=1e-5)


def test_recurrent_windows_are_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from vp3d_cli.paper.networks import recurrent

    model = network("recurrent", CASES[3][1])
    inputs = torch.randn(3, 30, 17, 3)
    with torch.inference_mode():
        whole = model(inputs)
        monkeypatch.setattr(recurrent, "_WINDOWS_AT_ONCE", 7)
        torch.testing.assert_close(model(inputs), whole, rtol=0, atol=1e-6)
