"""What was found in a video before the detector failed, or Ctrl-C came: kept for the next run to go on from there.

The file lies beside the result, is written whole or not at all, says which video, detector, weights and part it belongs
to, and is removed when the result is there. What took long is also kept when all is found, until the result is written:
the disk may be full.

The next run begins some seconds before the frame where the last one ended, or, if that is nearer, at the camera cut
before it. A detector that follows people from frame to frame must know who was in view: one that tells its memory
(:class:`vp3d_cli.detect.base.Remembering`) is given it back, and the result is that of an undisturbed run; one that
does not watches those seconds again.

Of a video that is done in parts (:mod:`vp3d_cli.pipeline.chunks`) there is a folder instead, with such a file for
each part that is whole or was begun.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector, Remembering
from vp3d_cli.errors import DetectorError, OutputError
from vp3d_cli.io.atomic import content_sha256, replacing
from vp3d_cli.io.json_text import parse_json
from vp3d_cli.io.npz_rows import BROKEN_ARCHIVE, open_arrays
from vp3d_cli.pipeline.detection import Progress, Seen, detect
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader

SCHEMA = "vp3d-partial-detections/2"
SUFFIX = ".partial-detections.npz"
# Watching begins so much earlier, so that whoever is in view is followed by then as closely as if the video had been
# watched from the beginning (docs/scaling.md has the differences). The memory of the embedded detector is 20 frames,
# that for cuts 8.
WARM_UP_S = 3.0
# What took less is found again as quickly; a file that nobody asked for would only lie in the way.
_WORTH_KEEPING_S = 10.0


def partial_of(out: str | Path) -> Path:
    """Where detections are kept until ``out`` is there."""
    return Path(f"{out}{SUFFIX}")


def parts_of(keep: Path) -> Path:
    """The folder for what was found in parts of a video, which is kept in the file ``keep`` where it has none."""
    return keep.with_suffix("") if keep.suffix else keep.with_name(f"{keep.name}.parts")


def kept_parts(folder: Path) -> list[Path]:
    """The files in the folder of :func:`parts_of`."""
    return sorted(folder.glob("part-*.npz"))


def kept_files(keep: Path) -> list[Path]:
    """All files in which something is kept: ``keep`` itself, and those of parts."""
    return [*([keep] if keep.is_file() else []), *kept_parts(parts_of(keep))]


def forget(keep: Path) -> None:
    """Remove what was kept; that there is nothing is no matter."""
    # A process that was killed while it kept something has left half of it under another name (see replacing).
    for file in [*kept_files(keep), *parts_of(keep).glob(".vp3d-*.part")]:
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or the user has put something into it
        parts_of(keep).rmdir()


@dataclass(frozen=True)
class Stretch:
    """Frames that are watched in one go: those of a video, or of a part that is done on its own.

    Attributes:
        video: file or folder of images.
        settings: of the whole video.
        start_s, end_s: the frames from the one time up to the other; ``end_s`` is None where the video ends.
        first: number of the first frame in the whole video.
        frames: about how many there are; None if not known.
        sha256: of the video; empty where nobody has read it yet.
        in_parts: other parts are done by others; who joins them tells the user what is kept.
    """

    video: str
    settings: InferSettings
    start_s: float
    end_s: float | None
    first: int = 0
    frames: int | None = None
    sha256: str = ""
    in_parts: bool = False


def detect_resumably(
    stretch: Stretch, reader: VideoReader, detector: Detector, report: Progress, keep: Path | None
) -> Seen:
    """Run the detector over a video, from where an earlier run ended; see :func:`vp3d_cli.pipeline.detection.detect`.
    :func:`vp3d_cli.pipeline.detection.detect`.

    Args:
        stretch: what to watch.
        reader: of these frames, open.
        detector: finds people.
        report: called with ("detect", done, total); may raise StoppedError.
        keep: for what was found; what an earlier run has left there is made use of. None keeps nothing.

    Raises:
        DetectorError: the detector failed; says where what it found is kept.
        StoppedError: ``report`` raised it.
        KeyboardInterrupt: Ctrl-C; says where what was found is kept.
        VideoError: the video cannot be read.
    """
    before = None if keep is None else read_partial(keep, stretch, detector)
    keeper = _Keeper(keep, stretch)
    if keep is None or before is None:
        return _detect(stretch, reader, detector, report, None, keeper)
    reader.close()
    reader.warnings.clear()  # of frames that are not taken from it: an earlier run has told of them
    with VideoReader(stretch.video, _watch_from_s(before, stretch.start_s), stretch.end_s) as rest:
        seen = _detect(stretch, rest, detector, report, before, keeper)
    had = (
        f"{keep.parent} had parts of the video"
        if stretch.in_parts
        else f"{keep} had the first {len(before.times_s)} frames"
    )
    seen.warnings[:] = [*_once(before.warnings, rest.warnings), f"{had} from a run that did not end"]
    return seen


class _Keeper:
    """Keeps what was seen when a detector fails or is stopped; ``note`` tells the user where."""

    def __init__(self, path: Path | None, stretch: Stretch) -> None:
        self._path, self._stretch = path, stretch
        self.note = ""

    def keep(self, seen: Seen) -> None:
        if self._path is None or not len(seen.times_s):
            return
        try:
            write_partial(self._path, seen, self._stretch)
        except (OutputError, OSError) as error:
            self.note = f"what was found before could not be kept ({error})"
            return
        if not self._stretch.in_parts:
            self.note = (
                f"the {len(seen.times_s)} frames before are kept in {self._path}: run the same command again to go "
                "on from there, or remove that file to begin anew"
            )


def _detect(
    stretch: Stretch,
    frames: VideoReader,
    detector: Detector,
    report: Progress,
    before: Seen | None,
    keeper: _Keeper,
) -> Seen:
    skipped = 0 if before is None else _warm_up(before)
    if before is not None and before.memory is not None and isinstance(detector, Remembering):
        detector = _Replay(detector, before, skipped)

    def joined(rest: Seen) -> Seen:
        return rest if before is None else _join(before, rest, skipped)

    def keep(rest: Seen, why: BaseException) -> None:
        frames.close()  # then it has said all that there is to say of what it read
        seen = joined(rest)
        if seen.busy_s >= _WORTH_KEEPING_S or not isinstance(why, KeyboardInterrupt):
            keeper.keep(told(seen))

    def told(seen: Seen) -> Seen:
        had = [] if before is None else before.warnings
        return replace(seen, warnings=_once(seen.warnings, had, frames.warnings))

    def shifted(stage: str, done: int, of: int | None) -> None:
        report(stage, skipped + done, None if of is None else max(of, skipped + done))

    try:
        seen = detect(
            frames,
            detector,
            shifted,
            total=stretch.frames,
            every=stretch.settings.detect_every,
            first=stretch.first + skipped,
            interrupted=keep,
        )
    except DetectorError as error:
        raise DetectorError("; ".join(filter(None, [str(error), keeper.note]))) from error.__cause__
    except KeyboardInterrupt:
        raise KeyboardInterrupt(keeper.note) from None
    seen = joined(seen)
    if seen.busy_s >= _WORTH_KEEPING_S and not stretch.in_parts:
        keeper.keep(told(seen))
    return seen


def _once(*warnings: Sequence[str]) -> list[str]:
    """All of them, in order, none twice."""
    return list(dict.fromkeys(warning for some in warnings for warning in some))


class _Replay:
    """A detector that knows what it found in the first frames, and goes on with its memory of them."""

    def __init__(self, detector: Detector, before: Seen, first: int) -> None:
        self.name, self.sha256, self.batch_size = detector.name, detector.sha256, 1
        self._detector, self._memory = detector, before.memory
        looked = [i for i in range(first, len(before.people)) if before.looked is None or before.looked[i]]
        self._known = deque(before.people[i] for i in looked)

    def reset(self, frame: int = 0) -> None:
        if not self._known:
            self._wake()
            self._detector.reset(frame)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        if self._known:
            return [self._known.popleft()]
        self._wake()
        return self._detector.detect(frames)

    def memory(self) -> dict[str, Any] | None:
        """As that of the detector; for what is replayed, what it knew at the end."""
        if self._memory is not None or not isinstance(self._detector, Remembering):
            return self._memory
        return self._detector.memory()

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._memory = dict(memory)

    def _wake(self) -> None:
        if self._memory is not None and isinstance(self._detector, Remembering):
            self.batch_size = self._detector.batch_size
            self._detector.recall(self._memory)
            self._memory = None


def _warm_up(before: Seen) -> int:
    """The frame from which to watch again, so that the detector knows what it knew; one that it looked at."""
    warm = int(np.searchsorted(before.times_s, before.times_s[-1] - WARM_UP_S))
    warm = max([warm, *before.cuts])
    return warm if before.looked is None else int(np.flatnonzero(before.looked[: warm + 1])[-1])


def _watch_from_s(before: Seen, start_s: float) -> float:
    """A time between the frame to begin with and the one before it, where no rounding makes a frame change sides."""
    first = _warm_up(before)
    return start_s if first == 0 else float(before.times_s[first - 1] + before.times_s[first]) / 2


def _join(before: Seen, rest: Seen, first: int) -> Seen:
    """What was seen before frame ``len(before)``, and from there on; ``rest`` begins at frame ``first``."""
    own = len(before.times_s) - first
    if len(rest.times_s) <= own:  # it failed again, before it got any further
        return before
    looked = None
    if before.looked is not None and rest.looked is not None:
        looked = np.concatenate([before.looked, rest.looked[own:]])
    return Seen(
        times_s=np.concatenate([before.times_s, rest.times_s[own:]]),
        people=[*before.people, *rest.people[own:]],
        cuts=[*before.cuts, *(cut + first for cut in rest.cuts if cut >= own)],
        source=rest.source,
        looked=looked,
        busy_s=before.busy_s + rest.busy_s,
        memory=rest.memory,
    )


def write_partial(path: Path, seen: Seen, stretch: Stretch) -> None:
    """Keep what was seen, in place of what was kept before.

    Raises:
        OutputError: the file cannot be written.
        OSError: the video cannot be read, to tell later whether it is the same.
    """
    counts = np.array([len(people) for people in seen.people], np.int64)
    fields = ("boxes_xyxy", "keypoints", "scores", "person_scores")
    everyone = seen.people or [Keypoints2D.empty()]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(people, name) for people in everyone]) for name in fields}
    arrays |= {
        "schema": SCHEMA,
        "belongs_to": _belongs_to(stretch, seen.source),
        "times_s": seen.times_s,
        "counts": counts,
        "cuts": np.array(seen.cuts, np.int64),
        "looked": np.ones(len(counts), np.bool_) if seen.looked is None else seen.looked,
        "busy_s": seen.busy_s,
        "memory": json.dumps(seen.memory),
        "warnings": json.dumps(seen.warnings),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as file:
        np.savez_compressed(file, **arrays)


def read_partial(path: Path, stretch: Stretch, detector: Detector) -> Seen | None:
    """What an earlier run has kept; None if there is none that is whole and of this video, detector and settings."""
    source = {"detector": {"name": detector.name, "sha256": detector.sha256}}
    try:
        with open_arrays(path) as stored:
            if str(stored["schema"]) != SCHEMA or str(stored["belongs_to"]) != _belongs_to(stretch, source):
                return None
            ends = np.cumsum(stored["counts"])
            boxes, points, scores, sure = (
                stored[name] for name in ("boxes_xyxy", "keypoints", "scores", "person_scores")
            )
            people = [
                Keypoints2D(boxes[start:end], points[start:end], scores[start:end], sure[start:end])
                for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
            return Seen(
                times_s=stored["times_s"],
                people=people,
                cuts=stored["cuts"].tolist(),
                source=source,
                looked=None if stretch.settings.detect_every == 1 else stored["looked"],
                busy_s=float(stored["busy_s"]),
                memory=parse_json(str(stored["memory"])),
                warnings=parse_json(str(stored["warnings"])),
            )
    except BROKEN_ARCHIVE:
        return None


def is_of(path: Path, stretch: Stretch) -> bool:
    """Whether a file was kept of these frames with these settings; its weights only a loaded detector can judge."""
    try:
        with open_arrays(path) as stored:
            belongs_to = parse_json(str(stored["belongs_to"]))
            wanted = json.loads(_belongs_to(stretch, {"detector": belongs_to["detector"]}))
            return str(stored["schema"]) == SCHEMA and bool(belongs_to == wanted)
    except BROKEN_ARCHIVE:
        return False


def _belongs_to(stretch: Stretch, source: dict[str, Any]) -> str:
    """What detections depend on: the video, whatever it is called, who finds people, and in which frames."""
    return json.dumps(
        {
            "video": stretch.sha256 or content_sha256(Path(stretch.video)),
            **source,
            "asked": stretch.settings.detector,
            "start_s": stretch.start_s,
            "end_s": stretch.end_s,
            "first": stretch.first,
            "detect_every": stretch.settings.detect_every,
        },
        sort_keys=True,
    )
