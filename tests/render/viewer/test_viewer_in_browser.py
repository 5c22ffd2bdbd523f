"""The viewer's page in a real browser: what it draws, plays and answers to keys, pointer and window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import chromium
import cv2
import numpy as np
import pytest
from clips import run_ffmpeg
from poses import arrays_of, walking_pose, with_arrays

from vp3d_cli.pipeline.viewing import write_view
from vp3d_cli.pose import Pose3D
from vp3d_cli.render.viewer.page import viewer_page
from vp3d_cli.types import FrameBGR

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="no chromium; apt install chromium")

FRAMES, SECOND_FROM, NOT_SEEN_FROM = 60, 20, 40
SHOWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(vp3d.state()))))"


@pytest.fixture(scope="module")
def motion() -> Pose3D:
    """Two people; the second comes into view at frame 20, and of the first nothing is observed from frame 40."""
    whole = walking_pose(people=2, frames=FRAMES)
    arrays = arrays_of(whole)
    for name in ("joints_3d", "trajectory", "joints_world", "keypoints_2d", "boxes_xyxy"):
        arrays[name][1, :SECOND_FROM] = np.nan
    arrays["observed"][1, :SECOND_FROM] = False
    arrays["scores_2d"][1, :SECOND_FROM] = 0
    arrays["observed"][0, NOT_SEEN_FROM:] = False
    return with_arrays(whole, **arrays)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Tab]:
    with chromium.browser_tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def viewer(tab: chromium.Tab, motion: Pose3D, tmp_path: Path) -> Iterator[chromium.Tab]:
    """The page of ``motion``; afterwards nothing may have gone wrong, and nothing may have been asked of a network."""
    page = tmp_path / "page.html"
    page.write_text(viewer_page(motion, "two people"), encoding="utf-8")
    yield opened(tab, page)
    assert tab.faults == []
    assert [address for address in tab.requests if not address.startswith(("file:", "data:", "blob:"))] == []


def opened(
    tab: chromium.Tab, page: Path, size: tuple[int, int] = (1280, 720), dark: bool = False, touch: bool = False
) -> chromium.Tab:
    tab.faults.clear()
    tab.requests.clear()
    tab.open(page, size=size, dark=dark, touch=touch)
    tab.wait_for(f"document.title && location.href.endsWith('{page.name}') && document.querySelector('[data-ready]')")
    return tab


def box_of(tab: chromium.Tab, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element of the page, pixels."""
    box = f"document.querySelector('{selector}').getBoundingClientRect()"
    left, top, width, height = tab.evaluate(f"(({{x, y, width, height}}) => [x, y, width, height])({box})")
    return left, top, width, height


def picture(tab: chromium.Tab) -> FrameBGR:
    """What is on the screen once the picture rests."""
    tab.evaluate("new Promise(done => setTimeout(done, 600))")
    image = cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def pixels_near(image: FrameBGR, web: str) -> int:
    """Pixels whose hue is that of a colour, and that are colourful."""
    bgr = np.array([[[int(web[i : i + 2], 16) for i in (5, 3, 1)]]], np.uint8)
    hue = int(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)[0, 0, 0])
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int)
    near = np.minimum(np.abs(hsv[..., 0] - hue), 180 - np.abs(hsv[..., 0] - hue)) <= 4
    return int((near & (hsv[..., 1] > 120)).sum())


@pytest.mark.parametrize("frame", [0, 19, 20, 41, 59])
def test_seeking_shows_that_frame_and_its_positions(viewer: chromium.Tab, motion: Pose3D, frame: int) -> None:
    viewer.evaluate(f"vp3d.seek({frame})")
    state = viewer.evaluate(SHOWN)
    assert state["frame"] == frame
    assert state["people"] == ([1, 2] if frame >= SECOND_FROM else [1])
    shown = viewer.evaluate("vp3d.joints(1)")
    np.testing.assert_allclose(shown, motion.joints_world[0, frame], rtol=0, atol=5e-4)
    assert (viewer.evaluate("vp3d.joints(2)") is None) == (frame < SECOND_FROM)
    assert f"frame {frame} / {FRAMES - 1}" in viewer.evaluate("document.querySelector('.vp3d-clock').textContent")


@pytest.mark.parametrize(("asked", "shown"), [(-5, 0), (1e9, FRAMES - 1)])
def test_seeking_beyond_the_ends_stops_at_them(viewer: chromium.Tab, asked: float, shown: int) -> None:
    viewer.evaluate(f"vp3d.seek({asked})")
    assert viewer.evaluate(SHOWN)["frame"] == shown


