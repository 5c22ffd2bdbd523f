"""Pictures of a video and its motion: the rendered video and the sheet of numbered people."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pipeline.infer import detect_people, track_and_select
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.contact_sheet import NumberedPerson, contact_sheet
from vp3d_cli.render.floor import TRAIL_S
from vp3d_cli.render.layouts import FrameRenderer, check_layout, check_pose_matches_video
from vp3d_cli.render.scene3d import SceneStyle
from vp3d_cli.types import Frame, FrameBGR, Track2D
from vp3d_cli.video import VideoReader, VideoWriter
from vp3d_cli.video.image_folder import ImageFolderWriter, check_image_folder
from vp3d_cli.video.threads import BackgroundWorker

_PREVIEW_FRAMES = 12
_HEIGHT, _GIF_HEIGHT = 720, 288  # of a result, pixels
_GIF_FPS = 15.0
_SLOT_TOLERANCE = 0.01  # of a frame: times are rounded
# Drawn frames that may wait for the encoder.
_DRAWN_AHEAD = 3


def render(
    pose: Pose3D,
    video: str | Path | None,
    out: str | Path,
    *,
    height: int | None = None,
    fps: float | None = None,
    layout: str | None = None,
    people: Sequence[int] = (),
    camera: str = "auto",
    theme: str = "light",
    trail_s: float = TRAIL_S,
    compare: Pose3D | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
    warn: Callable[[str], None] = warnings.warn,
) -> Path:
    """Draw a pose: footage with 2D skeletons, the 3D scene, or both.

    Decoding, drawing and encoding overlap, each a few frames ahead of the next.

    Args:
        pose: the motion.
        video: that it was made from; None draws the 3D scene alone.
        out: file to write: .mp4, .webm or .gif, or without an ending a folder of PNG images.
        height: of the result in pixels; None for 720, of a gif 288.
        fps: most frames per second of the result; None for all frames, of a gif 15.
        layout: ``side``, ``overlay``, ``3d`` or ``grid``; None for ``side``, without a video ``3d``.
        people: numbers of the people to draw; empty for all.
        camera: ``auto``, ``fixed``, ``follow`` or ``turntable``.
        theme: of the 3D scene: ``light`` or ``dark``.
        trail_s: length of the trails on the floor in seconds; 0 for none.
        compare: another pose, drawn in the 3D scene in other colours.
        overwrite: replace ``out`` if it exists.
        progress: called with ("render", done, total).
        warn: called with a sentence if the video lacks frames of the pose, which are drawn without footage.

    Raises:
        InputError: the pose is not of this video, or has no frames.
        ConfigError: a value out of range, or a person who is not in the pose.
        OutputError: ``out`` cannot be written.
    """
    layout = layout or ("3d" if video is None else "side")
    check_layout(layout, video is not None)
    pose = replace(pose, people=tuple(pose.person(i) for i in dict.fromkeys(people))) if people else pose
    is_gif = Path(out).suffix.lower() == ".gif"
    usual_height, usual_fps = (_GIF_HEIGHT, _GIF_FPS) if is_gif else (_HEIGHT, None)
    renderer = FrameRenderer(
        pose,
        pose.video_size_wh,
        usual_height if height is None else height,
        layout=layout,
        footage=video is not None,
        style=SceneStyle(camera, theme, trail_s),
        compare=compare,
    )
    wanted = frames_at_rate(pose.frame_times_s, usual_fps if fps is None else fps)
    writer = _writer(Path(out), renderer.size_wh, pose.frame_times_s, wanted, video, overwrite)
    without_footage = 0
    with (
        _pictures(pose, video, layout, renderer, wanted) as pictures,
        writer,
        BackgroundWorker(writer.write, ahead=_DRAWN_AHEAD) as encoding,
    ):
        for done, (index, image) in enumerate(pictures, start=1):
            without_footage += image is None
            encoding.put(renderer.draw_index(index, image))
            progress("render", done, len(wanted))
    if video is not None and layout != "3d" and without_footage:
        count = f"{without_footage} of {len(wanted)}"
        warn(f"{video}: it lacks {count} frames of the pose, which are drawn without footage; is it the right video?")
    return Path(out)


def check_out(out: Path, overwrite: bool) -> None:
    """Check that a result could be written: a file, or without an ending a folder of PNG images.

    Raises:
        OutputError: it could not.
    """
    if out.suffix:
        check_target(out, overwrite)
    else:
        check_image_folder(out, overwrite)


def frames_at_rate(times_s: NDArray[np.floating[Any]], fps: float | None) -> list[int]:
    """Frames to keep for at most ``fps`` frames per second; all for None.

    Args:
        times_s: (T,) time of each frame in seconds.
        fps: frames per second.

    Raises:
        ConfigError: the rate is not a positive number.
    """
    if fps is None:
        return list(range(len(times_s)))
    if not (math.isfinite(fps) and fps > 0):
        raise ConfigError(f"fps must be a positive number, got {fps}")
    kept, last = [], -1
    for index, time_s in enumerate((times_s - times_s[:1]).tolist()):
        slot = math.floor(time_s * fps + _SLOT_TOLERANCE)
        if slot > last:
            kept.append(index)
            last = slot
    return kept


@contextmanager
def _pictures(
    pose: Pose3D, video: str | Path | None, layout: str, renderer: FrameRenderer, wanted: Sequence[int]
) -> Iterator[Iterator[tuple[int, FrameBGR | None]]]:
    """Each frame of the pose that is drawn, with its image of the video."""
    if video is None:
        yield ((index, None) for index in wanted)
        return
    reader = VideoReader(video)
    check_pose_matches_video(pose, reader.info)
    if layout == "3d":
        yield ((index, None) for index in wanted)
        return
    with reader:
        yield _with_footage(reader, renderer, wanted, float(pose.frame_times_s[-1]))


def _with_footage(
    reader: VideoReader, renderer: FrameRenderer, wanted: Sequence[int], end_s: float
) -> Iterator[tuple[int, FrameBGR | None]]:
    """Frames of the pose with their images; None where the video has none, as after its end."""
    due = deque(wanted)
    for frame in reader:
        if frame.time_s > end_s + 1.0 or not due:
            break
        index = renderer.frame_at(frame.time_s)
        while index is not None and due and due[0] < index:
            yield due.popleft(), None
        if due and due[0] == index:
            yield due.popleft(), frame.image
    yield from ((index, None) for index in due)


def _writer(
    out: Path,
    size_wh: tuple[int, int],
    times_s: NDArray[np.floating[Any]],
    wanted: Sequence[int],
    video: str | Path | None,
    overwrite: bool,
) -> VideoWriter | ImageFolderWriter:
    if not out.suffix:
        return ImageFolderWriter(out, wanted, overwrite=overwrite)
    return VideoWriter(out, size_wh, frame_times_s=times_s[list(wanted)], audio_from=video, overwrite=overwrite)


def preview(
    video: str | Path,
    out: str | Path,
    *,
    settings: InferSettings | None = None,
    progress: Progress = no_progress,
    overwrite: bool = False,
    models: Models | None = None,
) -> Path:
    """Draw a contact sheet (PNG): frames of the video in which each person has their number.

    Args:
        video, settings, progress, overwrite, models: as for :func:`vp3d_cli.pipeline.api.infer`.
        out: PNG to write.

    Raises:
        As :func:`vp3d_cli.pipeline.api.infer`.
    """
    settings = settings or InferSettings()
    check_target(Path(out), overwrite)
    detections = detect_people(video, settings, Run(models or Models(settings), progress))
    tracks = track_and_select(detections, settings)
    with_people = np.unique(np.concatenate([np.flatnonzero(track.present) + track.first for track in tracks]))
    chosen = set(with_people[np.linspace(0, len(with_people) - 1, _PREVIEW_FRAMES).round().astype(int)].tolist())
    shots: list[tuple[Frame, list[NumberedPerson]]] = []
    with VideoReader(video, settings.start_s, settings.end_s) as reader:
        for i, frame in enumerate(reader):
            if i in chosen:
                shots.append((frame, [person for track in tracks for person in _numbered(track, i)]))
    encoded = cv2.imencode(".png", contact_sheet(shots))[1]
    with replacing(Path(out), overwrite) as file:
        file.write(encoded.tobytes())
    return Path(out)


def _numbered(track: Track2D, frame: int) -> list[NumberedPerson]:
    """The person with number and box, if detected in this frame."""
    row = frame - track.first
    if not (0 <= row < len(track) and track.present[row]):
        return []
    keypoints, scores = track.keypoints[row], track.scores[row]
    return [NumberedPerson(track.person_id, track.boxes_xyxy[row], keypoints, scores, track.skeleton.joints)]
