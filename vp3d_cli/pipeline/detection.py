"""The first stage: everyone's keypoints in each frame of a video, from a detector or from a keypoint file.

:func:`detect_people` decides where they come from, :func:`detect_frames` runs the detector over frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vp3d_cli.detect.base import Detector, StatefulDetector
from vp3d_cli.errors import DetectorError, InputError, StoppedError
from vp3d_cli.io.detections import Detections, is_detections_file, read_detections
from vp3d_cli.io.keypoints import read_keypoints
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.track import CutDetector, track_people
from vp3d_cli.types import Frame, FrameBGR, Keypoints2D, Track2D, VideoInfo
from vp3d_cli.video import VideoReader

_TIME_TOLERANCE_S = 1e-6  # start and end are typed by people; times come from fractions
Progress = Callable[[str, int, int | None], None]  # stage, frames done, frames in all (None if not known)


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Ignore progress reports."""


@dataclass
class _Batch:
    """A batch of consecutive frames; the detector runs on some of them in one call.

    Attributes:
        new_shot: whether its first frame begins a new camera shot.
        times: seconds, of every frame.
        places: which of the frames the detector runs on.
        images: of those.
    """

    new_shot: bool = False
    times: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    images: list[FrameBGR] = field(default_factory=list)
    _last: FrameBGR | None = None

    def add(self, frame: Frame, detect: bool) -> None:
        self.times.append(frame.time_s)
        self._last = frame.image
        if detect:
            self.detect_last()

    def detect_last(self) -> None:
        """Select the last frame for detection."""
        if self._last is not None:
            self.places.append(len(self.times) - 1)
            self.images.append(self._last)
            self._last = None


def _batches(frames: Iterable[Frame], every: int, first: int, detector: Detector) -> Iterator[_Batch]:
    """Group frames into batches of the detector's batch size, each within one camera shot."""
    shots, batch, begin_shot = CutDetector(), _Batch(), True
    for index, frame in enumerate(frames):
        if shots.update(frame.image):
            if batch.times:
                batch.detect_last()
                yield batch
            batch, begin_shot = _Batch(new_shot=True), True
        batch.add(frame, detect=begin_shot or (first + index) % every == 0)
        begin_shot = False
        if len(batch.images) >= detector.batch_size:
            yield batch
            batch = _Batch()
    if batch.times:
        batch.detect_last()
        yield batch


