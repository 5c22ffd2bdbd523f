"""2D keypoints that other tools made, read in place of a detector; and ours, written for other tools.

A format is a module with ``matches(source)`` and ``read(source, options)`` and a line in :data:`FORMATS`. It is
recognised by what is in the file, not by its name; the layout is the file's own or the user's, never guessed from the
number of keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.keypoints import (
    alphapose,
    coco,
    deeplabcut,
    mediapipe,
    mmpose,
    native,
    openpose,
    sports2d,
    videopose3d,
)
from vp3d_cli.io.keypoints.assemble import KeypointFile, assemble
from vp3d_cli.io.keypoints.layouts import LAYOUTS, Layout, find_layout, list_layouts
from vp3d_cli.io.keypoints.people import RawPeople, ReadOptions, WriteJob
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.types import DoubleArray, Track2D, VideoInfo

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "WRITERS",
    "KeypointFile",
    "KeypointFormat",
    "KeypointWriter",
    "Layout",
    "find_layout",
    "list_layouts",
    "read_keypoints",
    "write_keypoints",
]


@dataclass(frozen=True)
class KeypointFormat:
    """A format that can be read.

    Attributes:
        name: what results state.
        title: one line for people.
        matches: whether a file or folder is of this format.
        read: its people.
    """

    name: str
    title: str
    matches: Callable[[Source], bool]
    read: Callable[[Source, ReadOptions], RawPeople]


@dataclass(frozen=True)
class KeypointWriter:
    """A format that can be written.

    Attributes:
        name: what ``--format`` takes.
        title: one line for people.
        suffix: the usual ending of its files.
        write: writes to a stream, and returns what the format lost, one line each.
    """

    name: str
    title: str
    suffix: str
    write: Callable[[IO[bytes], WriteJob], list[str]]


FORMATS: tuple[KeypointFormat, ...] = (
    KeypointFormat("vp3d", "vp3d's keypoints or poses (.npz)", native.matches, native.read),
    KeypointFormat("videopose3d", "VideoPose3D's keypoints (.npz)", videopose3d.matches, videopose3d.read),
    KeypointFormat("mmpose", "MMPose's predictions (.json)", mmpose.matches, mmpose.read),
    KeypointFormat("alphapose", "AlphaPose's results (.json)", alphapose.matches, alphapose.read),
    KeypointFormat("coco", "COCO results (.json)", coco.matches, coco.read),
    KeypointFormat("openpose", "OpenPose's or Pose2Sim's folder of .json", openpose.matches, openpose.read),
    KeypointFormat("mediapipe", "MediaPipe's landmarks (.csv, .json)", mediapipe.matches, mediapipe.read),
    KeypointFormat("deeplabcut", "DeepLabCut's predictions (.csv, .h5)", deeplabcut.matches, deeplabcut.read),
    KeypointFormat("sports2d", "Sports2D's pixels (.trc, or a folder)", sports2d.matches, sports2d.read),
)
WRITERS: dict[str, KeypointWriter] = {
    writer.name: writer
    for writer in (
        KeypointWriter("vp3d", "vp3d's own, everything kept", ".npz", native.write),
        KeypointWriter("coco", "COCO results", ".json", coco.write),
        KeypointWriter("videopose3d", "VideoPose3D's custom keypoints", ".npz", videopose3d.write),
    )
}


def read_keypoints(
    path: str | Path,
    video: VideoInfo | None = None,
    *,
    layout: str | None = None,
    joint_map: Mapping[str, str] | str | Path | None = None,
) -> KeypointFile:
    """Read 2D keypoints that another tool, or vp3d, made.

    Args:
        path: file, or folder of files.
        video: the video that they belong to; frame count and image size are checked against it.
        layout: order of the keypoints (:data:`LAYOUTS`), where the file does not say; how it is spelled does not
            matter (``HALPE_26``, ``halpe26``).
        joint_map: for DeepLabCut: body part -> COCO keypoint, or a TOML or JSON file of it.

    Returns:
        Everyone in each frame: COCO-17, pixels, confidence 0..1. See :mod:`vp3d_cli.io.keypoints.assemble` for the
        rules on confidence, missing keypoints and boxes.

    Raises:
        InputError: the file is missing, broken, of no known format or layout, mixes layouts, or is not of this
            video.
        MissingDependencyError: it is DeepLabCut's ``.h5`` and h5py is not installed.
    """
    source = Source(path)
    if source.kind == "folder" and not any(source.path.iterdir()):
        raise InputError(f"{source}: is an empty folder; give the folder that has the keypoint files")
    found = next((known for known in FORMATS if known.matches(source)), None)
    if found is None:
        raise InputError(
            f"{source}: in no known format of keypoints; known: {'; '.join(known.title for known in FORMATS)}"
        )
    mapping = Path(joint_map) if isinstance(joint_map, str) else joint_map
    given = dict(mapping) if isinstance(mapping, Mapping) else mapping
    raw = found.read(source, ReadOptions(video=video, layout=layout, joint_map=given))
    return assemble(source, raw, found.name, video)


def write_keypoints(
    path: str | Path,
    tracks: Sequence[Track2D],
    *,
    frame_times_s: DoubleArray,
    fps: float,
    size_wh: tuple[int, int],
    format: str = "vp3d",
    video_name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write 2D keypoints.

    Args:
        path: where to.
        tracks: everyone; none is allowed.
        frame_times_s: (T,) seconds, of all frames of the video.
        fps: frames per second.
        size_wh: image size, pixels.
        format: of :data:`WRITERS`.
        video_name: the video in VideoPose3D's format; by default the file's name without ending and without
            ``data_2d_custom_``, which VideoPose3D wants before it.
        provenance: where the keypoints come from; kept by ``vp3d`` alone.
        overwrite: replace a file that exists.

    Returns:
        What the format cannot hold and so was lost or filled in, one line each.

    Raises:
        ConfigError: an unknown format, or tracks that are longer than ``frame_times_s``.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if format not in WRITERS:
        raise ConfigError(f"unknown keypoint format {format!r}; known: {', '.join(WRITERS)}")
    last = max((track.frames.stop for track in tracks), default=0)
    if last > len(frame_times_s):
        raise ConfigError(f"frame_times_s has {len(frame_times_s)} frames, but somebody is seen up to frame {last}")
    name = video_name or path.stem.removeprefix("data_2d_custom_")
    job = WriteJob(path, tracks, frame_times_s, fps, size_wh, name, provenance or {})
    with replacing(path, overwrite) as stream:
        return WRITERS[format].write(stream, job)
