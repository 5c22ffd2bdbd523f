"""train/cpn*.py, train/coco.py: labels, samples, losses, and a network that learns a handful of pictures by heart."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from coloured_people import draw, place
from conftest import RunCli

from vp3d_cli.detect.base import load_detector
from vp3d_cli.detect.cpn.detector import GROW_XY, to_input
from vp3d_cli.detect.cpn.heatmaps import read_keypoints
from vp3d_cli.detect.cpn.network import STRIDE, Cpn, CpnConfig
from vp3d_cli.detect.crops import crop_transform, person_boxes, transform_points
from vp3d_cli.detect.torch_tools import read_checkpoint
from vp3d_cli.errors import ConfigError, InputError, TrainingError, WeightsError
from vp3d_cli.paper.cpn.coco import read_people
from vp3d_cli.paper.cpn.data import NO_AUGMENTATION, Augmentation, Samples, make_sample
from vp3d_cli.paper.cpn.training import CpnTraining, heatmap_loss, split, starting_model, train_cpn
from vp3d_cli.skeletons import COCO17
from vp3d_cli.video import VideoReader

TINY = CpnConfig((1, 1, 1, 1), base=16, channels=32)
WH = (192, 256)
PLACES = [((60, 30), 1.0), ((150, 20), 1.1), ((30, 40), 0.9), ((180, 35), 0.8)]


def person(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and box of the person in a picture; each in another pose."""
    corner, scale = PLACES[number]
    keypoints, box = place(corner, scale)
    return keypoints + scale * np.random.default_rng(number).uniform(-9, 9, (17, 2)), box


