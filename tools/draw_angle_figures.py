"""Draw the figures of docs/angles.md: axes of the segments and signs of the angles.

    python tools/draw_angle_figures.py docs/images

The numbers in the figures are what vp3d computes of the drawn joints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from scipy.spatial.transform import Rotation

from vp3d_cli.analysis.angles import angles_from_joints, pelvis_axes, thorax_axes
from vp3d_cli.analysis.joints import named_points
from vp3d_cli.types import DoubleArray

Body = dict[str, DoubleArray]
# Somebody who faces away from the camera: x to the person's right, y forward, z up; metres.
_STANDING: dict[str, tuple[float, float, float]] = {
    "hip": (0, 0, 0.93), "spine": (0, 0, 1.17), "thorax": (0, 0, 1.43), "head": (0, 0, 1.72), "nose": (0, 0.11, 1.68),
    "right_hip": (0.12, 0, 0.93), "right_knee": (0.12, 0, 0.5), "right_ankle": (0.12, 0, 0.09),
    "right_heel": (0.12, -0.05, 0.02), "right_toe": (0.12, 0.18, 0.02),
    "left_hip": (-0.12, 0, 0.93), "left_knee": (-0.12, 0, 0.5), "left_ankle": (-0.12, 0, 0.09),
    "left_heel": (-0.12, -0.05, 0.02), "left_toe": (-0.12, 0.18, 0.02),
    "right_shoulder": (0.2, 0, 1.42), "right_elbow": (0.2, 0, 1.13), "right_wrist": (0.2, 0, 0.88),
    "left_shoulder": (-0.2, 0, 1.42), "left_elbow": (-0.2, 0, 1.13), "left_wrist": (-0.2, 0, 0.88),
}  # fmt: skip
_LEG, _ARM = ("knee", "ankle", "heel", "toe"), ("elbow", "wrist")
_UPPER = ("thorax", "head", "nose", *(f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", *_ARM)))
_BONES = (
    ("hip", "spine"), ("spine", "thorax"), ("thorax", "head"), ("head", "nose"),
    *((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (
        ("hip", "knee"), ("knee", "ankle"), ("ankle", "heel"), ("heel", "toe"), ("ankle", "toe"),
        ("shoulder", "elbow"), ("elbow", "wrist"))),
    ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"),
)  # fmt: skip
_VIEWS = {  # what is right and up on the page
    "seen from the right": ((0, 1, 0), (0, 0, 1)),
    "seen from behind": ((1, 0, 0), (0, 0, 1)),
    "seen from above": ((1, 0, 0), (0, 1, 0)),
}
_RIGHT, _FORWARD, _UP = np.eye(3)
_DARK, _PALE, _MARK = "#1b3f8b", "0.75", "#d2491a"


@dataclass(frozen=True)
class Panel:
    """One movement: joints turned about a point, and the angle that it changes."""

    angle: str
    view: str
    turns: tuple[tuple[str, tuple[str, ...], DoubleArray, float], ...]  # about which joint, what, axis, degrees
    note: str = ""


def _all(prefix: str, joints: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix}_{joint}" for joint in joints)


_WHOLE = tuple(name for name in _STANDING if name != "hip")
_BEND_ELBOW = ("right_elbow", _all("right", _ARM[1:]), _RIGHT, 90.0)
_BEND_KNEE = ("right_knee", _all("right", _LEG[1:]), _RIGHT, -90.0)
PANELS = (
    Panel("pelvis_tilt", "seen from the right", (("hip", _WHOLE, _RIGHT, -25.0),), "forward"),
    Panel("pelvis_obliquity", "seen from behind", (("hip", _WHOLE, _FORWARD, 20.0),), "right side down"),
    Panel("pelvis_rotation", "seen from above", (("hip", _WHOLE, _UP, 35.0),), "to the left"),
    Panel("spine_flexion", "seen from the right", (("spine", _UPPER, _RIGHT, -40.0),), "forward"),
    Panel("spine_bending", "seen from behind", (("spine", _UPPER, _FORWARD, 30.0),), "to the right"),
    Panel("spine_rotation", "seen from above", (("spine", _UPPER, _UP, 35.0),), "to the left"),
    Panel("neck_flexion", "seen from the right", (("thorax", ("head", "nose"), _RIGHT, -35.0),), "forward"),
    Panel("neck_bending", "seen from behind", (("thorax", ("head", "nose"), _FORWARD, 30.0),), "to the right"),
    Panel("right_hip_flexion", "seen from the right", (("right_hip", _all("right", _LEG), _RIGHT, 50.0),), "forward"),
    Panel("right_hip_adduction", "seen from behind", (("right_hip", _all("right", _LEG), _FORWARD, 25.0),), "inward"),
    Panel(
        "right_hip_rotation", "seen from above",
        (_BEND_KNEE, ("right_hip", _all("right", _LEG[1:]), _UP, 35.0)), "inward: the foot goes out",
    ),
    Panel("right_knee_flexion", "seen from the right", (("right_knee", _all("right", _LEG[1:]), _RIGHT, -60.0),)),
    Panel(
        "right_ankle_dorsiflexion", "seen from the right",
        (("right_ankle", _all("right", _LEG[2:]), _RIGHT, 20.0),), "toes up",
    ),
    Panel("right_shoulder_elevation", "seen from behind", (("right_shoulder", _all("right", _ARM), _FORWARD, -60.0),)),
    Panel(
        "right_shoulder_plane", "seen from above",
        (("right_shoulder", _all("right", _ARM), _FORWARD, -90.0),
         ("right_shoulder", _all("right", _ARM), _UP, 40.0)), "0 to the side, 90 forward",
    ),
    Panel(
        "right_shoulder_rotation", "seen from the right",
        (("right_shoulder", _all("right", _ARM), _FORWARD, -90.0), ("right_elbow", ("right_wrist",), _UP, 90.0),
         ("right_shoulder", ("right_wrist",), _RIGHT, -40.0)), "inward: the forearm goes down",
    ),
    Panel("right_elbow_flexion", "seen from the right", (("right_elbow", _all("right", _ARM[1:]), _RIGHT, 70.0),)),
)  # fmt: skip


def standing() -> Body:
    """The body before it moves."""
    return {name: np.array(place, np.float64) for name, place in _STANDING.items()}


def moved(panel: Panel, turns: int | None = None) -> Body:
    """The body after the movement of a panel, or after the first few of its turns."""
    body = standing()
    for about, joints, axis, degrees in panel.turns[:turns]:
        turn = Rotation.from_rotvec(np.radians(degrees) * axis)
        centre = body[about].copy()
        for joint in joints:
            body[joint] = centre + turn.apply(body[joint] - centre)
    return body


def angle_of(body: Body, name: str) -> float:
    """What vp3d computes."""
    joints = np.stack(list(body.values()))[None]
    return float(angles_from_joints(joints, tuple(body))[name][0])


def draw_panel(axes: Axes, panel: Panel) -> None:
    """The body before in grey and after in colour."""
    right, up = np.array(_VIEWS[panel.view], np.float64)
    body = moved(panel)
    changed = {joint for _, joints, _, _ in panel.turns for joint in joints}
    for pose, color, width in ((moved(panel, -1), _PALE, 1.2), (body, _DARK, 2.0)):
        for a, b in _BONES:
            if (panel.angle.startswith("right") and a.startswith("left_") and b.startswith("left_")) or (
                "ankle" not in panel.angle and "toe" in b and a == "ankle"
            ):
                continue
            ends = np.stack([pose[a], pose[b]])
            strong = color == _DARK and (b in changed or a in changed)
            axes.plot(
                ends @ right,
                ends @ up,
                color=_MARK if strong else color,
                linewidth=width,
                clip_on=False,
                solid_capstyle="round",
            )
        head = pose["head"]
        axes.plot(head @ right, head @ up, "o", color=color, markersize=5)
    axes.set_title(f"{panel.angle}\n{angle_of(body, panel.angle):+.0f}°\n{panel.note or chr(32)}", fontsize=7)
    axes.text(0.5, -0.02, panel.view, transform=axes.transAxes, ha="center", va="top", fontsize=6, color="0.4")
    axes.set_aspect("equal")
    axes.set_axis_off()
    if panel.view == "seen from above":
        axes.set(xlim=(-0.65, 0.65), ylim=(-0.7, 0.7))
    else:
        axes.set(xlim=(-0.85, 0.85), ylim=(-0.02, 1.85))


def draw_signs(out: Path) -> None:
    """One panel for each angle."""
    figure = Figure(figsize=(9.0, 7.6), layout="constrained")
    grid = figure.subplots(3, 6)
    for axes in grid.flat[len(PANELS) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, PANELS, strict=False):
        draw_panel(axes, panel)
    figure.savefig(out, metadata={"Date": None})


def draw_axes(out: Path) -> None:
    """The axes of pelvis and thorax in a body seen from behind and the right."""
    figure = Figure(figsize=(3.2, 5.2), layout="constrained")
    axes = figure.add_subplot(projection="3d", computed_zorder=False)
    assert isinstance(axes, Axes3D)
    body = standing()
    for a, b in _BONES:
        axes.plot(*np.stack([body[a], body[b]]).T, color="0.55", linewidth=1.5)
    axes.plot(*body["head"], "o", color="0.55", markersize=7)
    points = named_points(np.stack(list(body.values()))[None], tuple(body))
    for segment, origin in ((pelvis_axes(points)[0], body["hip"]), (thorax_axes(points)[0], body["thorax"])):
        for k, (name, color) in enumerate((("X forward", _MARK), ("Y up", "#2b7a3d"), ("Z right", _DARK))):
            tip = origin + 0.3 * segment[:, k]
            axes.quiver(*origin, *(0.3 * segment[:, k]), color=color, linewidth=2, arrow_length_ratio=0.15)
            axes.text(*(tip + 0.03 * segment[:, k]), name, fontsize=7, color=color)
    axes.set_box_aspect((1.0, 1.0, 2.2), zoom=1.2)
    axes.set(xlim=(-0.4, 0.4), ylim=(-0.4, 0.4), zlim=(0, 1.76))
    axes.view_init(elev=24, azim=-62)
    axes.set_axis_off()
    figure.savefig(out, metadata={"Date": None})


def main(folder: Path) -> None:
    """Write both figures."""
    with mpl.rc_context({"svg.hashsalt": "vp3d", "font.size": 8, "svg.fonttype": "none", "font.family": "sans-serif"}):
        draw_signs(folder / "angle_signs.svg")
        draw_axes(folder / "angle_axes.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
