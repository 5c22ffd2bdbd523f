"""Association of tracklets over gaps by global assignment.

The whole video is available, so all joins are chosen together instead of frame by frame. The end of each tracklet is
extrapolated forward and the beginning of each later one backward with a nearly-constant-velocity model (white-noise
acceleration; Bar-Shalom et al. 2001, section 6.2.2). This gives the probability that both are one person. It is
compared with the probability that one person left and another one appeared.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.track.detections import IntArray, compare_poses, index_pairs
from vp3d_cli.track.tracklets import VELOCITY_SD, TrackletEnds, two_smallest
from vp3d_cli.types import DoubleArray

_PLACE_SD = 0.05  # body heights: position of a pose, at an end and at a beginning
_BARE_PLACE_SD = 0.25  # the same where the two poses share no keypoint
_TOP_SPEED = 4.0  # body heights per second over a gap
_SIZE_SD, _SIZE_SD_PER_S = 0.13, 0.15  # of the logarithm of the body height
_SIZE_TAIL = 8.0  # degrees of freedom of Student's t: the height of a half-hidden body is sometimes far off
_LIMB_SD, _LIMB_SD_PER_S, _LIMB_SD_MOST = 0.03, 0.5, 0.12  # body heights: how fast a pose changes
_LIMB_FREEDOM = 9.0  # effective number of independent values in a pose
# Log odds gained by a join: it removes one disappearance and one appearance inside the image.
_TRACK_CHANGE_COST = 7.0
# Detectors miss about one person in ten, which costs -log(0.1) a frame. One occlusion explains a whole run of misses.
_MISS_COST, _MISS_COST_MOST = 2.3, 7.0
_RIVALS_S = 0.7  # a join with a margin is compared with all other joins over gaps up to this length
_APPEARANCE_AREA = 12.0  # area in which another person could have appeared, body heights squared


class JoinSettings(NamedTuple):
    """Settings of one round of joining.

    Attributes:
        longest_gap_s: longest gap that is bridged, seconds.
        margin: log odds by which a join must beat every other join of either tracklet, also those over longer gaps;
            0 takes the best assignment without a margin.
        shortest_s: tracklets shorter than this are ignored.
        acceleration: spectral density of the acceleration noise, body heights squared / s^3.
        lag_s: age of the velocity estimates at beginnings and ends, seconds.
    """

    longest_gap_s: float
    margin: float = 0.0
    shortest_s: float = 0.0
    acceleration: float = 0.4  # people start and stop walking within a second
    lag_s: float = 0.0


def join_tracklets(beginnings: TrackletEnds, ends: TrackletEnds, settings: JoinSettings) -> tuple[IntArray, IntArray]:
    """Choose which tracklets are joined.

    Returns:
        Indices of the earlier and of the later tracklet of each join; each occurs at most once in either.
    """
    first, second = _candidates(
        beginnings, ends, max(settings.longest_gap_s, _RIVALS_S if settings.margin > 0 else 0.0)
    )
    long_enough = ends.time_s - beginnings.time_s >= settings.shortest_s
    both = long_enough[first] & long_enough[second]
    first, second = first[both], second[both]
    gain = log_odds(beginnings, ends, first, second, settings)
    probable = gain > 0
    first, second, gain = first[probable], second[probable], gain[probable]
    if settings.margin > 0:
        short_gap = beginnings.time_s[second] - ends.time_s[first] <= settings.longest_gap_s
        clear = (
            short_gap & _best_by_margin(first, gain, settings.margin) & _best_by_margin(second, gain, settings.margin)
        )
        return first[clear], second[clear]
    return solve_assignment(first, second, gain, len(ends.time_s))


def _candidates(beginnings: TrackletEnds, ends: TrackletEnds, longest_gap_s: float) -> tuple[IntArray, IntArray]:
    order = np.argsort(beginnings.time_s, kind="stable")
    starts = beginnings.time_s[order]
    first, place = index_pairs(
        np.searchsorted(starts, ends.time_s, side="right"),
        np.searchsorted(starts, ends.time_s + longest_gap_s, side="right"),
    )
    second = order[place]
    ratio = np.abs(np.log(beginnings.height_px[second] / ends.height_px[first]))
    possible = (ends.shot[first] == beginnings.shot[second]) & (ratio < 1.0)
    return first[possible], second[possible]


def log_odds(
    beginnings: TrackletEnds, ends: TrackletEnds, first: IntArray, second: IntArray, settings: JoinSettings
) -> DoubleArray:
    """Log odds, (K,), that end ``first[k]`` and beginning ``second[k]`` are one person."""
    gap = beginnings.time_s[second] - ends.time_s[first]
    size = np.sqrt(ends.height_px[first] * beginnings.height_px[second])
    difference = compare_poses(
        (ends.keypoints[first], ends.weights[first]), (beginnings.keypoints[second], beginnings.weights[second]), size
    )
    place_sd = np.where(difference.shared > 0.5, _PLACE_SD, _BARE_PLACE_SD)
    # State difference (place, velocity) per axis and its covariance: F P F' + Q + P.
    scale = size[:, None]
    place = (difference.shift - ends.velocity[first] * gap[:, None]) / scale
    velocity = (beginnings.velocity[second] - ends.velocity[first]) / scale
    q, lag = settings.acceleration, settings.acceleration * settings.lag_s
    a, b = ends.velocity_sd[first] ** 2 + lag, beginnings.velocity_sd[second] ** 2 + lag
    pp = 2 * place_sd**2 + gap**2 * a + q * gap**3 / 3
    pv = gap * a + q * gap**2 / 2
    vv = a + b + q * gap
    determinant = pp * vv - pv**2
    distance = vv * (place**2).sum(1) - 2 * pv * (place * velocity).sum(1) + pp * (velocity**2).sum(1)
    same = -0.5 * distance / determinant - np.log(determinant) - 2 * np.log(2 * np.pi)
    prior = VELOCITY_SD**2 + b
    other = -0.5 * ((beginnings.velocity[second] / scale) ** 2).sum(1) / prior - np.log(2 * np.pi * prior)
    other -= np.log(_APPEARANCE_AREA)
    size_sd = np.hypot(_SIZE_SD, _SIZE_SD_PER_S * gap)
    ratio = np.log(beginnings.height_px[second] / ends.height_px[first])
    same += _heavy_tail(ratio, size_sd) - _heavy_tail(ratio, 0.5)
    limb_sd = np.minimum(_LIMB_SD + _LIMB_SD_PER_S * gap, _LIMB_SD_MOST)
    pose = -np.log1p(difference.limbs / limb_sd**2) - np.log(limb_sd)
    any_pose = -np.log1p(difference.limbs / _LIMB_SD_MOST**2) - np.log(_LIMB_SD_MOST)
    same += np.where(difference.shared > 2, _LIMB_FREEDOM * (pose - any_pose), 0.0)
    missed = beginnings.frame[second] - ends.frame[first] - 1
    same -= np.minimum(missed * _MISS_COST, _MISS_COST_MOST)
    too_far = np.linalg.norm(difference.shift, axis=1) > (0.5 + _TOP_SPEED * gap) * size
    return np.where(too_far, -np.inf, same - other + _TRACK_CHANGE_COST)


def _heavy_tail(values: DoubleArray, sd: DoubleArray | float) -> DoubleArray:
    """Logarithm of the density of Student's t, without its constant."""
    return np.asarray(-(_SIZE_TAIL + 1) / 2 * np.log1p((values / sd) ** 2 / _SIZE_TAIL) - np.log(sd))


