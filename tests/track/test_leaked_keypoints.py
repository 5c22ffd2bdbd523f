"""Keypoints that leak from an occluded person to the person in front are dropped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from test_tracker import SIZE_WH, Walker, as_detections

from vp3d_cli.skeletons import COCO17
from vp3d_cli.track import track_people
from vp3d_cli.types import Keypoints2D, Track2D

LEGS = [COCO17.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
FRONT, HIDDEN = Walker(300, 120, 400, phase=1.0), Walker(620, -40, 330, 580.0)  # who meet at two seconds
DURATION_S = 4.0

Change = Callable[[float, NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def seen(change: Change, fps: float = 30.0, jitter: float = 0.004) -> tuple[list[Keypoints2D], NDArray[np.float64]]:
    """Detections of both people; ``change`` returns the detected hidden person."""
    rng = np.random.default_rng(1)
    times = np.arange(round(DURATION_S * fps)) / fps
    frames = []
    for time_s in times:
        front, hidden = FRONT.keypoints(time_s), HIDDEN.keypoints(time_s)
        both = [front, change(time_s, front, hidden)]
        frames.append(as_detections([points + rng.normal(0, jitter * 400, (17, 2)) for points in both], [0.9, 0.6]))
    return frames, times


def tracks_of(change: Change, fps: float = 30.0, jitter: float = 0.004) -> tuple[Track2D, Track2D, NDArray[np.float64]]:
    """Tracks of the person in front and of the hidden person, and the times."""
    frames, times = seen(change, fps, jitter)
    tracks = track_people(frames, times, SIZE_WH)
    assert len(tracks) == 2
    first, second = sorted(tracks, key=lambda track: float(track.keypoints[0, 0, 0]))
    return first, second, times


def legs_jump(time_s: float, front: NDArray[np.float64], hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    """The legs of the hidden person jump for a quarter of a second."""
    changed = hidden.copy()
    if 1.1 <= time_s < 1.35:
        changed[LEGS] = front[LEGS]
    return changed


def as_it_is(time_s: float, front: NDArray[np.float64], hidden: NDArray[np.float64]) -> NDArray[np.float64]:
    return hidden


def box_error(track: Track2D, times: NDArray[np.float64], walker: Walker) -> NDArray[np.float64]:
    truth = np.stack([walker.keypoints(t) for t in times])
    edges = np.concatenate([truth.min(1) - 5, truth.max(1) + 5], axis=1)
    error: NDArray[np.float64] = np.abs(track.boxes_xyxy - edges).max(axis=1) / walker.height
    return error


@pytest.mark.parametrize("fps", [12.0, 30.0, 60.0])
def test_legs_that_leak_to_the_person_in_front_are_dropped(fps: float) -> None:
    front, hidden, times = tracks_of(legs_jump, fps)
    during = (times >= 1.1) & (times < 1.35)
    others = np.setdiff1d(np.arange(17), LEGS)
    assert not hidden.observed[during][:, LEGS].any()
    assert np.isnan(hidden.keypoints[during][:, LEGS]).all()
    assert (hidden.scores[during][:, LEGS] == 0).all()
    assert hidden.observed[:, others].all()
    assert hidden.observed[~during].all()
    assert front.observed.all()
    # Its box no longer reaches to the other one's feet; what is hidden of it cannot be known.
    frames, _ = seen(legs_jump, fps)
    reach = np.stack([frame.boxes_xyxy[1, 0] for frame in frames])
    assert (hidden.boxes_xyxy[during, 0] > reach[during] + 20).all()
    assert box_error(hidden, times, HIDDEN)[~during].max() < 0.05
    assert box_error(front, times, FRONT).max() < 0.05


@pytest.mark.parametrize("jitter", [0.004, 0.012])
def test_crossing_people_keep_all_keypoints(jitter: float) -> None:
    """The joints of both people coincide for a moment; no keypoint is dropped."""
    for track in tracks_of(as_it_is, jitter=jitter)[:2]:
        assert track.observed.all()


def test_one_person_keeps_all_keypoints() -> None:
    times = np.arange(60) / 30
    detections = [as_detections([FRONT.keypoints(t)]) for t in times]
    (track,) = track_people(detections, times, SIZE_WH)
    np.testing.assert_array_equal(track.boxes_xyxy, np.stack([frame.boxes_xyxy[0] for frame in detections]))
    assert track.observed.all()


def test_a_detection_on_the_other_person_is_dropped() -> None:
    """A detection with nearly all keypoints on the other person is dropped."""

    def all_but_the_face(time_s: float, front: NDArray[np.float64], hidden: NDArray[np.float64]) -> NDArray[np.float64]:
        changed = hidden.copy()
        if 1.2 <= time_s < 1.3:
            changed[5:] = front[5:]
        return changed

    front, hidden, times = tracks_of(all_but_the_face)
    during = (times >= 1.2) & (times < 1.3)
    assert not hidden.present[during].any()
    assert hidden.present[~during].all()
    assert front.observed.all()


def test_nothing_is_dropped_without_earlier_positions() -> None:
    """A joint that coincides with the other person's from the first frame is kept."""

    def from_the_beginning(
        time_s: float, front: NDArray[np.float64], hidden: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        changed = hidden.copy()
        if 1.0 <= time_s < 2.8:
            changed[LEGS] = front[LEGS]
        return changed

    _, hidden, times = tracks_of(from_the_beginning)
    middle = (times >= 1.6) & (times < 2.2)  # more than half a second from either side
    assert hidden.observed[middle & hidden.present].all()  # for a moment the two are taken for one
