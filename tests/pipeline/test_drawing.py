"""Rendered videos: which frames they have, with and without footage, in every kind of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from poses import walking_pose

from vp3d_cli.errors import ConfigError, OutputError
from vp3d_cli.pipeline.drawing import frames_at_rate, render
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import FrameBGR
from vp3d_cli.video import VideoReader

SIZE_WH = (160, 90)


@pytest.fixture
def clip(tmp_path: Path, ffmpeg: Callable[..., None]) -> Path:
    """12 frames of bright footage at 30 per second, with sound."""
    path = tmp_path / "clip.mp4"
    picture, sound = "color=white:size=160x90:rate=30:duration=0.4", "sine=duration=0.4"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-pix_fmt", "yuv420p", path)
    return path


def pose_of_frames(frames: int) -> Pose3D:
    return walking_pose(2, frames, SIZE_WH)


def read(path: Path) -> tuple[list[float], list[FrameBGR]]:
    with VideoReader(path) as reader:
        frames = list(reader)
    return [frame.time_s for frame in frames], [frame.image for frame in frames]


@pytest.mark.parametrize(
    ("source_fps", "fps", "kept"),
    [(30, 15, 15), (30, None, 30), (30, 60, 30), (25, 15, 15), (60, 30, 30), (50, 15, 15), (30, 10, 10)],
)
def test_frames_at_a_rate_are_evenly_spaced(source_fps: float, fps: float | None, kept: int) -> None:
    times_s = 7.0 + np.arange(source_fps) / source_fps
    frames = frames_at_rate(times_s, fps)
    assert len(frames) == kept
    assert frames[0] == 0
    steps = np.diff(times_s[frames])
    assert steps.max() - steps.min() < 1.01 / source_fps


def test_a_rate_that_is_no_rate_raises() -> None:
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="fps"):
            frames_at_rate(np.arange(3.0), fps)


def test_without_a_video_the_scene_is_drawn_at_the_rate_of_the_pose(tmp_path: Path) -> None:
    render(pose_of_frames(8), None, tmp_path / "3d.mp4", height=120)
    times_s, images = read(tmp_path / "3d.mp4")
    np.testing.assert_allclose(times_s, np.arange(8) / 30, atol=1e-3)
    assert images[0].shape == (120, 214, 3)


def test_a_pose_longer_than_the_video_is_drawn_to_its_end(clip: Path, tmp_path: Path) -> None:
    said: list[str] = []
    render(pose_of_frames(20), clip, tmp_path / "out.mp4", height=120, layout="overlay", warn=said.append)
    times_s, images = read(tmp_path / "out.mp4")
    np.testing.assert_allclose(times_s, np.arange(20) / 30, atol=1e-3)
    assert [bool(np.median(image) > 128) for image in images] == [True] * 12 + [False] * 8
    assert len(said) == 1
    assert "lacks 8 of 20 frames of the pose" in said[0]


def test_a_video_longer_than_the_pose_is_drawn_as_far_as_the_pose(clip: Path, tmp_path: Path) -> None:
    render(pose_of_frames(5), clip, tmp_path / "out.mp4", height=120)
    assert len(read(tmp_path / "out.mp4")[0]) == 5


@pytest.mark.parametrize("name", ["out.webm", "out.gif", "out.mp4"])
def test_every_kind_of_file_has_the_frames_of_the_rate(clip: Path, tmp_path: Path, name: str) -> None:
    render(pose_of_frames(12), clip, tmp_path / name, height=120, fps=15)
    times_s, images = read(tmp_path / name)
    np.testing.assert_allclose(times_s, np.arange(6) / 15, atol=0.011)
    assert images[0].shape[0] == 120


def test_a_gif_is_small_unless_asked_otherwise(clip: Path, tmp_path: Path) -> None:
    render(pose_of_frames(12), clip, tmp_path / "out.gif")
    times_s, images = read(tmp_path / "out.gif")
    assert (len(times_s), images[0].shape[0]) == (6, 288)


def test_webm_has_the_sound_of_the_video(clip: Path, tmp_path: Path) -> None:
    from vp3d_cli.video.probe import examine

    render(pose_of_frames(12), clip, tmp_path / "out.webm", height=120)
    assert examine(tmp_path / "out.webm").audio_codec == "opus"


def test_a_folder_gets_numbered_images(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    render(pose_of_frames(12), clip, folder, height=120, fps=10)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00003.png", "00006.png", "00009.png"]
    image = cv2.imread(str(folder / "00003.png"))
    assert image is not None
    assert image.shape[0] == 120
    with pytest.raises(OutputError, match="exists already"):
        render(pose_of_frames(12), clip, folder)
    render(pose_of_frames(2), clip, folder, height=120, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png"]


def test_only_the_people_asked_for_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, ...]] = []
    from vp3d_cli.pipeline import drawing

    class Spy(drawing.FrameRenderer):
        def __init__(self, pose: Pose3D, *arguments: Any, **options: Any) -> None:
            drawn.append(tuple(pose.person_ids))
            super().__init__(pose, *arguments, **options)

    monkeypatch.setattr(drawing, "FrameRenderer", Spy)
    render(pose_of_frames(2), None, tmp_path / "one.mp4", height=120, people=(2,))
    assert drawn == [(2,)]
    with pytest.raises(ConfigError, match=r"no person 7 in this pose; people: 1, 2"):
        render(pose_of_frames(2), None, tmp_path / "seven.mp4", people=(7,))
    assert [path.name for path in tmp_path.iterdir()] == ["one.mp4"]
