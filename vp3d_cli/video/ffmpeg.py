"""Find and run ffmpeg safely: allowed demuxers, resource limits, no output.

ffmpeg never runs longer than this process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import ffmpeg
import imageio_ffmpeg

from vp3d_cli.errors import MissingDependencyError
from vp3d_cli.video.images import max_pixels

# Every frame crosses a pipe; the default of 64 KiB costs a hundred context switches per frame of HD video, and
# 1 MiB is the most that Linux grants an ordinary user (/proc/sys/fs/pipe-max-size).
PIPE_BYTES = 1 << 20
FFMPEG_VARIABLE = "VP3D_FFMPEG"
# Demuxers of containers and of raw video streams. Left out are all that open other files or URLs (hls, dash, concat,
# sdp, imf, image2), that draw text (tty), or that accept almost anything. Sound is in the list to be told apart.
DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,webp_anim,nut,mxf,gxf,dv,rm,wtv,ivf,obu,h263,h264,hevc,"
    "vvc,m4v,mjpeg,vc1,yuv4mpegpipe,mp3,wav,w64,aac,flac,aiff,caf,amr,ac3,eac3"
)
# The data of ffmpeg while it looks at a file; the largest real need seen is 0.6 GB (8K HEVC).
PROBE_BYTES = 2 << 30
# A decoder keeps up to 16 reference frames and has up to 16 threads, each with a frame.
_FRAMES_IN_DECODER = 40
# Looking at a file takes well under a second; a slow network disk may take longer.
_PROBE_S = 40.0
# Reading all packets of a file: slower disks than this are not waited for.
_SLOWEST_BYTES_PER_S = 2e6

_FILE = "file:"
# Stands for the name of a file that is not UTF-8, with the bytes of the name behind it.
_ODD_NAME = "file:vp3d-name-in-hex:"
_LINE_PREFIX = re.compile(r"^(\[[^\]]* @ [^\]]*\]\s*)*(Error opening input: )?")
# What ffmpeg says after the reason (a filter and an encoder that got no frame), and what it says of every run.
_SAYS_NOTHING = re.compile(
    r"^(Conversion failed|Error opening (input|output) files?\b|At least one output file|Stream map ''"
    r"|Cannot determine format of input|Could not open encoder before EOF"
    r"|Nothing was written|Task finished with error|Error marking filters as finished|Terminating thread"
    r"|Last message repeated|\s*$)"
)
# Runs in the new process before it becomes ffmpeg: the kernel ends it when the thread that started it ends, however
# that comes (1 is PR_SET_PDEATHSIG, 9 SIGKILL); its data is limited. A preexec_fn could deadlock: we have threads.
_LAUNCHER = """
import ctypes, os, resource, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): os._exit(1)
limit = int(sys.argv[2])
if limit: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try: os.execv(sys.argv[3], sys.argv[3:])
except OSError as error: sys.exit(f"{sys.argv[3]}: {error.strerror}")
"""


def find_ffmpeg() -> str:
    """Return the path of the ffmpeg program.

    It is ``$VP3D_FFMPEG``, else that of the package imageio-ffmpeg, else the one on PATH.

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


def source(path: Path, **options: Any) -> Any:
    """Return an ffmpeg-python input for a local file.

    Only :data:`DEMUXERS` are allowed, and pictures below the limit on pixels.
    """
    limits = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_pixels": max_pixels()}
    return ffmpeg.input(as_url(path), **limits, **options)


def command(*outputs: Any) -> list[str]:
    """The command line for one or more ffmpeg-python outputs, overwriting without a question."""
    graph = ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]
    parts = [str(part) for part in graph.compile(cmd=find_ffmpeg(), overwrite_output=True)]
    return [_FILE + _from_hex(part.removeprefix(_ODD_NAME)) if part.startswith(_ODD_NAME) else part for part in parts]


def decoder_bytes(size_wh: tuple[int, int]) -> int:
    """Limit on the data of an ffmpeg that decodes frames of this size."""
    return PROBE_BYTES + _FRAMES_IN_DECODER * 3 * size_wh[0] * size_wh[1]


