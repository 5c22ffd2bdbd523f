"""Registry of detectors, and the contract of the included ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vp3d_cli import plugins as plugins_module
from vp3d_cli.detect import base
from vp3d_cli.detect.base import Detector, DetectorInfo, list_detectors, load_detector
from vp3d_cli.errors import ConfigError, MissingDependencyError, PluginError
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR, Keypoints2D

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.mp4"
BUILT_IN = list(DETECTORS)
# Those that need no download; the tests of the others make weights of their own.
EMBEDDED = [name for name in ("movenet", "movenet-fast") if DETECTORS.get(name).available() is None]


def read_frames(start: int, count: int) -> list[FrameBGR]:
    """Frames of the example clip."""
    capture = cv2.VideoCapture(str(DEMO))
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = [capture.read()[1] for _ in range(count)]
    capture.release()
    return frames


@pytest.fixture(scope="module")
def frames() -> list[FrameBGR]:
    """Frames of a man on a wall and a walking woman."""
    return read_frames(84, 3)


@pytest.fixture(scope="module", params=EMBEDDED)
def detector(request: pytest.FixtureRequest) -> Detector:
    """Each included detector."""
    return load_detector(request.param, "cpu", threads=1)


@pytest.fixture(scope="module")
def seen(detector: Detector, frames: list[FrameBGR]) -> list[Keypoints2D]:
    """Detections of the frames."""
    detector.reset()
    return detector.detect(frames)


def test_contract_shapes_and_ranges(detector: Detector, seen: list[Keypoints2D], frames: list[FrameBGR]) -> None:
    assert detector.name in EMBEDDED
    assert all(len(part) == 64 for part in detector.sha256.split("+"))
    assert detector.batch_size >= 1
    assert len(seen) == len(frames)
    height, width = frames[0].shape[:2]
    for people in seen:
        assert len(people) == 2
        for array in (people.boxes_xyxy, people.keypoints, people.scores, people.person_scores):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        for scores in (people.scores, people.person_scores):
            assert scores.min() >= 0
            assert scores.max() <= 1
        x0, y0, x1, y1 = people.boxes_xyxy.T
        assert (x0 < x1).all()
        assert (y0 < y1).all()
        assert (x0 > -0.1 * width).all()
        assert (y1 < 1.1 * height).all()


def test_contract_boxes_are_at_the_people(seen: list[Keypoints2D]) -> None:
    """Hand-placed boxes of the two people in frame 84 of the example."""
    truth = np.array([[600, 98, 716, 445], [1110, 560, 1246, 930]])
    people = seen[0]
    order = np.argsort(people.boxes_xyxy[:, 0])
    assert np.abs(people.boxes_xyxy[order] - truth).max() < 60
    assert people.scores.mean() > 0.5
    nose, left_ankle = COCO17.index("nose"), COCO17.index("left_ankle")
    assert (people.keypoints[:, nose, 1] + 200 < people.keypoints[:, left_ankle, 1]).all()


def test_contract_mirrored_frame_gives_mirrored_keypoints(
    detector: Detector, seen: list[Keypoints2D], frames: list[FrameBGR]
) -> None:
    width = frames[0].shape[1]
    detector.reset()
    [people] = detector.detect([np.ascontiguousarray(frames[0][:, ::-1])])
    assert len(people) == 2
    order, mirrored = np.argsort(seen[0].boxes_xyxy[:, 0]), np.argsort(-people.boxes_xyxy[:, 2])
    swap = list(COCO17.flip_order)
    keypoints = people.keypoints[mirrored][:, swap]
    keypoints[..., 0] = width - keypoints[..., 0]
    confident = np.minimum(seen[0].scores[order], people.scores[mirrored][:, swap]) > 0.5
    off = (keypoints - seen[0].keypoints[order])[confident]
    size = (seen[0].boxes_xyxy[:, 3] - seen[0].boxes_xyxy[:, 1]).min()
    assert confident.sum() >= 17
    assert np.median(np.abs(off)) < 0.02 * size
    assert abs(np.median(off[:, 0])) < 0.01 * size  # no systematic offset: half of it would be left of true


def test_contract_nobody_in_an_empty_frame(detector: Detector, frames: list[FrameBGR]) -> None:
    detector.reset()
    for people in detector.detect([np.zeros_like(frames[0])] * 2):
        assert len(people) == 0


def test_contract_batches_do_not_matter(detector: Detector, seen: list[Keypoints2D], frames: list[FrameBGR]) -> None:
    detector.reset()
    pieces = [*detector.detect(frames[:1]), *detector.detect(frames[1:1]), *detector.detect(frames[1:])]
    for whole, piece in zip(seen, pieces, strict=True):
        np.testing.assert_array_equal(whole.keypoints, piece.keypoints)
        np.testing.assert_array_equal(whole.scores, piece.scores)
        np.testing.assert_array_equal(whole.boxes_xyxy, piece.boxes_xyxy)
        np.testing.assert_array_equal(whole.person_scores, piece.person_scores)


class _Nobody:
    """A detector of another package, without weights."""

    name, sha256, batch_size = "nobody", "", 4

    def __init__(self, device: str, strictness: float) -> None:
        self.device, self.strictness = device, strictness

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        return [Keypoints2D.empty() for _ in frames]

    def reset(self, frame: int = 0) -> None:
        pass


def load_nobody(device: str, *, strictness: float = 0.5) -> Detector:
    """Loader of an entry point's DetectorInfo."""
    return _Nobody(device, strictness)


