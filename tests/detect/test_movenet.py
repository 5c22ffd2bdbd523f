"""MoveNet detector: square crops, search and tracking, mostly with simulated networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vp3d_cli.detect.base import load_detector
from vp3d_cli.detect.crops import SquareCrop, extract_square, square_around, wrap_angle
from vp3d_cli.detect.keypoint_similarity import keypoint_similarity
from vp3d_cli.detect.movenet import search
from vp3d_cli.detect.movenet.detector import URGENT_SEARCH_EVERY, MoveNetDetector
from vp3d_cli.detect.movenet.model import MultiPose, Person, SinglePose, person_similarity
from vp3d_cli.detect.movenet.person_tracking import (
    MAX_LOST_FRAMES,
    MAX_TILT,
    crop_angle,
    crop_around_person,
    person_score,
    torso_tilt,
)
from vp3d_cli.detect.movenet.search import PersonSearch, make_tiles, remove_duplicates
from vp3d_cli.errors import ConfigError, MissingDependencyError, WeightsError
from vp3d_cli.plugins import DETECTORS
from vp3d_cli.runtime import load
from vp3d_cli.skeletons import COCO17
from vp3d_cli.types import FrameBGR, Keypoints2D
from vp3d_cli.weights import add_to_manifest, find_weights

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.mp4"
ROIS = st.builds(
    SquareCrop,
    cx=st.floats(-500, 2500),
    cy=st.floats(-500, 2500),
    side=st.floats(16, 2000),
    angle=st.floats(-math.pi, math.pi),
)
# A person who stands upright with arms hanging, one unit tall from eyes to ankles, around (0, 0); COCO-17.
STANDING = np.array(
    [[0, -0.48], [0.02, -0.5], [-0.02, -0.5], [0.05, -0.49], [-0.05, -0.49], [0.12, -0.35], [-0.12, -0.35],
     [0.15, -0.17], [-0.15, -0.17], [0.16, 0], [-0.16, 0], [0.08, 0], [-0.08, 0], [0.09, 0.25], [-0.09, 0.25],
     [0.09, 0.5], [-0.09, 0.5]]
)  # fmt: skip


def standing(x: float, y: float, height: float, tilt: float = 0.0, score: float = 0.8) -> Person:
    """A person around (x, y), rotated clockwise by ``tilt``."""
    c, s = math.cos(tilt), math.sin(tilt)
    points = STANDING * height @ np.array([[c, s], [-s, c]]) + (x, y)
    return Person(points.astype(np.float32), np.full(17, score, np.float32), score)


# --- squares ---------------------------------------------------------------------------------------------------


@given(ROIS)
def test_square_to_image_and_back(roi: SquareCrop) -> None:
    points = np.array([[0, 0], [1, 0], [0.3, 0.9]])
    np.testing.assert_allclose(roi.from_image(roi.to_image(points)), points, atol=1e-9)
    np.testing.assert_allclose(roi.to_image(np.array([0.5, 0.5])), [roi.cx, roi.cy])


def test_rotated_square_points_up_along_its_angle() -> None:
    up = SquareCrop(100, 100, 50, math.pi / 2).to_image(np.array([0.5, 0.0]))
    np.testing.assert_allclose(up, [125, 100])  # turned clockwise by a quarter, up is right


@pytest.mark.parametrize("side", [60.0, 128.0, 200.0, 300.0, 700.0])  # enlarged, equal, and shrunk with averaging
@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 2, -2.5])
def test_crop_keeps_positions_to_a_tenth_of_a_pixel(side: float, angle: float) -> None:
    """A blob keeps its position: there is no offset of half a pixel."""
    y, x = np.mgrid[:600, :800] + 0.5  # centres of the pixels
    roi = SquareCrop(401.3, 298.6, side, angle)
    place = roi.to_image(np.array([0.6, 0.45]))
    blob = 250 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * (side / 25) ** 2))
    patch = extract_square(np.repeat(blob[..., None], 3, axis=2).astype(np.uint8), roi, 128)[..., 0].astype(float)
    v, u = np.mgrid[:128, :128] + 0.5
    found = np.array([(patch * u).sum(), (patch * v).sum()]) / patch.sum() / 128
    assert patch.shape == (128, 128)
    assert np.abs(found - (0.6, 0.45)).max() * 128 < 0.1


def test_crop_outside_the_image_is_black() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    assert extract_square(white, SquareCrop(-5000, 50, 3000), 64).max() == 0
    assert extract_square(white, SquareCrop(500, 50, 90), 64).max() == 0
    half = extract_square(white, SquareCrop(0, 50, 64), 64)
    assert half[:, :31].max() == 0
    assert half[:, 33:].min() == 255


def test_square_holds_the_person() -> None:
    for tilt in (0.0, 0.7, math.pi):
        person = standing(300, 200, 150, tilt)
        roi = crop_around_person(person, crop_angle(tilt))
        assert roi is not None
        inside = roi.from_image(person.keypoints)
        assert inside.min() > 0.05
        assert inside.max() < 0.95
        assert 150 < roi.side < 300


def test_square_has_room_for_unseen_limbs() -> None:
    person = standing(300, 200, 150)
    torso_only = np.where(np.isin(np.arange(17), (5, 6, 11, 12)), 0.9, 0.0).astype(np.float32)
    roi = square_around(person.keypoints, torso_only, min_score=0.2, padding=1.25)
    assert roi is not None
    assert roi.side > 150
    assert square_around(person.keypoints, np.zeros(17, np.float32), min_score=0.2, padding=1.25) is None


@pytest.mark.parametrize("degrees", [-170, -90, -30, 0, 14, 16, 100, 180])
def test_tilt_and_angle(degrees: float) -> None:
    tilt = torso_tilt(standing(0, 0, 100, math.radians(degrees)))
    assert tilt is not None
    assert wrap_angle(tilt - math.radians(degrees)) == pytest.approx(0, abs=1e-6)
    left = wrap_angle(tilt - crop_angle(tilt))
    assert abs(left) <= MAX_TILT + 1e-9
    assert crop_angle(tilt) == 0 or abs(degrees) > 15
    assert torso_tilt(Person(STANDING.astype(np.float32), np.zeros(17, np.float32), 0)) is None


def test_similarity() -> None:
    person, ones = standing(0, 0, 100), np.ones(17)
    assert person_similarity(person, person) == pytest.approx(1)
    assert person_similarity(person, person.moved(np.array([300.0, 0]))) < 1e-3
    near, far = (person_similarity(person, person.moved(np.array([d, 0.0]))) for d in (5, 15))
    assert 1 > near > far > 0
    assert keypoint_similarity(person.keypoints, person.keypoints, np.zeros(17), 10) == 0
    assert keypoint_similarity(person.keypoints, person.keypoints, ones, 0) == 0


def test_person_score_of_half_a_person_is_as_high() -> None:
    half = np.where(np.arange(17) < 9, 0.8, 0.05).astype(np.float32)
    assert person_score(half) == pytest.approx(0.8)


# --- search ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 9000), st.integers(1, 9000))
@settings(deadline=None)
def test_tiles_cover_the_frame(width: int, height: int) -> None:
    tiles = make_tiles(width, height)
    assert min(t.x0 for t in tiles) == min(t.y0 for t in tiles) == 0
    assert (max(t.x1 for t in tiles), max(t.y1 for t in tiles)) == (width, height)
    row = [t for t in tiles if t.y0 == 0]
    column = [t for t in tiles if t.x0 == 0]
    assert len(tiles) == len(row) * len(column) <= 16
    assert all(first.x0 < second.x0 < first.x1 for first, second in itertools.pairwise(row))
    assert all(first.y0 < second.y0 < first.y1 for first, second in itertools.pairwise(column))


@pytest.mark.parametrize(
    ("size_wh", "count"), [((640, 480), 1), ((768, 432), 2), ((1280, 720), 4), ((1080, 1920), 6), ((3840, 2160), 16)]
)
def test_number_of_tiles(size_wh: tuple[int, int], count: int) -> None:
    assert len(make_tiles(*size_wh)) == count


def test_remove_duplicates_keeps_the_best() -> None:
    best, worse, other = standing(0, 0, 99, score=0.9), standing(3, 0, 99, score=0.4), standing(200, 0, 99)
    assert remove_duplicates([worse, other, best]) == [best, other]


WIDTH, HEIGHT = 640, 480
Script = Callable[[int], list[Person]]  # frame number -> who is there


def frames_of(count: int, start: int = 0) -> list[FrameBGR]:
    """Frames whose pixels encode position (blue, green: x, y in fours) and frame number (red)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] // 4
    return [np.stack([x, y, np.full_like(x, n)], axis=-1).astype(np.uint8) for n in range(start, start + count)]


