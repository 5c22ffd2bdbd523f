"""RTMPose detector with small ONNX models of the same signature and known outputs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from coloured_people import draw, place, save_finder, save_pose

from vp3d_cli import weights
from vp3d_cli.detect.base import load_detector
from vp3d_cli.detect.rtmpose import read_simcc
from vp3d_cli.errors import ConfigError, WeightsError
from vp3d_cli.weights import add_to_manifest, sha256_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``finder.onnx`` and ``pose.onnx``."""
    folder = tmp_path_factory.mktemp("models")
    save_finder(folder / "finder.onnx")
    save_pose(folder / "pose.onnx")
    return folder


def spec(folder: Path, pose: str = "pose.onnx", finder: str = "finder.onnx", more: str = "") -> str:
    return f"rtmpose:weights={folder / pose},boxes_weights={folder / finder},threads=1{more}"


@pytest.mark.parametrize(("size_wh", "corner", "scale"), [
    ((640, 480), (200, 90), 1.5),
    ((480, 640), (30, 40), 0.9),
    ((1280, 720), (700, 300), 1.1),
])  # fmt: skip
def test_finds_the_person_and_the_keypoints(
    models: Path, size_wh: tuple[int, int], corner: tuple[int, int], scale: float
) -> None:
    keypoints, box = place(corner, scale)
    detector = load_detector(spec(models), "cpu")
    [people] = detector.detect([draw(size_wh, [(keypoints, box)])])
    assert len(people) == 1  # the second row of the finder is of another class
    assert people.person_scores[0] == pytest.approx(0.9)
    coarse = max(size_wh) / 320  # a pixel of the finder's input
    np.testing.assert_allclose(people.boxes_xyxy[0], box, atol=1.5 * coarse)
    fine = 1.25 * 200 * scale / 256  # a pixel of the crop
    np.testing.assert_allclose(people.keypoints[0], keypoints, atol=1.1 * max(fine, 1))
    bias = (people.keypoints[0] - keypoints).mean(axis=0)
    assert np.abs(bias).max() < 0.5 * max(fine, 1)
    assert people.scores.min() > 0.2
    assert people.scores.max() <= 1


def test_mirrored_crops_agree(models: Path) -> None:
    """With ``flip`` the network also sees the mirror image. Left and right then respond at each other's
    places, so half of each response remains where the keypoint is."""
    frame = draw((640, 480), [place((200, 90), 1.5)])
    plain, flipped = (load_detector(spec(models, more=f",flip={flip}"), "cpu") for flip in ("false", "true"))
    [one], [two] = plain.detect([frame]), flipped.detect([frame])
    nose = 0  # in the middle: it is its own partner
    np.testing.assert_allclose(two.keypoints[0, nose], one.keypoints[0, nose], atol=1.0)
    np.testing.assert_allclose(two.scores[0, nose], one.scores[0, nose], atol=0.15)


def test_flip_makes_mirrored_frames_agree_exactly(models: Path) -> None:
    frame = draw((640, 480), [place((220, 90), 1.5)])
    detector = load_detector(spec(models, more=",flip=true"), "cpu")
    [seen] = detector.detect([frame])
    [mirrored] = detector.detect([np.ascontiguousarray(frame[:, ::-1])])
    swap = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    back = mirrored.keypoints[0, swap] * (-1, 1) + (640, 0)
    close = np.abs(back - seen.keypoints[0]).max(axis=1) < 2.5
    assert close.mean() > 0.8  # elsewhere two places answer person_similarity, and rounding decides


def test_empty_frame_batches_and_identity(models: Path) -> None:
    detector = load_detector(spec(models), "cpu")
    assert detector.name == "rtmpose"
    assert detector.sha256 == f"{sha256_of(models / 'pose.onnx')}+{sha256_of(models / 'finder.onnx')}"
    frames = [draw((640, 480), [place((200 + 10 * i, 90), 1.5)]) for i in range(3)]
    frames.insert(1, draw((640, 480), []))
    whole = detector.detect(frames)
    assert [len(people) for people in whole] == [1, 0, 1, 1]
    detector.reset()
    for frame, people in zip(frames, whole, strict=True):
        [single] = detector.detect([frame])
        np.testing.assert_allclose(single.keypoints, people.keypoints, atol=1e-3)
        np.testing.assert_allclose(single.scores, people.scores, atol=1e-5)
    assert detector.detect([]) == []