def probe(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg on a file that nobody vouches for, with limits on time and memory.

    One that takes too long is ended; its ``returncode`` is that of a process ended by a signal, and ``stderr`` ends
    in a sentence that says so.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    return run(arguments, time_s=_PROBE_S, data_bytes=PROBE_BYTES)


def run(
    arguments: list[str], *, time_s: float | None = None, data_bytes: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg to its end; the caller looks at ``returncode``, ``stdout`` and ``stderr``.

    Args:
        arguments: the command line.
        time_s: ended after so many seconds; None for no limit.
        data_bytes: limit on its memory; 0 for none.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    pipe = subprocess.PIPE
    process = start(arguments, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, data_bytes=data_bytes)
    said, words = b"", b""
    try:
        said, words = process.communicate(timeout=time_s)
    except subprocess.TimeoutExpired:
        process.kill()
        said, words = process.communicate()
        words += f"\nffmpeg did not come to an end in {time_s:g} s".encode()
    finally:
        stop(process)
    return subprocess.CompletedProcess(arguments, process.returncode, said, words)


def read_lines(arguments: list[str], size_bytes: int, take: Callable[[bytes], bool]) -> tuple[bytes, int]:
    """Run ffmpeg and hand over each line of its output at once, so that none has to be kept.

    Args:
        arguments: the command line.
        size_bytes: size of the file that it reads; sets the limit on time.
        take: called with each line; ffmpeg is ended when it returns False.

    Returns:
        Its messages and its exit status.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    pipe = subprocess.PIPE
    process = start(arguments, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, data_bytes=PROBE_BYTES)
    assert process.stdout is not None
    assert process.stderr is not None
    timer = threading.Timer(_PROBE_S + size_bytes / _SLOWEST_BYTES_PER_S, process.kill)
    timer.daemon = True
    words = _Collected(process.stderr)
    try:
        timer.start()
        words.start()
        with open(process.stdout.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if not take(line):
                    process.kill()
                    break
        status = process.wait()
    finally:
        timer.cancel()
        process.kill()
        words.join()
        stop(process)
    return words.text, status


class _Collected(threading.Thread):
    """Reads a pipe to its end in a thread, and keeps the last 64 KiB."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(name="vp3d-ffmpeg-messages", daemon=True)
        self.text = b""
        self._pipe = pipe

    def run(self) -> None:
        while data := self._pipe.read(1 << 16):
            self.text = (self.text + data)[-(1 << 16) :]


def start(
    arguments: list[str], *, stdin: int, stdout: int, stderr: int | IO[bytes], data_bytes: int = 0
) -> subprocess.Popen[bytes]:
    """Start ffmpeg with unbuffered pipes.

    On Linux it ends with the thread that calls this, for whatever reason that ends.

    Args:
        arguments: the command line.
        stdin, stdout, stderr: as for :class:`subprocess.Popen`.
        data_bytes: limit on its memory (Linux); 0 for none.

    Raises:
        MissingDependencyError: the program cannot be started.
    """
    program = shutil.which(arguments[0])
    if program is None:
        raise _cannot_start(arguments[0], "not an executable file")
    try:
        # A session of its own: Ctrl-C reaches vp3d alone, which then ends ffmpeg and removes what is unfinished.
        process = subprocess.Popen(
            _launched([program, *arguments[1:]], data_bytes),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise _cannot_start(arguments[0], error.strerror or str(error)) from None
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            _enlarge(pipe)
    return process


def _launched(arguments: list[str], data_bytes: int) -> list[str]:
    if sys.platform != "linux" or not sys.executable:
        return arguments
    # Isolated and without site: it starts in 10 ms, and nothing in the working folder can change what it runs.
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(data_bytes), *arguments]


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
    """Return the last line of ffmpeg's output that says why it failed.

    Memory addresses are removed.
    """
    lines = [_LINE_PREFIX.sub("", line).strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    telling = [line for line in lines if not _SAYS_NOTHING.match(line)]
    if telling and telling[-1].startswith("ffmpeg did not come to an end"):
        return telling[-1]
    if returncode < 0:
        return f"ffmpeg was ended by signal {-returncode}"
    return telling[-1].rstrip(".") if telling else f"ffmpeg gave no reason, status {returncode}"


def as_url(path: Path) -> str:
    """The path so that ffmpeg takes none of it for a protocol, an option or a pattern."""
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:  # ffmpeg-python cannot take it: command() puts the name in
        return _ODD_NAME + os.fsencode(name).hex()
    return _FILE + name


def _from_hex(text: str) -> str:
    return os.fsdecode(bytes.fromhex(text))


def _cannot_start(program: str, why: str) -> MissingDependencyError:
    return MissingDependencyError(f"ffmpeg at {program} cannot be started: {why}; install ffmpeg again")


def _enlarge(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # only speed: the system may hold us to less
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
