"""One long video in parts: people are found in all parts side by side, and followed and lifted over the whole.

:func:`plan_segments` cuts the time line between frames, :func:`detect_segment` does one part anywhere (a
:class:`Segment` can be pickled, as can what it gives), :func:`join_segments` puts the answers together.
:func:`in_turn` does one part after another; who has worker processes can take its place, see :data:`SideBySide`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import OutputError, VideoError, Vp3dError
from vp3d_cli.io.atomic import content_sha256
from vp3d_cli.pipeline.detection import Progress, Seen
from vp3d_cli.pipeline.detection_cache import (
    WARM_UP_S,
    Stretch,
    detect_resumably,
    is_of,
    parts_of,
    read_partial,
    write_partial,
)
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import DoubleArray
from vp3d_cli.video import VideoReader
from vp3d_cli.video.probe import read_frame_times


@dataclass(frozen=True)
class Segment:
    """A part of a video, to be done on its own.

    Attributes:
        video: file or folder of images.
        settings: of the whole.
        warm_up_s: from here on it is watched, in seconds of the video's own time.
        start_s, end_s: the part: the frames from the one time up to the other; ``end_s`` is None for the last part.
            Both lie half way between two frames.
        first: number of the first frame that is watched, in the whole.
        frames: about how many frames are watched.
        keep: file for what was found in this part, on the machine that does it; None to keep nothing. Beside it lies
            what was found should the detector fail, or be stopped because another part failed.
        sha256: of the video, if there is something to keep.
    """

    video: str
    settings: InferSettings
    warm_up_s: float
    start_s: float
    end_s: float | None
    first: int
    frames: int
    keep: Path | None = None
    sha256: str = ""

    @property
    def begun(self) -> Path | None:
        """File for what was found before the detector failed or was stopped."""
        return None if self.keep is None else self.keep.with_name(f"{self.keep.stem}-begun.npz")

    @property
    def stretch(self) -> Stretch:
        """The frames that are watched."""
        return Stretch(
            self.video,
            self.settings,
            self.warm_up_s,
            self.end_s,
            self.first,
            self.frames,
            self.sha256,
            in_parts=True,
        )


# Does all parts of a video, and gives what was seen in each, in their order; reports ("detect", done, total) frames.
SideBySide = Callable[[Sequence[Segment], Progress], list[Seen]]


def plan_segments(video: str | Path, settings: InferSettings, keep: Path | None = None) -> list[Segment]:
    """Cut a video into parts as long as the settings say.

    All packets of the file are read (not decoded) to know the time of each frame: a varying frame rate does no harm.

    Args:
        video: file or folder of images.
        settings: of the whole.
        keep: where a video in one piece has what is kept of it (see
        :func:`vp3d_cli.pipeline.detection_cache.parts_of`).

    Returns:
        The parts, at least two; none where the video is to be done in one piece.

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
    edges = [0, *seams, len(times)]
    parts = []
    for begin, end in pairwise(edges):
        warm = int(np.searchsorted(times, times[begin] - WARM_UP_S))
        parts.append(
            Segment(
                str(video),
                settings,
                warm_up_s=_before(times, warm, settings.start_s),
                start_s=_before(times, begin, settings.start_s),
                end_s=settings.end_s if end == len(times) else _before(times, end, settings.start_s),
                first=warm,
                frames=end - warm,
            )
        )
    if keep is None:
        return parts
    folder, sha256 = parts_of(keep), content_sha256(Path(video))
    return [replace(part, keep=folder / f"part-{i}.npz", sha256=sha256) for i, part in enumerate(parts, start=1)]


def detect_segment(
    segment: Segment,
    report: Progress = lambda stage, done, total: None,
    detector: Detector | None = None,
    *,
    resumed: bool = True,
) -> Seen:
    """Find everyone in one part of a video, or take what an earlier run has kept of it.

    Args:
        segment: of :func:`plan_segments`.
        report: called with ("detect", done, total) as frames are watched, those for warming up included; may raise
            StoppedError, and what was found so far is kept.
        detector: of the same settings; None loads it.
        resumed: a part that is kept was found by an earlier run, which the user should know.

    Raises:
        DetectorError: the detector failed; what was found before is kept.
        StoppedError: ``report`` raised it.
        VideoError: the video cannot be read.
        WeightsError, MissingDependencyError, ConfigError: the detector cannot be loaded.
    """
    settings = segment.settings
    detector = detector or load_detector(settings.detector, settings.device)
    stretch = segment.stretch
    seen = None if segment.keep is None else read_partial(segment.keep, stretch, detector)
    if seen is None or segment.keep is None:
        seen = _watch(segment, stretch, detector, report)
    else:
        report("detect", segment.frames, segment.frames)
        if resumed:
            seen.warnings.append(f"{segment.keep.parent} had parts of the video from a run that did not end")
    own = int(np.searchsorted(seen.times_s, segment.start_s))
    return Seen(
        times_s=seen.times_s[own:],
        people=seen.people[own:],
        cuts=[cut - own for cut in seen.cuts if cut >= own],
        source=seen.source,
        looked=None if seen.looked is None else seen.looked[own:],
        busy_s=seen.busy_s,
        warnings=seen.warnings,
    )