def test_many_people_are_run_in_parts(models: Path, tmp_path: Path) -> None:
    """A model for one person per run and one for any number give the same result."""
    save_pose(tmp_path / "pose.onnx", batch=1)
    frames = [draw((640, 480), [place((200 + 10 * i, 90), 1.5)]) for i in range(3)]
    single = load_detector(spec(models, pose=str(tmp_path / "pose.onnx")), "cpu").detect(frames)
    parts = load_detector(spec(models, more=",crops=2"), "cpu").detect(frames)
    for one, other in zip(single, parts, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)


def test_read_simcc() -> None:
    columns, rows = np.full((1, 17, 384), -0.5, np.float32), np.full((1, 17, 512), -0.5, np.float32)
    columns[0, :, 0], rows[0, :, 511] = 0.8, 0.6
    columns[0, 3], rows[0, 3] = -0.2, -0.1
    columns[0, 4, 100] = 1.7
    points, scores = read_simcc(columns, rows)
    assert points[0, 0].tolist() == [0.5, 256.0]
    assert points[0, 4].tolist() == [50.5, 256.0]
    assert scores[0, 0] == pytest.approx(0.6)
    assert scores[0, 3] == 0
    assert scores.max() <= 1


def test_other_models_raise(models: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gives simcc_x, simcc_y, not dets and labels; it is another kind"):
        load_detector(spec(models, finder="pose.onnx"), "cpu")
    with pytest.raises(WeightsError, match="gives dets, labels, not simcc_x and simcc_y"):
        load_detector(spec(models, pose="finder.onnx"), "cpu")
    save_pose(tmp_path / "hand.onnx", joints=16)
    detector = load_detector(spec(models, pose=str(tmp_path / "hand.onnx")), "cpu")
    with pytest.raises(WeightsError, match=r"gives \(1, 16, 384\) .* instead of \(1, 17, 384\)"):
        detector.detect([draw((640, 480), [place((200, 90), 1.5)])])
    save_pose(tmp_path / "four.onnx", batch=4)
    with pytest.raises(WeightsError, match="takes 4 people at once"):
        load_detector(spec(models, pose=str(tmp_path / "four.onnx")), "cpu")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(WeightsError, match=r"weights text\.onnx is not an ONNX model"):
        load_detector(spec(models, pose=str(tmp_path / "text.onnx")), "cpu")


def test_invalid_options_raise(models: Path) -> None:
    with pytest.raises(ConfigError, match="unknown model 'xl' of rtmpose; choose one of s, m, l"):
        load_detector("rtmpose:model=xl")
    with pytest.raises(ConfigError, match="min_score within 0 and 1"):
        load_detector(spec(models, more=",min_score=2"))
    with pytest.raises(WeightsError, match=r"no weights '/nowhere/x\.onnx': neither a file nor a name"):
        load_detector("rtmpose:boxes_weights=/nowhere/x.onnx")


def test_models_are_fetched_on_first_use(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files come from zip archives, as OpenMMLab serves them, and their hashes are checked."""
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    for name, file in (("rtmdet-nano", "finder.onnx"), ("rtmpose-s", "pose.onnx")):
        archive = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(archive, "w") as content:
            content.write(models / file, f"20230831/{name}/end2end.onnx")
            content.writestr(f"20230831/{name}/pipeline.json", "{}")
        (bundled / f"{name}.onnx").write_bytes((models / file).read_bytes())
        add_to_manifest(
            bundled, f"{name}.onnx", name, kind="detector", licence="MIT", source="", trained_on="",
            url=archive.as_uri(), member="end2end.onnx",
        )  # fmt: skip
        (bundled / f"{name}.onnx").unlink()
    monkeypatch.setattr(weights, "weights_dir", lambda: bundled)
    detector = load_detector("rtmpose:model=s", "cpu")
    assert len(detector.detect([draw((640, 480), [place((200, 90), 1.5)])])[0]) == 1
    fetched = sorted(path.name for path in weights.user_weights_dir().iterdir())
    assert fetched == ["rtmdet-nano.onnx", "rtmpose-s.onnx"]


def test_shipped_manifest_knows_the_models() -> None:
    entries = {entry.name: entry for entry in weights.list_weights()}
    for name in ("rtmdet-nano", "rtmpose-s", "rtmpose-m", "rtmpose-l"):
        assert entries[name].member == "end2end.onnx"
        assert str(entries[name].url).endswith(".zip")
        assert entries[name].licence == "Apache-2.0"
        assert len(entries[name].sha256) == 64
