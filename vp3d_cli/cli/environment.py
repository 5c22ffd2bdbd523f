"""``vp3d doctor``: is everything here that vp3d needs, and what could be added?"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from vp3d_cli import __version__
from vp3d_cli.errors import Vp3dError
from vp3d_cli.runtime.processes import usable_cores

Status = Literal["ok", "note", "FAIL"]

# Import name, and the distributions that may provide it.
PACKAGES = (
    ("torch", ("torch",)),
    ("onnxruntime", ("onnxruntime", "onnxruntime-gpu")),
    ("cv2", ("opencv-python", "opencv-python-headless")),
    ("numpy", ("numpy",)),
    ("scipy", ("scipy",)),
    ("safetensors", ("safetensors",)),
    ("matplotlib", ("matplotlib",)),
    ("ffmpeg", ("ffmpeg-python",)),
    ("imageio_ffmpeg", ("imageio-ffmpeg",)),
)


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``note`` for something optional that is missing; ``FAIL`` where vp3d cannot work.
        detail: what was found, or what to do.
    """

    name: str
    status: Status
    detail: str


def examine() -> list[Check]:
    """Look at everything; takes a few seconds, because every weight file is read."""
    checks = [
        Check("vp3d", "ok", __version__),
        Check("python", "ok", f"{platform.python_version()} at {sys.executable}"),
        Check("system", "ok", f"{platform.platform()}, {usable_cores()} CPU cores"),
    ]
    for part in (_packages, _devices, _ffmpeg, _weights, _detectors):
        checks += part()
    return checks


def _packages() -> Iterator[Check]:
    for module, distributions in PACKAGES:
        try:
            import_module(module)
        except ImportError as error:  # also a system library that a package needs
            yield Check(distributions[0], "FAIL", f"{error}; try: pip install {distributions[-1]}")
            continue
        yield Check(*_installed(distributions))


def _installed(distributions: tuple[str, ...]) -> tuple[str, Status, str]:
    for name in distributions:
        try:
            return name, "ok", version(name)
        except PackageNotFoundError:
            continue
    return distributions[0], "ok", "version unknown"


def _devices() -> Iterator[Check]:
    try:
        import onnxruntime
        import torch
    except ImportError:
        return  # already reported
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Check("gpu, lifting", "ok", ", ".join(names))
    else:
        yield Check("gpu, lifting", "note", "torch sees none; the CPU does the work")
    providers = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in providers:
        yield Check("gpu, detection", "ok", "onnxruntime has CUDA")
    else:
        yield Check("gpu, detection", "note", "onnxruntime has no CUDA; with a GPU: pip install onnxruntime-gpu")


def _ffmpeg() -> Iterator[Check]:
    from vp3d_cli.video import find_ffmpeg

    try:
        path = find_ffmpeg()
        done = subprocess.run(
            [path, "-hide_banner", "-version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (Vp3dError, OSError, subprocess.SubprocessError) as error:
        yield Check("ffmpeg", "FAIL", f"{error}; try: pip install imageio-ffmpeg")
        return
    first = done.stdout.splitlines()[0] if done.stdout else "version unknown"
    yield Check("ffmpeg", "ok", f"{first.split(' Copyright')[0]} at {path}")


def _weights() -> Iterator[Check]:
    from vp3d_cli.weights import verify_weights

    try:
        results = verify_weights()
    except Vp3dError as error:
        yield Check("weights", "FAIL", str(error))
        return
    for entry, problem in results:
        if problem is not None:
            yield Check(f"weights {entry.name}", "FAIL", problem)
        elif not entry.present:
            yield Check(f"weights {entry.name}", "note", "not fetched yet; the first use fetches them")
        else:
            yield Check(f"weights {entry.name}", "ok", f"sha256 {entry.sha256[:12]}... verified")


def _detectors() -> Iterator[Check]:
    from vp3d_cli.detect.base import list_detectors

    for info in list_detectors().values():
        problem = info.available()
        yield Check(f"detector {info.name}", "ok" if problem is None else "note", problem or "usable")
