"""Where each result of ``vp3d infer`` goes, decided before the first frame is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vp3d_cli.errors import ConfigError

STEM = "{stem}"
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".gif")


@dataclass(frozen=True)
class Job:
    """One video and where its results go; ``render`` is None where no video is to be drawn."""

    video: Path
    out: Path
    render: Path | None


def plan_jobs(
    videos: Sequence[Path], out: str, render: str | None, out_suffixes: Sequence[str] = (".npz",)
) -> list[Job]:
    """Name the outputs of each video.

    Args:
        videos: files or folders of images.
        out: a file, a template that contains ``{stem}``, or a folder (then ``{stem}.npz``, say, in it).
        render: the same for the side-by-side video; in a folder ``{stem}.mp4``.
        out_suffixes: that the name of ``out`` may end in.

    Raises:
        ConfigError: two videos would write the same file, or an output would replace a video that is read.
    """
    jobs = [
        Job(video, place(video, out, out_suffixes), place(video, render, VIDEO_SUFFIXES) if render else None)
        for video in videos
    ]
    targets = [path for job in jobs for path in (job.out, job.render) if path is not None]
    counts = Counter(os.path.abspath(path) for path in targets)
    if shared := [path for path, count in counts.items() if count > 1]:
        raise ConfigError(
            f"{counts[shared[0]]} results would be written to {shared[0]}; give a folder, or a name with {STEM}, "
            "and videos with different names"
        )
    sources = {os.path.realpath(video) for video in videos}
    for target in targets:
        if os.path.realpath(target) in sources:
            raise ConfigError(f"{target} is one of the videos to read; give the result another name")
    return jobs


def place(video: Path, target: str, suffixes: Sequence[str]) -> Path:
    """The output file of one video.

    Args:
        video: file or folder of images.
        target: a file, a template that contains ``{stem}``, or a folder.
        suffixes: that a file's name may end in; the first one is added where ``target`` has none.

    Raises:
        ConfigError: the name ends in something else.
    """
    # A folder of images may be called "." or end in a slash: its own name is the stem then.
    stem = video.resolve().name if video.is_dir() else video.stem
    path = Path(target.replace(STEM, stem))
    if target.endswith("/") or path.is_dir():
        return path / (stem + suffixes[0])
    suffix = Path(target).suffix.lower()  # of the template: the stem may have dots of its own
    if suffix in suffixes:
        return path
    if suffix:
        raise ConfigError(f"{target}: neither a folder nor a name that ends in {' or '.join(suffixes)}")
    return path.with_name(path.name + suffixes[0]) if STEM in target else path / (stem + suffixes[0])
