"""Stream the frames of a video: decoded in a background thread, a bounded number ahead of the consumer."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import TracebackType

from vp3d_cli.errors import ConfigError, VideoError
from vp3d_cli.types import Frame, VideoInfo
from vp3d_cli.video.decode import TimedFrames, ffmpeg_frames, image_frames, open_first, opencv_frames
from vp3d_cli.video.images import DEFAULT_IMAGE_FPS
from vp3d_cli.video.packets import is_whole_gif, read_avi_length, read_packets
from vp3d_cli.video.probe import examine, frame_times
from vp3d_cli.video.threads import BoundedQueue

# Decoded frames that may wait for the consumer: enough for a detector's next batch at 1080p (6 MB a frame), and few
# enough at 4K.
_AHEAD_BYTES = 64 << 20
_AHEAD_FRAMES = (2, 32)
# Times given in seconds are compared with those of frames to a microsecond: 1/30 s is no decimal number.
_TIME_TOLERANCE_S = 1e-6
# An mp4 with a varying frame rate may last a few frames longer than it says.
_DURATION_SLACK_S = 1.0
# Where times are further apart than so many frames, in the middle or at the end, the packets are asked why.
_GAP_FRAMES = 1.5
# Where a file was cut off, so many frames before may lack others that they were to be decoded from (H.264, HEVC).
_MOST_REFERENCES = 16
# Recordings of a broadcast begin in the middle of a group of pictures; more than that is damage.
_LOST_START_S = 1.0
# A warning names so many places where frames are missing; the others only count.
_PLACES_NAMED = 3


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
            raise self._no_frame_error(f"it is {self.info.duration_s:g} s long")
        self._ahead = BoundedQueue[Frame](frames_ahead(self.info))
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
        """End the thread and any ffmpeg, as the end of the ``with`` statement does."""
        self._ahead.cancel()
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
        decoded = array("d")  # times of all frames, for the comparison with the packets
        ended = False
        with closing(self._open()) as frames:
            for time_s, picture in frames:
                last_s = max(last_s, time_s)
                decoded.append(time_s)
                if time_s >= self._end_s - _TIME_TOLERANCE_S or self._ahead.cancelled:
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
                ended = True
        if not self._ahead.cancelled:
            self._find_missing(decoded, ended)
        if index == 0:
            raise self._no_frame_error(f"its last frame is at {last_s:g} s")
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

    def _find_missing(self, decoded: Sequence[float], ended: bool) -> None:
        """Warn of frames that the file has and that were not decoded: in the middle, or because it was cut off.

        Args:
            decoded: times of all frames that were decoded, those before the start included.
            ended: decoding came to the end of the file.
        """
        info = self.info
        if self._media.images or not decoded:
            return
        if self._start_s < self._media.first_time_s and self._media.lost_start_s > _LOST_START_S:
            self.warnings.append(
                f"{info.path}: its first {self._media.lost_start_s:.2f} s cannot be decoded: missing in the result"
            )
        times_s = sorted(decoded)
        end_s = times_s[-1] + 1 / info.fps
        lacking = (self._declared_end_s() - end_s) * info.fps if ended else 0.0
        gap = max((after - before for before, after in pairwise(times_s)), default=0.0)
        is_avi, is_gif = "avi" in self._media.container, "gif" in self._media.container
        # An AVI file declares the number of its frames; other files may show their last frame for long.
        most = _GAP_FRAMES / 3 if is_avi else _GAP_FRAMES
        ends_early = not is_whole_gif(info.path) if is_gif else lacking >= most
        if gap * info.fps < _GAP_FRAMES and not ends_early:
            return  # spares reading the file once more
        packets = read_packets(info.path)
        cut_off = ends_early and bool(packets.complaint or is_avi or is_gif)
        stored = [time_s for time_s in frame_times(self._media, packets) if time_s >= times_s[0] - _TIME_TOLERANCE_S]
        last = max(0, len(times_s) - 1 - (_MOST_REFERENCES if cut_off else 0))
        within = [time_s for time_s in stored if time_s <= times_s[last] + 1e-3]
        # A broadcast has an even rate, and loses packets without a complaint.
        lossy = "the recording has gaps" if "mpegts" in self._media.container else ""
        self._warn_of_holes(within, times_s[: last + 1], "" if cut_off else packets.complaint or lossy)
        if cut_off:
            why = packets.complaint or "its end is missing"
            whole = "it" if is_gif else f"its {self._declared_end_s():.2f} s"
            self.warnings.append(
                f"{info.path} is cut off or damaged ({why}): of {whole} the first {end_s:.2f} s can be decoded "
                "and were used"
            )
        elif ended and stored and (stored[-1] - times_s[-1]) * info.fps > _GAP_FRAMES:
            self.warnings.append(
                f"{info.path} is damaged: decoding stopped at {end_s:.2f} s, but its data go on to {stored[-1]:.2f} s"
            )

    def _declared_end_s(self) -> float:
        """Where the picture ends according to the file; sound may outlast it, but not in what an AVI file declares."""
        length_s = read_avi_length(self.info.path) if "avi" in self._media.container else 0.0
        return length_s or self.info.duration_s or 0.0

    def _warn_of_holes(self, stored: Sequence[float], decoded: Sequence[float], complaint: str) -> None:
        """Warn of frames that are missing in the middle.

        Args:
            stored: times of the frames that the file has, up to the last that was decoded, rising.
            decoded: times of those that were decoded, rising.
            complaint: what ffmpeg says is wrong with the container, where it loses frames before they are counted.
        """
        if _usual_gap(stored) < 0.6 * _usual_gap(decoded):
            stored = stored[::2]  # the two fields of an interlaced frame are packets of their own
        count = len(stored) - len(decoded)
        gaps = [
            (before, after) for before, after in pairwise(decoded) if (after - before) * self.info.fps > _GAP_FRAMES
        ]
        widest = sorted(sorted(gaps, key=lambda gap: gap[0] - gap[1])[: count if count > 0 else None])
        places = [f"between {before:.2f} and {after:.2f} s" for before, after in widest]
        more = [f"in {len(places) - _PLACES_NAMED} more places"] if len(places) > _PLACES_NAMED else []
        where = ", ".join(["", *places[:_PLACES_NAMED], *more])
        if count > 0:
            what = f"{count} of {len(stored)} frames could not be decoded and are missing in the result"
            self.warnings.append(f"{self.info.path} is damaged: {what}{where}")
        elif complaint and places:
            what = f"({complaint[:100]}): frames are missing in the result"
            self.warnings.append(f"{self.info.path} is damaged {what}{where}")

    def _no_frame_error(self, how_long: str) -> VideoError:
        span = f"at or after {self._start_s:g} s"
        if math.isfinite(self._end_s):
            span = f"from {self._start_s:g} s to {self._end_s:g} s"
        return VideoError(f"{self.info.path} has no frame {span}: {how_long}; choose an earlier start")


def frames_ahead(info: VideoInfo) -> int:
    """How many decoded frames of this size may wait for the consumer."""
    fewest, most = _AHEAD_FRAMES
    return max(fewest, min(most, _AHEAD_BYTES // (info.width * info.height * 3)))


def _usual_gap(times_s: Sequence[float]) -> float:
    """The median time from frame to frame."""
    return median([after - before for before, after in pairwise(times_s)]) if len(times_s) > 1 else 0.0
