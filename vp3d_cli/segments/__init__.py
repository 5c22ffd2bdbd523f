"""One long video in parts: people are found in all parts side by side, and followed and lifted over the whole.

:func:`plan_segments` cuts the time line between frames, :func:`detect_segment` does one part anywhere (a
:class:`Segment` can be pickled, as can what it gives), :func:`join_segments` puts the answers together.
:func:`in_processes` does the parts on this machine; a cluster's ``map`` can take its place, see :data:`SideBySide`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.errors import VideoError, Vp3dError
from vp3d_cli.seeing import Progress, Seen, detect
from vp3d_cli.segments.processes import run_in_processes
from vp3d_cli.settings import InferSettings
from vp3d_cli.types import DoubleArray
from vp3d_cli.video import VideoReader
from vp3d_cli.video.probe import read_frame_times

# A part begins so much earlier than its first frame, so that whoever is in view is followed by then as closely as if
# the video had been watched from the beginning (docs/scaling.md has the differences). The memory of the embedded
# detector is 20 frames, that for cuts 8.
WARM_UP_S = 3.0


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
    """

    video: str
    settings: InferSettings
    warm_up_s: float
    start_s: float
    end_s: float | None
    first: int
    frames: int


# Does all parts of a video, and gives what was seen in each, in their order; reports ("detect", done, total) frames.
SideBySide = Callable[[Sequence[Segment], Progress], list[Seen]]


def plan_segments(video: str | Path, settings: InferSettings) -> list[Segment]:
    """Cut a video into parts as long as the settings say.

    All packets of the file are read (not decoded) to know the time of each frame: a varying frame rate does no harm.

    Returns:
        The parts, at least two; none where the video is to be done in one piece.

    Raises:
        VideoError: see :class:`vp3d_cli.video.VideoReader`.
    """
    if settings.segment_min is None:
        return []
    times = np.array(read_frame_times(video))
    end_s = math.inf if settings.end_s is None else settings.end_s
    times = times[(times >= settings.start_s) & (times < end_s)]
    if len(times) < 2:
        return []
    length_s = float(times[-1] - times[0])
    count = math.ceil(length_s / (60 * settings.segment_min))
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
    return parts


def detect_segment(
    segment: Segment, report: Progress = lambda stage, done, total: None, detector: Detector | None = None
) -> Seen:
    """Find everyone in one part of a video.

    Args:
        segment: of :func:`plan_segments`.
        report: called with ("detect", done, total) as frames are watched, those for warming up included.
        detector: of the same settings; None loads it.

    Raises:
        VideoError: the video cannot be read.
        WeightsError, MissingDependencyError, ConfigError: the detector cannot be loaded.
    """
    settings = segment.settings
    detector = detector or load_detector(settings.detector, settings.device)
    warnings: list[str] = []
    try:
        with VideoReader(segment.video, segment.warm_up_s, segment.end_s) as reader:
            seen = detect(
                reader, detector, report, total=segment.frames, every=settings.detect_every, first=segment.first
            )
        warnings += reader.warnings
    except VideoError as error:
        if segment.first == 0:
            raise
        # Packets that do not decode: in one piece, too, the video would have ended here.
        seen, warnings = Seen(np.zeros(0), [], [], {}), [str(error)]
    own = int(np.searchsorted(seen.times_s, segment.start_s))
    return Seen(
        times_s=seen.times_s[own:],
        people=seen.people[own:],
        cuts=[cut - own for cut in seen.cuts if cut >= own],
        source=seen.source,
        looked=None if seen.looked is None else seen.looked[own:],
        busy_s=seen.busy_s,
        warnings=warnings,
    )


def in_processes(parts: Sequence[Segment], report: Progress) -> list[Seen]:
    """Do all parts in processes of this machine: one per core that this process may use, with one thread each.

    Raises:
        Vp3dError: what :func:`detect_segment` raises, or a process died.
    """
    return run_in_processes(detect_segment, parts, [part.frames for part in parts], report)


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
