"""Keypoint R-CNN: a fake detectron2, and torchvision itself if installed."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import cv2
import fake_detectron2
import numpy as np
import pytest
import torch
from random_weights import save_keypoint_rcnn

from vp3d_cli.detect.base import Detector, load_detector
from vp3d_cli.detect.mask_rcnn import detectron2 as mask_rcnn
from vp3d_cli.detect.mask_rcnn import torchvision as mask_rcnn_torchvision
from vp3d_cli.errors import ConfigError, MissingDependencyError, ShapeError, WeightsError
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR
from vp3d_cli.weights import sha256_of

HAS_DETECTRON2 = importlib.util.find_spec("detectron2") is not None
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps(fake_detectron2.weights()))
    return path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, zoo: Path) -> list[fake_detectron2.KeypointRcnn]:
    return fake_detectron2.install(monkeypatch, zoo)


def frames(count: int = 3) -> list[FrameBGR]:
    noise = np.random.default_rng(0).integers(1, 256, (count, 120, 160, 3), np.uint8)
    return list(noise)


@pytest.mark.skipif(HAS_DETECTRON2, reason="detectron2 is there")
def test_missing_detectron2_is_one_clear_line() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        load_detector("mask-rcnn")
    message = str(caught.value)
    assert message.startswith("detector mask-rcnn: detectron2 is not installed; install it with: pip install ")
    assert "docs/detectors.md" in message
    assert "\n" not in message


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is there")
def test_missing_torchvision_is_one_clear_line() -> None:
    with pytest.raises(MissingDependencyError, match="torchvision is not installed; install it with: pip"):
        load_detector("mask-rcnn-torchvision")


def test_neither_replaces_the_other(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_detector("mask-rcnn", "cpu").name == "mask-rcnn"
    assert DETECTORS.get("mask-rcnn").available() is None
    for name in [name for name in sys.modules if name.startswith("detectron2")]:
        monkeypatch.delitem(sys.modules, name)
    if not HAS_DETECTRON2:
        with pytest.raises(MissingDependencyError, match="detector mask-rcnn: detectron2 is not installed"):
            load_detector("mask-rcnn", "cpu")


@pytest.mark.parametrize("model", ["R101", "R50"])
def test_detectron2_finds_people(built: list[fake_detectron2.KeypointRcnn], zoo: Path, model: str) -> None:
    detector = load_detector(f"mask-rcnn:model={model}", "cpu")
    [network] = built
    assert network.config.merged == f"COCO-Keypoints/keypoint_rcnn_R_{model[1:]}_FPN_3x.yaml"
    assert network.config.MODEL.DEVICE == "cpu"
    assert network.config.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.3
    assert detector.sha256 == sha256_of(zoo)
    images = frames()
    seen = detector.detect(images)
    assert len(seen) == 3
    for people in seen:
        assert len(people) == 2
        np.testing.assert_allclose(people.boxes_xyxy, [[8, 6, 152, 114]] * 2, rtol=1e-5)
        np.testing.assert_allclose(people.keypoints[1, [0, 16]], [[16, 12], [144, 108]], rtol=1e-5)
        np.testing.assert_allclose(people.person_scores, [0.98, 0.5], rtol=1e-5)
        assert people.scores[0, 0] == 0
        assert (np.diff(people.scores, axis=1) > 0).all()
        assert people.scores[0, -1] == pytest.approx(1 / 1.05)
    first = network.seen[0]
    assert (first["width"], first["height"]) == (160, 120)
    assert tuple(first["image"].shape) == (3, 100, 133)  # shortest edge as the configuration says
    assert first["image"][:, 0, 0].tolist() == images[0][0, 0].tolist()  # BGR stays BGR


def test_detectron2_gets_its_colour_order(
    built: list[fake_detectron2.KeypointRcnn], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fake_detectron2.get_cfg()
    original.INPUT.FORMAT = "RGB"
    monkeypatch.setattr(sys.modules["detectron2.config"], "get_cfg", lambda: original)
    [image] = frames(1)
    load_detector("mask-rcnn", "cpu").detect([image])
    assert built[0].seen[0]["image"][:, 0, 0].tolist() == image[0, 0, ::-1].tolist()


def test_detectron2_empty_frames_and_batches(built: list[fake_detectron2.KeypointRcnn]) -> None:
    images = frames()
    images.insert(1, np.zeros_like(images[0]))
    whole = load_detector("mask-rcnn:batch=3", "cpu").detect(images)
    assert built[-1].batches == [3, 1]
    assert [len(people) for people in whole] == [2, 0, 2, 2]
    single = load_detector("mask-rcnn:min_score=0.6", "cpu")
    assert single.batch_size == 1
    assert [len(people) for image in images for people in single.detect([image])] == [1, 0, 1, 1]
    assert single.detect([]) == []
    single.reset()


def test_detectron2_weights_of_the_user(built: list[Any], tmp_path: Path) -> None:
    mine = tmp_path / "mine.pth"
    model = {name: torch.as_tensor(value) for name, value in fake_detectron2.weights()["model"].items()}
    torch.save({"model": model}, mine)
    assert load_detector(f"mask-rcnn:weights={mine}", "cpu").sha256 == sha256_of(mine)
    with pytest.raises(WeightsError, match=r"no weights 'none\.pkl': neither a file nor a name"):
        load_detector("mask-rcnn:weights=none.pkl", "cpu")


@pytest.mark.usefixtures("built")
def test_detectron2_weights_that_do_not_fill_the_model(tmp_path: Path) -> None:
    """detectron2 itself would use random values."""
    partial = tmp_path / "partial.pkl"
    partial.write_bytes(pickle.dumps(fake_detectron2.weights(**{"head.bias": None})))
    with pytest.raises(WeightsError, match=r"does not hold detectron2's keypoint_rcnn R101: head\.bias missing"):
        load_detector(f"mask-rcnn:weights={partial}", "cpu")
    partial.write_bytes(b"not a pickle")
    with pytest.raises(WeightsError, match=r"partial\.pkl does not load as detectron2's"):
        load_detector(f"mask-rcnn:weights={partial}", "cpu")


def test_detectron2_model_zoo_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_detectron2.install(monkeypatch, None)
    with pytest.raises(WeightsError, match=r"cannot download https://zoo\.example/.* give weights=FILE"):
        load_detector("mask-rcnn", "cpu")


def test_detectron2_that_does_not_load(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["detectron2.modeling"], "build_model")
    with pytest.raises(MissingDependencyError, match=r"detectron2 is installed but does not load .*build it again"):
        load_detector("mask-rcnn", "cpu")


@pytest.mark.usefixtures("built")
def test_detectron2_without_keypoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mask_rcnn.MODELS, "R50", "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    monkeypatch.setattr(sys.modules["detectron2"].model_zoo, "get_checkpoint_url",
                        lambda name: "https://zoo.example/COCO-Keypoints/keypoint_rcnn_R_x")  # fmt: skip
    with pytest.raises(ShapeError, match="gives no keypoints; use a keypoint_rcnn model"):
        load_detector("mask-rcnn:model=R50", "cpu").detect(frames(1))


@pytest.mark.usefixtures("built")
def test_invalid_options_raise() -> None:
    with pytest.raises(ConfigError, match="unknown model 'R18' of mask-rcnn; choose one of R101, R50"):
        load_detector("mask-rcnn:model=R18")
    with pytest.raises(ConfigError, match="min_score must be within 0 and 1"):
        load_detector("mask-rcnn:min_score=-1")
    with pytest.raises(ConfigError, match=r"max_people at least 1, got 0\.3, 0, 10 and 100"):
        mask_rcnn_torchvision.load("cpu", short_side=10)


def test_scores_are_mapped_monotonically() -> None:
    shares = np.array([-0.1, 0, 0.01, 0.05, 0.3, 1, 1.2], np.float32)
    mapped = mask_rcnn.confidence(shares)
    assert mapped[0] == mapped[1] == 0
    assert mapped[3] == pytest.approx(0.5)
    assert (np.diff(mapped[1:]) > 0).all()
    assert mapped.max() < 1
    logits = np.array([-1000, -5, 0, 2, 5, 10, 1000], np.float32)
    mapped = mask_rcnn_torchvision.confidence(logits)
    assert mapped[3] == pytest.approx(0.5)
    assert (np.diff(mapped) > 0).all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


# --- torchvision itself: `make test-torchvision`

torchvision_only = pytest.mark.skipif(not HAS_TORCHVISION, reason="needs torchvision: make test-torchvision")


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a Keypoint R-CNN that classifies everything as a person."""
    return save_keypoint_rcnn(tmp_path_factory.mktemp("torchvision") / "random.pth")