def _best_by_margin(group: IntArray, gain: DoubleArray, margin: float) -> NDArray[np.bool_]:
    """Whether each gain is the best of its group and exceeds the second best by ``margin``."""
    rest, best = two_smallest(group, -gain)[::-1]
    return np.asarray((-gain <= best[group]) & (-gain + margin < rest[group]))


def insert_tracklets(
    beginnings: TrackletEnds, ends: TrackletEnds, joins: tuple[IntArray, IntArray], settings: JoinSettings
) -> tuple[IntArray, IntArray]:
    """Insert unused tracklets into the gaps of joins where they fit on both sides.

    Args:
        beginnings, ends: of all tracklets.
        joins: result of :func:`join_tracklets`.
        settings: settings of the same round.

    Returns:
        The joins; a join through an inserted tracklet is replaced by two.
    """
    first, second = joins
    taken = np.zeros(len(ends.time_s), bool)
    taken[first] = taken[second] = True
    order = np.flatnonzero(~taken)[np.argsort(beginnings.time_s[~taken], kind="stable")]
    starts = beginnings.time_s[order]
    hole, place = index_pairs(
        np.searchsorted(starts, ends.time_s[first], side="right"),
        np.searchsorted(starts, beginnings.time_s[second], side="left"),
    )
    middle = order[place]
    fits = ends.time_s[middle] < beginnings.time_s[second[hole]]
    hole, middle = hole[fits], middle[fits]
    gain = (
        log_odds(beginnings, ends, first[hole], middle, settings)
        + log_odds(beginnings, ends, middle, second[hole], settings)
        - log_odds(beginnings, ends, first[hole], second[hole], settings)
    )
    good = gain > 0
    chosen, filler = solve_assignment(hole[good], middle[good], gain[good], max(len(first), len(ends.time_s)))
    kept = np.ones(len(first), bool)
    kept[chosen] = False
    return (
        np.concatenate([first[kept], first[chosen], filler]),
        np.concatenate([second[kept], filler, second[chosen]]),
    )


def solve_assignment(first: IntArray, second: IntArray, gain: DoubleArray, count: int) -> tuple[IntArray, IntArray]:
    """Solve the sparse assignment problem: pairs of greatest total gain, each index used once.

    Each index occurs at most once as first and at most once as second. A complete matching must always exist, so every
    row i has an extra column (i has no successor) and every column j an extra row. The extra rows and columns are
    connected by the mirror image of the candidates.
    """
    if len(first) == 0:
        return first, second
    rows = np.concatenate([first, np.arange(count), count + np.arange(count), count + second])
    columns = np.concatenate([second, count + np.arange(count), np.arange(count), count + first])
    top = float(gain.max()) + 1.0  # costs must not be 0: in a sparse matrix 0 means no edge
    none = np.full(count, top)
    # A pair uses its own edge and the mirror edge, which replace two edges of cost top.
    costs = np.concatenate([top - gain, none, none, np.full(len(first), top)])
    graph = scipy.sparse.coo_array((costs, (rows, columns)), shape=(2 * count, 2 * count)).tocsr()
    matched_rows, matched_columns = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph)
    real = (matched_rows < count) & (matched_columns < count)
    return matched_rows[real].astype(np.intp), matched_columns[real].astype(np.intp)
