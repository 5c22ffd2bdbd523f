"""Plots of angles, heights, speeds, contacts and confidence over time, legible in grey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vp3d_cli.analysis.angles import JointAngles, joint_angles, select_angles
from vp3d_cli.analysis.gait import Gait, gait_of
from vp3d_cli.analysis.joints import SIDES, PersonPoints, points_of, split_side
from vp3d_cli.errors import ConfigError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.pose import Person3D, Pose3D
from vp3d_cli.refine.body import frame_rate, low_pass
from vp3d_cli.types import BoolArray, DoubleArray, stretches

SUFFIXES = (".png", ".svg", ".pdf")
KINDS = ("angles", "heights", "speeds", "contacts", "confidence")
MOST_COLUMNS = 4  # people side by side in one picture
DEFAULT_ANGLES = (
    "trunk_tilt",
    *(f"{side}_{angle}" for angle in ("hip_flexion", "knee_flexion", "ankle_dorsiflexion") for side in SIDES),
    *(f"{side}_{angle}" for angle in ("shoulder_elevation", "elbow_flexion") for side in SIDES),
)
_PAGE_WIDTH_IN, _PANEL_HEIGHT_IN, _MARGIN_IN = 7.0, 1.25, 1.1
_SPEED_SIGMA_S = 0.05
# Dark blue and light orange differ in lightness, and every line in its dashes too.
_STYLES: dict[str, dict[str, Any]] = {
    "left": {"color": "#1b3f8b", "linestyle": "-"},
    "right": {"color": "#e07b1a", "linestyle": (0, (4, 1.5))},
    "": {"color": "#333333", "linestyle": "-"},
    "head": {"color": "#8a8a8a", "linestyle": (0, (1, 1))},
    "pelvis": {"color": "#111111", "linestyle": (0, (6, 1.2, 1, 1.2))},
}
_HATCH = {"left": "", "right": "////"}
_NOT_SEEN: dict[str, Any] = {"linewidth": 0.7, "linestyle": (0, (1, 1.2))}
_FILLED: dict[str, Any] = {"facecolor": "0.88", "edgecolor": "0.45", "hatch": "\\\\\\", "linewidth": 0.4}
_DPI = 150
_RC: Any = {
    "font.size": 8,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",  # text stays text, which can be edited
    "svg.hashsalt": "vp3d",  # the same motion gives the same file
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class _PersonData:
    """Data for the panels of one person."""

    person: Person3D
    points: PersonPoints
    angles: JointAngles
    gait: Gait
    rate: float


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: its label, what draws it, and its share of the height."""

    label: str
    draw: Callable[[Axes, _PersonData], None]
    height: float = 1.0