class FakeMultiPose(MultiPose):
    """Finds the scripted people who are 50 to 300 pixels tall in its input; counts its calls."""

    def __init__(self, script: Script) -> None:
        self.sha256, self.script = "0" * 64, script
        self.calls: list[tuple[int, int]] = []  # frame, pixels of the view's width

    def __call__(self, image: FrameBGR, long_side: int) -> list[Person]:
        x, y, number = (int(v) for v in image[0, 0])
        height, width = image.shape[:2]
        self.calls.append((number, width))
        found = []
        for person in self.script(number):
            moved = person.moved(np.array([-4.0 * x, -4.0 * y]))
            centre = moved.keypoints.mean(axis=0)
            tall = moved.size_px(0) * long_side / max(height, width)
            if 50 <= tall <= 300 and (centre > 0).all() and (centre < (width, height)).all():
                found.append(moved)
        return found


class FakeSinglePose(SinglePose):
    """Finds the scripted person nearest to the centre of the crop, tilted by at most 60 degrees."""

    def __init__(self, script: Script) -> None:
        self.sha256, self.script, self.size, self.calls = "1" * 64, script, 256, 0

    def __call__(self, image: FrameBGR, roi: SquareCrop) -> Person:
        self.calls += 1
        nobody = Person(np.full((17, 2), (roi.cx, roi.cy), np.float32), np.full(17, 0.05, np.float32), 0)
        nearest, best = nobody, 0.5
        for person in self.script(int(image[0, 0, 2])):
            off = float(np.abs(roi.from_image(person.keypoints).mean(axis=0) - 0.5).max())
            tilt = torso_tilt(person) or 0.0
            if off < best and 0.2 < person.size_px(0) / roi.side < 1:
                upright = abs(wrap_angle(tilt - roi.angle)) < math.radians(60)
                best, nearest = off, person if upright else nobody
        return nearest


