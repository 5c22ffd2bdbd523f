"""What a detector is, and how one is found by name.

A detector turns frames into people: a box, keypoints of a named skeleton, and their confidence. Adding one means one
file with a ``load`` function, a :class:`DetectorInfo` in :mod:`vp3d_cli.detect.built_in` and a line in
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
    """Finds people in the frames of one video.

    Attributes:
        name: the name in the registry.
        sha256: of the weights; several files are joined with ``+``; empty where there are none.
        batch_size: how many frames to hand over at once for the best speed.
    """

    name: str
    sha256: str
    batch_size: int

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        """Find everyone in consecutive frames of one video.

        A detector may follow people from one call to the next, but how the video is cut into calls must not
        change the result.

        Args:
            frames: each (H, W, 3) BGR uint8, all of one size.

        Returns:
            One :class:`Keypoints2D` for each frame; empty where nobody is in view.
        """
        ...

    def reset(self, frame: int = 0) -> None:
        """Forget the frames seen so far: another video follows, or another camera shot.

        Args:
            frame: number of the next frame in its video. What a detector does every few frames it does at the same
                ones wherever it starts, so that a video can be done in parts.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """A detector that can tell what it knows of the frames so far, so that another run can go on where it failed.

    One that follows people should; one that looks at each frame on its own need not.
    """

    def memory(self) -> dict[str, Any] | None:
        """All that the next frames depend on, as JSON can hold it; None where it cannot tell."""
        ...

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Know again what :meth:`memory` told, of the same video."""
        ...


@dataclass(frozen=True)
class DetectorInfo:
    """A line of the registry.

    Attributes:
        name: what ``--detector`` takes.
        summary: one line for people who choose.
        licence: of the weights.
        loader: ``"module:function"``, called as ``function(device=..., **options)``, or the function itself.
        extra: what to install where it is missing, as a command; empty where nothing is missing.
        requires: modules that must be importable; ``a|b`` where one of the two is enough.
        options: options that this line presets.
        problem: why it cannot work at all; for entry points that do not load.
        usage: how ``--detector`` takes the options that matter; empty where none does.
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
        """None where the detector can be loaded, else the reason why not and what to install."""
        if self.problem is not None:
            return self.problem
        missing = [modules.partition("|")[0] for modules in self.requires if not _any_installed(modules)]
        if not missing:
            return None
        hint = f"; install it with: {self.extra}" if self.extra else ""
        return f"{', '.join(missing)} is not installed{hint}"

    def require(self) -> None:
        """See whether the detector can be loaded.

        Raises:
            MissingDependencyError: it cannot; says why, and what to install.
        """
        if (reason := self.available()) is not None:
            raise MissingDependencyError(f"detector {self.name}: {reason}")

    def load(self, device: str = "auto", **options: Any) -> Detector:
        """Load the weights and make the detector ready.

        Args:
            device: one of :data:`vp3d_cli.runtime.devices.DEVICES`.
            options: the detector's own; they override the presets of this line. Text is converted to what the
                loader's annotations ask for: ``int``, ``float``, ``bool`` (``true``/``false``), or kept.

        Raises:
            ConfigError: unknown device or option, or a value that is not of its type.
            MissingDependencyError: a package or the device that was asked for is missing.
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
    """Options as the annotations of ``function`` ask for them; only text is converted."""
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
            raise ConfigError(f"{where}: {text!r} is neither true nor false")
        return truths[text.lower()]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                raise ConfigError(f"{where}: {text!r} is no {'whole ' if kind is int else ''}number") from None
    return text


def parse_detector(text: str) -> tuple[str, dict[str, str]]:
    """Name and options out of ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE``.

    A comma belongs to the value before it where no ``KEY=`` follows it, as in ``weights=a,b.pth``.

    Raises:
        ConfigError: there is no option after the colon, or one is given twice.
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
    """All detectors by name: those of vp3d, then those of installed packages.

    A detector of another package that cannot be loaded is listed with the reason in :meth:`DetectorInfo.available`.
    """
    found: dict[str, DetectorInfo] = DETECTORS.loaded()
    for name, why in DETECTORS.problems().items():
        found[name] = DetectorInfo(name, "of another package", "unknown", "", problem=why)
    return {name: found[name] for name in DETECTORS}


def load_detector(name: str = DEFAULT_DETECTOR, device: str = "auto", **options: Any) -> Detector:
    """Load a detector by its name in the registry.

    Args:
        name: a name, or a name with options as :func:`parse_detector` takes it.
        device: one of :data:`vp3d_cli.runtime.devices.DEVICES`.
        options: the detector's own; they override those in ``name``.

    Raises:
        ConfigError: no detector has this name, or the device or an option is unknown.
        MissingDependencyError: what it needs is not installed.
        WeightsError: its weights are missing or broken.
    """
    info, given = find_detector(name)
    return info.load(device, **{**given, **options})


def find_detector(text: str) -> tuple[DetectorInfo, dict[str, str]]:
    """The line of the registry that a name with options belongs to, and these options; loads no network.

    Raises:
        ConfigError: no detector has this name, or the options are none.
    """
    name, given = parse_detector(text)
    info: DetectorInfo = DETECTORS.get(name)
    return info, given
