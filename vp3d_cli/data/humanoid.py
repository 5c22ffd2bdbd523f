"""From any humanoid skeleton to the 22 joints of a motion clip: names, unit, face, and which way is up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import permutations, product

import numpy as np

from vp3d_cli.data.clip import MOTION_JOINTS
from vp3d_cli.data.recording import Recording
from vp3d_cli.errors import InputError
from vp3d_cli.skeletons import H36M17
from vp3d_cli.types import DoubleArray, FloatArray

# What joints are called, best first, without side and prefix: Mixamo and MotionBuilder ("LeftUpLeg"), CMU's ASF
# ("lfemur") and BVH, 3ds Max ("Bip01 L Thigh", "LeftHip"), Bandai Namco ("UpperLeg_L"), LAFAN1, SMPL and AIST++
# ("L_Hip"), Unreal ("thigh_l"), Unity and VRM ("LeftUpperLeg"), Xsens, OptiTrack ("LUArm"), Rokoko, Blender.
# "shoulder" is the upper arm in some and the collar bone in others: it counts only where there is no better name.
_LIMB_NAMES = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "knee": ("knee", "lowerleg", "lowleg", "shin", "calf", "tibia", "leg"),
    "ankle": ("ankle", "foot"),
    "shoulder": ("upperarm", "uparm", "uarm", "humerus", "arm", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "farm", "radius"),
    "wrist": ("wrist", "hand"),
}
_HEAD_NAMES = ("head",)
_CROWN_NAMES = ("headtopend", "headtop", "headend", "headnub", "headsite")
# In front of the names of some programs: "mixamorig:Hips", "Character1_Hips", "Bip01 Pelvis".
_PREFIX = re.compile(r"^(?:.*:|(?:mixamorig\d*|character\d*|bip\d+|def|org|jnt|jt|rig)[ _.-]+)", re.IGNORECASE)

# Metres per unit: metre, foot, decimetre, the CMU database's own (1 / 0.45 inch), inch, centimetre, millimetre.
_UNITS_M = (1.0, 0.3048, 0.1, 0.0254 / 0.45, 0.0254, 0.01, 0.001)
# One of them makes a body of this height (sole to crown): they are further apart than the two ends.
_HEIGHT_M = (1.3, 2.1)
# A body of 1.7 m measures this much from ankle to base of the skull, bone by bone (Drillis and Contini 1966).
_ANKLE_TO_SKULL_PER_HEIGHT = 1.445 / 1.70
_CROWN_M = 0.157  # base of the skull to crown, of a body of 1.7 m

# Face points of a body of 1.7 m from the base of the skull, metres left, up, forward. Rounded adult averages of the
# 1988 survey of the US Army (Gordon et al. 1989): interpupillary and bitragion breadth; pronasale, pupil and tragion
# from the vertex and from the back of the head; the joint of the skull taken 25 mm below and 10 mm behind the tragion.
FACE_M: dict[str, tuple[float, float, float]] = {
    "nose": (0.0, 0.004, 0.128),
    "left_eye": (0.032, 0.039, 0.092),
    "right_eye": (-0.032, 0.039, 0.092),
    "left_ear": (0.072, 0.025, 0.010),
    "right_ear": (-0.072, 0.025, 0.010),
}
AVERAGE_HEIGHT_M = 1.70

# The base of the neck lies within this much of the middle of the shoulders, of a body of 1.7 m.
_NECK_OFF_M = 0.10
# Someone who looks down or aside all the time seems to have a head that is mounted askew by no more than this.
_HEAD_TURNED_DEG = 40.0
_UPRIGHT_SHARE = 0.6


def motion_joints(recording: Recording) -> FloatArray:
    """The 22 joints of a motion clip, in metres, in the file's own axes.

    Hip joints, knees, ankles, shoulders, elbows, wrists and the base of the skull are the file's. The root is the
    middle of the hips; ``thorax`` the joint of the spine nearest to the middle of the shoulders (the middle itself
    where none is near); ``spine`` the joint nearest to half way between the two. Crown and face are placed from the
    head's rotation by average adult offsets.

    Returns:
        (F, 22, 3).

    Raises:
        InputError: the skeleton lacks joints (the message names them), or is of no known unit.
    """
    found = _find_joints(recording)
    where = recording.positions
    height = _height(recording, found)
    unit = _unit(recording, height)
    size = height * unit / AVERAGE_HEIGHT_M
    joints = {name: where[:, index] * unit for name, index in found.items() if name not in ("head", "crown")}
    joints["neck"] = where[:, found["head"]] * unit
    joints["hip"] = (joints["left_hip"] + joints["right_hip"]) / 2
    spine = _ancestors(recording, found["head"])
    shoulders = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    joints["thorax"] = _nearest([where[:, i] * unit for i in spine], shoulders, _NECK_OFF_M * size)
    half = (joints["hip"] + joints["thorax"]) / 2
    off = float(np.linalg.norm(joints["thorax"] - joints["hip"], axis=-1).mean()) / 4
    joints["spine"] = _nearest([where[:, i] * unit for i in spine], half, off)

    trunk = head_axes(
        joints["left_shoulder"] - joints["right_shoulder"] + joints["left_hip"] - joints["right_hip"],
        joints["neck"] - joints["hip"],
    )
    rotations = recording.rotations[:, found["head"]]
    axes = rotations @ _mounting(recording, rotations, trunk)
    own_crown = where[:, found["crown"]] * unit - joints["neck"] if "crown" in found else None
    joints["head"] = joints["neck"] + _crown(own_crown, axes[..., 1], size)
    joints |= face_points(joints["neck"], axes, size)
    return np.stack([joints[name] for name in MOTION_JOINTS], axis=1).astype(np.float32)


def face_points(neck: DoubleArray, axes: DoubleArray, size: float) -> dict[str, DoubleArray]:
    """Nose, eyes and ears.

    Args:
        neck: (F, 3) base of the skull, metres.
        axes: (F, 3, 3) of the head, columns left, up, forward.
        size: of the body, relative to one of 1.7 m.

    Returns:
        (F, 3) metres for each of :data:`FACE_M`.
    """
    return {name: neck + axes @ (np.array(offset) * size) for name, offset in FACE_M.items()}


def head_axes(left: DoubleArray, up: DoubleArray) -> DoubleArray:
    """(..., 3, 3) columns left, up, forward: ``up`` is kept, ``left`` made orthogonal to it."""
    up = _unit_vectors(up)
    left = _unit_vectors(left - (left * up).sum(-1, keepdims=True) * up)
    return np.stack([left, up, np.cross(left, up)], axis=-1)


def to_z_up(clips: Sequence[FloatArray]) -> list[FloatArray]:
    """Turn clips of one collection so that z is up.

    Up is the axis along which people stand most: the mean over all frames from the ankles to the base of the neck.
    Where there is no such axis (everyone lies), it is y, as BVH and ASF files usually have it.

    Args:
        clips: (F, 22, 3) each, all in the same axes.
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
    turn = np.zeros((3, 3), np.float32)
    turn[2, axis] = sign
    # The two other axes, in the order that makes a rotation and not a reflection.
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[0, first], turn[1, second] = (1.0, 1.0) if sign > 0 else (1.0, -1.0)
    return [np.ascontiguousarray(clip @ turn.T) for clip in clips]


