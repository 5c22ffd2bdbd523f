"""Keypoints of a file and a detector's belong to the same frames of a video."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from running import find_keypoints, infer

from vp3d_cli.pipeline.settings import InferSettings
from vp3d_cli.video import probe_video


def test_frames_that_do_not_decode_are_in_neither(
    short_clip: Path, ffmpeg: Callable[..., None], tmp_path: Path
) -> None:
    whole, damaged, keypoints = (tmp_path / name for name in ("whole.mkv", "damaged.mkv", "k.npz"))
    ffmpeg("-i", short_clip, "-c:v", "mjpeg", "-q:v", 3, "-pix_fmt", "yuvj420p", whole)
    data = bytearray(whole.read_bytes())
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    for number in (4, 5, 8):
        data[starts[number] : starts[number] + 1500] = bytes(1500)
    damaged.write_bytes(data)
    assert probe_video(damaged).frame_count == 12

    warnings = find_keypoints(damaged, keypoints)
    assert ["3 of 12 frames could not be decoded" in warning for warning in warnings] == [True]
    pose = infer(damaged, settings=InferSettings(keypoints=str(keypoints)))
    assert len(pose.frame_times_s) == 9
    assert [warning for warning in pose.provenance["warnings"] if "frames, the video" in warning] == []
