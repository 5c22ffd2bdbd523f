"""The ``vp3d`` command: puts the commands together, and turns errors and signals into one line and an exit status.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 nobody found in the video, 130 Ctrl-C, 143 terminated, 129 the
terminal was closed, 141 the reader of our output has left.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vp3d_cli import __version__
from vp3d_cli.cli import (
    analyze,
    angles,
    batch,
    data,
    detect,
    detectors,
    evaluate,
    export,
    infer,
    info,
    lift,
    machine,
    plot,
    render,
    report,
    reproduce,
    train,
    train_detector,
    view,
    weights,
)
from vp3d_cli.cli.common import print_error, with_new_names
from vp3d_cli.cli.console import console
from vp3d_cli.errors import Vp3dError
from vp3d_cli.io.atomic import protect
from vp3d_cli.runtime.devices import INSTALL_TORCH

DEBUG_VARIABLE = "VP3D_DEBUG"
MEGAPIXELS_OPTION = "--max-megapixels"
MEGAPIXELS_VARIABLE = "VP3D_MAX_MEGAPIXELS"  # as vp3d_cli/video/images.py reads it
# Parameters of commands that name what is written; files that any other names are read.
WRITTEN = frozenset({"out", "render", "preview", "json_out", "plot"})
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_PIPE = 141  # 128 + SIGPIPE, as a shell shows for a program that wrote to a pipe whose reader had left


class Vp3dGroup(TyperGroup):
    """The top-level command: takes ``--debug`` anywhere, and reports what vp3d raises on purpose on one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the options of all commands to the front: people add them to the end of the line that just failed."""
        end = args.index("--") if "--" in args else len(args)
        before, after = args[:end], args[end:]
        if "--debug" in before:
            before = ["--debug", *(a for a in before if a != "--debug")]
        for at in [i for i, a in enumerate(before) if a.partition("=")[0] == MEGAPIXELS_OPTION]:
            taken = before[at : at + (1 if "=" in before[at] else 2)]
            before = [*taken, *before[:at], *before[at + len(taken) :]]
        args = [*with_new_names(before), *after]
        ctx.obj = shlex.join(["vp3d", *args])  # for the provenance of results
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Vp3dError as error:
            print_error(error)
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            print_error(f"vp3d {ctx.invoked_subcommand} needs torch here, which is not installed; try: {INSTALL_TORCH}")
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stopped:
            print_error(f"stopped by Ctrl-C; {stopped}" if str(stopped) else "stopped by Ctrl-C")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="vp3d",
    cls=Vp3dGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs a third of the time that --help may take
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vp3d {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error comes from.")] = False,
    max_megapixels: Annotated[
        float | None,
        typer.Option(
            MEGAPIXELS_OPTION,
            help="Largest image or frame that is decoded.  [default: 100]",
            min=0.01,
            max=2000,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Turn videos of people into 3D motion.

    \b
    vp3d infer video.mp4 --out pose.npz --render side.mp4
    """
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    if max_megapixels is not None:  # in the environment, where the processes that we start find it too
        os.environ[MEGAPIXELS_VARIABLE] = str(max_megapixels)


app.command("infer")(infer.infer)
app.command("detect")(detect.detect)
app.command("lift")(lift.lift)
app.command("batch")(batch.batch)
app.command("render")(render.render)
app.command("export")(export.export)
app.command("info")(info.info)
app.command("view")(view.view)
app.command("report")(report.report)
app.command("angles")(angles.angles)
app.command("analyze")(analyze.analyze)
app.command("plot")(plot.plot)
app.command("detectors")(detectors.detectors)
app.add_typer(weights.weights_app, name="weights")
app.add_typer(data.data_app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("reproduce")(reproduce.reproduce)
app.command("train-detector")(train_detector.train_detector)
app.command("doctor")(machine.doctor)
app.command("bench")(machine.bench)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the stack: children are stopped and temporary files removed on the way out.
    raise SystemExit(128 + signal_number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends in ``SystemExit``.

    Args:
        arguments: what follows ``vp3d``; by default the process's own.
    """
    os.environ.pop(DEBUG_VARIABLE, None)
    # The libraries under OpenCV and ONNX Runtime write to stderr by themselves, beside our one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    # Else Python, as it ends, searches all objects of all libraries for garbage: most of the time that Ctrl-C takes.
    atexit.register(gc.freeze)
    with console(debug="--debug" in (sys.argv if arguments is None else arguments)):
        _run(arguments)


def _run(arguments: Sequence[str] | None) -> None:
    command = typer.main.get_command(app)
    _protect_inputs(command)
    try:
        try:
            command(arguments, prog_name="vp3d")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(EXIT_PIPE) from None
    except Exception as error:
        print_error(describe(error) + ("" if os.environ.get(DEBUG_VARIABLE) else "; add --debug to see where"))
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        raise SystemExit(1) from error


def _protect_inputs(command: Any) -> None:
    """Make every command refuse to replace a file that it reads, whatever its options are called."""
    for inner in getattr(command, "commands", {}).values():
        _protect_inputs(inner)
    function = command.callback
    if function is None or hasattr(command, "commands"):
        return

    @functools.wraps(function)
    def protected(*args: Any, **values: Any) -> Any:
        read = [value for name, value in values.items() if name not in WRITTEN]
        flat = [one for value in read for one in (value if isinstance(value, list | tuple) else [value])]
        protect(one for one in flat if isinstance(one, str | os.PathLike))
        return function(*args, **values)

    command.callback = protected


def describe(error: Exception) -> str:
    """What to tell the user of an error that vp3d did not raise on purpose."""
    if isinstance(error, MemoryError):
        return "there is not enough memory; close other programs, or work on a smaller file"
    if isinstance(error, RecursionError):
        return "a file is nested too deeply to be read"
    if isinstance(error, OSError):
        named = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{named}{error.strerror or error}"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "there is no home folder; set HOME, or VP3D_HOME to a folder for weights"
    return f"unexpected {type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1:])
