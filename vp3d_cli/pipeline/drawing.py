"""Rendering of results: the side-by-side video and the contact sheet of numbered people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pipeline.infer import detect_people, track_and_select
from vp3d_cli.pipeline.run import Models, Run
from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.contact_sheet import NumberedPerson, contact_sheet
from vp3d_cli.render.side_by_side import SideBySideRenderer, check_pose_matches_video
from vp3d_cli.types import Frame, Track2D
from vp3d_cli.video import VideoReader, VideoWriter
from vp3d_cli.video.threads import BackgroundWorker

_PREVIEW_FRAMES = 12
# Drawn frames that may wait for the encoder.
_DRAWN_AHEAD = 3


def render(
    pose: Pose3D,
    video: str | Path,
    out: str | Path,
    *,
    height: int = 720,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Draw footage and 3D side by side: mp4, or gif if the name ends so.

    Decoding, drawing and encoding overlap, each a few frames ahead of the next.

    Args:
        pose: the motion.
        video: that it was made from.
        out: file to write.
        height: of the result in pixels.
        overwrite: replace ``out`` if it exists.
        progress: called with ("render", done, total).

    Raises:
        InputError: the pose is not of this video.
        OutputError: ``out`` cannot be written.
    """
    with VideoReader(video) as reader:
        check_pose_matches_video(pose, reader.info)
        renderer = SideBySideRenderer(pose, reader.info.size_wh, height)
        with (
            VideoWriter(
                out, renderer.size_wh, frame_times_s=pose.frame_times_s, audio_from=video, overwrite=overwrite
            ) as writer,
            BackgroundWorker(writer.write, ahead=_DRAWN_AHEAD) as encoding,
        ):
            done = 0
            for frame in reader:
                if frame.time_s > pose.frame_times_s[-1] + 1.0:
                    break
                if renderer.covers(frame.time_s):
                    encoding.put(renderer.draw(frame))
                    done += 1
                    progress("render", done, pose.num_frames)
    return Path(out)


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
