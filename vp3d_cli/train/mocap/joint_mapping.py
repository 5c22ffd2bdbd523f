"""Mapping of any humanoid skeleton to the 22 joints of a motion clip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import permutations, product

import numpy as np

from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import H36M17
from vp3d_cli.train.mocap.clip import MOTION_JOINTS
from vp3d_cli.train.mocap.recording import Recording
from vp3d_cli.train.mocap.spine_normalization import spine_midpoint
from vp3d_cli.types import DoubleArray, FloatArray

# Joint names, best first, without side and prefix: Mixamo and MotionBuilder ("LeftUpLeg"), CMU's ASF
# ("lfemur") and BVH, 3ds Max ("Bip01 L Thigh", "LeftHip"), Bandai Namco ("UpperLeg_L"), LAFAN1, SMPL and AIST++
# ("L_Hip"), Unreal ("thigh_l"), Unity and VRM ("LeftUpperLeg"), Xsens, OptiTrack ("LUArm"), Rokoko, Blender.
# "shoulder" is the upper arm in some and the collar bone in others; it is used only if there is no better name.
_LIMB_NAMES = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leg"),
    "ankle": ("ankle", "foot"),
    "shoulder": ("upperarm", "uparm", "uarm", "humerus", "arm", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "farm", "radius"),
    "wrist": ("wrist", "hand"),
}
_HEAD_NAMES = ("head",)
# Prefixes of joint names in some programs: "mixamorig:Hips", "Character1_Hips", "Bip01 Pelvis".
_PREFIX = re.compile(r"^(?:.*:|(?:mixamorig\d*|character\d*|bip\d+|def|org|jnt|jt|rig)[ _.-]+)", re.IGNORECASE)

# Metres per unit: metre, foot, decimetre, the CMU database's own (1 / 0.45 inch), inch, centimetre, millimetre.
_UNITS_M = (1.0, 0.3048, 0.1, 0.0254 / 0.45, 0.0254, 0.01, 0.001)
# Range of body heights (sole to crown), by which the unit is recognized: units differ by more than its two ends.
_HEIGHT_M = (1.3, 2.1)
# Sum of the bones from ankle to head joint, relative to body height: for the skeletons of Bandai Namco and CMU, whose
# head joint is in the middle of the neck.
_ANKLE_TO_HEAD_PER_HEIGHT = 0.82
AVERAGE_HEIGHT_M = 1.70

# Offsets from the head joint of an adult of 1.7 m: metres left, up, forward. As in the motion archive that the bundled
# lifters are trained on, so that all sources agree.
FACE_M: dict[str, tuple[float, float, float]] = {
    "nose": (0.0, 0.075, 0.115),
    "left_eye": (0.032, 0.105, 0.095),
    "right_eye": (-0.032, 0.105, 0.095),
    "left_ear": (0.075, 0.085, 0.015),
    "right_ear": (-0.075, 0.085, 0.015),
}
_CROWN_M = (0.0, 0.190, 0.020)
# Human3.6M's "neck" is halfway to the nose.
_NECK_M = (0.0, 0.0375, 0.0575)

# Largest distance of the base of the neck from the middle of the shoulders, for a body of 1.7 m.
_MAX_NECK_DISTANCE_M = 0.10
# Largest deviation of the mean head direction from the joint axes that is taken for looking down or aside.
_MAX_HEAD_DEVIATION_DEG = 40.0
_UPRIGHT_SHARE = 0.6


def motion_joints(recording: Recording) -> FloatArray:
    """Map a recording to the 22 joints of a motion clip, in metres, in the axes of the file.

    Hips, knees, ankles, shoulders, elbows and wrists are those of the file. The root is the middle of the hips;
    ``thorax`` is halfway between the middle of the shoulders and the spine joint nearest to it; ``spine`` is halfway
    along the spine between the two. Neck, crown and face are placed from the rotation of the head by average adult
    offsets.

    Returns:
        (F, 22, 3).

    Raises:
        InputError: the skeleton lacks joints (the message names them), or its unit is unknown.
    """
    found = _find_joints(recording)
    where = recording.positions
    height = _height(recording, found)
    unit = _unit(recording, height)
    size = height * unit / AVERAGE_HEIGHT_M
    joints = {name: where[:, index] * unit for name, index in found.items() if name != "head"}
    joints["hip"] = (joints["left_hip"] + joints["right_hip"]) / 2
    above = [where[:, i] * unit for i in _ancestors(recording, found["head"])]
    joints["thorax"] = _thorax(above, (joints["left_shoulder"] + joints["right_shoulder"]) / 2, size)
    joints["spine"] = spine_midpoint(joints["hip"], above, joints["thorax"])

    pivot = where[:, found["head"]] * unit
    trunk = head_axes(
        joints["left_shoulder"] - joints["right_shoulder"] + joints["left_hip"] - joints["right_hip"],
        pivot - joints["hip"],
    )
    rotations = recording.rotations[:, found["head"]]
    axes = rotations @ _head_orientation(recording, rotations, trunk)
    joints["neck"] = pivot + axes @ (np.array(_NECK_M) * size)
    joints["head"] = pivot + axes @ (np.array(_CROWN_M) * size)
    joints |= face_points(pivot, axes, size)
    return np.stack([joints[name] for name in MOTION_JOINTS], axis=1).astype(np.float32)


def face_of_h36m(neck: DoubleArray, crown: DoubleArray, left: DoubleArray) -> dict[str, DoubleArray]:
    """Place a face on a Human3.6M skeleton, in the direction of the shoulders.

    Args:
        neck, crown: (F, 3) joints ``neck`` and ``head``, metres.
        left: (F, 3) vector from the right shoulder to the left.

    Returns:
        (F, 3) metres for each of :data:`FACE_M`.
    """
    along = np.array(_CROWN_M) - np.array(_NECK_M)
    size = float(np.median(np.linalg.norm(crown - neck, axis=-1)) / np.linalg.norm(along))
    # The line from neck to crown is not vertical: rotate the axes about "left" by the angle between the two.
    _, c, s = along / np.linalg.norm(along)
    axes = head_axes(left, crown - neck) @ np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    return face_points(neck - axes @ (np.array(_NECK_M) * size), axes, size)


def face_points(pivot: DoubleArray, axes: DoubleArray, size: float) -> dict[str, DoubleArray]:
    """Positions of nose, eyes and ears.

    Args:
        pivot: (F, 3) head joint, metres.
        axes: (F, 3, 3) axes of the head, columns left, up, forward.
        size: body size relative to 1.7 m.

    Returns:
        (F, 3) metres for each of :data:`FACE_M`.
    """
    return {name: pivot + axes @ (np.array(offset) * size) for name, offset in FACE_M.items()}


def head_axes(left: DoubleArray, up: DoubleArray) -> DoubleArray:
    """(..., 3, 3) axes with columns left, up, forward; ``left`` is made orthogonal to ``up``."""
    up = _unit_vectors(up)
    left = _unit_vectors(left - (left * up).sum(-1, keepdims=True) * up)
    return np.stack([left, up, np.cross(left, up)], axis=-1)


def to_z_up(clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Rotate clips of one collection so that z is up.

    The up axis is the one along which people stand: the mean direction from the ankles to the thorax over all frames.
    If there is no such axis (everyone lies), it is y, as is usual in BVH and ASF files.

    Args:
        clips: (F, 22, 3) each, in the same axes.
    """
    thorax, ankles = MOTION_JOINTS.index("thorax"), [H36M17.index("left_ankle"), H36M17.index("right_ankle")]
    total, frames = np.zeros(3), 0
    for clip in clips:
        total += _unit_vectors(clip[:, thorax] - clip[:, ankles].mean(axis=1)).sum(axis=0)
        frames += len(clip)
    axis = int(np.abs(total).argmax())
    sign = 1.0 if total[axis] >= 0 else -1.0
    if abs(total[axis]) < _UPRIGHT_SHARE * frames:
        axis, sign = 1, 1.0
    # The smallest rotation is about the axis that is neither up nor z.
    turn = np.diag(np.array([1.0, sign, sign], np.float32))
    if axis != 2:
        turn[2], turn[axis] = 0.0, 0.0
        turn[2, axis], turn[axis, 2] = sign, -sign
        turn[1 - axis, 1 - axis] = 1.0
    return [np.ascontiguousarray(clip @ turn.T) for clip in clips]


