"""VideoPose3D's checkpoints: only tensors are taken, nothing is run, and they lift as their own code does."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from motions import write_archive
from torch import Tensor
from typer.testing import CliRunner

from vp3d_cli.cli import train as train_command
from vp3d_cli.cli.main import app
from vp3d_cli.errors import WeightsError
from vp3d_cli.lift.checkpoint import LifterInfo, load_lifter_file, save_lifter
from vp3d_cli.lift.input_rule import InputRule
from vp3d_cli.lift.lifter import load_lifter
from vp3d_cli.lift.temporal import TemporalConfig, TemporalModel
from vp3d_cli.paper.networks.simple import SimpleConfig, SimpleModel
from vp3d_cli.paper.official_checkpoints import add_official, convert, infer_architecture, read_official, write_official
from vp3d_cli.train.networks import initialize_from
from vp3d_cli.weights import find_weights, list_weights


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VP3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def published_state(
    widths: tuple[int, ...], joints_in: int, joints_out: int, channels: int = 16, counters: bool = True
) -> OrderedDict[str, Tensor]:
    """Names and shapes as the published files have them, in their order; values are random."""
    generator = torch.Generator().manual_seed(joints_in)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    def norm(name: str) -> dict[str, Tensor]:
        values = {
            f"{name}.weight": 1 + random(channels),
            f"{name}.bias": random(channels),
            f"{name}.running_mean": random(channels),
            f"{name}.running_var": 1 + random(channels).abs(),
        }
        return values | ({f"{name}.num_batches_tracked": torch.tensor(41)} if counters else {})

    state = OrderedDict(norm("expand_bn"))
    state["shrink.weight"] = random(joints_out * 3, channels, 1)
    state["shrink.bias"] = random(joints_out * 3)
    state["expand_conv.weight"] = random(channels, joints_in * 2, widths[0])
    blocks = 2 * (len(widths) - 1)
    for i in range(blocks):
        state[f"layers_conv.{i}.weight"] = random(channels, channels, 1 if i % 2 else widths[1 + i // 2])
    for i in range(blocks):
        state.update(norm(f"layers_bn.{i}"))
    return state


class OldRandomState:
    """A RandomState as numpy before 1.15 pickled it."""

    def __reduce__(self) -> Any:
        constructor: Callable[..., Any] = vars(np.random)["__RandomState_ctor"]
        return constructor, (), np.random.RandomState(1234).get_state()


def save_published(path: Path, pose: Any, *, legacy: bool = False, old_numpy: bool = False, **more: Any) -> Path:
    """A file as VideoPose3D's run.py writes it, with the optimizer and the states of its random numbers."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, amsgrad=True)
    parameter.sum().backward()
    optimizer.step()
    values = {
        "epoch": 80,
        "lr": np.float64(1e-4),
        "random_state": OldRandomState() if old_numpy else np.random.RandomState(1234),
        "optimizer": optimizer.state_dict() | {"seen": defaultdict(dict)},
        "model_pos": pose,
        **more,
    }
    torch.save(values, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("old_numpy", [False, True])
def test_only_the_tensors_are_taken(tmp_path: Path, legacy: bool, old_numpy: bool) -> None:
    state = published_state((3, 3, 3), 17, 17)
    path = save_published(tmp_path / "a.bin", state, legacy=legacy, old_numpy=old_numpy)
    checkpoint = read_official(path)
    assert checkpoint.trajectory is None
    assert list(checkpoint.pose) == list(state)
    assert all(torch.equal(checkpoint.pose[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("file", "widths", "joints_in", "joints_out", "skeletons", "rate"),
    [
        ("pretrained_h36m_cpn.bin", (3, 3, 3, 3, 3), 17, 17, ("h36m17", "h36m17"), 50),
        ("pretrained_h36m_detectron_coco.bin", (3, 3, 3, 3, 3), 17, 17, ("coco17", "h36m17"), 50),
        ("pretrained_humaneva15_detectron.bin", (3, 3, 3), 15, 15, ("humaneva15", "humaneva15"), 60),
        # Mask R-CNN finds COCO's 17, whatever the file is called.
        ("pretrained_humaneva15_detectron.bin", (3, 3, 3), 17, 15, ("coco17", "humaneva15"), 60),
        ("epoch_80.bin", (3, 3, 3), 16, 17, ("hourglass16", "h36m17"), 50),
    ],
)
def test_published_files_are_recognised(
    tmp_path: Path, file: str, widths: Any, joints_in: int, joints_out: int, skeletons: tuple[str, str], rate: float
) -> None:
    model, info = convert(save_published(tmp_path / file, published_state(widths, joints_in, joints_out)))["pose"]
    assert (info.config["widths"], info.config["channels"], info.config["causal"]) == (widths, 16, False)
    assert (info.rule.skeleton_2d, info.rule.skeleton_3d) == skeletons
    assert (info.rule.normalization, info.rule.confidence, info.rule.rate_hz) == ("screen", False, rate)
    assert "NC" in info.licence
    assert not model.training


def test_a_file_of_full_size(tmp_path: Path) -> None:
    path = save_published(tmp_path / "pretrained_humaneva15_detectron.bin", published_state((3, 3, 3), 15, 15, 1024))
    _, info = convert(path)["pose"]
    assert info.config["channels"] == 1024


def plain_forward(state: dict[str, Tensor], inputs: Tensor, widths: tuple[int, ...], causal: bool) -> Tensor:
    """The network by the paper's description, layer by layer: dilated convolutions on (B, channels, T)."""

    def activate(x: Tensor, norm: str) -> Tensor:
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        x = (x - mean[:, None]) / (variance[:, None] + 1e-5).sqrt()
        return (x * state[f"{norm}.weight"][:, None] + state[f"{norm}.bias"][:, None]).relu()

    x = inputs.flatten(2).mT
    x = activate(torch.nn.functional.conv1d(x, state["expand_conv.weight"]), "expand_bn")
    dilation = widths[0]
    for i, width in enumerate(widths[1:]):
        pad = (width - 1) * dilation // 2
        shift = pad if causal else 0
        residual = x[:, :, pad + shift : x.shape[2] - pad + shift]
        y = torch.nn.functional.conv1d(x, state[f"layers_conv.{2 * i}.weight"], dilation=dilation)
        y = activate(y, f"layers_bn.{2 * i}")
        x = residual + activate(
            torch.nn.functional.conv1d(y, state[f"layers_conv.{2 * i + 1}.weight"]), f"layers_bn.{2 * i + 1}"
        )
        dilation *= width
    x = torch.nn.functional.conv1d(x, state["shrink.weight"], state["shrink.bias"])
    return x.mT.unflatten(2, (-1, 3))


@pytest.mark.parametrize("causal", [False, True])
def test_answers_are_those_of_the_described_network(tmp_path: Path, causal: bool) -> None:
    state = published_state((3, 3, 3), 17, 17)
    model, info = convert(save_published(tmp_path / "a.bin", state), causal=causal)["pose"]
    inputs = torch.randn(2, 40, 17, 2, generator=torch.Generator().manual_seed(0))
    assert info.config["causal"] is causal
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), plain_forward(state, inputs, (3, 3, 3), causal), atol=1e-5, rtol=1e-5)


def test_data_parallel_old_torch_and_an_empty_trajectory(tmp_path: Path) -> None:
    plain = published_state((3, 3), 17, 17, counters=False)  # torch before 0.4.1 has no counters
    state = OrderedDict((f"module.{name}", tensor) for name, tensor in plain.items())
    path = save_published(tmp_path / "a.bin", state, model_traj=None, random_state_semi=None)
    lifters = convert(path)
    assert list(lifters) == ["pose"]
    assert torch.equal(lifters["pose"][0].state_dict()["shrink.bias"], plain["shrink.bias"])


def test_a_trajectory_model_answers_in_metres(tmp_path: Path) -> None:
    trajectory = published_state((3, 3, 3), 17, 1)
    path = save_published(
        tmp_path / "semi.bin",
        published_state((3, 3, 3), 17, 17),
        model_traj=trajectory,
        random_state_semi=np.random.RandomState(1),
    )
    added = add_official(path, "semi")
    assert [(entry.name, entry.kind) for entry in added] == [("semi", "pose"), ("semi-trajectory", "trajectory")]
    model, info = load_lifter_file(added[1].path)
    assert (info.task, info.root) == ("trajectory", "metres")
    with pytest.raises(WeightsError, match="is a trajectory model, not a pose lifter"):
        load_lifter("semi-trajectory")
    from vp3d_cli.lift.lifter import Lifter

    keypoints, scores = person(60)
    lifter = Lifter(added[1].path)
    got = lifter.lift(keypoints, scores, (1000, 1000, 500, 500), (1000, 1000), flip_test=False)
    from vp3d_cli.lift.skeleton_mapping import from_coco

    screen = torch.from_numpy(from_coco(keypoints, "h36m17")) / 1000 * 2 - 1
    with torch.no_grad():
        expected = model(screen[None])[0]
    np.testing.assert_allclose(got[13:-13], expected.numpy(), atol=1e-5)


def person(frames: int) -> tuple[Any, Any]:
    """COCO keypoints of someone who sways, pixels of a 1000 by 1000 image."""
    standing = np.array(
        [(500, 300), (505, 295), (495, 295), (512, 300), (488, 300), (540, 350), (460, 350), (550, 420), (450, 420),
         (555, 480), (445, 480), (525, 500), (475, 500), (528, 600), (472, 600), (530, 700), (470, 700)], np.float32
    )  # fmt: skip
    sway = 10 * np.sin(np.arange(frames) / 9, dtype=np.float32)
    return standing + sway[:, None, None], np.full((frames, 17), 0.9, np.float32)


@pytest.mark.parametrize(("name", "joints"), [("cpn", 17), ("coco", 17), ("humaneva", 15)])
def test_detectors_keypoints_reach_every_kind_of_lifter(tmp_path: Path, name: str, joints: int) -> None:
    add_official(save_published(tmp_path / f"{name}.bin", published_state((3, 3), joints, joints)), name)
    lifter = load_lifter(name)
    keypoints, scores = person(30)
    whole = lifter.lift(keypoints, scores, (1000, 1000, 500, 500), (1000, 1000))
    assert whole.shape == (30, 17, 3)
    # What the detector missed for a moment is filled in: these lifters never saw a missing keypoint.
    keypoints[10:13, 9] = np.nan
    scores[10:13, 9] = 0
    gap = lifter.lift(keypoints, scores, (1000, 1000, 500, 500), (1000, 1000))
    assert np.isfinite(gap).all()
    assert np.abs(gap - whole).max() < 0.02


class Hostile:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["random_state", "model_pos", "optimizer"])
def test_hostile_files_are_refused_and_do_nothing(tmp_path: Path, place: str, legacy: bool) -> None:
    marker = tmp_path / "done"
    values: dict[str, Any] = {"model_pos": published_state((3, 3), 17, 17), place: Hostile(marker)}
    path = tmp_path / "a.bin"
    torch.save(values, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"a\.bin: refused, it asks for (posix|nt)\.mkdir"):
        read_official(path)
    assert not marker.exists()


