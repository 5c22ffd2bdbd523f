"""The HTML report: its sections, what it escapes, and the command that writes it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import cv2
import numpy as np
import pytest
from clips import run_ffmpeg
from conftest import RunCli
from gait_motions import Walk, walking
from poses import arrays_of, walking_pose, with_arrays

from vp3d_cli.analysis.report import ReportData, report_page, write_report
from vp3d_cli.io.poses.npz import write_npz
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import FrameBGR


@pytest.fixture
def pose() -> Pose3D:
    return walking_pose(people=2, frames=12)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def pictures(page: str) -> list[FrameBGR]:
    images = []
    assert page.count("data:image/png;base64,") == 1  # the plots
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        images.append(image)
    return images


def cells(page: str, heading: str) -> list[list[str]]:
    """Rows of the table under a heading."""
    table = page.split(f"<h2>{heading}</h2>")[1].split("</table>")[0]
    return [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]


def test_whole_report(pose: Pose3D, tmp_path: Path) -> None:
    arrays = arrays_of(pose)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][1, :6] = np.nan
    arrays["observed"][1, :6] = False
    arrays["scores_2d"][1, :6] = 0
    arrays["observed"][0, 3:5, 9] = False
    out = write_report(with_arrays(pose, **arrays), tmp_path / "r.html", title="walk.mp4")
    page = out.read_text(encoding="utf-8")
    assert "<h1>walk.mp4</h1>" in page
    assert "2 people, 12 frames, 0.40 s, 30 frames/s, 640x360 pixels" in page
    assert cells(page, "People") == [
        ["1", "0.00 to 0.37 s", "0.40 s", "2 of 12", "0.90"],
        ["2", "0.20 to 0.37 s", "0.20 s", "0 of 6", "0.90"],
    ]
    assert ["settings fov", "60.0"] in cells(page, "How it was made")
    assert 'id="vp3d-data"' in page
    assert "Warnings" not in headings(page)
    assert [image.shape for image in pictures(page)] == [(360, 640, 3)] * 4
    assert all(int(image.max()) - int(image.min()) > 100 for image in pictures(page))
    moments = [int(number) for number in re.findall(r"frame (\d+)</figcaption>", page)]
    assert moments == [6, 8, 9, 11]  # while both are in view


def test_measures_of_a_known_walk() -> None:
    page = report_page(ReportData(walking(walk=Walk(stride_s=1.2, left_m=0.8, right_m=0.6)), "t"))
    assert headings(page)[1:6] == ["People", "Over time", "Gait", "Repeated movements", "Joint angles"]
    rows = {row[1]: row for row in cells(page, "Gait")}
    assert float(rows["cadence"][2]) == pytest.approx(100, abs=2)
    assert float(rows["speed"][2]) == pytest.approx(1.4 / 1.2, abs=0.03)
    assert rows["step length"][2] == ""
    left, right = (float(cell.split(" ± ")[0]) for cell in rows["step length"][3:5])
    assert (left, right) == (pytest.approx(0.8, abs=0.03), pytest.approx(0.6, abs=0.03))
    assert rows["step length"][5] == "m"
    repeated = {row[1]: row for row in cells(page, "Repeated movements")}
    assert float(repeated["left knee flexion"][3].split(" ± ")[0]) == pytest.approx(1.2, abs=0.05)
    angles = {row[1]: row for row in cells(page, "Joint angles")}
    assert re.fullmatch(r"-?\d+ to -?\d+", angles["knee flexion"][3])
    assert angles["knee flexion"][2] == ""
    assert angles["trunk tilt"][3:] == ["", ""]


def test_somebody_who_stands_has_no_gait() -> None:
    whole = walking_pose(people=1, frames=40)
    arrays = arrays_of(whole)
    for name in ("joints_3d", "trajectory", "joints_world"):
        arrays[name][:] = arrays[name][:, :1]
    page = report_page(ReportData(with_arrays(whole, **arrays), "t"))
    assert "Person 1: no gait found" in page
    assert "Repeated movements" not in headings(page)
    assert "nan" not in "".join(cell for row in cells(page, "Joint angles") for cell in row)


def test_text_of_the_pose_file_is_escaped(pose: Pose3D) -> None:
    hostile = "<script>alert(1)</script>"
    facts = {"warnings": [hostile, "the camera moves"], "settings": {hostile: hostile}, "video": hostile}
    page = report_page(ReportData(replace(pose, provenance=facts), hostile))
    assert hostile not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6  # title twice, warning, setting and value, video
    assert headings(page)[:2] == ["Warnings", "In 3D"]
    assert "<li>the camera moves</li>" in page


def test_pose_that_does_not_say_how_it_was_made(pose: Pose3D) -> None:
    assert "How it was made" not in headings(report_page(ReportData(replace(pose, provenance={}), "t")))


def test_with_video_the_pictures_show_the_footage(pose: Pose3D, tmp_path: Path) -> None:
    video = tmp_path / "green.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=0x00a040:size=640x360:rate=30:duration=0.4", "-pix_fmt", "yuv420p", video)
    seen: list[tuple[str, int, int | None]] = []
    out = tmp_path / "r.html"
    write_report(pose, out, title="t", video=video, progress=lambda *report: seen.append(report))
    page = out.read_text(encoding="utf-8")
    assert seen[-1] == ("copying video", 12, 12)
    assert 'id="vp3d-video"' in page
    for image in pictures(page):
        np.testing.assert_allclose(image[20, 20].astype(int), [0x40, 0xA0, 0x00], atol=16)


@pytest.mark.parametrize("frames", [1, 2])
def test_few_frames(frames: int, tmp_path: Path) -> None:
    out = write_report(walking_pose(people=1, frames=frames), tmp_path / "r.html", title="t")
    assert len(pictures(out.read_text(encoding="utf-8"))) == frames


def test_command(run_cli: RunCli, pose: Pose3D, tmp_path: Path) -> None:
    write_npz(pose, tmp_path / "pose.npz")
    page = tmp_path / "r.html"
    done = run_cli("report", tmp_path / "pose.npz", "--out", page)
    assert (done.code, done.stdout, done.stderr) == (0, f"{page}\n", "")
    again = run_cli("report", tmp_path / "pose.npz", "--out", page)
    assert again.code == 1
    assert again.error_lines == [f"vp3d: error: {page}: exists already; choose another name or pass --overwrite"]
    assert run_cli("report", tmp_path / "pose.npz", "--out", tmp_path / "pose.npz").code == 2
    assert run_cli("report", tmp_path / "missing.npz", "--out", tmp_path / "x.html").code == 1
    write_npz(replace(pose, people=()), tmp_path / "nobody.npz")
    nobody = run_cli("report", tmp_path / "nobody.npz", "--out", tmp_path / "x.html")
    assert nobody.code == 1
    assert "holds no motion" in nobody.error_lines[0]
    assert not (tmp_path / "x.html").exists()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.browser_tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium; apt install chromium")
def test_viewer_in_the_report_leaves_keys_to_the_page(tab: chromium.Tab, pose: Pose3D, tmp_path: Path) -> None:
    tab.open(write_report(pose, tmp_path / "r.html", title="t"))
    tab.wait_for("document.querySelector('[data-ready]')")
    tab.press("ArrowRight")
    assert tab.evaluate("vp3d.state().frame") == 0
    tab.evaluate("document.querySelector('.vp3d').focus()")
    tab.press("ArrowRight")
    tab.wait_for("vp3d.state().frame === 1")
    assert tab.faults == []
    assert [address for address in tab.requests if not address.startswith(("file:", "data:", "blob:"))] == []
