"""What a detector found before it failed in the middle of a video: kept beside the result, for the next run to go on.

The file is written whole or not at all, says which video, detector, weights and part it belongs to, and is removed
when the result is there. The next run begins some seconds before the frame that failed, or, if that is nearer, at the
camera cut before it. A detector that follows people from frame to frame must know who was in view: one that tells its
memory (:class:`vp3d_cli.detect.base.Remembering`) is given it back, and the result is that of an undisturbed run; one
that does not watches those seconds again.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vp3d_cli.batch.fingerprint import content_sha256
from vp3d_cli.detect.base import Detector, Remembering
from vp3d_cli.errors import DetectorError, OutputError
from vp3d_cli.files import replacing
from vp3d_cli.seeing import Progress, Seen, detect, frames_expected
from vp3d_cli.segments import WARM_UP_S
from vp3d_cli.settings import InferSettings
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader

SCHEMA = "vp3d-partial-detections/1"
SUFFIX = ".partial-detections.npz"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError)


def partial_of(out: str | Path) -> Path:
    """Where detections are kept until ``out`` is there."""
    return Path(f"{out}{SUFFIX}")


def detect_resumably(
    video: str | Path,
    reader: VideoReader,
    detector: Detector,
    report: Progress,
    settings: InferSettings,
    keep: Path | None,
) -> Seen:
    """Run the detector over a video, from where an earlier run failed if it did; see :func:`vp3d_cli.seeing.detect`.

    Args:
        video: what ``reader`` reads.
        reader: open, of the whole video, or of the part that the settings name.
        detector: finds people.
        report: called with ("detect", done, total).
        settings: of this run.
        keep: for what was found, should the detector fail; what an earlier run has left there is made use of. None
            keeps nothing.

    Raises:
        DetectorError: the detector failed; says where what it found is kept.
        VideoError: the video cannot be read.
    """
    total = frames_expected(reader.info, settings)
    every = settings.detect_every
    before = None if keep is None else read_partial(keep, video, detector, settings)
    if keep is None or before is None:
        return _detect(reader, detector, report, total, every, None, _Keeper(keep, video, settings))
    with VideoReader(video, _watch_from_s(before, settings), settings.end_s) as rest:
        seen = _detect(rest, detector, report, total, every, before, _Keeper(keep, video, settings))
    seen.warnings[:] = [*rest.warnings, f"{keep} had the first {len(before.times_s)} frames from a run that failed"]
    return seen


class _Keeper:
    """Keeps what was seen when a detector fails."""

    def __init__(self, path: Path | None, video: str | Path, settings: InferSettings) -> None:
        self._path, self._video, self._settings = path, video, settings
        self.note = ""

    def keep(self, seen: Seen) -> None:
        if self._path is None or not len(seen.times_s):
            return
        try:
            write_partial(self._path, seen, self._video, self._settings)
        except (OutputError, OSError) as error:
            self.note = f"; what it found before could not be kept ({error})"
            return
        self.note = (
            f"; the {len(seen.times_s)} frames before are kept in {self._path}: run the same command again to go on "
            "from there, or remove that file to begin anew"
        )


def _detect(
    frames: VideoReader,
    detector: Detector,
    report: Progress,
    total: int | None,
    every: int,
    before: Seen | None,
    keeper: _Keeper,
) -> Seen:
    first = 0 if before is None else _warm_up(before)
    if before is not None and before.memory is not None and isinstance(detector, Remembering):
        detector = _Replay(detector, before, first)

    def joined(rest: Seen) -> Seen:
        return rest if before is None else _join(before, rest, first)

    def shifted(stage: str, done: int, of: int | None) -> None:
        report(stage, first + done, None if of is None else max(of, first + done))

    try:
        interrupted = lambda rest: keeper.keep(joined(rest))  # noqa: E731 (one expression)
        return joined(detect(frames, detector, shifted, total=total, every=every, first=first, interrupted=interrupted))
    except DetectorError as error:
        raise DetectorError(f"{error}{keeper.note}") from error.__cause__


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


def _watch_from_s(before: Seen, settings: InferSettings) -> float:
    """A time between the frame to begin with and the one before it, where no rounding makes a frame change sides."""
    first = _warm_up(before)
    return settings.start_s if first == 0 else float(before.times_s[first - 1] + before.times_s[first]) / 2


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


def write_partial(path: Path, seen: Seen, video: str | Path, settings: InferSettings) -> None:
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
        "belongs_to": _belongs_to(video, seen.source, settings),
        "times_s": seen.times_s,
        "counts": counts,
        "cuts": np.array(seen.cuts, np.int64),
        "looked": np.ones(len(counts), np.bool_) if seen.looked is None else seen.looked,
        "busy_s": seen.busy_s,
        "memory": json.dumps(seen.memory),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as file:
        np.savez_compressed(file, **arrays)


def read_partial(path: Path, video: str | Path, detector: Detector, settings: InferSettings) -> Seen | None:
    """What an earlier run has kept; None if there is none that is whole and of this video, detector and settings."""
    source = {"detector": {"name": detector.name, "sha256": detector.sha256}}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["schema"]) != SCHEMA or str(stored["belongs_to"]) != _belongs_to(video, source, settings):
                return None
            ends = np.cumsum(stored["counts"])
            fields = [stored[name] for name in ("boxes_xyxy", "keypoints", "scores", "person_scores")]
            people = [
                Keypoints2D(*(array[start:end] for array in fields))
                for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
            return Seen(
                times_s=stored["times_s"],
                people=people,
                cuts=stored["cuts"].tolist(),
                source=source,
                looked=None if settings.detect_every == 1 else stored["looked"],
                busy_s=float(stored["busy_s"]),
                memory=json.loads(str(stored["memory"])),
            )
    except _BROKEN:
        return None


def _belongs_to(video: str | Path, source: dict[str, Any], settings: InferSettings) -> str:
    """What detections depend on: the video, whatever it is called, who finds people, and in which frames."""
    return json.dumps(
        {
            "video": content_sha256(Path(video)),
            **source,
            "asked": settings.detector,
            "start_s": settings.start_s,
            "end_s": settings.end_s,
            "detect_every": settings.detect_every,
        },
        sort_keys=True,
    )
