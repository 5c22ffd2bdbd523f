"""Joint indices, body proportions and signal helpers shared by the modules for world space."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are loaded on first use: each takes 0.2 to 0.5 s

from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import DoubleArray

HIP, THORAX, NECK = (H36M17.index(joint) for joint in ("hip", "thorax", "neck"))
HIPS, KNEES, ANKLES = (
    [H36M17.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("hip", "knee", "ankle")
)
# Height of the ankle joint above the sole of an adult, metres (Drillis and Contini 1964: 0.039 of the body height,
# to the malleolus; 1.7 m tall, and shoes).
ANKLE_HEIGHT_M = 0.08
# From hip to sole, standing: 0.53 of the body height (the same source).
HIP_HEIGHT_M = 0.9


def unit_vectors(vectors: DoubleArray) -> DoubleArray:
    """Vectors normalized to length 1 along the last axis."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def frame_rate(times_s: DoubleArray) -> float:
    """Frames per second from the median step; 30 for a single frame."""
    return float(1 / np.median(np.diff(times_s))) if len(times_s) > 1 else 30.0


def low_pass(values: DoubleArray, sigma_s: float, rate: float) -> DoubleArray:
    """Gaussian low-pass filter along the first axis."""
    return np.asarray(scipy.ndimage.gaussian_filter1d(values, max(sigma_s * rate, 1e-3), axis=0, mode="nearest"))
