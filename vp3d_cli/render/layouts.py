"""Layouts of the rendered video: footage with 2D skeletons, and the 3D scene from one or several directions.

This module draws single frames. The caller reads the video and writes the new one, so that decoding, drawing and
encoding overlap::

    renderer = FrameRenderer(pose, info.size_wh)
    for frame in reader:
        if renderer.covers(frame.time_s):
            writer.write(renderer.draw(frame))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.overlay2d import draw_skeleton
from vp3d_cli.render.palette import INK, LIGHT
from vp3d_cli.render.scene3d import Scene3D, SceneStyle, frame_at, half_frame_s
from vp3d_cli.render.shapes import even, resize_into
from vp3d_cli.render.text import caption_px, write
from vp3d_cli.types import Frame, FrameBGR, VideoInfo

LAYOUTS = ("side", "overlay", "3d", "grid")
WITH_FOOTAGE = ("side", "overlay")  # layouts that need the video
_WIDEST_FOOTAGE = 2.4  # width over height; wider footage gets bars above and below
_NARROWEST_FOOTAGE = 0.4
# The scene is as wide as the footage, within these limits; alone it may be wider.
_NARROWEST_SCENE, _WIDEST_SCENE, _WIDEST_SCENE_ALONE = 0.8, 1.2, 16 / 9
_MIN_HEIGHT, _MAX_HEIGHT = 120, 4320
_FPS_TOLERANCE = 0.03  # between the frame rates of file and pose; film and PAL (24, 25) differ by 4 %


@dataclass(frozen=True)
class _Area:
    """A rectangle of the result in pixels; ``direction`` of its 3D view, empty for footage."""

    x: int
    y: int
    width: int
    height: int
    direction: str = ""

    def of(self, canvas: FrameBGR) -> FrameBGR:
        """The part of a picture in this area, as a view."""
        return canvas[self.y : self.y + self.height, self.x : self.x + self.width]


class FrameRenderer:
    """Draws the frames of a rendered video.

    Args:
        pose: pose of this video.
        video_size_wh: size of the video in pixels, as displayed.
        height: height of the result in pixels, rounded to an even number.
        layout: ``side`` (footage and 3D side by side), ``overlay`` (2D skeletons over the footage), ``3d`` (3D alone)
            or ``grid`` (footage and 3D from the front, the side and the top).
        footage: whether there are images of the video; without, ``grid`` shows the oblique view in their place.
        style: camera, theme and trails of the 3D scene.
        compare: another pose, drawn in the 3D scene at the same times in other colours.

    Raises:
        InputError: the pose was made from a video of another size, or has no frames.
        ConfigError: the height is out of range, or there is no such layout.
    """

    def __init__(
        self,
        pose: Pose3D,
        video_size_wh: tuple[int, int],
        height: int = 720,
        *,
        layout: str = "side",
        footage: bool = True,
        style: SceneStyle | None = None,
        compare: Pose3D | None = None,
    ) -> None:
        if not _MIN_HEIGHT <= height <= _MAX_HEIGHT:
            raise ConfigError(f"height must be between {_MIN_HEIGHT} and {_MAX_HEIGHT} pixels, got {height}")
        check_layout(layout, footage)
        _check_size(pose, video_size_wh)
        self._pose = pose
        self._video_size_wh = video_size_wh
        self._areas = _arrange(layout, video_size_wh[0] / video_size_wh[1], even(height), footage)
        self._scenes = [
            (
                area,
                Scene3D(
                    pose,
                    (area.width, area.height),
                    style=style,
                    direction=area.direction,
                    compare=compare,
                    title=area.direction if layout == "grid" else "",
                ),
            )
            for area in self._areas
            if area.direction
        ]
        self.size_wh: tuple[int, int] = (
            max(area.x + area.width for area in self._areas),
            max(area.y + area.height for area in self._areas),
        )
        """(width, height) of every drawn frame; both even."""

    def frame_at(self, time_s: float) -> int | None:
        """Frame of the pose at most half a frame from a time of the video; None if there is none."""
        return frame_at(self._pose, time_s)

    def covers(self, time_s: float) -> bool:
        """Whether the pose has a frame at this time; the caller skips frames that it does not cover."""
        return self.frame_at(time_s) is not None

    def draw(self, frame: Frame) -> FrameBGR:
        """Draw one frame of the video.

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
        return self.draw_index(index, frame.image)

    def draw_index(self, index: int, image: FrameBGR | None = None) -> FrameBGR:
        """Draw one frame of the pose.

        Args:
            index: frame of the pose.
            image: (H, W, 3) that frame of the video, upright; it is not changed. None where the video has none.

        Returns:
            (height, width, 3) BGR, a new image of size ``size_wh``.

        Raises:
            InputError: the image is not of the video's size.
        """
        if image is not None and image.shape[:2] != self._video_size_wh[::-1]:
            raise InputError(
                f"frame {index} is {image.shape[1]}x{image.shape[0]} pixels, "
                f"the video {self._video_size_wh[0]}x{self._video_size_wh[1]}"
            )
        canvas = np.empty((self.size_wh[1], self.size_wh[0], 3), np.uint8)
        for area in self._areas:
            if not area.direction:
                self._draw_footage(area.of(canvas), image, index)
        for area, scene in self._scenes:
            scene.draw(area.of(canvas), index)
        return canvas

    def _draw_footage(self, panel: FrameBGR, image: FrameBGR | None, index: int) -> None:
        full = self._video_size_wh
        scale = min(panel.shape[1] / full[0], panel.shape[0] / full[1])
        width, height = min(panel.shape[1], round(full[0] * scale)), min(panel.shape[0], round(full[1] * scale))
        if abs(width - panel.shape[1]) <= 4 and abs(height - panel.shape[0]) <= 4:
            width, height = panel.shape[1], panel.shape[0]  # avoids thin bars from rounding to even sizes
        x, y = (panel.shape[1] - width) // 2, (panel.shape[0] - height) // 2
        if (width, height) != (panel.shape[1], panel.shape[0]):
            panel[:] = 0
        inside = panel[y : y + height, x : x + width]
        cap_px = caption_px(panel.shape[0])
        if image is None:
            inside[:] = INK
            write(inside, "no footage", (round(1.6 * cap_px), round(1.6 * cap_px)), cap_px, LIGHT.grid)
        else:
            resize_into(inside, image)
        pose = self._pose
        # Scaling is about pixel corners: pixel (0, 0) of the footage covers the first pixels of the panel.
        scales = np.array([width / full[0], height / full[1]])
        for person in reversed(pose.people):  # the main person last, on top
            row, track = person.row_of(index), person.track
            if row is not None:
                draw_skeleton(
                    panel, (track.keypoints[row] + 0.5) * scales - 0.5 + [x, y], track.scores[row],
                    track.observed[row], pose.joint_names_2d, track.person_id, cap_px=cap_px,
                )  # fmt: skip


