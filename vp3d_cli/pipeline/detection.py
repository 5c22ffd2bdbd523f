"""The first stage of the pipeline: everyone's keypoints in each frame of a video, found or taken from a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector, Remembering
from vp3d_cli.errors import DetectorError, InputError, StoppedError
from vp3d_cli.io.keypoints import read_keypoints
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.track import CutDetector, track_people
from vp3d_cli.types import BoolArray, DoubleArray, Frame, FrameBGR, Keypoints2D, Track2D, VideoInfo
from vp3d_cli.video import VideoReader

Progress = Callable[[str, int, int | None], None]  # stage, frames done, frames in all (None if not known)


@dataclass(frozen=True)
class Seen:
    """What was seen in each of T frames.

    Attributes:
        times_s: (T,) seconds.
        people: T of them; empty in frames at which the detector did not look.
        cuts: numbers of frames that begin a new camera shot.
        source: where the keypoints come from, for the provenance of results.
        looked: (T,) frames at which the detector looked; None for all.
        busy_s: seconds that the detector took; of parts done side by side their sum.
        warnings: what the user should know, one sentence each.
        own_tracks: identities, where the source has them.
        memory: what the detector knew before the next frame; None if it does not tell.
    """

    times_s: DoubleArray
    people: list[Keypoints2D]
    cuts: list[int]
    source: dict[str, Any]
    looked: BoolArray | None = None
    busy_s: float = 0.0
    warnings: list[str] = field(default_factory=list)
    own_tracks: list[Track2D] | None = None
    memory: dict[str, Any] | None = None

    def tracks(self, size_wh: tuple[int, int]) -> list[Track2D]:
        """One track for every person; see :func:`vp3d_cli.track.track_people`."""
        if self.own_tracks is not None:
            return self.own_tracks
        if self.looked is None:
            return track_people(self.people, self.times_s, size_wh, cuts=self.cuts)
        # Misses would look like people who flicker: tracked are the frames looked at, as if of a slower camera.
        at = np.flatnonzero(self.looked)
        cuts = np.searchsorted(at, self.cuts).tolist()
        tracks = track_people([self.people[i] for i in at], self.times_s[at], size_wh, cuts=cuts)
        return [_spread(track, at) for track in tracks]


def detect(
    frames: Iterable[Frame],
    detector: Detector,
    report: Progress = lambda stage, done, total: None,
    *,
    total: int | None = None,
    every: int = 1,
    first: int = 0,
    interrupted: Callable[[Seen, BaseException], None] = lambda seen, why: None,
) -> Seen:
    """Run the detector over frames of one video, in order. A frame is dropped as soon as it was seen.

    Args:
        frames: of the whole video or of a part, all of one size.
        detector: is reset first.
        report: called with ("detect", done, total); may raise StoppedError.
        total: number of frames, about.
        every: look at frames whose number is a multiple of this, and at the first and last frame of each shot.
        first: number of the first frame in the whole video.
        interrupted: called with what was seen before, and why, when the detector fails or is stopped.

    Raises:
        DetectorError: the detector failed.
        StoppedError: ``report`` raised it.
        KeyboardInterrupt: Ctrl-C.
    """
    lookout = _Lookout(detector, every, first)
    times: list[float] = []
    report("detect", 0, total)
    try:
        for frame in frames:
            times.append(frame.time_s)
            lookout.take(frame.image)
            if lookout.idle:
                report("detect", len(times), max(total, len(times)) if total else None)
        lookout.end_shot()
        report("detect", len(times), len(times))
        return lookout.seen(times)
    except (DetectorError, StoppedError, KeyboardInterrupt) as why:
        interrupted(lookout.seen(times), why)
        raise


class _Lookout:
    """Takes frames one by one, and hands those that matter to the detector, as many at once as it likes.

    Ctrl-C may come between any two lines; :meth:`seen` is right at all times: a frame waits before it counts, until
    what was found in it is there.
    """

    def __init__(self, detector: Detector, every: int, first: int) -> None:
        self.people: list[Keypoints2D] = []
        self.looked: list[bool] = []
        self.cuts: list[int] = []
        self.busy_s = 0.0
        self._detector, self._every, self._first = detector, every, first
        self._cut_detector = CutDetector()
        self._waiting: list[tuple[int, FrameBGR]] = []
        self._skipped: tuple[int, FrameBGR] | None = None  # the last frame, if the detector did not look at it
        self._memory: dict[str, Any] | None = None  # while frames wait: of before them
        detector.reset(first // every)

    @property
    def idle(self) -> bool:
        """No frame waits for the detector."""
        return not self._waiting

    def take(self, image: FrameBGR) -> None:
        started = time.perf_counter()
        index = len(self.people)
        begins = self._cut_detector.update(image)
        self.busy_s += time.perf_counter() - started
        if begins:
            self.end_shot()
            self.cuts.append(index)
            self._detector.reset((self._first + index) // self._every)
        self._skipped = (index, image)
        self.looked.append(False)
        self.people.append(Keypoints2D.empty())
        if index == 0 or begins or (self._first + index) % self._every == 0:
            self._wait_with(index, image)

    def end_shot(self) -> None:
        """Look at the last frame, so that nothing need be guessed beyond what was seen, and at all that waits."""
        if self._skipped is not None:
            self._wait_with(*self._skipped)
        self._look()

    def seen(self, times: list[float]) -> Seen:
        """What was seen so far, up to the first frame that the detector has still to look at, or may have to."""
        detector = self._detector
        pending = self._waiting or ([] if self._skipped is None else [self._skipped])
        end = pending[0][0] if pending else len(self.people)
        return Seen(
            times_s=np.array(times[:end]),
            people=self.people[:end],
            cuts=[cut for cut in self.cuts if cut < end],
            source={"detector": {"name": detector.name, "sha256": detector.sha256}},
            looked=None if self._every == 1 else np.array(self.looked[:end], np.bool_),
            busy_s=self.busy_s,
            memory=self._remembered() if self._memory is None else self._memory,
        )

    def _wait_with(self, index: int, image: FrameBGR) -> None:
        self._waiting.append((index, image))
        self._skipped = None
        if len(self._waiting) >= self._detector.batch_size:
            self._look()

    def _look(self) -> None:
        started = time.perf_counter()
        self._memory = self._remembered()
        try:
            found = self._detector.detect([image for _, image in self._waiting]) if self._waiting else []
        except Exception as error:
            at = self._first + self._waiting[0][0]
            said = " ".join(str(error).split()) or "no message"
            raise DetectorError(
                f"the detector {self._detector.name} failed at frame {at} ({type(error).__name__}: {said})"
            ) from error
        for (index, _), people in zip(self._waiting, found, strict=True):
            self.people[index], self.looked[index] = people, True
        self._waiting, self._memory = [], None
        self.busy_s += time.perf_counter() - started

    def _remembered(self) -> dict[str, Any] | None:
        return self._detector.memory() if isinstance(self._detector, Remembering) else None


def take_keypoints(reader: VideoReader, settings: InferSettings, report: Progress) -> Seen:
    """Read keypoints from a file; the video gives the time of each frame, and is otherwise not looked at.

    Raises:
        InputError: the file cannot be used, or only a part of the video was asked for.
    """
    assert settings.keypoints is not None
    if settings.start_s > 0 or settings.end_s is not None:
        raise InputError("--keypoints covers the whole video; leave out --start and --end")
    file = read_keypoints(settings.keypoints, reader.info, layout=settings.layout, joint_map=settings.joint_map)
    times = []
    for frame in reader:
        times.append(frame.time_s)
        report("detect", len(times), len(file))
    count = min(len(times), len(file))
    warnings = list(file.warnings)
    if len(times) != len(file):
        lengths = f"{len(file)} frames, the video {len(times)}"
        warnings.append(f"{settings.keypoints} has {lengths}: the first {count} are used")
    people = [file.detections[i] for i in range(count)]
    tracks = file.tracks()
    if tracks is not None:
        tracks = [_before(track, count) for track in tracks if track.first < count]
    source = {"keypoints": {"file": settings.keypoints, "format": file.format, "layout": file.layout}}
    return Seen(np.array(times[:count]), people, [], source, warnings=warnings, own_tracks=tracks)


def frames_expected(info: VideoInfo, settings: InferSettings) -> int | None:
    """How many frames there will be, about; None if the container does not say."""
    if info.duration_s is None:
        return info.frame_count
    end_s = info.duration_s if settings.end_s is None else min(settings.end_s, info.duration_s)
    return max(1, round((end_s - settings.start_s) * info.fps))


def _before(track: Track2D, stop: int) -> Track2D:
    """A track up to a frame of the video."""
    rows = slice(0, stop - track.first)
    arrays = (track.keypoints[rows], track.scores[rows], track.boxes_xyxy[rows], track.observed[rows])
    return Track2D(track.person_id, *arrays, track.first, track.skeleton)


def _spread(track: Track2D, at: np.ndarray[Any, np.dtype[np.intp]]) -> Track2D:
    """A track of the frames ``at`` as one of all; between them nothing is known."""
    own = at[track.frames]
    first, rows = int(own[0]), own - own[0]
    frames = int(rows[-1]) + 1
    joints = track.skeleton.num_joints
    keypoints = np.full((frames, joints, 2), np.nan, np.float32)
    scores = np.zeros((frames, joints), np.float32)
    boxes = np.full((frames, 4), np.nan, np.float32)
    observed = np.zeros((frames, joints), np.bool_)
    keypoints[rows], scores[rows], boxes[rows] = track.keypoints, track.scores, track.boxes_xyxy
    observed[rows] = track.observed
    return Track2D(track.person_id, keypoints, scores, boxes, observed, first, track.skeleton)