def test_pointer_scrubs_on_the_timeline(viewer: chromium.Tab) -> None:
    left, top, width, height = box_of(viewer, ".vp3d-timeline")
    for frame in (45, 3):
        viewer.click(left + width * (frame + 0.5) / FRAMES, top + height / 2)
        assert viewer.evaluate(SHOWN)["frame"] == frame


def test_touch_scrubs_and_turns(tab: chromium.Tab, motion: Pose3D, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(viewer_page(motion, "t"), encoding="utf-8")
    viewer = opened(tab, page, (390, 800), touch=True)
    left, top, width, height = box_of(viewer, ".vp3d-timeline")
    viewer.swipe((left + 10, top + height / 2), (left + width * 30.5 / FRAMES, top + height / 2))
    assert viewer.evaluate(SHOWN)["frame"] == 30
    before = viewer.evaluate(SHOWN)
    left, top, width, height = box_of(viewer, ".vp3d-scene canvas")
    viewer.swipe((left + width * 0.7, top + height / 2), (left + width * 0.3, top + height / 2))
    after = viewer.evaluate(SHOWN)
    assert after["frame"] == 30
    assert after["cameraTarget"] == before["cameraTarget"]
    assert np.linalg.norm(np.subtract(after["cameraPosition"], before["cameraPosition"])) > 1
    tab.open(page)  # the next test has a mouse again
    assert viewer.faults == []


def test_joints_not_seen_are_drawn_faded(viewer: chromium.Tab) -> None:
    viewer.evaluate("vp3d.seek(5)")
    assert viewer.evaluate(SHOWN)["instances"]["notSeen"] == {"bones": 0, "balls": 0}
    viewer.evaluate(f"vp3d.seek({NOT_SEEN_FROM})")
    drawn = viewer.evaluate(SHOWN)["instances"]
    assert drawn["notSeen"] == {"bones": 16, "balls": 17}
    assert drawn["seen"] == {"bones": 16, "balls": 17}  # the other person


def test_keys(viewer: chromium.Tab) -> None:
    steps = [
        ("ArrowRight", False, 1), ("ArrowRight", False, 2), ("ArrowLeft", False, 1), ("ArrowRight", True, 31),
        ("End", False, 59), ("ArrowLeft", True, 29), ("Home", False, 0), ("ArrowLeft", False, 0),
    ]  # fmt: skip
    for key, shift, frame in steps:
        viewer.press(key, shift=shift)
        assert viewer.evaluate(SHOWN)["frame"] == frame, key
    viewer.evaluate("vp3d.seek(30)")
    viewer.press("1")
    assert viewer.evaluate(SHOWN)["people"] == [2]
    viewer.press("1")
    assert viewer.evaluate(SHOWN)["people"] == [1, 2]
    followed = []
    for _ in range(3):
        viewer.press("f")
        followed.append(viewer.evaluate(SHOWN)["follow"])
    assert followed == [1, 2, None]
    for key, speed in (("+", 2), ("-", 1), ("-", 0.5)):
        viewer.press(key)
        assert viewer.evaluate(SHOWN)["speed"] == speed
    for key in "btgcprkdl?":
        viewer.press(key)
    assert viewer.evaluate("document.querySelector('.vp3d-help').hidden") is False


def test_plays_through_and_around(viewer: chromium.Tab, record_property: pytest.RecordProperty) -> None:
    before = viewer.evaluate(SHOWN)
    start = time.perf_counter()
    viewer.press(" ")
    viewer.wait_for("vp3d.state().frame >= 50")
    viewer.wait_for("vp3d.state().frame < 50")  # it begins anew at the end
    viewer.press(" ")
    state = viewer.evaluate(SHOWN)
    record_property("pictures_per_second", (state["drawn"] - before["drawn"]) / (time.perf_counter() - start))
    assert not state["playing"]
    assert state["drawn"] > before["drawn"] + 2
    assert viewer.evaluate(SHOWN)["frame"] == state["frame"]


def test_without_loop_it_stops_at_the_end(viewer: chromium.Tab) -> None:
    viewer.press("l")
    viewer.evaluate("vp3d.setSpeed(4); vp3d.seek(50); vp3d.play()")
    viewer.wait_for("!vp3d.state().playing")
    assert viewer.evaluate(SHOWN)["frame"] == FRAMES - 1


def test_camera_goes_along_with_the_followed_person(viewer: chromium.Tab, motion: Pose3D) -> None:
    viewer.evaluate("vp3d.follow(1); vp3d.seek(0)")
    begin = viewer.evaluate(SHOWN)["cameraTarget"]
    viewer.evaluate(f"vp3d.seek({FRAMES - 1})")
    moved = np.subtract(viewer.evaluate(SHOWN)["cameraTarget"], begin)
    walked = motion.joints_world[0, -1, 0] - motion.joints_world[0, 0, 0]
    assert moved[2] == pytest.approx(0, abs=1e-6)
    # The followed point is averaged over half a second each way: at either end it is a quarter of a second inside.
    assert np.linalg.norm(moved[:2]) == pytest.approx(np.linalg.norm(walked[:2]) - 1.2 * 0.5, abs=0.1)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [(1280, 720), (390, 800)])