def annotation(number: int, keypoints: np.ndarray, box: np.ndarray, **more: Any) -> dict[str, Any]:
    values = np.concatenate([keypoints, np.full((17, 1), 2.0)], axis=1)
    x0, y0, x1, y1 = box.tolist()
    entry = {"id": number, "image_id": number, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    return {**entry, "keypoints": values.ravel().tolist(), "num_keypoints": 17, "iscrowd": 0, **more}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``labels.json`` and four pictures in ``images``."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    labels: dict[str, Any] = {"images": [], "annotations": []}
    labels["categories"] = [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}]
    for number in range(len(PLACES)):
        keypoints, box = person(number)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), draw((320, 280), [(keypoints, box)], dot_radius=6.0))
        labels["images"].append({"id": number, "file_name": f"{number}.png", "width": 320, "height": 280})
        labels["annotations"].append(annotation(number, keypoints, box))
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def changed(data: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """``changed(edit)`` gives a copy of the labels after ``edit``."""

    def make(edit: Callable[[dict[str, Any]], object]) -> Path:
        labels = json.loads((data / "labels.json").read_text())
        edit(labels)
        (tmp_path / "changed.json").write_text(json.dumps(labels))
        return tmp_path / "changed.json"

    return make


# --- labels


def test_people_are_read(data: Path) -> None:
    people = read_people(data / "labels.json", data / "images")
    assert [person.image.name for person in people] == ["0.png", "1.png", "2.png", "3.png"]
    keypoints, box = person(1)
    np.testing.assert_allclose(people[1].keypoints, keypoints)
    np.testing.assert_allclose(people[1].box_xyxy, box)
    assert people[1].visibility.tolist() == [2] * 17
    assert people[1].area == pytest.approx(0.53 * 110 * 220)


def test_crowds_and_people_without_labels_are_left_out(data: Path, changed: Any) -> None:
    def edit(labels: dict[str, Any]) -> None:
        first, second, third, fourth = labels["annotations"]
        first["iscrowd"] = 1
        second["keypoints"] = [0] * 51
        third["category_id"] = 2
        fourth["area"] = 123.0

    [person] = read_people(changed(edit), data / "images")
    assert person.image.name == "3.png"
    assert person.area == 123


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.pop("annotations"), "has no 'images' and 'annotations'"),
        (lambda d: d["annotations"].clear(), "nobody in it has a box"),
        (lambda d: d["annotations"][0].pop("image_id"), "not in COCO's annotation format"),
        (lambda d: d["annotations"][0].update(image_id=99), "annotation 0: its image_id 99 is not among the images"),
        (
            lambda d: d["annotations"][2]["keypoints"].append(1),
            "annotation 2: has 52 values in 'keypoints', expected 51",
        ),
        (lambda d: d["annotations"][0].update(bbox=[0, 0, 0, 5]), "annotation 0: a number is not finite, or the box"),
        (lambda d: d["categories"][0]["keypoints"].reverse(), "its keypoints are right_ankle, .* not COCO's 17"),
        (lambda d: d["images"][0].update(file_name="no.png"), r"no\.png is missing; give the folder"),
    ],
)
def test_unusable_labels_are_one_clear_line(data: Path, changed: Any, edit: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_people(changed(edit), data / "images")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_people(tmp_path / "x.json", data)
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_people(tmp_path / "none.json", data)


# --- samples


def test_sample_shows_the_keypoints_where_it_says(data: Path) -> None:
    """Through turning, zooming and mirroring: the target's peak lies on a dot of the keypoint's own colour."""
    people = read_people(data / "labels.json", data / "images")
    seen = 0
    for number in range(12):
        rng = np.random.default_rng(number)
        image, targets, visibility = make_sample(people[number % 4], WH, replace(Augmentation(), colour=0.0), rng)
        assert image.shape == (3, 256, 192)
        assert targets.shape == (4, 17, 64, 48)
        points, scores = read_keypoints(targets[-1:].numpy())
        for joint in np.flatnonzero(visibility.numpy()):
            x, y = points[0, joint].round().astype(int)
            if not (4 <= x < 188 and 4 <= y < 252):
                continue
            seen += 1
            patch = image[:, y - 3 : y + 4, x - 3 : x + 4].numpy()
            assert np.ptp(patch, axis=0).max() > 0.3, f"sample {number}: no colour at {COCO17.joints[joint]}"
            assert scores[0, joint] > 0.8
        assert not targets[:, visibility == 0].any()
    assert seen > 100


def test_mirrored_sample_swaps_sides(data: Path) -> None:
    person = read_people(data / "labels.json", data / "images")[0]
    only_flip = replace(NO_AUGMENTATION, flip=True)
    found = set()
    for seed in range(8):
        _, targets, _ = make_sample(person, WH, only_flip, np.random.default_rng(seed))
        points, _ = read_keypoints(targets[-1:].numpy())
        left, right = points[0, COCO17.index("left_wrist")], points[0, COCO17.index("right_wrist")]
        expected = transform_points(crop_transform(person.box_xyxy, WH, GROW_XY), person.keypoints[[9, 10]])
        mirrored = expected[::-1] * (-1, 1) + (192, 0)
        for name, pair in (("plain", expected), ("mirrored", mirrored)):
            if np.abs(np.stack([left, right]) - pair).max() < 3:
                found.add(name)
    assert found == {"plain", "mirrored"}


def test_samples_are_the_same_each_time_and_everyone_comes(data: Path) -> None:
    people = read_people(data / "labels.json", data / "images")
    one, other = (Samples(people, WH, Augmentation(), 5) for _ in range(2))
    for a, b in zip(one[6], other[6], strict=True):
        torch.testing.assert_close(a, b)
    plain = Samples(people, WH, NO_AUGMENTATION, 5)
    pictures = {plain[number][0].numpy().tobytes() for number in range(4)}
    assert len(pictures) == 4
    assert {plain[number][0].numpy().tobytes() for number in range(4, 8)} == pictures


def test_unreadable_image_is_one_clear_line(data: Path, changed: Any) -> None:
    path = changed(lambda d: d["images"][0].update(file_name="../labels.json"))
    person = read_people(path, data / "images")[0]
    with pytest.raises(InputError, match="cannot be read as an image"):
        make_sample(person, WH, NO_AUGMENTATION, np.random.default_rng(0))


# --- losses


def test_loss_follows_visibility() -> None:
    targets = torch.zeros(1, 4, 17, 8, 8)
    targets[:, :, :, 4, 4] = 100
    zeros = [torch.zeros(1, 17, 8, 8)] * 4
    none, hidden, seen = (torch.full((1, 17), value) for value in (0, 1, 2))
    perfect = targets[:, 0]
    assert heatmap_loss([perfect] * 4, perfect, targets, seen) == 0
    assert heatmap_loss(zeros, zeros[0], targets, none) == 0
    each = 100**2 / 64
    torch.testing.assert_close(heatmap_loss(zeros, zeros[0], targets, hidden), torch.tensor(each))
    torch.testing.assert_close(heatmap_loss(zeros, zeros[0], targets, seen), torch.tensor(each + 4 * each / 2))


def test_loss_takes_the_hardest_eight() -> None:
    targets = torch.zeros(1, 4, 17, 8, 8)
    refined = torch.zeros(1, 17, 8, 8)
    refined[0, :3] = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    levels = [torch.zeros(1, 17, 8, 8)] * 4
    assert heatmap_loss(levels, refined, targets, torch.full((1, 17), 2)).item() == pytest.approx((1 + 4 + 9) / 8)


# --- runs

QUICK = CpnTraining(TINY, steps=80, batch=3, learning_rate=2e-2, held_out=0.0, augment=False, validate_every=40)


def test_learns_a_handful_of_pictures_by_heart(data: Path, changed: Any, tmp_path: Path) -> None:
    three = changed(lambda labels: labels["annotations"].pop())
    result = train_cpn(three, data / "images", tmp_path / "run", QUICK)
    assert result.finished
    rows = result.log.read_text().splitlines()
    assert rows[0] == "step,loss,error_px,similarity,seconds"
    assert len(rows) == 3
    assert result.similarity > 0.95
    _, metadata = read_checkpoint(result.best)
    assert metadata["input_size"] == "256x192"
    # Of the heat-map's pixels, which are 4 x 4 of the input's. The quarter-pixel rule itself is off by 0.20.
    assert json.loads(metadata["training"])["error_px"] / STRIDE < 0.3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_learns_people_of_a_video_by_heart(demo: Path, tmp_path: Path) -> None:
    """Four people of the example clip, as the embedded detector sees them."""
    movenet = load_detector("movenet", "cpu")
    labels: dict[str, Any] = {"images": [], "annotations": []}
    with VideoReader(demo, 2.8, 3.6) as reader:
        for frame in list(reader)[::20]:
            name = f"{frame.index}.png"
            cv2.imwrite(str(tmp_path / name), frame.image)
            labels["images"].append({"id": frame.index, "file_name": name})
            [people] = movenet.detect([frame.image])
            labels["annotations"] += [
                annotation(frame.index, keypoints.astype(np.float64), box.astype(np.float64))
                for keypoints, box in zip(people.keypoints, person_boxes(people), strict=True)
            ]
    assert len(labels["annotations"]) == 4
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    config = replace(QUICK, steps=240, batch=4, validate_every=60, learning_rate=1e-2)
    result = train_cpn(tmp_path / "labels.json", tmp_path, tmp_path / "run", config)
    _, metadata = read_checkpoint(result.best)
    assert json.loads(metadata["training"])["error_px"] / STRIDE < 0.5
    assert result.similarity > 0.95


def test_ctrl_c_saves(data: Path, tmp_path: Path, short: CpnTraining) -> None:
    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    stopped = train_cpn(data / "labels.json", data / "images", tmp_path, short, on_step=interrupt)
    assert not stopped.finished
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    assert train_cpn(data / "labels.json", data / "images", tmp_path, short, resume=True).finished


@pytest.fixture(scope="module")
def short() -> CpnTraining:
    return replace(QUICK, network=CpnConfig((1, 1, 1, 1), 8, 16), steps=4, batch=2, validate_every=4, augment=True)


class _Stop(Exception):
    pass


def test_resumed_run_equals_an_uninterrupted_one(data: Path, tmp_path: Path, short: CpnTraining) -> None:
    def go(out: str, **more: Any) -> dict[str, torch.Tensor]:
        result = train_cpn(
            data / "labels.json", data / "images", tmp_path / out, replace(short, validate_every=2), **more
        )
        return read_checkpoint(result.last)[0]

    whole = go("whole")

    def stop(row: dict[str, float]) -> None:
        raise _Stop

    with pytest.raises(_Stop):
        go("parts", on_validation=stop)
    with pytest.raises(TrainingError, match="holds another run; continue it with --resume"):
        go("parts")
    resumed = go("parts", resume=True)
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_resume_needs_the_same_configuration(data: Path, tmp_path: Path, short: CpnTraining) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        train_cpn(data / "labels.json", data / "images", tmp_path, short, resume=True)
    train_cpn(data / "labels.json", data / "images", tmp_path, short)
    other = replace(short, steps=9, learning_rate=1.0)
    with pytest.raises(TrainingError, match="another configuration: steps, learning_rate differ"):
        train_cpn(data / "labels.json", data / "images", tmp_path, other, resume=True)


def test_images_are_held_out_whole(data: Path, changed: Any) -> None:
    def twice(labels: dict[str, Any]) -> None:
        labels["annotations"] += [dict(entry) for entry in labels["annotations"]]

    people = read_people(changed(twice), data / "images")
    training, held_out = split(people, replace(QUICK, held_out=0.5))
    assert (len(training), len(held_out)) == (4, 4)
    assert not {p.image for p in training} & {p.image for p in held_out}
    with pytest.raises(TrainingError, match="all 4 images are held out"):
        split(people, replace(QUICK, held_out=0.99))


def test_starts_from_a_cpn_or_a_classifier(tmp_path: Path) -> None:
    network = CpnConfig((1, 1, 1, 1), 8, 16)
    donor = Cpn(network)
    donor.initialise()
    torch.save({"state_dict": {f"module.{n}": t for n, t in donor.state_dict().items()}}, tmp_path / "cpn.pth.tar")
    loaded = starting_model(network, tmp_path / "cpn.pth.tar").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in donor.state_dict().items())

    resnet = {name[7:]: t for name, t in donor.state_dict().items() if name.startswith("resnet.")}
    torch.save({**resnet, "fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)}, tmp_path / "resnet.pth")
    backbone = starting_model(network, tmp_path / "resnet.pth").state_dict()
    assert all(torch.equal(backbone[f"resnet.{name}"], tensor) for name, tensor in resnet.items())
    assert not torch.equal(backbone["refine_net.final_predict.1.weight"], loaded["refine_net.final_predict.1.weight"])

    with pytest.raises(ConfigError, match=r"holds a CPN of .* but a CPN50 is to be trained"):
        starting_model(CpnConfig(), tmp_path / "cpn.pth.tar")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold a CPN50"):
        starting_model(CpnConfig(), tmp_path / "other.pth")


@pytest.mark.parametrize(
    "change", [{"size": "1x1"}, {"batch": 1}, {"held_out": 1.0}, {"learning_rate": 0.0}, {"steps": 0}]
)
def test_values_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(QUICK, **change)


def test_command_line(data: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of a small network; the weights then work as a detector."""
    monkeypatch.setattr(CpnConfig, "resnet", classmethod(lambda cls, depth: cls((1, 1, 1, 1), 8, 16)))
    given = ("--annotations", data / "labels.json", "--images", data / "images", "--out", tmp_path / "run")
    options = ("--steps", 2, "--batch", 2, "--held-out", 0.25, "--size", "384x288", "--device", "cpu")
    done = run_cli("train-detector", "cpn", *given, *options)
    assert done.code == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run" / "best.safetensors")
    assert "OKS" in done.stderr
    again = run_cli("train-detector", "cpn", *given, *options)
    assert again.code == 1
    assert "holds another run" in again.stderr
    unknown = run_cli("train-detector", "yolo", *given)
    assert unknown.code == 2
    assert "'yolo' cannot be trained; choose cpn" in unknown.stderr
    detector = load_detector(f"cpn:weights={tmp_path / 'run' / 'best.safetensors'}", "cpu")
    assert detector.name == "cpn"


def test_input_of_training_is_that_of_detection(data: Path) -> None:
    person = read_people(data / "labels.json", data / "images")[0]
    image, _, _ = make_sample(person, WH, NO_AUGMENTATION, np.random.default_rng(0))
    from vp3d_cli.detect.cpn.detector import BORDER_BGR
    from vp3d_cli.detect.crops import extract_crop

    picture = cv2.imread(str(person.image))
    crop = extract_crop(picture, crop_transform(person.box_xyxy, WH, GROW_XY), WH, BORDER_BGR)
    torch.testing.assert_close(image, to_input(crop[None])[0])
