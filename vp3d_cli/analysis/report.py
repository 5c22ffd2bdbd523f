"""The report of a pose: one HTML page with its facts, warnings, pictures, the web viewer and how it was made.

:data:`SECTIONS` lists what is in it, from top to bottom; a section is a function of a :class:`ReportData`.
"""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vp3d_cli.analysis.gait import Measure
from vp3d_cli.analysis.movement import PersonAnalysis, analyze
from vp3d_cli.io.atomic import check_target, replacing
from vp3d_cli.pipeline.detection import Progress
from vp3d_cli.pipeline.summary import PersonSummary, summarize
from vp3d_cli.pipeline.viewing import DEFAULT_VIDEO_HEIGHT, check_viewable, footage_of
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.layouts import FrameRenderer
from vp3d_cli.render.scene3d import Scene3D
from vp3d_cli.render.viewer.page import Footage, viewer_element, viewer_style, whole_page
from vp3d_cli.types import FrameBGR
from vp3d_cli.video import VideoReader

_PICTURES = 4
_PICTURE_HEIGHT = 360  # pixels
_SCENE_WH = (640, _PICTURE_HEIGHT)
_JPEG_QUALITY = 85
_SIDES = ("", "left", "right")


@dataclass(frozen=True)
class ReportData:
    """What the sections of a report are made from.

    Attributes:
        pose: the motion.
        title: such as the video's name.
        pictures: caption and image, (H, W, 3) BGR.
        footage: the video for the viewer, or None.
    """

    pose: Pose3D
    title: str
    pictures: Sequence[tuple[str, FrameBGR]] = ()
    footage: Footage | None = None

    @cached_property
    def analysis(self) -> tuple[PersonAnalysis, ...]:
        """Gait, repeated movements and ranges of motion of everyone."""
        return analyze(self.pose)


