"""Stream the frames of a video: decoded in a background thread, a bounded number ahead of the consumer."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.types import Frame, VideoInfo
from vp3d_cli.video.ffmpeg_source import ffmpeg_frames
from vp3d_cli.video.frames import TimedFrames
from vp3d_cli.video.handover import Handover
from vp3d_cli.video.images import DEFAULT_IMAGE_FPS, image_frames
from vp3d_cli.video.opencv_source import open_first, opencv_frames
from vp3d_cli.video.probe import examine, read_packets

# Decoded frames that may wait for the consumer: enough for a detector's next batch at 1080p (6 MB a frame), and few
# enough at 4K.
_AHEAD_BYTES = 64 << 20
_AHEAD_FRAMES = (2, 32)
# Times given in seconds are compared with those of frames to a microsecond: 1/30 s is no decimal number.
_TIME_TOLERANCE_S = 1e-6
# An mp4 with a varying frame rate may last a few frames longer than it says.
_DURATION_SLACK_S = 1.0
# A gap at the end of more than so many frames makes us look whether the file was cut off.
_MISSING_FRAMES = 1.5


class VideoReader:
    """The frames of a video file or a folder of images, upright, with the file's own times.

    Use it in a ``with`` statement and iterate once::

        with VideoReader("walk.mp4", start_s=2.0) as video:
            for frame in video:
                ...
        print(video.warnings)

    Decoding runs ahead in a thread, by at most 32 frames or 64 MiB (but two frames); leaving the ``with`` statement,
    by an exception or not, ends the thread and any ffmpeg before it returns.

    Attributes:
        info: facts of the video.
        warnings: after iterating, a sentence for each thing that the user should know: the file was cut off,
            an image was skipped, times did not increase.
    """

    def __init__(
        self,
        path: str | Path,
        start_s: float = 0.0,
        end_s: float | None = None,
        *,
        image_fps: float = DEFAULT_IMAGE_FPS,
    ) -> None:
        """Look at the file; nothing is decoded yet.

        Args:
            path: a video file, or a folder of images (see :func:`probe_video`).
            start_s: the first frame is the first whose time is at least this.
            end_s: the last frame is the last whose time is below this; None for all.
            image_fps: frames per second of a folder of images.

        Raises:
            VideoError: the file is missing or not a video, or ends before ``start_s``.
            ConfigError: the times are negative, not finite or in the wrong order.
        """
        if not (math.isfinite(start_s) and start_s >= 0):
            raise ConfigError(f"the start must be 0 or a positive number of seconds, got {start_s}")
        if end_s is not None and not end_s > start_s:
            raise ConfigError(f"the end must be after the start, got start {start_s} s and end {end_s} s")
        self._media = examine(path, image_fps=image_fps)
        self.info: VideoInfo = self._media.info
        self.warnings: list[str] = []
        self._start_s = start_s
        self._end_s = math.inf if end_s is None else end_s
        if self.info.duration_s is not None and start_s >= self.info.duration_s + _DURATION_SLACK_S:
            raise self._nothing_there(f"it is {self.info.duration_s:g} s long")
        self._ahead = Handover[Frame](frames_ahead(self.info))
        self._thread: threading.Thread | None = None

    def __enter__(self) -> VideoReader:
        if self._thread is not None:
            raise RuntimeError("a VideoReader reads once; make another to read again")
        self._thread = threading.Thread(target=self._decode, name="vp3d-decode", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and any ffmpeg, as leaving the ``with`` statement does; no further frame is delivered."""
        self._ahead.leave()
        if self._thread is not None:
            self._thread.join()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises:
            VideoError: nothing could be decoded, or nothing at or after the start.
        """
        if self._thread is None:
            raise RuntimeError("use a VideoReader in a with statement")
        frame = self._ahead.get()
        if frame is None:
            raise StopIteration
        return frame

    @property
    def peak_frames_ahead(self) -> int:
        """The most decoded frames that ever waited for the consumer."""
        return self._ahead.peak

    def _decode(self) -> None:
        try:
            self._deliver()
        except BaseException as error:  # noqa: BLE001 (raised again in the consumer's thread)
            self._ahead.finish(error)
        else:
            self._ahead.finish(None)

    def _deliver(self) -> None:
        index, out_of_order = 0, 0
        previous_s = last_s = -math.inf
        with closing(self._open()) as frames:
            for time_s, picture in frames:
                last_s = max(last_s, time_s)
                if time_s >= self._end_s - _TIME_TOLERANCE_S or self._ahead.left:
                    break
                if time_s < self._start_s - _TIME_TOLERANCE_S:
                    continue
                if time_s <= previous_s:
                    # Broken muxers repeat times or step back; whoever comes after relies on times that increase.
                    out_of_order += 1
                    time_s = previous_s + 0.5 / self.info.fps
                previous_s = time_s
                self._ahead.put(Frame(index, time_s, picture()))
                index += 1
            else:
                self._look_at_end(last_s)
        if index == 0:
            raise self._nothing_there(f"its last frame is at {last_s:g} s")
        if out_of_order:
            self.warnings.append(
                f"{self.info.path}: {out_of_order} frames have times that do not increase; "
                "they were moved behind the frame before"
            )

    def _open(self) -> TimedFrames:
        media = self._media
        if media.images:
            return image_frames(media.images, media.info.fps, media.info.size_wh, self._start_s, self.warnings)
        capture = open_first(media)
        if capture is None:
            return ffmpeg_frames(media, self._start_s)
        return opencv_frames(media, capture, self._start_s)

    def _look_at_end(self, last_s: float) -> None:
        """Find out why the frames end before the file's duration, if they do: cut off, or only longer sound."""
        info = self.info
        if self._media.images or info.duration_s is None:
            return
        end_s = last_s + 1 / info.fps
        if (info.duration_s - end_s) * info.fps < _MISSING_FRAMES:
            return
        packets_end_s, complaint = read_packets(info.path)
        if complaint:
            self.warnings.append(
                f"{info.path} is cut off or damaged ({complaint}): of its {info.duration_s:.2f} s the first "
                f"{end_s:.2f} s can be decoded and were used"
            )
        elif (packets_end_s - last_s) * info.fps > _MISSING_FRAMES:
            self.warnings.append(
                f"{info.path} is damaged: decoding stopped at {end_s:.2f} s, "
                f"but its data go on to {packets_end_s:.2f} s"
            )

    def _nothing_there(self, how_long: str) -> VideoError:
        span = f"at or after {self._start_s:g} s"
        if math.isfinite(self._end_s):
            span = f"from {self._start_s:g} s to {self._end_s:g} s"
        return VideoError(f"{self.info.path} has no frame {span}: {how_long}; choose an earlier start")


def frames_ahead(info: VideoInfo) -> int:
    """How many decoded frames of this size may wait for the consumer."""
    fewest, most = _AHEAD_FRAMES
    return max(fewest, min(most, _AHEAD_BYTES // (info.width * info.height * 3)))
