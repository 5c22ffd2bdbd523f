"""Everything that is measured of a person: gait, repeated movements, ranges of motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks, peak_prominences

from vp3d_cli.analysis.angles import JointAngles, joint_angles
from vp3d_cli.analysis.gait import Gait, Measure, gait_measures, gait_of_people
from vp3d_cli.analysis.joints import split_side
from vp3d_cli.pose import Pose3D
from vp3d_cli.refine.body import frame_rate, low_pass
from vp3d_cli.types import BoolArray, DoubleArray, stretches

_LEAST_REPETITIONS = 3
# Standard deviation over mean, of what still counts as the same movement again: of somebody who pauses now and then.
_MOST_UNEVEN_PERIOD, _MOST_UNEVEN_AMPLITUDE = 0.5, 0.35
# Angles that turn quickly where the limb says little about them: near the pole, or with a nearly straight elbow.
_NOT_COUNTED = ("shoulder_plane", "shoulder_rotation", "hip_rotation")
_LEAST_AMPLITUDE_DEG = 20.0  # twice what an angle of somebody who stands still wanders in a few seconds
_LEAST_SHARE = 0.4  # of the largest repetition: a smaller swing is not the same movement
_SIGMA_S = 0.05


@dataclass(frozen=True)
class PersonAnalysis:
    """Movement measures of one person.

    Attributes:
        person_id: as in the pose.
        gait: steps and strides, or why there are none.
        measures: of gait, repeated movements and ranges of motion, in this order.
    """

    person_id: int
    gait: Gait
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class Repetitions:
    """A movement that was done several times.

    Attributes:
        times_s: (n,) when the angle was furthest from where it began, seconds.
        amplitudes: (n,) how far it went and came back, degrees.
    """

    times_s: DoubleArray
    amplitudes: DoubleArray

    def __len__(self) -> int:
        return len(self.times_s)

    @property
    def regular(self) -> bool:
        """Whether a movement was repeated: three times or more, alike in period and amplitude."""
        if len(self) < _LEAST_REPETITIONS:
            return False
        periods = np.diff(self.times_s)
        even = periods.std() <= _MOST_UNEVEN_PERIOD * periods.mean()
        return bool(even and self.amplitudes.std() <= _MOST_UNEVEN_AMPLITUDE * self.amplitudes.mean())


def analyze(pose: Pose3D, angle_names: Sequence[str] | None = None) -> tuple[PersonAnalysis, ...]:
    """Measure everyone in a pose.

    Args:
        pose: of any skeleton.
        angle_names: angles of which repetitions and ranges are given; all if None.

    Raises:
        ConfigError: there is no such angle.
    """
    everyone = zip(gait_of_people(pose), joint_angles(pose, angle_names), strict=True)
    return tuple(
        PersonAnalysis(gait.person_id, gait, (*gait_measures(gait), *_repeated(angles), *_ranges(angles)))
        for gait, angles in everyone
    )


def count_repetitions(degrees: DoubleArray, times_s: DoubleArray, seen: BoolArray | None = None) -> Repetitions:
    """Find how often an angle goes out and comes back.

    A repetition is a peak that rises from both sides by 20 degrees and by 0.4 of the largest one, or a trough that
    falls so, whichever there are more of: somebody may begin bent or straight.

    Args:
        degrees: (t,) NaN where unknown; a repetition does not go on over a gap.
        times_s: (t,) seconds.
        seen: (t,) frames in which a repetition may be furthest out; all if None.
    """
    rate = frame_rate(times_s)
    allowed = np.ones(len(degrees), np.bool_) if seen is None else seen
    found = [_extremes(sign * degrees, allowed, rate) for sign in (1.0, -1.0)]
    peaks, heights = max(found, key=lambda extremes: len(extremes[0]))
    return Repetitions(times_s[peaks], heights)


def _extremes(
    values: DoubleArray, seen: BoolArray, rate: float
) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], DoubleArray]:
    """Frames of the peaks of all runs without gaps, and how far each rises."""
    frames: list[int] = []
    heights: list[float] = []
    for start, stop in stretches(np.asarray(np.isfinite(values))):
        smooth = low_pass(values[start:stop], _SIGMA_S, rate)
        peaks = find_peaks(smooth, prominence=_LEAST_AMPLITUDE_DEG)[0]
        peaks = peaks[seen[start + peaks]]
        frames += [start + int(peak) for peak in peaks]
        heights += peak_prominences(smooth, peaks)[0].tolist()
    kept = np.array(heights) >= _LEAST_SHARE * max(heights, default=0.0)
    return np.array(frames, np.intp)[kept], np.array(heights)[kept]


def _repeated(angles: JointAngles) -> list[Measure]:
    measures = []
    for i, angle in enumerate(angles.names):
        name, side = split_side(angle)
        found = count_repetitions(angles.degrees[:, i], angles.times_s, angles.observed[:, i])
        if name in _NOT_COUNTED or not found.regular:
            continue
        periods = np.diff(found.times_s)
        measures += [
            Measure("repetitions", f"{name}_repetitions", side, len(found), "", count=len(found)),
            _mean_of(f"{name}_period", side, periods, "s"),
            _mean_of(f"{name}_amplitude", side, found.amplitudes, "deg"),
        ]
    return measures


def _mean_of(name: str, side: str, values: DoubleArray, unit: str) -> Measure:
    sd = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return Measure("repetitions", name, side, float(values.mean()), unit, sd, len(values))


def _ranges(angles: JointAngles) -> list[Measure]:
    """Minimum, maximum and range of each angle, over frames in which its joints were seen."""
    measures = []
    for i, angle in enumerate(angles.names):
        name, side = split_side(angle)
        seen = angles.degrees[:, i][angles.observed[:, i] & np.isfinite(angles.degrees[:, i])]
        low, high = (float(seen.min()), float(seen.max())) if len(seen) else (np.nan, np.nan)
        note = "" if len(seen) else "its joints were never seen, or it is undefined"
        measures += [
            Measure("range_of_motion", f"{name}_{what}", side, value, "deg", count=len(seen), note=note)
            for what, value in (("minimum", low), ("maximum", high), ("range", high - low))
        ]
    return measures