def write_plots(
    pose: Pose3D,
    path: Path,
    *,
    what: Sequence[str] = KINDS,
    angle_names: Sequence[str] | None = None,
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Draw everyone's motion over time into a PNG, SVG or PDF, by the ending of the name.

    Args:
        pose: of any skeleton. PNG and SVG have a column for each person, four at most; a PDF has a page for each.
        path: ending in ``.png``, ``.svg`` or ``.pdf``.
        what: some of :data:`KINDS`.
        angle_names: angles to draw; the flexions of the limbs and the tilt of the trunk if None.
        title: of the pictures.
        overwrite: replace a file that exists.

    Raises:
        ConfigError: the name ends in something else, there is no such kind or angle, or nobody.
        OutputError: the file exists and ``overwrite`` is not set, or it cannot be written.
    """
    check_suffix(path)
    check_kinds(what)
    if not pose.people:
        raise ConfigError("nobody to draw: there is no person in this pose")
    names = _angles_to_draw(pose, angle_names) if "angles" in what else ()
    panels = list(_panels(what, names))
    if not panels:
        raise ConfigError("nothing to draw: the skeleton lacks the joints of all usual angles; name some")
    everyone = [
        _PersonData(person, points, angles, gait_of(points), frame_rate(pose.frame_times_s))
        for person, angles in zip(pose.people, joint_angles(pose, names or None), strict=True)
        for points in [points_of(pose, person)]
    ]
    with mpl.rc_context(_RC), replacing(path, overwrite) as file:
        if path.suffix.lower() == ".pdf":
            with PdfPages(file, metadata={"Creator": "vp3d", "CreationDate": None}) as pages:
                for data in everyone:
                    pages.savefig(_figure([data], panels, title))
        else:
            kind = path.suffix.lower()[1:]
            figure = _figure(everyone[:MOST_COLUMNS], panels, title)
            figure.savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def check_suffix(path: Path) -> None:
    """Check whether a name ends as that of a picture that can be written.

    Raises:
        ConfigError: it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def check_kinds(what: Sequence[str]) -> None:
    """Check whether there are such plots.

    Raises:
        ConfigError: no; the message lists them.
    """
    if not what:
        raise ConfigError(f"nothing to draw; name some of {', '.join(KINDS)}")
    for kind in what:
        if kind not in KINDS:
            raise ConfigError(f"unknown plot {kind!r}; known: {', '.join(KINDS)}")


def _angles_to_draw(pose: Pose3D, names: Sequence[str] | None) -> tuple[str, ...]:
    """The angles that are named; without names those of the usual ones that the skeleton has."""
    possible = select_angles(pose.joint_names_3d, names)
    return possible if names else tuple(name for name in DEFAULT_ANGLES if name in possible)


def _panels(what: Sequence[str], angle_names: Sequence[str]) -> Iterator[_Panel]:
    """The panels of some kinds, from top to bottom; left and right of an angle share one."""
    if "angles" in what:
        for angle in dict.fromkeys(split_side(name)[0] for name in angle_names):
            both = [name for name in angle_names if split_side(name)[0] == angle]
            yield _Panel(f"{angle.replace('_', ' ')} (°)", _angle_drawer(both))
    panels = {
        "heights": _Panel("height above the floor (m)", _draw_heights),
        "speeds": _Panel("speed (m/s)", _draw_speeds),
        "contacts": _Panel("foot contact", _draw_contacts, 0.6),
        "confidence": _Panel(
            "confidence of the keypoints (line) and share of them filled in (hatched)", _draw_confidence
        ),
    }
    yield from (panel for kind, panel in panels.items() if kind in what)


def _figure(everyone: Sequence[_PersonData], panels: Sequence[_Panel], title: str) -> Figure:
    """One column of panels for each person, over the time in which the person is in view."""
    heights = [panel.height for panel in panels]
    size = (max(1.0, 0.85 * len(everyone)) * _PAGE_WIDTH_IN, _MARGIN_IN + _PANEL_HEIGHT_IN * sum(heights))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        len(panels), len(everyone), squeeze=False, sharex="col", gridspec_kw={"height_ratios": heights}
    )
    for column, data in enumerate(everyone):
        for row, panel in enumerate(panels):
            axes = grid[row, column]
            panel.draw(axes, data)
            axes.grid(axis="y", color="0.88", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.set_title(panel.label, loc="left", fontsize=8, pad=3)
        grid[0, column].set_title(f"Person {data.points.person_id}", fontweight="bold")
        grid[-1, column].set_xlabel("time (s)")
        grid[0, column].set_xlim(*_limits(data.points.times_s))
    figure.legend(handles=_legend_of(panels), loc="outside lower center", ncols=4, frameon=False, handlelength=3)
    if title:
        figure.suptitle(title, fontsize=9, color="0.35")
    return figure


def _limits(times: DoubleArray) -> tuple[float, float]:
    """Limits of the time axis; a second around a single moment."""
    first, last = (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)
    return (first, last) if last > first else (first - 0.5, first + 0.5)


def _legend_of(panels: Sequence[_Panel]) -> list[Line2D | Patch]:
    """Legend entries of these panels."""
    drawers = [panel.draw for panel in panels]
    handles: list[Line2D | Patch] = [Line2D([], [], label=side, linewidth=1.4, **_STYLES[side]) for side in SIDES]
    if _draw_heights in drawers or _draw_speeds in drawers:
        handles.append(Line2D([], [], label="pelvis", linewidth=1.4, **_STYLES["pelvis"]))
    if _draw_heights in drawers:
        handles.append(Line2D([], [], label="head", linewidth=1.4, **_STYLES["head"]))
    if any(draw not in (_draw_contacts, _draw_confidence) for draw in drawers):
        handles.append(Line2D([], [], label="joints filled in, not seen", **_NOT_SEEN, color="0.3"))
    if _draw_contacts in drawers:
        handles.append(Line2D([], [], label="heel strike", marker="v", linestyle="", color="k", markersize=4))
        handles.append(
            Line2D([], [], label="toe-off", marker="^", linestyle="", color="k", markersize=4, markerfacecolor="w")
        )
    if _draw_confidence in drawers:
        handles.append(Patch(label="share filled in", **_FILLED))
    return handles


def _line(axes: Axes, times_s: DoubleArray, values: DoubleArray, seen: BoolArray, style: str) -> None:
    """A curve; thin, with small dots, where the joints were filled in. Gaps stay open."""
    alone: dict[str, Any] = (
        {"marker": "."} if np.isfinite(values).sum() <= 2 else {}
    )  # a line through one point cannot be seen
    near = seen | np.roll(seen, 1) | np.roll(seen, -1)  # so that thick and thin meet
    axes.plot(times_s, np.where(near, values, np.nan), linewidth=1.3, **_STYLES[style], **alone)
    hidden = {"color": _STYLES[style]["color"], **_NOT_SEEN} | alone
    axes.plot(times_s, np.where(seen, np.nan, values), **hidden)


def _angle_drawer(names: Sequence[str]) -> Callable[[Axes, _PersonData], None]:
    """Return the function that draws one angle of both sides."""

    def draw(axes: Axes, data: _PersonData) -> None:
        for name in names:
            seen = data.angles.observed[:, data.angles.index(name)]
            _line(axes, data.points.times_s, data.angles[name], seen, split_side(name)[1])

    return draw


def _draw_heights(axes: Axes, data: _PersonData) -> None:
    """Heights of head, pelvis and ankles above the floor."""
    for name, style in (("head", "head"), ("pelvis", "pelvis"), *((f"{side}_ankle", side) for side in SIDES)):
        if name in data.points.places:
            _line(axes, data.points.times_s, data.points.places[name][:, 2], data.points.observed[name], style)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _draw_speeds(axes: Axes, data: _PersonData) -> None:
    """Speeds of the pelvis and the ankles in space."""
    for name, style in (("pelvis", "pelvis"), *((f"{side}_ankle", side) for side in SIDES)):
        if name in data.points.places:
            speed = _speed(data.points.places[name], data.rate)
            _line(axes, data.points.times_s, speed, data.points.observed[name], style)
    axes.set_ylim(bottom=0.0)


def _speed(place: DoubleArray, rate: float) -> DoubleArray:
    """(t,) metres per second of a point (t, 3); NaN in gaps and where a single frame shows none."""
    speed = np.full(len(place), np.nan)
    for start, stop in stretches(np.asarray(np.isfinite(place).all(axis=1))):
        if stop - start > 1:
            velocity = np.gradient(low_pass(place[start:stop], _SPEED_SIGMA_S, rate), axis=0) * rate
            speed[start:stop] = np.linalg.norm(velocity, axis=1)
    return speed


def _draw_contacts(axes: Axes, data: _PersonData) -> None:
    """A bar for each time that a foot stood, with heel strikes and toe-offs of the gait."""
    for row, side in ((1, "left"), (0, "right")):
        bars = [
            (contact.start_s, contact.end_s - contact.start_s + 1 / data.rate)
            for contact in data.gait.contacts
            if contact.side == side
        ]
        color = _STYLES[side]["color"]
        axes.broken_barh(bars, (row - 0.3, 0.6), facecolor=color, edgecolor="k", linewidth=0.4, hatch=_HATCH[side])
        strikes = [event.time_s for event in data.gait.heel_strikes if event.side == side]
        offs = [event.time_s for event in data.gait.toe_offs if event.side == side]
        axes.plot(strikes, [row + 0.42] * len(strikes), "v", color="k", markersize=3.5)
        axes.plot(offs, [row + 0.42] * len(offs), "^", color="k", markersize=3.5, markerfacecolor="w")
    axes.set_ylim(-0.45, 1.6)
    axes.set_yticks([0, 1], ["right", "left"])
    if not data.gait.found:
        axes.set_title("no gait found", loc="right", fontsize=7, pad=3, color="0.3")


def _draw_confidence(axes: Axes, data: _PersonData) -> None:
    """Mean confidence of the keypoints (0 where filled in), and the share that was filled in."""
    track = data.person.track
    there = np.isfinite(track.keypoints).all(axis=2).max(axis=1)
    filled = np.where(there, 1.0 - track.observed.mean(axis=1), np.nan)
    confidence = np.where(there, np.where(track.observed, track.scores, 0.0).mean(axis=1), np.nan)
    axes.fill_between(data.points.times_s, 0.0, filled, step="mid", **_FILLED)
    _line(axes, data.points.times_s, confidence, np.ones(len(track), np.bool_), "")
    axes.set_ylim(0.0, 1.05)