def test_people_are_in_the_picture(
    tab: chromium.Tab, motion: Pose3D, tmp_path: Path, dark: bool, size: tuple[int, int]
) -> None:
    page = tmp_path / "page.html"
    page.write_text(viewer_page(motion, "t"), encoding="utf-8")
    viewer = opened(tab, page, size, dark)
    viewer.evaluate("vp3d.seek(30)")
    both = picture(viewer)
    assert both.shape[:2] == size[::-1]
    assert (both[-4, 4].mean() < 90) == dark
    scene = both[60 : size[1] // 2]
    assert pixels_near(scene, "#1d46d6") > 100
    assert pixels_near(scene, "#d9480f") > 100
    viewer.evaluate("vp3d.setPersonVisible(2, false)")
    one = picture(viewer)[60 : size[1] // 2]
    assert pixels_near(one, "#1d46d6") > 100
    assert pixels_near(one, "#d9480f") == 0
    assert viewer.faults == []


@pytest.mark.parametrize("linked", [False, True])
def test_video_shows_the_frame_of_the_motion(tab: chromium.Tab, motion: Pose3D, tmp_path: Path, linked: bool) -> None:
    video, page = tmp_path / "a #1 clip.mp4", tmp_path / "page.html"
    # The frame's number in binary, as six white or black columns.
    columns = np.array([[number >> bit & 1 for bit in range(6)] for number in range(FRAMES)], np.uint8) * 255
    frames = np.broadcast_to(columns.repeat(640 // 6 + 1, axis=1)[:, None, :640, None], (FRAMES, 360, 640, 3))
    raw = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", "640x360", "-r", "30", "-i", "-")
    run_ffmpeg(*raw, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "12", video, stdin=frames.tobytes())
    write_view(motion, page, title="t", video=video, link_video=linked, video_height=180)
    viewer = opened(tab, page)
    viewer.wait_for("document.querySelector('video').readyState >= 2")
    for frame in (0, 1, 37, 36, 59):
        viewer.evaluate(f"vp3d.seek({frame})")
        viewer.wait_for("!document.querySelector('video').seeking")
        image = picture(viewer)
        left, top, width, height = box_of(viewer, "video")
        row = image[int(top + height / 2)].mean(axis=1)
        step = width * (640 // 6 + 1) / 640
        number = sum(int(row[int(left + (bit + 0.5) * step)] > 127) << bit for bit in range(6))
        assert number == frame
    viewer.evaluate("vp3d.seek(0); vp3d.play()")
    viewer.wait_for("vp3d.state().frame >= 30")
    assert viewer.evaluate("!document.querySelector('video').paused")
    viewer.evaluate("vp3d.pause()")
    assert viewer.evaluate("document.querySelector('video').paused")
    assert viewer.faults == []


def test_one_frame(tab: chromium.Tab, tmp_path: Path) -> None:
    page = tmp_path / "one.html"
    page.write_text(viewer_page(walking_pose(people=1, frames=1), "one frame"), encoding="utf-8")
    viewer = opened(tab, page)
    viewer.press(" ")
    state = viewer.evaluate(SHOWN)
    assert (state["frame"], state["frames"], state["playing"]) == (0, 1, False)
    assert viewer.faults == []


def test_broken_data_are_told_on_the_page(tab: chromium.Tab, motion: Pose3D, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(viewer_page(motion, "t").replace('"version": 1', '"version": 99'), encoding="utf-8")
    tab.open(page)
    tab.wait_for("document.querySelector('.vp3d-message')?.hidden === false")
    assert "version 99" in tab.evaluate("document.querySelector('.vp3d-message').textContent")
    tab.faults.clear()