def detector_of(script: Script, **options: float) -> MoveNetDetector:
    """MoveNet detector with simulated networks."""
    chosen = {"search_every": 8, "max_people": 20, "min_size_px": 30.0, **options}
    return MoveNetDetector(
        "fake",
        FakeSinglePose(script),
        FakeMultiPose(script),
        search_every=int(chosen["search_every"]),
        max_people=int(chosen["max_people"]),
        min_size_px=chosen["min_size_px"],
    )


def centres(people: Keypoints2D) -> list[tuple[int, int]]:
    """Positions of all people from left to right, whole pixels."""
    return sorted((round(float(x)), round(float(y))) for x, y in people.keypoints.mean(axis=1))


def expected(script: Script, number: int) -> list[tuple[int, int]]:
    """Positions of all people in the script."""
    means = [person.keypoints.mean(axis=0) for person in script(number)]
    return sorted((round(float(x)), round(float(y))) for x, y in means)


@pytest.fixture
def _four_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split the small simulated frames into four tiles."""
    monkeypatch.setattr(search, "TILE_PX", 320)


@pytest.mark.usefixtures("_four_tiles")
def test_partial_searches_cover_the_frame() -> None:
    multi = FakeMultiPose(lambda n: [standing(600, 440, 45)])  # too small for the whole frame, in the last tile
    finder = PersonSearch(multi)
    [frame] = frames_of(1)
    assert finder.full_frame(frame) == []
    assert len(finder.full_frame_and_tiles(frame)) == 1
    assert [len(finder.one_part(frame, turn)) for turn in range(16)] == [0] * 7 + [1] + [0] * 7 + [1]


@pytest.mark.usefixtures("_four_tiles")
def test_all_people_are_tracked_from_the_first_frame() -> None:
    def script(n: int) -> list[Person]:
        return [standing(100 + 8 * n, 200, 150), standing(500 - 5 * n, 260, 220), standing(320, 400, 45)]

    detector = detector_of(script)
    for n, people in enumerate(detector.detect(frames_of(20))):
        assert centres(people) == expected(script, n)
        assert len(people) == 3


def test_new_people_are_found_within_two_searches() -> None:
    def script(n: int) -> list[Person]:
        return [standing(150, 240, 200)] + ([standing(450, 240, 200)] if n >= 10 else [])

    counts = [len(people) for people in detector_of(script).detect(frames_of(30))]
    assert counts[:10] == [1] * 10
    assert counts[26:] == [2] * 4


def test_an_empty_scene_is_searched_often_and_cheaply() -> None:
    def script(n: int) -> list[Person]:
        return [standing(300, 240, 200)] if 20 <= n < 40 else []

    detector = detector_of(script)
    counts = [len(people) for people in detector.detect(frames_of(60))]
    assert counts[20 + URGENT_SEARCH_EVERY : 40] == [1] * (20 - URGENT_SEARCH_EVERY)
    assert counts[:20] == [0] * 20
    assert counts[40:] == [0] * 20
    searched = {number for number, _ in detector._search._network.calls}  # type: ignore[attr-defined]
    assert len(searched) < 35


def test_crossing_people_never_share_a_skeleton() -> None:
    """Two people cross; while they coincide the network sees one of them."""

    def both(n: int) -> list[Person]:
        return [standing(100 + 10 * n, 240, 200), standing(540 - 10 * n, 245, 200)]

    def script(n: int) -> list[Person]:
        people = both(n)
        return people[:1] if abs(people[0].keypoints[0, 0] - people[1].keypoints[0, 0]) < 60 else people

    results = detector_of(script).detect(frames_of(45))
    for n, people in enumerate(results):
        found = centres(people)
        assert len(set(found)) == len(found)
        assert set(found) <= set(expected(both, n))
    assert all(len(people) == 2 for people in (*results[:19], *results[-10:]))


def test_a_briefly_hidden_person_is_found_again_at_once() -> None:
    def script(n: int) -> list[Person]:
        return [] if 10 <= n < 15 else [standing(300, 240, 200)]

    counts = [len(people) for people in detector_of(script, search_every=1000).detect(frames_of(25))]
    assert counts == [1] * 10 + [0] * 5 + [1] * 10


def test_a_lost_person_is_dropped() -> None:
    def script(n: int) -> list[Person]:
        return [standing(300, 240, 200)] if n < 3 else []

    detector = detector_of(script)
    detector.detect(frames_of(4 + MAX_LOST_FRAMES))
    single = detector._person_tracker._network
    assert isinstance(single, FakeSinglePose)
    before = single.calls
    assert all(len(people) == 0 for people in detector.detect(frames_of(10, start=4 + MAX_LOST_FRAMES)))
    assert single.calls == before


def test_a_somersault_is_tracked() -> None:
    """The network sees only nearly upright people: 24 degrees per frame, then half a turn."""

    def script(n: int) -> list[Person]:
        return [standing(300, 240, 200, math.radians(24 * n if n < 15 else 180))]

    results = detector_of(script, search_every=1000).detect(frames_of(20))
    assert [len(people) for people in results][:15] == [1] * 15
    assert all(len(people) == 1 for people in results[18:])
    np.testing.assert_allclose(results[7].keypoints[0], script(7)[0].keypoints)


@pytest.mark.usefixtures("_four_tiles")
def test_limits_on_people_and_size() -> None:
    def script(n: int) -> list[Person]:
        return [standing(100 + 150 * i, 240, height) for i, height in enumerate((200, 150, 100, 40))]

    [frame] = frames_of(1)
    assert len(detector_of(script).detect([frame])[0]) == 4
    assert len(detector_of(script, min_size_px=120).detect([frame])[0]) == 2
    assert len(detector_of(script, max_people=1).detect([frame])[0]) == 1


def test_reset_clears_the_state() -> None:
    def script(n: int) -> list[Person]:
        return [standing(100 + 4 * n, 200, 150)]

    detector = detector_of(script)
    frames = frames_of(12)
    first = detector.detect(frames)
    detector.reset()
    again = detector.detect(frames)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


# --- the real networks -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame() -> FrameBGR:
    """Frame of the example clip: a man on a wall and a walking woman."""
    capture = cv2.VideoCapture(str(DEMO))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 84)
    image: FrameBGR = capture.read()[1]
    capture.release()
    return image


def test_small_people_are_found(frame: FrameBGR) -> None:
    """The walking woman at a fifteenth of the height of a full-HD frame, in a corner."""
    canvas = np.full((1080, 1920, 3), 127, np.uint8)
    small = cv2.resize(frame[500:, 900:1440], None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    canvas[900 : 900 + small.shape[0], 200 : 200 + small.shape[1]] = small
    [people] = load_detector("movenet", "cpu", threads=1).detect([canvas])
    assert len(people) == 1
    truth = np.array([200 + 210 / 5, 900 + 60 / 5, 200 + 346 / 5, 900 + 430 / 5])  # from the box at full size
    assert np.abs(people.boxes_xyxy[0] - truth).max() < 15
    assert people.person_scores[0] > 0.7


def test_an_upside_down_person_is_found_and_tracked(frame: FrameBGR) -> None:
    walker = np.ascontiguousarray(frame[500:994, 900:1440][::-1, ::-1])
    upright, turned = load_detector("movenet", "cpu", threads=1), load_detector("movenet", "cpu", threads=1)
    [reference] = upright.detect([np.ascontiguousarray(walker[::-1, ::-1])])
    first = turned.detect([walker] * 3)[-1]
    assert len(reference) == len(first) == 1
    confident = np.minimum(reference.scores, first.scores)[0] > 0.4
    back = np.array([540, 494]) - first.keypoints[0]
    assert confident.sum() > 10
    assert np.median(np.abs(back - reference.keypoints[0])[confident]) < 8


def test_flip_makes_mirrored_frames_agree(frame: FrameBGR) -> None:
    """With ``flip`` a mirrored frame gives mirrored keypoints, except for rounding of the crop."""
    network = SinglePose("movenet-thunder", "cpu", 1, flip=True)
    roi = SquareCrop(1178, 745, 460)
    person = network(frame, roi)
    mirrored = network(np.ascontiguousarray(frame[:, ::-1]), SquareCrop(1768 - roi.cx, roi.cy, roi.side))
    swap = list(COCO17.flip_order)
    back = np.array([1768, 0]) + mirrored.keypoints[swap] * (-1, 1)
    assert person_score(person.scores) > 0.7
    assert np.abs(back - person.keypoints).max() < 0.01 * roi.side
    np.testing.assert_allclose(mirrored.scores[swap], person.scores, atol=0.05)


def test_multipose_takes_any_shape(frame: FrameBGR) -> None:
    network = MultiPose(device="cpu", threads=1)
    for view in (frame, frame[:, 400:800], frame[::9, ::9]):
        for person in network(np.ascontiguousarray(view), 256):
            assert person.keypoints.shape == (17, 2)
            assert (person.keypoints < (1.1 * view.shape[1], 1.1 * view.shape[0])).all()
    assert network(np.zeros((1, 1, 3), np.uint8), 32) == []


def test_cuda_without_a_runtime_for_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "is_present", lambda target: target.device == "CPU")
    with pytest.raises(MissingDependencyError, match=r"--device cuda: no runtime here .*vp3d\[cuda\]"):
        load_detector("movenet", "cuda")


@pytest.mark.parametrize("option", ["search_every", "max_people"])
def test_options_out_of_range_raise(option: str) -> None:
    with pytest.raises(ConfigError, match=f"detector movenet: {option} must be at least 1, got 0"):
        DETECTORS.get("movenet").load("cpu", **{option: 0})


def test_foreign_weights_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VP3D_HOME", str(tmp_path))
    facts = {"kind": "detector", "licence": "", "source": "", "trained_on": ""}
    own = tmp_path / "weights"
    own.mkdir()
    (own / "junk.onnx").write_bytes(b"not a network")
    add_to_manifest(own, "junk.onnx", "movenet-thunder", **facts)
    with pytest.raises(WeightsError, match="weights movenet-thunder is not an ONNX model"):
        load_detector("movenet")
    (own / "other.onnx").write_bytes(find_weights("movenet-multipose").path.read_bytes())
    add_to_manifest(own, "other.onnx", "movenet-thunder", **facts)
    with pytest.raises(WeightsError, match="weights movenet-thunder: not a single-person MoveNet"):
        load_detector("movenet")
