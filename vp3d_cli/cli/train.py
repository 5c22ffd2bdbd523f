"""The command ``vp3d train``: trains lifters on motion capture and data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Quiet, print_warning
from vp3d_cli.cli.training_progress import print_outcome, training_progress
from vp3d_cli.errors import ConfigError

if TYPE_CHECKING:
    from vp3d_cli.train.config import TrainConfig


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """Parse settings such as ``train.steps=500``, whose value is TOML or plain text.

    Raises:
        typer.BadParameter: a setting has no ``=`` or no section.
    """
    from vp3d_cli.train.config import parse_toml

    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        names = path.strip().split(".")
        if not equals or len(names) < 2:
            raise typer.BadParameter(f"invalid setting {setting!r}: use SECTION.NAME=VALUE", param_hint="--set")
        try:
            value = parse_toml(f"value = {text}")["value"]
        except ConfigError:
            value = text
        place = values
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = value
    return values


def train(
    out: Annotated[Path, typer.Option(help="Folder for weights, state and log of the run.", show_default=False)],
    recipe_name: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Recipe name, or TOML file.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Same as the argument RECIPE.", metavar="RECIPE", show_default=False)
    ] = None,
    motion: Annotated[
        list[Path] | None, typer.Option(help="Motion capture to train on; can be repeated.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of a prepared data set (vp3d data) to train on.", metavar="DIR", show_default=False),
    ] = None,
    subset: Annotated[
        float | None, typer.Option(help="Share of the training data that is labelled.", show_default=False)
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Keypoint file of vp3d infer --keypoints-only, or a folder of them, for semi-supervised training; "
            "can be repeated.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="End after so many minutes of training, instead of the recipe's steps or epochs.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    start_from: Annotated[
        str | None,
        typer.Option(help="Lifter whose weights to start from.", metavar="NAME|FILE", show_default=False),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.NAME=VALUE",
            help="Override a value of the recipe; can be repeated.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train a pose or trajectory lifter.

    On motion capture or a data set.

    \b
    vp3d train pose-27 --motion mocap.npz --out runs/pose-27
    vp3d train pose-27 --motion mocap.npz --out runs/pose-27 --resume
    vp3d train my.toml --motion bvh/ --out runs/mine --set train.steps=2000 --device cuda
    vp3d train pose-27 --motion mocap.npz --out runs/short --minutes 8
    vp3d train pose-27 --motion mocap.npz --unlabelled keypoints/ --out runs/mine
    vp3d train paper-h36m --data data/ --out runs/h36m

    Ctrl-C saves the run, and --resume continues it with the same result. Prints the path of the best weights.
    """
    if (recipe is None) == (recipe_name is None):
        raise typer.BadParameter("give one recipe or TOML file", param_hint="RECIPE")
    overrides = parse_overrides(override or [])
    add_paths(overrides, motion or [], data, unlabelled or [])
    if subset is not None:
        section, name = ("dataset", "subset") if data is not None else ("data", "labelled")
        overrides.setdefault(section, {})[name] = subset
    if minutes is not None:
        if not 0 < minutes < math.inf:
            raise typer.BadParameter(f"must be a positive number, got {minutes:g}", param_hint="--minutes")
        overrides.setdefault("train", {})["minutes"] = minutes
    from vp3d_cli.train.config import read_config
    from vp3d_cli.train.recipes import find_recipe

    config = read_config(find_recipe(recipe or recipe_name or ""), overrides, print_warning)
    from vp3d_cli.weights import find_lifter

    first = None if start_from is None else find_lifter(start_from)[0]
    run(config, out, device=device, resume=resume, start_from=first, threads=threads, quiet=quiet)


def add_paths(overrides: dict[str, Any], motion: Sequence[Path], data: Path | None, unlabelled: Sequence[Path]) -> None:
    """Override the data of the recipe by that of the command line."""
    if motion:
        overrides.setdefault("data", {})["motion"] = [str(path) for path in motion]
    if data is not None:
        overrides.setdefault("dataset", {})["folder"] = str(data)
    if unlabelled:
        semi = overrides.setdefault("semi", {})
        semi["unlabelled"] = [str(path) for path in unlabelled]
        semi.setdefault("subjects", [])


def run(
    config: TrainConfig,
    out: Path,
    *,
    device: str,
    resume: bool,
    start_from: Path | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train with a progress bar, plot the learning curve, print the path of the best weights."""
    from vp3d_cli.runtime.devices import torch_device
    from vp3d_cli.train.loop import train as train_loop
    from vp3d_cli.train.run_files import NOT_PLOTTED, plot_learning_curve

    with training_progress(threads, quiet) as bar:
        task = bar.add_task("training", total=None)

        def on_step(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"loss {loss:.4f}")

        def on_validation(row: dict[str, float]) -> None:
            errors = "  ".join(f"{name} {value:.1f}" for name, value in row.items() if name not in NOT_PLOTTED)
            line = f"step {row['step']:.0f}  loss {row['loss']:.4f}  {errors}  data {row['data_share']:.0%}"
            bar.console.print(line, soft_wrap=True)

        result = train_loop(
            config,
            out,
            device=str(torch_device(device)),
            resume=resume,
            start_from=start_from,
            on_step=on_step,
            on_validation=on_validation,
            on_note=None if quiet else print_warning,
        )
    if result.log.exists():
        plot_learning_curve(result.log, out / "curve.png")
    print_outcome(result.finished, result.best, out)
