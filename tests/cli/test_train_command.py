"""``vp3d train`` by its exit status and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunCli

from tests.motions import write_archive
from tests.small_dataset import write_dataset, write_people

SMALL = (
    "--set", "model.options.widths=[3, 3]", "--set", "model.options.channels=8", "--set", "train.validation_windows=32",
    "--set", "train.batch=256", "--threads", "1",
)  # fmt: skip


def test_the_papers_recipe_on_a_data_set(run_cli: RunCli, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    chosen = ("--set", "dataset.keypoints=gt", "--set", 'dataset.train=["S1", "S5"]', "--set", "dataset.test=S9")
    run = ("train", "--recipe", "paper-h36m", "--data", str(data), *chosen, *SMALL, "--out", str(tmp_path / "run"))
    outcome = run_cli(*run, "--set", "train.epochs=1", "--subset", "0.5")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.strip() == str(tmp_path / "run" / "best.safetensors")
    assert "test_mpjpe" in outcome.stderr
    assert "1 sequences have other lengths" in outcome.stderr
    assert (tmp_path / "run" / "curve.png").is_file()


def test_keypoint_files_beside_motion(run_cli: RunCli, tmp_path: Path) -> None:
    motion, seen = write_archive(tmp_path / "motion.npz"), write_people(tmp_path / "people.npz")
    outcome = run_cli(
        "train", "pose-27", "--motion", str(motion), "--unlabelled", str(seen), *SMALL, "--out", str(tmp_path / "run"),
        "--set", "data.hold_out=walk_3", "--set", "data.engine.source_weights={}", "--set", "train.steps=3",
        "--set", "train.pool=256", "--set", "train.precision=float32", "--set", "data.engine.rare_poses=0.0",
    )  # fmt: skip
    # The recipe weighs sources that these motions are not of.
    assert outcome.code == 1
    assert "weights for sources that have no clips" in outcome.stderr
    recipe = tmp_path / "small.toml"
    recipe.write_text('[data]\nhold_out = ["walk_3"]\n[train]\nsteps = 3\npool = 256\nprecision = "float32"\n')
    outcome = run_cli(
        "train", str(recipe), "--motion", str(motion), "--unlabelled", str(seen), *SMALL, "--out", str(tmp_path / "run")
    )
    assert outcome.code == 0, outcome.stderr
    assert "reprojection" in outcome.stderr
    assert (tmp_path / "run" / "trajectory-best.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--out", "run"], 2, "give one recipe"),
        (["pose-27", "--recipe", "pose-27", "--out", "run"], 2, "give one recipe"),
        (["pose-27"], 2, "--out"),
        (["pose-27", "--out", "run", "--motion", "a.npz", "--minutes", "0"], 2, "must be a positive number"),
        (["pose-27", "--out", "run", "--motion", "a.npz", "--minutes", "nan"], 2, "must be a positive number"),
        (["pose-27", "--out", "run"], 1, "there is no data"),
        (["pose-27", "--out", "run", "--motion", "a.npz", "--data", "b"], 1, "both"),
        (["paper-h36m", "--out", "run", "--motion", "a.npz"], 1, "needs a data set"),
        (["paper-h36m", "--out", "run", "--data", "gone"], 1, "no data_3d_h36m.npz in gone"),
        (["paper-h36m", "--out", "run", "--data", "gone", "--subset", "2"], 1, "subset must be in"),
        (["pose-28", "--out", "run", "--motion", "a.npz"], 1, "recipes: "),
    ],
)
def test_what_cannot_be_started(run_cli: RunCli, arguments: list[str], code: int, says: str) -> None:
    outcome = run_cli("train", *arguments)
    assert outcome.code == code
    assert says in outcome.stderr
