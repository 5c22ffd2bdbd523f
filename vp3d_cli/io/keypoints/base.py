"""What a keypoint reader is: one file format of 2D keypoints that other tools write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vp3d_cli.io.keypoints.instances import Instances, ReaderOptions
from vp3d_cli.io.keypoints.source import Source


@dataclass(frozen=True)
class KeypointReader:
    """A format of 2D keypoints that can be read.

    Attributes:
        name: what results state.
        title: one line for people.
        matches: whether a file or folder is of this format, by its content.
        read: its people; raises :class:`vp3d_cli.errors.InputError` where the file is damaged.
    """

    name: str
    title: str
    matches: Callable[[Source], bool]
    read: Callable[[Source, ReaderOptions], Instances]
