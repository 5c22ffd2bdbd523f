"""Contract test of every detector in the registry.

Detectors whose weights cannot ship run with weights made here. That a mirrored frame gives mirrored keypoints is
tested where it can hold: tests/detect/test_registry.py (trained weights) and
tests/paper/test_cpn_detector.py (any weights, by the flip test).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import fake_detectron2
import numpy as np
import pytest
from coloured_people import draw, place, save_finder, save_pose
from random_weights import save_keypoint_rcnn, save_small_cpn

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.video import VideoReader

Load = Callable[[Path, pytest.MonkeyPatch], Detector]


def load_cpn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    path = save_small_cpn(folder / "cpn.safetensors")
    return load_detector(f"cpn:weights={path},boxes=movenet-fast", "cpu")


def load_mask_rcnn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    (folder / "zoo.pkl").write_bytes(pickle.dumps(fake_detectron2.weights()))
    fake_detectron2.install(monkeypatch, folder / "zoo.pkl")
    return load_detector("mask-rcnn:batch=2", "cpu")


def load_torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    pytest.importorskip("torchvision")
    path = save_keypoint_rcnn(folder / "torchvision.pth")
    return load_detector(f"mask-rcnn-torchvision:weights={path},min_score=0.5,short_side=128,max_people=5", "cpu")


def load_rtmpose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    save_finder(folder / "finder.onnx")
    save_pose(folder / "pose.onnx")
    spec = f"rtmpose:weights={folder / 'pose.onnx'},boxes_weights={folder / 'finder.onnx'},threads=1"
    return load_detector(spec, "cpu")


CASES: dict[str, Load] = {
    "movenet": lambda folder, monkeypatch: load_detector("movenet", "cpu", threads=1),
    "movenet-fast": lambda folder, monkeypatch: load_detector("movenet-fast:threads=1", "cpu"),
    "cpn": load_cpn,
    "mask-rcnn": load_mask_rcnn,
    "mask-rcnn-torchvision": load_torchvision,
    "rtmpose": load_rtmpose,
}


def test_every_detector_has_a_case() -> None:
    assert set(CASES) == set(DETECTORS)


@pytest.fixture(params=sorted(CASES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def detector(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    return CASES[name](tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def footage(demo: Path) -> list[FrameBGR]:
    """Frames of a man on a wall and a walking woman."""
    with VideoReader(demo, 2.8, 2.86) as reader:
        return [frame.image for frame in reader][:2]


@pytest.fixture
def frames(name: str, footage: list[FrameBGR]) -> list[FrameBGR]:
    """Two frames with people that this detector can find."""
    if name != "rtmpose":
        return footage
    return [draw((640, 480), [place((200 + 9 * step, 90), 1.5)]) for step in range(2)]


def check(people: Keypoints2D, frame: FrameBGR) -> None:
    """Check the properties of the people in one frame."""
    count = len(people)
    assert people.keypoints.shape == (count, COCO17.num_joints, 2)
    assert people.boxes_xyxy.shape == (count, 4)
    for array in (people.boxes_xyxy, people.keypoints, people.scores, people.person_scores):
        assert array.dtype == np.float32
    assert np.isfinite(people.boxes_xyxy).all()
    assert np.isfinite(people.keypoints[people.scores > 0]).all()
    for scores in (people.scores, people.person_scores):
        assert ((scores >= 0) & (scores <= 1)).all()
    x0, y0, x1, y1 = people.boxes_xyxy.T
    assert (x0 < x1).all()
    assert (y0 < y1).all()
    height, width = frame.shape[:2]
    middle = np.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height])
    assert ((middle > -0.1) & (middle < 1.1)).all()


def test_contract(detector: Detector, name: str, frames: list[FrameBGR]) -> None:
    """Shapes, types, ranges; empty frames; independence of the batch size; reset."""
    assert detector.name == name
    assert all(len(part) == 64 for part in detector.sha256.split("+"))
    assert detector.batch_size >= 1
    whole = detector.detect(frames)
    assert len(whole) == len(frames)
    assert all(len(people) > 0 for people in whole)
    for people, frame in zip(whole, frames, strict=True):
        check(people, frame)

    detector.reset()
    pieces = [*detector.detect(frames[:1]), *detector.detect([]), *detector.detect(frames[1:])]
    for together, apart in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(apart.boxes_xyxy, together.boxes_xyxy, atol=0.1)
        np.testing.assert_allclose(apart.scores, together.scores, atol=1e-3)
        np.testing.assert_allclose(apart.person_scores, together.person_scores, atol=1e-3)
        sure = together.scores > 0.2
        np.testing.assert_allclose(apart.keypoints[sure], together.keypoints[sure], atol=0.1)

    if name != "mask-rcnn-torchvision":  # random weights see people everywhere
        detector.reset()
        assert [len(people) for people in detector.detect([np.zeros_like(frames[0])] * 2)] == [0, 0]
