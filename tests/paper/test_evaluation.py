"""Evaluation on a data set: the paper's way, written out again; beside published numbers; what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.tiny_human36m import FRAMES, joints_of, write_dataset, write_humaneva, write_lifter
from vp3d_cli.cli.main import main
from vp3d_cli.errors import InputError, WeightsError
from vp3d_cli.lift.checkpoint import load_lifter_file
from vp3d_cli.lift.lifter import Lifter
from vp3d_cli.paper.datasets.archives import (
    read_positions_2d,
    read_positions_3d,
    write_positions_2d,
    write_positions_3d,
)
from vp3d_cli.paper.datasets.cameras import cameras_of
from vp3d_cli.paper.evaluation import DatasetProtocol, evaluate_dataset
from vp3d_cli.paper.published import Experiment, published, published_for
from vp3d_cli.paper.reproduce.table_rows import SEMI as SEMI_GROUP
from vp3d_cli.paper.reproduce.table_rows import all_rows
from vp3d_cli.paper.training import read_dataset
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.config import parse_config
from vp3d_cli.weights import find_lifter

FLIP = list(H36M17.flip_order)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), ("S1", "S9", "S11"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, arguments)])
    return int(ended.value.code or 0)


def plain_answers(folder: Path, file: Path, flip: bool, step: int = 1) -> Iterator[tuple[str, Any, Any]]:
    """(action, answer, truth) of each view of S9 and S11, one window after the other, in millimetres."""
    network: Any = load_lifter_file(file)[0]
    before, after = network.config.frames_before, network.config.frames_after
    archive = read_positions_2d(folder / "data_2d_h36m_cpn_ft_h36m_dbb.npz")
    for subject in ("S9", "S11"):
        for name in FRAMES:
            world = joints_of(subject, name)[::step]
            for camera, keypoints in zip(cameras_of("human36m", subject), archive.subjects[subject][name], strict=True):
                seen = torch.from_numpy(keypoints[::step][: len(world)].copy())
                seen = seen / camera.width * 2 - torch.tensor([1, camera.height / camera.width])
                answers = []
                for frame in range(len(world)):
                    index = torch.arange(frame - before, frame + after + 1).clamp(0, len(world) - 1)
                    with torch.inference_mode():
                        answer = network(seen[index][None])[0, 0]
                        if flip:
                            mirrored = network((seen[index][:, FLIP] * torch.tensor([-1, 1]))[None])[0, 0]
                            answer = (answer + mirrored[FLIP] * torch.tensor([-1, 1, 1])) / 2
                    answers.append(answer.numpy())
                placed = world.astype(np.float64) @ camera.rotation.T + camera.translation
                yield name.split()[0], 1000 * np.stack(answers).astype(np.float64), 1000 * (placed - placed[:, :1])


def distance(a: Any, b: Any) -> Any:
    return np.sqrt(((a - b) ** 2).sum(axis=-1)).mean(axis=-1)


def plain_figures(folder: Path, file: Path, flip: bool, step: int = 1) -> dict[str, dict[str, float]]:
    """{action: {figure: mm}} by the definitions."""
    errors: dict[str, dict[str, list[float]]] = {}
    for action, answer, truth in plain_answers(folder, file, flip, step):
        own = errors.setdefault(action, {"mpjpe": [], "n_mpjpe": [], "p_mpjpe": [], "mpjve": []})
        own["mpjpe"] += distance(answer, truth).tolist()
        for ours, theirs in zip(answer, truth, strict=True):
            own["n_mpjpe"].append(float(distance(ours * (ours * theirs).sum() / (ours * ours).sum(), theirs)))
            a, b = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
            turn = Rotation.align_vectors(b, a)[0].as_matrix()
            turned = a @ turn.T
            own["p_mpjpe"].append(float(distance(turned * (turned * b).sum() / (a * a).sum(), b)))
        velocity = float(distance(np.diff(answer, axis=0), np.diff(truth, axis=0)).mean())
        own["mpjve"] += [velocity] * len(truth)
    return {action: {name: float(np.mean(values)) for name, values in own.items()} for action, own in errors.items()}


@pytest.mark.parametrize(("flip", "causal", "step"), [(True, False, 1), (False, True, 1), (True, False, 2)])
def test_figures_are_those_of_a_plain_loop(folder: Path, tmp_path: Path, flip: bool, causal: bool, step: int) -> None:
    file = write_lifter(tmp_path / "lifter.safetensors", causal=causal, rate_hz=50.0 / step)
    exam = DatasetProtocol(folder, keypoints="cpn_ft_h36m_dbb", flip_test=flip)
    result = evaluate_dataset(Lifter(file, "cpu"), exam)
    expected = plain_figures(folder, file, flip, step)
    assert [score.name for score in result.scores] == ["Eating", "Walking", "mean"]
    for score in result.scores[:-1]:
        for figure, value in expected[score.name].items():
            assert getattr(score, figure) == pytest.approx(value, rel=2e-5), (score.name, figure)
    # Actions count the same, however long they are.
    for figure in ("mpjpe", "n_mpjpe", "p_mpjpe", "mpjve"):
        mean = np.mean([values[figure] for values in expected.values()])
        assert getattr(result.scores[-1], figure) == pytest.approx(mean, rel=2e-5)
    assert "6 sequences have other lengths than their joints (0 are shorter)" in result.notes[0]
    assert (len(result.notes) > 1) == (step > 1)


def test_other_frame_rates_are_resampled(folder: Path, tmp_path: Path) -> None:
    exam = DatasetProtocol(folder, keypoints="gt")
    at_50 = evaluate_dataset(Lifter(write_lifter(tmp_path / "a.safetensors", widths=[1]), "cpu"), exam)
    at_30 = evaluate_dataset(Lifter(write_lifter(tmp_path / "b.safetensors", widths=[1], rate_hz=30.0), "cpu"), exam)
    # The same weights, which see one frame: only interpolation is between them.
    assert at_30.scores[-1].frames == at_50.scores[-1].frames
    assert at_30.scores[-1].mpjpe == pytest.approx(at_50.scores[-1].mpjpe, rel=0.01)
    assert "resampled" in at_30.notes[0]


@pytest.mark.parametrize("root", ["metres", "scaled"])
def test_trajectory(folder: Path, tmp_path: Path, root: str) -> None:
    file = write_lifter(tmp_path / "lifter.safetensors", task="trajectory", root=root)
    lifter = Lifter(file, "cpu")
    scores = evaluate_dataset(lifter, DatasetProtocol(folder, keypoints="gt", flip_test=False)).scores
    archive = read_positions_2d(folder / "data_2d_h36m_gt.npz")
    errors = []
    for subject in ("S9", "S11"):
        for camera, seen in zip(cameras_of("human36m", subject), archive.subjects[subject]["Eating"], strict=True):
            answer = lifter.lift_as_trained(
                torch.from_numpy(seen), torch.ones(seen.shape[:2]), camera.intrinsics, camera.size_wh, flip_test=False
            )
            errors.append(np.linalg.norm(answer[:, 0] - camera.to_camera(joints_of(subject, "Eating")[:, 0]), axis=-1))
    assert scores[0].trajectory == pytest.approx(1000 * np.concatenate(errors).mean(), rel=1e-5)
    assert np.isnan(scores[0].mpjpe)


EVA = ("coco17", "humaneva15", 17, 15)


def test_humaneva_by_subject(tmp_path: Path) -> None:
    file = write_lifter(tmp_path / "eva.safetensors", skeletons=EVA, rate_hz=60.0, widths=[3, 3, 3])
    result = evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(write_humaneva(tmp_path)))  # it is the lifter's
    names = [f"{subject} {action}" for subject in ("S1", "S2", "S3") for action in ("Walking", "Box")]
    assert [score.name for score in result.scores] == [*names, "mean"]
    assert result.scores[0].frames == 3 * (20 + 9)
    assert result.scores[0].joints[1] == "thorax"
    ray = write_lifter(tmp_path / "ray.safetensors", skeletons=EVA, rate_hz=60.0, normalization="ray")
    with pytest.raises(InputError, match=r"ray needs the intrinsics of the cameras, but .*--cameras FILE"):
        evaluate_dataset(Lifter(ray, "cpu"), DatasetProtocol(tmp_path, "humaneva"))


def test_published_numbers_beside_ours(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a converted official checkpoint says of itself.
    official = {"from": "pretrained_h36m_cpn.bin", "data": "Human3.6M"}
    file = write_lifter(tmp_path / "official.safetensors", widths=[3] * 5, training=official)
    arguments = ("--data", folder, "--weights", file, "--keypoints", "cpn_ft_h36m_dbb")
    outputs = ("--json", tmp_path / "out.json", "--plot", tmp_path / "out.png")
    assert run(*arguments, *outputs) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert rows[0][:8] == ["case", "frames", "MPJPE", "(paper)", "N-MPJPE", "P-MPJPE", "(paper)", "MPJVE"]
    assert [(row[0], row[3], row[6]) for row in rows[2:]] == [
        ("Eating", "43.3", "34.4"), ("Walking", "32.8", "25.6"), ("mean", "46.8", "36.5"),
    ]  # fmt: skip
    assert captured.err.splitlines()[-1].startswith("(paper): Pavllo et al. 2019 (arXiv 1811.11742v2), tables 1 and 2")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["published"][str(file)]["figures"]["mpjpe"] == 46.8
    assert content["data"] == str(folder)
    # Nothing is published of other subjects, keypoints, or half of the labels.
    assert run(*arguments, "--subjects", "S9", "-q") == 0
    assert "(paper)" not in capsys.readouterr().out
    assert run("--data", folder, "--weights", file, "--keypoints", "gt", "--no-flip", "-q", "--actions", "Eating") == 0
    assert "(paper)" not in capsys.readouterr().out


def trained(folder: Path, **changes: Any) -> dict[str, object]:
    values = {"folder": str(folder), "name": "human36m", "keypoints": "gt", "train": [], "subset": 1.0, "downsample": 1}
    return {"dataset": {**values, **changes}, "semi": {"subjects": []}, "train": {"flips": True}}


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"subset": 0.1}, False), ({"train": ["S1"]}, False)])
def test_keypoints_are_those_of_the_run(folder: Path, tmp_path: Path, changes: dict[str, Any], known: bool) -> None:
    file = write_lifter(tmp_path / "own.safetensors", widths=[3] * 5, training=trained(folder, **changes))
    result = evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(folder))
    assert result.keypoints == "gt"
    assert (result.published is not None) == known


SEMI = ["S5", "S6", "S7", "S8"]


@pytest.mark.parametrize(
    ("changes", "semi", "known"),
    [
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": []}, 80.7),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": SEMI}, 65.2),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": ["S1", *SEMI], "bone_lengths": 0.1}, 65.2),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": ["S5"]}, None),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": SEMI, "bone_lengths": 0.0}, None),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": SEMI, "reprojection": 0.0}, None),
        ({"subset": 0.1, "train": ["S1"]}, {"subjects": SEMI, "placed_by": "fit"}, None),
        ({"subset": 0.1, "train": ["S1"], "downsample": 5}, {"subjects": SEMI}, None),
        ({"subset": 0.2, "train": ["S1"]}, {"subjects": []}, None),
        ({"train": ["S5", "S1"]}, {"subjects": ["S6", "S7", "S8"]}, 51.7),
    ],
)
def test_few_labels_are_told_apart(
    folder: Path, tmp_path: Path, changes: dict[str, Any], semi: dict[str, Any], known: float | None
) -> None:
    training = {**trained(folder, **changes), "semi": semi}
    rate = 50.0 / changes.get("downsample", 1)
    file = write_lifter(tmp_path / "own.safetensors", widths=[3] * 3, rate_hz=rate, training=training)
    result = evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(folder))
    assert (None if result.published is None else result.published.figures["mpjpe"]) == known
    said = any("differs from the paper's" in note for note in result.notes)
    assert said == (known is not None and bool(semi["subjects"]))
    assert evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(folder, subjects=("S9",))).published is None


def test_every_row_with_few_labels_finds_its_figure(folder: Path, tmp_path: Path) -> None:
    rows = {row.name: row for row in all_rows() if row.group == SEMI_GROUP and published(row.name)}
    assert len(rows) == 15
    for name, row in rows.items():
        config = row.config(folder)
        file = write_lifter(
            tmp_path / "own.safetensors", widths=list(config.model.options["widths"]), training=config.as_dict()
        )
        result = evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(folder))
        assert result.published is published(name), name


def test_runs_are_called_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "semi").mkdir()
    for stem, called in (("last", "semi/last"), ("trajectory-best", "semi/trajectory-best"), ("mine", "mine")):
        assert find_lifter(str(write_lifter(tmp_path / "semi" / f"{stem}.safetensors")))[1] == called


def test_what_is_published_is_consistent() -> None:
    row = published("h36m-cpn-243")
    assert row is not None
    assert row is published_for(Experiment("human36m", "cpn_ft_h36m_dbb", 243, False, True))
    assert published_for(Experiment("human36m", "cpn_ft_h36m_dbb", 243, False, False)) is None
    assert published("no such row") is None
    for name in ("h36m-cpn-1", "h36m-cpn-243", "h36m-cpn-243-causal"):
        row = published(name)
        assert row is not None
        for figure, values in row.actions.items():
            assert len(values) == 15
            assert np.mean(list(values.values())) == pytest.approx(row.figures[figure], abs=0.06)


@pytest.mark.parametrize(
    ("lifter", "protocol", "error", "says"),
    [
        ({}, {"subjects": ("S9", "S5")}, InputError, "no joints of S5, but of S1, S9, S11"),
        ({}, {"keypoints": "sh_pt_mpii"}, InputError, "--keypoints NAME takes cpn_ft_h36m_dbb, gt"),
        ({}, {"keypoints": ""}, InputError, "does not say which keypoints .* one of cpn_ft_h36m_dbb, gt"),
        ({}, {"actions": ("Juggling",)}, InputError, "no sequences of S9, S11 with Juggling"),
        ({}, {"dataset": "humaneva"}, InputError, "no data_3d_humaneva15.npz"),
        ({"skeletons": EVA}, {}, InputError, "no data_3d_humaneva15.npz"),
        ({}, {"dataset": "mpi"}, InputError, "unknown data set 'mpi'; known: human36m, humaneva"),
        ({"skeletons": ("coco17", "h36m17", 17, 17)}, {}, WeightsError, "keypoints of coco17, but data_2d_h36m_gt.npz"),
        (
            {"skeletons": EVA},
            {"dataset": "human36m"},
            WeightsError,
            "joints of humaneva15, but Human3.6M has those of h36m17",
        ),
    ],
)
def test_what_does_not_fit(
    folder: Path, tmp_path: Path, lifter: dict[str, Any], protocol: dict[str, Any], error: type[Exception], says: str
) -> None:
    file = write_lifter(tmp_path / "lifter.safetensors", **lifter)
    with pytest.raises(error, match=says):
        evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(**{"folder": folder, "keypoints": "gt", **protocol}))


def test_wrong_joint_counts(folder: Path, tmp_path: Path) -> None:
    joints = {
        "S9": {"Walking": np.zeros((30, 20, 3), np.float32)},
        "S11": {"Walking": np.zeros((30, 20, 3), np.float32)},
    }
    write_positions_3d(tmp_path / "data_3d_h36m.npz", joints)
    (tmp_path / "data_2d_h36m_gt.npz").write_bytes((folder / "data_2d_h36m_gt.npz").read_bytes())
    file = write_lifter(tmp_path / "lifter.safetensors")
    with pytest.raises(InputError, match=r"S9, Walking: 20 joints, but Human3.6M has 17 or 32"):
        evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("joints", r"data_3d_h36m\.npz: S9, Walking: joints of frames 5 to 7 are not finite"),
        ("keypoints", r"data_2d_h36m_gt\.npz: S9, Walking, camera 55011271: keypoints of frame 3 are not finite"),
        ("millimetres", r"data_3d_h36m\.npz: S9, Eating: [\d.e+]+ m from hip to head; joints must be in metres"),
    ],
)
def test_values_that_are_none(folder: Path, tmp_path: Path, change: str, says: str) -> None:
    joints = read_positions_3d(folder / "data_3d_h36m.npz").subjects
    seen = read_positions_2d(folder / "data_2d_h36m_gt.npz").subjects
    if change == "joints":
        joints["S9"]["Walking"][5:8, 13] = np.nan
    elif change == "keypoints":
        seen["S9"]["Walking"][1][3, 4, 1] = np.inf
    else:
        joints["S9"] = {name: values * 1000 for name, values in joints["S9"].items()}
    write_positions_3d(tmp_path / "data_3d_h36m.npz", joints)
    write_positions_2d(tmp_path / "data_2d_h36m_gt.npz", seen, "h36m17")
    file = write_lifter(tmp_path / "lifter.safetensors")
    with pytest.raises(InputError, match=says):
        evaluate_dataset(Lifter(file, "cpu"), DatasetProtocol(tmp_path))
    values = {"folder": str(tmp_path), "train": ["S1"], "test": ["S9"]}
    with pytest.raises(InputError, match=says):
        read_dataset(parse_config({"dataset": values}, "test"))


def test_failures_of_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lifter(tmp_path / "lifter.safetensors")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("data_3d_h36m.npz", "data_2d_h36m_gt.npz"):
        (damaged / name).write_bytes((folder / name).read_bytes()[:2000])
    for arguments in (("--data", tmp_path), ("--data", damaged), ("--data", folder, "--keypoints", "cpn")):
        assert run(*arguments, "--weights", file, "--json", tmp_path / "out.json") == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("vp3d: error: ")
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "out.json").exists()
    for arguments, says in (
        (("--data", folder, "--fps", 30), "--fps has no effect with --data"),
        (("--motion", folder, "--subjects", "S9"), "--subjects has no effect with this ground truth, only with --data"),
    ):
        assert run(*arguments) == 2
        assert says in " ".join(capsys.readouterr().err.split()).replace("│ ", "").replace(" │", "")