NOBODY = DetectorInfo("nobody", "sees nobody", "MIT", f"{__name__}:load_nobody", options={"strictness": 0.7})
NOT_A_DETECTOR = 17


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three packages that register detectors, two of them badly."""
    points = [
        EntryPoint("nobody", f"{__name__}:NOBODY", DETECTORS.group),
        EntryPoint("number", f"{__name__}:NOT_A_DETECTOR", DETECTORS.group),
        EntryPoint("gone", "no_such_package.detector:INFO", DETECTORS.group),
        EntryPoint("movenet", f"{__name__}:NOBODY", DETECTORS.group),
    ]

    def entry_points(group: str) -> list[EntryPoint]:
        assert group == "vp3d.detectors"
        return points

    monkeypatch.setattr(plugins_module, "entry_points", entry_points)
    DETECTORS.__dict__.pop("_from_packages", None)  # what was found before
    yield
    DETECTORS.__dict__.pop("_from_packages", None)


def test_registry_lines_are_complete() -> None:
    assert next(iter(DETECTORS)) == base.DEFAULT_DETECTOR == "movenet"
    for name, info in DETECTORS.loaded().items():
        assert info.name == name
        assert info.summary
        assert info.licence
        assert "\n" not in info.summary
        assert info.extra or info.available() is None


@pytest.mark.usefixtures("plugins")
def test_entry_points_are_listed_after_included_detectors() -> None:
    found = list_detectors()
    assert list(found) == [*BUILT_IN, "nobody", "number", "gone"]
    assert found["movenet"] is DETECTORS.get("movenet")
    assert found["nobody"].available() is None
    assert "is not a vp3d_cli.detect.base.DetectorInfo" in str(found["number"].available())
    assert "ModuleNotFoundError: No module named 'no_such_package'" in str(found["gone"].available())
    with pytest.raises(PluginError, match="detector 'gone' of the package"):
        load_detector("gone")


@pytest.mark.usefixtures("plugins")
def test_options_reach_the_loader() -> None:
    def loaded(**options: Any) -> tuple[str, float]:
        detector = load_detector("nobody", **options)
        assert isinstance(detector, _Nobody)
        return detector.device, detector.strictness

    assert loaded() == ("auto", 0.7)
    assert loaded(device="cpu", strictness=0.1) == ("cpu", 0.1)
    with pytest.raises(ConfigError, match="detector nobody has no option speed; it has strictness"):
        load_detector("nobody", speed=3)


def test_loader_may_be_a_function() -> None:
    info = DetectorInfo("x", "x", "MIT", load_nobody)
    assert len(info.load("cpu").detect([np.zeros((8, 8, 3), np.uint8)])[0]) == 0


def test_unknown_names_and_devices_raise() -> None:
    with pytest.raises(ConfigError, match="unknown detector 'yolo'; known: movenet, movenet-fast"):
        load_detector("yolo")
    with pytest.raises(ConfigError, match="unknown device 'tpu'; choose one of auto, cpu, cuda"):
        load_detector("movenet", "tpu")


def test_a_missing_package_names_the_install_command() -> None:
    info = DetectorInfo("x", "x", "MIT", "none:none", extra="pip install none", requires=("no_such_module_at_all",))
    assert info.available() == "no_such_module_at_all is not installed; install it with: pip install none"
    with pytest.raises(MissingDependencyError, match="detector x: no_such_module_at_all is not installed"):
        info.load()
