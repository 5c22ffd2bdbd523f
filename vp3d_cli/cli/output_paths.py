"""Output paths of ``vp3d infer``, decided before the first frame is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vp3d_cli.errors import ConfigError
from vp3d_cli.jobs.storage import Place, same_file, to_place

STEM = "{stem}"
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".gif")


@dataclass(frozen=True)
class VideoOutputs:
    """One video and the paths of its outputs; ``render`` is None where no side-by-side video is drawn."""

    video: Place
    out: Place
    render: Place | None


def plan_outputs(
    videos: Sequence[Place], out: str, render: str | None, out_suffixes: Sequence[str] = (".npz",)
) -> list[VideoOutputs]:
    """Choose the output paths of each video.

    Args:
        videos: files or folders of images, or URLs of such.
        out: a file, a template that contains ``{stem}``, or a folder (then ``{stem}.npz``, say, in it).
        render: the same for the side-by-side video; in a folder ``{stem}.mp4``.
        out_suffixes: that the name of ``out`` may end in.

    Raises:
        ConfigError: two videos would write the same file, or an output would replace a video that is read.
    """
    outputs = [
        VideoOutputs(
            video, output_path(video, out, out_suffixes), output_path(video, render, VIDEO_SUFFIXES) if render else None
        )
        for video in videos
    ]
    targets = [path for paths in outputs for path in (paths.out, paths.render) if path is not None]
    counts = Counter(os.path.abspath(path) if isinstance(path, Path) else str(path) for path in targets)
    if shared := [path for path, count in counts.items() if count > 1]:
        raise ConfigError(
            f"{counts[shared[0]]} results would be written to {shared[0]}; give a folder, or a name with {STEM}, "
            "and videos with different names"
        )
    sources = {same_file(video) for video in videos}
    for target in targets:
        if same_file(target) in sources:
            raise ConfigError(f"{target} is one of the videos to read; give the result another name")
    return outputs


def output_path(video: Place, target: str, suffixes: Sequence[str]) -> Place:
    """Choose the path of one output of a video.

    Args:
        video: file or folder of images.
        target: a file, a template that contains ``{stem}``, or a folder.
        suffixes: that a file's name may end in; the first one is added where ``target`` has none.

    Raises:
        ConfigError: the name ends in something else.
    """
    # A folder of images may be called "." or end in a slash: its own name is the stem then.
    stem = video.resolve().name if isinstance(video, Path) and video.is_dir() else video.stem
    path = to_place(target.replace(STEM, stem))
    if target.endswith("/") or (isinstance(path, Path) and path.is_dir()):
        return path / (stem + suffixes[0])
    suffix = Path(target).suffix.lower()  # of the template: the stem may have dots of its own
    if suffix in suffixes:
        return path
    if suffix:
        raise ConfigError(f"{target}: neither a folder nor a name that ends in {' or '.join(suffixes)}")
    return path.parent / (path.name + suffixes[0]) if STEM in target else path / (stem + suffixes[0])
