"""Plots, opened again: their size, their pages, what is written and drawn in them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib.colors
import numpy as np
import pytest
from gait_motions import Walk, pose_at, walking, walking_joints
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from poses import arrays_of, pose_of, walker, walking_pose, with_arrays

from vp3d_cli.analysis import plots
from vp3d_cli.analysis.plots import KINDS, write_plots
from vp3d_cli.errors import ConfigError, OutputError


def titles_in(path: Path) -> str:
    """The text of an SVG."""
    return " | ".join(re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8")))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were drawn."""
    figures: list[Figure] = []
    make = plots._figure

    def keep(*arguments: object) -> Figure:
        figures.append(make(*arguments))  # type: ignore[arg-type]
        return figures[-1]

    monkeypatch.setattr(plots, "_figure", keep)
    return figures


def panel(figure: Figure, title: str, column: int = 0) -> Axes:
    found = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    return found[column]


def test_png_has_a_column_for_each_person(tmp_path: Path, drawn: list[Figure]) -> None:
    write_plots(walking_pose(2, 40), tmp_path / "two.png")
    write_plots(walking_pose(1, 40), tmp_path / "one.png")
    two, one = (cv2.imread(str(tmp_path / name)) for name in ("two.png", "one.png"))
    assert two.shape[0] == one.shape[0]
    assert two.shape[1] > 1.5 * one.shape[1]
    assert (two < 128).mean() > 0.005  # there is something on the paper
    assert {axes.get_title() for axes in drawn[0].axes} == {"", "Person 1", "Person 2"}


def test_svg_says_what_is_drawn(tmp_path: Path) -> None:
    write_plots(walking(6.0), tmp_path / "all.svg", title="walk.npz")
    text = titles_in(tmp_path / "all.svg")
    for words in ("walk.npz", "Person 1", "knee flexion (°)", "height above the floor (m)", "speed (m/s)",
                  "foot contact", "share filled in", "time (s)", "heel strike"):  # fmt: skip
        assert words in text
    assert "ankle dorsiflexion" not in text  # there are no feet
    write_plots(walking(6.0), tmp_path / "some.svg", what=["contacts"])
    some = titles_in(tmp_path / "some.svg")
    assert "foot contact" in some
    assert "knee" not in some
    assert "no gait found" not in some


def test_the_same_motion_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.pdf", "b.pdf"):
        write_plots(walking(2.0), tmp_path / name, what=["angles", "contacts"])
    for suffix in ("svg", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_pdf_has_a_page_for_each_person(tmp_path: Path) -> None:
    times_s = np.arange(10) / 30
    people = [walker(times_s, (x, 0.0)) for x in np.linspace(-2, 2, 6)]
    write_plots(pose_of(people), tmp_path / "six.pdf", what=["heights"])
    data = (tmp_path / "six.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", data)) == 6


def test_a_picture_holds_four_people(tmp_path: Path, drawn: list[Figure]) -> None:
    times_s = np.arange(10) / 30
    people = [walker(times_s, (x, 0.0)) for x in np.linspace(-2, 2, 6)]
    write_plots(pose_of(people), tmp_path / "six.png", what=["heights"])
    assert len(drawn[0].axes) == 4


def test_curves_are_those_of_the_motion(tmp_path: Path, drawn: list[Figure]) -> None:
    pose = walking(6.0)
    write_plots(pose, tmp_path / "a.png", what=["heights", "speeds"])
    heights = panel(drawn[0], "height above the floor (m)").lines
    assert np.asarray(heights[0].get_ydata(), float) == pytest.approx(1.71, abs=1e-3)  # the head's
    assert np.asarray(heights[0].get_xdata(), float) == pytest.approx(pose.frame_times_s)
    pelvis = panel(drawn[0], "speed (m/s)").lines[0]
    assert np.asarray(pelvis.get_ydata(), float)[10:-10] == pytest.approx(1.4 / 1.2, abs=1e-3)