class Altering:
    """Asks to change the function that rebuilds tensors."""

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (), {"__defaults__": ()}


class CallsNumpy:
    """Asks numpy to read a file of pickles, which would run them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return np.load, (self._path, None, True)


def test_functions_of_numpy_are_not_called(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    np.save(tmp_path / "trap.npy", np.array([Hostile(marker)], dtype=object), allow_pickle=True)
    path = save_published(
        tmp_path / "a.bin", published_state((3, 3), 17, 17), extra=CallsNumpy(str(tmp_path / "trap.npy"))
    )
    assert read_official(path).pose
    assert not marker.exists()


def test_programs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/code/a.py", b"")
    with pytest.raises(WeightsError, match=r"refused, it is a program \(TorchScript\)"):
        read_official(tmp_path / "a.bin")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    state = published_state((3, 3), 17, 17)
    good = save_published(tmp_path / "good.bin", state)
    (tmp_path / "cut.bin").write_bytes(good.read_bytes()[:1000])
    (tmp_path / "text.bin").write_text("no weights at all")
    (tmp_path / "empty.bin").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip.bin", "w") as archive:
        archive.writestr("x/data.pkl", b"junk")
    torch.save({"model_pos": state, "x": Altering()}, tmp_path / "altering.bin")
    for name in ("cut", "text", "empty", "zip", "altering"):
        with pytest.raises(
            WeightsError, match=rf"{name}\.bin: (cut off, damaged, or not a checkpoint of torch|refused)"
        ):
            read_official(tmp_path / f"{name}.bin")
    with pytest.raises(WeightsError, match="no such weight file"):
        read_official(tmp_path / "none.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("expand_conv.weight"), "it has no expand_conv.weight"),
        (lambda state: state.pop("layers_conv.0.weight"), "it has no layers_conv.0.weight"),
        (lambda state: state.pop("layers_bn.1.bias"), "layers_bn.1.bias missing"),
        (lambda state: state.update({"extra.weight": torch.ones(1)}), "extra.weight unexpected"),
        (
            lambda state: state.update({"shrink.bias": torch.full((51,), torch.nan)}),
            "shrink.bias has values that are not",
        ),
        (lambda state: state.update({"shrink.weight": torch.ones(50, 16, 1)}), "unknown shapes"),
        (lambda state: state.update({"shrink.weight": torch.ones(60, 16, 1)}), "predicts 20 joints"),
        (
            lambda state: state.update({"expand_conv.weight": torch.ones(16, 36, 3)}),
            "takes 18 keypoints, but h36m17 has 17",
        ),
        (lambda state: state.update({"epoch": 3}), "holds 'epoch', which is not a tensor"),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    state = published_state((3, 3), 17, 17)
    change(state)
    with pytest.raises(WeightsError, match=message):
        convert(save_published(tmp_path / "a.bin", state))


def test_other_checkpoints_and_the_ablation_without_dilation(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "cpn.bin")
    with pytest.raises(WeightsError, match="it has no model_pos"):
        read_official(tmp_path / "cpn.bin")
    dense = published_state((3, 7, 19), 17, 17)
    with pytest.raises(WeightsError, match="without dilation"):
        infer_architecture(tmp_path, dense)
    assert infer_architecture(tmp_path, published_state((3, 5, 3), 17, 17)).widths == (3, 5, 3)


def test_export_gives_names_and_shapes_back(tmp_path: Path) -> None:
    state, trajectory = published_state((3, 3, 3), 17, 17), published_state((3, 3), 17, 1)
    lifters = convert(save_published(tmp_path / "a.bin", state, model_traj=trajectory))
    write_official(tmp_path / "b.bin", lifters["pose"], lifters["trajectory"])
    # As VideoPose3D reads it, and as torch reads what it does not trust.
    values = torch.load(tmp_path / "b.bin", map_location="cpu", weights_only=True)
    for part, original in (("model_pos", state), ("model_traj", trajectory)):
        assert set(values[part]) == set(original)
        assert all(torch.equal(values[part][name], tensor) for name, tensor in original.items())
    again = convert(tmp_path / "b.bin")
    assert again["pose"][1].config == lifters["pose"][1].config


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (InputRule("ray", confidence=False), "trained on ray coordinates$"),
        (InputRule("screen", confidence=True), "trained on screen coordinates with confidence"),
    ],
)
def test_what_videopose3d_cannot_run_is_not_exported(tmp_path: Path, rule: InputRule, message: str) -> None:
    config = TemporalConfig((3,), 4, in_features=rule.features)
    lifter = TemporalModel(config), LifterInfo("pose", "temporal", config.as_dict(), rule)
    with pytest.raises(WeightsError, match=message):
        write_official(tmp_path / "a.bin", lifter)
    simple = SimpleConfig(4)
    with pytest.raises(WeightsError, match="no architecture 'simple'"):
        write_official(tmp_path / "a.bin", (SimpleModel(simple), LifterInfo("pose", "simple", simple.as_dict(), rule)))
    config = TemporalConfig((3,), 4, out_joints=1)
    root = TemporalModel(config), LifterInfo("trajectory", "temporal", config.as_dict(), InputRule("screen", False))
    good = TemporalConfig((3,), 4)
    pose = TemporalModel(good), LifterInfo("pose", "temporal", good.as_dict(), InputRule("screen", False))
    with pytest.raises(WeightsError, match="answer in metres"):
        write_official(tmp_path / "a.bin", pose, root)
    assert not list(tmp_path.glob("*.bin"))


def test_commands(tmp_path: Path) -> None:
    path = save_published(
        tmp_path / "pretrained_h36m_cpn.bin", published_state((3, 3), 17, 17), model_traj=published_state((3, 3), 17, 1)
    )
    runner = CliRunner()
    added = runner.invoke(app, ["weights", "add", str(path)])
    assert added.exit_code == 0, added.output
    assert added.output.split() == [
        str(tmp_path / "home/weights/pretrained_h36m_cpn.safetensors"),
        str(tmp_path / "home/weights/pretrained_h36m_cpn-trajectory.safetensors"),
    ]
    listed = runner.invoke(app, ["weights", "list"]).output
    assert "CC BY-NC 4.0" in listed
    assert "Human3.6M" in listed
    out = tmp_path / "out.bin"
    arguments = ["weights", "export", "pretrained_h36m_cpn", "--trajectory", "pretrained_h36m_cpn-trajectory"]
    exported = runner.invoke(app, [*arguments, "--format", "videopose3d", "--out", str(out)])
    assert exported.exit_code == 0, exported.output
    assert torch.equal(read_official(out).pose["shrink.bias"], read_official(path).pose["shrink.bias"])
    assert runner.invoke(app, [*arguments, "--out", str(out)]).exit_code == 1  # exists
    assert runner.invoke(app, [*arguments, "--out", str(out), "--format", "onnx"]).exit_code == 2
    misplaced = runner.invoke(app, ["weights", "add", str(path), "--kind", "detector", "--causal"])
    assert misplaced.exit_code == 2


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_a_name_that_is_taken_leaves_everything_as_it_was(tmp_path: Path, home: Path) -> None:
    first = save_published(tmp_path / "a.bin", published_state((3, 3), 17, 17), model_traj=published_state((3,), 17, 1))
    assert invoke("add", first, "--name", "taken-trajectory", "--kind", "pose").exit_code == 0
    before = {file.name: file.read_bytes() for file in (home / "weights").iterdir()}
    for name in ("taken", "pose-27"):  # its trajectory's name is taken; vp3d's own
        assert invoke("add", first, "--name", name).exit_code == 1
        assert {file.name: file.read_bytes() for file in (home / "weights").iterdir()} == before
    assert invoke("add", first, "--name", "taken", "--overwrite").exit_code == 0
    assert load_lifter_file(home / "weights" / "taken-trajectory.safetensors")[1].task == "trajectory"


def test_a_trajectory_alone(tmp_path: Path, home: Path) -> None:
    both = save_published(tmp_path / "a.bin", published_state((3, 3), 17, 17), model_traj=published_state((3,), 17, 1))
    added = invoke("add", both, "--kind", "trajectory", "--name", "foo")
    assert added.stdout.split() == [str(home / "weights" / "foo.safetensors")]
    assert load_lifter_file(home / "weights" / "foo.safetensors")[1].task == "trajectory"
    alone = save_published(tmp_path / "b.bin", published_state((3, 3), 17, 17))
    refused = invoke("add", alone, "--kind", "trajectory", "--name", "bar")
    assert "b.bin: has no trajectory model" in refused.stderr
    # A lifter file says itself what it is.
    file = home / "weights" / "foo.safetensors"
    assert "is a trajectory model, not a pose model" in invoke("add", file, "--kind", "pose", "--name", "x").stderr
    assert invoke("add", file, "--name", "again").exit_code == 0
    assert [entry.kind for entry in list_weights() if entry.name in ("foo", "again")] == ["trajectory"] * 2
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    assert "is not a lifter file" in invoke("add", tmp_path / "junk.safetensors").stderr


def test_what_the_format_does_not_keep_is_said_when_it_is_written(tmp_path: Path) -> None:
    config = TemporalConfig((3, 3), 4, in_features=2, causal=True)
    rule = InputRule("screen", False, rate_hz=10.0, skeleton_2d="coco17", edges="repeat")
    save_lifter(
        tmp_path / "own.safetensors", TemporalModel(config), LifterInfo("pose", "temporal", config.as_dict(), rule)
    )
    done = invoke("export", tmp_path / "own.safetensors", "--out", tmp_path / "a.bin")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"vp3d weights add {tmp_path / 'a.bin'} --rate 10 --causal --skeleton-2d coco17")
    assert invoke("add", tmp_path / "a.bin", *line.rpartition("a.bin ")[2].split()).exit_code == 0
    _, info = load_lifter_file(find_weights("a").path)
    assert (info.rule.rate_hz, info.rule.skeleton_2d, info.config["causal"]) == (10.0, "coco17", True)
    assert invoke("add", tmp_path / "a.bin", "--rate", "0").exit_code == 2
    official = save_published(tmp_path / "b_coco.bin", published_state((3, 3), 17, 17))
    assert invoke("add", official).exit_code == 0
    assert invoke("export", "b_coco", "--out", tmp_path / "c_coco.bin").stderr == ""


def test_a_file_of_another_version_says_so(tmp_path: Path) -> None:
    config = TemporalConfig((3,), 4)
    info = LifterInfo("pose", "temporal", config.as_dict(), InputRule("screen", False), root="feet")  # type: ignore[arg-type]
    save_lifter(tmp_path / "a.safetensors", TemporalModel(config), info)
    with pytest.raises(WeightsError, match="unknown kind of root 'feet'"):
        load_lifter_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("name", "joints"), [("cpn", 17), ("humaneva", 15)])
def test_evaluation_on_motion_gives_every_kind_its_own_keypoints(tmp_path: Path, name: str, joints: int) -> None:
    add_official(save_published(tmp_path / f"{name}.bin", published_state((3, 3), joints, joints)), name)
    archive = write_archive(tmp_path / "motion.npz")
    done = CliRunner().invoke(
        app, ["evaluate", "--motion", str(archive), "--weights", name, "--hold-out", "walk_0", "--windows", "8"]
    )
    assert done.exit_code == 0, done.output
    assert "MPJPE" in done.stdout
    options_not_stored = CliRunner().invoke(app, ["evaluate", "--motion", str(archive), "--weights", name])
    assert "give --hold-out REGEX" in options_not_stored.stderr


def test_a_checkpoint_that_was_not_added_says_how(tmp_path: Path) -> None:
    path = save_published(tmp_path / "a.bin", published_state((3, 3), 17, 17))
    with pytest.raises(
        WeightsError, match=r"a\.bin is not a lifter file of vp3d; add a checkpoint first: vp3d weights add"
    ):
        load_lifter(str(path))


def test_training_starts_from_a_checkpoint_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = published_state((3, 3), 17, 17)
    (added,) = add_official(save_published(tmp_path / "a.bin", state), "official", skeleton_2d="coco17")
    seen: dict[str, Any] = {}
    monkeypatch.setattr(train_command, "run", lambda config, out, **options: seen.update(options))
    done = CliRunner().invoke(
        app, ["train", "pose-27", "--motion", "m.npz", "--out", str(tmp_path / "run"), "--start-from", "official"]
    )
    assert done.exit_code == 0, done.output
    assert seen["start_from"] == added.path
    model = TemporalModel(TemporalConfig((3, 3), 16))
    initialize_from(model, load_lifter_file(seen["start_from"])[0], "official")
    assert torch.equal(model.state_dict()["shrink.bias"], state["shrink.bias"])
