"""What ffmpeg and OpenCV may open: containers alone, no playlist, no pipe, no picture without end; and for how long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.clips import CODECS, make_clip, run_ffmpeg
from vp3d_cli.errors import MissingDependencyError, VideoError
from vp3d_cli.video import VideoReader, find_ffmpeg, probe_video
from vp3d_cli.video import ffmpeg as program
from vp3d_cli.video.decode import _open_capture

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{name}\n#EXT-X-ENDLIST\n"
LIVE = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{own}\n"
CONCAT = "ffconcat version 1.0\nfile {name}\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{name}</BaseURL>'
    '<SegmentBase indexRange="0-10"/></Representation></AdaptationSet></Period></MPD>'
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
TEXTS = {"hls": HLS, "live": LIVE, "master": MASTER, "concat": CONCAT, "dash": DASH, "sdp": SDP}
NAMES = ["list.mp4", "list.m3u8", "list.ffconcat", "list.mpd", "list.sdp", "list"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    make_clip(folder / "other.mp4")
    run_ffmpeg("-i", folder / "other.mp4", "-c", "copy", folder / "other.ts")
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("other", ["other.mp4", "other.ts"])
def test_a_playlist_opens_no_other_file(kind: str, name: str, other: str, folder: Path) -> None:
    path = folder / name
    path.write_text(TEXTS[kind].format(name=other, own=name))
    with pytest.raises(VideoError, match="cannot be read as a video") as refused:
        VideoReader(path)
    assert "\n" not in str(refused.value)
    capture = _open_capture(path)
    assert not capture.isOpened()


def test_opencv_opens_what_ffmpeg_opens(folder: Path) -> None:
    assert _open_capture(folder / "other.mp4").isOpened()


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders")
@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.png"])
def test_a_named_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(VideoError, match="pipe, a device or a socket"):
        VideoReader(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders")
def test_a_named_pipe_among_images_is_refused(tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48", "-frames:v", "3", tmp_path / "%02d.png")
    os.mkfifo(tmp_path / "02a.png")
    with pytest.raises(VideoError, match=r"02a\.png is a pipe, a device or a socket"):
        VideoReader(tmp_path)


def test_a_device_is_refused() -> None:
    with pytest.raises(VideoError, match="pipe, a device or a socket"):
        probe_video("/dev/zero")


def test_a_name_that_no_system_has() -> None:
    with pytest.raises(VideoError, match="no such video") as refused:
        probe_video("x" * 5000 + ".mp4")
    assert len(str(refused.value)) < 200


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("codec", ["h264.mp4", "mjpeg.avi"])
def test_a_name_that_is_not_utf8(codec: str, tmp_path: Path) -> None:
    made = make_clip(tmp_path / codec, *CODECS[codec], frames=5)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + made.suffix.encode()))
    made.rename(odd)
    with VideoReader(odd) as video:
        assert len(list(video)) == 5


def test_frames_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "large.mp4", size_wh=(640, 480), frames=2)
    monkeypatch.setenv("VP3D_MAX_MEGAPIXELS", "0.3")
    with pytest.raises(VideoError, match=r"640x480 pixels .* --max-megapixels"):
        probe_video(path)
    monkeypatch.setenv("VP3D_MAX_MEGAPIXELS", "0.4")
    assert probe_video(path).size_wh == (640, 480)


@pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
def test_ffmpeg_has_a_limit_on_time_and_memory() -> None:
    endless = [find_ffmpeg(), "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc", "-f", "null", "-"]
    ran = program.run(endless, time_s=0.5)
    assert ran.returncode < 0
    assert program.reason(ran.stderr, ran.returncode) == "ffmpeg did not come to an end in 0.5 s"
    large = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "color=size=12000x12000", "-frames:v", "1"]
    assert program.run([*large, "-f", "null", "-"], data_bytes=2 << 30).returncode == 0
    assert program.run([*large, "-f", "null", "-"], data_bytes=60 << 20).returncode != 0


def test_a_program_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ffmpeg").write_text("no program")
    with pytest.raises(MissingDependencyError, match="cannot be started"):
        program.run([str(tmp_path / "ffmpeg")])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal at the death of a parent is Linux's")
def test_no_ffmpeg_lives_longer_than_we_do() -> None:
    script = (
        "import subprocess, sys\n"
        "from vp3d_cli.video import ffmpeg, find_ffmpeg\n"
        "null = subprocess.DEVNULL\n"
        "command = [find_ffmpeg(), '-v', 'quiet', '-re', '-f', 'lavfi', '-i', 'testsrc', '-f', 'null', '-']\n"
        "print(ffmpeg.start(command, stdin=null, stdout=null, stderr=null).pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    ours = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with ours:
        assert ours.stdout is not None
        child = int(ours.stdout.readline())
        assert _is_running(child)
        ours.send_signal(signal.SIGKILL)
        ours.wait()
    deadline = time.monotonic() + 30
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(child)


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