def _find_joints(recording: Recording) -> dict[str, int]:
    """Node index of each required joint: ``left_hip`` to ``right_wrist``, and ``head``."""
    plain = [_plain(name) for name in recording.names]
    found: dict[str, int] = {}
    lacking: list[str] = []
    for part, names in _LIMB_NAMES.items():
        for side in ("left", "right"):
            candidates = [form for name in names for form in _sided(name, side)]
            _take(found, f"{side}_{part}", plain, candidates, lacking)
    _take(found, "head", plain, _HEAD_NAMES, lacking)
    if lacking:
        raise InputError(f"{recording.path}: skeleton lacks {', '.join(lacking)}; it has {', '.join(recording.names)}")
    return found


def _take(found: dict[str, int], joint: str, plain: list[str], names: Iterable[str], lacking: list[str]) -> None:
    for name in names:
        if name in plain:
            found[joint] = plain.index(name)
            return
    lacking.append(joint)


def _plain(name: str) -> str:
    """Joint name without prefix, case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", _PREFIX.sub("", name).lower())


def _sided(name: str, side: str) -> tuple[str, ...]:
    return f"{side}{name}", f"{side[0]}{name}", f"{name}{side}", f"{name}{side[0]}"


def _ancestors(recording: Recording, node: int) -> list[int]:
    """Nodes between a node and the root, including the root."""
    above = []
    while (node := recording.parents[node]) >= 0:
        above.append(node)
    return above


def _thorax(spine: Sequence[DoubleArray], shoulders: DoubleArray, size: float) -> DoubleArray:
    """(F, 3) point halfway between the shoulders' middle and a nearby spine joint, if any."""
    off = [float(np.linalg.norm(joint - shoulders, axis=-1).mean()) for joint in spine]
    if not off or min(off) > _MAX_NECK_DISTANCE_M * size:
        return shoulders
    return (shoulders + spine[int(np.argmin(off))]) / 2


