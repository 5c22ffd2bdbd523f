"""Conditioning: from a raw track to one that a lifter can use.

:func:`fill_gaps` repairs and completes, :func:`smooth` removes jitter without lag, :func:`resample` brings positions
to the lifter's frame rate and its answer back to the video's own timestamps, :func:`smooth_joints` smooths the answer.
"""

from vp3d_cli.preprocess.interpolation import MAX_GAP_S, fill_gaps
from vp3d_cli.preprocess.resampling import resample, uniform_times
from vp3d_cli.preprocess.scales import LOW_CONFIDENCE, body_size
from vp3d_cli.preprocess.smoothing import smooth, smooth_joints

__all__ = [
    "LOW_CONFIDENCE",
    "MAX_GAP_S",
    "body_size",
    "fill_gaps",
    "resample",
    "smooth",
    "smooth_joints",
    "uniform_times",
]
