"""What is no video, or only half of one: one line that says what, where and what to try; or a warning."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.clips import CODECS, FPS, corners, make_clip, run_ffmpeg
from vp3d_cli.errors import VideoError
from vp3d_cli.video import VideoReader, find_ffmpeg, probe_video


def programs() -> list[str]:
    """Each ffmpeg of this machine: that of the package, and the system's."""
    bundled, system = find_ffmpeg(), shutil.which("ffmpeg")
    return [bundled] if system in (None, bundled) else [bundled, str(system)]


@pytest.fixture(autouse=True, params=programs(), ids=lambda path: Path(path).name)
def _each_ffmpeg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_FFMPEG", request.param)


def refusal(path: Path, start_s: float = 0.0, end_s: float | None = None) -> str:
    """The message of the error that reading raises."""
    with pytest.raises(VideoError) as refused, VideoReader(path, start_s, end_s) as video:
        list(video)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "whole.mp4", frames=5)


def test_missing(tmp_path: Path) -> None:
    assert "no such video" in refusal(tmp_path / "missing.mp4")
    assert "no such image" in refusal(tmp_path / "missing.png")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "moved.mp4")
    assert f"is a link to {tmp_path}/moved.mp4, which is not there" in refusal(tmp_path / "link.mp4")


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing to see")
    assert "no images in the folder" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["text.mp4", "text.mkv", "text.avi", "text.txt", "text"])
def test_text(name: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path / name, b"Dear diary, today I renamed a file.\n" * 200))
    assert "cannot be read as a video" in message
    assert "convert it" in message


def test_zero_bytes(tmp_path: Path) -> None:
    assert "is empty (0 bytes)" in refusal(write(tmp_path / "zero.mp4", b""))


def test_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(50_000)
    assert "cannot be read as a video" in refusal(write(tmp_path / "noise.mp4", noise))


def test_a_damaged_matroska_file_tells_its_damage(tmp_path: Path) -> None:
    whole = bytearray(make_clip(tmp_path / "whole.mkv", frames=5).read_bytes())
    cluster = whole.index(b"\x1f\x43\xb6\x75")  # where the frames are (RFC 9559, section 5.1.3)
    whole[cluster + 12 :] = np.random.default_rng(0).bytes(len(whole) - cluster - 12)
    message = refusal(write(tmp_path / "damaged.mkv", bytes(whole)))
    assert "no frame of it can be decoded" in message
    assert "frame=" not in message  # ffmpeg's count of what it did comes last, and is no reason


def test_a_matroska_file_that_ends_before_its_first_frame_says_so(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.mkv", frames=5).read_bytes()
    begun = whole[: whole.index(b"\x1f\x43\xb6\x75") + 40]  # a few bytes of the first frame
    message = refusal(write(tmp_path / "cut.mkv", begun))
    assert "no frame of it can be decoded: File ended prematurely)" in message


def test_mp4_without_its_index(clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    message = refusal(write(tmp_path / "stopped.mp4", whole[: len(whole) // 2]))
    assert "incomplete" in message
    assert "again" in message


@pytest.mark.parametrize("name", ["song.mp4", "song.mp3", "song.wav"])
def test_sound_only(name: str, tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-t", "1", "-i", "sine", tmp_path / name)
    assert "sound but no picture" in refusal(tmp_path / name)


def test_song_with_a_cover(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "cover.png"), corners())
    song = tmp_path / "song.mp3"
    run_ffmpeg("-f", "lavfi", "-t", "1", "-i", "sine", "-i", tmp_path / "cover.png", "-map", "0", "-map", "1",
               "-disposition:v:0", "attached_pic", song)  # fmt: skip
    assert "sound but no picture" in refusal(song)


def test_a_file_that_may_not_be_read(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "locked.mp4", clip.read_bytes())
    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refusal(path)


def test_start_beyond_the_end(clip: Path) -> None:
    for start_s in (0.2, 1000.0):  # the last frame is at 0.16 s
        message = refusal(clip, start_s)
        assert f"no frame at or after {start_s:g} s" in message
        assert "earlier start" in message
    assert "no frame from 0.17 s to 0.19 s" in refusal(clip, 0.17, 0.19)


def test_span_between_two_frames_of_ffmpeg_s(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "av1.mkv", *CODECS["av1.mp4"], frames=20)
    assert "no frame from 0.61 s to 0.63 s" in refusal(path, 0.61, 0.63)
    assert "no frame at or after 0.9 s" in refusal(path, 0.9)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_what_was_cut_off_is_used_as_far_as_it_goes(kind: str, tmp_path: Path) -> None:
    codec = CODECS["vp9.webm"] if kind == "webm" else CODECS["h264.mp4"]
    path = make_clip(tmp_path / f"whole.{kind}", *codec, "-g", "10", "-movflags", "+faststart", frames=50, sound_s=2)
    whole = path.read_bytes()
    cut_off = write(tmp_path / f"cut_off.{kind}", whole[: len(whole) * 6 // 10])
    with VideoReader(cut_off) as video:
        times_s = [frame.time_s for frame in video]
    assert 15 < len(times_s) < 45
    # At the very end frames may be missing that were to be decoded from the lost ones.
    steady_s = [times_s[0] + k / FPS for k in range(len(times_s) - 4)]
    assert times_s[:-4] == pytest.approx(steady_s, abs=1e-3)
    (warning,) = video.warnings
    assert "cut off" in warning
    assert str(cut_off) in warning
    assert f"the first {times_s[-1] + 1 / FPS:.2f} s" in warning
    # Nobody asked for what is missing:
    with VideoReader(cut_off, 0.0, 0.4) as video:
        assert len(list(video)) == 10
    assert video.warnings == []


def test_images_that_are_none_are_left_out_and_the_others_keep_their_times(tmp_path: Path) -> None:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), corners())
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:20])
    (tmp_path / "3.png").write_bytes(b"")
    with VideoReader(tmp_path, image_fps=10) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.4])
    assert video.warnings == [f"2 of 5 images cannot be read and were left out, first {tmp_path / '2.png'}"]


def test_images_of_two_sizes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), corners())
    cv2.imwrite(str(tmp_path / "2.png"), corners((100, 100)))
    message = refusal(tmp_path)
    assert "2.png is 100x100" in message
    assert "160x120" in message


def test_no_image_at_all_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "only.jpg").write_bytes(b"no image")
    assert "cannot be read as an image" in refusal(tmp_path)


def test_damage_in_the_middle_does_not_end_the_video(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "whole.mkv", *CODECS["h264.mp4"], "-g", "5", frames=50)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 2000] = bytes(2000)
    with VideoReader(write(tmp_path / "damaged.mkv", bytes(whole))) as video:
        times_s = [frame.time_s for frame in video]
    assert times_s[-1] > 1.5
    assert (np.diff(times_s) > 0).all()


def test_a_file_that_vanishes(clip: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "gone.mp4", clip.read_bytes())
    video = VideoReader(path)
    path.unlink()
    with pytest.raises(VideoError, match=r"gone\.mp4"), video:
        list(video)


def test_probe_says_the_same(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such video"):
        probe_video(tmp_path / "missing.mp4")