def _height(recording: Recording, found: dict[str, int]) -> float:
    """Body height in the unit of the file, from the bones between ankle and head."""
    where = recording.positions

    def length(a: DoubleArray, b: DoubleArray) -> float:
        return float(np.median(np.linalg.norm(a - b, axis=-1)))

    legs = [
        length(where[:, found[f"{side}_{upper}"]], where[:, found[f"{side}_{lower}"]])
        for side in ("left", "right")
        for upper, lower in (("hip", "knee"), ("knee", "ankle"))
    ]
    hips = where[:, [found["left_hip"], found["right_hip"]]].mean(axis=1)
    shoulders = where[:, [found["left_shoulder"], found["right_shoulder"]]].mean(axis=1)
    trunk = length(hips, shoulders) + length(shoulders, where[:, found["head"]])
    return (sum(legs) / 2 + trunk) / _ANKLE_TO_HEAD_PER_HEIGHT


def _unit(recording: Recording, height: float) -> float:
    """Metres per unit of the file, from the body height in that unit."""
    low, high = _HEIGHT_M
    for unit in _UNITS_M:
        if low <= height * unit <= high:
            return unit
    raise InputError(
        f"{recording.path}: the body is {height:.4g} units tall, which no known unit makes {low:g} to {high:g} m; "
        "scale the file to centimetres"
    )


def _head_orientation(recording: Recording, rotations: DoubleArray, trunk: DoubleArray) -> DoubleArray:
    """(3, 3) left, up and forward of the head in the axes of the head joint.

    Programs orient the head joint differently, and many zero poses are not real poses. On average, people face in the
    direction of their trunk, which gives the orientation. Most programs align it with the joint's axes in some order;
    then that alignment is exact.
    """
    mean = (np.swapaxes(rotations, -1, -2) @ trunk).mean(axis=0)
    if not np.isfinite(mean).all():
        raise InputError(f"{recording.path}: shoulders and hips coincide; cannot tell left from right")
    u, _, vt = np.linalg.svd(mean)
    average = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    along_axes = max(_axis_permutations(), key=lambda axes: float(np.trace(axes.T @ average)))
    cosine = (float(np.trace(along_axes.T @ average)) - 1) / 2
    return along_axes if cosine > np.cos(np.radians(_MAX_HEAD_DEVIATION_DEG)) else average


def _axis_permutations() -> list[DoubleArray]:
    """The 24 rotations that map axes to axes."""
    signed = [
        np.eye(3)[list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return [axes for axes in signed if np.linalg.det(axes) > 0]


def _unit_vectors(vectors: DoubleArray | FloatArray) -> DoubleArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(vectors / length, np.float64)
