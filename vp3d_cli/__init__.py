"""vp3d: turns a video of people into 3D motion.

    from vp3d_cli import infer
    pose = infer("video.mp4", "pose.npz")

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vp3d_cli.errors import Vp3dError as Vp3dError
    from vp3d_cli.io.poses.npz import read_npz as read_npz
    from vp3d_cli.io.poses.npz import write_npz as write_npz
    from vp3d_cli.pipeline.infer import InferSettings as InferSettings
    from vp3d_cli.pipeline.infer import infer as infer
    from vp3d_cli.types import Pose3D as Pose3D

__version__ = "0.1.0"

_HOMES = {
    "InferSettings": "vp3d_cli.pipeline.infer",
    "Pose3D": "vp3d_cli.types",
    "Vp3dError": "vp3d_cli.errors",
    "infer": "vp3d_cli.pipeline.infer",
    "read_npz": "vp3d_cli.io.poses.npz",
    "write_npz": "vp3d_cli.io.poses.npz",
}

__all__ = ["InferSettings", "Pose3D", "Vp3dError", "__version__", "infer", "read_npz", "write_npz"]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
