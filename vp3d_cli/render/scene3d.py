"""Drawing of the 3D scene: all people of a pose on the floor, from a virtual camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import ConfigError
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.render.figure import HEAD_RADIUS_M, Figure, Limbs, draw_limbs, head_center
from vp3d_cli.render.floor import TRAIL_S, Floor, draw_plumb_line, draw_shadows, draw_trail, trail_frames
from vp3d_cli.render.palette import THEMES, person_colors
from vp3d_cli.render.text import blend_mask, caption_px, label, rounded_bar_mask, text_mask, write
from vp3d_cli.render.view import View, choose_view, main_people
from vp3d_cli.types import FloatArray, FrameBGR

_LABEL_ABOVE_M = 0.05  # distance of the label above the head
_COMPARED_COLORS = 4  # so many palettes further are the colours of the compared pose


@dataclass(frozen=True)
class SceneStyle:
    """How the 3D scene looks.

    Attributes:
        camera: ``auto``, ``fixed``, ``follow`` or ``turntable``; see :func:`vp3d_cli.render.view.choose_view`.
        theme: ``light`` or ``dark``.
        trail_s: length of the trails on the floor in seconds; 0 for none.

    Raises:
        ConfigError: there is no such theme, or the trail is negative.
    """

    camera: str = "auto"
    theme: str = "light"
    trail_s: float = TRAIL_S

    def __post_init__(self) -> None:
        if self.theme not in THEMES:
            raise ConfigError(f"unknown theme {self.theme!r}: use {', '.join(THEMES)}")
        if not 0 <= self.trail_s < float("inf"):
            raise ConfigError(f"the trail must be 0 or a positive number of seconds, got {self.trail_s}")


@dataclass(frozen=True)
class _Actor:
    """Someone in the scene: t frames from ``first`` on, with joints (t, J, 3) in world space, metres.

    ``confidence`` is (t, J), or None if not known.
    """

    first: int
    joints: FloatArray
    figure: Figure
    color_id: int
    badge: str
    head: tuple[int, ...]
    confidence: FloatArray | None = None

    def at(self, frame: int) -> FloatArray:
        """Joints (J, 3) at a frame of the pose, or (0, 3) where out of view."""
        row = frame - self.first
        return self.joints[row] if 0 <= row < len(self.joints) else np.zeros((0, 3), np.float32)

    def limbs(self, frame: int) -> Limbs:
        """Limbs at a frame in which the person is in view."""
        confidence = None if self.confidence is None else self.confidence[frame - self.first]
        return self.figure.limbs(self.at(frame), confidence)


class Scene3D:
    """Draws the 3D scene of any frame of a pose.

    Args:
        pose: pose whose ``joints_world`` are drawn; people with only NaN joints in a frame are left out.
        size_wh: size of the picture in pixels.
        style: camera, theme and trails.
        direction: from where the camera looks; see :func:`vp3d_cli.render.view.choose_view`.
        compare: another pose, drawn at the same times in other colours; its badges have a ``b``.
        title: text at the top left.
    """

    def __init__(
        self,
        pose: Pose3D,
        size_wh: tuple[int, int],
        *,
        style: SceneStyle | None = None,
        direction: str = "oblique",
        compare: Pose3D | None = None,
        title: str = "",
    ) -> None:
        self._style = style or SceneStyle()
        self._theme = THEMES[self._style.theme]
        self._times_s = pose.frame_times_s
        others = [] if compare is None else _compared_actors(compare, pose, main_people(compare))
        self._actors = [_actor(pose, person) for person in pose.people]
        self._path = choose_view(
            pose,
            size_wh,
            camera=self._style.camera,
            direction=direction,
            also=[other.joints.astype(np.float64) for other in others],
        )
        if compare is not None:
            self._actors += _compared_actors(compare, pose, compare.people)
        self._floor = Floor(self._path, self._theme)
        self._cap_px = caption_px(size_wh[1])
        self._title = title

    def view(self, frame: int) -> View:
        """Virtual camera at a frame."""
        return self._path.at(frame)

    def draw(self, image: FrameBGR, frame: int) -> None:
        """Draw a frame of the pose into ``image``, (H, W, 3) of size ``size_wh``."""
        view = self._path.at(frame)
        image[:] = self._floor.background(frame)
        present = [actor for actor in self._actors if np.isfinite(actor.at(frame)).any()]
        if self._style.trail_s > 0:
            self._draw_trails(image, view, frame, present)
        bodies = [actor.limbs(frame) for actor in present]
        if bodies:
            ends = np.concatenate([body.ends for body in bodies])
            draw_shadows(image, view, ends, np.concatenate([body.radii for body in bodies]))
        for actor, limbs in zip(present, bodies, strict=True):
            if len(limbs.ends):
                draw_plumb_line(image, view, _lowest(limbs), person_colors(actor.color_id).core, self._theme.floor)
        draw_limbs(image, view, bodies)
        for actor in present:
            self._draw_label(image, view, actor, actor.at(frame))
        self._draw_legend(image, frame)

    def _draw_trails(self, image: FrameBGR, view: View, frame: int, present: Sequence[_Actor]) -> None:
        trail = trail_frames(self._times_s, frame, self._style.trail_s)
        for actor in present:
            own = trail[(trail >= actor.first) & (trail < actor.first + len(actor.joints))]
            ages_s = self._times_s[frame] - self._times_s[own]
            freshness = np.clip(1.0 - ages_s / self._style.trail_s, 0.0, 1.0)
            color = person_colors(actor.color_id).core
            draw_trail(image, view, actor.joints[own - actor.first, 0], freshness, color, self._theme.floor)

    def _draw_label(self, image: FrameBGR, view: View, actor: _Actor, joints: FloatArray) -> None:
        """Draw the badge above the head in the picture, also of someone who lies or bends."""
        head = head_center(joints, actor.head)
        if head is None:
            return
        pixel, depth = view.project(head)
        if np.isfinite(pixel).all() and (pixel >= 0).all() and (pixel < image.shape[1::-1]).all():
            above_px = (HEAD_RADIUS_M + _LABEL_ABOVE_M) * view.focal_px / float(depth)
            label(image, actor.badge, (pixel[0], pixel[1] - above_px), self._cap_px, person_colors(actor.color_id).core)

    def _draw_legend(self, image: FrameBGR, frame: int) -> None:
        """Draw the legend: tones of left and right, grid step, time; and the title."""
        cap, caption = self._cap_px * 0.9, self._theme.caption
        x, y = round(1.6 * cap), image.shape[0] - round(2.6 * cap)
        if self._title:
            write(image, self._title, (x, round(1.6 * cap)), cap, caption)
        for text, tone in zip(("left", "right"), self._theme.tones, strict=True):
            dot = rounded_bar_mask(round(1.2 * cap), round(1.2 * cap))
            blend_mask(image, dot, (x - round(0.1 * cap), y - round(0.1 * cap)), tone)
            write(image, text, (x + round(1.6 * cap), y), cap, caption)
            x += round(3.6 * cap) + text_mask(text, cap).shape[1]
        time_s = self._times_s[frame]
        texts = (f"{time_s:.2f} s", f"grid {self._floor.step_m:g} m")
        right = image.shape[1] - round(1.6 * cap)
        widths = (max(text_mask(texts[0], cap).shape[1], round(4.6 * cap)), text_mask(texts[1], cap).shape[1])
        write(image, texts[0], (right - text_mask(texts[0], cap).shape[1], y), cap, caption)
        write(image, texts[1], (right - widths[0] - widths[1] - round(2.2 * cap), y), cap, caption)


def frame_at(pose: Pose3D, time_s: float) -> int | None:
    """Frame of a pose at most half a frame from a time; None if there is none."""
    times = pose.frame_times_s
    after = int(np.searchsorted(times, time_s))
    near = [i for i in (after - 1, after) if 0 <= i < len(times)]
    if not near:
        return None
    nearest = min(near, key=lambda i: abs(times[i] - time_s))
    return nearest if abs(times[nearest] - time_s) <= half_frame_s(pose) else None


def half_frame_s(pose: Pose3D) -> float:
    """Half the median time between frames, which gaps in a variable frame rate do not change."""
    intervals: NDArray[Any] = np.diff(pose.frame_times_s)
    period = float(np.median(intervals)) if len(intervals) else 1.0 / pose.fps
    return 0.5 * period + 1e-6


def _actor(pose: Pose3D, person: Person3D) -> _Actor:
    figure = Figure(person.id, pose.joint_names_3d, pose.parents_3d)
    head = _head_joints(pose.joint_names_3d)
    return _Actor(person.track.first, person.joints_world, figure, person.id, str(person.id), head, person.confidence)


def _compared_actors(compare: Pose3D, pose: Pose3D, people: Sequence[Person3D]) -> list[_Actor]:
    """People of another pose at the times of ``pose``, (T, J, 3) each; NaN where it has no frame."""
    frames = [frame_at(compare, time_s) for time_s in pose.frame_times_s.tolist()]
    actors = []
    for person in people:
        rows = [None if frame is None else person.row_of(frame) for frame in frames]
        joints = np.full((len(rows), *person.joints_world.shape[1:]), np.nan, np.float32)
        there, known = [i for i, row in enumerate(rows) if row is not None], [row for row in rows if row is not None]
        joints[there] = person.joints_world[known]
        confidence = None
        if person.confidence is not None:
            confidence = np.zeros(joints.shape[:2], np.float32)
            confidence[there] = person.confidence[known]
        color_id = person.id + _COMPARED_COLORS
        figure = Figure(color_id, compare.joint_names_3d, compare.parents_3d)
        head = _head_joints(compare.joint_names_3d)
        actors.append(_Actor(0, joints, figure, color_id, f"{person.id}b", head, confidence))
    return actors


def _head_joints(joint_names: Sequence[str]) -> tuple[int, ...]:
    """Joints between which the head is: neck and head where the skeleton has both."""
    return tuple(joint_names.index(name) for name in ("neck", "head") if name in joint_names)


def _lowest(body: Limbs) -> NDArray[Any]:
    joints = body.ends.reshape(-1, 3)
    lowest: NDArray[Any] = joints[joints[:, 2].argmin()]
    return lowest