def _find_joints(recording: Recording) -> dict[str, int]:
    """Index of each joint that the file must have, ``left_hip`` to ``right_wrist`` and ``head``; perhaps more.

    ``head`` is where the head turns, the base of the skull; ``crown`` need not be there.
    """
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
    _take(found, "crown", plain, _CROWN_NAMES, [])
    return found


def _take(found: dict[str, int], joint: str, plain: list[str], names: Iterable[str], lacking: list[str]) -> None:
    for name in names:
        if name in plain:
            found[joint] = plain.index(name)
            return
    lacking.append(joint)


def _plain(name: str) -> str:
    """A name without prefix, case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", _PREFIX.sub("", name).lower())


def _sided(name: str, side: str) -> tuple[str, ...]:
    return f"{side}{name}", f"{side[0]}{name}", f"{name}{side}", f"{name}{side[0]}"


def _ancestors(recording: Recording, node: int) -> list[int]:
    """The nodes between a node and the root, the root included."""
    above = []
    while (node := recording.parents[node]) >= 0:
        above.append(node)
    return above


def _nearest(candidates: Sequence[DoubleArray], wanted: DoubleArray, within: float) -> DoubleArray:
    """Of several (F, 3) the one that is nearest to a place on average; the place itself if none is near."""
    off = [float(np.linalg.norm(candidate - wanted, axis=-1).mean()) for candidate in candidates]
    best = int(np.argmin(off)) if off else -1
    return candidates[best] if off and off[best] <= within else wanted


def _height(recording: Recording, found: dict[str, int]) -> float:
    """Height of the body in the file's unit, from its bones between ankle and skull."""
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
    return (sum(legs) / 2 + trunk) / _ANKLE_TO_SKULL_PER_HEIGHT


def _unit(recording: Recording, height: float) -> float:
    """Metres per unit of the file, from the height of the body in that unit."""
    low, high = _HEIGHT_M
    for unit in _UNITS_M:
        if low <= height * unit <= high:
            return unit
    raise InputError(
        f"{recording.path}: the body is {height:.4g} units tall, which no known unit makes {low:g} to {high:g} m; "
        "scale the file to centimetres"
    )


def _mounting(recording: Recording, rotations: DoubleArray, trunk: DoubleArray) -> DoubleArray:
    """(3, 3) left, up, forward of the head in the axes of its own joint.

    Every program mounts them its own way, and many zero poses are no poses at all; but people face on average where
    their trunk does. Most programs put them along the joint's axes in some order, which is then taken to be exact.
    """
    mean = (np.swapaxes(rotations, -1, -2) @ trunk).mean(axis=0)
    if not np.isfinite(mean).all():
        raise InputError(f"{recording.path}: shoulders and hips are in one point; cannot tell left from right")
    u, _, vt = np.linalg.svd(mean)
    average = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    along_axes = max(_axis_permutations(), key=lambda axes: float(np.trace(axes.T @ average)))
    cosine = (float(np.trace(along_axes.T @ average)) - 1) / 2
    return along_axes if cosine > np.cos(np.radians(_HEAD_TURNED_DEG)) else average


def _axis_permutations() -> list[DoubleArray]:
    """The 24 rotations that put axes on axes."""
    signed = [
        np.eye(3)[list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    return [axes for axes in signed if np.linalg.det(axes) > 0]


def _crown(own: DoubleArray | None, up: DoubleArray, size: float) -> DoubleArray:
    """(F, 3) from the base of the skull to the crown: the file's own where it is plausible."""
    if own is not None:
        length = np.linalg.norm(own, axis=-1)
        # Some end the head at the chin, the eyes, or nowhere.
        cosine = (own * up).sum(axis=-1) / np.maximum(length, 1e-9)
        if 0.10 * size <= np.median(length) <= 0.30 * size and np.median(cosine) > 0.8:
            return own
    return up * (_CROWN_M * size)


def _unit_vectors(vectors: DoubleArray | FloatArray) -> DoubleArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(vectors / length, np.float64)
