"""The web viewer's page of a pose, with the video that it was made from."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.pipeline.detection import Progress, no_progress
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.layouts import check_pose_matches_video
from vp3d_cli.render.viewer.page import Footage, viewer_page
from vp3d_cli.types import DoubleArray
from vp3d_cli.video import VideoReader, VideoWriter

DEFAULT_VIDEO_HEIGHT = 480
COPYING = "copying video"  # the stage's name for progress
# What browsers play from a file; other containers need --video without --link-video, which encodes anew.
_PLAYED_BY_BROWSERS = (".mp4", ".m4v", ".mov", ".webm")


def write_view(
    pose: Pose3D,
    out: str | Path,
    *,
    title: str,
    video: str | Path | None = None,
    link_video: bool = False,
    video_height: int = DEFAULT_VIDEO_HEIGHT,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a self-contained HTML page that plays a pose in a browser, without a network.

    Args:
        pose: the motion to show.
        out: HTML file to write.
        title: of the page.
        video: that the pose was made from, to be shown beside it; by default none.
        link_video: refer to the video by its path relative to the page, instead of holding a copy in the page.
        video_height: of the copy in pixels, at most; it is never larger than the video.
        overwrite: replace ``out`` if it exists.
        progress: called with ("copying video", done, total) while the video is copied.

    Raises:
        InputError: the pose holds no motion or is not of this video.
        VideoError: the video cannot be read.
        ConfigError: the video cannot be linked to.
        OutputError: ``out`` cannot be written.
    """
    out = Path(out)
    check_target(out, overwrite)
    check_viewable(pose)
    footage = footage_of(pose, video, out, link_video=link_video, height=video_height, progress=progress)
    page = viewer_page(pose, title, footage)
    with replacing(out, overwrite) as file:
        file.write(page.encode("utf-8"))
    return out


def check_viewable(pose: Pose3D) -> None:
    """Check that there is somebody to show.

    Raises:
        InputError: the pose has no frames, or nobody in them.
    """
    if pose.num_frames == 0 or not any(np.isfinite(person.joints_world).any() for person in pose.people):
        raise InputError("the pose holds no motion, so there is nothing to view; infer it again from a video of people")


def footage_of(
    pose: Pose3D,
    video: str | Path | None,
    out: Path,
    *,
    link_video: bool = False,
    height: int = DEFAULT_VIDEO_HEIGHT,
    progress: Progress | None = None,
) -> Footage | None:
    """The video for a page that is written to ``out``: a small copy, or a link; None without a video.

    Raises:
        InputError: the pose is not of this video.
        VideoError: the video cannot be read.
        ConfigError: the video cannot be linked to.
    """
    if video is None:
        return None
    if link_video:
        return Footage(0.0, link=_relative_link(Path(video), out))
    return Footage(float(pose.frame_times_s[0]), mp4=_small_copy(pose, Path(video), height, progress or no_progress))


def _relative_link(video: Path, out: Path) -> str:
    if video.suffix.lower() not in _PLAYED_BY_BROWSERS or not video.is_file():
        raise ConfigError(
            f"{video}: browsers play files that end in {', '.join(_PLAYED_BY_BROWSERS)}; leave out --link-video, "
            "then the page holds a copy that they play"
        )
    try:
        return Path(os.path.relpath(video.resolve(), out.parent.resolve())).as_posix()
    except ValueError as error:  # another drive of Windows
        raise ConfigError(f"{video} has no path relative to {out}; leave out --link-video") from error


def _small_copy(pose: Pose3D, video: Path, height: int, progress: Progress) -> bytes:
    """The frames of the pose as an H.264 mp4 without sound that begins with the first of them."""
    with VideoReader(video) as reader, tempfile.TemporaryDirectory(prefix="vp3d-") as folder:
        check_pose_matches_video(pose, reader.info)
        width, full_height = reader.info.size_wh
        scale = min(1.0, height / full_height)
        size_wh = (max(1, round(width * scale)), max(1, round(full_height * scale)))
        copy = Path(folder) / "copy.mp4"
        times_s = pose.frame_times_s
        with VideoWriter(copy, size_wh, frame_times_s=times_s) as writer:
            done = 0
            for frame in reader:
                if done == len(times_s):
                    break
                if not _is_next(frame.time_s, times_s, done):
                    continue
                writer.write(cv2.resize(frame.image, size_wh, interpolation=cv2.INTER_AREA))
                done += 1
                progress(COPYING, done, len(times_s))
        return copy.read_bytes()


def _is_next(time_s: float, times_s: DoubleArray, done: int) -> bool:
    """Whether a frame of the video is the pose's frame ``done``, or comes after it where the video lacks that one."""
    gap_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    return time_s > float(times_s[done]) - gap_s / 2
