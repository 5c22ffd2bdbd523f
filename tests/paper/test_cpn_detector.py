"""detect/cpn*.py: the network's names and shapes, checkpoints, reading heat-maps, and the detector's contract."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_weights import save_small_cpn

from vp3d_cli.detect.base import Detector, DetectorInfo, load_detector
from vp3d_cli.detect.cpn.detector import MEAN_RGB, SIZES, choose_size, to_input
from vp3d_cli.detect.cpn.heatmaps import draw_targets, kernel_sigma, read_keypoints
from vp3d_cli.detect.cpn.network import Cpn, CpnConfig, build_from_state, recognise
from vp3d_cli.detect.torch_tools import read_checkpoint
from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.weights import add_weights

# Of the published checkpoints: tensors, values in them, and the hash of "name [shape]" lines, sorted.
PUBLISHED = {
    50: (582, 27476597, "b91fb6589f75f6a47f58877a5b3388cdf0b415b5d2cbf6e572f30b70e973a66e"),
    101: (888, 46521000, "ab8fc8b62132785a88fccef5bdcca08f46e536491b1c84c0459447933f4313b6"),
}
TINY = CpnConfig((1, 1, 1, 1), base=8, channels=16)


def shapes(depth: int) -> dict[str, list[int]]:
    with torch.device("meta"):
        return {name: list(tensor.shape) for name, tensor in Cpn(CpnConfig.resnet(depth)).state_dict().items()}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(depth: int) -> None:
    ours = shapes(depth)
    count, values, digest = PUBLISHED[depth]
    assert len(ours) == count
    assert sum(math.prod(shape) for shape in ours.values()) == values
    lines = "\n".join(sorted(f"{name} {shape}" for name, shape in ours.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


def published_state(depth: int, prefix: str = "") -> dict[str, torch.Tensor]:
    """A checkpoint's tensors, all of one repeated value, so that files are small."""
    return {
        prefix + name: torch.zeros((), dtype=torch.long)
        if name.endswith("num_batches_tracked")
        else torch.full((1,), 0.01).expand(shape)
        for name, shape in shapes(depth).items()
    }


