"""Find ffmpeg and run it: quietly, away from the terminal's Ctrl-C, and with its reason when it fails."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg

from vp3d_cli.errors import MissingDependencyError

# Every frame crosses a pipe; the default of 64 KiB costs a hundred context switches per frame of HD video, and
# 1 MiB is the most that Linux grants an ordinary user (/proc/sys/fs/pipe-max-size).
PIPE_BYTES = 1 << 20
FFMPEG_VARIABLE = "VP3D_FFMPEG"

_LINE_PREFIX = re.compile(r"^(\[[^\]]* @ [^\]]*\]\s*)*(Error opening input: )?")
# What ffmpeg says after the reason (a filter and an encoder that got no frame), and what it says of every run.
_SAYS_NOTHING = re.compile(
    r"^(Conversion failed|Error opening (input|output) files?\b|At least one output file|Stream map ''"
    r"|Cannot determine format of input|Could not open encoder before EOF"
    r"|Error marking filters as finished|Nothing was written|Task finished with error|Terminating thread|Last message repeated|\s*$)"
)


def find_ffmpeg() -> str:
    """Path of the ffmpeg program: ``$VP3D_FFMPEG``, else that of the package imageio-ffmpeg, else the one on PATH.

    The package's is newer than that of most systems: those of Debian 12 and Ubuntu 22.04 fail on some damaged files.

    Raises:
        MissingDependencyError: there is none, or ``VP3D_FFMPEG`` names no program.
    """
    chosen = os.environ.get(FFMPEG_VARIABLE)
    if chosen:
        path = shutil.which(os.path.expanduser(chosen))
        if path is None:
            raise MissingDependencyError(f"{FFMPEG_VARIABLE}={chosen}: no such program; correct or unset the variable")
        return path
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise MissingDependencyError(
            "no ffmpeg in the package imageio-ffmpeg for this system and none on PATH; "
            "install ffmpeg (Debian, Ubuntu: apt install ffmpeg)"
        ) from None


@functools.cache
def keep_timing_option(program: str) -> dict[str, str]:
    """The output option of this ffmpeg that neither repeats nor drops frames.

    ``-fps_mode`` came with ffmpeg 5.1 (Ubuntu 22.04 has 4.4) and ``-vsync`` went with ffmpeg 9. Builds from git carry
    no version number and are taken as new.
    """
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", run([program, "-version"]).stdout.decode("utf-8", "replace"))
    if version and (int(version[1]), int(version[2])) < (5, 1):
        return {"vsync": "passthrough"}
    return {"fps_mode": "passthrough"}


def command(*outputs: Any) -> list[str]:
    """The command line for one or more ffmpeg-python outputs, overwriting without a question."""
    graph = ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]
    return [str(part) for part in graph.compile(cmd=find_ffmpeg(), overwrite_output=True)]


def run(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg to its end; the caller looks at ``returncode``, ``stdout`` and ``stderr``.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    try:
        # A session of its own: Ctrl-C reaches vp3d alone, which then ends ffmpeg and removes what is unfinished.
        return subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
        )
    except OSError as error:
        raise _cannot_start(arguments[0], error) from None


def start(arguments: list[str], *, stdin: int, stdout: int, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start ffmpeg with unbuffered pipes.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    try:
        process = subprocess.Popen(
            arguments, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=0, start_new_session=True
        )
    except OSError as error:
        raise _cannot_start(arguments[0], error) from None
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            _enlarge(pipe)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End ffmpeg at once, if it still runs, and close our ends of its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what was not flushed is not wanted
                pipe.close()


def reason(stderr: bytes, returncode: int) -> str:
    """The last line of ffmpeg's own words that says why it failed, without its address in memory."""
    lines = [_LINE_PREFIX.sub("", line).strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    telling = [line for line in lines if not _SAYS_NOTHING.match(line)]
    if returncode < 0:
        return f"ffmpeg was ended by signal {-returncode}"
    return telling[-1].rstrip(".") if telling else f"ffmpeg gave no reason, status {returncode}"


def as_url(path: Path) -> str:
    """The path so that ffmpeg takes none of it for a protocol, an option or a pattern."""
    return f"file:{path.absolute()}"


def _cannot_start(program: str, error: OSError) -> MissingDependencyError:
    return MissingDependencyError(f"ffmpeg at {program} cannot be started: {error.strerror}; install ffmpeg anew")


def _enlarge(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # only speed: the system may hold us to less
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
