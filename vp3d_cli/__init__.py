"""vp3d: turns a video of people into 3D motion.

    import vp3d_cli as vp3d
    pose = vp3d.infer("walk.mp4", max_people=1)
    pose.save("walk.npz")

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vp3d_cli import errors as errors
    from vp3d_cli.errors import Vp3dError as Vp3dError
    from vp3d_cli.io.detections import Detections as Detections
    from vp3d_cli.pipeline.api import Pipeline as Pipeline
    from vp3d_cli.pipeline.api import detect as detect
    from vp3d_cli.pipeline.api import infer as infer
    from vp3d_cli.pipeline.api import lift as lift
    from vp3d_cli.pipeline.api import read as read
    from vp3d_cli.pipeline.drawing import render as render
    from vp3d_cli.pipeline.settings import InferSettings as InferSettings
    from vp3d_cli.pose import Person3D as Person3D
    from vp3d_cli.pose import Pose3D as Pose3D
    from vp3d_cli.skeletons import Skeleton as Skeleton
    from vp3d_cli.types import Keypoints2D as Keypoints2D

__version__ = "0.1.0"

# Where each public name is defined. ``errors`` is the module of all errors that vp3d raises on purpose.
_HOMES = {
    "Detections": "vp3d_cli.io.detections",
    "InferSettings": "vp3d_cli.pipeline.settings",
    "Keypoints2D": "vp3d_cli.types",
    "Person3D": "vp3d_cli.pose",
    "Pipeline": "vp3d_cli.pipeline.api",
    "Pose3D": "vp3d_cli.pose",
    "Skeleton": "vp3d_cli.skeletons",
    "Vp3dError": "vp3d_cli.errors",
    "detect": "vp3d_cli.pipeline.api",
    "infer": "vp3d_cli.pipeline.api",
    "lift": "vp3d_cli.pipeline.api",
    "read": "vp3d_cli.pipeline.api",
    "render": "vp3d_cli.pipeline.drawing",
}

__all__ = [
    "Detections",
    "InferSettings",
    "Keypoints2D",
    "Person3D",
    "Pipeline",
    "Pose3D",
    "Skeleton",
    "Vp3dError",
    "__version__",
    "detect",
    "errors",
    "infer",
    "lift",
    "read",
    "render",
]


class _Package(ModuleType):
    """Module type of this package: makes ``vp3d_cli.lift`` the function, not the package.

    The import system makes every package that it loads an attribute of its parent; here the public name wins. Import
    from the packages by their full names, as in ``from vp3d_cli.lift.lifter import Lifter``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name == "errors":
        return import_module("vp3d_cli.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
