"""Gait of one person: steps, strides, cadence, speed, stance, symmetry.

Lengths and speeds are as right as the assumed height of the person, which sets the scale of a pose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vp3d_cli.analysis.gait_events import Bout, FootEvent, find_bouts, foot_contacts
from vp3d_cli.analysis.joints import SIDES, PersonPoints, points_of
from vp3d_cli.pose import Pose3D
from vp3d_cli.types import BoolArray, DoubleArray, stretches

# Contacts end when the heel leaves the ground, so that a quick walker too seems to stand on neither foot at times.
_MOST_FLIGHT_WALKING = 0.15
_LEAST_FOR_SYMMETRY = 2  # of each side: one step may be long by chance
_FLAT_AFTER_S = 0.3  # after a heel strike the foot stands flat; a third of a slow step


@dataclass(frozen=True)
class Measure:
    """One number that describes a motion.

    Attributes:
        group: ``gait``, ``repetitions`` or ``range_of_motion``.
        name: such as ``step_length``.
        side: ``left``, ``right``, ``both`` or "".
        value: NaN where it is not known.
        sd: standard deviation over what was counted; NaN where there are fewer than two.
        unit: such as ``m``; "" for a count.
        count: from how many steps, strides, repetitions or frames; of a comparison the fewer of both sides.
        note: why a value is missing.
    """

    group: str
    name: str
    side: str
    value: float
    unit: str
    sd: float = np.nan
    count: int = 0
    note: str = ""


@dataclass(frozen=True)
class Contact:
    """One time that a foot stood.

    Attributes:
        side: ``left`` or ``right``.
        start_s, end_s: seconds, first and last frame.
        place: x, y, z of the ankle in world space, metres.
    """

    side: str
    start_s: float
    end_s: float
    place: tuple[float, float, float]


@dataclass(frozen=True)
class Step:
    """From the heel strike of one foot to that of the other.

    Attributes:
        side: of the foot that lands at the end.
        start_s, end_s: seconds.
        length_m: distance between the two feet along the direction of travel, metres; NaN where one was not seen to
            stand.
        width_m: distance between them across it; NaN likewise.
        double_support_s: time from the heel strike at the end to the toe-off of the other foot; NaN where that
            toe-off was not seen.
        distance_m: what the pelvis moved along.
    """

    side: str
    start_s: float
    end_s: float
    length_m: float
    width_m: float
    double_support_s: float
    distance_m: float

    @property
    def time_s(self) -> float:
        """Duration in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Stride:
    """From the heel strike of a foot to the next of the same foot.

    Attributes:
        side: of that foot.
        start_s, end_s: seconds.
        length_m: distance between its two places, metres; NaN where it was not seen to stand.
        stance_share: share of the time that the foot is on the ground, 0..1; NaN where the toe-off was not seen.
    """

    side: str
    start_s: float
    end_s: float
    length_m: float
    stance_share: float

    @property
    def time_s(self) -> float:
        """Duration in seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Gait:
    """Gait of one person, walking or running.

    Attributes:
        person_id: as in the pose.
        reason: why no gait was found; "" where it was.
        contacts: whatever foot stood, walking or not.
        heel_strikes, toe_offs: in order of time.
        steps, strides: in order of time.
        flight_share: share of the time of all steps in which neither foot stood, 0..1.
    """

    person_id: int
    reason: str
    contacts: tuple[Contact, ...]
    heel_strikes: tuple[FootEvent, ...] = ()
    toe_offs: tuple[FootEvent, ...] = ()
    steps: tuple[Step, ...] = ()
    strides: tuple[Stride, ...] = ()
    flight_share: float = 0.0

    @property
    def found(self) -> bool:
        """Whether the person walks or runs."""
        return bool(self.steps)

    @property
    def kind(self) -> str:
        """``walking``, ``running`` (with flight between steps), or "" if no gait was found."""
        if not self.found:
            return ""
        return "running" if self.flight_share > _MOST_FLIGHT_WALKING else "walking"


def gait_of_people(pose: Pose3D) -> tuple[Gait, ...]:
    """The gait of everyone in a pose, in the order of ``pose.people``."""
    return tuple(gait_of(points_of(pose, person)) for person in pose.people)


def gait_of(points: PersonPoints) -> Gait:
    """The gait of one person; without steps where none was found."""
    contacts = foot_contacts(points)
    bouts, reason = find_bouts(points, contacts)
    listed = tuple(_list_contacts(points, contacts))
    feet = _Feet.of(listed, bouts)
    return Gait(
        points.person_id,
        reason,
        listed,
        tuple(event for bout in bouts for event in bout.strikes),
        tuple(event for bout in bouts for event in bout.toe_offs),
        tuple(step for bout in bouts for step in _steps(points, feet, bout)),
        tuple(stride for bout in bouts for stride in _strides(feet, bout)),
        _flight_share(contacts, bouts),
    )


def _flight_share(contacts: BoolArray, bouts: Sequence[Bout]) -> float:
    """Share of the frames of all bouts in which neither foot stands."""
    spans = [contacts[round(bout.strikes[0].at) : round(bout.strikes[-1].at)] for bout in bouts]
    frames = np.concatenate([np.zeros((0, 2), np.bool_), *spans])
    return float((~frames.any(axis=1)).mean()) if len(frames) else 0.0


def gait_measures(gait: Gait) -> list[Measure]:
    """Return the mean measures over all steps and strides by side.

    Without gait, a single measure with a note.
    """
    if not gait.found:
        return [Measure("gait", "gait", "", np.nan, "", note=f"no gait found: {gait.reason}")]
    steps, strides = gait.steps, gait.strides
    seconds = sum(step.time_s for step in steps)
    double = [100 * step.double_support_s / step.time_s for step in steps if np.isfinite(step.double_support_s)]
    measures = [
        Measure("gait", "steps", "both", len(steps), "", count=len(steps), note=gait.kind),
        Measure("gait", "cadence", "both", 60 * len(steps) / seconds, "steps/min", count=len(steps)),
        Measure("gait", "speed", "both", sum(step.distance_m for step in steps) / seconds, "m/s", count=len(steps)),
        *_by_side("step_length", "m", steps, lambda step: step.length_m),
        *_by_side("step_time", "s", steps, lambda step: step.time_s),
        _mean("step_width", "both", [step.width_m for step in steps], "m"),
        *_by_side("stride_length", "m", strides, lambda stride: stride.length_m),
        *_by_side("stride_time", "s", strides, lambda stride: stride.time_s),
    ]
    symmetric = ["step_length", "step_time"]
    if gait.kind == "walking":  # a runner's toe-off comes before the foot is furthest behind the pelvis
        measures += _by_side("stance", "% of stride", strides, lambda stride: 100 * stride.stance_share)
        measures.append(_mean("double_support", "both", double, "% of stride"))
        symmetric.append("stance")
    return measures + [_symmetry_index(measures, name) for name in symmetric]


def _symmetry_index(measures: Sequence[Measure], name: str) -> Measure:
    """Left minus right in per cent of their mean (Robinson et al. 1987): 0 where they are equal."""
    left, right = (next(m for m in measures if (m.name, m.side) == (name, side)) for side in SIDES)
    fewest = min(left.count, right.count)
    title = f"{name}_symmetry_index"
    if fewest < _LEAST_FOR_SYMMETRY:
        return Measure("gait", title, "both", np.nan, "%", count=fewest, note="two of each side are needed")
    return Measure(
        "gait", title, "both", 200 * (left.value - right.value) / (left.value + right.value), "%", count=fewest
    )


def _by_side(name: str, unit: str, items: Sequence[Step] | Sequence[Stride], of: Callable[..., float]) -> list[Measure]:
    return [_mean(name, side, [of(item) for item in items if item.side == side], unit) for side in SIDES]


def _mean(name: str, side: str, values: Sequence[float], unit: str) -> Measure:
    known = [value for value in values if np.isfinite(value)]
    mean = float(np.mean(known)) if known else np.nan
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else np.nan
    return Measure("gait", name, side, mean, unit, sd, len(known))


def _list_contacts(points: PersonPoints, contacts: BoolArray) -> list[Contact]:
    found = []
    for foot, side in enumerate(SIDES):
        for start, stop in stretches(contacts[:, foot]):
            x, y, z = np.median(points.places[f"{side}_ankle"][start:stop], axis=0)
            times = points.times_s
            found.append(Contact(side, float(times[start]), float(times[stop - 1]), (float(x), float(y), float(z))))
    return sorted(found, key=lambda contact: contact.start_s)


@dataclass(frozen=True)
class _Feet:
    """Foot contacts with position and toe-off time, by foot and in order of time."""

    starts_s: list[DoubleArray]
    ends_s: list[DoubleArray]
    places: list[DoubleArray]  # (n, 2) on the floor
    offs_s: list[DoubleArray]

    @classmethod
    def of(cls, contacts: Sequence[Contact], bouts: Sequence[Bout]) -> _Feet:
        """Sort contacts and toe-offs by foot."""
        own = [[contact for contact in contacts if contact.side == side] for side in SIDES]
        offs = [off for bout in bouts for off in bout.toe_offs]
        return cls(
            [np.array([contact.start_s for contact in foot]) for foot in own],
            [np.array([contact.end_s for contact in foot]) for foot in own],
            [np.array([contact.place[:2] for contact in foot]).reshape(-1, 2) for foot in own],
            [np.array([off.time_s for off in offs if off.foot == foot]) for foot in range(2)],
        )

    def place_after(self, strike: FootEvent) -> DoubleArray:
        """(2,) where a foot stands after its heel strike; NaN where it was not seen to stand."""
        i = int(np.searchsorted(self.ends_s[strike.foot], strike.time_s))
        starts = self.starts_s[strike.foot]
        stands = i < len(starts) and starts[i] - strike.time_s <= _FLAT_AFTER_S
        return np.asarray(self.places[strike.foot][i] if stands else np.full(2, np.nan))

    def toe_off_near(self, foot: int, time_s: float, within_s: float) -> float:
        """Seconds from a moment to the nearest toe-off of a foot; NaN if none is within reach."""
        offs = self.offs_s[foot]
        i = int(np.searchsorted(offs, time_s))
        near = offs[max(i - 1, 0) : i + 1] - time_s
        nearest = min(near.tolist(), key=abs, default=np.nan)
        return nearest if abs(nearest) <= within_s else np.nan


def _steps(points: PersonPoints, feet: _Feet, bout: Bout) -> list[Step]:
    places = [feet.place_after(strike) for strike in bout.strikes]
    steps = []
    for i, (last, strike) in enumerate(zip(bout.strikes, bout.strikes[1:], strict=False)):
        moved = _pelvis(points, strike.at) - _pelvis(points, last.at)
        distance = float(np.linalg.norm(moved))
        along = moved / max(distance, 1e-9)
        apart = places[i + 1] - places[i]
        across = abs(float(along[0] * apart[1] - along[1] * apart[0]))
        support = feet.toe_off_near(last.foot, strike.time_s, 0.5 * (strike.time_s - last.time_s))
        steps.append(Step(strike.side, last.time_s, strike.time_s, float(apart @ along), across, support, distance))
    return steps


def _strides(feet: _Feet, bout: Bout) -> list[Stride]:
    strides = []
    for first, second in zip(bout.strikes, bout.strikes[2:], strict=False):
        length = float(np.linalg.norm(feet.place_after(second) - feet.place_after(first)))
        half = 0.5 * (second.time_s - first.time_s)
        share = 0.5 + 0.5 * feet.toe_off_near(first.foot, first.time_s + half, half) / half
        strides.append(Stride(first.side, first.time_s, second.time_s, length, share))
    return strides


def _pelvis(points: PersonPoints, at: float) -> DoubleArray:
    """(2,) place of the pelvis on the floor at a frame that is not whole."""
    path = points.places["pelvis"][:, :2]
    low = int(np.floor(at))
    high = min(low + 1, len(path) - 1)
    return np.asarray(path[low] + (at - low) * (path[high] - path[low]))