class _Record:
    """The detections so far; consistent at any time, also when Ctrl-C interrupts."""

    def __init__(self, detector: Detector, first: int, every: int, info: VideoInfo | None) -> None:
        self._detector, self._first, self._every, self._info = detector, first, every, info
        self._done: list[tuple[_Batch, list[Keypoints2D]]] = []
        self._state: tuple[int, dict[str, Any] | None] = (-1, None)  # batches done then, the detector's state
        self._started = time.perf_counter()
        self.frames = 0
        detector.reset(first // every)

    def run(self, batch: _Batch) -> None:
        """Run the detector on a batch.

        Raises:
            DetectorError: it failed.
        """
        detector, at = self._detector, self._first + self.frames
        if batch.new_shot:
            detector.reset(at // self._every)
        self._state = (len(self._done), self._current_state())
        try:
            found = detector.detect(batch.images) if batch.images else []
        except Exception as error:
            said = " ".join(str(error).split()) or "no message"
            at += batch.places[0]
            raise DetectorError(
                f"the detector {detector.name} failed at frame {at} ({type(error).__name__}: {said})"
            ) from error
        batch.images.clear()
        self._done.append((batch, found))
        self.frames += len(batch.times)

    def detections(self, complete: bool) -> Detections:
        """The detections of all finished batches."""
        done, (at, state) = list(self._done), self._state
        starts, count = [], 0
        frames: list[Keypoints2D] = []
        for batch, found in done:
            if batch.new_shot:
                starts.append(count)
            people = [Keypoints2D.empty() for _ in batch.times]
            for place, here in zip(batch.places, found, strict=True):
                people[place] = here
            frames += people
            count += len(people)
        detected = [place in batch.places for batch, _ in done for place in range(len(batch.times))]
        detector, info = self._detector, self._info
        return Detections(
            frames=frames,
            frame_times_s=np.array([second for batch, _ in done for second in batch.times], np.float64),
            fps=info.fps if info else 1.0,
            video_size_wh=info.size_wh if info else (1, 1),
            shot_starts=tuple(starts),
            detected=np.array(detected, np.bool_),
            source={"detector": {"name": detector.name, "sha256": detector.sha256}},
            video=str(info.path) if info else "",
            detector_seconds=time.perf_counter() - self._started,
            progress=None if complete else {"state": state if at == len(done) else self._current_state()},
        )

    def _current_state(self) -> dict[str, Any] | None:
        return self._detector.state() if isinstance(self._detector, StatefulDetector) else None


def detect_frames(
    frames: Iterable[Frame],
    detector: Detector,
    report: Progress = no_progress,
    *,
    info: VideoInfo | None = None,
    total: int | None = None,
    every: int = 1,
    first: int = 0,
    checkpoint: Callable[[Detections, BaseException | None], None] = lambda detections, why: None,
    checkpoint_s: float = float("inf"),
) -> Detections:
    """Run the detector over the frames of one video, in order; frames are not kept.

    Args:
        frames: of the whole video or of a part, all of one size.
        detector: is reset first.
        report: called with ("detect", done, total); may raise StoppedError.
        info: facts of the video.
        total: number of frames, about.
        every: run on frames whose number is a multiple of this, and on the first and last frame of each shot.
        first: number of the first frame in the whole video.
        checkpoint: called with what was detected so far, now and then, and when the detector fails or is stopped
            (then also with the reason).
        checkpoint_s: seconds between two calls of it; a tenth of the time so far where that is more.

    Raises:
        DetectorError: the detector failed.
        StoppedError: ``report`` raised it.
        KeyboardInterrupt: Ctrl-C.
    """
    record = _Record(detector, first, every, info)
    started = saved = time.perf_counter()
    report("detect", 0, total)
    try:
        for batch in _batches(frames, every, first, detector):
            record.run(batch)
            report("detect", record.frames, max(total, record.frames) if total else None)
            now = time.perf_counter()
            if now - saved > max(checkpoint_s, 0.1 * (now - started)):
                saved = now
                checkpoint(record.detections(complete=False), None)
        report("detect", record.frames, record.frames)
        return record.detections(complete=True)
    except (DetectorError, StoppedError, KeyboardInterrupt) as why:
        checkpoint(record.detections(complete=False), why)
        raise


def keypoints_from_file(reader: VideoReader, settings: InferSettings, report: Progress) -> Detections:
    """Read keypoints from a file, in place of a detector; the video gives the time of each frame.

    The file covers the whole video; returned is the part that the settings ask for.

    Args:
        reader: of that part.

    Raises:
        InputError: the file cannot be used, or has no frame in that part.
    """
    assert settings.keypoints is not None
    if is_detections_file(settings.keypoints):
        found = _own_detections(reader, settings.keypoints, report)
    elif settings.start_s > 0 or settings.end_s is not None:
        # Frames of the file are counted from the start of the video, so all of its times are needed.
        with VideoReader(reader.info.path) as whole:
            found = _foreign_keypoints(whole, settings, report)
        found = replace(found, warnings=(*whole.warnings, *found.warnings))
    else:
        found = _foreign_keypoints(reader, settings, report)
    return _part_of(found, settings)


def _part_of(found: Detections, settings: InferSettings) -> Detections:
    """The frames from start to end of the settings."""
    if settings.start_s <= 0 and settings.end_s is None:
        return found
    end_s = float("inf") if settings.end_s is None else settings.end_s
    times = found.frame_times_s + _TIME_TOLERANCE_S
    first, last = (int(np.searchsorted(times, time_s)) for time_s in (settings.start_s, end_s))
    if first >= last:
        span = f"{found.frame_times_s[0]:g} to {found.frame_times_s[-1]:g} s" if len(found) else "no frames"
        raise InputError(f"{settings.keypoints}: nothing from {settings.start_s:g} s to {end_s:g} s; it covers {span}")
    return found[first:last]


def _foreign_keypoints(reader: VideoReader, settings: InferSettings, report: Progress) -> Detections:
    """Keypoints of another tool for the whole video."""
    assert settings.keypoints is not None
    layout = {"layout": settings.layout, "joint_map": settings.joint_map}
    # First without a number of frames, so that a file that is of no use is refused before the video is decoded.
    file = read_keypoints(settings.keypoints, replace(reader.info, frame_count=None), **layout)
    times = []
    for frame in reader:
        times.append(frame.time_s)
        report("detect", len(times), len(file))
    # The frames of the video are those that it gives, here as for a detector; its container may count others.
    file = read_keypoints(settings.keypoints, replace(reader.info, frame_count=len(times)), **layout)
    count = min(len(times), len(file))
    warnings = list(file.warnings)
    if len(times) != len(file):
        lengths = f"{len(file)} frames, the video {len(times)}"
        warnings.append(f"{settings.keypoints} has {lengths}: the first {count} are used")
    return Detections(
        frames=file.detections[:count],
        frame_times_s=np.array(times[:count]),
        fps=reader.info.fps,
        video_size_wh=reader.info.size_wh,
        person_ids=None if file.ids is None else file.ids[:count],
        source={"keypoints": {"file": settings.keypoints, "format": file.format, "layout": file.layout}},
        video=str(reader.info.path),
        warnings=tuple(warnings),
    )


def _own_detections(reader: VideoReader, file: str, report: Progress) -> Detections:
    """Detections that vp3d wrote for this video."""
    detections = read_detections(file)
    if detections.video_size_wh != reader.info.size_wh:
        made_for, has = ("x".join(map(str, wh)) for wh in (detections.video_size_wh, reader.info.size_wh))
        raise InputError(f"{file}: made for images of {made_for} pixels, but {reader.info.path.name} has {has}")
    report("detect", len(detections), len(detections))
    return detections


def tracks_of(detections: Detections) -> list[Track2D]:
    """One track for every person; see :func:`vp3d_cli.track.track_people`."""
    own = detections.identified_tracks()
    if own is not None:
        return own
    size_wh, shots = detections.video_size_wh, detections.shot_starts
    if detections.detected.all():
        return track_people(detections.frames, detections.frame_times_s, size_wh, cuts=shots)
    # Frames without detection would look like people who flicker: track as if the camera were slower.
    at = np.flatnonzero(detections.detected)
    cuts = np.searchsorted(at, shots).tolist()
    tracks = track_people([detections[int(i)] for i in at], detections.frame_times_s[at], size_wh, cuts=cuts)
    return [_over_all_frames(track, at) for track in tracks]


def expected_frames(info: VideoInfo, settings: InferSettings) -> int | None:
    """How many frames there will be, about; None if the container does not say."""
    if info.duration_s is None:
        return info.frame_count
    end_s = info.duration_s if settings.end_s is None else min(settings.end_s, info.duration_s)
    return max(1, round((end_s - settings.start_s) * info.fps))


def _over_all_frames(track: Track2D, at: np.ndarray[Any, np.dtype[np.intp]]) -> Track2D:
    """A track over all frames from one over the frames ``at``; keypoints between them are missing."""
    own = at[track.frames]
    first, rows = int(own[0]), own - own[0]
    frames, joints = int(rows[-1]) + 1, track.skeleton.num_joints
    keypoints = np.full((frames, joints, 2), np.nan, np.float32)
    scores = np.zeros((frames, joints), np.float32)
    boxes = np.full((frames, 4), np.nan, np.float32)
    observed = np.zeros((frames, joints), np.bool_)
    keypoints[rows], scores[rows], boxes[rows] = track.keypoints, track.scores, track.boxes_xyxy
    observed[rows] = track.observed
    return Track2D(track.person_id, keypoints, scores, boxes, observed, first, track.skeleton)
