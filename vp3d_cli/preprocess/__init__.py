"""Preprocessing of tracks for the lifter: outliers, gaps, smoothing, resampling.

:func:`fill_gaps` corrects outliers and interpolates gaps. :func:`smooth` removes jitter without lag. :func:`resample`
converts positions to the lifter's frame rate, and the lifted joints back to the timestamps of the video.
:func:`smooth_joints` smooths the lifted joints.
"""

from vp3d_cli.preprocess.body_scale import LOW_CONFIDENCE, body_scale
from vp3d_cli.preprocess.interpolation import MAX_GAP_S, fill_gaps
from vp3d_cli.preprocess.resampling import resample, uniform_times
from vp3d_cli.preprocess.smoothing import smooth, smooth_joints

__all__ = [
    "LOW_CONFIDENCE",
    "MAX_GAP_S",
    "body_scale",
    "fill_gaps",
    "resample",
    "smooth",
    "smooth_joints",
    "uniform_times",
]
