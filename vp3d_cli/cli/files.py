"""``vp3d info``: the facts of a video, a pose file or a keypoint file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vp3d_cli.cli.common import AsJson, printable
from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import open_regular

if TYPE_CHECKING:
    from vp3d_cli.pose import Pose3D
    from vp3d_cli.types import VideoInfo


def info(
    file: Annotated[Path, typer.Argument(help="Video, folder of images, or pose file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print the facts of a video, of a pose file or of a keypoint file (npz).

    \b
    vp3d info video.mp4
    vp3d info pose.npz --json
    """
    if not os.path.lexists(file):
        raise InputError(f"no such file or folder: {file}")
    facts = npz_facts(file) if is_npz(file) else video_facts(file)
    if as_json:
        print(json.dumps(_as_json(facts), indent=2, allow_nan=False))
        return
    print("\n".join(map(printable, format_facts(facts))))


def _as_json(value: Any) -> Any:
    """The same, with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_npz(file: Path) -> bool:
    """Whether a file is to be read as an npz: by its name, or by the zip signature that every one has."""
    if file.is_dir():
        return False
    if file.suffix.lower() == ".npz":
        return True
    try:
        with open_regular(file) as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise InputError(f"{file}: cannot be opened ({error.strerror}); check what it is and its permissions") from None


def video_facts(file: Path) -> dict[str, Any]:
    """Facts of a video, as JSON can hold them."""
    from vp3d_cli.video import probe_video

    facts: VideoInfo = probe_video(file)
    return {
        "video": str(file),
        "size_wh": list(facts.size_wh),
        "frames_per_second": facts.fps,
        "frames": facts.frame_count,
        "seconds": facts.duration_s,
        "codec": facts.codec,
        "rotation_deg": facts.rotation_deg,
        "sound": facts.has_audio,
    }


def npz_facts(file: Path) -> dict[str, Any]:
    """Facts of a pose file, or of keypoints without 3D."""
    from vp3d_cli.errors import PoseFileError
    from vp3d_cli.io.restricted_pickle import npz_names

    try:
        names = set(npz_names(file))
        without_3d = {"keypoints_2d", "positions_2d", "counts"} & names and "joints_3d" not in names
    except InputError as error:
        raise PoseFileError(str(error)) from error
    return keypoint_facts(file) if without_3d else pose_facts(file)


def keypoint_facts(file: Path) -> dict[str, Any]:
    """Facts of a keypoint file, as JSON can hold them."""
    from vp3d_cli.io.keypoints import read_keypoints

    keypoints = read_keypoints(file)
    return {
        "keypoint_file": str(file),
        "format": keypoints.format,
        "layout": keypoints.layout,
        "people": len({person for frame in keypoints.ids or () for person in frame}) or None,
        "frames": len(keypoints),
        "frames_per_second": keypoints.fps,
        "video_size_wh": None if keypoints.size_wh is None else list(keypoints.size_wh),
    }


def pose_facts(file: Path) -> dict[str, Any]:
    """Facts of a pose file, as JSON can hold them."""
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.pipeline.summary import summarize

    pose: Pose3D = read_npz(file)
    return {
        "pose_file": str(file),
        "people": pose.num_people,
        "frames": pose.num_frames,
        "frames_per_second": pose.fps,
        "seconds": float(pose.frame_times_s[-1] - pose.frame_times_s[0]) if pose.num_frames else 0.0,
        "video_size_wh": list(pose.video_size_wh),
        "intrinsics_fx_fy_cx_cy": list(pose.intrinsics),
        "persons": [asdict(person) for person in summarize(pose).people],
        "provenance": dict(pose.provenance),
    }


def format_facts(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """Facts as lines ``name  value``; facts within facts are indented, each of a list has a line."""
    lines: list[str] = []
    for name, value in facts.items():
        label = indent + name.replace("_", " ")
        if isinstance(value, Mapping):
            lines += [label, *format_facts(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                inside = ", ".join(f"{key.replace('_', ' ')} {_text(v)}" for key, v in item.items())
                lines.append(f"{label:26s} {inside}")
        else:
            lines.append(f"{label:26s} {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    return ", ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)
