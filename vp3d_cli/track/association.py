"""Join tracklets of one person over gaps: the best assignment of all ends to all beginnings at once.

With the whole video at hand the choice need not be made frame by frame. Each end is extrapolated forward and each
beginning backward by a model of nearly constant velocity (white noise acceleration; Bar-Shalom et al. 2001, section
6.2.2), which gives the probability that one continues the other; against it stands the probability that one
person left and another came.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s
from numpy.typing import NDArray

from vp3d_cli.track.detections import IntArray, compare, pairs_within
from vp3d_cli.track.tracklets import VELOCITY_SD, Ends, two_smallest
from vp3d_cli.types import DoubleArray

_PLACE_SD = 0.05  # body heights: where a pose is, end and beginning each
_BARE_PLACE_SD = 0.25  # the same where no keypoint is shared
_TOP_SPEED = 4.0  # body heights per second over a gap
_SIZE_SD, _SIZE_SD_PER_S = 0.13, 0.15  # of the logarithm of the body height
_SIZE_TAIL = 8.0  # degrees of freedom: half hidden bodies are measured quite wrong at times
_LIMB_SD, _LIMB_SD_PER_S, _LIMB_SD_MOST = 0.03, 0.5, 0.12  # body heights: how fast limbs leave their pose
_LIMB_FREEDOM = 9.0  # how many independent numbers the pose is worth
# What is gained by explaining an end and a beginning as one person: neither a death nor a birth inside the image.
_CHANGE_OF_PEOPLE = 7.0
# Detectors miss about one person in ten, which costs -log(0.1) a frame; an occlusion explains a whole run of misses.
_MISS_COST, _MISS_COST_MOST = 2.3, 7.0
_RIVALS_S = 0.7  # how far other choices are looked for where a join must be beyond doubt
_ROOM = 12.0  # area in which another person could have appeared, body heights squared


class Pass(NamedTuple):
    """One round of joining.

    Attributes:
        longest_gap_s: seconds that may lie between.
        margin: join only where every other choice of either side, be it over a longer gap, is worse by this (in
            log odds); 0 takes the best assignment of all.
        shortest_s: tracklets shorter than this are neither joined nor considered.
        acceleration: spectral density, body heights squared / s^3.
        lag_s: how old the velocities at beginnings and ends are taken to be.
    """

    longest_gap_s: float
    margin: float = 0.0
    shortest_s: float = 0.0
    acceleration: float = 0.4  # people set off and stop within a second
    lag_s: float = 0.0


def join(beginnings: Ends, ends: Ends, how: Pass) -> tuple[IntArray, IntArray]:
    """Which tracklet continues which.

    Returns:
        Indices of the earlier and of the later tracklet of each join; each occurs at most once in either.
    """
    first, second = _candidates(beginnings, ends, max(how.longest_gap_s, _RIVALS_S if how.margin > 0 else 0.0))
    solid = ends.time_s - beginnings.time_s >= how.shortest_s
    both = solid[first] & solid[second]
    first, second = first[both], second[both]
    gain = log_odds(beginnings, ends, first, second, how)
    good = gain > 0
    first, second, gain = first[good], second[good], gain[good]
    if how.margin > 0:
        near = beginnings.time_s[second] - ends.time_s[first] <= how.longest_gap_s
        clear = near & _leads(first, gain, how.margin) & _leads(second, gain, how.margin)
        return first[clear], second[clear]
    return assign(first, second, gain, len(ends.time_s))


def _candidates(beginnings: Ends, ends: Ends, longest_gap_s: float) -> tuple[IntArray, IntArray]:
    order = np.argsort(beginnings.time_s, kind="stable")
    starts = beginnings.time_s[order]
    first, place = pairs_within(
        np.searchsorted(starts, ends.time_s, side="right"),
        np.searchsorted(starts, ends.time_s + longest_gap_s, side="right"),
    )
    second = order[place]
    ratio = np.abs(np.log(beginnings.body_px[second] / ends.body_px[first]))
    possible = (ends.shot[first] == beginnings.shot[second]) & (ratio < 1.0)
    return first[possible], second[possible]


def log_odds(beginnings: Ends, ends: Ends, first: IntArray, second: IntArray, how: Pass) -> DoubleArray:
    """(K,) log of P(one person) / P(two people) for end ``first[k]`` and beginning ``second[k]``."""
    gap = beginnings.time_s[second] - ends.time_s[first]
    size = np.sqrt(ends.body_px[first] * beginnings.body_px[second])
    apart = compare(
        (ends.keypoints[first], ends.weights[first]), (beginnings.keypoints[second], beginnings.weights[second]), size
    )
    place_sd = np.where(apart.shared > 0.5, _PLACE_SD, _BARE_PLACE_SD)
    # State difference (place, velocity) per axis and its covariance: F P F' + Q + P.
    scale = size[:, None]
    place = (apart.shift - ends.velocity[first] * gap[:, None]) / scale
    velocity = (beginnings.velocity[second] - ends.velocity[first]) / scale
    q, lag = how.acceleration, how.acceleration * how.lag_s
    a, b = ends.velocity_sd[first] ** 2 + lag, beginnings.velocity_sd[second] ** 2 + lag
    pp = 2 * place_sd**2 + gap**2 * a + q * gap**3 / 3
    pv = gap * a + q * gap**2 / 2
    vv = a + b + q * gap
    determinant = pp * vv - pv**2
    distance = vv * (place**2).sum(1) - 2 * pv * (place * velocity).sum(1) + pp * (velocity**2).sum(1)
    same = -0.5 * distance / determinant - np.log(determinant) - 2 * np.log(2 * np.pi)
    prior = VELOCITY_SD**2 + b
    other = -0.5 * ((beginnings.velocity[second] / scale) ** 2).sum(1) / prior - np.log(2 * np.pi * prior)
    other -= np.log(_ROOM)
    size_sd = np.hypot(_SIZE_SD, _SIZE_SD_PER_S * gap)
    ratio = np.log(beginnings.body_px[second] / ends.body_px[first])
    same += _heavy_tail(ratio, size_sd) - _heavy_tail(ratio, 0.5)
    limb_sd = np.minimum(_LIMB_SD + _LIMB_SD_PER_S * gap, _LIMB_SD_MOST)
    pose = -np.log1p(apart.limbs / limb_sd**2) - np.log(limb_sd)
    any_pose = -np.log1p(apart.limbs / _LIMB_SD_MOST**2) - np.log(_LIMB_SD_MOST)
    same += np.where(apart.shared > 2, _LIMB_FREEDOM * (pose - any_pose), 0.0)
    missed = beginnings.frame[second] - ends.frame[first] - 1
    same -= np.minimum(missed * _MISS_COST, _MISS_COST_MOST)
    too_far = np.linalg.norm(apart.shift, axis=1) > (0.5 + _TOP_SPEED * gap) * size
    return np.where(too_far, -np.inf, same - other + _CHANGE_OF_PEOPLE)


def _heavy_tail(values: DoubleArray, sd: DoubleArray | float) -> DoubleArray:
    """Logarithm of Student's t, without its constant."""
    return np.asarray(-(_SIZE_TAIL + 1) / 2 * np.log1p((values / sd) ** 2 / _SIZE_TAIL) - np.log(sd))