@pytest.fixture(scope="module")
def frame(demo: Path) -> FrameBGR:
    capture = cv2.VideoCapture(str(demo))
    _, image = capture.read()
    capture.release()
    return cv2.resize(image, (480, 270))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def torchvision_detector(random_weights: Path) -> Detector:
    return load_detector(f"mask-rcnn-torchvision:weights={random_weights},batch=2,short_side=200,max_people=5", "cpu")


@torchvision_only
def test_torchvision_runs_on_a_real_frame(
    torchvision_detector: Detector, random_weights: Path, frame: FrameBGR
) -> None:
    detector = torchvision_detector
    assert detector.name == "mask-rcnn-torchvision"
    assert detector.sha256 == sha256_of(random_weights)
    [people] = detector.detect([frame])
    assert 0 < len(people) <= 5
    assert people.keypoints.shape == (len(people), COCO17.num_joints, 2)
    assert np.isfinite(people.keypoints).all()
    x, y = people.keypoints[..., 0], people.keypoints[..., 1]
    assert x.min() >= -1
    assert x.max() <= 481
    assert y.min() >= -1
    assert y.max() <= 271
    for scores in (people.scores, people.person_scores):
        assert scores.min() >= 0
        assert scores.max() <= 1
    assert people.person_scores.min() > 0.3


