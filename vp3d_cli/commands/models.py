"""``vp3d weights`` and ``vp3d detectors``: the models on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vp3d_cli.commands.common import AsJson, format_table, print_error

weights_app = typer.Typer(help="List, check and add weight files.", no_args_is_help=True, rich_markup_mode=None)


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
        place = origin if entry.present else f"{origin}, not fetched yet"
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
    """Compare every weight file with the sha256 in its manifest; exit status 1 if one differs.

    \b
    vp3d weights verify
    """
    from vp3d_cli.weights import verify_weights

    results = verify_weights()
    for entry, problem in results:
        if problem is None:
            print(f"{'ok' if entry.present else 'not fetched yet':15s} {entry.name}")
    problems = [problem for _, problem in results if problem is not None]
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(1)


@weights_app.command("add")
def weights_add(
    file: Annotated[Path, typer.Argument(help="The weight file; it is copied.", show_default=False)],
    name: Annotated[str, typer.Option(help="What --lifter or --detector will call it.", show_default=False)],
    kind: Annotated[str, typer.Option(help="detector, pose or trajectory.")] = "pose",
    licence: Annotated[str, typer.Option(help="Under which the weights may be used.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where they come from.  [default: the path]")] = "",
    trained_on: Annotated[str, typer.Option(help="The data that they were trained on.")] = "unknown",
) -> None:
    """Add weights of your own, under a name that other commands take.

    \b
    vp3d weights add runs/best.safetensors --name mine --kind pose
    vp3d infer video.mp4 --lifter mine
    """
    from vp3d_cli.weights import add_weights

    entry = add_weights(file, name, kind=kind, licence=licence, source=source, trained_on=trained_on)
    print(entry.path)


def detectors(as_json: AsJson = False) -> None:
    """List the detectors, and what those that are not usable here need.

    \b
    vp3d detectors
    vp3d infer video.mp4 --detector movenet-fast
    vp3d infer video.mp4 --detector cpn:weights=CPN50_384x288.pth.tar,boxes=movenet

    Options of a detector follow its name: NAME:KEY=VALUE,KEY=VALUE.
    """
    from vp3d_cli.detect.base import list_detectors

    infos = list_detectors().values()
    if as_json:
        fields = [
            {"name": i.name, "summary": i.summary, "licence": i.licence, "usage": i.usage, "problem": i.available()}
            for i in infos
        ]
        print(json.dumps(fields, indent=2))
        return
    rows = [("name", "usable", "licence", "what it is")]
    rows += [(i.name, "yes" if i.available() is None else "no", i.licence, i.summary) for i in infos]
    print(format_table(rows))
    for info in infos:
        if info.usage:
            print(f"--detector {info.usage}")
    for info in infos:
        if (problem := info.available()) is not None:
            print(f"{info.name}: {problem}")