def check_layout(layout: str, footage: bool) -> None:
    """Check that there is a layout of this name, and footage if it needs some.

    Raises:
        ConfigError: there is not.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}: use {', '.join(LAYOUTS)}")
    if layout in WITH_FOOTAGE and not footage:
        raise ConfigError(f"the layout {layout} shows the footage: give the video, or use the layout 3d")


def _arrange(layout: str, aspect: float, height: int, footage: bool) -> list[_Area]:
    """Areas of a layout for footage of an aspect ratio (width over height)."""
    wide = even(min(max(aspect, _NARROWEST_FOOTAGE), _WIDEST_FOOTAGE) * height)
    beside = even(min(max(aspect, _NARROWEST_SCENE), _WIDEST_SCENE) * height)
    if layout == "overlay":
        return [_Area(0, 0, wide, height)]
    if layout == "3d":
        alone = even(min(max(aspect, _NARROWEST_SCENE), _WIDEST_SCENE_ALONE) * height)
        return [_Area(0, 0, alone, height, "oblique")]
    if layout == "side":
        return [_Area(0, 0, wide, height), _Area(wide, 0, beside, height, "oblique")]
    top, bottom = height // 2, height - height // 2
    column = even(min(max(aspect, _NARROWEST_SCENE), _WIDEST_SCENE_ALONE) * top)
    return [
        _Area(0, 0, column, top, "" if footage else "oblique"),
        _Area(column, 0, column, top, "front"),
        _Area(0, top, column, bottom, "side"),
        _Area(column, top, column, bottom, "top"),
    ]


def check_pose_matches_video(pose: Pose3D, info: VideoInfo) -> None:
    """Check that a pose can belong to a video: size, frame rate and start.

    Raises:
        InputError: the pose belongs to another video.
    """
    _check_size(pose, info.size_wh)
    if abs(pose.fps - info.fps) > _FPS_TOLERANCE * info.fps:
        raise InputError(
            f"{info.path}: the pose was made at {pose.fps:.3f} frames per second, the video has {info.fps:.3f}; "
            f"give the video it was made from"
        )
    if info.duration_s is not None and pose.frame_times_s[0] > info.duration_s + half_frame_s(pose):
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


def _span_text(pose: Pose3D) -> str:
    return f"{pose.frame_times_s[0]:.2f} to {pose.frame_times_s[-1]:.2f} s"
