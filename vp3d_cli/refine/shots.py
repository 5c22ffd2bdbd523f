"""World space of a video with cuts: each camera shot has its own up direction and floor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.refine.floor import AssumedHeight
from vp3d_cli.refine.world import WorldMotion, to_world
from vp3d_cli.types import DoubleArray, FloatArray


def to_world_by_shot(
    joints_3d: Sequence[FloatArray],
    trajectory: Sequence[FloatArray],
    confidence: Sequence[NDArray[np.floating]],
    times_s: DoubleArray,
    first: Sequence[int],
    shot_starts: Sequence[int] = (),
    *,
    foot_confidence: Sequence[NDArray[np.floating]] | None = None,
    heights: Sequence[AssumedHeight] | None = None,
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Transform the motion of all people to world space, shot by shot.

    Args:
        joints_3d, trajectory, confidence, times_s, first, foot_confidence, heights: see
            :func:`vp3d_cli.refine.world.to_world`.
        shot_starts: frames that begin a new camera shot.

    Returns:
        For each person (t, 17, 3) metres in world space, and (t,) the factor of their size and distance.
    """
    people = len(joints_3d)
    placed = [np.full(joints.shape, np.nan, np.float32) for joints in joints_3d]
    scales = [np.ones(len(joints), np.float32) for joints in joints_3d]
    edges = [0, *sorted({start for start in shot_starts if 0 < start < len(times_s)}), len(times_s)]
    for start, stop in pairwise(edges):
        rows = [_rows(first[i], len(joints_3d[i]), start, stop) for i in range(people)]
        here = [i for i in range(people) if rows[i].stop > rows[i].start]
        if not here:
            continue
        world: WorldMotion = to_world(
            [joints_3d[i][rows[i]] for i in here],
            [trajectory[i][rows[i]] for i in here],
            [confidence[i][rows[i]] for i in here],
            times_s[start:stop],
            [max(first[i] - start, 0) for i in here],
            foot_confidence=None if foot_confidence is None else [foot_confidence[i][rows[i]] for i in here],
            heights=None if heights is None else [heights[i] for i in here],
        )
        for own, i in enumerate(here):
            placed[i][rows[i]], scales[i][rows[i]] = world.joints_world[own], world.scales[own]
    return placed, scales


def _rows(first: int, count: int, start: int, stop: int) -> slice:
    """Rows of a person's ``count`` frames, from frame ``first``, that lie between two frames of the video."""
    low = min(max(start - first, 0), count)
    return slice(low, max(low, min(stop - first, count)))