def _leads(group: IntArray, gain: DoubleArray, margin: float) -> NDArray[np.bool_]:
    """Whether each gain is the best of its group, the second best being less than it by ``margin``."""
    rest, best = two_smallest(group, -gain)[::-1]
    return np.asarray((-gain <= best[group]) & (-gain + margin < rest[group]))


def fill_holes(beginnings: Ends, ends: Ends, joins: tuple[IntArray, IntArray], how: Pass) -> tuple[IntArray, IntArray]:
    """Put tracklets that were left out into the gaps of joins where they fit on both sides.

    Args:
        beginnings, ends: of all tracklets.
        joins: what :func:`join` returned.
        how: the round that it was called for.

    Returns:
        The joins, those that now lead through another tracklet replaced by two.
    """
    first, second = joins
    taken = np.zeros(len(ends.time_s), bool)
    taken[first] = taken[second] = True
    order = np.flatnonzero(~taken)[np.argsort(beginnings.time_s[~taken], kind="stable")]
    starts = beginnings.time_s[order]
    hole, place = pairs_within(
        np.searchsorted(starts, ends.time_s[first], side="right"),
        np.searchsorted(starts, beginnings.time_s[second], side="left"),
    )
    middle = order[place]
    fits = ends.time_s[middle] < beginnings.time_s[second[hole]]
    hole, middle = hole[fits], middle[fits]
    gain = (
        log_odds(beginnings, ends, first[hole], middle, how)
        + log_odds(beginnings, ends, middle, second[hole], how)
        - log_odds(beginnings, ends, first[hole], second[hole], how)
    )
    good = gain > 0
    chosen, filler = assign(hole[good], middle[good], gain[good], max(len(first), len(ends.time_s)))
    kept = np.ones(len(first), bool)
    kept[chosen] = False
    return (
        np.concatenate([first[kept], first[chosen], filler]),
        np.concatenate([second[kept], filler, second[chosen]]),
    )


def assign(first: IntArray, second: IntArray, gain: DoubleArray, count: int) -> tuple[IntArray, IntArray]:
    """Choose pairs of the greatest total gain so that each index occurs at most once as first and as second.

    A sparse assignment problem. So that a complete matching always exists, every row i has a column of its own
    (i stays without successor) and every column j a row of its own; these are joined to each other by the
    mirror image of the candidates.
    """
    if len(first) == 0:
        return first, second
    rows = np.concatenate([first, np.arange(count), count + np.arange(count), count + second])
    columns = np.concatenate([second, count + np.arange(count), np.arange(count), count + first])
    top = float(gain.max()) + 1.0  # costs must not be 0, which a sparse matrix takes for no edge
    none = np.full(count, top)
    # A pair uses its own edge and the mirror edge, which replace two edges of cost top.
    costs = np.concatenate([top - gain, none, none, np.full(len(first), top)])
    graph = scipy.sparse.coo_array((costs, (rows, columns)), shape=(2 * count, 2 * count)).tocsr()
    matched_rows, matched_columns = scipy.sparse.csgraph.min_weight_full_bipartite_matching(graph)
    real = (matched_rows < count) & (matched_columns < count)
    return matched_rows[real].astype(np.intp), matched_columns[real].astype(np.intp)