def _watch(segment: Segment, stretch: Stretch, detector: Detector, report: Progress) -> Seen:
    """Watch all frames of a part, those for warming up included, and keep what was found."""
    begun = segment.begun
    try:
        with VideoReader(segment.video, segment.warm_up_s, segment.end_s) as reader:
            seen = detect_resumably(stretch, reader, detector, report, begun)
        seen.warnings[:0] = reader.warnings
    except VideoError as error:
        if segment.first == 0:
            raise
        # Packets that do not decode: in one piece, too, the video would have ended here.
        return Seen(np.zeros(0), [], [], {}, warnings=[str(error)])
    if segment.keep is not None and begun is not None:
        try:
            write_partial(segment.keep, seen, stretch)
            begun.unlink(missing_ok=True)
        except (OutputError, OSError) as error:
            seen.warnings.append(f"a part of the video could not be kept for another run ({error})")
    return seen


def in_turn(
    parts: Sequence[Segment], report: Progress, detector: Detector | None = None, *, resumed: bool = True
) -> list[Seen]:
    """Do one part after another in this process.

    Args:
        parts: of :func:`plan_segments`.
        report: called with ("detect", done, total) of the whole.
        detector, resumed: as for :func:`detect_segment`.

    Raises:
        Vp3dError: what :func:`detect_segment` raises.
    """
    seen: list[Seen] = []
    total, before = sum(part.frames for part in parts), 0
    for part in parts:

        def add(stage: str, done: int, _: int | None, before: int = before) -> None:
            report(stage, before + done, total)

        seen.append(detect_segment(part, add, detector, resumed=resumed))
        before += part.frames
    return seen


def detect_in_parts(parts: Sequence[Segment], side_by_side: SideBySide, report: Progress) -> Seen:
    """Do all parts of a video, and join what was seen.

    Raises:
        Vp3dError: what :func:`detect_segment` raises, or a process died; says where what was found is kept.
    """
    try:
        return join_segments(parts, side_by_side(parts, report))
    except Vp3dError as error:
        note = kept_note(parts)
        if not note:
            raise
        raise type(error)(f"{error}; {note}") from error.__cause__


def kept_note(parts: Sequence[Segment]) -> str:
    """What to tell the user when a video is not done: where is what was found of its parts; empty if there is nothing.

    Files of a run with other settings, which the same command would not use, do not count.
    """
    for part in parts:
        for file in (part.keep, part.begun):
            if file is not None and is_of(file, part.stretch):
                return (
                    f"what was found so far is kept in {file.parent}: run the same command again to go on from there, "
                    "or remove that folder to begin anew"
                )
    return ""


def join_segments(parts: Sequence[Segment], seen: Sequence[Seen]) -> Seen:
    """What was seen in the whole.

    Raises:
        Vp3dError: parts were done with different weights.
    """
    sources = [part.source for part in seen if len(part.times_s)]
    if any(source != sources[0] for source in sources):
        raise Vp3dError(f"{parts[0].video}: its parts were done with different weights; run again")
    offsets = np.cumsum([0, *(len(part.times_s) for part in seen)])
    looked = [part.looked for part in seen if part.looked is not None and len(part.times_s)]
    return Seen(
        times_s=_rising(np.concatenate([part.times_s for part in seen])),
        people=[people for part in seen for people in part.people],
        cuts=[int(offset) + cut for part, offset in zip(seen, offsets, strict=False) for cut in part.cuts],
        source=sources[0] if sources else {},
        looked=np.concatenate(looked) if looked else None,
        busy_s=sum(part.busy_s for part in seen),
        warnings=list(dict.fromkeys(warning for part in seen for warning in part.warnings)),
    )


def _before(times: DoubleArray, index: int, start_s: float) -> float:
    """A time between a frame and the one before it, where no rounding makes a frame change sides."""
    return start_s if index == 0 else float(times[index - 1] + times[index]) / 2


def _rising(times: DoubleArray) -> DoubleArray:
    """Times as they are; a frame that is not later than the one before, as broken muxers write, is moved behind it."""
    for i in np.flatnonzero(np.diff(times) <= 0) + 1:
        times[i] = max(times[i], times[i - 1] + 1e-3)
    return times
