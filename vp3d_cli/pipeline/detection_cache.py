"""Cache of detections: an interrupted run keeps them in a file beside the result, and the next run resumes there.

The cache is written now and then while the detector runs, when it fails or is stopped, and when all is detected until
the result is written. It says which video, detector, weights and frames it belongs to, and is deleted with success.

The next run reads the video from some seconds before the frame where the last one ended, or from the start of the
shot. A detector that tells its state (:class:`vp3d_cli.detect.base.StatefulDetector`) is given it back, and the result
is that of an undisturbed run; another one runs on those seconds again.
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

from vp3d_cli.detect.base import Detector, StatefulDetector
from vp3d_cli.errors import DetectorError, InputError, OutputError
from vp3d_cli.io.atomic import content_sha256
from vp3d_cli.io.detections import SUFFIX, Detections, read_detections, write_detections
from vp3d_cli.pipeline.detection import Progress, detect_frames
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader

# Detection begins so much earlier, so that whoever is in view is tracked by then as closely as if the video had been
# detected from the beginning (docs/scaling.md). The embedded detector looks back 20 frames, shot boundaries 8.
WARM_UP_S = 3.0
# Work that took less is done again as quickly; a file that nobody asked for would only be in the way.
_WORTH_KEEPING_S = 10.0
_CHECKPOINT_S = 60.0  # so much work, or a tenth of all so far, is lost at most when the process is killed


def cache_path(out: str | Path) -> Path:
    """Path of the cache for the result ``out``."""
    return Path(f"{out}{SUFFIX}")


def chunk_folder(cache: Path) -> Path:
    """Folder of the caches of chunks, beside the cache of the whole video."""
    return cache.with_suffix("") if cache.suffix else cache.with_name(f"{cache.name}.chunks")


def cache_files(cache: Path) -> list[Path]:
    """All cache files of a video: ``cache`` itself, and those of its chunks."""
    return [*([cache] if cache.is_file() else []), *sorted(chunk_folder(cache).glob("chunk-*.npz"))]


@dataclass(frozen=True)
class FrameRange:
    """A range of frames that one call of the detector loop covers: a video, or a chunk of it.

    Attributes:
        video: file or folder of images.
        start_s, end_s: the frames from the one time up to the other; ``end_s`` is None where the video ends.
        every: the detector runs on every so many frames.
        first: number of the first frame in the whole video.
        total: about how many frames there are; None if not known.
        sha256: of the video; empty where nobody has computed it yet.
    """

    video: str
    start_s: float = 0.0
    end_s: float | None = None
    every: int = 1
    first: int = 0
    total: int | None = None
    sha256: str = ""


class DetectionCache:
    """The cache file of a range of frames.

    Args:
        path: of the file.
        frames: what it holds detections of.
        detector: what they come from.
    """

    def __init__(self, path: Path, frames: FrameRange, detector: Detector) -> None:
        self.path, self._frames = path, frames
        self._detector = {"name": detector.name, "sha256": detector.sha256}

    def load(self) -> Detections | None:
        """Detections of an earlier run; None if there are none, or they are of other frames or another detector."""
        if not self.path.is_file():
            return None
        try:
            kept = read_detections(self.path)
        except InputError:
            return None
        return kept if kept.progress is not None and kept.progress.get("key") == self._key() else None

    def save(self, detections: Detections, *, complete: bool) -> None:
        """Write the detections so far, in place of those before.

        Raises:
            OutputError: the file cannot be written.
            OSError: the video cannot be read, to know it again later.
        """
        state = (detections.progress or {}).get("state")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        progress = {"key": self._key(), "state": state, "complete": complete}
        write_detections(replace(detections, progress=progress), self.path, overwrite=True)

    def _key(self) -> dict[str, Any]:
        return {**_key_of(self._frames), "detector": self._detector}


def _key_of(frames: FrameRange) -> dict[str, Any]:
    key = {
        "video": frames.sha256 or content_sha256(Path(frames.video)),
        "start_s": frames.start_s,
        "end_s": frames.end_s,
        "first": frames.first,
        "every": frames.every,
    }
    loaded: dict[str, Any] = json.loads(json.dumps(key))
    return loaded


def is_cache_of(path: Path, frames: FrameRange) -> bool:
    """Whether a file holds detections of these frames; its detector is not compared."""
    try:
        key = dict((read_detections(path).progress or {}).get("key", {}))
        key.pop("detector", None)
        return key == _key_of(frames)
    except (InputError, OSError, TypeError, ValueError):
        return False


def delete_cache(cache: Path | None) -> None:
    """Delete the cache files of a video and its chunks, if there are any."""
    if cache is None:
        return
    folder = chunk_folder(cache)
    # A process that was killed while it wrote has left half a file under another name.
    for file in [*cache_files(cache), *folder.glob(".vp3d-*.part")]:
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or the user has put something into it
        folder.rmdir()


def detect_resumably(
    frames: FrameRange,
    reader: VideoReader,
    detector: Detector,
    report: Progress,
    cache: Path | None,
    *,
    always: bool = False,
    resumed: bool = True,
) -> Detections:
    """Run the detector over a video, starting where an earlier run ended.

    Args:
        frames: what to detect people in.
        reader: of these frames, open.
        detector: finds people.
        report: called with ("detect", done, total); may raise StoppedError.
        cache: detections file of an interrupted run, made use of and written; None for none.
        always: keep what was found even if it took a moment only.
        resumed: a cache is of an earlier run, which the user should know; False if this very run has made it.

    Raises:
        DetectorError: the detector failed; says where what it found is kept.
        StoppedError: ``report`` raised it.
        KeyboardInterrupt: Ctrl-C; says where what was found is kept.
        VideoError: the video cannot be read.
    """
    kept = None if cache is None else DetectionCache(cache, frames, detector)
    earlier = None if kept is None else kept.load()
    if kept is None or earlier is None or not len(earlier):
        return _detect(frames, reader, detector, report, None, kept, always)
    note = f"{kept.path} had the first {len(earlier)} frames from a run that did not end"
    reader.close()
    reader.warnings.clear()  # of frames that are not taken from it: the earlier run has told of them
    if (earlier.progress or {}).get("complete"):
        report("detect", len(earlier), len(earlier))
        return replace(earlier, progress=None, warnings=(*earlier.warnings, *([note] if resumed else [])))
    with VideoReader(frames.video, _resume_at_s(earlier, frames.start_s), frames.end_s) as rest:
        joined = _detect(frames, rest, detector, report, earlier, kept, always)
    return replace(joined, warnings=(*dict.fromkeys([*earlier.warnings, *rest.warnings]), note))


def _detect(
    frames: FrameRange,
    reader: VideoReader,
    detector: Detector,
    report: Progress,
    earlier: Detections | None,
    cache: DetectionCache | None,
    always: bool,
) -> Detections:
    skipped = 0 if earlier is None else _warm_up(earlier)
    state = None if earlier is None else (earlier.progress or {}).get("state")
    if earlier is not None and state is not None and isinstance(detector, StatefulDetector):
        detector = _Replay(detector, earlier, skipped, state)
    kept_note: list[str] = []

    def joined(rest: Detections) -> Detections:
        whole = rest if earlier is None else _join(earlier, rest, skipped)
        had = () if earlier is None else earlier.warnings
        return replace(whole, warnings=(*dict.fromkeys([*whole.warnings, *had, *reader.warnings]),))

    def checkpoint(rest: Detections, why: BaseException | None) -> None:
        if why is not None:
            reader.close()  # then it has said all that there is to say of what it read
        found = joined(rest)
        worth = always or found.detector_seconds >= _WORTH_KEEPING_S or isinstance(why, DetectorError)
        if cache is not None and worth and len(found):
            kept_note[:] = _try_to_keep(cache, found, complete=False)

    def report_from_start(stage: str, done: int, of: int | None) -> None:
        report(stage, skipped + done, None if of is None else max(of, skipped + done))

    try:
        rest = detect_frames(
            reader,
            detector,
            report_from_start,
            info=reader.info,
            total=frames.total,
            every=frames.every,
            first=frames.first + skipped,
            checkpoint=checkpoint,
            checkpoint_s=_CHECKPOINT_S,
        )
    except DetectorError as error:
        raise DetectorError("; ".join([str(error), *kept_note])) from error.__cause__
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*kept_note) from None
    found = joined(rest)
    if cache is not None and (always or found.detector_seconds >= _WORTH_KEEPING_S):
        _try_to_keep(cache, found, complete=True)
    return replace(found, progress=None)


def _try_to_keep(cache: DetectionCache, found: Detections, *, complete: bool) -> list[str]:
    """Write the cache; returns a message for the user."""
    try:
        cache.save(found, complete=complete)
    except (OutputError, OSError) as error:
        return [f"what was found before could not be kept ({error})"]
    return [
        f"the {len(found)} frames before are kept in {cache.path}: run the same command again to go on from there, "
        "or remove that file to begin anew"
    ]


class _Replay:
    """A detector that returns cached detections of the first frames, and then continues from its saved state."""

    def __init__(self, detector: Detector, earlier: Detections, first: int, state: Mapping[str, Any]) -> None:
        self.name, self.sha256, self.batch_size = detector.name, detector.sha256, 1
        self._detector = detector
        self._state: dict[str, Any] | None = dict(state)
        self._known = deque(earlier.frames[i] for i in range(first, len(earlier)) if earlier.detected[i])

    def reset(self, frame: int = 0) -> None:
        if not self._known:
            self._restore()
            self._detector.reset(frame)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        if self._known:
            return [self._known.popleft()]
        self._restore()
        return self._detector.detect(frames)

    def state(self) -> dict[str, Any] | None:
        """The state of the detector; during replay, the state after the cached frames."""
        if self._state is not None or not isinstance(self._detector, StatefulDetector):
            return self._state
        return self._detector.state()

    def restore(self, memory: Mapping[str, Any]) -> None:
        self._state = dict(memory)

    def _restore(self) -> None:
        if self._state is not None and isinstance(self._detector, StatefulDetector):
            self.batch_size = self._detector.batch_size
            self._detector.restore(self._state)
            self._state = None


def _warm_up(earlier: Detections) -> int:
    """The frame to resume at, early enough to restore the state of detector and shot detection."""
    times = earlier.frame_times_s
    warm = max([int(np.searchsorted(times, times[-1] - WARM_UP_S)), *earlier.shot_starts])
    return int(np.flatnonzero(earlier.detected[: warm + 1])[-1])


def _resume_at_s(earlier: Detections, start_s: float) -> float:
    """The time to resume at: half way between that frame and the one before, safe from rounding."""
    first = _warm_up(earlier)
    return start_s if first == 0 else float(earlier.frame_times_s[first - 1] + earlier.frame_times_s[first]) / 2


def _join(earlier: Detections, rest: Detections, first: int) -> Detections:
    """Join cached detections with new ones; ``rest`` begins at frame ``first`` and overlaps ``earlier``."""
    own = len(earlier) - first
    if len(rest) <= own:  # it failed again, before it got any further
        return earlier
    new = rest[own:]
    return replace(
        new,
        frames=[*earlier.frames, *new.frames],
        frame_times_s=np.concatenate([earlier.frame_times_s, new.frame_times_s]),
        detected=np.concatenate([earlier.detected, new.detected]),
        shot_starts=(*earlier.shot_starts, *(shot + len(earlier) for shot in new.shot_starts)),
        detector_seconds=earlier.detector_seconds + rest.detector_seconds,
    )
