"""Drawing of the 3D scene: all people of a pose on the floor, from a virtual camera."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.pose import Pose3D
from vp3d_cli.render.figure import Figure, Limbs, draw_limbs
from vp3d_cli.render.floor import Floor, draw_plumb_line, draw_shadows, draw_trail, trail_frames
from vp3d_cli.render.palette import CAPTION, GRID, INK, WHITE, mix, person_colors
from vp3d_cli.render.text import blend_mask, caption_px, label, rounded_bar_mask, text_mask, write
from vp3d_cli.render.view import View, choose_view
from vp3d_cli.types import FloatArray, FrameBGR

_LABEL_ABOVE_M = 0.17  # distance of the label above the highest joint


class Scene3D:
    """Draws the 3D scene of any frame of a pose.

    Args:
        pose: pose whose ``joints_world`` are drawn; people with only NaN joints in a frame are left out.
        size_wh: size of the picture in pixels.
    """

    def __init__(self, pose: Pose3D, size_wh: tuple[int, int]) -> None:
        self._pose = pose
        self._path = choose_view(pose, size_wh)
        self._floor = Floor(self._path)
        self._figures = [Figure(i, pose.joint_names_3d, pose.parents_3d) for i in pose.person_ids]
        self._cap_px = caption_px(size_wh[1])

    def view(self, frame: int) -> View:
        """Virtual camera at a frame."""
        return self._path.at(frame)

    def draw(self, image: FrameBGR, frame: int) -> None:
        """Draw a frame of the pose into ``image``, (H, W, 3) of size ``size_wh``."""
        pose, view = self._pose, self._path.at(frame)
        image[:] = self._floor.background(frame)
        joints = {p: body for p in range(pose.num_people) if np.isfinite(body := self._joints(p, frame)).any()}
        trail = trail_frames(pose.frame_times_s, frame)
        for p in joints:
            person = pose.people[p]
            own = trail[(trail >= person.track.first) & (trail < person.track.frames.stop)]
            ages_s = pose.frame_times_s[frame] - pose.frame_times_s[own]
            draw_trail(image, view, person.joints_world[own - person.track.first, 0], ages_s, person.track.person_id)
        bodies = [self._figures[p].limbs(body, self._confidence(p, frame)) for p, body in joints.items()]
        if bodies:
            ends = np.concatenate([body.ends for body in bodies])
            draw_shadows(image, view, ends, np.concatenate([body.radii for body in bodies]))
        for p, limbs in zip(joints, bodies, strict=True):
            if len(limbs.ends):
                draw_plumb_line(image, view, _lowest(limbs), pose.people[p].track.person_id)
        draw_limbs(image, view, bodies)
        for p, body in joints.items():
            self._draw_label(image, view, pose.people[p].track.person_id, body)
        self._draw_legend(image, frame)

    def _joints(self, person: int, frame: int) -> FloatArray:
        """Joints (J, 3) of a person at a frame, or (0, 3) where out of view."""
        row = self._pose.people[person].row_of(frame)
        return np.zeros((0, 3), np.float32) if row is None else self._pose.people[person].joints_world[row]

    def _confidence(self, person: int, frame: int) -> FloatArray | None:
        """Confidence (J,) of the joints of a person who is in view at a frame; None if not known."""
        own, row = self._pose.people[person].confidence, self._pose.people[person].row_of(frame)
        return None if own is None or row is None else own[row]

    def _draw_label(self, image: FrameBGR, view: View, person_id: int, joints: FloatArray) -> None:
        joints = joints[np.isfinite(joints).all(axis=1)]
        if len(joints) == 0:
            return
        top = np.array([*joints[:, :2].mean(axis=0), joints[:, 2].max() + _LABEL_ABOVE_M])
        pixel, _ = view.project(top)
        if np.isfinite(pixel).all() and 0 <= pixel[0] < image.shape[1]:
            label(image, str(person_id), (pixel[0], pixel[1]), self._cap_px, person_colors(person_id).core)

    def _draw_legend(self, image: FrameBGR, frame: int) -> None:
        """Draw the legend: tones of left and right, grid step, time."""
        cap = self._cap_px * 0.9
        x, y = round(1.6 * cap), image.shape[0] - round(2.6 * cap)
        for text, tone in (("left", mix(GRID, WHITE, 0.35)), ("right", mix(CAPTION, INK, 0.6))):
            dot = rounded_bar_mask(round(1.2 * cap), round(1.2 * cap))
            blend_mask(image, dot, (x - round(0.1 * cap), y - round(0.1 * cap)), tone)
            write(image, text, (x + round(1.6 * cap), y), cap, CAPTION)
            x += round(3.6 * cap) + text_mask(text, cap).shape[1]
        time_s = self._pose.frame_times_s[frame]
        texts = (f"{time_s:.2f} s", f"grid {self._floor.step_m:g} m")
        right = image.shape[1] - round(1.6 * cap)
        widths = (max(text_mask(texts[0], cap).shape[1], round(4.6 * cap)), text_mask(texts[1], cap).shape[1])
        write(image, texts[0], (right - text_mask(texts[0], cap).shape[1], y), cap, CAPTION)
        write(image, texts[1], (right - widths[0] - widths[1] - round(2.2 * cap), y), cap, CAPTION)


def _lowest(body: Limbs) -> NDArray[Any]:
    joints = body.ends.reshape(-1, 3)
    lowest: NDArray[Any] = joints[joints[:, 2].argmin()]
    return lowest
