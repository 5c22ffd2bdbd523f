"""Tracking: one identity per person through crossings, misses, false people and cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vp3d_cli.errors import ConfigError, NobodyFoundError, ShapeError
from vp3d_cli.track import CutDetector, select_in_roi, select_people, track_people
from vp3d_cli.types import Keypoints2D, Track2D

SIZE_WH = (1280, 720)
# A standing person of height 1 seen from the front, feet at (0, 0), y down: COCO-17.
STANDING = np.array(
    [
        [0, -0.93], [0.02, -0.95], [-0.02, -0.95], [0.04, -0.94], [-0.04, -0.94],
        [0.1, -0.82], [-0.1, -0.82], [0.13, -0.64], [-0.13, -0.64], [0.14, -0.48], [-0.14, -0.48],
        [0.06, -0.52], [-0.06, -0.52], [0.06, -0.28], [-0.06, -0.28], [0.06, -0.03], [-0.06, -0.03],
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Walker:
    """A person who walks through the image in a straight line."""

    start_x: float  # pixels at time 0
    speed: float  # pixels per second
    height: float  # pixels
    ground_y: float = 600.0
    phase: float = 0.0

    def keypoints(self, time_s: float) -> NDArray[np.float64]:
        """(17, 2) pixels: arms and legs swing, two steps a second."""
        body = STANDING.copy()
        swing = np.sin(2 * np.pi * time_s + self.phase)
        for joint, reach in ((13, 0.06), (15, 0.14), (8, 0.04), (10, 0.1)):
            body[joint, 0] += reach * swing
        for joint, reach in ((14, 0.06), (16, 0.14), (7, 0.04), (9, 0.1)):
            body[joint, 0] -= reach * swing
        return body * self.height + [self.start_x + self.speed * time_s, self.ground_y]


def box_around(keypoints: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([keypoints.min(0) - 5, keypoints.max(0) + 5])


def as_detections(people: Sequence[NDArray[np.float64]], scores: Sequence[float] | None = None) -> Keypoints2D:
    if not people:
        return Keypoints2D.empty()
    points = np.stack(people)
    person = np.array(scores if scores is not None else [0.8] * len(points), np.float32)
    return Keypoints2D(
        np.stack([box_around(p) for p in points]).astype(np.float32),
        points.astype(np.float32),
        np.repeat(person[:, None], 17, 1),
        person,
    )


@dataclass(frozen=True)
class Scene:
    detections: list[Keypoints2D]
    times_s: NDArray[np.float64]
    truth: NDArray[np.float64]  # (P, T, 4), NaN where hidden or out of view


def film(
    walkers: Sequence[Walker],
    *,
    fps: float = 30.0,
    seconds: float = 8.0,
    miss: float = 0.05,
    false_people: float = 0.05,
    double: float = 0.03,
    seed: int = 0,
) -> Scene:
    """Simulated detections with jitter, misses, false and duplicate people, and occlusions.

    Walkers are sorted by depth: the earlier one is in front.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * fps)) / fps
    truth = np.full((len(walkers), len(times), 4), np.nan)
    frames = []
    for t, time in enumerate(times):
        found: list[NDArray[np.float64]] = []
        scores: list[float] = []
        in_front: list[NDArray[np.float64]] = []
        for p, walker in enumerate(walkers):
            points = walker.keypoints(float(time))
            noisy = points + rng.normal(0, 0.01 * walker.height, points.shape)
            if not 0 < points[:, 0].mean() < SIZE_WH[0]:
                continue
            centre = points[:, 0].mean()
            gaps = [abs(centre - f[:, 0].mean()) / np.ptp(f[:, 1]) for f in in_front]
            hidden = any(g < 0.08 for g in gaps)
            in_front.append(points)
            if hidden:
                continue
            truth[p, t] = box_around(points)
            if any(g < 0.2 for g in gaps):  # half hidden: the far side is a guess
                noisy[rng.random(17) < 0.4] += rng.normal(0, 0.08 * walker.height, 2)
            if rng.random() < miss:
                continue
            found.append(noisy)
            scores.append(rng.uniform(0.6, 0.9))
            if rng.random() < double:
                found.append(noisy + rng.normal(0, 0.01 * walker.height, points.shape))
                scores.append(0.5)
        if rng.random() < false_people:
            found.append(STANDING * rng.uniform(60, 300) + rng.uniform(0, 1, 2) * SIZE_WH)
            scores.append(rng.uniform(0.2, 0.4))
        order = rng.permutation(len(found))
        frames.append(as_detections([found[i] for i in order], [scores[i] for i in order]))
    return Scene(frames, times, truth)


