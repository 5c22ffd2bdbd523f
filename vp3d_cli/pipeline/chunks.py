"""Detection in chunks: a long video is detected chunk by chunk, then tracked and lifted as a whole.

:func:`plan_chunks` cuts the time line between frames, :func:`detect_chunk` does one chunk anywhere (a :class:`Chunk`
and its :class:`~vp3d_cli.io.detections.Detections` can be pickled), :func:`detect_in_chunks` does all and joins them.
By default chunks follow each other; whoever has worker processes passes a function that runs them at the same time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import VideoError, Vp3dError
from vp3d_cli.io.atomic import content_sha256
from vp3d_cli.io.detections import Detections, join_detections
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pipeline.detection_cache import WARM_UP_S, FrameRange, chunk_folder, detect_resumably, is_cache_of
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import DoubleArray
from vp3d_cli.video import VideoReader
from vp3d_cli.video.probe import read_frame_times


@dataclass(frozen=True)
class Chunk:
    """A part of a video that is detected by itself.

    Attributes:
        video: file or folder of images.
        settings: of the whole video.
        warm_up_s: the detector runs from here on, in seconds of the video's own time.
        start_s, end_s: the frames from the one time up to the other; ``end_s`` is None for the last chunk. Both lie
            half way between two frames.
        first: number of the first frame that the detector sees, in the whole video.
        frames: about how many frames it sees.
        cache: detections file of this chunk, on the machine that does it; None to keep nothing.
        sha256: of the video, if there is a cache.
    """

    video: str
    settings: InferSettings
    warm_up_s: float
    start_s: float
    end_s: float | None
    first: int
    frames: int
    cache: Path | None = None
    sha256: str = ""

    @property
    def frame_range(self) -> FrameRange:
        """The frames of the chunk, warm-up frames included."""
        every = self.settings.detect_every
        return FrameRange(self.video, self.warm_up_s, self.end_s, every, self.first, self.frames, self.sha256)


# Runs all chunks, and gives the detections of each in their order; reports ("detect", done, total) frames.
MapChunks = Callable[[Sequence[Chunk], Progress], list[Detections]]


def plan_chunks(video: str | Path, settings: InferSettings, cache: Path | None = None) -> list[Chunk]:
    """Cut a video into chunks as long as the settings say.

    All packets of the file are read (not decoded) to know the time of each frame: a varying frame rate does no harm.

    Args:
        video: file or folder of images.
        settings: of the whole video.
        cache: detections file of the whole video, beside which those of the chunks lie; None to keep nothing.

    Returns:
        At least two chunks; none where the video is to be done in one piece.

    Raises:
        VideoError: see :class:`vp3d_cli.video.VideoReader`.
    """
    if settings.chunk_minutes is None:
        return []
    times = np.array(read_frame_times(video))
    end_s = math.inf if settings.end_s is None else settings.end_s
    times = times[(times >= settings.start_s) & (times < end_s)]
    if len(times) < 2:
        return []
    length_s = float(times[-1] - times[0])
    count = math.ceil(length_s / (60 * settings.chunk_minutes))
    targets = times[0] + length_s * np.arange(1, count) / max(count, 1)
    seams = [int(k) for k in np.unique(np.searchsorted(times, targets)) if 0 < k < len(times)]
    if not seams:
        return []
    sha256 = "" if cache is None else content_sha256(Path(video))
    chunks = []
    for number, (begin, end) in enumerate(pairwise([0, *seams, len(times)]), start=1):
        warm = int(np.searchsorted(times, times[begin] - WARM_UP_S))
        chunks.append(
            Chunk(
                str(video),
                settings,
                warm_up_s=_before(times, warm, settings.start_s),
                start_s=_before(times, begin, settings.start_s),
                end_s=settings.end_s if end == len(times) else _before(times, end, settings.start_s),
                first=warm,
                frames=end - warm,
                cache=None if cache is None else chunk_folder(cache) / f"chunk-{number}.npz",
                sha256=sha256,
            )
        )
    return chunks


def detect_chunk(
    chunk: Chunk, report: Progress = no_progress, detector: Detector | None = None, *, resumed: bool = True
) -> Detections:
    """Detect everyone in one chunk of a video, or read its cache.

    Args:
        chunk: of :func:`plan_chunks`.
        report: called with ("detect", done, total) as frames pass, those for warming up included; may raise
            StoppedError, and what was found so far is kept.
        detector: of the same settings; None loads it.
        resumed: what is kept is of an earlier run, which the user should know.

    Raises:
        DetectorError: the detector failed; what was found before is kept.
        StoppedError: ``report`` raised it.
        VideoError: the video cannot be read.
        WeightsError, MissingDependencyError, ConfigError: the detector cannot be loaded.
    """
    settings, frames = chunk.settings, chunk.frame_range
    detector = detector or load_detector(settings.detector, settings.device)
    try:
        with VideoReader(chunk.video, chunk.warm_up_s, chunk.end_s) as reader:
            found = detect_resumably(frames, reader, detector, report, chunk.cache, always=True, resumed=resumed)
        found = dataclasses.replace(found, warnings=(*dict.fromkeys([*reader.warnings, *found.warnings]),))
    except VideoError as error:
        if chunk.first == 0:
            raise
        # Packets that do not decode: in one piece, too, the video would have ended here.
        nothing = {"frames": [], "frame_times_s": np.zeros(0), "fps": 1.0, "video_size_wh": (1, 1)}
        return Detections(**nothing, video=chunk.video, warnings=(str(error),))  # type: ignore[arg-type]
    return found[int(np.searchsorted(found.frame_times_s, chunk.start_s)) :]


def detect_in_turn(
    chunks: Sequence[Chunk], report: Progress = no_progress, detector: Detector | None = None, *, resumed: bool = True
) -> list[Detections]:
    """Detect everyone in one chunk after the other.

    Args:
        chunks: of :func:`plan_chunks`.
        report: called with ("detect", done, total), frames of all chunks.
        detector: of the same settings; None loads it once.
        resumed: see :func:`detect_chunk`.

    Raises:
        What :func:`detect_chunk` does.
    """
    total, done, found = sum(chunk.frames for chunk in chunks), 0, []
    for chunk in chunks:
        detector = detector or load_detector(chunk.settings.detector, chunk.settings.device)

        def add(stage: str, own: int, _: int | None, before: int = done) -> None:
            report(stage, before + own, total)

        found.append(detect_chunk(chunk, add, detector, resumed=resumed))
        done += chunk.frames
    return found


def detect_in_chunks(chunks: Sequence[Chunk], report: Progress, map_chunks: MapChunks | None = None) -> Detections:
    """Detect everyone in all chunks of a video, and join what was found.

    Raises:
        Vp3dError: what :func:`detect_chunk` raises, or a worker died; says where what was found is kept.
    """
    try:
        return join_detections((map_chunks or detect_in_turn)(chunks, report))
    except Vp3dError as error:
        note = kept_note(chunks)
        if not note:
            raise
        raise type(error)(f"{error}; {note}") from error.__cause__


def kept_note(chunks: Sequence[Chunk]) -> str:
    """Message for the user of an unfinished video: where the caches of its chunks are; empty if there are none."""
    for chunk in chunks:
        if chunk.cache is not None and is_cache_of(chunk.cache, chunk.frame_range):
            return (
                f"what was found so far is kept in {chunk.cache.parent}: run the same command again to go on from "
                "there, or remove that folder to begin anew"
            )
    return ""


def _before(times: DoubleArray, index: int, start_s: float) -> float:
    """The time half way between a frame and the one before, safe from rounding."""
    return start_s if index == 0 else float(times[index - 1] + times[index]) / 2
