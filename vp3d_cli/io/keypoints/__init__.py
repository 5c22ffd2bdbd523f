"""Reading and writing of 2D keypoint files: those of other tools, and ours in formats of other tools.

A format is a module with a :class:`~vp3d_cli.io.keypoints.base.KeypointReader` and a line in :mod:`vp3d_cli.plugins`.
It is recognised by the content of the file, not by its name; the layout is the file's own or the user's, never guessed
from the number of keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vp3d_cli.errors import ConfigError, InputError
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.keypoints import coco, native, videopose3d
from vp3d_cli.io.keypoints.assemble import KeypointFile, assemble
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import ReaderOptions, WriteRequest
from vp3d_cli.io.keypoints.layouts import LAYOUTS, Layout, find_layout, list_layouts
from vp3d_cli.io.keypoints.source import Source
from vp3d_cli.plugins import KEYPOINT_READERS
from vp3d_cli.types import DoubleArray, Track2D, VideoInfo

__all__ = [
    "LAYOUTS",
    "WRITERS",
    "KeypointFile",
    "KeypointReader",
    "KeypointWriter",
    "Layout",
    "find_layout",
    "list_layouts",
    "read_keypoints",
    "write_keypoints",
]


@dataclass(frozen=True)
class KeypointWriter:
    """A keypoint format that can be written.

    Attributes:
        name: what ``--format`` takes.
        title: description on one line.
        suffix: the usual ending of its files.
        write: writes to a stream, and returns what the format lost, one line each.
    """

    name: str
    title: str
    suffix: str
    write: Callable[[IO[bytes], WriteRequest], list[str]]


WRITERS: dict[str, KeypointWriter] = {
    writer.name: writer
    for writer in (
        KeypointWriter("vp3d", "vp3d's detections, everything kept", ".npz", native.write),
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
    """Read the 2D keypoints of another tool, or of vp3d.

    Args:
        path: file, or folder of files.
        video: the video that they belong to; frame count and image size are checked against it.
        layout: order of the keypoints (:data:`LAYOUTS`), where the file does not say; how it is spelled does not
            matter (``HALPE_26``, ``halpe26``).
        joint_map: for DeepLabCut: body part -> COCO keypoint, or a TOML or JSON file of it.

    Returns:
        Everyone in each frame: keypoints of the file's layout in pixels, confidence 0..1. See
        :mod:`vp3d_cli.io.keypoints.assemble` for the rules on confidence, missing keypoints and boxes.

    Raises:
        InputError: the file is missing, broken, of no known format or layout, mixes layouts, or is not of this
            video.
        MissingDependencyError: it is DeepLabCut's ``.h5`` and h5py is not installed.
    """
    source = Source(path)
    if source.kind == "folder" and not any(source.path.iterdir()):
        raise InputError(f"{source}: is an empty folder; give the folder that has the keypoint files")
    readers: dict[str, KeypointReader] = KEYPOINT_READERS.loaded()
    found = next((reader for reader in readers.values() if reader.matches(source)), None)
    if found is None:
        known = "; ".join(reader.title for reader in readers.values())
        raise InputError(f"{source}: unknown keypoint format; known: {known}")
    mapping = Path(joint_map) if isinstance(joint_map, str) else joint_map
    given = dict(mapping) if isinstance(mapping, Mapping) else mapping
    raw = found.read(source, ReaderOptions(video=video, layout=layout, joint_map=given))
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
    """Write a file of 2D keypoints.

    Args:
        path: file to write.
        tracks: the people; may be empty.
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
    job = WriteRequest(path, tracks, frame_times_s, fps, size_wh, name, provenance or {})
    with replacing(path, overwrite) as stream:
        return WRITERS[format].write(stream, job)