def idf1(scene: Scene, tracks: Sequence[Track2D]) -> float:
    """Identity F1 (Ristani et al. 2016) at IoU 0.5 under the best assignment of identities."""
    hits = np.zeros((len(scene.truth), len(tracks)))
    for p, boxes in enumerate(scene.truth):
        for k, track in enumerate(track.over(len(boxes)) for track in tracks):
            low = np.maximum(boxes[:, :2], track.boxes_xyxy[:, :2])
            high = np.minimum(boxes[:, 2:], track.boxes_xyxy[:, 2:])
            inter = np.prod(np.clip(high - low, 0, None), axis=1)
            union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - inter
            union += np.prod(track.boxes_xyxy[:, 2:] - track.boxes_xyxy[:, :2], axis=1)
            hits[p, k] = np.nansum(inter / union >= 0.5)
    rows, columns = linear_sum_assignment(-hits)
    total = np.isfinite(scene.truth[..., 0]).sum() + sum(t.present.sum() for t in tracks)
    return float(2 * hits[rows, columns].sum() / total)


def crowd(people: int, seed: int) -> list[Walker]:
    """People who cross at the centre of the image within two seconds."""
    rng = np.random.default_rng([seed, people])
    walkers = []
    for i in range(people):
        height = 420 - 45 * i
        speed = rng.uniform(0.45, 0.9) * height * (1 if i % 2 else -1)
        middle = rng.uniform(3.0, 5.0)
        walkers.append(Walker(640 - speed * middle, speed, height, 640 - 20 * i, rng.uniform(0, 6)))
    return walkers


@pytest.mark.parametrize("people", [2, 3, 4, 6])
def test_crossing_people_keep_their_identity(people: int) -> None:
    scores = []
    for seed in range(3):
        scene = film(crowd(people, seed), seed=seed)
        scores.append(idf1(scene, track_people(scene.detections, scene.times_s, SIZE_WH)))
    assert np.mean(scores) >= 0.95  # 5 % misses alone cost 0.026


@pytest.mark.parametrize("fps", [10.0, 60.0, 120.0])
def test_frame_rate_does_not_matter(fps: float) -> None:
    scene = film(crowd(3, 1), fps=fps, seed=5)
    tracks = track_people(scene.detections, scene.times_s, SIZE_WH)
    assert len(tracks) == 3
    assert idf1(scene, tracks) >= 0.95


def test_many_misses_break_no_track() -> None:
    scene = film(crowd(3, 2), miss=0.2, seed=3)
    tracks = track_people(scene.detections, scene.times_s, SIZE_WH)
    assert len(tracks) == 3
    assert idf1(scene, tracks) >= 0.86  # 2 * 0.8 / (1 + 0.8) = 0.89 is the most that can be had


def test_resolution_does_not_matter() -> None:
    scene = film(crowd(3, 4), seed=4)
    small = [Keypoints2D(d.boxes_xyxy / 4, d.keypoints / 4, d.scores, d.person_scores) for d in scene.detections]
    full = track_people(scene.detections, scene.times_s, SIZE_WH)
    quarter = track_people(small, scene.times_s, (320, 180))
    assert [t.frames for t in full] == [t.frames for t in quarter]
    np.testing.assert_allclose(full[0].keypoints / 4, quarter[0].keypoints, atol=1e-4)


def test_order_within_a_frame_does_not_matter() -> None:
    scene = film(crowd(3, 6), seed=6)
    turned = [d.select(list(range(len(d)))[::-1]) for d in scene.detections]
    for a, b in zip(
        track_people(scene.detections, scene.times_s, SIZE_WH),
        track_people(turned, scene.times_s, SIZE_WH),
        strict=True,
    ):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def steady(walker: Walker, times: NDArray[np.float64], seen: NDArray[np.bool_]) -> list[Keypoints2D]:
    return [as_detections([walker.keypoints(float(t))] if s else []) for t, s in zip(times, seen, strict=True)]


