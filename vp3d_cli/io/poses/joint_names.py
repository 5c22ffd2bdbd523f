"""Joint names of animation programs for the 17-joint skeleton, and its end sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vp3d_cli.types import DoubleArray

# A joint turns the bone that leaves it: "neck", half way to the nose, carries the head.
_MIXAMO = {
    "hip": "Hips", "spine": "Spine", "thorax": "Spine2", "neck": "Neck", "head": "Head",
    "left_hip": "LeftUpLeg", "left_knee": "LeftLeg", "left_ankle": "LeftFoot",
    "right_hip": "RightUpLeg", "right_knee": "RightLeg", "right_ankle": "RightFoot",
    "left_shoulder": "LeftArm", "left_elbow": "LeftForeArm", "left_wrist": "LeftHand",
    "right_shoulder": "RightArm", "right_elbow": "RightForeArm", "right_wrist": "RightHand",
}  # fmt: skip
_RIGIFY = {
    "hip": "spine", "spine": "spine.001", "thorax": "spine.003", "neck": "spine.004", "head": "spine.006",
    "left_hip": "thigh.L", "left_knee": "shin.L", "left_ankle": "foot.L",
    "right_hip": "thigh.R", "right_knee": "shin.R", "right_ankle": "foot.R",
    "left_shoulder": "upper_arm.L", "left_elbow": "forearm.L", "left_wrist": "hand.L",
    "right_shoulder": "upper_arm.R", "right_elbow": "forearm.R", "right_wrist": "hand.R",
}  # fmt: skip
_UNREAL = {
    "hip": "pelvis", "spine": "spine_01", "thorax": "spine_03", "neck": "neck_01", "head": "head",
    "left_hip": "thigh_l", "left_knee": "calf_l", "left_ankle": "foot_l",
    "right_hip": "thigh_r", "right_knee": "calf_r", "right_ankle": "foot_r",
    "left_shoulder": "upperarm_l", "left_elbow": "lowerarm_l", "left_wrist": "hand_l",
    "right_shoulder": "upperarm_r", "right_elbow": "lowerarm_r", "right_wrist": "hand_r",
}  # fmt: skip
_PRESETS: dict[str, dict[str, str]] = {
    "vp3d": {},
    "blender": _RIGIFY,
    "mixamo": {joint: f"mixamorig:{name}" for joint, name in _MIXAMO.items()},
    "cmu": {**_MIXAMO, "thorax": "Spine1"},
    "unreal": _UNREAL,
}
# Metres from ankles, wrists and the crown to the ends of feet, hands and head in the rest pose, y up, facing +z: the
# skeleton has no such joints, but animation programs draw a bone there.
_ENDS = {
    "left_ankle": (0.0, -0.06, 0.16),
    "right_ankle": (0.0, -0.06, 0.16),
    "left_wrist": (0.09, 0.0, 0.0),
    "right_wrist": (-0.09, 0.0, 0.0),
}
_OTHER_END = (0.0, 0.03, 0.0)


def renamed(names: Sequence[str], preset: str) -> tuple[str, ...]:
    """Return joint names in a preset; unknown joints keep their names.

    Presets are :data:`
    vp3d_cli.io.poses.base.NAME_PRESETS`.
    """
    return tuple(_PRESETS[preset].get(name, name) for name in names)


def end_offset(name: str) -> DoubleArray:
    """Return the offset (3,) in metres of the end site of a joint without children.

    In the axes of the rest pose: y up, facing +z.
    """
    return np.array(_ENDS.get(name, _OTHER_END))