def write_report(
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
    """Write one self-contained HTML page about a pose.

    Args:
        pose: the motion.
        out: HTML file to write.
        title: of the page, such as the video's name.
        video: that the pose was made from; with it the pictures show the footage, and the viewer plays it.
        link_video, video_height: as for :func:`vp3d_cli.pipeline.viewing.write_view`.
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
    data = ReportData(pose, title, list(_pictures(pose, None if video is None else Path(video))), footage)
    page = report_page(data)
    with replacing(out, overwrite) as file:
        file.write(page.encode("utf-8"))
    return out


def report_page(data: ReportData) -> str:
    """The report as an HTML page: every section that has something to say."""
    sections = [text for section in SECTIONS if (text := section(data))]
    style = f"{viewer_style()}\n{Path(str(files(__package__) / 'report.css')).read_text(encoding='utf-8')}"
    linked = data.footage is not None and data.footage.link is not None
    return whole_page(f"{data.title}: motion", f"<main>\n{chr(10).join(sections)}\n</main>", style, linked=linked)


def summary_section(data: ReportData) -> str:
    """Title, length of the video, how many people."""
    pose = data.pose
    seconds = float(pose.frame_times_s[-1] - pose.frame_times_s[0]) + 1 / pose.fps
    people = "1 person" if pose.num_people == 1 else f"{pose.num_people} people"
    width, height = pose.video_size_wh
    facts = f"{people}, {pose.num_frames} frames, {seconds:.2f} s, {pose.fps:.5g} frames/s, {width}x{height} pixels"
    return f'<h1>{html.escape(data.title)}</h1>\n<p class="report-muted">{facts}</p>'


def warnings_section(data: ReportData) -> str | None:
    """What the pose file warns of; None if there is nothing."""
    warnings = data.pose.provenance.get("warnings")
    if not isinstance(warnings, (list, tuple)) or not warnings:
        return None
    items = "".join(f"<li>{html.escape(str(warning))}</li>" for warning in warnings)
    return f'<h2>Warnings</h2>\n<ul class="report-warnings">{items}</ul>'


def people_section(data: ReportData) -> str:
    """A table of the people: when they are in view, how much of them was seen."""
    times = data.pose.frame_times_s
    rows = [
        (
            str(person.id),
            f"{times[person.track.first]:.2f} to {times[person.track.frames.stop - 1]:.2f} s",
            f"{facts.seconds_seen:.2f} s",
            f"{facts.frames_filled} of {len(person)}",
            f"{facts.mean_confidence:.2f}",
        )
        for person, facts in zip(data.pose.people, _facts(data.pose), strict=True)
    ]
    head = ("Person", "In view", "Of that with motion", "Frames with a filled-in keypoint", "Mean confidence")
    return f"<h2>People</h2>\n{html_table(head, rows)}"


def pictures_section(data: ReportData) -> str | None:
    """Moments of the clip, evenly spaced; None without pictures."""
    if not data.pictures:
        return None
    figures = "\n".join(
        f'<figure><img src="{_jpeg_url(image)}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, image in data.pictures
    )
    return f'<h2>Moments</h2>\n<div class="report-pictures">\n{figures}\n</div>'


def viewer_section(data: ReportData) -> str:
    """The web viewer."""
    return (
        f'<h2>In 3D</h2>\n<div class="report-viewer">{viewer_element(data.pose, data.footage)}</div>\n'
        '<p class="report-muted">Drag to turn, wheel to zoom. Click into the viewer, then ? shows its keys.</p>'
    )


def gait_section(data: ReportData) -> str:
    """Steps and strides of each person by side; why there are none, where none were found."""
    reasons = [
        f"<p>Person {person.person_id}: no gait found, {html.escape(person.gait.reason)}.</p>"
        for person in data.analysis
        if not person.gait.found
    ]
    found = [person for person in data.analysis if person.gait.found]
    rows = [
        (str(person.person_id), _spoken(name), *(_mean(sides.get(side)) for side in ("both", "left", "right")),
         next(iter(sides.values())).unit)
        for person in found
        for name, sides in _by_name(person, "gait").items()
    ]  # fmt: skip
    table = html_table(("Person", "Measure", "Both feet", "Left", "Right", "Unit"), rows) if rows else ""
    return "\n".join(["<h2>Gait</h2>", *reasons, table])


def repetitions_section(data: ReportData) -> str | None:
    """Movements that somebody repeats; None if nobody does."""
    rows = []
    for person in data.analysis:
        measures = _by_name(person, "repetitions")
        for name, sides in measures.items():
            angle, _, what = name.rpartition("_")
            if what != "repetitions":
                continue
            for side, count in sides.items():
                period, amplitude = (_mean(measures[f"{angle}_{what}"][side]) for what in ("period", "amplitude"))
                rows.append((str(person.person_id), f"{side} {_spoken(angle)}", str(count.count), period, amplitude))
    if not rows:
        return None
    head = ("Person", "Angle", "Times", "Period, s", "Amplitude, degrees")
    return f"<h2>Repeated movements</h2>\n{html_table(head, rows)}"


def angles_section(data: ReportData) -> str | None:
    """Lowest and highest joint angles of each person; None for a skeleton without the joints that angles need."""
    rows = []
    for person in data.analysis:
        measures = _by_name(person, "range_of_motion")
        for name in measures:
            angle, _, what = name.rpartition("_")
            if what == "range":
                low, high = measures[f"{angle}_minimum"], measures[f"{angle}_maximum"]
                spans = (_degrees(low[side], high[side]) if side in low else "" for side in _SIDES)
                rows.append((str(person.person_id), _spoken(angle), *spans))
    if not rows:
        return None
    note = '<p class="report-muted">Lowest to highest over the frames in which the joints were seen.</p>'
    table = html_table(("Person", "Angle, degrees", "Middle", "Left", "Right"), rows)
    return f"<h2>Joint angles</h2>\n{note}\n{table}"


def plots_section(data: ReportData) -> str:
    """Angles, heights, speeds, contacts and confidence over time, as a picture."""
    from vp3d_cli.analysis.plots import MOST_COLUMNS, write_plots  # matplotlib takes a second to load

    with tempfile.TemporaryDirectory(prefix="vp3d-") as folder:
        picture = Path(folder) / "plots.png"
        write_plots(data.pose, picture)
        packed = base64.b64encode(picture.read_bytes()).decode("ascii")
    left_out = data.pose.num_people - MOST_COLUMNS
    note = f'<p class="report-muted">The other {left_out} are not plotted.</p>' if left_out > 0 else ""
    return (
        f'<h2>Over time</h2>\n<img class="report-plot" alt="Angles, heights, speeds, foot contacts and confidence '
        f'over time" src="data:image/png;base64,{packed}">{note}'
    )


def provenance_section(data: ReportData) -> str | None:
    """How the pose was made, from its file; None where that does not say."""
    facts = {key: value for key, value in data.pose.provenance.items() if key not in ("warnings", "timing")}
    if not facts:
        return None
    rows = [(name.replace("_", " "), value) for name, value in _flat(facts)]
    return f"<h2>How it was made</h2>\n{html_table(('Setting', 'Value'), rows)}"


Section = Callable[[ReportData], str | None]
SECTIONS: tuple[Section, ...] = (
    summary_section,
    warnings_section,
    pictures_section,
    viewer_section,
    people_section,
    plots_section,
    gait_section,
    repetitions_section,
    angles_section,
    provenance_section,
)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; its cells are text, and escaped here."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="report-table"><table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _by_name(person: PersonAnalysis, group: str) -> dict[str, dict[str, Measure]]:
    """The measures of a group by name and side."""
    found: dict[str, dict[str, Measure]] = {}
    for measure in person.measures:
        if measure.group == group:
            found.setdefault(measure.name, {})[measure.side] = measure
    return found


def _mean(measure: Measure | None) -> str:
    """Mean and standard deviation of a measure; nothing where it is not known."""
    if measure is None:
        return ""
    if not math.isfinite(measure.sd) or measure.sd <= 0:
        return _number(measure.value)
    decimals = max(0, 1 - math.floor(math.log10(measure.sd)))  # two digits of the deviation
    return f"{measure.value:.{decimals}f} ± {measure.sd:.{decimals}f}"


def _number(value: float) -> str:
    """Three significant digits, but no fewer than the whole number has; nothing where it is not known."""
    if not math.isfinite(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _degrees(lowest: Measure, highest: Measure) -> str:
    """A range of whole degrees; nothing where it is not known."""
    return f"{lowest.value:.0f} to {highest.value:.0f}" if math.isfinite(lowest.value) else ""


def _facts(pose: Pose3D) -> tuple[PersonSummary, ...]:
    return summarize(pose).people


def _pictures(pose: Pose3D, video: Path | None) -> Iterator[tuple[str, FrameBGR]]:
    """Footage and 3D side by side at some frames; 3D alone without a video."""
    scene = Scene3D(pose, _SCENE_WH) if video is None else None
    for index in _frames_to_show(pose):
        time_s = float(pose.frame_times_s[index])
        caption = f"{time_s:.2f} s, frame {index}"
        if scene is not None:
            image = np.empty((*_SCENE_WH[::-1], 3), np.uint8)
            scene.draw(image, index)
            yield caption, image
        elif video is not None:
            with VideoReader(video, max(0.0, time_s - 0.4 / pose.fps)) as reader:
                renderer = FrameRenderer(pose, reader.info.size_wh, _PICTURE_HEIGHT)
                yield caption, renderer.draw(next(reader))


def _frames_to_show(pose: Pose3D) -> list[int]:
    """Evenly spaced frames among those with the most people in view."""
    count = np.zeros(pose.num_frames, int)
    for person in pose.people:
        count[person.track.frames] += np.isfinite(person.joints_world).all(axis=(1, 2))
    best = np.flatnonzero(count == count.max())
    shares = (np.arange(_PICTURES) + 0.5) / _PICTURES
    return sorted({int(best[int(share * len(best))]) for share in shares})


def _jpeg_url(image: FrameBGR) -> str:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Facts within facts as lines with names such as ``detector name``; what is not set is left out."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        elif value is not None:
            yield f"{before}{name}", str(value)
