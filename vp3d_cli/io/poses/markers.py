"""Joints as markers, with the marker names of markerless tools for OpenSim.

Pose2Sim and Sports2D use these names.
"""

from __future__ import annotations

from collections.abc import Sequence

# "Neck" there is the middle of the shoulders, which is our thorax; our neck lies half way from it to the nose.
_MARKERS = {"hip": "Hip", "spine": "Spine", "thorax": "Neck", "neck": "NeckNose", "head": "Head"}


def marker_names(joints: Sequence[str]) -> list[str]:
    """Names of markers at joints: ``left_knee`` is ``LKnee``."""
    return [_MARKERS.get(joint) or _side_name(joint) for joint in joints]


def _side_name(joint: str) -> str:
    side, _, part = joint.partition("_")
    if side in ("left", "right") and part:
        return side[0].upper() + part.title().replace("_", "")
    return joint.title().replace("_", "")
