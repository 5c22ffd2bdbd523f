"""``vp3d weights``: list, verify, add and export weight files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp3d_cli.cli.common import AsJson, Overwrite, format_table, print_error, print_warning
from vp3d_cli.errors import WeightsError

if TYPE_CHECKING:
    from vp3d_cli.weights import WeightFile

weights_app = typer.Typer(help="List, check, add and export weight files.", no_args_is_help=True, rich_markup_mode=None)


@weights_app.command("list")
def weights_list(as_json: AsJson = False) -> None:
    """List the weights that ship with vp3d and your own.

    \b
    vp3d weights list
    """
    from vp3d_cli.weights import list_weights

    entries = list_weights()
    if as_json:
        print(json.dumps([{**asdict(e), "path": str(e.path), "present": e.present} for e in entries], indent=2))
        return
    rows = [("name", "kind", "MB", "licence", "trained on", "from")]
    for entry in entries:
        origin = "vp3d" if entry.bundled else "you"
        place = origin if entry.present else f"{origin}, {entry.state}"
        rows.append(
            (
                entry.name,
                entry.kind,
                f"{entry.bytes / 1e6:.1f}" if entry.bytes else "?",
                entry.licence,
                entry.trained_on,
                place,
            )
        )
    print(format_table(rows, right=(2,)))


@weights_app.command("verify")
def weights_verify() -> None:
    """Check the sha256 of every weight file.

    Exit status 1 if one differs from its manifest.

    \b
    vp3d weights verify
    """
    from vp3d_cli.weights import verify_weights

    results = verify_weights()
    for entry, problem in results:
        if problem is None:
            print(f"{entry.state:24s} {entry.name}")
    problems = [problem for _, problem in results if problem is not None]
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(1)


@weights_app.command("add")
def weights_add(
    file: Annotated[Path, typer.Argument(help="The weight file; it is copied.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option(help="Name for --lifter or --detector.  [default: the file's name]", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="detector, pose or trajectory.  [default: read from the file]", show_default=False),
    ] = None,
    skeleton_2d: Annotated[
        str | None,
        typer.Option(help="Keypoints that a VideoPose3D checkpoint takes.  [default: by its name]", show_default=False),
    ] = None,
    causal: Annotated[bool, typer.Option("--causal", help="The VideoPose3D checkpoint is causal.")] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1000,
            help="Frames per second that a VideoPose3D checkpoint was trained at.  [default: 50; HumanEva 60]",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.", show_default=False)] = None,
    source: Annotated[str, typer.Option(help="Origin of the weights.  [default: the path]")] = "",
    trained_on: Annotated[str | None, typer.Option(help="Training data of the weights.", show_default=False)] = None,
    overwrite: Overwrite = False,
) -> None:
    """Add weights of your own.

    Other commands take them by their name.

    \b
    vp3d weights add runs/best.safetensors --name mine
    vp3d weights add pretrained_h36m_cpn.bin
    vp3d infer video.mp4 --lifter pretrained_h36m_cpn

    A checkpoint of VideoPose3D (.bin) is converted: only its tensors are read, nothing in it is run. Its trajectory
    model, if it has one, is added as NAME-trajectory; --kind trajectory adds it alone, as NAME.
    """
    from vp3d_cli.weights import KINDS

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}", param_hint="--kind")
    foreign = kind != "detector" and file.suffix != ".safetensors"
    if not foreign and (causal or skeleton_2d is not None or rate is not None):
        raise typer.BadParameter("--causal, --skeleton-2d and --rate describe checkpoints of VideoPose3D (.bin)")
    said: dict[str, Any] = {
        key: text for key, text in (("licence", licence), ("trained_on", trained_on)) if text is not None
    }
    if foreign:
        from vp3d_cli.paper.official_checkpoints import add_official

        described: dict[str, Any] = {"skeleton_2d": skeleton_2d, "causal": causal, "rate_hz": rate}
        entries = add_official(
            file, name or file.stem, only=kind, source=source, overwrite=overwrite, **described, **said
        )
    else:
        entries = [_add_own(file, name or file.stem, kind, source=source, overwrite=overwrite, **said)]
    for entry in entries:
        print(entry.path)


def _add_own(file: Path, name: str, kind: str | None, **options: Any) -> WeightFile:
    """Add a detector's file as it is, or a lifter file, which says what it is."""
    from vp3d_cli.weights import add_weights

    if kind != "detector" and file.is_file():
        from vp3d_cli.lift.checkpoint import read_lifter_info

        task = read_lifter_info(file).task
        if kind not in (None, task):
            raise WeightsError(f"{file} is a {task} model, not a {kind} model; leave out --kind")
        kind = task
    return add_weights(file, name, kind=kind or "pose", **options)


@weights_app.command("export")
def weights_export(
    name: Annotated[str, typer.Argument(help="A lifter: its name, or a file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    format: Annotated[str, typer.Option(help="videopose3d or onnx.")] = "videopose3d",
    trajectory: Annotated[
        str | None, typer.Option(help="A trajectory lifter to put beside it; with videopose3d.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a lifter.

    As a checkpoint of VideoPose3D, for its run.py --evaluate, or as an ONNX model.

    \b
    vp3d weights export mine --format videopose3d --out mine.bin
    vp3d weights export default --format onnx --out default.onnx

    VideoPose3D can run temporal lifters on screen coordinates without confidence, and trajectory lifters that answer in
    metres, which only its own do. ONNX takes any temporal lifter; the model's metadata has the input rule.
    """
    if format not in ("videopose3d", "onnx"):
        raise typer.BadParameter(f"{format!r} is neither videopose3d nor onnx", param_hint="--format")
    from vp3d_cli.io.atomic import check_target

    if format == "onnx":
        if trajectory is not None:
            raise typer.BadParameter("belongs to --format videopose3d", param_hint="--trajectory")
        from vp3d_cli.lift.lifter import export_onnx

        export_onnx(name, out, overwrite=overwrite)
        print(out)
        return
    from vp3d_cli.paper.official_checkpoints import load_part, options_not_stored, write_official

    check_target(out, overwrite)
    beside = None if trajectory is None else load_part(trajectory, "trajectory")
    lifter = load_part(name, "pose")
    write_official(out, lifter, beside, overwrite=overwrite)
    if options := options_not_stored(out.stem, lifter[1]):
        print_warning(
            f"VideoPose3D's format does not say everything; if it comes back: vp3d weights add {out} "
            f"{' '.join(options)}"
        )
    print(out)
