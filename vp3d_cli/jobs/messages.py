"""What goes between the batch and its workers: lines of JSON, orders one way and reports the other.

Orders: :class:`Order`. Reports: ``ready`` (models are loaded: ``identity``, ``gpus``), ``progress`` (``stage``,
``done``, ``total``), ``made`` (a result is whole where it is staged: ``kind`` and facts), ``planned`` and ``part`` (a
share of a video is done, see :mod:`vp3d_cli.jobs.shares`), ``finished``, ``failed`` (:class:`Failure`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vp3d_cli.pipeline.settings import InferSettings

PLAN, PART, JOIN = "plan", "part", "join"  # shares of a video; see :mod:`vp3d_cli.jobs.shares`


@dataclass(frozen=True)
class Setup:
    """What a worker is told once.

    Attributes:
        settings: of all videos.
        format: of the 2D keypoints to write; empty where poses are made.
        command: what the user typed, for the provenance of results.
        threads: of each library.
        parent: number of the process that started it.
        processor: ``module:function`` that does the work; see :class:`vp3d_cli.jobs.work.Processor`.
    """

    settings: InferSettings
    format: str
    command: str
    threads: int
    parent: int
    processor: str

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setup:
        """What :meth:`to_json` gave."""
        stored: dict[str, Any] = json.loads(text)
        # JSON has no tuples.
        settings: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in stored.pop("settings").items()
        }
        return cls(settings=InferSettings(**settings), **stored)


@dataclass(frozen=True)
class Order:
    """One video to do.

    Attributes:
        video: file or folder, or a URL.
        keypoints: 2D keypoints that belong to it, or None.
        needed: kinds of result to make.
        targets: kind of result to its file, also of those that are there already.
        staged: kind of result to where it is written until it is whole.
        scratch: a folder of the worker's machine, for copies of what is elsewhere.
        copies: such copies that are here already, and what they are copies of.
        keep: file, or a URL, for what was found, should the detector fail, for the next attempt; None to keep nothing.
        share: what of it is to be done, if several machines do it together; see :mod:`vp3d_cli.jobs.shares`.
    """

    video: str
    keypoints: str | None
    needed: tuple[str, ...]
    targets: Mapping[str, str]
    staged: Mapping[str, str]
    scratch: str
    copies: Mapping[str, str] = field(default_factory=dict)
    keep: str | None = None
    share: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Order:
        """What :meth:`to_json` gave."""
        stored = json.loads(text)
        return cls(**{**stored, "needed": tuple(stored["needed"])})


@dataclass(frozen=True)
class Failure:
    """Why a video could not be done.

    Attributes:
        error: name of the class of the exception.
        message: one line.
        exit_code: of a command that ends with this error.
        expected: an error that vp3d raises on purpose: trying again changes nothing.
    """

    error: str
    message: str
    exit_code: int = 1
    expected: bool = True