@pytest.mark.parametrize(("away_s", "expected"), [(0.5, 1), (1.5, 1), (4.0, 2)])
def test_someone_who_reappears_is_the_same_person_for_two_seconds(away_s: float, expected: int) -> None:
    times = np.arange(300) / 30
    seen = (times < 3) | (times >= 3 + away_s)
    detections = steady(Walker(100, 60, 300), times, seen)
    tracks = track_people(detections, times, SIZE_WH)
    assert len(tracks) == expected
    assert sum(t.present.sum() for t in tracks) == seen.sum()


def test_short_tracks_are_dropped_except_in_a_single_frame() -> None:
    times = np.arange(120) / 30
    person, stray = Walker(300, 40, 300), Walker(900, 0, 200)
    detections = [
        as_detections([person.keypoints(float(t))] + ([stray.keypoints(0.0)] if 50 <= i < 54 else []))
        for i, t in enumerate(times)
    ]
    assert len(track_people(detections, times, SIZE_WH)) == 1
    assert len(track_people(detections[50:51], times[:1], SIZE_WH)) == 2


def test_a_second_detection_of_the_same_person_is_not_a_person() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(120) / 30
    walker = Walker(300, 40, 300)
    detections = []
    for i, time in enumerate(times):
        body = walker.keypoints(float(time))
        copies = [body] + ([body + rng.normal(0, 6, body.shape) + 8] if i % 3 else [])
        detections.append(as_detections(copies, [0.8, 0.6][: len(copies)]))
    assert len(track_people(detections, times, SIZE_WH)) == 1


def test_a_cut_ends_all_tracks() -> None:
    times = np.arange(120) / 30
    detections = steady(Walker(300, 40, 300), times, np.ones(120, bool))
    assert len(track_people(detections, times, SIZE_WH)) == 1
    tracks = track_people(detections, times, SIZE_WH, cuts=[70])
    assert sorted((t.frames.start, t.frames.stop) for t in tracks) == [(0, 70), (70, 120)]


def test_main_person_comes_first_and_numbers_follow() -> None:
    times = np.arange(150) / 30
    small, large = Walker(100, 20, 120, 300), Walker(640, 0, 500, 700)
    passing = Walker(-100, 500, 300)
    detections = [
        as_detections([w.keypoints(float(t)) for w in (small, passing, large)][: 3 if t < 2.5 else 2] if t < 2.5
                      else [small.keypoints(float(t)), large.keypoints(float(t))])
        for t in times
    ]  # fmt: skip
    tracks = track_people(detections, times, SIZE_WH)
    assert [t.person_id for t in tracks] == [1, 2, 3]
    assert np.nanmedian(np.diff(tracks[0].boxes_xyxy[:, [1, 3]])) > 400
    only = track_people(detections, times, SIZE_WH, max_people=1)
    assert len(only) == 1
    np.testing.assert_array_equal(only[0].keypoints, tracks[0].keypoints)


def test_missing_stays_missing() -> None:
    times = np.arange(60) / 30
    detections = steady(Walker(300, 40, 300), times, np.arange(60) % 10 != 5)
    for d in detections:
        d.keypoints[:, 15] = np.nan
        d.scores[:, 15] = 0.0
    (track,) = track_people(detections, times, SIZE_WH)
    gap = ~track.present
    assert gap.sum() == 6
    assert np.isnan(track.keypoints[gap]).all()
    assert not track.scores[gap].any()
    assert not track.observed[gap].any()
    assert np.isnan(track.keypoints[:, 15]).all()
    assert not track.observed[:, 15].any()
    assert track.observed[~gap][:, :15].all()


def test_frames_without_people_give_no_tracks() -> None:
    assert track_people([Keypoints2D.empty()] * 5, np.arange(5) / 30, SIZE_WH) == []
    assert track_people([], [], SIZE_WH) == []


