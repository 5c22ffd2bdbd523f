"""The command ``vp3d train-detector``: trains a detector on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vp3d_cli.cli import options
from vp3d_cli.cli.common import Quiet
from vp3d_cli.cli.training_progress import print_outcome, training_progress

if TYPE_CHECKING:
    from vp3d_cli.paper.cpn.training import CpnTraining

DETECTORS = ("cpn",)
DEPTHS = (50, 101)


def train_detector(
    detector: Annotated[str, typer.Argument(help="Detector to train: cpn.", show_default=False)],
    annotations: Annotated[
        Path, typer.Option(help="JSON file in COCO's annotation format.", metavar="FILE", show_default=False)
    ],
    images: Annotated[Path, typer.Option(help="Folder of the images.", metavar="DIR", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder for weights, state and log of the run.", metavar="DIR", show_default=False)
    ],
    depth: Annotated[int, typer.Option(help="Depth of the ResNet: 50 or 101.")] = 50,
    size: Annotated[str, typer.Option(help="Height x width of the input: 256x192 or 384x288.")] = "256x192",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 150_000,
    batch: Annotated[int, typer.Option(min=2, help="People per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of Adam, halved five times over the run.")] = 5e-4,
    held_out: Annotated[float, typer.Option(help="Share of the images for validation.")] = 0.05,
    augment: Annotated[bool, typer.Option(help="Augment the crops: rotation, scale, mirroring, colour.")] = True,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 2_000,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Weights to start from: a CPN, or torchvision's ResNet.", metavar="FILE", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    device: options.Device = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare images.")] = 0,
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train or fine-tune a detector.

    On images of labelled people.

    \b
    vp3d train-detector cpn --annotations person_keypoints_train2017.json --images train2017 --out runs/cpn
    vp3d train-detector cpn --annotations mine.json --images frames --out runs/mine --start-from CPN50_256x192.pth.tar
    vp3d infer video.mp4 --detector cpn:weights=runs/mine/best.safetensors

    Ctrl-C saves the run, and --resume continues it with the same result. Prints the path of the best weights.
    """
    if detector not in DETECTORS:
        raise typer.BadParameter(f"{detector!r} cannot be trained; choose {', '.join(DETECTORS)}")
    if depth not in DEPTHS:
        raise typer.BadParameter(f"invalid depth {depth}: use 50 or 101", param_hint="--depth")
    from vp3d_cli.detect.cpn.network import CpnConfig
    from vp3d_cli.paper.cpn.training import CpnTraining

    config = CpnTraining(
        network=CpnConfig.resnet(depth),
        size=size,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        held_out=held_out,
        augment=augment,
        validate_every=validate_every,
        workers=workers,
        seed=seed,
    )
    run(config, annotations, images, out, device, resume=resume, start_from=start_from, threads=threads, quiet=quiet)


def run(
    config: CpnTraining,
    annotations: Path,
    images: Path,
    out: Path,
    device: str,
    *,
    resume: bool,
    start_from: Path | None,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train with a progress bar, and print the path of the best weights."""
    from vp3d_cli.paper.cpn.training import train_cpn
    from vp3d_cli.runtime.devices import torch_device

    with training_progress(threads, quiet) as bar:
        task = bar.add_task("training", total=config.steps)

        def on_step(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, description=f"loss {loss:.1f}")

        def on_validation(row: dict[str, float]) -> None:
            bar.console.print(
                f"step {row['step']:.0f}  loss {row['loss']:.1f}  error {row['error_px']:.2f} px  "
                f"OKS {row['similarity']:.3f}"
            )

        result = train_cpn(
            annotations,
            images,
            out,
            config,
            device=str(torch_device(device)),
            resume=resume,
            start_from=start_from,
            on_step=on_step,
            on_validation=on_validation,
        )
    print_outcome(result.finished, result.best, out)
