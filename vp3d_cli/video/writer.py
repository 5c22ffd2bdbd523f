"""Encode frames to mp4 (H.264), webm (VP9) or gif, with the source's timing and sound."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, OutputError, ShapeError
from vp3d_cli.io.atomic import check_target, remove_leftovers, temporary_name
from vp3d_cli.types import DoubleArray, FrameBGR
from vp3d_cli.video.encoder import Encoder, add_sound, make_gif
from vp3d_cli.video.probe import examine

_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".gif"})
# Times closer than this are taken for a mistake; containers do not keep them apart.
_SHORTEST_FRAME_S = 1e-4


class VideoWriter:
    """Writes frames to a video file.

    Use it in a ``with`` statement::

        with VideoWriter("side.mp4", (1920, 1080), frame_times_s=times_s, audio_from="walk.mp4") as out:
            for image in images:
                out.write(image)

    mp4, m4v, mov: H.264 yuv420p that plays before it is wholly loaded; an odd width or height grows by one pixel, a
    repeat of the edge. webm: VP9, of which all times are rounded to 1/1000 s. gif: with a palette of its own, no sound,
    at most 50 fps; the format rounds times to 1/100 s.

    Timing, constant or not, is exact to 1/90000 s. The raw frames go to ffmpeg as a Matroska stream (``encoder.py``),
    in which each has its own time, and ffmpeg is told to keep it; the first frame is at 0 in the output.

    All is written into a folder beside the target. When whole, the file takes the target's place; on any error the
    folder is removed and the target is as it was.
    """

    def __init__(
        self,
        path: str | Path,
        size_wh: tuple[int, int],
        *,
        fps: float | None = None,
        frame_times_s: Sequence[float] | NDArray[np.floating[Any]] | None = None,
        audio_from: str | Path | None = None,
        audio_offset_s: float = 0.0,
        overwrite: bool = False,
    ) -> None:
        """Check everything; nothing is written yet.

        Args:
            path: the file to write.
            size_wh: (width, height) of the frames in pixels.
            fps: frames per second of a constant rate; this or ``frame_times_s``.
            frame_times_s: time of each frame to come in seconds of the source's own time, increasing.
            audio_from: a video whose first sound track, if it has one, is taken along, cut to the frames' span: from
                the first frame's time (0 with ``fps``) to the end of the last frame.
            audio_offset_s: added to the frames' times to give times in ``audio_from``.
            overwrite: replace a file that exists.

        Raises:
            OutputError: the file exists, or its folder does not, or its name ends in something else.
            VideoError: ``audio_from`` cannot be read.
            ConfigError: both or neither of fps and times, times that do not increase, a size without pixels.
        """
        if min(size_wh) < 1:
            raise ConfigError(f"a video needs at least one pixel, got {size_wh[0]}x{size_wh[1]}")
        self.path = Path(path)
        self._size_wh = size_wh
        self._times_s, self._frame_s = _timing(fps, frame_times_s)
        self._overwrite = overwrite
        _check_target(self.path, overwrite)
        self._for_gif = self.path.suffix.lower() == ".gif"
        self._container = ".webm" if self.path.suffix.lower() == ".webm" else ".mp4"
        self._sound: tuple[Path, str] | None = None
        self._sound_start_s = audio_offset_s + (0.0 if self._times_s is None else float(self._times_s[0]))
        if audio_from is not None and not self._for_gif:
            codec = examine(audio_from).audio_codec
            self._sound = (Path(audio_from), codec) if codec else None
        self._folder: Path | None = None
        self._encoder: Encoder | None = None

    def __enter__(self) -> VideoWriter:
        if self._folder is not None:
            raise RuntimeError("a VideoWriter writes once; make another")
        try:
            remove_leftovers(self.path.parent)
            folder = temporary_name(self.path.parent)
            folder.mkdir(mode=0o700)
            self._folder = folder
        except OSError as error:
            raise OutputError(
                f"cannot write into the folder {self.path.parent}: {error.strerror}; choose another"
            ) from None
        try:
            self._encoder = Encoder(
                self.path, self._picture(self._folder), self._even_wh, self._frame_s, for_gif=self._for_gif
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._encoder is None or self._folder is None:
            return
        try:
            if kind is None:
                self._finish(self._encoder, self._folder)
        finally:
            self._encoder.stop()
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, image: FrameBGR) -> None:
        """Encode the next frame, (H, W, 3) BGR uint8; waits while the encoder is behind.

        Raises:
            ShapeError: the image has another size or type than the video.
            ConfigError: there are more frames than times.
            OutputError: the encoder died, for a full disk most likely; the message has its reason.
        """
        if self._encoder is None:
            raise RuntimeError("use a VideoWriter in a with statement")
        width, height = self._size_wh
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ShapeError(f"frame: expected uint8 ({height}, {width}, 3), got {image.dtype} {image.shape}")
        if self._times_s is not None and self._encoder.count >= len(self._times_s):
            raise ConfigError(f"{self.path}: more frames than the {len(self._times_s)} times that were given")
        even_width, even_height = self._even_wh
        if (even_width, even_height) != (width, height):
            image = cv2.copyMakeBorder(image, 0, even_height - height, 0, even_width - width, cv2.BORDER_REPLICATE)
        self._encoder.write(self._time_s(self._encoder.count), np.ascontiguousarray(image).data.cast("B"))

    @property
    def _even_wh(self) -> tuple[int, int]:
        """Size of the encoded picture: yuv420p has one colour for two by two pixels, a gif has one for each."""
        width, height = self._size_wh
        return (width, height) if self._for_gif else (width + width % 2, height + height % 2)

    def _picture(self, folder: Path) -> Path:
        """The file of the picture alone, before sound is added or a gif is made."""
        return folder / f"picture{self._container}"

    def _time_s(self, index: int) -> float:
        return index * self._frame_s if self._times_s is None else float(self._times_s[index] - self._times_s[0])

    def _finish(self, encoder: Encoder, folder: Path) -> None:
        if encoder.count == 0:
            raise OutputError(f"no frame was written to {self.path}, so there is no video; check the video's span")
        encoder.finish()
        picture = whole = self._picture(folder)
        if self._for_gif:
            whole = folder / "whole.gif"
            make_gif(self.path, picture, 1 / self._frame_s, whole)
        elif self._sound is not None:
            whole = folder / f"whole{self._container}"
            length_s = self._time_s(encoder.count - 1) + self._frame_s
            add_sound(self.path, picture, *self._sound, (self._sound_start_s, length_s), whole)
        _check_target(self.path, self._overwrite)  # someone else may have written it meanwhile
        try:
            os.replace(whole, self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; write elsewhere") from None


def _check_target(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"cannot write {path}: a video's name must end in .mp4, .m4v, .mov, .webm or .gif")
    check_target(path, overwrite)


def _timing(
    fps: float | None, frame_times_s: Sequence[float] | NDArray[np.floating[Any]] | None
) -> tuple[DoubleArray | None, float]:
    """The times, if they are given, and the mean time from frame to frame in seconds."""
    if (fps is None) == (frame_times_s is None):
        raise ConfigError("a video needs either fps or frame_times_s, and not both")
    if fps is not None:
        if not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"fps must be a positive number, got {fps}")
        return None, 1 / fps
    times_s = np.asarray(frame_times_s, np.float64)
    if times_s.ndim != 1 or len(times_s) == 0 or not np.isfinite(times_s).all():
        raise ConfigError(f"frame_times_s must be a list of at least one finite time, got shape {times_s.shape}")
    gaps_s = np.diff(times_s)
    if (gaps_s < _SHORTEST_FRAME_S).any():
        where = int(np.argmax(gaps_s < _SHORTEST_FRAME_S))
        raise ConfigError(
            f"frame_times_s must increase, got {times_s[where]:g} s and then {times_s[where + 1]:g} s "
            f"(frame {where + 1})"
        )
    return times_s, float(gaps_s.mean()) if len(gaps_s) else 1 / 30