def test_the_time_axis_is_that_of_the_person(tmp_path: Path, drawn: list[Figure]) -> None:
    pose = walking_pose(2, 40)
    arrays = arrays_of(pose)
    for name, array in arrays.items():
        array[1, :20] = 0 if name in ("scores_2d", "observed") else np.nan
    write_plots(with_arrays(pose, **arrays), tmp_path / "a.png", what=["heights", "contacts"])
    for column, first in enumerate((0.0, 20 / 30)):
        assert panel(drawn[0], "foot contact", column).get_xlim() == pytest.approx((first, 39 / 30))


def test_what_was_filled_in_is_drawn_thin(tmp_path: Path, drawn: list[Figure]) -> None:
    pose = walking(3.0)
    observed = pose.observed.copy()
    observed[0, 30:45] = False
    write_plots(
        with_arrays(pose, observed=observed), tmp_path / "a.png", angle_names=["left_knee_flexion"], what=["angles"]
    )
    thick, thin = panel(drawn[0], "knee flexion (°)").lines
    assert thick.get_linewidth() > 1.5 * thin.get_linewidth()
    assert np.flatnonzero(np.isfinite(np.asarray(thin.get_ydata(), float))).tolist() == list(range(30, 45))
    missing = np.flatnonzero(np.isnan(np.asarray(thick.get_ydata(), float))).tolist()
    assert missing == list(range(31, 44))  # both reach the frames where they meet


def test_gaps_stay_open(tmp_path: Path, drawn: list[Figure]) -> None:
    pose = walking(3.0)
    gone = {name: getattr(pose, name).copy() for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d")}
    for array in gone.values():
        array[0, 30:45] = np.nan
    write_plots(with_arrays(pose, **gone), tmp_path / "a.png")
    for axes in drawn[0].axes:
        for line in axes.lines:
            if len(np.asarray(line.get_ydata())) == 90:
                assert np.isnan(np.asarray(line.get_ydata(), float)[30:45]).all()


def test_left_and_right_differ_without_colour() -> None:
    left, right = (plots._STYLES[side] for side in ("left", "right"))
    assert left["linestyle"] != right["linestyle"]
    lightness = [np.dot(matplotlib.colors.to_rgb(style["color"]), (0.299, 0.587, 0.114)) for style in (left, right)]
    assert abs(lightness[0] - lightness[1]) > 0.25
    dashes = [style["linestyle"] for style in plots._STYLES.values() if style["color"] != plots._STYLES[""]["color"]]
    assert len(dashes) == len(set(map(str, dashes)))


def test_somebody_who_stands_is_said_to_have_no_gait(tmp_path: Path, drawn: list[Figure]) -> None:
    standing = walking_joints(np.zeros(60), Walk())
    write_plots(pose_at(standing, 30.0), tmp_path / "a.png", what=["contacts"])
    assert drawn[0].axes[0].get_title(loc="right") == "no gait found"


def test_one_frame_and_many_frames(tmp_path: Path, drawn: list[Figure]) -> None:
    write_plots(walking(1 / 30), tmp_path / "one.png")
    knee = panel(drawn[0], "knee flexion (°)").lines[0]
    assert knee.get_marker() == "."  # a line through one point cannot be seen
    write_plots(walking(4.0, 500.0), tmp_path / "many.png", what=["angles", "contacts"])
    assert panel(drawn[1], "foot contact").get_title(loc="right") == ""


def test_bad_input(tmp_path: Path) -> None:
    pose = walking(1.0)
    with pytest.raises(ConfigError, match=r"a\.jpg: the name must end in \.png, \.svg or \.pdf"):
        write_plots(pose, tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match="unknown plot 'angle'; known: angles, heights"):
        write_plots(pose, tmp_path / "a.png", what=["angle"])
    with pytest.raises(ConfigError, match="nothing to draw"):
        write_plots(pose, tmp_path / "a.png", what=[])
    with pytest.raises(ConfigError, match="unknown angle 'knee'"):
        write_plots(pose, tmp_path / "a.png", angle_names=["knee"])
    with pytest.raises(ConfigError, match="nobody to draw"):
        write_plots(replace(pose, people=()), tmp_path / "a.png")
    with pytest.raises(OutputError, match="does not exist"):
        write_plots(pose, tmp_path / "missing" / "a.png", what=list(KINDS))
    (tmp_path / "b.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        write_plots(pose, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.png"]
