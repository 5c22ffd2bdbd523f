"""Make .venv for vp3d; run by `make`, needs nothing but Python 3.10 or newer.

    python3 tools/bootstrap.py light                 what `vp3d infer` needs: no torch
    python3 tools/bootstrap.py all [REQUIREMENT ...] what the tests need as well

Requirements given as arguments, such as `torch==2.14.1`, are installed as well, whatever constraints.txt says of them.
Where there is no NVIDIA GPU, torch's build for the CPU is taken if its package index can be reached (0.2 GB, not 3).

A bare Debian or Ubuntu lacks what an installation usually takes for granted: pip, ensurepip, the certificates that
pip checks downloads with, and the system libraries (libGL, X11) of OpenCV's ordinary build. Each is worked around
here without touching the system or asking for root: pip comes out of Debian's own package of it, and OpenCV is
exchanged for its build without windows.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("VENV", ".venv"))
PYTHON = str(VENV / "bin" / "python")
OLDEST_PYTHON = (3, 10)
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def say(message: str) -> None:
    """Print one line at once: the next command prints, too."""
    print(f"setup: {message}", flush=True)


def run(*command: str, **options: object) -> None:
    """Run a command; end with its exit status where it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"setup: failed: {' '.join(command)}")


def works(*command: str) -> bool:
    """Whether a command is there and ends with status 0; what it prints is dropped."""
    try:
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def debian_files(package: str, folder: Path) -> bool:
    """Unpack a Debian package into ``folder`` without installing it; needs no root.

    apt keeps its lists of packages only where `apt-get update` was run: where the package is not in them, lists of
    our own are fetched into ``folder``.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    for needed in ("state/lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    own_lists = ["-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache"]
    for number, options in enumerate(([], own_lists)):
        if options and not works("apt-get", "-q", *options, "update"):
            continue
        target = folder / f"{package}-{number}"
        target.mkdir()
        download = ["apt-get", "-q", *options, "download", package]
        subprocess.run(download, cwd=target, check=False, capture_output=True)
        for archive in target.glob("*.deb"):
            return works("dpkg-deb", "-x", str(archive), str(folder / package))
    return False


def pip_from_debian(folder: Path) -> "tuple[str, dict[str, str]] | None":
    """pip's wheel out of Debian's package of it, and the environment in which it finds certificates."""
    if not debian_files("python3-pip-whl", folder):
        return None
    environment = dict(os.environ)
    if "PIP_CERT" not in environment and not SYSTEM_CERTIFICATES.exists():
        if not debian_files("ca-certificates", folder):
            return None
        certificates = sorted((folder / "ca-certificates").glob("usr/share/ca-certificates/**/*.crt"))
        bundle = folder / "certificates.crt"
        bundle.write_text("".join(path.read_text() for path in certificates))
        environment["PIP_CERT"] = str(bundle)
    wheels = sorted((folder / "python3-pip-whl").glob("usr/share/python-wheels/pip-*.whl"))
    return (str(wheels[-1]), environment) if wheels else None


def pip_requirement() -> str:
    """The pip that constraints.txt names."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next((line for line in lines if line.startswith("pip==")), "pip")


def make_venv() -> None:
    """Make .venv, with a pip in it, by the first way that this machine offers."""
    if works(PYTHON, "-m", "pip", "--version"):
        return
    if importlib.util.find_spec("ensurepip"):
        run(sys.executable, "-m", "venv", "--clear", str(VENV))
        return
    if not importlib.util.find_spec("venv"):
        sys.exit("setup: this Python has no venv module; try: apt-get install python3-venv, then make again")
    run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV))
    if works(sys.executable, "-m", "pip", "--python", PYTHON, "install", pip_requirement()):
        return
    say("this Python has no pip; taking it out of Debian's package python3-pip-whl")
    with tempfile.TemporaryDirectory() as name:
        found = pip_from_debian(Path(name))
        if found is None:
            sys.exit("setup: no pip on this machine; try: apt-get install python3-venv, then make again")
        wheel, environment = found
        # A newer pip from the package index brings its own certificates, so this environment is needed only once.
        run(PYTHON, f"{wheel}/pip", "install", "--quiet", pip_requirement(), env=environment)


def pip_install(*arguments: str) -> None:
    """Install into .venv the versions that constraints.txt names."""
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def constraints(requirements: "list[str]") -> str:
    """constraints.txt, or a copy of it without what `requirements` pin themselves."""
    if not requirements:
        return "constraints.txt"
    names = tuple(requirement.partition("==")[0] + "==" for requirement in requirements)
    lines = (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
    copy = VENV / "constraints.txt"
    copy.write_text("".join(line for line in lines if not line.startswith(names)))
    return str(copy)


def torch_options() -> "list[str]":
    """Options of pip with which it finds torch's build for the CPU; none where there is a GPU."""
    if Path("/proc/driver/nvidia/gpus").is_dir() or works("nvidia-smi", "-L"):
        say("an NVIDIA GPU is here: torch comes with CUDA")
        return []
    try:
        with urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=5):
            pass
    except OSError:
        say(f"{TORCH_CPU_INDEX} cannot be reached: torch comes from the usual package index, perhaps with CUDA")
        return []
    say("no NVIDIA GPU is here: torch's build for the CPU is taken")
    return ["--extra-index-url", TORCH_CPU_INDEX]


def use_headless_opencv() -> None:
    """Exchange opencv-python for opencv-python-headless where the system libraries of its windows are missing."""
    if works(PYTHON, "-c", "import cv2"):
        return
    ask = "from importlib.metadata import version; print(version('opencv-python'))"
    version = subprocess.run([PYTHON, "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    say(f"opencv-python lacks a system library here; using opencv-python-headless {version} in its place")
    run(PYTHON, "-m", "pip", "uninstall", "--quiet", "--yes", "opencv-python")
    pip_install("--force-reinstall", "--no-deps", f"opencv-python-headless=={version}")
    run(PYTHON, "-c", "import cv2")


def main() -> None:
    """Set up an environment; quick where most of it is there."""
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        sys.exit(
            f"setup: vp3d needs Python {wanted} or newer, this is {sys.version.split()[0]}; try: make PYTHON=python3.12"
        )
    kind, *requirements = sys.argv[1:] or ["all"]
    if kind not in ("light", "all"):
        sys.exit(f"setup: unknown kind of environment {kind!r}; choose light or all")
    os.chdir(ROOT)
    say(f"installing into {VENV} (the first time takes some minutes)")
    make_venv()
    if kind == "light":
        # Python compiles what it uses on first use; all of it would be 90 MB and a part of the time.
        pip_install("--no-compile", "-c", "constraints.txt", "-e", ".")
    else:
        pip_install("-c", constraints(requirements), *torch_options(), *requirements, "-e", ".[dev]")
        (VENV / ".ready").touch()
    use_headless_opencv()
    (VENV / ".light").touch()


if __name__ == "__main__":
    main()
