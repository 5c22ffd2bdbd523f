"""Validation of frame times, and separation of equal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vp3d_cli.errors import InputError, ShapeError
from vp3d_cli.types import DoubleArray

# Frames with equal timestamps are moved apart by this share of the median step.
_MIN_STEP = 0.1


def validated_times(times_s: NDArray[Any], frames: int) -> DoubleArray:
    """Check that there is one finite time per frame and that times never fall; returns float64.

    Raises:
        ShapeError: the number of times is not ``frames``.
        InputError: a time is not finite or earlier than the one before.
    """
    times = np.asarray(times_s, np.float64)
    if times.shape != (frames,):
        raise ShapeError(f"times_s: expected shape ({frames},), one time per frame, got {times.shape}")
    if not np.isfinite(times).all():
        raise InputError(f"times_s: frame {int(np.argmin(np.isfinite(times)))} has no finite time")
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        at = int(falls[0])
        raise InputError(
            f"times_s: frame {at + 1} at {times[at + 1]:.6g} s is earlier than frame {at} at {times[at]:.6g} s; "
            "sort the frames by time"
        )
    return times


def separate_times(times_s: DoubleArray) -> DoubleArray:
    """Move equal or nearly equal timestamps apart, so that differences can be divisors."""
    steps = np.diff(times_s)
    usual = float(np.median(steps)) if len(steps) else 0.0
    least = _MIN_STEP * (usual if usual > 0 else 1.0)
    if not len(steps) or steps.min() >= least:
        return times_s
    # Each time is at least one small step after the one before; times after a longer pause do not move.
    ramp = least * np.arange(len(times_s))
    separated: DoubleArray = np.maximum.accumulate(times_s - ramp) + ramp
    return separated