@torchvision_only
def test_torchvision_batch_equals_single(torchvision_detector: Detector, frame: FrameBGR) -> None:
    dark = (frame // 2).astype(np.uint8)
    together = torchvision_detector.detect([frame, dark])
    for image, people in zip((frame, dark), together, strict=True):
        [single] = torchvision_detector.detect([image])
        assert len(single) == len(people)
        np.testing.assert_allclose(single.boxes_xyxy, people.boxes_xyxy, atol=0.1)
        np.testing.assert_allclose(single.person_scores, people.person_scores, atol=1e-3)


@torchvision_only
def test_torchvision_finds_nobody(random_weights: Path, frame: FrameBGR) -> None:
    strict = load_detector(f"mask-rcnn-torchvision:weights={random_weights},min_score=1,short_side=200", "cpu")
    assert [len(people) for people in strict.detect([frame])] == [0]


@torchvision_only
def test_torchvision_wrong_weights(tmp_path: Path, random_weights: Path) -> None:
    state = torch.load(random_weights, weights_only=True)
    state["backbone.new"] = state.pop("roi_heads.keypoint_predictor.kps_score_lowres.bias")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"Missing key.*kps_score_lowres\.bias.*Unexpected key.*backbone\.new"):
        load_detector(f"mask-rcnn-torchvision:weights={tmp_path / 'other.pth'}", "cpu")
    (tmp_path / "text.pth").write_text("nothing")
    with pytest.raises(WeightsError, match="is not a checkpoint"):
        load_detector(f"mask-rcnn-torchvision:weights={tmp_path / 'text.pth'}", "cpu")


@torchvision_only
def test_torchvision_weights_of_its_hub(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: FrameBGR
) -> None:
    """torchvision's own weights come from its hub, here from a file in the hub's folder."""
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = Path(KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.url).name
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(random_weights.read_bytes())
    detector = load_detector("mask-rcnn-torchvision:max_people=5", "cpu")  # at the size that it was trained with
    assert detector.sha256 == sha256_of(random_weights)
    assert len(detector.detect([frame])[0]) > 0
    (tmp_path / "checkpoints" / name).unlink()
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    with pytest.raises(WeightsError, match=r"cannot download https://.*no network.*give weights=FILE"):
        load_detector("mask-rcnn-torchvision", "cpu")


def _no_network(*arguments: object, **options: object) -> None:
    raise OSError("no network")
