"""Detector protocol, and loading of detectors by name.

A detector finds the people in frames: a box, the keypoints of a named skeleton, and their confidence. A new detector
needs one file with a ``load`` function, a :class:`DetectorInfo` in :mod:`vp3d_cli.detect.built_in` and a line in
:mod:`vp3d_cli.plugins`; other packages use the entry-point group ``vp3d.detectors``. Importing this module loads no
network library.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints, runtime_checkable

from vp3d_cli.errors import ConfigError, MissingDependencyError
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.runtime.devices import check_device
from vp3d_cli.types import FrameBGR, Keypoints2D

DEFAULT_DETECTOR = "movenet"


class Detector(Protocol):
    """Finds people and their keypoints in the frames of one video.

    Attributes:
        name: name in the registry.
        sha256: hash of the weights; hashes of several files are joined with ``+``; empty without weights.
        batch_size: number of frames per call for the best speed.
    """

    name: str
    sha256: str
    batch_size: int

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find all people in consecutive frames of one video.

        A detector may keep state between calls, but the number of frames per call must not change the result.

        Args:
            frames: each (H, W, 3) BGR uint8, all of one size.

        Returns:
            One :class:`Keypoints2D` per frame; empty where nobody is in view.
        """
        ...

    def reset(self, frame: int = 0) -> None:
        """Clear the state before another video or another camera shot.

        Args:
            frame: index of the next frame in its video. Work that a detector does only every few frames depends on
                this index, so that a video can be processed in parts with the same result.
        """
        ...


@runtime_checkable
class StatefulDetector(Protocol):
    """Detector whose state can be saved, so that an interrupted run can be resumed.

    Detectors that track people should implement it; detectors without state between frames need not.
    """

    def state(self) -> dict[str, Any] | None:
        """State that the next frames depend on, as JSON types; None if it cannot be saved."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state` returned, for the same video."""
        ...


@dataclass(frozen=True)
class DetectorInfo:
    """Entry of a detector in the registry.

    Attributes:
        name: value of ``--detector``.
        summary: one-line description.
        licence: licence of the weights.
        loader: ``"module:function"``, called as ``function(device=..., **options)``, or the function itself.
        extra: command that installs missing packages; empty if there is none.
        requires: modules that must be importable; ``a|b`` where one of the two is enough.
        options: preset options.
        problem: reason why the detector cannot be loaded, for entry points that fail.
        usage: example of ``--detector`` with its main options; empty if there are none.
    """

    name: str
    summary: str
    licence: str
    loader: str | Callable[..., Detector]
    extra: str = ""
    requires: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    usage: str = ""

    def available(self) -> str | None:
        """Reason why the detector cannot be loaded and what to install; None if it can be loaded."""
        if self.problem is not None:
            return self.problem
        missing = [modules.partition("|")[0] for modules in self.requires if not _any_installed(modules)]
        if not missing:
            return None
        hint = f"; install it with: {self.extra}" if self.extra else ""
        return f"{', '.join(missing)} is not installed{hint}"

    def require(self) -> None:
        """Check that the detector can be loaded.

        Raises:
            MissingDependencyError: it cannot be loaded; the message says why and what to install.
        """
        if (reason := self.available()) is not None:
            raise MissingDependencyError(f"detector {self.name}: {reason}")

    def load(self, device: str = "auto", **options: Any) -> Detector:
        """Load the detector with its weights.

        Args:
            device: one of :data:`vp3d_cli.runtime.devices.DEVICES`.
            options: options of the detector; they override the preset ones. Text is converted to the type in the
                loader's annotations: ``int``, ``float``, ``bool`` (``true``/``false``), or stays text.

        Raises:
            ConfigError: unknown device or option, or a value of the wrong type.
            MissingDependencyError: a package or the requested device is missing.
            WeightsError: a weight file is missing or broken.
        """
        check_device(device)
        self.require()
        function = self._function()
        merged = {**self.options, **options}
        known = [p for p in inspect.signature(function).parameters if p != "device"]
        if unknown := sorted(set(merged) - set(known)):
            raise ConfigError(
                f"detector {self.name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
            )
        return function(device=device, **_converted(self.name, function, merged))

    def _function(self) -> Callable[..., Detector]:
        if not isinstance(self.loader, str):
            return self.loader
        module, _, name = self.loader.partition(":")
        function: Callable[..., Detector] = getattr(importlib.import_module(module), name)
        return function


def _any_installed(modules: str) -> bool:
    return any(importlib.util.find_spec(module) is not None for module in modules.split("|"))


def _converted(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert text options to the types in the annotations of ``function``."""
    if not any(isinstance(value, str) for value in options.values()):
        return dict(options)
    hints = get_type_hints(function)
    return {
        key: _from_text(f"detector {name}: option {key}", value, hints.get(key, str))
        if isinstance(value, str)
        else value
        for key, value in options.items()
    }


def _from_text(where: str, text: str, wanted: Any) -> Any:
    kinds = get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)
    truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if bool in kinds:
        if text.lower() not in truths:
            raise ConfigError(f"{where}: invalid value {text!r}; use true or false")
        return truths[text.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise ConfigError(
                    f"{where}: invalid value {text!r}; use a {'whole ' if kind is int else ''}number"
                ) from None
    return text


def parse_detector(text: str) -> tuple[str, dict[str, str]]:
    """Parse ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE`` into name and options.

    A comma that is not followed by ``KEY=`` belongs to the value before it, as in ``weights=a,b.pth``.

    Raises:
        ConfigError: there is no option after the colon, or an option is given twice.
    """
    name, colon, rest = text.partition(":")
    options: dict[str, str] = {}
    key = ""
    for part in rest.split(",") if colon else ():
        before, equals, value = part.partition("=")
        if equals and before.strip().isidentifier():
            key = before.strip()
            if key in options:
                raise ConfigError(f"detector {text!r}: option {key} is given twice")
            options[key] = value
        elif key:
            options[key] += f",{part}"
        else:
            raise ConfigError(f"detector {text!r}: {part!r} is not KEY=VALUE, as in {name}:weights=FILE")
    return name, options


def list_detectors() -> dict[str, DetectorInfo]:
    """List all detectors by name: those of vp3d, then those of installed packages.

    For a detector of another package that cannot be loaded, :meth:`DetectorInfo.available` gives the reason.
    """
    found: dict[str, DetectorInfo] = DETECTORS.loaded()
    for name, why in DETECTORS.problems().items():
        found[name] = DetectorInfo(name, "detector of another package", "unknown", "", problem=why)
    return {name: found[name] for name in DETECTORS}


def load_detector(name: str = DEFAULT_DETECTOR, device: str = "auto", **options: Any) -> Detector:
    """Load a detector by its name in the registry.

    Args:
        name: name, or name with options as in :func:`parse_detector`.
        device: one of :data:`vp3d_cli.runtime.devices.DEVICES`.
        options: options of the detector; they override those in ``name``.

    Raises:
        ConfigError: the name, the device or an option is unknown.
        MissingDependencyError: a required package is not installed.
        WeightsError: the weights are missing or broken.
    """
    info, given = find_detector(name)
    return info.load(device, **{**given, **options})


def find_detector(text: str) -> tuple[DetectorInfo, dict[str, str]]:
    """Find the registry entry for a name with options, and parse the options; loads no network.

    Raises:
        ConfigError: the name is unknown, or the options cannot be parsed.
    """
    name, given = parse_detector(text)
    info: DetectorInfo = DETECTORS.get(name)
    return info, given
