"""vp3d_cli/types.py: what passes between the stages."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vp3d_cli.types import Track2D, stretches


@given(st.lists(st.booleans(), max_size=40))
def test_stretches_are_all_that_is_true_and_do_not_touch(flags: list[bool]) -> None:
    found = stretches(np.array(flags, np.bool_))
    rebuilt = np.zeros(len(flags), np.bool_)
    for start, stop in found:
        assert start < stop
        rebuilt[start:stop] = True
    assert rebuilt.tolist() == flags
    assert all(before[1] < after[0] for before, after in pairwise(found))


def test_stretches_of_a_track_have_a_keypoint_in_each_frame() -> None:
    keypoints = np.full((6, 17, 2), np.nan, np.float32)
    keypoints[1:3, 4] = 10.0  # one joint is enough
    keypoints[4, 4, 0] = 10.0  # half of a position is not
    keypoints[5] = 10.0
    boxes = np.full((6, 4), np.nan, np.float32)
    track = Track2D(1, keypoints, np.zeros((6, 17), np.float32), boxes, np.zeros((6, 17), np.bool_))
    assert track.stretches == [(1, 3), (5, 6)]
    assert not track.present.any()  # nobody detected them: all of it was filled in


def test_a_track_over_the_whole_video() -> None:
    box = np.ones((2, 4), np.float32)
    track = Track2D(
        3, np.ones((2, 17, 2), np.float32), np.ones((2, 17), np.float32), box, np.ones((2, 17), np.bool_), 4
    )
    whole = track.over(9)
    assert (len(whole), whole.first, whole.person_id) == (9, 0, 3)
    assert np.flatnonzero(whole.present).tolist() == [4, 5] == list(range(9)[track.frames])
    assert np.isnan(whole.keypoints[:4]).all()
    assert not whole.scores[6:].any()
    assert whole.observed.any(axis=1).tolist() == whole.present.tolist()
