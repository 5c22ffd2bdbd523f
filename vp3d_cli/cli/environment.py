"""``vp3d doctor``: check that everything vp3d needs is installed, and say what could be added."""

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
from vp3d_cli.runtime import openvino_model
from vp3d_cli.runtime.base import Target, one_line
from vp3d_cli.runtime.devices import INSTALL_TORCH, count_nvidia_gpus
from vp3d_cli.runtime.load import find_target, install_hint, is_present, resolve_precision, runtime_problem
from vp3d_cli.runtime.processes import usable_cores

Status = Literal["ok", "note", "FAIL"]

# Import name, and the distributions that may provide it.
PACKAGES = (
    ("cv2", ("opencv-python", "opencv-python-headless")),
    ("numpy", ("numpy",)),
    ("scipy", ("scipy",)),
    ("safetensors", ("safetensors",)),
    ("matplotlib", ("matplotlib",)),
    ("ffmpeg", ("ffmpeg-python",)),
    ("imageio_ffmpeg", ("imageio-ffmpeg",)),
)
# Distributions of onnxruntime: all have the same files, so only one may be installed.
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        status: ``ok``; ``note`` for something optional that is missing; ``FAIL`` where vp3d cannot work.
        detail: what was found, or what to do.
    """

    name: str
    status: Status
    detail: str


def examine() -> list[Check]:
    """Check everything; takes a few seconds, because every weight file is read."""
    checks = [
        Check("vp3d", "ok", __version__),
        Check("python", "ok", f"{platform.python_version()} at {sys.executable}"),
        Check("system", "ok", f"{platform.platform()}, {usable_cores()} CPU cores"),
    ]
    for part in (_packages, _runtimes, _targets, _gpus, _torch, _ffmpeg, _weights, _detectors):
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


def _runtimes() -> Iterator[Check]:
    """The runtimes of networks: one is enough, and only one distribution of onnxruntime may be there."""
    if (problem := runtime_problem("openvino")) is None:
        yield Check(*_installed(("openvino",)))
    else:
        yield Check("openvino", "note", f"{problem}; faster on CPUs: pip install openvino")
    found = [name for name in ONNXRUNTIMES if _is_installed(name)]
    if len(found) > 1:
        both = " ".join(found)
        advice = f"pip uninstall --yes {both}, then pip install the one you want (onnxruntime, or vp3d[cuda])"
        yield Check("onnxruntime", "FAIL", f"{' and '.join(found)} are installed over each other; try: {advice}")
    elif (problem := runtime_problem("onnxruntime")) is None:
        yield Check(*_installed(ONNXRUNTIMES))
    elif found:
        yield Check(found[0], "note", problem)


def _targets() -> Iterator[Check]:
    """What runs detection and lifting with ``--device auto``."""
    for stage, precision in (("detection", "auto"), ("lifting", "f32")):
        try:
            target = find_target("auto")
            detail = f"{target}, {resolve_precision(target, precision)}"
        except Vp3dError as error:
            yield Check(stage, "FAIL", str(error))
            continue
        if target.runtime == openvino_model.NAME:
            detail += f" ({openvino_model.device_name(target.device)})"
        yield Check(stage, "ok", detail)


def _gpus() -> Iterator[Check]:
    """GPUs and NPUs that are there, and what to install to use them."""
    count = count_nvidia_gpus()
    if count and is_present(Target("onnxruntime", "CUDA")):
        yield Check("gpu", "ok", f"{count} from NVIDIA, used by onnxruntime")
    elif count:
        yield Check("gpu", "note", f"{count} from NVIDIA, not used; try: {install_hint('cuda')}")
    if runtime_problem("openvino") is None:
        for device in openvino_model.devices():
            if device != "CPU":
                name = openvino_model.device_name(device)
                yield Check(device.lower(), "note", f"{name}; to use it: --device {device.lower()}")
    if sys.platform == "darwin" and platform.machine() == "arm64":
        advice = "--device mps" if is_present(Target("onnxruntime", "CoreML")) else install_hint("mps")
        yield Check("gpu", "note", f"Apple's; to use it: {advice}")


def _torch() -> Iterator[Check]:
    """torch, which only training and a few models need."""
    try:
        import torch
    except ImportError as error:
        reason = "not installed" if isinstance(error, ModuleNotFoundError) else one_line(error)
        what = "training, official checkpoints, Mask R-CNN and CPN"
        yield Check("torch", "note", f"{reason}; needed for {what}: {INSTALL_TORCH}")
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    yield Check("torch", "ok", f"{version('torch')} on {device}")


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


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
            how = "see weights/README.md in the source code" if entry.separate else "the first use fetches them"
            yield Check(f"weights {entry.name}", "note", f"{entry.state}; {how}")
        else:
            yield Check(f"weights {entry.name}", "ok", f"sha256 {entry.sha256[:12]}... verified")


def _detectors() -> Iterator[Check]:
    from vp3d_cli.detect.base import list_detectors

    for info in list_detectors().values():
        problem = info.available()
        yield Check(f"detector {info.name}", "ok" if problem is None else "note", problem or "usable")