def test_invalid_input_raises() -> None:
    detections = [Keypoints2D.empty()] * 3
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        track_people(detections, [0.0, 0.1], SIZE_WH)
    with pytest.raises(ConfigError, match=r"frame 2 is at 0\.1"):
        track_people(detections, [0.0, 0.1, 0.1], SIZE_WH)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        track_people(detections, [0.0, 0.1, 0.2], SIZE_WH, max_people=0)


@pytest.fixture(scope="module")
def three() -> list[Track2D]:
    """Three people: 1 in all frames; 2 the largest; 3 the smallest, central, shortest."""
    times = np.arange(150) / 30
    left, right, middle = Walker(250, 0, 400), Walker(1050, 0, 500, 650), Walker(640, 0, 150, 450)
    detections = []
    for time in times:
        people = [left] + ([right] if time < 3 else []) + ([middle] if time < 2 else [])
        detections.append(as_detections([p.keypoints(float(time)) for p in people]))
    tracks = track_people(detections, times, SIZE_WH)
    assert [int(t.present.sum()) for t in tracks] == [150, 90, 60]
    return tracks


@pytest.mark.parametrize(("which", "expected"), [("longest", 1), ("largest", 2), ("central", 3), ("2", 2), (3, 3)])
def test_select_a_person(three: list[Track2D], which: str | int, expected: int) -> None:
    assert [t.person_id for t in select_people(three, which, SIZE_WH)] == [expected]


def test_selection_error_lists_the_people(three: list[Track2D]) -> None:
    with pytest.raises(ConfigError, match="no person 7; people in this video: 1, 2, 3"):
        select_people(three, "7", SIZE_WH)
    with pytest.raises(ConfigError, match="largest, central, longest"):
        select_people(three, "tallest", SIZE_WH)
    with pytest.raises(NobodyFoundError):
        select_people([], "largest", SIZE_WH)


def test_select_in_a_region(three: list[Track2D]) -> None:
    assert [t.person_id for t in select_in_roi(three, (0, 0, 700, 720))] == [1, 3]
    with pytest.raises(NobodyFoundError, match="region"):
        select_in_roi(three, (0, 0, 50, 50))
    with pytest.raises(ConfigError, match="w, h > 0"):
        select_in_roi(three, (0, 0, 0, 50))


def scenery(seed: int) -> NDArray[np.uint8]:
    """A wide still image with large and small structure."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (5, 12, 3), dtype=np.uint8), (960, 240), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.integers(0, 60, (40, 160, 3), dtype=np.uint8), (960, 240))
    return np.clip(0.8 * coarse + fine, 0, 255).astype(np.uint8)


def cuts_of(images: Sequence[NDArray[np.uint8]]) -> list[int]:
    detector = CutDetector()
    return [i for i, image in enumerate(images) if detector.update(image)]


def test_cuts_between_scenes_are_found() -> None:
    shots = [np.ascontiguousarray(scenery(seed)[:, 100:420]) for seed in range(6)]
    assert cuts_of([image for image in shots for _ in range(10)]) == [10, 20, 30, 40, 50]


def test_motion_is_not_a_cut() -> None:
    wide = scenery(1)
    pan = [np.ascontiguousarray(wide[:, x : x + 320]) for x in range(0, 600, 12)]
    assert cuts_of(pan) == []
    walk = []
    for x in range(-200, 400, 40):  # someone near the camera, more than half the image wide
        image = wide[:, :320].copy()
        image[:, max(x, 0) : max(x + 180, 0)] = (20, 30, 160)
        walk.append(image)
    assert cuts_of(walk) == []


def test_a_flash_is_not_a_cut() -> None:
    image = scenery(2)[:, :320]
    bright = np.clip(image * 0.6 + 100, 0, 255).astype(np.uint8)
    assert cuts_of([image] * 5 + [bright] + [image] * 5) == []
    assert cuts_of([np.zeros_like(image)] * 3) == []


def test_the_example_clip_has_no_cut() -> None:
    capture = cv2.VideoCapture(str(Path(__file__).parents[2] / "examples" / "demo.mp4"))
    images = []
    while (frame := capture.read())[0] and len(images) < 50:
        images.append(frame[1])
    capture.release()
    assert len(images) == 50
    assert cuts_of(images) == []
    assert cuts_of([*images[:20], *(np.ascontiguousarray(i[::-1]) for i in images[20:40])]) == [20]
