"""Parts of other packages: found through entry points, checked by the contract tests, named when they are broken."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from conftest import DEMO, RunCli

from vp3d_cli.errors import ConfigError, PluginError
from vp3d_cli.plugins import ARCHITECTURES, DETECTORS, EXPORTERS, KEYPOINT_READERS, LIFTERS, TRAINING_DATA, Registry

PACKAGE = '''
"""A detector, a lifter, an exporter and a keypoint reader, as another package brings them."""
import numpy as np
from vp3d_cli.detect.base import DetectorInfo
from vp3d_cli.io.atomic import replacing
from vp3d_cli.io.keypoints.base import KeypointReader
from vp3d_cli.io.keypoints.instances import instances_from_tracks
from vp3d_cli.io.keypoints.layouts import LAYOUTS
from vp3d_cli.io.poses.base import Exporter
from vp3d_cli.lift.base import LifterPlugin
from vp3d_cli.testing import example_pose
from vp3d_cli.types import Keypoints2D

WALKER = example_pose(1000)

class ToyDetector:
    name, sha256, batch_size = "toy", "", 2
    def reset(self, frame=0): self.frame = frame
    def detect(self, frames):
        first, self.frame = self.frame, self.frame + len(frames)
        return [self.people(i) for i in range(first, self.frame)]
    def people(self, i):
        track = WALKER[0].track
        return Keypoints2D(track.boxes_xyxy[[i]], track.keypoints[[i]], track.scores[[i]], np.ones(1, np.float32))

class ToyLifter:
    name, sha256, licence, rate_hz = "toy", "", "MIT", 30.0
    def lift(self, keypoints, scores, intrinsics, size_wh, *, flip_test=True):
        return WALKER[0].joints[np.arange(len(keypoints)) % 1000]

def write(pose, path, overwrite, options=None):
    with replacing(path, overwrite) as file:
        file.write(repr(pose).encode())

def matches(source): return source.path.suffix == ".toy"
def read(source, options):
    points = np.loadtxt(source.path, ndmin=2).reshape(1, -1, 17, 2)
    return instances_from_tracks(points, None, LAYOUTS["coco17"], [1])

DETECTOR = DetectorInfo("toy", "sees one walker", "MIT", lambda device: ToyDetector())
LIFTER = LifterPlugin("toy", "knows one walk", "MIT", lambda device: ToyLifter())
EXPORTER = Exporter("toy", ".toy", "the repr of a pose", write)
READER = KeypointReader("toy", "toy keypoints (.toy)", matches, read)
'''
ENTRY_POINTS = """
[vp3d.detectors]
toy = toy_vp3d:DETECTOR
[vp3d.lifters]
toy = toy_vp3d:LIFTER
[vp3d.exporters]
toy = toy_vp3d:EXPORTER
[vp3d.keypoint_readers]
toy = toy_vp3d:READER
broken = toy_vp3d_broken:READER
"""
CHECKS = """
import sys
from pathlib import Path
import numpy as np
from vp3d_cli.plugins import DETECTORS, EXPORTERS, KEYPOINT_READERS, LIFTERS
from vp3d_cli.testing import check_detector, check_detector_info, check_exporter, check_keypoint_reader, check_lifter
folder = Path(sys.argv[1])
check_detector(check_detector_info(DETECTORS.get("toy")))
check_lifter(LIFTERS.get("toy"))
(folder / "out").mkdir()
check_exporter(EXPORTERS.get("toy"), folder / "out")
np.savetxt(folder / "good.toy", np.ones((3, 34)))
(folder / "bad.txt").write_text("x")
check_keypoint_reader(KEYPOINT_READERS.get("toy"), folder / "good.toy", folder / "bad.txt")
assert "broken" in KEYPOINT_READERS.problems(), KEYPOINT_READERS.problems()
assert "toy_vp3d_broken" in KEYPOINT_READERS.problems()["broken"]
print("all kept")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that sees this one's packages, with the toy package installed by pip."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_vp3d.py").write_text(PACKAGE)
    (folder / "toy_vp3d_broken.py").write_text("raise RuntimeError('made for another version')\n")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "toy-vp3d"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    (folder / "entry_points.txt").write_text(ENTRY_POINTS)
    environment = folder / "env"
    venv.create(environment, with_pip=False)
    ours = Path(np.__file__).parents[1]
    site = next((environment / "lib").glob("python*/site-packages"))
    (site / "ours.pth").write_text(f"{ours}\n{Path(__file__).parents[1]}\n")
    own = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(own), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, "--no-build-isolation", str(folder)], check=True, capture_output=True, text=True)
    return own


# The smallest build backend (PEP 517): a wheel is a zip file with a METADATA, a WHEEL and a RECORD.
BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "toy_vp3d-1.0-py3-none-any.whl"
    info = "toy_vp3d-1.0.dist-info/"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        for module in ("toy_vp3d.py", "toy_vp3d_broken.py"):
            wheel.write(module)
        wheel.write("entry_points.txt", info + "entry_points.txt")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: toy-vp3d\\nVersion: 1.0\\n")
        facts = "Wheel-Version: 1.0\\nGenerator: toy\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "WHEEL", facts)
        wheel.writestr(info + "RECORD", "")
    return name
"""


def run(python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_a_package_that_pip_installed_keeps_the_contracts(python: Path, tmp_path: Path) -> None:
    done = run(python, "-c", CHECKS, tmp_path)
    assert (done.returncode, done.stdout) == (0, "all kept\n"), done.stderr


def test_its_parts_work_from_the_command_line(python: Path, tmp_path: Path) -> None:
    out = tmp_path / "walk.toy"
    command = ("-m", "vp3d_cli", "infer", DEMO, "--detector", "toy", "--lifter", "toy", "--end", "0.5", "--out", out)
    done = run(python, *command)
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("Pose3D(")
    listed = run(python, "-m", "vp3d_cli", "detectors")
    assert "sees one walker" in listed.stdout


class Anything:
    """What a registry may hold."""


THING = Anything()


def test_a_registry_names_what_it_knows() -> None:
    things: Registry[Anything] = Registry("thing", {"ours": f"{__name__}:THING"})
    assert list(things) == ["ours"]
    assert "theirs" not in things
    with pytest.raises(ConfigError, match="unknown thing 'theirs'; known: ours"):
        things.get("theirs")
    mine = Anything()
    things.register("mine", mine)
    assert things.get("mine") is mine
    assert list(things) == ["ours", "mine"]


@pytest.mark.parametrize("registry", [DETECTORS, EXPORTERS, KEYPOINT_READERS, ARCHITECTURES, TRAINING_DATA, LIFTERS])
def test_every_built_in_part_is_there(registry: Registry[object]) -> None:
    assert registry.problems() == {}
    assert list(registry.loaded()) == list(registry)


def test_a_broken_plugin_is_an_error_only_for_those_who_ask_for_it(run_cli: RunCli) -> None:
    def broken() -> object:
        raise RuntimeError("made for another version")

    class Point:
        name, value, dist = "broken", "their_package:READER", None
        load = staticmethod(broken)

    things: Registry[object] = Registry("thing", {})
    things.__dict__["_from_packages"] = {"broken": Point}
    with pytest.raises(PluginError, match=r"thing 'broken' of the package \? .*RuntimeError: made for another version"):
        things.get("broken")
    assert things.loaded() == {}
    assert "update or remove that package" in things.problems()["broken"]
