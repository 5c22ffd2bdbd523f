"""The ``vp3d`` command: puts the commands together, and turns errors and signals into one line and an exit status.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 nobody found in the video, 130 Ctrl-C, 143 terminated.
"""

from __future__ import annotations

import atexit
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
from vp3d_cli.cli import batch, data, evaluate, files, infer, machine, models, reproduce, train, train_detector
from vp3d_cli.cli.common import print_error
from vp3d_cli.errors import Vp3dError
from vp3d_cli.runtime.devices import INSTALL_TORCH

DEBUG_VARIABLE = "VP3D_DEBUG"
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class Vp3dGroup(TyperGroup):
    """The top-level command: takes ``--debug`` anywhere, and reports what vp3d raises on purpose on one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move ``--debug`` to the front: people add it to the end of the line that just failed."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(a for a in args[:end] if a != "--debug"), *args[end:]]
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
) -> None:
    """Turn videos of people into 3D motion.

    \b
    vp3d infer video.mp4 --out pose.npz --render side.mp4
    """
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


app.command("infer")(infer.infer)
app.command("batch")(batch.batch)
app.command("render")(files.render)
app.command("info")(files.info)
app.command("detectors")(models.detectors)
app.add_typer(models.weights_app, name="weights")
app.add_typer(data.data_app, name="data")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("reproduce")(reproduce.reproduce)
app.command("train-detector")(train_detector.train_detector)
app.command("doctor")(machine.doctor)
app.command("bench")(machine.bench)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    # SystemExit unwinds the stack: children are stopped and temporary files removed on the way out.
    raise SystemExit(EXIT_TERMINATED)


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
    # Else Python, as it ends, searches all objects of all libraries for garbage: most of the time that Ctrl-C takes.
    atexit.register(gc.freeze)
    try:
        app(arguments, prog_name="vp3d")
    except Exception as error:
        # Nothing that vp3d raises on purpose comes here: this is a fault of ours, or of the machine.
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        hint = "" if os.environ.get(DEBUG_VARIABLE) else "; add --debug to see where"
        print_error(f"unexpected {type(error).__name__}: {error}{hint}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main(sys.argv[1:])
