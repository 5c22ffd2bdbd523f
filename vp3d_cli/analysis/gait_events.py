"""Foot contacts, heel strikes and toe-offs, and bouts of walking or running."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from vp3d_cli.analysis.joints import SIDES, PersonPoints
from vp3d_cli.refine.body import ANKLES, HIP, frame_rate, low_pass
from vp3d_cli.refine.contacts import find_foot_contacts
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import BoolArray, DoubleArray, stretches

LEAST_RATE = 10.0  # frames per second: a step of a fast walker has five of them
LEAST_SPEED_M_S = 0.3  # slower than the slowest gait of patients; somebody who shifts about stays below
LEAST_STRIKES = 3  # heel strikes in a row: two steps
_SPEED_SIGMA_S = 0.25  # the pelvis speeds up and slows down within a step
_LEAST_SWING = 0.15  # of the leg's length: how far a foot moves from behind the body to before it in the shortest step
_SHORTEST_STRIDE_S = 0.4
_SHORTEST_STEP_S, _LONGEST_STEP_S = 0.2, 1.5
# While a foot swings it is in the air and the other stands for a part of the time at least; runners' for a third.
_MOST_OWN_CONTACT, _LEAST_OTHER_CONTACT = 0.35, 0.3
# Contacts are found as seen from the camera, which stands at the world's origin, most often at about this height.
_CAMERA_HEIGHT_M = 1.5


@dataclass(frozen=True)
class FootEvent:
    """One foot at one moment.

    Attributes:
        foot: 0 left, 1 right.
        at: frame counted from the person's first, not whole.
        time_s: seconds.
    """

    foot: int
    at: float
    time_s: float

    @property
    def side(self) -> str:
        """``left`` or ``right``."""
        return SIDES[self.foot]


@dataclass(frozen=True)
class Bout:
    """Uninterrupted walking or running: alternating heel strikes, and the toe-offs among them."""

    strikes: tuple[FootEvent, ...]
    toe_offs: tuple[FootEvent, ...]


def foot_contacts(points: PersonPoints) -> BoolArray:
    """(t, 2) whether the left and the right foot stand on the ground; False where not in view."""
    contacts = np.zeros((len(points), 2), np.bool_)
    if not _has_legs(points):
        return contacts
    rate = frame_rate(points.times_s)
    for start, stop in stretches(_in_view(points)):
        joints = np.zeros((stop - start, H36M17.num_joints, 3))
        joints[:, HIP] = points.places["pelvis"][start:stop]
        for ankle, side in zip(ANKLES, SIDES, strict=True):
            joints[:, ankle] = points.places[f"{side}_ankle"][start:stop]
        joints[..., 2] -= _CAMERA_HEIGHT_M
        contacts[start:stop] = find_foot_contacts(joints, np.eye(3), rate)
    return contacts


def find_bouts(points: PersonPoints, contacts: BoolArray) -> tuple[list[Bout], str]:
    """Find the intervals in which a person walks or runs.

    Heel strikes are where a foot is furthest before the pelvis, toe-offs where it is furthest behind it, along the
    direction of travel (Zeni et al. 2008). They count where the person moves along, the feet alternate, and each foot
    is in the air while it swings and the other one on the ground.

    Returns:
        The bouts, and why there is none; "" where there are some.
    """
    rate = frame_rate(points.times_s)
    if not _has_legs(points):
        return [], "the skeleton has no legs"
    if len(points) > 1 and rate < 0.99 * LEAST_RATE:  # as it is rounded in files
        return [], f"{rate:.3g} frames per second are too few; {LEAST_RATE:g} are needed"
    runs = [run for run in stretches(_in_view(points)) if run[1] - run[0] >= max(3, _SHORTEST_STRIDE_S * rate)]
    if not runs:
        return [], "not in view for long enough"
    bouts: list[Bout] = []
    longest, fastest = 0, 0.0
    for start, stop in runs:
        strikes, toe_offs, speed = _events(points, start, stop, rate)
        fastest = max(fastest, speed)
        for chain in _chains(strikes, toe_offs, contacts):
            longest = max(longest, len(chain))
            if len(chain) >= LEAST_STRIKES:
                bouts.append(Bout(tuple(chain), _toe_offs_within(chain, toe_offs)))
    if bouts:
        return bouts, ""
    if fastest < LEAST_SPEED_M_S:
        return [], f"moves along at {fastest:.2f} m/s at most; {LEAST_SPEED_M_S:g} are needed"
    return [], f"not enough heel strikes in a row: {longest}; {LEAST_STRIKES} are needed"


def travel(points: PersonPoints, start: int, stop: int, rate: float) -> tuple[DoubleArray, DoubleArray]:
    """Unit direction of travel (n, 2) on the floor and speed (n,) in m/s, of a range of frames."""
    path = low_pass(points.places["pelvis"][start:stop, :2], _SPEED_SIGMA_S, rate)
    velocity = np.gradient(path, axis=0) * rate
    speed = np.linalg.norm(velocity, axis=1)
    return np.asarray(velocity / np.maximum(speed, 1e-9)[:, None]), np.asarray(speed)


def _has_legs(points: PersonPoints) -> bool:
    return all(name in points.places for name in ("pelvis", "left_knee", "right_knee", "left_ankle", "right_ankle"))


def _in_view(points: PersonPoints) -> BoolArray:
    needed = [points.places[name] for name in ("pelvis", "left_ankle", "right_ankle")]
    return np.asarray(np.isfinite(np.stack(needed)).all(axis=(0, 2)))


def _events(points: PersonPoints, start: int, stop: int, rate: float) -> tuple[list[FootEvent], list[FootEvent], float]:
    """Heel strikes and toe-offs of both feet in order of time, and the highest speed."""
    direction, speed = travel(points, start, stop, rate)
    strikes: list[FootEvent] = []
    toe_offs: list[FootEvent] = []
    for foot, side in enumerate(SIDES):
        body = {joint: points.body[joint][start:stop] for joint in ("pelvis", f"{side}_knee", f"{side}_ankle")}
        pelvis, knee, ankle = body.values()
        ahead = ((ankle - pelvis)[:, :2] * direction).sum(axis=1)
        leg = np.linalg.norm(ankle - knee, axis=1) + np.linalg.norm(knee - pelvis, axis=1)
        least = _LEAST_SWING * float(np.nanmedian(leg)) if np.isfinite(leg).any() else np.inf
        for sign, events in ((1.0, strikes), (-1.0, toe_offs)):
            peaks = find_peaks(sign * ahead, prominence=least, distance=max(1, round(_SHORTEST_STRIDE_S * rate)))[0]
            moving = peaks[speed[peaks] >= LEAST_SPEED_M_S]
            events += [_event(foot, start + _summit(sign * ahead, int(peak)), points.times_s) for peak in moving]
    strikes.sort(key=lambda event: event.at)
    toe_offs.sort(key=lambda event: event.at)
    return strikes, toe_offs, float(speed.max())


def _summit(values: DoubleArray, peak: int) -> float:
    """Position of the vertex of the parabola through a peak and its neighbours."""
    left, middle, right = values[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return peak + (float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0)


def _event(foot: int, at: float, times_s: DoubleArray) -> FootEvent:
    return FootEvent(foot, at, float(np.interp(at, np.arange(len(times_s)), times_s)))


def _chains(strikes: list[FootEvent], toe_offs: list[FootEvent], contacts: BoolArray) -> list[list[FootEvent]]:
    """Group heel strikes into sequences of consecutive steps of walking or running."""
    chains: list[list[FootEvent]] = [[]]
    for strike in strikes:
        off = _toe_off_before(strike, toe_offs)
        swung = off is not None and _swing_fits(off, strike, contacts)
        if swung and chains[-1] and _follows(chains[-1][-1], strike):
            chains[-1].append(strike)
        else:  # the first in view may have left the ground before that
            chains.append([strike] if swung or off is None else [])
    return chains


def _follows(last: FootEvent, strike: FootEvent) -> bool:
    return last.foot != strike.foot and _SHORTEST_STEP_S <= strike.time_s - last.time_s <= _LONGEST_STEP_S


def _toe_off_before(strike: FootEvent, toe_offs: list[FootEvent]) -> FootEvent | None:
    """The last toe-off of a foot before its heel strike, within the longest step."""
    for event in reversed(toe_offs[: bisect_left(toe_offs, strike.at, key=lambda event: event.at)]):
        if strike.time_s - event.time_s > _LONGEST_STEP_S:
            return None
        if event.foot == strike.foot:
            return event
    return None


def _swing_fits(off: FootEvent, strike: FootEvent, contacts: BoolArray) -> bool:
    """Whether a foot was in the air between toe-off and heel strike while the other stood."""
    swing = contacts[round(off.at) : round(strike.at) + 1]
    own, other = swing[:, strike.foot].mean(), swing[:, 1 - strike.foot].mean()
    return bool(own <= _MOST_OWN_CONTACT and other >= _LEAST_OTHER_CONTACT)


def _toe_offs_within(strikes: list[FootEvent], toe_offs: list[FootEvent]) -> tuple[FootEvent, ...]:
    return tuple(event for event in toe_offs if strikes[0].at < event.at < strikes[-1].at)
