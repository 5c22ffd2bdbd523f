"""The ffmpeg runs of :class:`VideoWriter`: encode raw frames, add sound, make a gif."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import ffmpeg

from vp3d_cli.errors import OutputError
from vp3d_cli.video import ffmpeg as program

# Clock of MPEG: a frame of 24, 25, 30, 30000/1001, 50 or 60 fps is a whole number of ticks.
TICKS_PER_S = 90000

# Encoding shares two cores with detection and drawing. CPU time per frame of a 1080p side-by-side video at crf 20, and
# size relative to veryfast: ultrafast 13 ms (4.4), superfast 18 ms (2.4), veryfast 21 ms (1), faster 33 ms (1.2),
# medium 43 ms (1.3). Without B frames veryfast takes 18 ms (1.4), and frames are stored in the order in which they are
# shown: varying times then need no edit list, which in ffmpeg's own mp4s hides the last frames.
_H264: dict[str, Any] = {"c:v": "libx264", "preset": "veryfast", "crf": 21, "bf": 0, "pix_fmt": "yuv420p"}
# Only a step on the way to a gif: no loss that is seen, and colour at full resolution for thin lines. Noise of the
# camera makes gifs large, and a higher crf leaves some of it out.
_H264_FOR_GIF: dict[str, Any] = {**_H264, "crf": 14, "pix_fmt": "yuv444p"}
# The fastest VP9 whose picture is as good as that of the H.264 above.
_VP9: dict[str, Any] = {
    "c:v": "libvpx-vp9", "deadline": "realtime", "cpu-used": 7, "row-mt": 1, "crf": 32, "b:v": 0, "pix_fmt": "yuv420p",
}  # fmt: skip
_MP4_OPTIONS: dict[str, Any] = {
    "video_track_timescale": TICKS_PER_S,
    "movflags": "+faststart",
    "use_editlist": 0,  # of a single frame ffmpeg 4 stores no duration, and then hides it by an empty edit list
}
# HD players take BT.709 for granted; ffmpeg would convert by BT.601. (The scaler's accurate_rnd would better colours by
# one level of 255, for 4 ms a frame at 1080p.)
_TO_YUV = (
    "scale=out_color_matrix=bt709:out_range=tv,format={pix_fmt},"
    "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
)
# ffmpeg before version 7 asks the options, later versions ask the frames.
_BT709 = {"color_range": "tv", "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
# Sound that players take inside an mp4; all else (Opus, Vorbis, PCM, FLAC) becomes AAC.
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac"})
_WEBM_AUDIO = frozenset({"opus", "vorbis"})
# A copy can only be cut between packets (21 ms in AAC): sound that starts later than this is encoded anew.
_AUDIO_COPY_TOLERANCE_S = 1e-3
# Browsers show a frame of less than 1/50 s for 1/10 s.
_GIF_MAX_FPS = 50.0
_GIF_COLORS = 128  # a fifth smaller than 256, which look the same in footage
_MICROSECOND_NS = 1000  # the unit of times in the stream of raw frames


class Encoder:
    """An ffmpeg that takes raw BGR frames with their times and writes H.264; VP9 if the file to write ends in .webm.

    Attributes:
        count: frames sent so far.
    """

    def __init__(
        self, target: Path, written_to: Path, size_wh: tuple[int, int], frame_s: float, *, for_gif: bool
    ) -> None:
        """Start ffmpeg.

        Args:
            target: the file that the user asked for, for messages.
            written_to: the file to write.
            size_wh: (width, height) of the frames; even unless for a gif.
            frame_s: how long the last frame is shown.
            for_gif: near lossless.

        Raises:
            MissingDependencyError: no ffmpeg.
            OutputError: it ended at once.
        """
        self.count = 0
        self._target = target
        # A file, not a pipe: nothing has to read it while ffmpeg runs.
        self._message_file = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        is_webm = written_to.suffix == ".webm"
        codec = _VP9 if is_webm else _H264_FOR_GIF if for_gif else _H264
        only = {"protocol_whitelist": "pipe", "format_whitelist": "matroska"}
        source = ffmpeg.input("pipe:", f="matroska", v="error", **only)
        encode = source.output(
            program.as_url(written_to),
            vf=_TO_YUV.format(**codec),
            enc_time_base=f"1:{TICKS_PER_S}",
            **({} if is_webm else _MP4_OPTIONS),
            **codec,
            **_BT709,
            **program.keep_timing_option(program.find_ffmpeg()),
        )
        self._process = program.start(
            program.command(encode), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._message_file
        )
        try:
            self._send(stream_header(size_wh, frame_s))
        except BaseException:
            self.stop()
            raise

    def write(self, time_s: float, image: memoryview) -> None:
        """Send a frame; waits while ffmpeg is behind.

        Raises:
            OutputError: ffmpeg died; the message has its reason.
        """
        self._send(frame_header(time_s, image.nbytes))
        self._send(image)
        self.count += 1

    def finish(self) -> None:
        """Let ffmpeg write its file to the end.

        Raises:
            OutputError: it could not.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        _check(self._target, self._process.returncode, self._messages())

    def stop(self) -> None:
        """End ffmpeg at once."""
        program.stop(self._process)
        self._message_file.close()

    def _send(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        try:
            while left and self._process.stdin is not None:
                left = left[self._process.stdin.write(left) :]
        except OSError:  # a broken pipe: ffmpeg is gone
            self._process.wait()
            raise _failed(self._target, self._process.returncode, self._messages()) from None

    def _messages(self) -> bytes:
        self._message_file.seek(0)
        return self._message_file.read()


def add_sound(
    target: Path, picture: Path, sound: Path, codec: str, span_s: tuple[float, float], written_to: Path
) -> None:
    """Put a stretch of the first sound track of ``sound`` beside the picture of ``picture``.

    Args:
        target: the file that the user asked for, for messages.
        picture: an mp4 or webm; its video is copied.
        sound: the file with the sound, of this codec.
        span_s: start and length in seconds, in the time of ``sound``.
        written_to: the file to write, of the same kind.

    Raises:
        OutputError: ffmpeg failed.
    """
    start_s, length_s = span_s
    seek = {"ss": f"{start_s:.6f}"} if start_s > _AUDIO_COPY_TOLERANCE_S else {}
    is_webm = written_to.suffix == ".webm"
    as_is = codec in (_WEBM_AUDIO if is_webm else _MP4_AUDIO) and not seek
    inputs = [
        program.source(picture, v="error"),
        program.source(sound, t=f"{length_s:.6f}", **seek),
    ]
    encoded = {"c:a": "libopus", "b:a": "128k"} if is_webm else {"c:a": "aac", "b:a": "160k"}
    audio = {"c:a": "copy"} if as_is else encoded
    options = {"c:v": "copy", **audio, **({} if is_webm else {"movflags": "+faststart"})}
    merged = ffmpeg.output(inputs[0]["v:0"], inputs[1]["a:0"], program.as_url(written_to), **options)
    _run(target, program.command(merged))


def make_gif(target: Path, picture: Path, fps: float, written_to: Path) -> None:
    """Turn an mp4 into a gif with a palette of its own, in two passes: one alone would keep all frames in memory.

    Raises:
        OutputError: ffmpeg failed.
    """
    palette = written_to.with_suffix(".palette.png")
    source = program.source(picture, v="error")
    # Differences between frames count more than a still background.
    colors = f"palettegen=stats_mode=diff:max_colors={_GIF_COLORS}"
    _run(target, program.command(source.output(program.as_url(palette), vf=colors, update=1)))
    if fps > _GIF_MAX_FPS:
        source = source.filter("fps", _GIF_MAX_FPS)
    # An ordered pattern does not crawl from frame to frame as error diffusion does.
    # A percent sign in a folder's name is no pattern.
    only = {"protocol_whitelist": "file", "format_whitelist": "image2"}
    colours = ffmpeg.input(program.as_url(palette), f="image2", pattern_type="none", **only)
    frames = ffmpeg.filter([source, colours], "paletteuse", dither="bayer", bayer_scale=5, diff_mode="rectangle")
    timing = program.keep_timing_option(program.find_ffmpeg())
    _run(target, program.command(frames.output(program.as_url(written_to), **timing)))


def _run(target: Path, arguments: list[str]) -> None:
    ran = program.run(arguments)
    _check(target, ran.returncode, ran.stderr)


def _check(target: Path, returncode: int, messages: bytes) -> None:
    # Some versions end with status 0 although the last write found the disk full.
    if returncode != 0 or b"No space left" in messages:
        raise _failed(target, returncode, messages)


def _failed(target: Path, returncode: int, messages: bytes) -> OutputError:
    if b"No space left" in messages:
        return OutputError(f"cannot write {target}: no space left on its disk; free some, or write elsewhere")
    why = program.reason(messages, returncode)
    return OutputError(f"cannot write {target}: ffmpeg failed ({why}); check its folder, or write elsewhere")


# Raw frames with their times as a Matroska stream: what tells ffmpeg the time of each frame that comes through a pipe.
# Only what that needs, after RFC 9559 (Matroska) and RFC 8794 (EBML, its binary form).


def stream_header(size_wh: tuple[int, int], frame_s: float) -> bytes:
    """The start of a stream of uncompressed BGR frames.

    Args:
        size_wh: (width, height) in pixels.
        frame_s: how long a frame is shown, for the last one.
    """
    width, height = size_wh
    ebml = _number("42F7", 1) + _element("4282", b"matroska") + _number("4287", 4) + _number("4285", 2)
    info = _number("2AD7B1", _MICROSECOND_NS) + _element("4D80", b"vp3d") + _element("5741", b"vp3d")
    # The colour space is the four letters that AVI has for 24 bits of blue, green, red.
    video = _number("B0", width) + _number("BA", height) + _element("2EB524", b"BGR\x18")
    track = (
        _number("D7", 1)  # number
        + _number("73C5", 1)  # unique number
        + _number("83", 1)  # of type video
        + _number("23E383", max(1, round(frame_s * 1e9)))  # default duration
        + _element("86", b"V_UNCOMPRESSED")
        + _element("E0", video)
    )
    unknown_size = b"\x01" + b"\xff" * 7
    return (
        _element("1A45DFA3", ebml)
        + bytes.fromhex("18538067")
        + unknown_size
        + _element("1549A966", info)
        + _element("1654AE6B", _element("AE", track))
    )


def frame_header(time_s: float, frame_bytes: int) -> bytes:
    """What goes before the bytes of a frame.

    Each has a cluster of its own: within one, times are 16-bit numbers, which is 32 ms in microseconds.
    """
    time = _number("E7", round(time_s * 1e6))
    block = b"\x81" + b"\x00\x00" + b"\x80"  # track 1, at the cluster's time, a key frame
    block_size = len(block) + frame_bytes
    simple_block = b"\xa3" + _size(block_size)
    cluster_size = len(time) + len(simple_block) + block_size
    return bytes.fromhex("1F43B675") + _size(cluster_size) + time + simple_block + block


def _element(identity: str, content: bytes) -> bytes:
    return bytes.fromhex(identity) + _size(len(content)) + content


def _number(identity: str, value: int) -> bytes:
    return _element(identity, struct.pack(">Q", value))


def _size(count: int) -> bytes:
    return struct.pack(">Q", count | 1 << 56)  # eight bytes, the first of which says so