@pytest.mark.parametrize(
    ("depth", "file", "prefix", "zipped"),
    [
        (50, "CPN50_256x192.pth.tar", "module.", False),
        (50, "CPN50_384x288.pth", "", True),
        (101, "CPN101_384x288.pth.tar", "module.", True),
    ],
)
def test_published_checkpoints_load(tmp_path: Path, depth: int, file: str, prefix: str, zipped: bool) -> None:
    path = tmp_path / file
    content = {"epoch": 32, "state_dict": published_state(depth, prefix), "optimizer": {"param_groups": [{"lr": 1e-4}]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    state, metadata = read_checkpoint(path)
    model = build_from_state(state, path)
    assert model.config.name == f"CPN{depth}"
    assert not model.training
    assert all((parameter == 0.01).all() for parameter in model.parameters())
    entry = add_weights(path, file.partition(".")[0], kind="detector")
    assert choose_size("", entry, metadata) == file.partition("_")[2][:7]
    assert choose_size("256x192", entry, metadata) == "256x192"


def test_old_checkpoints_without_counters_load() -> None:
    state = {name: t for name, t in published_state(50).items() if not name.endswith("num_batches_tracked")}
    model = build_from_state(state, Path("x"))
    assert model.resnet.bn1.num_batches_tracked.item() == 0


def test_wrong_weights_name_the_keys(tmp_path: Path) -> None:
    state = published_state(50)
    del state["resnet.layer3.0.conv2.weight"]
    state["refine_net.final_predict.1.weight"] = torch.zeros(16, 256, 3, 3)
    state["fc.bias"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        build_from_state(state, Path("x.pth"))
    message = str(caught.value)
    assert "x.pth does not hold a CPN50: resnet.layer3.0.conv2.weight missing; fc.bias unexpected" in message
    assert "refine_net.final_predict.1.weight (16, 256, 3, 3) instead of (17, 256, 3, 3) of another shape" in message
    assert "\n" not in message

    with pytest.raises(WeightsError, match=r"does not hold a CPN50: resnet\.conv1\.weight.* and 482 more missing"):
        build_from_state({"conv1.weight": torch.zeros(64, 3, 7, 7)}, Path("resnet50.pth"))
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet50_256x192.pth")
    with pytest.raises(WeightsError, match=r"conv1\.weight unexpected"):
        load_detector(f"cpn:weights={tmp_path / 'resnet50_256x192.pth'}", "cpu")


class Harmful:
    """What a pickle must not be able to run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize("content", [Harmful(), [1, 2], {}, {"state_dict": {"a": 1}}, None])
def test_other_files_are_refused(tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x_256x192.pth"
    if content is None:
        path.write_bytes(b"not a checkpoint")
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=r"x_256x192\.pth (is not a checkpoint|holds no tensors)") as caught:
        load_detector(f"cpn:weights={path}", "cpu")
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    with pytest.raises(WeightsError, match="no weights 'cpn': neither a file nor a name"):
        load_detector("cpn")


def test_size_of_the_input(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "mine.pth")
    entry = add_weights(tmp_path / "mine.pth", "mine", kind="detector")
    assert choose_size("", entry, {"input_size": "384x288"}) == "384x288"
    with pytest.raises(ConfigError, match="does not say the size of its input; add size=256x192 or size=384x288"):
        choose_size("", entry, {})
    with pytest.raises(ConfigError, match="unknown input size '300x200'"):
        choose_size("300x200", entry, {})


def test_network_of_any_width_is_recognised() -> None:
    for config in (TINY, CpnConfig((2, 1, 3, 1), 16, 32)):
        assert recognise(Cpn(config).state_dict()) == config


def test_heatmaps_are_a_quarter_of_the_input() -> None:
    model = Cpn(TINY).eval()
    for width, height in SIZES.values():
        with torch.inference_mode():
            levels, refined = model(torch.zeros(2, 3, height, width))
            alone = model.heatmaps(torch.zeros(2, 3, height, width))
        assert [tuple(level.shape) for level in [*levels, refined]] == [(2, 17, height // 4, width // 4)] * 5
        torch.testing.assert_close(alone, refined)


def test_every_parameter_learns() -> None:
    model = Cpn(TINY)
    model.initialise()
    levels, refined = model(torch.randn(2, 3, 64, 64))
    torch.autograd.backward(sum((maps.square().mean() for maps in levels), refined.square().mean()))
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_input_rule() -> None:
    crops = np.zeros((1, 2, 2, 3), np.uint8)
    crops[0, 0, 1] = (10, 20, 30)  # BGR
    tensor = to_input(crops)
    expected = (np.array([30, 20, 10]) - MEAN_RGB) / 255
    np.testing.assert_allclose(tensor[0, :, 0, 1].numpy(), expected, rtol=1e-5)


def test_targets() -> None:
    """A point in the middle of a map's pixel gives 255 there; the kernel's width follows OpenCV's rule."""
    assert [round(kernel_sigma(k), 3) for k in (7, 9, 11, 15)] == [1.4, 1.7, 2.0, 2.6]
    points = np.array([[4 * 10 + 2, 4 * 20 + 2], [4 * 10 + 2, 4 * 20 + 2], [1000, -1000]], np.float64)
    maps = draw_targets(points, np.array([True, False, True]), (64, 48), 7)
    assert maps.shape == (3, 64, 48)
    assert np.unravel_index(maps[0].argmax(), (64, 48)) == (20, 10)
    assert maps[0, 20, 10] == 255
    assert maps[0, 20, 11] == pytest.approx(255 * math.exp(-1 / (2 * 1.4**2)), rel=1e-5)
    assert maps[0, 20, 14] == 0
    assert not maps[1:].any()


def test_reading_undoes_drawing() -> None:
    """Within the quarter-pixel rule: never off by more than half a pixel of the heat-map, without bias."""
    points = np.random.default_rng(5).uniform((20, 20), (170, 230), (200, 17, 2))
    drawn = np.ones(17, bool)
    maps = np.stack([draw_targets(p, drawn, (64, 48), 7) for p in points])
    read, scores = read_keypoints(maps)
    off = read - points
    assert np.abs(off).max() < 2.0
    assert np.abs(off).mean() < 0.75
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.03
    assert scores.min() > 0.85
    assert scores.max() <= 1


def test_quarter_offset_points_to_the_second_peak() -> None:
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 30, 20], maps[0, 0, 30, 21] = 200, 150
    read, scores = read_keypoints(maps)
    assert read[0, 0].tolist() == [4 * (20 + 0.25 + 0.5), 4 * 30.5]
    assert scores[0, 0] == pytest.approx(200 / 255)
    with_negative, zero = read_keypoints(-maps - 1)
    assert np.isfinite(with_negative).all()
    assert zero[0, 0] == 0


# --- the detector, on the boxes of a stand-in


class Boxes:
    """People whose boxes are given, for each width of frame its own; flipped frames give flipped boxes."""

    name, sha256, batch_size = "boxes", "b" * 64, 2
    boxes = np.array([[40, 30, 130, 220], [200, 60, 270, 210]], np.float32)

    def detect(self, frames: Sequence[FrameBGR]) -> list[Keypoints2D]:
        return [self._one(frame) for frame in frames]

    def _one(self, frame: FrameBGR) -> Keypoints2D:
        if not frame.any():
            return Keypoints2D.empty()
        boxes = self.boxes.copy()
        if frame[0, 0, 0]:  # the mark that flipping brings to the first pixel
            boxes[:, [0, 2]] = frame.shape[1] - boxes[:, [2, 0]]
        bad = np.array([[np.nan] * 4, [10, 10, 10, 90]], np.float32)
        boxes = np.concatenate([boxes[:1], bad, boxes[1:]])
        missing = np.full((4, 17, 2), np.nan, np.float32)
        return Keypoints2D(boxes, missing, np.zeros((4, 17), np.float32), np.array([0.9, 0.8, 0.7, 0.6], np.float32))

    def reset(self, frame: int = 0) -> None:
        pass


def load_boxes(device: str, *, weights: str = "") -> Detector:
    assert weights in ("", "w.pth")
    return Boxes()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small network, as training writes them."""
    return save_small_cpn(tmp_path_factory.mktemp("cpn") / "tiny.safetensors")


@pytest.fixture
def detector(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setitem(DETECTORS._registered, "boxes", DetectorInfo("boxes", "x", "MIT", load_boxes))
    return load_detector(f"cpn:weights={weights_file},boxes=boxes,boxes_weights=w.pth", "cpu")


@pytest.fixture(scope="module")
def frames() -> list[FrameBGR]:
    """Three frames of noise; the top right pixel is a mark."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 240, 320, 3), np.uint8)
    noise[:, 0, 0], noise[:, 0, -1] = 0, 255
    return list(noise)


def test_contract_shapes(detector: Detector, frames: list[FrameBGR]) -> None:
    assert detector.name == "cpn"
    assert [len(part) for part in detector.sha256.split("+")] == [64, 64]
    seen = detector.detect(frames)
    assert len(seen) == len(frames)
    for people in seen:
        np.testing.assert_array_equal(people.boxes_xyxy, Boxes.boxes)  # those without an area are left out
        np.testing.assert_array_equal(people.person_scores, np.array([0.9, 0.6], np.float32))
        assert people.keypoints.dtype == people.scores.dtype == np.float32
        assert np.isfinite(people.keypoints).all()
        assert people.scores.min() >= 0
        assert people.scores.max() <= 1
        for keypoints, (x0, y0, x1, y1) in zip(people.keypoints, people.boxes_xyxy, strict=True):
            reach = max(1.3 * (y1 - y0), 1.2 * (x1 - x0) * 4 / 3) / 2
            assert np.abs(keypoints - ((x0 + x1) / 2, (y0 + y1) / 2)).max() <= reach


def test_contract_mirrored_frame_gives_mirrored_keypoints(detector: Detector, frames: list[FrameBGR]) -> None:
    """Holds for any weights, because the network's answer is averaged with that for the mirror image."""
    [seen] = detector.detect(frames[:1])
    [mirrored] = detector.detect([np.ascontiguousarray(frames[0][:, ::-1])])
    back = mirrored.keypoints[:, list(COCO17.flip_order)] * (-1, 1) + (320, 0)
    close = np.abs(back - seen.keypoints).max(axis=-1) < 0.01
    assert close.mean() > 0.9  # rounding may choose between peaks of noise
    np.testing.assert_allclose(mirrored.scores[:, list(COCO17.flip_order)], seen.scores, atol=1e-4)


def test_contract_empty_frame_and_batches(detector: Detector, frames: list[FrameBGR]) -> None:
    black = np.zeros_like(frames[0])
    assert [len(people) for people in detector.detect([black, black])] == [0, 0]
    together = detector.detect([frames[0], black, *frames[1:]])
    apart = [people for frame in [frames[0], black, *frames[1:]] for people in detector.detect([frame])]
    assert [len(people) for people in together] == [2, 0, 2, 2]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_crops_per_run_do_not_matter(weights_file: Path, detector: Detector, frames: list[FrameBGR]) -> None:
    small = load_detector(f"cpn:weights={weights_file},boxes=boxes,crops=1", "cpu")
    for one, other in zip(small.detect(frames), detector.detect(frames), strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)


def test_on_the_people_of_the_embedded_detector(weights_file: Path, demo: Path) -> None:
    from vp3d_cli.video import VideoReader

    with VideoReader(demo, 2.8, 2.86) as reader:
        images = [frame.image for frame in reader]
    cpn = load_detector(f"cpn:weights={weights_file},flip=false", "cpu")
    movenet = load_detector("movenet", "cpu")
    for ours, theirs in zip(cpn.detect(images), movenet.detect(images), strict=True):
        assert len(ours) == len(theirs) == 2
        np.testing.assert_array_equal(ours.boxes_xyxy, theirs.boxes_xyxy)
        assert not np.allclose(ours.keypoints, theirs.keypoints)


def test_wrong_options_are_refused(weights_file: Path) -> None:
    with pytest.raises(ConfigError, match="boxes=cpn: cpn needs the boxes of another detector"):
        load_detector(f"cpn:weights={weights_file},boxes=cpn")
    with pytest.raises(ConfigError, match="crops must be at least 1"):
        load_detector("cpn:crops=0")
    with pytest.raises(ConfigError, match="unknown detector 'nobody'"):
        load_detector(f"cpn:weights={weights_file},boxes=nobody")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_an_error(weights_file: Path) -> None:
    with pytest.raises(MissingDependencyError, match="torch sees no CUDA GPU"):
        load_detector(f"cpn:weights={weights_file}", "cuda")
