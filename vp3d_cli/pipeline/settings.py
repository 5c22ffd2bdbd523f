"""Inference settings: what a user may choose."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vp3d_cli.camera import DEFAULT_FOV_DEG, Intrinsics
from vp3d_cli.detect.base import DEFAULT_DETECTOR, parse_detector
from vp3d_cli.errors import ConfigError
from vp3d_cli.runtime.devices import check_device
from vp3d_cli.weights import DEFAULT_LIFTER

USUAL_HEIGHT_M = 1.7


class SettingsError(ConfigError):
    """Settings that are out of range or contradict each other.

    The message names the fields of :class:`InferSettings`.
    """

    def __init__(self, message: str) -> None:
        """The message, with the names of fields in angle brackets: ``<height_m> must be ...``."""
        self._message = message
        super().__init__(self.naming(str))

    def naming(self, name: Callable[[str], str]) -> str:
        """Return the message with settings fields renamed by ``name``."""
        return naming(self._message, name)


def naming(text: str, name: Callable[[str], str]) -> str:
    """Rename the ``<fields>`` of the settings in a text by ``name``."""
    return re.sub(r"<(\w+)>", lambda field: name(field[1]), text)


@dataclass(frozen=True)
class InferSettings:
    """Settings of inference.

    Attributes:
        detector, lifter: names in their registries, or the path of a lifter file.
        trajectory: a trajectory model, by name or path, that says where the root is; None fits the lifted pose to its
            keypoints instead.
        keypoints: 2D keypoints of another tool, in place of the detector; with ``layout`` and ``joint_map`` where the
            file does not say what its keypoints are (see :func:`vp3d_cli.io.keypoints.read_keypoints`).
        max_people: keep the main people only; None for all.
        person: one person: their number, or ``largest``, ``central`` or ``longest``.
        roi: left, top, width, height in pixels: only people who are mostly in there.
        keep_partial: also lift people of whom a shoulder and a hip are hardly ever seen, such as heads behind a wall.
        start_s, end_s: part of the video, seconds of its own time.
        intrinsics: fx, fy, cx, cy in pixels; wins over ``fov_deg``.
        fov_deg: field of view along the longer side; None takes 60 degrees.
        detect_every: look for people in every so many frames only; between them their motion is interpolated.
        chunk_minutes: detect a longer video in chunks of so many minutes, at the same time on several cores; None
            detects it in one piece.
        smooth: strength; 0 is off, 1 usual.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``, ``gpu`` or ``npu``.
        tta: test-time augmentation: average what the lifter gives for the motion as it is, mirrored and, if it was
            trained on such, running backwards.
        height_m: body height, which sets the scale: one camera cannot tell size from distance. A number is that of the
            main person; a mapping gives that of people by number. The common floor tells the heights of the others
            relative to it. None takes about 1.7 m for everyone.

    Raises:
        SettingsError: values are out of range, or contradict each other.
        ConfigError: there is no such device.
    """

    detector: str = DEFAULT_DETECTOR
    lifter: str = DEFAULT_LIFTER
    trajectory: str | None = None
    keypoints: str | None = None
    layout: str | None = None
    joint_map: str | None = None
    max_people: int | None = None
    person: str | None = None
    roi: tuple[float, float, float, float] | None = None
    keep_partial: bool = False
    start_s: float = 0.0
    end_s: float | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    fov_deg: float | None = None
    detect_every: int = 1
    chunk_minutes: float | None = None
    smooth: float = 1.0
    device: str = "auto"
    tta: bool = True
    height_m: float | Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        if self.max_people is not None and self.max_people < 1:
            raise SettingsError(f"<max_people> must be at least 1, got {self.max_people}")
        if self.detect_every < 1:
            raise SettingsError(f"<detect_every> must be at least 1, got {self.detect_every}")
        if self.chunk_minutes is not None and not (math.isfinite(self.chunk_minutes) and self.chunk_minutes > 0):
            raise SettingsError(f"<chunk_minutes> must be a positive number of minutes, got {self.chunk_minutes}")
        if not (math.isfinite(self.smooth) and self.smooth >= 0):
            raise SettingsError(f"<smooth> must be 0 or more, got {self.smooth}")
        object.__setattr__(self, "height_m", _checked_heights(self.height_m))
        if self.intrinsics is not None and self.fov_deg is not None:
            raise SettingsError("give <intrinsics> or <fov_deg>, not both")
        if self.keypoints is None and (self.layout is not None or self.joint_map is not None):
            raise SettingsError("<layout> and <joint_map> describe a keypoint file; give one with <keypoints>")
        if self.keypoints is not None and (self.detect_every > 1 or self.chunk_minutes is not None):
            raise SettingsError(
                "<detect_every> and <chunk_minutes> are for a detector; leave them out with <keypoints>"
            )
        check_device(self.device)
        try:
            self.camera((1920, 1080))
        except ConfigError as error:
            raise SettingsError(f"{'<fov_deg>' if self.intrinsics is None else '<intrinsics>'}: {error}") from None

    def camera(self, size_wh: tuple[int, int]) -> Intrinsics:
        """The camera for a video of this size."""
        if self.intrinsics is not None:
            return Intrinsics(*self.intrinsics)
        return Intrinsics.from_fov(DEFAULT_FOV_DEG if self.fov_deg is None else self.fov_deg, size_wh)

    def height_of(self, person: int, main: int | None = None) -> tuple[float, bool]:
        """Return a person's body height in metres, and whether the user gave it.

        ``main`` is the main person's number.
        """
        if isinstance(self.height_m, Mapping):
            return self.height_m.get(person, USUAL_HEIGHT_M), person in self.height_m
        return self.height_m or USUAL_HEIGHT_M, self.height_m is not None and person == main

    def assumptions(self) -> dict[str, Any]:
        """Assumed values that the user did not give; recorded in the result."""
        height = USUAL_HEIGHT_M if self.height_m is None else self.height_m
        assumed: dict[str, Any] = {"height_m": height, "camera": "does not move"}
        if self.intrinsics is None:
            assumed["fov_deg"] = DEFAULT_FOV_DEG if self.fov_deg is None else self.fov_deg
        return assumed


def with_absolute_paths(settings: InferSettings) -> InferSettings:
    """Return the settings with absolute paths, for a process with another working folder.

    Lifters, and the options of a detector, may be names: these are paths where there is such a file.

    Raises:
        ConfigError: the options of the detector are none.
    """

    def whole(name: str) -> str:
        return str(Path(name).absolute()) if Path(name).is_file() else name

    changes: dict[str, Any] = {
        name: whole(value) for name in ("lifter", "trajectory") if (value := getattr(settings, name)) is not None
    }
    for name in ("keypoints", "joint_map"):
        if (path := getattr(settings, name)) is not None:
            changes[name] = path if "://" in path else str(Path(path).absolute())
    detector, options = parse_detector(settings.detector)
    if options:
        changes["detector"] = f"{detector}:{','.join(f'{key}={whole(value)}' for key, value in options.items())}"
    return replace(settings, **changes)


def _checked_heights(height_m: float | Mapping[int, float] | None) -> float | dict[int, float] | None:
    """Body heights with people's numbers as integers, which JSON does not keep.

    Raises:
        SettingsError: a height out of range, or a number of a person that is none.
    """
    if height_m is None or isinstance(height_m, (int, float)):
        values = [] if height_m is None else [height_m]
    else:
        values = list(height_m.values())
        try:
            height_m = {int(person): float(metres) for person, metres in height_m.items()}
        except (TypeError, ValueError):
            raise SettingsError(f"<height_m> must map numbers of people to metres, got {height_m}") from None
    for metres in values:
        if not 0.3 <= metres <= 3.0:
            raise SettingsError(f"<height_m> must be between 0.3 and 3 metres, got {metres}")
    return height_m
