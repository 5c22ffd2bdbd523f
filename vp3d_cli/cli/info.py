"""``vp3d info``: the facts of a video, a pose file, a detections file or a keypoint file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vp3d_cli.cli.common import AsJson, printable
from vp3d_cli.errors import InputError
from vp3d_cli.io.atomic import open_regular

# Beginnings of npz, HDF5, npy and pickle files, and of text that may be JSON or TRC.
_DATA = (b"PK\x03\x04", b"\x89HDF", b"\x93NUMPY", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
_TEXT = (b"{", b"[", b"PathFileType")
_KEYPOINT_SUFFIXES = {".npz", ".npy", ".pkl", ".json", ".csv", ".tsv", ".trc", ".h5"}


def info(
    file: Annotated[
        Path,
        typer.Argument(
            help="Video, folder of images, pose file, detections file or keypoint file.", show_default=False
        ),
    ],
    video: Annotated[
        Path | None,
        typer.Option(help="Video that a keypoint file belongs to; checks that it fits.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what is in a file.

    The file is a video, a pose file, a detections file or a keypoint file.

    \b
    vp3d info video.mp4
    vp3d info pose.npz --json
    vp3d info openpose_json/ --video video.mp4
    """
    if not os.path.lexists(file):
        raise InputError(f"no such file or folder: {file}")
    facts = read_facts(file, video)
    if as_json:
        print(json.dumps(_as_json(facts), indent=2, allow_nan=False))
        return
    from vp3d_cli.cli.info_text import format_facts

    print("\n".join(map(printable, format_facts(facts))))


def read_facts(file: Path, video: Path | None = None) -> dict[str, Any]:
    """The facts of a file, as JSON can hold them; which kind of file it is shows in the first key.

    Args:
        file: a video, folder of images, pose file, detections file or keypoint file.
        video: the video that a keypoint file belongs to.

    Raises:
        Vp3dError: the file cannot be read.
    """
    if not is_keypoint_file(file):
        return video_facts(file)
    return pose_facts(file) if _has_3d(file) else keypoint_facts(file, video)


def is_keypoint_file(file: Path) -> bool:
    """Whether a file or folder holds keypoints or poses, rather than pictures: by its name and its first bytes.

    Raises:
        InputError: it cannot be opened.
    """
    if file.is_dir():
        suffixes = {path.suffix.lower() for path in file.iterdir()}
        folders = [path for pattern in ("labels", "*_json", "*/*_json") for path in file.glob(pattern) if path.is_dir()]
        return bool(suffixes & {".json", ".txt", ".trc"} or folders) and not suffixes & {".jpg", ".jpeg", ".png"}
    if file.suffix.lower() in _KEYPOINT_SUFFIXES:
        return True
    try:
        with open_regular(file) as stream:
            head = stream.read(64)
    except OSError as error:
        raise InputError(f"{file}: cannot be opened ({error.strerror}); check what it is and its permissions") from None
    return head.startswith(_DATA) or head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_TEXT)


def _has_3d(file: Path) -> bool:
    """Whether a keypoint or pose file is a pose file; a damaged archive is taken for one, as most are.

    Raises:
        PoseFileError: it is an archive that cannot be opened.
    """
    from vp3d_cli.errors import PoseFileError
    from vp3d_cli.io.restricted_pickle import npz_names

    if file.is_dir() or (file.suffix.lower() != ".npz" and not _is_archive(file)):
        return False
    try:
        names = set(npz_names(file))
    except InputError as error:
        raise PoseFileError(str(error)) from error
    return "joints_3d" in names or not {"keypoints_2d", "positions_2d", "counts", "keypoints", "keypoint"} & names


def _is_archive(file: Path) -> bool:
    with open_regular(file) as stream:
        return stream.read(4) == _DATA[0]


def video_facts(file: Path) -> dict[str, Any]:
    """Facts of a video."""
    from vp3d_cli.video import probe_video

    facts = probe_video(file)
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


def keypoint_facts(file: Path, video: Path | None = None) -> dict[str, Any]:
    """Facts of a detections file, or of the keypoints of another tool."""
    from vp3d_cli.io.detections import is_detections_file, read_detections
    from vp3d_cli.io.keypoints import read_keypoints
    from vp3d_cli.video import probe_video

    own = not file.is_dir() and is_detections_file(file)
    keypoints = read_keypoints(file, None if video is None else probe_video(video))
    ids = None if keypoints.ids is None else {person for frame in keypoints.ids for person in frame}
    facts: dict[str, Any] = {
        "detections_file" if own else "keypoint_file": str(file),
        "format": keypoints.format,
        "layout": keypoints.layout,
        "people": None if ids is None else len(ids),
        "most_people_in_a_frame": max(map(len, keypoints.detections), default=0),
        "frames": len(keypoints),
        "frames_with_people": sum(len(people) > 0 for people in keypoints.detections),
        "frames_per_second": keypoints.fps,
        "video_size_wh": None if keypoints.size_wh is None else list(keypoints.size_wh),
    }
    if own:
        found = read_detections(file)
        facts |= {"complete": found.progress is None, "provenance": {"video": found.video, **found.source}}
    return {**facts, "warnings": list(keypoints.warnings)}


def pose_facts(file: Path) -> dict[str, Any]:
    """Facts of a pose file."""
    from vp3d_cli.io.poses.npz import read_npz
    from vp3d_cli.pipeline.summary import summarize

    pose = read_npz(file)
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


def _as_json(value: Any) -> Any:
    """The same, with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(name): _as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
