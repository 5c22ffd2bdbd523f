"""Side-by-side video: footage with 2D skeletons on the left, the 3D scene on the right.

This module draws single frames. The caller reads the video and writes the new one, so that decoding, drawing and
encoding overlap::

    renderer = SideBySideRenderer(pose, info.size_wh)
    for frame in reader:
        if renderer.covers(frame.time_s):
            writer.write(renderer.draw(frame))
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.overlay2d import draw_skeleton
from vp3d_cli.render.scene3d import Scene3D
from vp3d_cli.render.shapes import even, resize_into
from vp3d_cli.render.text import caption_px
from vp3d_cli.types import Frame, FrameBGR, VideoInfo

_WIDEST_FOOTAGE = 2.4  # width over height; wider footage gets bars above and below
_NARROWEST_FOOTAGE = 0.4
# The scene is as wide as the footage, within these limits.
_NARROWEST_SCENE, _WIDEST_SCENE = 0.8, 1.2
_MIN_HEIGHT, _MAX_HEIGHT = 120, 4320
_FPS_TOLERANCE = 0.03  # between the frame rates of file and pose; film and PAL (24, 25) differ by 4 %


class SideBySideRenderer:
    """Draws the frames of a side-by-side video.

    Args:
        pose: pose of this video.
        video_size_wh: size of the video in pixels, as displayed.
        height: height of the result in pixels, rounded to an even number.

    Raises:
        InputError: the pose was made from a video of another size.
        ConfigError: the height is out of range.
    """

    def __init__(self, pose: Pose3D, video_size_wh: tuple[int, int], height: int = 720) -> None:
        if not _MIN_HEIGHT <= height <= _MAX_HEIGHT:
            raise ConfigError(f"height must be between {_MIN_HEIGHT} and {_MAX_HEIGHT} pixels, got {height}")
        _check_size(pose, video_size_wh)
        self._pose = pose
        self._video_size_wh = video_size_wh
        self._height = even(height)
        aspect = video_size_wh[0] / video_size_wh[1]
        self._left_width = even(min(max(aspect, _NARROWEST_FOOTAGE), _WIDEST_FOOTAGE) * self._height)
        self._scale = min(self._left_width / video_size_wh[0], self._height / video_size_wh[1])
        right_width = even(min(max(aspect, _NARROWEST_SCENE), _WIDEST_SCENE) * self._height)
        self._scene = Scene3D(pose, (right_width, self._height))
        self._tolerance_s = _half_frame_s(pose)
        self.size_wh: tuple[int, int] = (self._left_width + right_width, self._height)
        """(width, height) of every drawn frame; both even."""

    def frame_at(self, time_s: float) -> int | None:
        """Frame of the pose at most half a frame from a time of the video; None if there is none."""
        times = self._pose.frame_times_s
        after = int(np.searchsorted(times, time_s))
        nearest = min((i for i in (after - 1, after) if 0 <= i < len(times)), key=lambda i: abs(times[i] - time_s))
        return nearest if abs(times[nearest] - time_s) <= self._tolerance_s else None

    def covers(self, time_s: float) -> bool:
        """Whether the pose has a frame at this time; the caller skips frames that it does not cover."""
        return self.frame_at(time_s) is not None

    def draw(self, frame: Frame) -> FrameBGR:
        """Draw one frame.

        Args:
            frame: frame of the video, upright; it is not changed.

        Returns:
            (height, width, 3) BGR, a new image of size ``size_wh``.

        Raises:
            InputError: the frame is not of the video's size, or the pose does not cover its time.
        """
        index = self.frame_at(frame.time_s)
        if index is None:
            raise InputError(
                f"the pose has no frame at {frame.time_s:.3f} s of the video "
                f"(it covers {_span_text(self._pose)}); give the video it was made from"
            )
        if frame.image.shape[:2] != self._video_size_wh[::-1]:
            raise InputError(
                f"frame {frame.index} is {frame.image.shape[1]}x{frame.image.shape[0]} pixels, "
                f"the video {self._video_size_wh[0]}x{self._video_size_wh[1]}"
            )
        canvas = np.empty((self.size_wh[1], self.size_wh[0], 3), np.uint8)
        self._draw_footage(canvas[:, : self._left_width], frame.image, index)
        self._scene.draw(canvas[:, self._left_width :], index)
        return canvas

    def _draw_footage(self, panel: FrameBGR, image: FrameBGR, index: int) -> None:
        width = min(panel.shape[1], round(image.shape[1] * self._scale))
        height = min(panel.shape[0], round(image.shape[0] * self._scale))
        if abs(width - panel.shape[1]) <= 4 and abs(height - panel.shape[0]) <= 4:
            width, height = panel.shape[1], panel.shape[0]  # avoids thin bars from rounding to even sizes
        x, y = (panel.shape[1] - width) // 2, (panel.shape[0] - height) // 2
        if (width, height) != (panel.shape[1], panel.shape[0]):
            panel[:] = 0
        resize_into(panel[y : y + height, x : x + width], image)
        pose = self._pose
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        # Scaling is about pixel corners: pixel (0, 0) of the footage covers the first pixels of the panel.
        for person in reversed(pose.people):  # the main person last, on top
            row, track = person.row_of(index), person.track
            if row is not None:
                draw_skeleton(
                    panel, (track.keypoints[row] + 0.5) * scale - 0.5 + [x, y], track.scores[row], track.observed[row],
                    pose.joint_names_2d, track.person_id, cap_px=caption_px(self._height),
                )  # fmt: skip


def check_pose_matches_video(pose: Pose3D, info: VideoInfo) -> None:
    """Check that a pose can belong to a video: size, frame rate and duration.

    Raises:
        InputError: the pose belongs to another video.
    """
    _check_size(pose, info.size_wh)
    if abs(pose.fps - info.fps) > _FPS_TOLERANCE * info.fps:
        raise InputError(
            f"{info.path}: the pose was made at {pose.fps:.3f} frames per second, the video has {info.fps:.3f}; "
            f"give the video it was made from"
        )
    if info.duration_s is not None and pose.frame_times_s[0] > info.duration_s + _half_frame_s(pose):
        raise InputError(
            f"{info.path}: the pose covers {_span_text(pose)}, the video ends at {info.duration_s:.2f} s; "
            f"give the video it was made from"
        )


def _check_size(pose: Pose3D, video_size_wh: tuple[int, int]) -> None:
    if tuple(pose.video_size_wh) != tuple(video_size_wh):
        raise InputError(
            f"the pose was made from a video of {pose.video_size_wh[0]}x{pose.video_size_wh[1]} pixels, this one has "
            f"{video_size_wh[0]}x{video_size_wh[1]}; give the video it was made from"
        )
    if pose.num_frames == 0:
        raise InputError("the pose has no frames, so there is nothing to draw; give a pose with frames")


def _half_frame_s(pose: Pose3D) -> float:
    """Half the median time between frames, which gaps in a variable frame rate do not change."""
    intervals: NDArray[Any] = np.diff(pose.frame_times_s)
    period = float(np.median(intervals)) if len(intervals) else 1.0 / pose.fps
    return 0.5 * period + 1e-6


def _span_text(pose: Pose3D) -> str:
    return f"{pose.frame_times_s[0]:.2f} to {pose.frame_times_s[-1]:.2f} s"
