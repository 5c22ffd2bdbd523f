"""Interface of a keypoint reader, for one file format of 2D keypoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions
from vp3d_cli.io.keypoints.source import Source


@dataclass(frozen=True)
class KeypointReader:
    """A keypoint format that can be read.

    Attributes:
        name: name of the format in results.
        title: description on one line, for messages.
        matches: tells whether a file or folder has this format, by its content.
        read: reads the people; raises :class:`vp3d_cli.errors.InputError` where the file is damaged.
    """

    name: str
    title: str
    matches: Callable[[Source], bool]
    read: Callable[[Source, ReaderOptions], Instances]
